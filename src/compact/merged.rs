//! The rows of finished parts in id order. The parts of one stretch follow each other; stretches
//! that were planned later hold ids between theirs, so the stretches are merged.
//!
//! One part of each stretch is in memory.

use std::collections::VecDeque;

use arrow::array::RecordBatch;

use super::CompactError;
use crate::domain::{Outcome, PartNumber, RowId, Stretch};
use crate::input::row_ids;
use crate::output::{Found, PartError, PartReader};

/// Rows that follow each other in id order.
#[derive(Debug)]
pub(super) struct Run {
    /// The input's columns.
    pub(super) columns: RecordBatch,
    /// The ids, ascending.
    pub(super) ids: Vec<RowId>,
    /// What became of each row.
    pub(super) outcomes: Vec<Outcome>,
}

impl Run {
    /// The first `rows` rows; the others stay.
    pub(super) fn split_to(&mut self, rows: usize) -> Run {
        let rest = self.columns.num_rows() - rows;
        let first = Run {
            columns: self.columns.slice(0, rows),
            ids: self.ids.drain(..rows).collect(),
            outcomes: self.outcomes.drain(..rows).collect(),
        };
        self.columns = self.columns.slice(rows, rest);
        first
    }
}

/// All rows of an output, as runs.
pub(super) struct MergedRows<'a> {
    stretches: Vec<StretchRows<'a>>,
}

/// The rows of one stretch that were not handed on yet.
struct StretchRows<'a> {
    found: &'a Found,
    reader: &'a PartReader,
    id_column: &'a str,
    parts: VecDeque<PartNumber>,
    runs: VecDeque<Run>,
}

impl<'a> MergedRows<'a> {
    /// The rows of every part that `found` tells of.
    pub(super) fn new(
        found: &'a Found,
        reader: &'a PartReader,
        id_column: &'a str,
    ) -> MergedRows<'a> {
        let plan = &found.plan;
        let parts_of = |stretch: &Stretch| {
            let parts = plan.part_numbers();
            let is_of = |part: &PartNumber| {
                plan.range_of(*part).is_some_and(|range| stretch.range.contains(range.first))
            };
            parts.filter(is_of).collect()
        };
        let stretches = plan.stretches().iter().map(|stretch| StretchRows {
            found,
            reader,
            id_column,
            parts: parts_of(stretch),
            runs: VecDeque::new(),
        });
        MergedRows { stretches: stretches.collect() }
    }

    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// If a part can't be read.
    pub(super) fn next(&mut self) -> Result<Option<Run>, CompactError> {
        for stretch in &mut self.stretches {
            stretch.fill()?;
        }
        let heads = self.stretches.iter().enumerate().filter_map(|(at, it)| Some((it.head()?, at)));
        let mut heads: Vec<(RowId, usize)> = heads.map(|(id, at)| (id.clone(), at)).collect();
        heads.sort_unstable();
        let Some((_, first)) = heads.first() else { return Ok(None) };
        let until = heads.get(1).map(|(id, _)| id);
        Ok(self.stretches[*first].take_until(until))
    }
}

impl StretchRows<'_> {
    fn head(&self) -> Option<&RowId> {
        self.runs.front()?.ids.first()
    }

    /// Reads the next part once the one before is used up.
    fn fill(&mut self) -> Result<(), CompactError> {
        while self.runs.is_empty() {
            let Some(part) = self.parts.pop_front() else { return Ok(()) };
            let failed = |source: PartError| CompactError::Part { part, source };
            let contents = self.reader.read(part).map_err(failed)?;
            let record = self.found.records.get(&part);
            if record.is_none_or(|record| record.generation < contents.identity.generation) {
                return Err(failed(PartError::Torn {
                    path: part.file_name(),
                    reason: "a run has replaced it meanwhile".to_owned(),
                }));
            }
            let mut outcomes = contents.outcomes.into_iter();
            let rows: usize = contents.columns.iter().map(RecordBatch::num_rows).sum();
            if rows != outcomes.len() {
                // Some stand in no file, so the others can't be told by their places.
                return Err(failed(PartError::Torn {
                    path: part.file_name(),
                    reason: "not all of its rows stand".to_owned(),
                }));
            }
            for columns in contents.columns {
                let ids = row_ids(&columns, self.id_column)?;
                let outcomes = outcomes.by_ref().take(ids.len()).collect();
                if !ids.is_empty() {
                    self.runs.push_back(Run { columns, ids, outcomes });
                }
            }
        }
        Ok(())
    }

    /// The rows of the front run whose ids are below `until`.
    fn take_until(&mut self, until: Option<&RowId>) -> Option<Run> {
        let front = self.runs.front_mut()?;
        let rows = match until {
            Some(until) => front.ids.partition_point(|id| id < until),
            None => front.ids.len(),
        };
        // Equal heads would stand still otherwise; ids are unique in a sound output.
        let rows = rows.max(1);
        if rows == front.ids.len() { self.runs.pop_front() } else { Some(front.split_to(rows)) }
    }
}
