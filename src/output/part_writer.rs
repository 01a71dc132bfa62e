//! Sealed rows to the bytes of a part, whole in memory: nothing touches storage before a part is
//! complete.
//!
//! The same rows of the same run give the same bytes, so that storing them again can be told from
//! storing others.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use super::checked_line::hex;
use super::job::Fingerprint;
use super::names::Generation;
use super::part_identity::{PartError, PartIdentity, UnlabelledRows};
use super::part_schema::PartSchema;
use crate::domain::{Attempts, Codebook, Outcome, PartNumber, PositionRange, RowId};

/// Most rows of a row group: small enough to skip by statistics, large enough to compress.
const ROWS_PER_GROUP: usize = 131_072;

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
    ) -> PartWriter {
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("batchclass ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
            .set_statistics_enabled(EnabledStatistics::Chunk);
        for column in [id_column, schema.label_column(), schema.reason_column()] {
            properties = properties.set_column_statistics_enabled(
                ColumnPath::new(vec![column.to_owned()]),
                EnabledStatistics::Page,
            );
        }
        let properties = properties.build();
        PartWriter { job, schema, codebook, provenance, properties }
    }

    /// The file of `part`, as the `generation`-th that stands for its rows.
    ///
    /// # Errors
    /// If rows, outcomes and range have different lengths, or the columns are not the input's.
    pub fn encode(
        &self,
        part: &SealedPart,
        generation: Generation,
    ) -> Result<EncodedPart, PartError> {
        check_lengths(part)?;
        let identity = PartIdentity {
            job: self.job,
            part: part.number,
            generation,
            range: part.range,
            first_id: part.first_id.clone(),
            last_id: part.last_id.clone(),
            unlabelled: UnlabelledRows::count(&part.outcomes),
            provider: self.provenance.provider.clone(),
            model: self.provenance.model.clone(),
            run: self.provenance.run.clone(),
        };
        let bytes = self
            .encode_rows(part, &identity)
            .map_err(|source| PartError::Encode { part: part.number, source })?;
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok(EncodedPart { identity, bytes: bytes.into(), sha256 })
    }

    fn encode_rows(
        &self,
        part: &SealedPart,
        identity: &PartIdentity,
    ) -> Result<Vec<u8>, ParquetError> {
        let properties = Some(self.properties.clone());
        let schema = Arc::clone(self.schema.output());
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, properties)?;
        let mut outcomes = part.outcomes.as_slice();
        for rows in &part.columns {
            let (these, rest) = outcomes.split_at(rows.num_rows());
            outcomes = rest;
            let labels = these.iter().map(|outcome| self.label(outcome)).collect();
            let reasons = these.iter().map(reason).collect();
            writer.write(&self.schema.join(rows, labels, reasons)?)?;
        }
        let attempts: Vec<Attempts> = part.outcomes.iter().filter_map(attempts).collect();
        let footer = identity.to_footer(&attempts);
        for entry in footer.map_err(|error| ParquetError::External(Box::new(error)))? {
            writer.append_key_value_metadata(entry);
        }
        writer.into_inner()
    }

    fn label<'a>(&'a self, outcome: &'a Outcome) -> Option<&'a str> {
        match outcome {
            Outcome::Labelled(index) => Some(&self.codebook.label(*index).name),
            Outcome::Existing(label) => Some(label),
            Outcome::Unlabelled { .. } => None,
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

fn check_lengths(part: &SealedPart) -> Result<(), PartError> {
    let wanted = part.range.rows;
    let rows: usize = part.columns.iter().map(RecordBatch::num_rows).sum();
    for (found, what) in [(rows, "rows"), (part.outcomes.len(), "outcomes")] {
        if found as u64 != wanted {
            return Err(PartError::Uneven {
                part: part.number,
                found: format!("{found} {what}"),
                wanted: format!("{wanted}"),
            });
        }
    }
    Ok(())
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

    /// A part of `range` whose row at position p has id 10 p; every third row has no label.
    pub(in crate::output) fn sealed(number: u32, range: PositionRange) -> SealedPart {
        let positions: Vec<i64> = (range.first.0..range.end().0).map(|at| at as i64).collect();
        let ids = Int64Array::from_iter_values(positions.iter().map(|at| at * 10));
        let cities = positions.iter().map(|at| (at % 4 != 0).then(|| format!("city {at}")));
        let cities: StringArray = cities.collect();
        let input = schema();
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(ids), Arc::new(cities)];
        let whole = RecordBatch::try_new(Arc::clone(input.input()), columns).unwrap();
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
            let writer = PartWriter::new(job, schema(), codebook(), "id", provenance("r1"));
            writer.encode(&part, 1).unwrap()
        };
        let encoded = encode();
        assert_eq!(encoded.bytes, encode().bytes);
        assert_eq!(encoded.identity.unlabelled_rows(), 3);
        assert_eq!(encoded.sha256.len(), 64);
    }

    #[test]
    fn a_part_with_a_row_too_few_is_refused() {
        let writer =
            PartWriter::new(Fingerprint::of(b"job"), schema(), codebook(), "id", provenance("r1"));
        let mut part = sealed(1, PositionRange { first: Position(0), rows: 7 });
        part.outcomes.pop();
        assert!(matches!(writer.encode(&part, 1), Err(PartError::Uneven { .. })));
    }
}
