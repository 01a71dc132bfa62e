//! Some columns of a part, batch by batch: what looking a part over takes, in little memory.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use super::job::Fingerprint;
use super::part_identity::{PartError, PartIdentity, guard};
use crate::domain::Attempts;

const ROWS_PER_BATCH: usize = 8_192;

/// Yields a part's rows in batches of at most 8,192; ends after the first error.
pub struct PartScan {
    name: String,
    identity: PartIdentity,
    attempts: Vec<Attempts>,
    schema: SchemaRef,
    reader: Option<ParquetRecordBatchReader>,
}

impl PartScan {
    /// A scan of the top-level `columns` of the part `bytes`, which is called `name`. A column that
    /// the part does not have is left out.
    ///
    /// # Errors
    /// If the file is torn, another job's than `job` or of a later version.
    pub fn open(
        name: &str,
        bytes: Bytes,
        job: Fingerprint,
        columns: &[&str],
    ) -> Result<PartScan, PartError> {
        let (identity, attempts, _) = PartIdentity::of_end(name, &bytes, job)?;
        let opened = guard(|| projected(bytes, columns)).ok_or_else(|| damaged(name))?;
        let (schema, reader) = opened;
        Ok(PartScan { name: name.to_owned(), identity, attempts, schema, reader: Some(reader) })
    }

    /// All columns of the part, wanted or not.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// All columns of the part `bytes`, which is called `name`.
    ///
    /// # Errors
    /// If the file is torn.
    pub fn columns_of(name: &str, bytes: Bytes) -> Result<SchemaRef, PartError> {
        let builder = guard(|| ParquetRecordBatchReaderBuilder::try_new(bytes));
        Ok(Arc::clone(builder.ok_or_else(|| damaged(name))?.schema()))
    }

    /// What the part's footer says.
    pub fn identity(&self) -> &PartIdentity {
        &self.identity
    }

    /// How often the rows without a label were asked, in row order.
    pub fn attempts(&self) -> &[Attempts] {
        &self.attempts
    }
}

impl Iterator for PartScan {
    type Item = Result<RecordBatch, PartError>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let Some(next) = guard(|| reader.next().transpose()) else {
            self.reader = None;
            return Some(Err(damaged(&self.name)));
        };
        next.map(Ok)
    }
}

fn projected(
    bytes: Bytes,
    columns: &[&str],
) -> Result<(SchemaRef, ParquetRecordBatchReader), ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let schema = SchemaRef::clone(builder.schema());
    let fields = builder.parquet_schema().root_schema().get_fields();
    let wanted = fields.iter().enumerate().filter(|(_, field)| columns.contains(&field.name()));
    let roots: Vec<usize> = wanted.map(|(at, _)| at).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_batch_size(ROWS_PER_BATCH).with_projection(mask).build()?;
    Ok((schema, reader))
}

fn damaged(name: &str) -> PartError {
    PartError::Torn { path: name.to_owned(), reason: "its rows are damaged".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::part_file::PartFile;
    use super::super::part_writer::tests::{sealed, writer};
    use super::*;
    use crate::domain::{PartEncoding, Position, PositionRange};

    fn part() -> Bytes {
        let writer = writer(Fingerprint::of(b"job"), PartEncoding::default());
        let range = PositionRange { first: Position(0), rows: 10 };
        let part = sealed(1, range);
        writer.encode(&PartFile::whole(&part).unwrap(), 1).unwrap().bytes
    }

    #[test]
    fn only_the_wanted_columns_are_read() {
        let job = Fingerprint::of(b"job");
        let scan = PartScan::open("part", part(), job, &["label", "id", "none"]).unwrap();
        assert_eq!(scan.attempts().len() as u64, scan.identity().unlabelled_rows());
        let batches: Vec<RecordBatch> = scan.collect::<Result<_, _>>().unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
        let schema = batches[0].schema();
        let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["id", "label"]);
    }

    #[test]
    fn damaged_rows_are_an_error_and_the_end() {
        let mut bytes = part().to_vec();
        bytes[4..40].fill(0xff);
        let job = Fingerprint::of(b"job");
        let read: Vec<_> = PartScan::open("part", bytes.into(), job, &["id"]).unwrap().collect();
        assert!(matches!(read.as_slice(), [Err(PartError::Torn { .. })]), "{read:?}");
    }
}
