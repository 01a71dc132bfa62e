//! One JSON value with a checksum around it, on one line: a torn or altered line is no line.
//!
//! `{"checksum":"0123456789abcdef","record":{...}}`; the checksum is the first 64 bits of
//! the SHA-256 of the record's bytes as they stand.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::domain::hex;

const BEFORE_CHECKSUM: &[u8] = b"{\"checksum\":\"";
const CHECKSUM_DIGITS: usize = 16;
const BEFORE_RECORD: &[u8] = b"\",\"record\":";

/// `record` on a line, its line end included.
///
/// # Errors
/// If a part of it has no JSON form.
pub(super) fn encode<T: Serialize>(record: &T) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut line = Vec::with_capacity(json.len() + 48);
    line.extend_from_slice(BEFORE_CHECKSUM);
    line.extend_from_slice(checksum(&json).as_bytes());
    line.extend_from_slice(BEFORE_RECORD);
    line.extend_from_slice(&json);
    line.extend_from_slice(b"}\n");
    Ok(line)
}

/// What [`encode`] wrote, with or without its line end; `None` for anything else.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(checked(line)?).ok()
}

fn checked(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_suffix(b"\n").unwrap_or(line).strip_prefix(BEFORE_CHECKSUM)?;
    let (claimed, rest) = rest.split_at_checked(CHECKSUM_DIGITS)?;
    let json = rest.strip_prefix(BEFORE_RECORD)?.strip_suffix(b"}")?;
    (checksum(json).as_bytes() == claimed).then_some(json)
}

fn checksum(json: &[u8]) -> String {
    hex::encode(&Sha256::digest(json)[..CHECKSUM_DIGITS / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_plain_json_and_reads_back() {
        let line = encode(&vec!["a\nb"]).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(json["record"][0], "a\nb");
        assert_eq!(decode::<Vec<String>>(&line), Some(vec!["a\nb".to_owned()]));
    }

    #[test]
    fn no_cut_and_no_changed_byte_passes() {
        let line = encode(&vec![1, 20, 300]).unwrap();
        for cut in 0..line.len() - 1 {
            assert_eq!(decode::<Vec<u32>>(&line[..cut]), None, "cut at {cut}");
        }
        for at in 0..line.len() - 1 {
            let mut changed = line.clone();
            changed[at] ^= 1;
            assert_eq!(decode::<Vec<u32>>(&changed), None, "changed at {at}");
        }
    }
}
