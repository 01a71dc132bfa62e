//! What came to a job later: rows that were planned, and how the input had changed, as
//! `job-000002.json` and on keep it.
//!
//! The newest input that is noted there is the one that the output is held against; a run over that
//! very input need not compare a single row.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::{FileIdentity, Fingerprint, Job};
use super::manifest::PartRecord;
use super::names::Generation;
use crate::domain::{PartNumber, Plan, Stretch};

/// A later file of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaterStretch {
    /// [`super::job::FORMAT_VERSION`].
    pub(super) version: u32,
    /// The job that it belongs to.
    pub(super) job: Fingerprint,
    /// Its rows; `None` if the input changed without a row to plan.
    #[serde(default)]
    pub(super) stretch: Option<Stretch>,
    /// How the input had changed, if it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Revision>,
}

impl LaterStretch {
    /// What `plan` and `known` are with this file; `None` if it does not follow them.
    pub(super) fn add_to(self, plan: &mut Plan, known: &mut KnownInput) -> Option<()> {
        if let Some(revision) = self.input {
            let is_planned = |(_, last): &(PartNumber, PartNumber)| last.0 <= plan.parts();
            revision.released.iter().all(is_planned).then_some(())?;
            plan.release(revision.released_parts());
            *known = KnownInput::after(plan, revision);
        }
        self.stretch.is_none_or(|stretch| plan.push(stretch)).then_some(())
    }
}

/// An input that differs from the one before, as it was compared with the finished rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Its files, in order.
    pub files: Vec<FileIdentity>,
    /// Its rows, planned or not.
    pub rows: u64,
    /// Rows of finished parts that it has no more.
    #[serde(default)]
    pub vanished: u64,
    /// Parts that were planned before and not written, as runs of numbers, both ends included:
    /// released, since their rows are planned anew.
    #[serde(default)]
    pub released: Vec<(PartNumber, PartNumber)>,
    /// Finished parts that hold rows with another text than this input, and their generations then:
    /// those rows are asked again until a later generation stands.
    #[serde(default)]
    pub changed: Vec<(PartNumber, Generation)>,
}

impl Revision {
    /// The numbers of the released parts.
    pub(super) fn released_parts(&self) -> impl Iterator<Item = PartNumber> {
        self.released.iter().flat_map(|(first, last)| (first.0..=last.0).map(PartNumber))
    }

    /// Numbers that ascend, as runs of which both ends are included.
    pub fn runs_of(parts: impl IntoIterator<Item = PartNumber>) -> Vec<(PartNumber, PartNumber)> {
        let mut runs: Vec<(PartNumber, PartNumber)> = Vec::new();
        for part in parts {
            match runs.last_mut() {
                Some((_, last)) if last.0 + 1 == part.0 => *last = part,
                _ => runs.push((part, part)),
            }
        }
        runs
    }
}

/// The input that an output was last held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownInput {
    /// What was noted of it.
    pub revision: Revision,
    /// The first part whose rows were planned for it: those before hold rows of earlier inputs.
    pub first_part: PartNumber,
}

impl KnownInput {
    /// The input that `job` was begun with.
    pub(super) fn of_job(job: &Job) -> KnownInput {
        let (files, rows) = (job.input.files.clone(), job.input.rows);
        let revision =
            Revision { files, rows, vanished: 0, released: Vec::new(), changed: Vec::new() };
        KnownInput { revision, first_part: PartNumber(1) }
    }

    /// The input of `revision`, which came when `plan` was all that was planned.
    pub(super) fn after(plan: &Plan, revision: Revision) -> KnownInput {
        KnownInput { revision, first_part: PartNumber(plan.parts() + 1) }
    }

    /// Whether `job` reads this very input, by its files' names, sizes and times.
    pub fn is_read_by(&self, job: &Job) -> bool {
        (&self.revision.files, self.revision.rows) == (&job.input.files, job.input.rows)
    }

    /// Whether it is another input than the one that the output was begun with, so that the ids of
    /// parts may interleave.
    pub fn is_later(&self) -> bool {
        self.first_part > PartNumber(1)
    }

    /// Rows that the parts hold once every row of this input is done.
    pub fn whole_rows(&self) -> u64 {
        self.revision.rows + self.revision.vanished
    }

    /// Whether no part holds rows with another text than this input, by the parts' `records`.
    pub fn has_its_texts(&self, records: &BTreeMap<PartNumber, PartRecord>) -> bool {
        self.revision.changed.iter().all(|(part, generation)| {
            records.get(part).is_some_and(|record| record.generation > *generation)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::tests::sample;
    use super::*;

    #[test]
    fn neighbouring_parts_are_one_run_and_come_back_each() {
        let parts = [2, 3, 4, 9].map(PartNumber);
        let mut revision = KnownInput::of_job(&sample(25, 10)).revision;
        revision.released = Revision::runs_of(parts);
        assert_eq!(revision.released.len(), 2);
        assert_eq!(revision.released_parts().collect::<Vec<_>>(), parts);
    }

    #[test]
    fn another_size_time_or_number_of_rows_is_another_input() {
        let job = sample(25, 10);
        let known = KnownInput::of_job(&job);
        assert!(known.is_read_by(&job));
        let mut touched = job.clone();
        touched.input.files[0].modified.0 += 1;
        let mut fewer = job.clone();
        fewer.input.rows -= 1;
        assert!(!known.is_read_by(&touched) && !known.is_read_by(&fewer));
    }
}
