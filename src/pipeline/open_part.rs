//! Parts whose rows are not all settled yet.
//!
//! A part is sealed when its own rows are settled, in whatever order parts get there; rows inside
//! stay in id order. What is open is bounded by rows, so that one hung call holds up one part.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use crate::domain::{Outcome, PartNumber, Plan, Position, PositionRange, RowId};
use crate::output::SealedPart;

/// A part that waits for outcomes.
#[derive(Debug)]
struct OpenPart {
    range: PositionRange,
    columns: Vec<RecordBatch>,
    first_id: Option<RowId>,
    last_id: Option<RowId>,
    outcomes: Vec<Option<Outcome>>,
    unsettled: usize,
    /// Outcomes that an earlier part has already.
    kept: usize,
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

    /// Rows of open parts that have an outcome which stands in no part yet.
    pub(super) fn new_rows(&self) -> u64 {
        let new = |part: &OpenPart| part.outcomes.len() - part.unsettled - part.kept;
        self.parts.values().map(|part| new(part) as u64).sum()
    }

    /// Notes that the outcome which this row is about to get stands in an earlier part.
    pub(super) fn note_kept(&mut self, position: Position) {
        let number = self.locate(position).map(|(number, _)| number);
        if let Some(part) = number.and_then(|number| self.parts.get_mut(&number)) {
            part.kept += 1;
        }
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
                first_id: None,
                last_id: None,
                outcomes: vec![None; rows],
                unsettled: rows,
                kept: 0,
            }
        });
        part.first_id.get_or_insert(ids.0);
        part.last_id = Some(ids.1);
        part.columns.push(columns);
    }

    /// Settles a row once; a second outcome for it is ignored. Returns its part if that was the
    /// last of the part's rows.
    pub(super) fn settle(&mut self, position: Position, outcome: Outcome) -> Option<SealedPart> {
        let (number, range) = self.locate(position)?;
        let part = self.parts.get_mut(&number)?;
        let offset = usize::try_from(position.0 - range.first.0).ok()?;
        let slot = part.outcomes.get_mut(offset)?;
        if slot.is_some() {
            return None;
        }
        *slot = Some(outcome);
        part.unsettled -= 1;
        if part.unsettled > 0 {
            return None;
        }
        let part = self.parts.remove(&number)?;
        Some(SealedPart {
            number,
            range,
            first_id: part.first_id?,
            last_id: part.last_id?,
            columns: part.columns,
            outcomes: part.outcomes.into_iter().flatten().collect(),
        })
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
    use crate::domain::LabelIndex;

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
        let sealed = open.settle(Position(2), label()).unwrap();
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
        assert_eq!(sealed.outcomes[0], Outcome::Labelled(LabelIndex(1)));
    }
}
