//! An input against the finished parts: one ordered merge by id and text, nothing of it in memory
//! but what differs. Pure.

use std::collections::BTreeMap;

use super::RunError;
use crate::domain::{PartNumber, Position, PositionRange, RowId, TextHash};
use crate::output::OutputError;

/// Ids that are named of those that are gone.
const NAMED_IDS: usize = 3;

/// A row's text as the model reads it.
#[derive(Debug)]
pub(super) enum Text {
    Blank,
    Words(Box<str>),
    /// What a part knows that leaves the text out.
    Hash(TextHash),
}

impl Text {
    /// A text of the input; `None` is blank.
    pub(super) fn of(text: Option<Box<str>>) -> Text {
        text.map_or(Text::Blank, Text::Words)
    }

    fn is(&self, other: &Text) -> bool {
        match (self, other) {
            (Text::Blank, Text::Blank) => true,
            (Text::Words(a), Text::Words(b)) => a == b,
            (Text::Hash(a), Text::Hash(b)) => a == b,
            (Text::Words(words), Text::Hash(hash)) | (Text::Hash(hash), Text::Words(words)) => {
                TextHash::of(words) == *hash
            }
            (Text::Blank, _) | (_, Text::Blank) => false,
        }
    }
}

/// A row of a finished part.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) part: PartNumber,
    /// Its row in the part, from 0.
    pub(super) offset: usize,
    /// Its place in the plan.
    pub(super) position: Position,
    pub(super) text: Text,
    /// Whether it may be asked again, and its part does not have its text.
    pub(super) needs_text: bool,
}

/// A row of a finished part, and where its text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChangedRow {
    /// Its row in the part, from 0.
    pub(super) offset: usize,
    /// Its place in the input.
    pub(super) place: Position,
}

/// What an input has that the finished parts don't, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The places in the input of the rows that stand in no finished part.
    pub(super) unfinished: Vec<PositionRange>,
    /// Rows with another text, by part, in the part's order.
    pub(super) changed: BTreeMap<PartNumber, Vec<ChangedRow>>,
    /// Rows that kept their text and need it, likewise.
    pub(super) need_text: BTreeMap<PartNumber, Vec<ChangedRow>>,
    /// Finished rows that the input does not have.
    pub(super) vanished: u64,
    /// The ids of the first of them.
    pub(super) first_vanished: Vec<RowId>,
    /// Whether a finished row is at another place in the input than in the plan.
    pub(super) has_moved: bool,
}

impl Changes {
    /// Merges the rows of the `input` and of the `finished` parts, both in id order.
    ///
    /// # Errors
    /// Theirs; also if an id stands twice in the parts, or they are out of order.
    pub(super) fn find(
        input: impl Iterator<Item = Result<(RowId, Text), RunError>>,
        finished: impl Iterator<Item = Result<(RowId, Finished), RunError>>,
    ) -> Result<Changes, RunError> {
        let mut changes = Changes::default();
        let mut finished = InOrder { rows: finished, last: None };
        let mut standing = finished.next()?;
        for (row, place) in input.zip((0..).map(Position)) {
            let (id, text) = row?;
            while let Some((gone, _)) = standing.take_if(|(standing, _)| *standing < id) {
                changes.add_vanished(gone);
                standing = finished.next()?;
            }
            let Some((_, row)) = standing.take_if(|(standing, _)| *standing == id) else {
                changes.add_unfinished(place);
                continue;
            };
            changes.has_moved |= row.position != place;
            let rows = match row.text.is(&text) {
                false => Some(&mut changes.changed),
                true => Some(&mut changes.need_text).filter(|_| row.needs_text),
            };
            if let Some(rows) = rows {
                let rows = rows.entry(row.part).or_default();
                rows.push(ChangedRow { offset: row.offset, place });
            }
            standing = finished.next()?;
        }
        while let Some((gone, _)) = standing {
            changes.add_vanished(gone);
            standing = finished.next()?;
        }
        Ok(changes)
    }

    /// How many rows stand in no finished part.
    pub(super) fn unfinished_rows(&self) -> u64 {
        self.unfinished.iter().map(|range| range.rows).sum()
    }

    /// How many rows have another text.
    pub(super) fn changed_rows(&self) -> u64 {
        self.changed.values().map(|rows| rows.len() as u64).sum()
    }

    /// Whether the input has the finished rows as they are and where they are, and `undone` more.
    pub(super) fn are_none(&self, undone: u64) -> bool {
        self.unfinished_rows() == undone
            && self.changed_rows() == 0
            && self.vanished == 0
            && !self.has_moved
    }

    fn add_unfinished(&mut self, place: Position) {
        match self.unfinished.last_mut() {
            Some(run) if run.end() == place => run.rows += 1,
            _ => self.unfinished.push(PositionRange { first: place, rows: 1 }),
        }
    }

    fn add_vanished(&mut self, id: RowId) {
        self.vanished += 1;
        if self.first_vanished.len() < NAMED_IDS {
            self.first_vanished.push(id);
        }
    }
}

/// Finished rows, held to it that their ids ascend strictly.
struct InOrder<I> {
    rows: I,
    last: Option<RowId>,
}

impl<I: Iterator<Item = Result<(RowId, Finished), RunError>>> InOrder<I> {
    fn next(&mut self) -> Result<Option<(RowId, Finished)>, RunError> {
        let Some((id, row)) = self.rows.next().transpose()? else { return Ok(None) };
        if self.last.as_ref().is_some_and(|last| *last >= id) {
            let path = row.part.file_name();
            let reason = format!("id {id} stands twice in the parts, or out of order");
            return Err(OutputError::Damaged { path, reason }.into());
        }
        self.last = Some(id.clone());
        Ok(Some((id, row)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Text {
        Text::Words(text.into())
    }

    fn input(rows: &[(i128, &str)]) -> Vec<Result<(RowId, Text), RunError>> {
        rows.iter().map(|(id, text)| Ok((RowId::Integer(*id), words(text)))).collect()
    }

    fn finished(rows: &[(i128, u32, &str)]) -> Vec<Result<(RowId, Finished), RunError>> {
        let mut offsets = BTreeMap::new();
        let rows = rows.iter().zip((0..).map(Position)).map(|((id, part, text), position)| {
            let next = offsets.entry(*part).or_insert(0);
            let row = Finished {
                position,
                part: PartNumber(*part),
                offset: *next,
                text: words(text),
                needs_text: text.starts_with("null"),
            };
            *next += 1;
            Ok((RowId::Integer(*id), row))
        });
        rows.collect()
    }

    fn find(new: &[(i128, &str)], old: &[(i128, u32, &str)]) -> Changes {
        Changes::find(input(new).into_iter(), finished(old).into_iter()).unwrap()
    }

    #[test]
    fn equal_rows_are_no_change() {
        let changes = find(&[(1, "a"), (5, "b")], &[(1, 1, "a"), (5, 2, "b")]);
        assert_eq!(changes, Changes::default());
        assert_eq!(find(&[], &[]), Changes::default());
    }

    #[test]
    fn the_same_rows_elsewhere_or_others_among_them_are_a_change() {
        let old = [(1, 1, "a"), (5, 1, "b")];
        let are_none = |new: &[(i128, &str)], undone| find(new, &old).are_none(undone);
        assert!(are_none(&[(1, "a"), (5, "b")], 0));
        assert!(are_none(&[(1, "a"), (5, "b"), (7, "undone")], 1));
        assert!(!are_none(&[(1, "a"), (5, "b"), (7, "new")], 0));
        assert!(!are_none(&[(0, "new"), (1, "a"), (5, "b")], 1), "what stands has moved");
        assert!(!are_none(&[(1, "a"), (5, "c"), (7, "undone")], 1));
        assert!(!are_none(&[(1, "a"), (7, "undone")], 1));
    }

    #[test]
    fn new_rows_changed_texts_and_vanished_ids_are_told_apart() {
        let new = [(0, "new"), (1, "a"), (2, "new"), (3, "new"), (5, "other"), (9, "new")];
        let changes = find(&new, &[(1, 1, "a"), (4, 2, "gone"), (5, 1, "b"), (7, 2, "gone")]);
        let run = |first, rows| PositionRange { first: Position(first), rows };
        assert_eq!(changes.unfinished, [run(0, 1), run(2, 2), run(5, 1)]);
        assert_eq!(changes.changed[&PartNumber(1)], [ChangedRow { offset: 1, place: Position(4) }]);
        assert_eq!((changes.changed_rows(), changes.unfinished_rows()), (1, 4));
        assert_eq!(changes.vanished, 2);
        assert_eq!(changes.first_vanished, [RowId::Integer(4), RowId::Integer(7)]);
    }

    #[test]
    fn a_text_is_known_by_its_hash() {
        let hash = |text| Text::Hash(TextHash::of(text));
        assert!(words("a").is(&hash("a")) && hash("a").is(&words("a")));
        assert!(!words("a").is(&hash("b")) && !Text::Blank.is(&hash("")));
    }

    #[test]
    fn rows_that_need_their_text_are_placed() {
        let changes =
            find(&[(0, "new"), (1, "null a"), (5, "b")], &[(1, 1, "null a"), (5, 1, "b")]);
        assert_eq!(changes.changed_rows(), 0);
        let rows = &changes.need_text[&PartNumber(1)];
        assert_eq!(*rows, [ChangedRow { offset: 0, place: Position(1) }]);
    }

    #[test]
    fn an_id_that_stands_in_two_parts_is_refused() {
        let twice = finished(&[(1, 1, "a"), (1, 2, "a")]);
        let error = Changes::find(input(&[(1, "a")]).into_iter(), twice.into_iter()).unwrap_err();
        assert!(error.to_string().contains("part-000002.parquet"), "{error}");
    }

    proptest! {
        #[test]
        fn every_row_of_the_input_is_unfinished_changed_or_as_it_was(
            old in prop::collection::btree_map(0_i128..60, (1_u32..4, 0_u8..3), 0..40),
            new in prop::collection::btree_map(0_i128..60, 0_u8..3, 0..40),
        ) {
            let texts = ["a", "b", "c"];
            let old_rows: Vec<_> =
                old.iter().map(|(id, (part, text))| (*id, *part, texts[*text as usize])).collect();
            let new_rows: Vec<_> =
                new.iter().map(|(id, text)| (*id, texts[*text as usize])).collect();
            let changes = find(&new_rows, &old_rows);
            let id_at = |place: u64| new_rows[place as usize].0;
            let unfinished: Vec<i128> = changes.unfinished.iter()
                .flat_map(|run| (run.first.0..run.end().0).map(id_at)).collect();
            let expected: Vec<i128> =
                new.keys().filter(|id| !old.contains_key(*id)).copied().collect();
            prop_assert_eq!(unfinished, expected);
            for (part, rows) in &changes.changed {
                let of_part: Vec<_> = old.iter().filter(|(_, (it, _))| *it == part.0).collect();
                for row in rows {
                    let (id, (_, text)) = of_part[row.offset];
                    prop_assert_eq!(id_at(row.place.0), *id);
                    prop_assert!(new[id] != *text);
                }
            }
            let differing = old.iter().filter(|(id, (_, text))| {
                new.get(*id).is_some_and(|now| now != text)
            });
            prop_assert_eq!(changes.changed_rows(), differing.count() as u64);
            let gone = old.keys().filter(|id| !new.contains_key(*id)).count();
            prop_assert_eq!(changes.vanished, gone as u64);
        }
    }
}
