//! The form in which columns are sorted: each row's values stand for themselves, so that a few rows
//! are written without what others share with them (dictionaries, the buffers behind views).

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::domain::guard::without_panic;

/// The columns of `schema` in plain form.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new(fields))
}

/// `batch` as columns of `schema`: plain or as they were.
pub(super) fn convert(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields());
    let columns: Result<Vec<ArrayRef>, _> = columns
        .map(|(column, field)| match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => without_panic(|| cast_with_options(column, field.data_type(), &options))
                .unwrap_or_else(|| {
                    let (from, to) = (column.data_type(), field.data_type());
                    Err(ArrowError::CastError(format!("can't turn {from} into {to}")))
                }),
        })
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns?)
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let data_type = plain_type(field.data_type());
    match data_type == *field.data_type() {
        true => Arc::clone(field),
        false => Arc::new(Field::new(field.name(), data_type, field.is_nullable())),
    }
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::Utf8View => DataType::LargeUtf8,
        DataType::BinaryView => DataType::LargeBinary,
        DataType::ListView(field) => DataType::List(plain_field(field)),
        DataType::LargeListView(field) => DataType::LargeList(plain_field(field)),
        DataType::List(field) => DataType::List(plain_field(field)),
        DataType::LargeList(field) => DataType::LargeList(plain_field(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(plain_field(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, is_sorted) => DataType::Map(plain_field(entries), *is_sorted),
        data_type => data_type.clone(),
    }
}
