//! Who a part is, as its own footer says: a part needs no manifest to be understood.

use bytes::Bytes;
use parquet::file::metadata::{FooterTail, KeyValue, ParquetMetaData, ParquetMetaDataReader};
use serde::{Deserialize, Serialize};

use super::job::{FORMAT_VERSION, Fingerprint};
use super::names::Generation;
use super::part_rows::{Holes, RowRuns};
use super::store::{Store, StoreError};
use crate::domain::guard::without_panic;
use crate::domain::{Attempts, Outcome, PartNumber, PositionRange, Reason, RowId};

const VERSION_KEY: &str = "batchclass.version";
const PART_KEY: &str = "batchclass.part";
const ATTEMPTS_KEY: &str = "batchclass.attempts";

/// The end of a file that usually holds its whole footer.
const USUAL_FOOTER: u64 = 64 * 1024;
/// Length and magic at the very end.
const FOOTER_TAIL: usize = 8;

/// What a part's footer says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartIdentity {
    /// The job that it answers.
    pub job: Fingerprint,
    /// Its number.
    pub part: PartNumber,
    /// How often it was written, from 1.
    pub generation: Generation,
    /// The positions of its rows.
    pub range: PositionRange,
    /// The id of the range's first row.
    pub first_id: RowId,
    /// The id of the range's last row.
    pub last_id: RowId,
    /// The range's rows without a label, by reason and attempts, in this file or not.
    pub unlabelled: Vec<UnlabelledRows>,
    /// Which rows of the range stand in this file; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<RowRuns>,
    /// The range's rows without a label that stand in no file yet.
    #[serde(default, skip_serializing_if = "Holes::is_empty")]
    pub holes: Holes,
    /// Who answered.
    pub provider: String,
    /// The model's name.
    pub model: String,
    /// The run that wrote it.
    pub run: String,
}

/// Rows without a label that share the reason and the number of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlabelledRows {
    /// Why.
    pub reason: Reason,
    /// How often each was asked, over all runs.
    pub attempts: Attempts,
    /// How many.
    pub rows: u64,
}

impl UnlabelledRows {
    /// Counts the rows of `outcomes` that have no label, by reason, then attempts.
    pub fn count(outcomes: &[Outcome]) -> Vec<UnlabelledRows> {
        let mut counts = std::collections::BTreeMap::new();
        for outcome in outcomes {
            if let Outcome::Unlabelled { reason, attempts } = outcome {
                *counts.entry((*reason, *attempts)).or_insert(0) += 1;
            }
        }
        let counts = counts.into_iter();
        counts.map(|((reason, attempts), rows)| UnlabelledRows { reason, attempts, rows }).collect()
    }
}

/// Why a file is not read as a part. `path` is the file's.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It is cut, damaged or no Parquet file at all.
    #[error("{path} is no whole part: {reason}")]
    Torn {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds rows that another file of the same part holds too.
    #[error(
        "{path} holds rows that {other} holds too; remove {path}, and the next run does again what \
         is missing then"
    )]
    Overlap {
        /// The later file.
        path: String,
        /// The earlier one.
        other: String,
    },
    /// It is a whole Parquet file, but no part of this job.
    #[error("{path} belongs to another job; move it out of the output folder")]
    Foreign {
        /// The file.
        path: String,
    },
    /// A later version of the program wrote it.
    #[error(
        "{path} has format version {version}, this program reads up to {FORMAT_VERSION}; use a \
         newer batchclass"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
    },
    /// The rows can't be put into a Parquet file.
    #[error("part {part} can't be written")]
    Encode {
        /// Which part.
        part: PartNumber,
        /// The cause.
        source: parquet::errors::ParquetError,
    },
    /// Rows, outcomes and range don't agree: a mistake of the caller.
    #[error("part {part} was handed over with {found} instead of {wanted}")]
    Uneven {
        /// Which part.
        part: PartNumber,
        /// What it had, such as `9 rows`.
        found: String,
        /// What it should have had.
        wanted: String,
    },
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PartIdentity {
    /// The footer's entries for this identity and the attempts of the rows without a label, in
    /// row order.
    pub(super) fn to_footer(&self, attempts: &[Attempts]) -> serde_json::Result<Vec<KeyValue>> {
        Ok(vec![
            KeyValue::new(VERSION_KEY.to_owned(), FORMAT_VERSION.to_string()),
            KeyValue::new(PART_KEY.to_owned(), serde_json::to_string(self)?),
            KeyValue::new(ATTEMPTS_KEY.to_owned(), serde_json::to_string(&runs_of(attempts))?),
        ])
    }

    /// Reads the identity of the stored object `name` from its end alone.
    ///
    /// # Errors
    /// If the file is torn, foreign to `job`, newer than this program or can't be read.
    pub fn read(
        store: &dyn Store,
        name: &str,
        job: Fingerprint,
    ) -> Result<PartIdentity, PartError> {
        let mut end = store.read_end(name, USUAL_FOOTER)?;
        let length = footer_length(name, &end)?;
        if length > end.len() {
            end = store.read_end(name, length as u64)?;
        }
        let (identity, _, _) = PartIdentity::of_end(name, &end, job)?;
        Ok(identity)
    }

    /// The identity, the attempts and the footer at the end of `bytes`.
    pub(super) fn of_end(
        name: &str,
        bytes: &Bytes,
        job: Fingerprint,
    ) -> Result<(PartIdentity, Vec<Attempts>, ParquetMetaData), PartError> {
        let torn = |reason: &str| PartError::Torn { path: name.into(), reason: reason.into() };
        let length = footer_length(name, bytes)?;
        let start = bytes.len().checked_sub(length).ok_or_else(|| torn("its footer is cut"))?;
        let footer = bytes.slice(start..bytes.len() - FOOTER_TAIL);
        let metadata = guard(|| ParquetMetaDataReader::decode_metadata(&footer))
            .ok_or_else(|| torn("its footer can't be decoded"))?;
        let entry = |key: &str| {
            let entries = metadata.file_metadata().key_value_metadata()?;
            entries.iter().find(|entry| entry.key == key)?.value.as_deref()
        };
        let foreign = || PartError::Foreign { path: name.to_owned() };
        let version = entry(VERSION_KEY).and_then(|version| version.parse().ok());
        match version.ok_or_else(foreign)? {
            0..=FORMAT_VERSION => {}
            version => return Err(PartError::Newer { path: name.to_owned(), version }),
        }
        let identity = entry(PART_KEY).and_then(|json| serde_json::from_str(json).ok());
        let identity: PartIdentity = identity.ok_or_else(foreign)?;
        if identity.job != job {
            return Err(foreign());
        }
        if metadata.file_metadata().num_rows().cast_unsigned() != identity.rows_held() {
            return Err(torn("it has another number of rows than its footer says"));
        }
        if !identity.is_sound() {
            return Err(torn("its footer tells of rows that its range does not have"));
        }
        let attempts = entry(ATTEMPTS_KEY)
            .and_then(|json| serde_json::from_str::<Vec<(Attempts, u32)>>(json).ok())
            .filter(|runs| identity.allows(rows_of(runs)))
            .map(|runs| expand(&runs))
            .ok_or_else(|| torn("its attempts don't fit its rows"))?;
        Ok((identity, attempts, metadata))
    }

    /// The range's rows without a label.
    pub fn unlabelled_rows(&self) -> u64 {
        self.unlabelled.iter().map(|rows| rows.rows).sum()
    }

    /// Rows that stand in this file.
    pub fn rows_held(&self) -> u64 {
        self.held.as_ref().map_or(self.range.rows, RowRuns::rows)
    }

    /// Their offsets in the range, ascending.
    pub fn offsets(&self) -> Box<dyn Iterator<Item = u64> + '_> {
        match &self.held {
            Some(held) => Box::new(held.offsets()),
            None => Box::new(0..self.range.rows),
        }
    }

    fn is_sound(&self) -> bool {
        let rows = self.range.rows;
        self.held.as_ref().is_none_or(|held| held.fit(rows)) && self.holes.fit(rows)
    }

    /// Whether `nulls` of its rows may be without a label. Other files of the part can hold some
    /// of those that it counts.
    fn allows(&self, nulls: u64) -> bool {
        match self.held {
            None => nulls == self.unlabelled_rows(),
            Some(_) => nulls <= self.rows_held().min(self.unlabelled_rows()),
        }
    }
}

/// Footer and tail together, bytes.
fn footer_length(name: &str, end: &[u8]) -> Result<usize, PartError> {
    let tail = end.last_chunk::<FOOTER_TAIL>().and_then(|tail| FooterTail::try_new(tail).ok());
    match tail {
        Some(tail) if !tail.is_encrypted_footer() => {
            Ok(tail.metadata_length().saturating_add(FOOTER_TAIL))
        }
        _ => Err(PartError::Torn {
            path: name.to_owned(),
            reason: "it does not end like a Parquet file".to_owned(),
        }),
    }
}

/// The result of a decoder; `None` if it fails, also by panicking, as decoders do on some damaged
/// files.
pub(super) fn guard<T, E>(decode: impl FnOnce() -> Result<T, E>) -> Option<T> {
    without_panic(decode)?.ok()
}

/// Equal neighbours as `(attempts, rows)`.
fn runs_of(attempts: &[Attempts]) -> Vec<(Attempts, u32)> {
    let runs = attempts.chunk_by(|a, b| a == b);
    runs.map(|run| (run[0], u32::try_from(run.len()).unwrap_or(u32::MAX))).collect()
}

fn rows_of(runs: &[(Attempts, u32)]) -> u64 {
    runs.iter().map(|(_, rows)| u64::from(*rows)).sum()
}

fn expand(runs: &[(Attempts, u32)]) -> Vec<Attempts> {
    let each = runs.iter().flat_map(|(attempts, rows)| {
        std::iter::repeat_n(*attempts, usize::try_from(*rows).unwrap_or(usize::MAX))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_kept_as_runs() {
        let attempts = [3, 3, 3, 0, 1, 1];
        assert_eq!(runs_of(&attempts), [(3, 3), (0, 1), (1, 2)]);
        assert_eq!(expand(&runs_of(&attempts)), attempts);
        assert_eq!(rows_of(&[(1, u32::MAX), (1, u32::MAX)]), 2 * u64::from(u32::MAX));
    }

    #[test]
    fn unlabelled_rows_are_counted_by_reason_and_attempts() {
        let unlabelled = |reason, attempts| Outcome::Unlabelled { reason, attempts };
        let outcomes = [
            unlabelled(Reason::NoText, 0),
            unlabelled(Reason::Missing, 3),
            Outcome::Existing("x".into()),
            unlabelled(Reason::Missing, 3),
        ];
        let counts = UnlabelledRows::count(&outcomes);
        assert_eq!(
            counts,
            [
                UnlabelledRows { reason: Reason::Missing, attempts: 3, rows: 2 },
                UnlabelledRows { reason: Reason::NoText, attempts: 0, rows: 1 },
            ]
        );
    }

    #[test]
    fn a_decoder_that_panics_is_a_decoder_that_fails() {
        let decoded = guard(|| -> Result<(), ()> { panic!("damaged") });
        assert_eq!(decoded, None);
    }
}
