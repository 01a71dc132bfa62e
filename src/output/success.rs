//! `_SUCCESS`: written last, gone before the first call of a later run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::{FORMAT_VERSION, Fingerprint};
use super::manifest::{PartRecord, Spent};
use crate::domain::{PartNumber, Reason, UnixMillis};

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
    /// Parts.
    pub parts: u64,
    /// Their size.
    pub bytes: u64,
    /// What all runs spent.
    pub spent: Spent,
    /// When the output was finished.
    pub finished: UnixMillis,
}

impl Success {
    /// The totals of these parts.
    pub fn of(
        job: Fingerprint,
        records: &BTreeMap<PartNumber, PartRecord>,
        spent: Spent,
        finished: UnixMillis,
    ) -> Success {
        let mut unlabelled: BTreeMap<Reason, u64> = BTreeMap::new();
        for rows in records.values().flat_map(|record| &record.unlabelled) {
            *unlabelled.entry(rows.reason).or_default() += rows.rows;
        }
        let rows: u64 = records.values().map(|record| record.range.rows).sum();
        Success {
            version: FORMAT_VERSION,
            job,
            rows,
            labelled: rows - unlabelled.values().sum::<u64>(),
            unlabelled,
            parts: records.len() as u64,
            bytes: records.values().map(|record| record.bytes).sum(),
            spent,
            finished,
        }
    }
}
