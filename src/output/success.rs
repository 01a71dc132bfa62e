//! `_SUCCESS`: written last, gone before the first call of a later run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::{FORMAT_VERSION, Fingerprint};
use super::manifest::{PartRecord, Spent};
use crate::domain::{Reason, UnixMillis};

/// The totals of a finished output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// The version of this form.
    pub version: u32,
    /// The job that the output answers.
    pub job: Fingerprint,
    /// Rows in all parts.
    pub rows: u64,
    /// Of those, rows with a label.
    pub labelled: u64,
    /// The others by reason.
    pub unlabelled: BTreeMap<Reason, u64>,
    /// Their files.
    pub parts: u64,
    /// Their size.
    pub bytes: u64,
    /// What all runs spent.
    pub spent: Spent,
    /// When the output was finished.
    pub finished: UnixMillis,
}

impl Success {
    /// The totals of the parts with these newest records, in `files` files of `bytes` bytes.
    pub fn of<'a>(
        job: Fingerprint,
        newest: impl Iterator<Item = &'a PartRecord>,
        files: u64,
        bytes: u64,
        spent: Spent,
        finished: UnixMillis,
    ) -> Success {
        let mut unlabelled: BTreeMap<Reason, u64> = BTreeMap::new();
        let mut rows = 0;
        for record in newest {
            rows += record.range.rows;
            for rows in &record.unlabelled {
                *unlabelled.entry(rows.reason).or_default() += rows.rows;
            }
        }
        Success {
            version: FORMAT_VERSION,
            job,
            rows,
            labelled: rows - unlabelled.values().sum::<u64>(),
            unlabelled,
            parts: files,
            bytes,
            spent,
            finished,
        }
    }
}
