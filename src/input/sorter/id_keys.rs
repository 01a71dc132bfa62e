//! The ids of a stretch of rows, in a form that is compared without knowing their column's type.
//!
//! Integers keep their order as unsigned ones; strings and bytes are compared by their bytes. Both compare as
//! `RowId` does.

use std::io::{self, Write};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use crate::input::ids::{is_bytes, unpacked, unpacked_type};

/// The sign of a 64-bit integer: without it negative numbers come first.
const SIGN: u64 = 1 << 63;

/// The ids of rows 0, 1, ... of a stretch.
#[derive(Debug)]
pub(super) enum IdKeys {
    Integers(Vec<u64>),
    Texts {
        bytes: Vec<u8>,
        /// Where each id ends in `bytes`.
        ends: Vec<usize>,
    },
}

/// One id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IdKey {
    Integer(u64),
    Text(Vec<u8>),
}

impl IdKeys {
    /// No ids yet, of a column of this type.
    pub(super) fn new(data_type: &DataType) -> IdKeys {
        match unpacked_type(data_type).is_integer() {
            true => IdKeys::Integers(Vec::new()),
            false => IdKeys::Texts { bytes: Vec::new(), ends: Vec::new() },
        }
    }

    /// Appends the ids of further rows, none of them null.
    pub(super) fn extend(&mut self, ids: &ArrayRef) -> Result<(), ArrowError> {
        let ids = &unpacked(ids)?;
        match self {
            IdKeys::Integers(keys) if ids.data_type() == &DataType::UInt64 => {
                keys.extend_from_slice(ids.as_primitive::<UInt64Type>().values());
            }
            IdKeys::Integers(keys) => {
                let ids = cast(ids, &DataType::Int64)?;
                let ids = ids.as_primitive::<Int64Type>().values();
                keys.extend(ids.iter().map(|id| id.cast_unsigned() ^ SIGN));
            }
            IdKeys::Texts { bytes, ends } => {
                let binary = match is_bytes(ids.data_type()) {
                    true => cast(ids, &DataType::LargeBinary)?,
                    false => cast(&cast(ids, &DataType::LargeUtf8)?, &DataType::LargeBinary)?,
                };
                let ids = binary.as_binary::<i64>();
                for at in 0..ids.len() {
                    bytes.extend_from_slice(ids.value(at));
                    ends.push(bytes.len());
                }
            }
        }
        Ok(())
    }

    /// How many ids there are.
    pub(super) fn len(&self) -> usize {
        match self {
            IdKeys::Integers(keys) => keys.len(),
            IdKeys::Texts { ends, .. } => ends.len(),
        }
    }

    /// Bytes that the ids take, and putting them in order besides.
    pub(super) fn bytes_to_order(&self) -> u64 {
        let pairs = self.len() * size_of::<(u64, u32)>();
        let own = match self {
            IdKeys::Integers(keys) => size_of_val(&**keys),
            IdKeys::Texts { bytes, ends } => bytes.len() + size_of_val(&**ends),
        };
        (own + pairs) as u64
    }

    /// Bytes that the ids take, and [`IdKeys::write_sorted`] besides.
    pub(super) fn bytes_to_sort(&self) -> u64 {
        match self {
            IdKeys::Integers(keys) => size_of_val(&**keys) as u64,
            IdKeys::Texts { .. } => self.bytes_to_order(),
        }
    }

    /// The rows in the order of their ids; of equal ids the earlier row first. There are fewer than
    /// 2^32.
    pub(super) fn order(&self) -> Vec<u32> {
        let numbers = 0..u32::try_from(self.len()).unwrap_or(u32::MAX);
        let mut pairs: Vec<(u64, u32)> = match self {
            IdKeys::Integers(keys) => keys.iter().copied().zip(numbers).collect(),
            IdKeys::Texts { .. } => numbers.map(|row| (prefix(self.text(row)), row)).collect(),
        };
        match self {
            IdKeys::Integers(_) => pairs.sort_unstable(),
            IdKeys::Texts { .. } => pairs.sort_unstable_by(|a, b| {
                let by_text = || self.text(a.1).cmp(self.text(b.1));
                a.0.cmp(&b.0).then_with(by_text).then(a.1.cmp(&b.1))
            }),
        }
        pairs.into_iter().map(|(_, row)| row).collect()
    }

    /// Whether two rows have one id.
    pub(super) fn is_repeat(&self, a: u32, b: u32) -> bool {
        match self {
            IdKeys::Integers(keys) => keys[a as usize] == keys[b as usize],
            IdKeys::Texts { .. } => self.text(a) == self.text(b),
        }
    }

    /// The id of a row.
    pub(super) fn get(&self, row: u32) -> IdKey {
        match self {
            IdKeys::Integers(keys) => IdKey::Integer(keys[row as usize]),
            IdKeys::Texts { .. } => IdKey::Text(self.text(row).to_vec()),
        }
    }

    /// The rows, from 0, whose id is `key`.
    pub(super) fn rows_of<'a>(&'a self, key: &'a IdKey) -> impl Iterator<Item = usize> + 'a {
        (0..self.len()).filter(move |&row| match (self, key) {
            (IdKeys::Integers(keys), IdKey::Integer(key)) => keys[row] == *key,
            (IdKeys::Texts { .. }, IdKey::Text(key)) => self.text(row as u32) == key,
            _ => false,
        })
    }

    /// Writes the ids in the order of `rows`: integers as 8 bytes, little-endian; strings after
    /// their length in 4.
    pub(super) fn write(&self, rows: &[u32], out: &mut impl Write) -> io::Result<()> {
        match self {
            IdKeys::Integers(keys) => {
                for &row in rows {
                    out.write_all(&keys[row as usize].to_le_bytes())?;
                }
            }
            IdKeys::Texts { .. } => {
                for &row in rows {
                    let text = self.text(row);
                    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
                    out.write_all(&length.to_le_bytes())?;
                    out.write_all(text)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the ids in their order, and forgets them.
    pub(super) fn write_sorted(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            IdKeys::Integers(keys) => {
                keys.sort_unstable();
                for key in keys.drain(..) {
                    out.write_all(&key.to_le_bytes())?;
                }
            }
            IdKeys::Texts { .. } => {
                let order = self.order();
                self.write(&order, out)?;
                self.clear();
            }
        }
        Ok(())
    }

    /// Forgets the ids.
    pub(super) fn clear(&mut self) {
        match self {
            IdKeys::Integers(keys) => keys.clear(),
            IdKeys::Texts { bytes, ends } => {
                bytes.clear();
                ends.clear();
            }
        }
    }

    /// The id of a row of strings; empty for integers.
    fn text(&self, row: u32) -> &[u8] {
        let IdKeys::Texts { bytes, ends } = self else { return &[] };
        let row = row as usize;
        let start = row.checked_sub(1).map_or(0, |before| ends[before]);
        &bytes[start..ends[row]]
    }
}

/// The first eight bytes as a number that is compared like them.
fn prefix(text: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = text.len().min(8);
    first[..length].copy_from_slice(&text[..length]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int8Array, Int64Array, StringArray, StringViewArray, UInt64Array};

    use super::*;

    fn order(ids: ArrayRef) -> Vec<u32> {
        let mut keys = IdKeys::new(ids.data_type());
        keys.extend(&ids).unwrap();
        keys.order()
    }

    #[test]
    fn integers_of_every_width_are_ordered_by_value() {
        assert_eq!(order(Arc::new(Int8Array::from(vec![5, -3, 0, -128]))), [3, 1, 2, 0]);
        assert_eq!(order(Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, -1]))), [1, 2, 0]);
        assert_eq!(order(Arc::new(UInt64Array::from(vec![u64::MAX, 1 << 63, 7]))), [2, 1, 0]);
    }

    #[test]
    fn strings_are_ordered_by_bytes_beyond_the_first_eight_and_by_length() {
        let ids = ["same start b", "same start a", "9", "10", "", "é", "same star", "9\0"];
        let expected = [4, 3, 2, 7, 6, 1, 0, 5];
        assert_eq!(order(Arc::new(StringArray::from(ids.to_vec()))), expected);
        assert_eq!(order(Arc::new(StringViewArray::from(ids.to_vec()))), expected);
    }

    #[test]
    fn of_equal_ids_the_earlier_row_comes_first() {
        assert_eq!(order(Arc::new(Int64Array::from(vec![2, 1, 2, 1]))), [1, 3, 0, 2]);
        assert_eq!(order(Arc::new(StringArray::from(vec!["b", "a", "b", "a"]))), [1, 3, 0, 2]);
    }
}
