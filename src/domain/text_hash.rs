//! A 128-bit name for a row's rendered text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::hex;

/// The first 16 bytes of the SHA-256 of a rendered text. Rows with equal hashes are asked once,
/// so the hash is a cryptographic one: nobody can craft a text that takes another's label.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextHash(pub [u8; 16]);

impl TextHash {
    /// The hash of `text` exactly as it is, before any folding for the prompt.
    pub fn of(text: &str) -> TextHash {
        let digest = Sha256::digest(text.as_bytes());
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        TextHash(hash)
    }

    /// 32 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex::encode(&self.0)
    }

    /// Reads what [`TextHash::to_hex`] wrote; `None` for anything else.
    pub fn from_hex(digits: &str) -> Option<TextHash> {
        hex::decode(digits).map(TextHash)
    }
}

impl std::fmt::Debug for TextHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl Serialize for TextHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for TextHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        TextHash::from_hex(&hex).ok_or_else(|| serde::de::Error::custom("not a 128-bit hex hash"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips() {
        let hash = TextHash::of("1 High Street, Leeds");
        assert_eq!(TextHash::from_hex(&hash.to_hex()), Some(hash));
        assert_eq!(TextHash::from_hex("+f"), None);
        assert_ne!(TextHash::of("a"), TextHash::of("b"));
    }
}
