//! How many rows of a Parquet file are decoded at once, so that long values don't fill the memory.

use parquet::basic::Type;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::reader::MAX_CHUNK_ROWS;

/// Bytes of values that are decoded at once, as far as the footer tells and unless one row has
/// more.
const MOST_BYTES: u64 = 16 << 20;

/// Rows of a batch of the columns at `places`: by what they take in the row group where they take
/// most, 1 to [`MAX_CHUNK_ROWS`].
pub(super) fn batch_rows(footer: &ParquetMetaData, places: &[usize]) -> usize {
    let per_row = footer.row_groups().iter().map(|group| {
        let rows = u64::try_from(group.num_rows()).unwrap_or(1).max(1);
        group_bytes(footer, group, places) / rows
    });
    let rows = MOST_BYTES / per_row.max().unwrap_or(0).max(1);
    usize::try_from(rows).unwrap_or(MAX_CHUNK_ROWS).clamp(1, MAX_CHUNK_ROWS)
}

/// About how many bytes the columns at `places` take in memory, of all rows of a row group.
pub(super) fn group_bytes(
    footer: &ParquetMetaData,
    group: &RowGroupMetaData,
    places: &[usize],
) -> u64 {
    let schema = footer.file_metadata().schema_descr();
    let leaves = group.columns().iter().enumerate();
    let wanted = leaves.filter(|(leaf, _)| places.contains(&schema.get_column_root_idx(*leaf)));
    // A dictionary holds a value once that stands in many rows, and other encodings hold less than
    // the values take; newer writers note how long strings are.
    let bytes = wanted.map(|(_, column)| {
        let width = match column.column_type() {
            Type::BOOLEAN => 0,
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => i64::from(column.column_descr().type_length()),
        };
        let strings = column.unencoded_byte_array_data_bytes().unwrap_or(0);
        let plain = column.num_values().saturating_mul(width).saturating_add(strings);
        u64::try_from(column.uncompressed_size().max(plain)).unwrap_or(0)
    });
    bytes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    #[test]
    fn long_values_make_small_batches_also_where_a_dictionary_holds_them_once() {
        let text = "x".repeat(1 << 20);
        let rows = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from_iter_values(0..40)) as ArrayRef),
            ("text", Arc::new(StringArray::from(vec![&*text; 40])) as ArrayRef),
        ])
        .unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        let footer = writer.close().unwrap();
        assert_eq!(batch_rows(&footer, &[0, 1]), 15);
        assert_eq!(batch_rows(&footer, &[0]), MAX_CHUNK_ROWS);
    }
}
