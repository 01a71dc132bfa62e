//! The order of an input's rows, and the proof that their ids are never null and unique.
//!
//! One pass over the id column alone. While ids ascend nothing is kept of them; where they don't,
//! they are sorted by themselves.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, make_comparator};
use arrow::compute::SortOptions;
use arrow::error::ArrowError;

use super::InputError;
use super::sorter::Sorter;
use super::table::Columns;
use super::tables::Tables;
use crate::domain::spec::{InputSpec, OnDuplicateId};
use crate::domain::{Position, PositionRange};

/// How the rows that have a position come by it.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// The rows as they stand in the input.
    Input {
        /// For each dropped row, ascending: its number less the rows dropped before it.
        dropped: Arc<[u64]>,
    },
    /// The rows have to be sorted by their ids.
    Sorted {
        /// How many there are, dropped ones not counted.
        rows: u64,
    },
}

impl Order {
    /// The order of an input that is taken as it stands.
    pub(super) fn of_input() -> Order {
        Order::Input { dropped: Arc::new([]) }
    }

    /// Reads the ids, the column at `id`, and proves them sound.
    ///
    /// # Errors
    /// If an id is null or, unless repeated ones are dropped, stands twice; if the column can't be
    /// read, or the temporary folder not be written.
    pub(super) fn learn(
        tables: &Arc<Tables>,
        id: usize,
        spec: &InputSpec,
    ) -> Result<Order, InputError> {
        if let Some(dropped) = scan(tables, id, spec.on_duplicate_id)? {
            return Ok(Order::Input { dropped: dropped.into() });
        }
        let dropped = Sorter::new(tables, id, spec).prove()?;
        Ok(Order::Sorted { rows: tables.rows() - dropped })
    }

    /// Rows that have a position.
    pub(super) fn rows(&self, input_rows: u64) -> u64 {
        match self {
            Order::Input { dropped } => input_rows - dropped.len() as u64,
            Order::Sorted { rows } => *rows,
        }
    }
}

/// The input rows at the positions of `ranges`, dropped rows left out, as ascending ranges.
pub(super) fn input_rows(dropped: &[u64], ranges: &[PositionRange]) -> Vec<Range<u64>> {
    let mut rows = Vec::with_capacity(ranges.len());
    for range in ranges {
        let Position(mut first) = range.first;
        let Position(end) = range.end();
        let mut before = dropped.partition_point(|&row| row <= first);
        while first < end {
            let next = dropped.get(before).copied().unwrap_or(u64::MAX);
            let stop = end.min(next);
            rows.push(first + before as u64..stop + before as u64);
            first = stop;
            before += dropped[before..].partition_point(|&row| row <= first);
        }
    }
    rows
}

/// The dropped rows, as [`Order::Input`] keeps them; `None` at the first id that is less than its
/// predecessor.
fn scan(
    tables: &Arc<Tables>,
    id: usize,
    on_duplicate: OnDuplicateId,
) -> Result<Option<Vec<u64>>, InputError> {
    let bad = |source| bad_id(tables, id, source);
    let mut dropped = Vec::new();
    let mut last: Option<ArrayRef> = None;
    let mut first_row = 0_u64;
    for batch in tables.read_all(Columns::Only(id)) {
        let ids = batch?.column(0).clone();
        check_nulls(tables, &ids, first_row)?;
        let within = make_comparator(&ids, &ids, SortOptions::default()).map_err(bad)?;
        let across = match &last {
            Some(last) => Some(make_comparator(last, &ids, SortOptions::default()).map_err(bad)?),
            None => None,
        };
        for at in 0..ids.len() {
            let ordering = match (at.checked_sub(1), &across) {
                (Some(before), _) => within(before, at),
                (None, Some(across)) => across(0, at),
                (None, None) => continue,
            };
            let row = first_row + at as u64;
            match ordering {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Greater => return Ok(None),
                std::cmp::Ordering::Equal => match on_duplicate {
                    OnDuplicateId::Error => return Err(duplicate(tables, row - 1, row)),
                    OnDuplicateId::First => dropped.push(row - dropped.len() as u64),
                },
            }
        }
        first_row += ids.len() as u64;
        last = ids.len().checked_sub(1).map(|at| ids.slice(at, 1)).or(last);
    }
    Ok(Some(dropped))
}

/// Fails if one of `ids`, of which the first is that of row `first_row`, is null.
pub(super) fn check_nulls(
    tables: &Tables,
    ids: &ArrayRef,
    first_row: u64,
) -> Result<(), InputError> {
    // Those of a dictionary too, which are null by their values.
    let nulls = ids.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    match nulls.and_then(|nulls| (0..ids.len()).find(|&at| nulls.is_null(at))) {
        Some(at) => Err(InputError::NullId { row: tables.place_of(first_row + at as u64) }),
        None => Ok(()),
    }
}

/// The error that names two rows with one id.
pub(super) fn duplicate(tables: &Tables, first: u64, second: u64) -> InputError {
    InputError::DuplicateId { first: tables.place_of(first), second: tables.place_of(second) }
}

fn bad_id(tables: &Tables, id: usize, source: ArrowError) -> InputError {
    InputError::BadValue { column: tables.schema().field(id).name().clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_skip_dropped_rows() {
        // Of ten rows, 0, 3, 4 and 9 are dropped: left are 1 2 5 6 7 8.
        let dropped = [0, 2, 2, 6];
        let kept = |first, rows| {
            let range = PositionRange { first: Position(first), rows };
            input_rows(&dropped, &[range]).into_iter().flatten().collect::<Vec<_>>()
        };
        assert_eq!(kept(0, 6), [1, 2, 5, 6, 7, 8]);
        assert_eq!(kept(1, 2), [2, 5]);
        assert_eq!(kept(2, 1), [5]);
        assert_eq!(kept(5, 1), [8]);
        assert_eq!(kept(3, 0), Vec::<u64>::new());
    }
}
