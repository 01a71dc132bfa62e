//! The proof that ids are never null and unique, and the order that they give the rows.
//!
//! One pass over the id column alone. While ids ascend nothing is kept of them; an input out of
//! order has its ids sorted in memory, within the bound that the user allows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, make_comparator};
use arrow::compute::{SortOptions, cast, concat, sort_to_indices};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::InputError;
use super::table::Columns;
use super::tables::Tables;
use crate::domain::guard::without_panic;
use crate::domain::spec::OnDuplicateId;
use crate::domain::{Position, PositionRange};

/// What sorting takes for each row besides the row itself, bytes: its id and number while they are
/// sorted, and its place afterwards.
const SORT_BYTES_PER_ROW: u64 = 24;

/// Which input row (from 0, files in name order) stands at a position.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// The rows as they stand in the input.
    Input {
        /// For each dropped row, ascending: its number less the rows dropped before it.
        dropped: Arc<[u64]>,
    },
    /// The input row of each position.
    Sorted(Arc<[u32]>),
}

impl Order {
    /// The order of an input that is taken as it stands.
    pub(super) fn of_input() -> Order {
        Order::Input { dropped: Arc::new([]) }
    }

    /// Reads the ids, the column at `id`, and proves them sound.
    ///
    /// # Errors
    /// If an id is null or, unless repeated ones are dropped, stands twice; if sorting would take
    /// more than `sort_memory` bytes; if the column can't be read.
    pub(super) fn learn(
        tables: &Arc<Tables>,
        id: usize,
        on_duplicate: OnDuplicateId,
        sort_memory: u64,
    ) -> Result<Order, InputError> {
        if let Some(dropped) = scan(tables, id, on_duplicate)? {
            return Ok(Order::Input { dropped: dropped.into() });
        }
        let rows = tables.rows();
        let need = tables.bytes_in_memory() + rows * SORT_BYTES_PER_ROW;
        if need > sort_memory || u32::try_from(rows).is_err() {
            return Err(sort_memory_error(need, sort_memory));
        }
        sort(tables, id, on_duplicate).map(|order| Order::Sorted(order.into()))
    }

    /// Rows that have a position.
    pub(super) fn rows(&self, input_rows: u64) -> u64 {
        match self {
            Order::Input { dropped } => input_rows - dropped.len() as u64,
            Order::Sorted(order) => order.len() as u64,
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

pub(super) fn sort_memory_error(need: u64, bound: u64) -> InputError {
    InputError::SortMemory { need_mib: need.div_ceil(1 << 20), bound_mib: bound >> 20 }
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

/// The input rows in id order; of equal ids the first in the input.
fn sort(
    tables: &Arc<Tables>,
    id: usize,
    on_duplicate: OnDuplicateId,
) -> Result<Vec<u32>, InputError> {
    let mut batches = Vec::new();
    let mut first_row = 0;
    for batch in tables.read_all(Columns::Only(id)) {
        let ids = batch?.column(0).clone();
        check_nulls(tables, &ids, first_row)?;
        first_row += ids.len() as u64;
        batches.push(wide(ids).map_err(|source| bad_id(tables, id, source))?);
    }
    let sorted = without_panic(|| {
        let ids = concat(&batches.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        drop(batches);
        let order = sort_to_indices(&ids, None, None)?.values().to_vec();
        Ok((make_comparator(&ids, &ids, SortOptions::default())?, order))
    });
    let sorted = sorted.unwrap_or_else(|| {
        Err(ArrowError::ComputeError("the ids are too long to be sorted".to_owned()))
    });
    let (compare, mut order) = sorted.map_err(|source| bad_id(tables, id, source))?;

    // The kernel leaves equal ids in any order. Kept rows move up over the dropped ones.
    let (mut kept, mut at) = (0, 0);
    while at < order.len() {
        let run = order[at..].iter();
        let run = run.take_while(|row| compare(order[at] as usize, **row as usize).is_eq()).count();
        let equals = &mut order[at..at + run];
        if run > 1 {
            equals.sort_unstable();
            if on_duplicate == OnDuplicateId::Error {
                return Err(duplicate(tables, equals[0].into(), equals[1].into()));
            }
        }
        order[kept] = order[at];
        kept += 1;
        at += run;
    }
    order.truncate(kept);
    Ok(order)
}

/// Strings with offsets that no input overflows; integers as they are.
fn wide(ids: ArrayRef) -> Result<ArrayRef, ArrowError> {
    match ids.data_type() {
        DataType::Utf8 | DataType::Utf8View => cast(&ids, &DataType::LargeUtf8),
        _ => Ok(ids),
    }
}

fn check_nulls(tables: &Tables, ids: &ArrayRef, first_row: u64) -> Result<(), InputError> {
    match (0..ids.len()).find(|&at| ids.is_null(at)).filter(|_| ids.null_count() > 0) {
        Some(at) => Err(InputError::NullId { row: tables.place_of(first_row + at as u64) }),
        None => Ok(()),
    }
}

fn duplicate(tables: &Tables, first: u64, second: u64) -> InputError {
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
