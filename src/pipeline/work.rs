//! What is left to do in an output: parts that do not stand, and parts with rows to ask again.

use std::collections::BTreeMap;

use crate::domain::{Attempts, JobSpec, PartNumber, Plan, Position, PositionRange, Reason};
use crate::output::PartRecord;

/// The parts that a run works on.
#[derive(Clone, Debug)]
pub(super) struct Work {
    plan: Plan,
    max_attempts: Attempts,
    retry: Vec<Reason>,
    /// Planned parts that do not stand.
    missing: Vec<PartNumber>,
    /// Parts that stand and have rows to ask again, with how many.
    reopened: BTreeMap<PartNumber, u64>,
}

impl Work {
    /// Compares the plan with the parts that stand.
    pub(super) fn find(
        job: &JobSpec,
        plan: &Plan,
        records: &BTreeMap<PartNumber, PartRecord>,
    ) -> Work {
        let mut work = Work {
            plan: plan.clone(),
            max_attempts: job.batch.max_attempts,
            retry: job.output.retry.clone(),
            missing: Vec::new(),
            reopened: BTreeMap::new(),
        };
        for part in plan.part_numbers() {
            let Some(record) = records.get(&part) else {
                work.missing.push(part);
                continue;
            };
            let again = record.unlabelled.iter();
            let again = again.filter(|rows| work.is_asked_again(rows.reason, rows.attempts));
            let rows: u64 = again.map(|rows| rows.rows).sum();
            if rows > 0 {
                work.reopened.insert(part, rows);
            }
        }
        work
    }

    /// Whether a row that ended so is asked again in this run.
    pub(super) fn is_asked_again(&self, reason: Reason, attempts: Attempts) -> bool {
        let is_wanted = reason.is_asked_again() || self.retry.contains(&reason);
        is_wanted && attempts < self.max_attempts
    }

    /// Whether nothing is left to do.
    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.reopened.is_empty()
    }

    /// Whether this run writes `part`.
    pub(super) fn has(&self, part: PartNumber) -> bool {
        self.reopened.contains_key(&part) || self.missing.binary_search(&part).is_ok()
    }

    /// Parts that stand and have rows to ask again, with how many.
    pub(super) fn reopened(&self) -> impl Iterator<Item = (PartNumber, u64)> {
        self.reopened.iter().map(|(part, rows)| (*part, *rows))
    }

    /// The reopened part that holds `position`, if one does.
    pub(super) fn reopened_at(&self, position: Position) -> Option<(PartNumber, PositionRange)> {
        let part = self.plan.part_of(position)?;
        self.reopened.contains_key(&part).then_some(part)?;
        Some((part, self.plan.range_of(part)?))
    }

    /// The rows to read, part by part, in order.
    pub(super) fn ranges(&self) -> Vec<PositionRange> {
        let parts = self.plan.part_numbers().filter(|part| self.has(*part));
        parts.filter_map(|part| self.plan.range_of(part)).collect()
    }
}
