//! Bytes as lower-case hexadecimal digits, and back.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two lower-case digits for each byte.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        digits.push(digit(byte >> 4));
        digits.push(digit(byte & 0xf));
    }
    digits
}

/// Exactly `N` bytes of digits, in either case; `None` for anything else.
pub fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? << 4 | low?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_reads_back_from_its_two_digits() {
        let bytes: [u8; 256] = std::array::from_fn(|at| at as u8);
        let digits = encode(&bytes);
        assert_eq!(&digits[..10], "0001020304");
        assert_eq!(decode(&digits), Some(bytes));
        assert_eq!(decode(&digits.to_uppercase()), Some(bytes));
    }

    #[test]
    fn other_lengths_and_other_characters_are_no_bytes() {
        for digits in ["", "0", "012", "0g", "+f", "é"] {
            assert_eq!(decode::<1>(digits), None, "{digits}");
        }
    }
}
