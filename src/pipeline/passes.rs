//! The parts that a run writes, as passes over the input: within a pass the wanted rows ascend, so
//! that it is streamed. Pure.
//!
//! An input that never changed takes one pass. Parts of a grown one interleave; each stretch whose
//! rows lie before those of the one before it begins another pass.

use super::work::{FromInput, Work};
use crate::domain::{PartNumber, Position, PositionRange};

/// One way through the input, from its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// Places in the input, ascending and disjoint.
    pub(super) wanted: Vec<PositionRange>,
    /// What they are wanted for, in the same order.
    pub(super) parts: Vec<Task>,
}

/// A part to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// All its rows come from the input.
    Fill(PositionRange),
    /// It stands, and gives its own rows but for those whose text changed, or that are to be asked
    /// and whose text it does not have.
    Reopen {
        /// Which part.
        part: PartNumber,
        /// Its positions.
        range: PositionRange,
        /// The rows that come from the input.
        rows: Vec<FromInput>,
    },
    /// What became of its rows is known; all are read from the input, where each is at its position:
    /// nothing that interleaves stands where parts have holes.
    Refill {
        /// Which part.
        part: PartNumber,
        /// Its positions.
        range: PositionRange,
    },
}

/// The passes in which everything of `work` is read.
pub(super) fn passes(work: &Work) -> Vec<Pass> {
    let mut passes: Vec<Pass> = Vec::new();
    let mut unfinished = work.unfinished().map(|ranges| Ranges { ranges, at: 0, used: 0 });
    for (part, range) in work.parts() {
        let (task, wanted) = if work.is_holed(part) {
            (Task::Refill { part, range }, vec![range])
        } else if work.is_reopened(part) {
            let rows = work.rows_from_input(part);
            let mut wanted = Vec::new();
            for from in &rows {
                push(&mut wanted, PositionRange { first: from.row.place, rows: 1 });
            }
            (Task::Reopen { part, range, rows }, wanted)
        } else {
            let wanted = match &mut unfinished {
                Some(unfinished) => unfinished.take(range.rows),
                None => vec![range],
            };
            (Task::Fill(range), wanted)
        };
        let begins = wanted.first().map(|first| first.first);
        let goes_on = passes.last().is_some_and(|pass| {
            let ends = pass.wanted.last().map(PositionRange::end);
            begins.is_none_or(|begins| ends.is_none_or(|ends| ends <= begins))
        });
        if !goes_on {
            passes.push(Pass::default());
        }
        if let Some(pass) = passes.last_mut() {
            wanted.into_iter().for_each(|range| push(&mut pass.wanted, range));
            pass.parts.push(task);
        }
    }
    passes
}

/// Adds a range that follows; neighbours are one.
fn push(ranges: &mut Vec<PositionRange>, range: PositionRange) {
    match ranges.last_mut() {
        Some(last) if last.end() == range.first => last.rows += range.rows,
        _ => ranges.push(range),
    }
}

/// Ranges that are used up from the front.
struct Ranges<'a> {
    ranges: &'a [PositionRange],
    at: usize,
    used: u64,
}

impl Ranges<'_> {
    /// The next `rows` of them, or what is left.
    fn take(&mut self, mut rows: u64) -> Vec<PositionRange> {
        let mut taken = Vec::new();
        while let Some(range) = self.ranges.get(self.at).filter(|_| rows > 0) {
            let some = rows.min(range.rows - self.used);
            let first = Position(range.first.0 + self.used);
            taken.push(PositionRange { first, rows: some });
            rows -= some;
            self.used += some;
            if self.used == range.rows {
                (self.at, self.used) = (self.at + 1, 0);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::{ChangedRow, Changes};
    use super::super::work::tests::{parts, work};
    use super::*;

    fn range(first: u64, rows: u64) -> PositionRange {
        PositionRange { first: Position(first), rows }
    }

    #[test]
    fn parts_of_an_input_that_never_changed_are_one_pass_at_their_own_places() {
        let passes = passes(&work(25, &[2], None));
        assert_eq!(passes.len(), 1);
        assert_eq!(passes[0].wanted, [range(0, 10), range(20, 5)]);
        assert_eq!(passes[0].parts, [Task::Fill(range(0, 10)), Task::Fill(range(20, 5))]);
    }

    #[test]
    fn scattered_rows_fill_the_parts_that_do_not_stand_in_order() {
        let unfinished = vec![range(3, 4), range(40, 8), range(90, 3)];
        let changes = Changes { unfinished, ..Changes::default() };
        let passes = passes(&work(25, &[1], Some(changes)));
        assert_eq!(passes.len(), 1);
        assert_eq!(passes[0].wanted, [range(3, 4), range(40, 8), range(90, 3)]);
        assert_eq!(passes[0].parts, [Task::Fill(range(10, 10)), Task::Fill(range(20, 5))]);
    }

    #[test]
    fn a_changed_row_that_lies_before_what_was_read_begins_another_pass() {
        let row = |offset, place| ChangedRow { offset, place: Position(place) };
        let mut changes = Changes { unfinished: vec![range(30, 5)], ..Changes::default() };
        changes.changed.insert(PartNumber(1), vec![row(2, 20), row(3, 21)]);
        changes.changed.insert(PartNumber(2), vec![row(0, 7)]);
        let passes = passes(&work(25, &[1, 2], Some(changes)));
        let wanted: Vec<_> = passes.iter().map(|pass| pass.wanted.clone()).collect();
        assert_eq!(wanted, [vec![range(20, 2)], vec![range(7, 1), range(30, 5)]]);
        assert_eq!(parts(&passes), [1, 2, 3]);
    }
}
