//! What is left to do in an output: parts that do not stand, and parts with rows to ask again.

use std::collections::{BTreeMap, BTreeSet};

use super::merge::{ChangedRow, Changes};
use crate::domain::{Attempts, JobSpec, PartNumber, Plan, PositionRange, Reason};
use crate::output::{PartRecord, UnlabelledRows};

/// A row of a part that stands which comes from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FromInput {
    pub(super) row: ChangedRow,
    /// Whether its text is another one, so that what stands says nothing of it.
    pub(super) is_changed: bool,
}

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
    /// Of those, parts of which some rows are read from the input at their positions: they stand in
    /// no file, or without their text.
    holed: BTreeSet<PartNumber>,
    /// How the input differs from the parts that stand, where it was compared with them.
    changes: Option<Changes>,
    /// Rows to ask again that stand without a label where nothing can be replaced.
    given_up: u64,
}

impl Work {
    /// Compares the plan with the parts that stand. `changes` is how the input differs from them;
    /// without, a row's place in the input is its position, and no text has changed.
    pub(super) fn find(
        job: &JobSpec,
        plan: &Plan,
        records: &BTreeMap<PartNumber, PartRecord>,
        changes: Option<Changes>,
    ) -> Work {
        let mut work = Work {
            plan: plan.clone(),
            max_attempts: job.batch.max_attempts,
            retry: job.output.retry.clone(),
            missing: Vec::new(),
            reopened: BTreeMap::new(),
            holed: BTreeSet::new(),
            changes,
            given_up: 0,
        };
        for part in plan.part_numbers() {
            let Some(record) = records.get(&part) else {
                work.missing.push(part);
                continue;
            };
            let again = |rows: &[UnlabelledRows]| -> u64 {
                let again = rows.iter();
                let again = again.filter(|rows| work.is_asked_again(rows.reason, rows.attempts));
                again.map(|rows| rows.rows).sum()
            };
            let rows = again(record.refillable());
            let given_up = again(&record.unlabelled).saturating_sub(rows);
            work.given_up += given_up;
            let rows = rows + work.changed_rows(part).len() as u64;
            if rows > 0 {
                // A row without a label whose text changed is in both counts.
                work.reopened.insert(part, rows.min(record.range.rows));
                if record.absent_rows() > 0 {
                    work.holed.insert(part);
                }
            }
        }
        work
    }

    /// This work where parts do not have the texts of their rows.
    pub(super) fn with_texts_of_the_input(mut self) -> Work {
        if self.changes.is_none() {
            self.holed.extend(self.reopened.keys());
        }
        self
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

    /// Rows to ask again that no run can ask: they stand without a label, and nothing that stands
    /// can be replaced.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Whether this run writes `part`.
    pub(super) fn has(&self, part: PartNumber) -> bool {
        self.is_reopened(part) || self.missing.binary_search(&part).is_ok()
    }

    /// Whether answers that were journaled for rows of `part` may still be needed: it is written by
    /// this run, or it was released and its rows are among those to be written, now or, where a row
    /// limit `leaves_rows` of the input unplanned, later.
    pub(super) fn needs_answers_of(&self, part: PartNumber, leaves_rows: bool) -> bool {
        let are_rows_left = leaves_rows || !self.missing.is_empty();
        self.has(part) || (self.plan.is_released(part) && are_rows_left)
    }

    /// Whether `part` stands and has rows to ask again.
    pub(super) fn is_reopened(&self, part: PartNumber) -> bool {
        self.reopened.contains_key(&part)
    }

    /// Whether the reopened `part` can't give all its rows itself, and each is at its position in
    /// the input.
    pub(super) fn is_holed(&self, part: PartNumber) -> bool {
        self.holed.contains(&part)
    }

    /// Parts that stand and have rows to ask again, with how many.
    pub(super) fn reopened(&self) -> impl Iterator<Item = (PartNumber, u64)> {
        self.reopened.iter().map(|(part, rows)| (*part, *rows))
    }

    /// Rows of a part that stands which have another text now.
    pub(super) fn changed_rows(&self, part: PartNumber) -> &[ChangedRow] {
        let changed = self.changes.as_ref().and_then(|changes| changes.changed.get(&part));
        changed.map_or(&[], Vec::as_slice)
    }

    /// The rows of a part that stands which come from the input, in the part's order.
    pub(super) fn rows_from_input(&self, part: PartNumber) -> Vec<FromInput> {
        let kept = self.changes.as_ref().and_then(|changes| changes.need_text.get(&part));
        let kept = kept.into_iter().flatten().map(|row| FromInput { row: *row, is_changed: false });
        let changed = self.changed_rows(part).iter();
        let changed = changed.map(|row| FromInput { row: *row, is_changed: true });
        let mut rows: Vec<FromInput> = kept.chain(changed).collect();
        rows.sort_unstable_by_key(|from| from.row.offset);
        rows
    }

    /// The most attempts that a row may have had to be asked again.
    pub(super) fn max_attempts(&self) -> Attempts {
        self.max_attempts
    }

    /// The places in the input of rows that stand in no part, in the order of the parts that are
    /// to hold them; `None` if they are the rows' positions.
    pub(super) fn unfinished(&self) -> Option<&[PositionRange]> {
        self.changes.as_ref().map(|changes| changes.unfinished.as_slice())
    }

    /// The parts that this run writes, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = (PartNumber, PositionRange)> {
        let parts = self.plan.part_numbers().filter(|part| self.has(*part));
        parts.filter_map(|part| Some((part, self.plan.range_of(part)?)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::num::NonZeroU32;

    use super::super::passes::{Pass, Task};
    use super::*;
    use crate::domain::Position;

    /// The work on `rows` rows in parts of ten, of which those in `standing` are labelled.
    pub(in crate::pipeline) fn work(rows: u64, standing: &[u32], changes: Option<Changes>) -> Work {
        let mut plan = Plan::default();
        plan.extend_to(rows, NonZeroU32::new(10).unwrap());
        let missing = plan.part_numbers().filter(|part| !standing.contains(&part.0)).collect();
        let changed = changes.iter().flat_map(|changes| &changes.changed);
        let reopened = changed.map(|(part, rows)| (*part, rows.len() as u64)).collect();
        Work {
            plan,
            max_attempts: 3,
            retry: Vec::new(),
            missing,
            reopened,
            holed: BTreeSet::new(),
            changes,
            given_up: 0,
        }
    }

    /// The parts of these passes, in parts of ten rows.
    pub(in crate::pipeline) fn parts(passes: &[Pass]) -> Vec<u64> {
        let tasks = passes.iter().flat_map(|pass| &pass.parts);
        let number = |task: &Task| match task {
            Task::Fill(range) | Task::Reopen { range, .. } | Task::Refill { range, .. } => {
                range.first.0 / 10 + 1
            }
        };
        tasks.map(number).collect()
    }

    #[test]
    fn answers_for_released_parts_are_needed_while_a_row_is_left_to_write() {
        let mut work = work(25, &[1], None);
        work.plan.release([PartNumber(3)]);
        work.missing.retain(|part| part.0 != 3);
        assert_eq!(work.plan.part_of(Position(22)), Some(PartNumber(3)));
        assert!(work.needs_answers_of(PartNumber(3), false) && !work.has(PartNumber(3)));
        assert!(!work.needs_answers_of(PartNumber(1), true));
        work.missing.clear();
        assert!(!work.needs_answers_of(PartNumber(3), false));
        assert!(work.needs_answers_of(PartNumber(3), true));
    }
}
