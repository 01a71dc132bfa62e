//! Rows to the row groups of a Parquet file, one column after the other.
//!
//! Beside what is already encoded one column alone is in the making, so that many columns take no
//! more memory than few.

use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

/// Bytes of rows at which a row group ends, whatever its rows: what readers have in memory of long
/// values.
const GROUP_BYTES: u64 = 32 << 20;

/// What these rows take in memory, bytes, without others that they share their buffers with.
pub fn bytes_of(rows: &RecordBatch) -> u64 {
    let columns = rows.columns().iter();
    let bytes = columns.map(|column| {
        let exact = column.to_data().get_slice_memory_size();
        exact.unwrap_or_else(|_| column.get_array_memory_size()) as u64
    });
    bytes.sum()
}

/// The bytes of a file with these rows, which have the columns of `schema`, in row groups of at most
/// `most` rows, and with these entries in its footer.
///
/// # Errors
/// If a column is of another type than the schema's, or can't be encoded.
pub(super) fn encode(
    schema: &SchemaRef,
    rows: impl Iterator<Item = Result<RecordBatch, ParquetError>>,
    most: usize,
    entries: Vec<KeyValue>,
    mut properties: WriterProperties,
) -> Result<Vec<u8>, ParquetError> {
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    let columns = ArrowSchemaConverter::new()
        .with_coerce_types(properties.coerce_types())
        .convert(schema)?
        .root_schema_ptr();
    let mut file = SerializedFileWriter::new(Vec::new(), columns, Arc::new(properties))?;
    let factory = ArrowRowGroupWriterFactory::new(&file, Arc::clone(schema));
    let mut groups = Groups { rows, rest: None, most };
    for number in 0.. {
        let group = groups.next()?;
        if group.is_empty() {
            break;
        }
        let mut columns = factory.create_column_writers(number)?.into_iter();
        let mut writer = file.next_row_group()?;
        for (at, field) in schema.fields().iter().enumerate() {
            let mut leaves: Vec<ArrowColumnWriter> = Vec::new();
            for rows in &group {
                for (number, leaf) in compute_leaves(field, rows.column(at))?.iter().enumerate() {
                    if leaves.len() == number {
                        leaves.extend(columns.next());
                    }
                    let too_few = || ParquetError::General("more columns than planned".to_owned());
                    leaves.get_mut(number).ok_or_else(too_few)?.write(leaf)?;
                }
            }
            for leaf in leaves {
                leaf.close()?.append_to_row_group(&mut writer)?;
            }
        }
        writer.close()?;
    }
    for entry in entries {
        file.append_key_value_metadata(entry);
    }
    file.into_inner()
}

/// Rows, a row group's at a time.
struct Groups<I> {
    rows: I,
    rest: Option<RecordBatch>,
    most: usize,
}

impl<I: Iterator<Item = Result<RecordBatch, ParquetError>>> Groups<I> {
    /// The rows of the next group; empty at the end.
    fn next(&mut self) -> Result<Vec<RecordBatch>, ParquetError> {
        let (mut group, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while rows < self.most && bytes < GROUP_BYTES {
            let Some(batch) = self.rest.take().map(Ok).or_else(|| self.rows.next()).transpose()?
            else {
                break;
            };
            let fit = batch.num_rows().min(self.most - rows);
            if fit < batch.num_rows() {
                self.rest = Some(batch.slice(fit, batch.num_rows() - fit));
            }
            if fit > 0 {
                let batch = batch.slice(0, fit);
                bytes += bytes_of(&batch);
                rows += fit;
                group.push(batch);
            }
        }
        Ok(group)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, Int64Array};
    use arrow::compute::concat_batches;
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    /// Batches of these numbers of rows; each row has a cell of `bytes`.
    fn batches(rows: &[usize], bytes: usize) -> Vec<RecordBatch> {
        let mut first = 0;
        let batch = |rows: &usize| {
            let numbers = first..first + *rows as i64;
            first = numbers.end;
            let cell = vec![7_u8; bytes];
            let cells = BinaryArray::from_iter_values(numbers.clone().map(|_| &cell));
            RecordBatch::try_from_iter([
                ("number", Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef),
                ("cell", Arc::new(cells)),
            ])
            .unwrap()
        };
        rows.iter().map(batch).collect()
    }

    /// The rows of each row group, after the whole was held against `batches`.
    fn groups(batches: &[RecordBatch], most: usize) -> Vec<i64> {
        let rows = batches.iter().cloned().map(Ok);
        let schema = batches[0].schema();
        let note = KeyValue::new("note".to_owned(), "kept".to_owned());
        let bytes = encode(&schema, rows, most, vec![note], WriterProperties::default()).unwrap();
        let file = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        let footer = Arc::clone(file.metadata());
        let entries = footer.file_metadata().key_value_metadata().unwrap();
        assert!(entries.iter().any(|entry| entry.key == "note"));
        let read: Vec<RecordBatch> = file.build().unwrap().map(Result::unwrap).collect();
        let whole = |batches: &[RecordBatch]| concat_batches(&schema, batches).unwrap();
        assert_eq!(whole(&read), whole(batches));
        footer.row_groups().iter().map(|group| group.num_rows()).collect()
    }

    #[test]
    fn a_row_group_ends_at_its_last_row_wherever_batches_end() {
        assert_eq!(groups(&batches(&[5, 0, 4, 4], 1), 6), [6, 6, 1]);
        assert_eq!(groups(&batches(&[3, 3], 1), 3), [3, 3]);
        assert_eq!(groups(&batches(&[7], 1), 100), [7]);
        assert_eq!(groups(&batches(&[0], 1), 100), [] as [i64; 0]);
    }

    #[test]
    fn long_values_end_a_row_group_early() {
        let megabytes = batches(&[20, 20, 20, 20, 20], 1 << 20);
        assert_eq!(groups(&megabytes, 1_000), [40, 40, 20]);
    }
}
