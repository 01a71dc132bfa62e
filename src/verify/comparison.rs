//! The ids of an input against those of the parts: both ascend, so they are merged, one batch of
//! each in memory.
//!
//! Where parts do not stand yet the ids between their neighbours are only counted; of parts that
//! interleave, since the input grew, those of all parts together.

use std::cmp::Ordering;

use super::verdict::{Check, Finding};
use crate::domain::{Position, PositionRange, RowId};
use crate::input::{InputError, InputReader, OrderedInput};
use crate::output::KnownInput;

/// Ids that are named of those that are missing, and of those that are extra.
const NAMED_IDS: usize = 5;

/// The comparison under way.
pub(super) struct Comparison<I> {
    input: I,
    next: Option<RowId>,
    /// Rows that are to be expected between the ids, since no part holds them.
    absent_rows: u64,
    /// Finished rows that the input is known to have lost.
    vanished: u64,
    is_interleaved: bool,
    rows: u64,
    not_done: u64,
    missing: Ids,
    extra: Ids,
    finding: Finding,
}

impl Comparison<InputIds> {
    /// A comparison with the ids of `input`, of parts that were last held against `known`.
    ///
    /// # Errors
    /// If the input can't be read.
    pub(super) fn with(input: &OrderedInput, known: &KnownInput) -> Result<Self, InputError> {
        let all = PositionRange { first: Position(0), rows: input.rows() };
        let ids = InputIds { chunks: input.read(vec![all])?, batch: Vec::new().into_iter() };
        let (vanished, is_interleaved) = (known.revision.vanished, known.is_later());
        Ok(Comparison { vanished, is_interleaved, ..Comparison::new(ids)? })
    }
}

impl<I: Iterator<Item = Result<RowId, InputError>>> Comparison<I> {
    fn new(mut input: I) -> Result<Self, InputError> {
        let next = input.next().transpose()?;
        let rows = u64::from(next.is_some());
        Ok(Comparison {
            input,
            next,
            absent_rows: 0,
            vanished: 0,
            is_interleaved: false,
            rows,
            not_done: 0,
            missing: Ids::default(),
            extra: Ids::default(),
            finding: Finding::new("input"),
        })
    }

    /// The next `rows` rows stand in no part that can be read.
    pub(super) fn absent(&mut self, rows: u64) {
        self.absent_rows += rows;
    }

    /// The next row of the parts has this id.
    ///
    /// # Errors
    /// If the input can't be read.
    pub(super) fn stands(&mut self, id: &RowId) -> Result<(), InputError> {
        if self.absent_rows > 0 && !self.is_interleaved {
            self.pass_absent(Some(id))?;
        }
        loop {
            let ordering = self.next.as_ref().map_or(Ordering::Greater, |next| next.cmp(id));
            match ordering {
                Ordering::Less => {
                    self.missing.extend(self.next.take());
                    self.advance()?;
                }
                Ordering::Equal => return self.advance(),
                Ordering::Greater => {
                    self.extra.add(id.clone());
                    return Ok(());
                }
            }
        }
    }

    /// The check, after the last id of the parts. `is_in_order` says whether those ascended, without
    /// which nothing can be said of them.
    ///
    /// # Errors
    /// If the input can't be read.
    pub(super) fn end(mut self, is_in_order: bool) -> Result<Check, InputError> {
        if !is_in_order {
            self.finding.fail("the ids of the parts are out of order, so they can't be compared");
            return Ok(self.finding.check("not compared"));
        }
        if self.absent_rows > 0 && !self.is_interleaved {
            self.pass_absent(None)?;
        }
        while let Some(id) = self.next.take() {
            self.missing.add(id);
            self.advance()?;
        }
        if self.is_interleaved {
            self.settle_absent();
        }
        let has_only_known = self.extra.count == self.vanished;
        if has_only_known {
            self.extra = Ids::default();
        }
        for (ids, what) in [
            (&self.missing, "of the input stand in no part"),
            (&self.extra, "of the parts are not in the input, or stand in the parts before"),
        ] {
            if ids.count > 0 {
                self.finding.fail(format!("{} ids {what}: {}", ids.count, ids.named()));
            }
        }
        if self.not_done > 0 {
            self.finding.not_done(format!("{} rows of the input are not done yet", self.not_done));
        }
        let mut detail = format!(
            "{} ids in the input, {} of them missing, {} extra in the parts",
            self.rows, self.missing.count, self.extra.count
        );
        if has_only_known && self.vanished > 0 {
            let vanished = format!(", where {} stand that the input had before", self.vanished);
            detail.push_str(&vanished);
        }
        Ok(self.finding.check(detail))
    }

    /// Counts the ids before `until`, which no part holds, against the rows that were expected.
    fn pass_absent(&mut self, until: Option<&RowId>) -> Result<(), InputError> {
        let expected = std::mem::take(&mut self.absent_rows);
        let mut found = 0;
        while self.next.as_ref().is_some_and(|next| until.is_none_or(|until| next < until)) {
            found += 1;
            self.advance()?;
        }
        self.not_done += found;
        if found != expected {
            let place = until.map_or_else(|| "the end".to_owned(), |id| format!("id {id}"));
            self.finding.fail(format!(
                "before {place} the input has {found} rows that are in no part, where {expected} \
                 are planned"
            ));
        }
        Ok(())
    }

    /// Holds the ids that stand in no part against the rows that were expected, all together.
    fn settle_absent(&mut self) {
        let (found, expected) = (self.missing.count, std::mem::take(&mut self.absent_rows));
        if expected == 0 {
            return;
        }
        self.missing = Ids::default();
        self.not_done += found;
        if found != expected {
            self.finding.fail(format!(
                "the input has {found} rows that are in no part, where {expected} are planned"
            ));
        }
    }

    fn advance(&mut self) -> Result<(), InputError> {
        self.next = self.input.next().transpose()?;
        self.rows += u64::from(self.next.is_some());
        Ok(())
    }
}

/// Ids, of which the first few are kept.
#[derive(Debug, Default)]
struct Ids {
    count: u64,
    first: Vec<RowId>,
}

impl Ids {
    fn add(&mut self, id: RowId) {
        self.count += 1;
        if self.first.len() < NAMED_IDS {
            self.first.push(id);
        }
    }

    fn extend(&mut self, id: Option<RowId>) {
        if let Some(id) = id {
            self.add(id);
        }
    }

    fn named(&self) -> String {
        let mut names: Vec<String> = self.first.iter().map(RowId::to_string).collect();
        if self.count > self.first.len() as u64 {
            names.push("...".to_owned());
        }
        names.join(", ")
    }
}

/// The ids of an input, in order.
pub(super) struct InputIds {
    chunks: InputReader,
    batch: std::vec::IntoIter<RowId>,
}

impl Iterator for InputIds {
    type Item = Result<RowId, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(id) = self.batch.next() {
                return Some(Ok(id));
            }
            match self.chunks.next()? {
                Ok(chunk) => {
                    let ids: Vec<RowId> = chunk.rows.into_iter().map(|row| row.id).collect();
                    self.batch = ids.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::State;
    use super::*;

    /// The check of an input with these ids; `None` among the parts is a row that stands in none.
    fn compared(input: &[i128], parts: &[Option<i128>]) -> Check {
        let ids = input.iter().map(|id| Ok(RowId::Integer(*id)));
        let mut comparison = Comparison::new(ids).unwrap();
        for id in parts {
            match id {
                Some(id) => comparison.stands(&RowId::Integer(*id)).unwrap(),
                None => comparison.absent(1),
            }
        }
        comparison.end(true).unwrap()
    }

    #[test]
    fn equal_ids_hold() {
        let check = compared(&[1, 5, 7], &[Some(1), Some(5), Some(7)]);
        assert_eq!(check.state, State::Ok);
        assert_eq!(check.detail, "3 ids in the input, 0 of them missing, 0 extra in the parts");
        assert_eq!(compared(&[], &[]).state, State::Ok);
    }

    #[test]
    fn missing_and_extra_ids_are_counted_and_the_first_five_named() {
        let parts = [Some(0), Some(1), Some(9), Some(11)];
        let check = compared(&[1, 2, 3, 4, 5, 6, 7, 9, 10], &parts);
        assert_eq!(check.state, State::Failed);
        assert_eq!(
            check.problems,
            [
                "7 ids of the input stand in no part: 2, 3, 4, 5, 6, ...",
                "2 ids of the parts are not in the input, or stand in the parts before: 0, 11"
            ]
        );
    }

    #[test]
    fn rows_that_are_planned_and_absent_are_not_done_and_not_missing() {
        let check = compared(&[1, 2, 3, 4, 5], &[Some(1), None, None, Some(4), None]);
        assert_eq!(check.state, State::NotDone);
        assert_eq!(check.problems, ["3 rows of the input are not done yet"]);
    }

    #[test]
    fn another_number_of_absent_rows_than_planned_is_an_error() {
        let check = compared(&[1, 2, 4], &[Some(1), None, None, Some(4)]);
        assert_eq!(check.state, State::Failed);
        assert!(check.problems[0].starts_with("before id 4 the input has 1 rows"), "{check:?}");
        assert_eq!(compared(&[1, 2, 3], &[Some(1), None]).state, State::Failed);
    }
    /// The check of parts that interleave, of which `vanished` rows are known to be gone.
    fn interleaved(input: &[i128], parts: &[i128], absent: u64, vanished: u64) -> Check {
        let ids = input.iter().map(|id| Ok(RowId::Integer(*id)));
        let comparison = Comparison::new(ids).unwrap();
        let mut comparison = Comparison { is_interleaved: true, vanished, ..comparison };
        comparison.absent(absent);
        for id in parts {
            comparison.stands(&RowId::Integer(*id)).unwrap();
        }
        comparison.end(true).unwrap()
    }

    #[test]
    fn of_interleaved_parts_all_rows_that_are_absent_count_together() {
        assert_eq!(interleaved(&[1, 2, 3, 4], &[1, 3], 2, 0).state, State::NotDone);
        assert_eq!(interleaved(&[1, 2, 3, 4], &[1, 3], 1, 0).state, State::Failed);
        let check = interleaved(&[1, 2, 3, 4], &[1, 3, 4], 0, 0);
        assert_eq!(check.problems, ["1 ids of the input stand in no part: 2"]);
    }

    #[test]
    fn rows_that_are_known_to_be_gone_are_no_error_and_others_are() {
        let check = interleaved(&[1, 3], &[1, 2, 3], 0, 1);
        assert_eq!(check.state, State::Ok);
        assert!(check.detail.ends_with("where 1 stand that the input had before"), "{check:?}");
        assert_eq!(interleaved(&[1], &[1, 2, 3], 0, 1).state, State::Failed);
    }
}
