//! A Parquet file's footer, held to the file that it stands in, and the Arrow types that keep what
//! the file holds.
//!
//! A footer that was damaged or cut from another file is refused before a page is read: what it
//! says of sizes and rows is what memory is asked for.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use parquet::file::reader::ChunkReader;

/// What the metadata of files written by Apache Spark is named after.
const SPARK: &str = "org.apache.spark.";

/// The least that a page takes in a file, with its header.
const LEAST_PAGE_BYTES: u64 = 10;
/// The most values that a page holds.
const MOST_PAGE_VALUES: u64 = i32::MAX as u64;

/// Reads the footer and checks it.
pub(super) fn load(file: &impl ChunkReader) -> Result<ArrowReaderMetadata, ParquetError> {
    let mut footer = ArrowReaderMetadata::load(file, ArrowReaderOptions::new())?;
    let rows = checked_rows(footer.metadata(), file.len())?;
    if rows != footer.metadata().file_metadata().num_rows() {
        let counted = with_rows(footer.metadata(), rows);
        footer = ArrowReaderMetadata::try_new(Arc::new(counted), ArrowReaderOptions::new())?;
    }
    match lasting_schema(&footer) {
        Some(schema) => {
            let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
            ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options)
        }
        None => Ok(footer),
    }
}

/// The rows of all row groups, if all that the footer speaks of lies within a file of `bytes` bytes
/// and its counts of values agree.
fn checked_rows(footer: &ParquetMetaData, bytes: u64) -> Result<i64, ParquetError> {
    let mut rows = 0_i64;
    for group in footer.row_groups() {
        check_group(group, bytes)?;
        rows = rows.checked_add(group.num_rows()).ok_or_else(|| refused("too many rows"))?;
    }
    Ok(rows)
}

/// The footer with another count of the file's rows: some writers leave it at 0, which the decoder
/// would believe.
fn with_rows(footer: &ParquetMetaData, rows: i64) -> ParquetMetaData {
    let file = footer.file_metadata();
    let counted = FileMetaData::new(
        file.version(),
        rows,
        file.created_by().map(str::to_owned),
        file.key_value_metadata().cloned(),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let groups = footer.row_groups().to_vec();
    ParquetMetaDataBuilder::new(counted).set_row_groups(groups).build()
}

fn check_group(group: &RowGroupMetaData, bytes: u64) -> Result<(), ParquetError> {
    if group.num_rows() < 0 {
        return Err(refused("a row group has fewer than no rows"));
    }
    for column in group.columns() {
        if column.file_path().is_some_and(|path| !path.is_empty()) {
            return Err(refused("its rows stand in other files, which it only lists"));
        }
        let first = column.dictionary_page_offset().filter(|offset| *offset > 0);
        let first = u64::try_from(first.unwrap_or(column.data_page_offset()));
        let length = u64::try_from(column.compressed_size()).ok();
        let end = first.ok().zip(length).and_then(|(first, length)| first.checked_add(length));
        if end.is_none_or(|end| end > bytes) {
            return Err(refused("a column lies beyond the end of the file"));
        }
        let pages = length.unwrap_or(0) / LEAST_PAGE_BYTES;
        let values = u64::try_from(column.num_values()).ok();
        if values.is_none_or(|values| values > pages.saturating_mul(MOST_PAGE_VALUES)) {
            return Err(refused("a column has more values than its pages can hold"));
        }
        let is_flat = column.column_descr().max_rep_level() == 0;
        if is_flat && column.num_values() != group.num_rows() {
            return Err(refused("a column has more or fewer values than its row group has rows"));
        }
    }
    Ok(())
}

fn refused(why: &str) -> ParquetError {
    ParquetError::General(format!("the footer contradicts itself or the file: {why}"))
}

/// The columns in types that come back out of a Parquet file as they went in, where those that the
/// file asks for don't: days that Arrow counts in milliseconds are written as bare numbers, and
/// the 96-bit times of Spark, which hold microseconds, run over in nanoseconds from 2262 on.
fn lasting_schema(footer: &ArrowReaderMetadata) -> Option<Schema> {
    let keys = footer.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    let is_by_spark = keys.into_iter().any(|entry| entry.key.starts_with(SPARK));
    let leaves = footer.parquet_schema();
    let has = |root: usize, physical: Physical| {
        (0..leaves.num_columns()).any(|leaf| {
            leaves.get_column_root_idx(leaf) == root
                && leaves.column(leaf).physical_type() == physical
        })
    };
    let fields = footer.schema().fields().iter().enumerate().map(|(root, field)| {
        let (days, times) = (has(root, Physical::INT32), is_by_spark && has(root, Physical::INT96));
        with_leaves(field, &|leaf| match leaf {
            DataType::Date64 if days => Some(DataType::Date32),
            DataType::Timestamp(TimeUnit::Nanosecond, None) if times => {
                Some(DataType::Timestamp(TimeUnit::Microsecond, None))
            }
            _ => None,
        })
    });
    let fields: Fields = fields.collect();
    let metadata = footer.schema().metadata().clone();
    (fields != *footer.schema().fields()).then(|| Schema::new_with_metadata(fields, metadata))
}

/// `field` with each type in it that holds no other replaced, where `other` gives one for it.
fn with_leaves(field: &FieldRef, other: &impl Fn(&DataType) -> Option<DataType>) -> FieldRef {
    let within = |field: &FieldRef| with_leaves(field, other);
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(within(item)),
        DataType::LargeList(item) => DataType::LargeList(within(item)),
        DataType::ListView(item) => DataType::ListView(within(item)),
        DataType::LargeListView(item) => DataType::LargeListView(within(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(within(item), *length),
        DataType::Map(entries, is_sorted) => DataType::Map(within(entries), *is_sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(within).collect()),
        leaf => other(leaf).unwrap_or_else(|| leaf.clone()),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}
