//! The name that a row has in the input: an integer or a string, unique and never null.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A row's id. Integers order by value, strings by bytes; one input never mixes the two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowId {
    /// An integer of any width up to 64 bits, signed or not.
    Integer(i128),
    /// A string, exactly as it stands in the input.
    Text(Box<str>),
}

impl Ord for RowId {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (RowId::Integer(a), RowId::Integer(b)) => a.cmp(b),
            (RowId::Text(a), RowId::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (RowId::Integer(_), RowId::Text(_)) => Ordering::Less,
            (RowId::Text(_), RowId::Integer(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for RowId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowId::Integer(id) => id.fmt(f),
            RowId::Text(id) => write!(f, "{id:?}"),
        }
    }
}

impl Serialize for RowId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RowId::Text(id) => serializer.serialize_str(id),
            RowId::Integer(id) => match (i64::try_from(*id), u64::try_from(*id)) {
                (Ok(id), _) => serializer.serialize_i64(id),
                (_, Ok(id)) => serializer.serialize_u64(id),
                _ => Err(serde::ser::Error::custom("an integer id has at most 64 bits")),
            },
        }
    }
}

impl<'de> Deserialize<'de> for RowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;

        impl Visitor<'_> for IdVisitor {
            type Value = RowId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }

            fn visit_i64<E: Error>(self, id: i64) -> Result<RowId, E> {
                Ok(RowId::Integer(id.into()))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<RowId, E> {
                Ok(RowId::Integer(id.into()))
            }

            fn visit_str<E: Error>(self, id: &str) -> Result<RowId, E> {
                Ok(RowId::Text(id.into()))
            }
        }

        deserializer.deserialize_any(IdVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_order_by_value_and_strings_by_bytes() {
        assert!(RowId::Integer(9) < RowId::Integer(10));
        assert!(RowId::Text("10".into()) < RowId::Text("9".into()));
        assert!(RowId::Text("Z".into()) < RowId::Text("é".into()));
    }

    #[test]
    fn json_keeps_the_kind_and_the_full_width() {
        for id in [
            RowId::Integer(i64::MIN.into()),
            RowId::Integer(u64::MAX.into()),
            RowId::Text("10".into()),
        ] {
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<RowId>(&json).unwrap(), id);
        }
    }
}
