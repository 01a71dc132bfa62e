//! The place of one part in the plan: the rows of its files, each where it belongs.

use std::collections::BTreeSet;

use super::rows::RowTally;
use crate::domain::{PartNumber, PositionRange, RowId};
use crate::output::{Evidence, Generation, Layout, PartIdentity};

/// The generations of a part that have a file of their own, so far as anything tells of them.
pub(super) fn generations(
    evidence: &Evidence,
    number: PartNumber,
    listed: &BTreeSet<(PartNumber, Generation)>,
) -> BTreeSet<Generation> {
    let listed = listed.range((number, 0)..=(number, Generation::MAX));
    let mut generations: BTreeSet<_> = listed.map(|(_, generation)| *generation).collect();
    match (evidence.job.layout, evidence.manifest.records.get(&number)) {
        (Layout::Replace, Some(_)) => {
            generations.insert(1);
        }
        (Layout::Append, Some(records)) => generations.extend(records.keys()),
        (_, None) => {}
    }
    generations
}

/// What was read of one part.
pub(super) struct Place {
    pub(super) number: PartNumber,
    pub(super) planned: PositionRange,
    /// The planned rows, in order; `None` stands in no file that can be read.
    pub(super) rows: Vec<Option<PlacedRow>>,
    /// The rows of all files.
    pub(super) tally: RowTally,
    /// The footer of the last file.
    pub(super) newest: Option<PartIdentity>,
    /// The files that were read, by name.
    pub(super) files: Vec<String>,
    /// Recorded files that are gone, by name.
    pub(super) gone: Vec<String>,
    /// Whether each file gave all its rows.
    pub(super) is_sound: bool,
}

/// A row as a file has it.
pub(super) struct PlacedRow {
    pub(super) id: RowId,
    /// Which of the files.
    pub(super) file: usize,
    /// Its number in the file, from 1.
    pub(super) row: u64,
}

impl Place {
    /// Nothing read yet.
    pub(super) fn new(number: PartNumber, planned: PositionRange) -> Place {
        Place {
            number,
            planned,
            rows: (0..planned.rows).map(|_| None).collect(),
            tally: RowTally::default(),
            newest: None,
            files: Vec::new(),
            gone: Vec::new(),
            is_sound: true,
        }
    }

    /// Puts a row in its place; returns the one that another file has there already.
    pub(super) fn put(&mut self, offset: u64, row: PlacedRow) -> Option<PlacedRow> {
        let slot = usize::try_from(offset).ok().and_then(|at| self.rows.get_mut(at))?;
        slot.replace(row)
    }

    /// Planned rows that stand in no file.
    pub(super) fn absent_rows(&self) -> u64 {
        self.rows.iter().filter(|row| row.is_none()).count() as u64
    }

    /// The first id of each file, with its name.
    pub(super) fn first_ids(&self) -> impl Iterator<Item = (RowId, String)> {
        self.files.iter().enumerate().filter_map(|(at, name)| {
            let first = self.rows.iter().flatten().find(|row| row.file == at)?;
            Some((first.id.clone(), name.clone()))
        })
    }

    /// The ids of the range's first and last row, so far as they stand.
    pub(super) fn ends(&self) -> (Option<&RowId>, Option<&RowId>) {
        let ends = [self.rows.first(), self.rows.last()];
        let [first, last] = ends.map(|row| row.and_then(Option::as_ref));
        (first.map(|row| &row.id), last.map(|row| &row.id))
    }
}
