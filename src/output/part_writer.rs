//! Sealed rows to the bytes of a part, whole in memory: nothing touches storage before a part is
//! complete.
//!
//! The same rows of the same run give the same bytes, so that storing them again can be told from
//! storing others.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::basic::{self, BrotliLevel, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use super::job::Fingerprint;
use super::names::Generation;
use super::part_file::PartFile;
use super::part_identity::{PartError, PartIdentity};
use super::part_schema::PartSchema;
use super::row_groups;
use crate::domain::{
    Attempts, Codebook, Compression, Outcome, PartEncoding, PartNumber, PositionRange, RowId, hex,
};

/// A part whose every row has its outcome.
#[derive(Clone, Debug)]
pub struct SealedPart {
    /// Its number.
    pub number: PartNumber,
    /// Its positions.
    pub range: PositionRange,
    /// The id of its first row.
    pub first_id: RowId,
    /// The id of its last row.
    pub last_id: RowId,
    /// The input's columns of its rows, in id order.
    pub columns: Vec<RecordBatch>,
    /// What became of each row, in the same order.
    pub outcomes: Vec<Outcome>,
}

/// Who answers in this run, as parts and manifest entries name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Who answers, such as `openai`.
    pub provider: String,
    /// The model's name.
    pub model: String,
    /// The run's name.
    pub run: String,
}

/// Makes parts of one job.
#[derive(Clone, Debug)]
pub struct PartWriter {
    job: Fingerprint,
    schema: PartSchema,
    codebook: Arc<Codebook>,
    provenance: Provenance,
    properties: WriterProperties,
    row_group_rows: usize,
}

/// A part ready to be stored.
#[derive(Clone, Debug)]
pub struct EncodedPart {
    /// What its footer says.
    pub identity: PartIdentity,
    /// The whole file.
    pub bytes: Bytes,
    /// The SHA-256 of `bytes`, hexadecimal.
    pub sha256: String,
}

impl PartWriter {
    /// A writer of parts with these columns; pages can be skipped by the values of `id_column`.
    pub fn new(
        job: Fingerprint,
        schema: PartSchema,
        codebook: Arc<Codebook>,
        id_column: &str,
        provenance: Provenance,
        encoding: PartEncoding,
    ) -> PartWriter {
        let properties = properties(&schema, id_column, encoding.compression);
        let row_group_rows = usize::try_from(encoding.row_group_rows.get()).unwrap_or(usize::MAX);
        PartWriter { job, schema, codebook, provenance, properties, row_group_rows }
    }

    /// `file`, as the `generation`-th that is written for its part.
    ///
    /// # Errors
    /// If its columns are not the input's.
    pub(super) fn encode(
        &self,
        file: &PartFile<'_>,
        generation: Generation,
    ) -> Result<EncodedPart, PartError> {
        let identity = PartIdentity {
            job: self.job,
            part: file.number,
            generation,
            range: file.range,
            first_id: file.ids.0.clone(),
            last_id: file.ids.1.clone(),
            unlabelled: file.unlabelled.clone(),
            held: file.held.clone(),
            holes: file.holes.clone(),
            provider: self.provenance.provider.clone(),
            model: self.provenance.model.clone(),
            run: self.provenance.run.clone(),
        };
        let bytes = self
            .encode_rows(file, &identity)
            .map_err(|source| PartError::Encode { part: file.number, source })?;
        let sha256 = hex::encode(&Sha256::digest(&bytes));
        Ok(EncodedPart { identity, bytes: bytes.into(), sha256 })
    }

    fn encode_rows(
        &self,
        file: &PartFile<'_>,
        identity: &PartIdentity,
    ) -> Result<Vec<u8>, ParquetError> {
        let mut outcomes = file.outcomes.as_slice();
        let rows = file.columns.iter().map(|rows| {
            let (these, rest) = outcomes.split_at(rows.num_rows());
            outcomes = rest;
            let labels = these.iter().map(|outcome| self.label(outcome)).collect();
            let reasons = these.iter().map(|outcome| reason(outcome)).collect();
            Ok(self.schema.join(rows, labels, reasons)?)
        });
        let attempts = file.outcomes.iter().filter_map(|outcome| attempts(outcome));
        let footer = identity.to_footer(&attempts.collect::<Vec<_>>());
        let footer = footer.map_err(|error| ParquetError::External(Box::new(error)))?;
        let properties = self.properties.clone();
        row_groups::encode(self.schema.output(), rows, self.row_group_rows, footer, properties)
    }

    fn label<'a>(&'a self, outcome: &'a Outcome) -> Option<&'a str> {
        match outcome {
            Outcome::Labelled(index) => Some(&self.codebook.label(*index).name),
            Outcome::Existing(label) => Some(label),
            Outcome::Unlabelled { .. } => None,
        }
    }
}

fn properties(schema: &PartSchema, id_column: &str, compression: Compression) -> WriterProperties {
    let path = |column: &str| ColumnPath::new(vec![column.to_owned()]);
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("batchclass ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(codec(compression))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for column in [id_column, schema.label_column(), schema.reason_column()] {
        properties =
            properties.set_column_statistics_enabled(path(column), EnabledStatistics::Page);
    }
    if let Some(column) = schema.hash_column() {
        properties = properties.set_column_dictionary_enabled(path(column), false);
    }
    properties.build()
}

/// A level that the codec does not have is its usual one.
fn codec(compression: Compression) -> basic::Compression {
    use basic::Compression as Codec;
    match compression {
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Snappy => Codec::SNAPPY,
        Compression::Lz4 => Codec::LZ4_RAW,
        Compression::Gzip(level) => {
            Codec::GZIP(GzipLevel::try_new(level.into()).unwrap_or_default())
        }
        Compression::Brotli(level) => {
            Codec::BROTLI(BrotliLevel::try_new(level.into()).unwrap_or_default())
        }
        Compression::Zstd(level) => {
            Codec::ZSTD(ZstdLevel::try_new(level.into()).unwrap_or_default())
        }
    }
}

fn reason(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Unlabelled { reason, .. } => Some(reason.name()),
        Outcome::Labelled(_) | Outcome::Existing(_) => None,
    }
}

fn attempts(outcome: &Outcome) -> Option<Attempts> {
    match outcome {
        Outcome::Unlabelled { attempts, .. } => Some(*attempts),
        Outcome::Labelled(_) | Outcome::Existing(_) => None,
    }
}

#[cfg(test)]
pub(in crate::output) mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::job::tests::sample;
    use super::*;
    use crate::domain::{LabelIndex, Position, Reason};

    pub(in crate::output) fn codebook() -> Arc<Codebook> {
        Arc::new(Codebook::new(sample(1, 1).prompt.labels, None).unwrap())
    }

    pub(in crate::output) fn schema() -> PartSchema {
        let input = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("city", DataType::Utf8, true),
        ]);
        PartSchema::new(&input, "label", None).unwrap()
    }

    pub(in crate::output) fn provenance(run: &str) -> Provenance {
        Provenance { provider: "openai".into(), model: "gpt-4o-mini".into(), run: run.into() }
    }

    pub(in crate::output) fn writer(job: Fingerprint, encoding: PartEncoding) -> PartWriter {
        PartWriter::new(job, schema(), codebook(), "id", provenance("r1"), encoding)
    }

    /// A part of `range` whose row at position p has id 10 p; every third row has no label.
    pub(in crate::output) fn sealed(number: u32, range: PositionRange) -> SealedPart {
        let positions: Vec<i64> = (range.first.0..range.end().0).map(|at| at as i64).collect();
        let ids = Int64Array::from_iter_values(positions.iter().map(|at| at * 10));
        let cities = positions.iter().map(|at| (at % 4 != 0).then(|| format!("city {at}")));
        let cities: StringArray = cities.collect();
        let input = schema();
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(ids), Arc::new(cities)];
        let whole = RecordBatch::try_new(Arc::clone(input.carried()), columns).unwrap();
        let half = whole.num_rows() / 2;
        let rest = whole.slice(half, whole.num_rows() - half);
        let outcomes = positions.iter().map(|at| match at % 3 {
            0 => Outcome::Unlabelled { reason: Reason::Missing, attempts: (at % 2) as u16 + 1 },
            other => Outcome::Labelled(LabelIndex(other as u16 - 1)),
        });
        SealedPart {
            number: PartNumber(number),
            range,
            first_id: RowId::Integer(i128::from(range.first.0) * 10),
            last_id: RowId::Integer((i128::from(range.end().0) - 1) * 10),
            outcomes: outcomes.collect(),
            columns: vec![whole.slice(0, half), rest],
        }
    }

    #[test]
    fn the_same_rows_of_the_same_run_give_the_same_bytes() {
        let job = Fingerprint::of(b"job");
        let part = sealed(1, PositionRange { first: Position(0), rows: 7 });
        let encode = || {
            let writer = writer(job, PartEncoding::default());
            writer.encode(&PartFile::whole(&part).unwrap(), 1).unwrap()
        };
        let encoded = encode();
        assert_eq!(encoded.bytes, encode().bytes);
        assert_eq!(encoded.identity.unlabelled_rows(), 3);
        assert_eq!(encoded.sha256.len(), 64);
    }

    #[test]
    fn a_part_with_a_row_too_few_is_refused() {
        let mut part = sealed(1, PositionRange { first: Position(0), rows: 7 });
        part.outcomes.pop();
        assert!(matches!(PartFile::whole(&part), Err(PartError::Uneven { .. })));
    }
}
