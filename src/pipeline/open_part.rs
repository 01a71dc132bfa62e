//! Parts whose rows are not all settled yet.
//!
//! A part is sealed when its own rows are settled, in whatever order parts get there; rows inside
//! stay in id order. What is open is counted, in rows and in bytes, so that it can be bounded: one
//! hung call holds up one part.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use crate::domain::{Outcome, PartNumber, Plan, Position, PositionRange, RowId};
use crate::output::{SealedPart, bytes_of};

/// A part that waits for outcomes.
#[derive(Debug)]
struct OpenPart {
    range: PositionRange,
    columns: Vec<RecordBatch>,
    /// What they take in memory.
    bytes: u64,
    /// Rows that are not read yet.
    unread: u64,
    first_id: Option<RowId>,
    last_id: Option<RowId>,
    outcomes: Vec<Option<Outcome>>,
    unsettled: usize,
    /// Outcomes that somebody paid for and that stand in no part yet.
    answers: u64,
}

/// A part whose every row is settled.
#[derive(Debug)]
pub(super) struct Settled {
    /// What is to be committed.
    pub(super) part: SealedPart,
    /// Those of its outcomes that somebody paid for and that stand in no part yet.
    pub(super) answers: u64,
    /// What its columns take in memory.
    pub(super) bytes: u64,
}

/// All open parts.
#[derive(Debug)]
pub(super) struct OpenParts {
    plan: Plan,
    parts: BTreeMap<PartNumber, OpenPart>,
}

impl OpenParts {
    /// No open parts of `plan`.
    pub(super) fn new(plan: Plan) -> Self {
        OpenParts { plan, parts: BTreeMap::new() }
    }

    /// How many rows the open parts have, read or not yet read.
    pub(super) fn rows(&self) -> u64 {
        self.parts.values().map(|part| part.range.rows).sum()
    }

    /// What the rows that were read take in memory, bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.values().map(|part| part.bytes).sum()
    }

    /// Whether all rows of a part were read, so that it needs nothing but their outcomes.
    pub(super) fn has_whole_part(&self) -> bool {
        self.parts.values().any(|part| part.unread == 0)
    }

    /// Outcomes in open parts that somebody paid for and that stand in no part yet.
    pub(super) fn answers(&self) -> u64 {
        self.parts.values().map(|part| part.answers).sum()
    }

    /// Takes the columns of rows that follow each other within one part.
    ///
    /// `ids` are those of the first and the last row.
    pub(super) fn take_columns(
        &mut self,
        first: Position,
        columns: RecordBatch,
        ids: (RowId, RowId),
    ) {
        let Some((number, range)) = self.locate(first) else { return };
        let part = self.parts.entry(number).or_insert_with(|| {
            let rows = usize::try_from(range.rows).unwrap_or(usize::MAX);
            OpenPart {
                range,
                columns: Vec::new(),
                bytes: 0,
                unread: range.rows,
                first_id: None,
                last_id: None,
                outcomes: vec![None; rows],
                unsettled: rows,
                answers: 0,
            }
        });
        part.first_id.get_or_insert(ids.0);
        part.last_id = Some(ids.1);
        part.bytes += bytes_of(&columns);
        part.unread = part.unread.saturating_sub(columns.num_rows() as u64);
        part.columns.push(columns);
    }

    /// Settles a row once; a second outcome for it is ignored. Returns its part if that was the
    /// last of the part's rows.
    pub(super) fn settle(&mut self, position: Position, outcome: Outcome) -> Option<Settled> {
        let is_answer = match outcome {
            Outcome::Labelled(_) => true,
            Outcome::Unlabelled { attempts, .. } => attempts > 0,
            Outcome::Existing(_) => false,
        };
        self.settle_as(position, outcome, is_answer)
    }

    /// As [`OpenParts::settle`], with an outcome that stands in an earlier part.
    pub(super) fn settle_kept(&mut self, position: Position, outcome: Outcome) -> Option<Settled> {
        self.settle_as(position, outcome, false)
    }

    fn settle_as(
        &mut self,
        position: Position,
        outcome: Outcome,
        is_answer: bool,
    ) -> Option<Settled> {
        let (number, range) = self.locate(position)?;
        let part = self.parts.get_mut(&number)?;
        let offset = usize::try_from(position.0 - range.first.0).ok()?;
        let slot = part.outcomes.get_mut(offset)?;
        if slot.is_some() {
            return None;
        }
        *slot = Some(outcome);
        part.unsettled -= 1;
        part.answers += u64::from(is_answer);
        if part.unsettled > 0 {
            return None;
        }
        let part = self.parts.remove(&number)?;
        let (answers, bytes) = (part.answers, part.bytes);
        let part = SealedPart {
            number,
            range,
            first_id: part.first_id?,
            last_id: part.last_id?,
            columns: part.columns,
            outcomes: part.outcomes.into_iter().flatten().collect(),
        };
        Some(Settled { part, answers, bytes })
    }

    fn locate(&self, position: Position) -> Option<(PartNumber, PositionRange)> {
        let number = self.plan.part_of(position)?;
        Some((number, self.plan.range_of(number)?))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;
    use crate::domain::{LabelIndex, Reason};

    fn parts(rows: u64, rows_per_part: u32) -> OpenParts {
        let mut plan = Plan::default();
        plan.extend_to(rows, NonZeroU32::new(rows_per_part).unwrap());
        OpenParts::new(plan)
    }

    fn read(open: &mut OpenParts, first: u64, last: u64) {
        let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let ids = (RowId::Integer(first.into()), RowId::Integer(last.into()));
        open.take_columns(Position(first), empty, ids);
    }

    #[test]
    fn a_part_is_sealed_by_its_own_rows_alone() {
        let mut open = parts(4, 2);
        read(&mut open, 0, 1);
        read(&mut open, 2, 3);
        let label = || Outcome::Labelled(LabelIndex(0));
        assert!(open.settle(Position(0), label()).is_none());
        assert!(open.settle(Position(3), label()).is_none());
        assert_eq!(open.answers(), 2);
        let Settled { part: sealed, answers, .. } = open.settle(Position(2), label()).unwrap();
        assert_eq!((answers, open.answers()), (2, 1));
        assert_eq!(sealed.number, PartNumber(2));
        assert_eq!(sealed.outcomes.len(), 2);
        assert_eq!(open.rows(), 2);
    }

    #[test]
    fn the_first_outcome_of_a_row_stands() {
        let mut open = parts(2, 2);
        read(&mut open, 0, 1);
        assert!(open.settle(Position(0), Outcome::Labelled(LabelIndex(1))).is_none());
        assert!(open.settle(Position(0), Outcome::Labelled(LabelIndex(2))).is_none());
        let sealed = open.settle(Position(1), Outcome::Labelled(LabelIndex(0))).unwrap();
        assert_eq!(sealed.part.outcomes[0], Outcome::Labelled(LabelIndex(1)));
    }

    #[test]
    fn what_nobody_paid_for_or_stands_in_a_part_is_no_answer() {
        let mut open = parts(5, 5);
        read(&mut open, 0, 4);
        let unlabelled = |attempts| Outcome::Unlabelled { reason: Reason::Missing, attempts };
        open.settle(Position(0), Outcome::Existing("x".into()));
        open.settle(Position(1), unlabelled(0));
        open.settle(Position(2), unlabelled(3));
        open.settle_kept(Position(3), Outcome::Labelled(LabelIndex(0)));
        assert_eq!(open.answers(), 1);
    }
}
