//! Which rows of a part's range stand in one of its files, and which stand in none yet.
//!
//! Rows are named by their offset from the range's first. Runs ascend and never touch, so equal
//! sets of rows are equal values. Pure.

use serde::{Deserialize, Serialize};

use super::part_identity::UnlabelledRows;
use crate::domain::{Attempts, Outcome, Reason};

/// Rows of a range, as `[offset, rows]` runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowRuns(Vec<(u64, u64)>);

impl RowRuns {
    /// The rows for which `mask` is true.
    pub(super) fn of_mask(mask: &[bool]) -> RowRuns {
        let mut offset = 0;
        let mut runs = Vec::new();
        for run in mask.chunk_by(|a, b| a == b) {
            let rows = run.len() as u64;
            if run[0] {
                runs.push((offset, rows));
            }
            offset += rows;
        }
        RowRuns(runs)
    }

    /// All rows of a range of `rows` rows.
    pub(super) fn all(rows: u64) -> RowRuns {
        RowRuns((rows > 0).then_some((0, rows)).into_iter().collect())
    }

    /// These rows of a range of `rows` rows, and `more`; `None` is the whole range.
    pub(super) fn and(&self, more: Option<&RowRuns>, rows: u64) -> RowRuns {
        let Some(more) = more else { return RowRuns::all(rows) };
        let mut both = Composition::new(rows);
        for offset in self.offsets().chain(more.offsets()) {
            both.put(offset, ());
        }
        both.held()
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, rows)| sum.saturating_add(*rows))
    }

    /// Whether these are rows of a range of `rows` rows, each of them once and in order.
    pub(super) fn fit(&self, rows: u64) -> bool {
        fit(self.0.iter().copied(), rows)
    }

    /// Their offsets, ascending.
    pub fn offsets(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(offset, rows)| *offset..offset.saturating_add(*rows))
    }
}

/// Rows without a label that stand in no file yet, as `[offset, rows, reason, attempts]` runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Holes(Vec<(u64, u64, Reason, Attempts)>);

impl Holes {
    /// These rows, by ascending offsets.
    pub(super) fn of(rows: impl IntoIterator<Item = (u64, Reason, Attempts)>) -> Holes {
        let mut runs: Vec<(u64, u64, Reason, Attempts)> = Vec::new();
        for (offset, reason, attempts) in rows {
            match runs.last_mut() {
                Some((first, rows, of_reason, of_attempts))
                    if *first + *rows == offset
                        && (*of_reason, *of_attempts) == (reason, attempts) =>
                {
                    *rows += 1;
                }
                _ => runs.push((offset, 1, reason, attempts)),
            }
        }
        Holes(runs)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, rows, ..)| sum.saturating_add(*rows))
    }

    /// Whether these are rows of a range of `rows` rows, each of them once and in order.
    pub(super) fn fit(&self, rows: u64) -> bool {
        fit(self.0.iter().map(|(offset, rows, ..)| (*offset, *rows)), rows)
    }

    /// Offset, reason and attempts of each row, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Reason, Attempts)> {
        self.0.iter().flat_map(|(offset, rows, reason, attempts)| {
            (*offset..offset.saturating_add(*rows)).map(|at| (at, *reason, *attempts))
        })
    }

    /// What became of each row, ascending.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        let each = self.iter();
        each.map(|(_, reason, attempts)| Outcome::Unlabelled { reason, attempts }).collect()
    }

    /// Their number by reason and attempts.
    pub fn counts(&self) -> Vec<UnlabelledRows> {
        UnlabelledRows::count(&self.outcomes())
    }
}

fn fit(runs: impl Iterator<Item = (u64, u64)>, rows: u64) -> bool {
    let mut end = 0;
    for (offset, run) in runs {
        let Some(next) = offset.checked_add(run) else { return false };
        if offset < end || run == 0 || next > rows {
            return false;
        }
        end = next;
    }
    true
}

/// Puts the files of one part together: every row of its range stands in one of them, is known to
/// have no label, or is lost.
#[derive(Clone, Debug)]
pub(super) struct Composition<T> {
    rows: Vec<Option<T>>,
}

impl<T> Composition<T> {
    /// Nothing yet of a range of `rows` rows.
    pub(super) fn new(rows: u64) -> Composition<T> {
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        Composition { rows: std::iter::repeat_with(|| None).take(rows).collect() }
    }

    /// Puts `row` at `offset`; the row that stood there before, if one did.
    pub(super) fn put(&mut self, offset: u64, row: T) -> Option<T> {
        let slot = usize::try_from(offset).ok().and_then(|at| self.rows.get_mut(at));
        slot.and_then(|slot| slot.replace(row))
    }

    /// Every row, in order.
    pub(super) fn into_rows(self) -> Vec<Option<T>> {
        self.rows
    }

    /// The rows that no file holds: as `known` has them or, where it says nothing of one, as rows
    /// that were never asked, since what held them is gone.
    pub(super) fn holes(&self, known: &Holes) -> Holes {
        let mut known = known.iter().peekable();
        let empty = self.rows.iter().zip(0..).filter(|(row, _)| row.is_none());
        Holes::of(empty.map(|(_, offset)| {
            while known.next_if(|(at, ..)| *at < offset).is_some() {}
            let told = known.next_if(|(at, ..)| *at == offset);
            told.unwrap_or((offset, Reason::Missing, 0))
        }))
    }

    /// The rows that stand.
    pub(super) fn held(&self) -> RowRuns {
        RowRuns::of_mask(&self.rows.iter().map(Option::is_some).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_rows_of_their_mask() {
        let mask = [true, true, false, true, false, false, true];
        let runs = RowRuns::of_mask(&mask);
        assert_eq!(runs.0, [(0, 2), (3, 1), (6, 1)]);
        assert_eq!(runs.offsets().collect::<Vec<_>>(), [0, 1, 3, 6]);
        assert_eq!(runs.rows(), 4);
        assert_eq!(serde_json::to_string(&runs).unwrap(), "[[0,2],[3,1],[6,1]]");
        assert!(runs.fit(7) && !runs.fit(6));
    }

    #[test]
    fn runs_that_overlap_or_overflow_fit_nowhere() {
        for runs in [vec![(0, 2), (1, 1)], vec![(3, 1), (0, 1)], vec![(0, 0)], vec![(u64::MAX, 2)]]
        {
            assert!(!RowRuns(runs.clone()).fit(10), "{runs:?}");
        }
    }

    #[test]
    fn holes_keep_reason_and_attempts_of_each_row() {
        let rows = [(1, Reason::Missing, 3), (2, Reason::Missing, 3), (5, Reason::NoText, 0)];
        let holes = Holes::of(rows);
        assert_eq!(
            serde_json::to_string(&holes).unwrap(),
            r#"[[1,2,"missing",3],[5,1,"no_text",0]]"#
        );
        assert_eq!(holes.iter().collect::<Vec<_>>(), rows);
        assert_eq!((holes.rows(), holes.counts().len()), (3, 2));
    }

    #[test]
    fn a_row_that_nobody_tells_of_counts_as_never_asked() {
        let mut whole = Composition::new(4);
        assert_eq!(whole.put(0, 'a'), None);
        assert_eq!(whole.put(0, 'b'), Some('a'));
        assert_eq!(whole.put(9, 'c'), None);
        let known = Holes::of([(0, Reason::Unsure, 1), (2, Reason::Refused, 2)]);
        let holes: Vec<_> = whole.holes(&known).iter().collect();
        assert_eq!(
            holes,
            [(1, Reason::Missing, 0), (2, Reason::Refused, 2), (3, Reason::Missing, 0)]
        );
        assert_eq!(whole.held(), RowRuns::of_mask(&[true, false, false, false]));
    }
}
