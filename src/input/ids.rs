//! What can be an id, and the text that stands for one of bytes.
//!
//! Integers of any width order by value, strings and bytes by their bytes. Bytes are text wherever an
//! id is text: 16 of a fixed size are a UUID, others hexadecimal. Both order as the bytes do.

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// Bytes of a UUID.
const UUID_BYTES: i32 = 16;
/// After which of its digits a UUID has a hyphen.
const HYPHENS: [usize; 4] = [8, 12, 16, 20];

/// Whether a column of this type can hold ids.
pub(super) fn is_id(data_type: &DataType) -> bool {
    let data_type = unpacked_type(data_type);
    let is_string = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    data_type.is_integer() || is_string || is_bytes(data_type)
}

/// The type of the ids themselves, which a dictionary may hold.
pub(super) fn unpacked_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        data_type => data_type,
    }
}

/// The ids themselves, each row's its own.
pub(super) fn unpacked(ids: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match ids.data_type() {
        DataType::Dictionary(_, values) => cast(ids, values),
        _ => Ok(ids.clone()),
    }
}

/// Whether the ids are bytes that are no text.
pub(super) fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}

/// The texts that stand for unpacked ids of bytes, none of them null.
pub(super) fn texts(ids: &ArrayRef) -> Result<StringViewArray, ArrowError> {
    let is_uuid = ids.data_type() == &DataType::FixedSizeBinary(UUID_BYTES);
    let ids = cast(ids, &DataType::LargeBinary)?;
    let ids = ids.as_binary::<i64>();
    let mut texts = StringViewBuilder::with_capacity(ids.len());
    let mut text = String::new();
    for at in 0..ids.len() {
        text.clear();
        for byte in ids.value(at) {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
            }
        }
        if is_uuid {
            for after in HYPHENS.into_iter().rev() {
                text.insert(after, '-');
            }
        }
        texts.append_value(&text);
    }
    Ok(texts.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, FixedSizeBinaryArray};

    use super::*;

    #[test]
    fn bytes_stand_as_a_uuid_or_in_hexadecimal_and_keep_their_order() {
        let uuid =
            [0x55, 0x0e, 0x84, 0x00, 0xe2, 0x9b, 0x41, 0xd4, 0xa7, 0x16, 0x44, 0, 0, 0, 0, 1];
        let ids: ArrayRef =
            Arc::new(FixedSizeBinaryArray::try_from_iter([uuid].into_iter()).unwrap());
        assert_eq!(texts(&ids).unwrap().value(0), "550e8400-e29b-41d4-a716-440000000001");

        let mut bytes: Vec<&[u8]> = vec![&[0xff], &[], &[0x0a], &[0x0a, 0], &[0x9f], &[1, 2, 3]];
        bytes.sort();
        let ids: ArrayRef = Arc::new(BinaryArray::from_vec(bytes));
        let found = texts(&ids).unwrap();
        let found: Vec<_> = found.iter().flatten().collect();
        assert_eq!(found, ["", "010203", "0a", "0a00", "9f", "ff"]);
        assert!(found.is_sorted());
    }
}
