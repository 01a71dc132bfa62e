//! What earlier runs left in the journal: answers that were paid for and stand in no part yet.
//!
//! An answer counts for the row and the text that it was given to: by position, or by id where the
//! position was released because the input had changed.

use std::collections::HashMap;

use super::settlement::{Nothing, is_prose, nothing_answered};
use crate::domain::codebook::Meaning;
use crate::domain::{
    Attempts, Codebook, LabelIndex, Outcome, Position, Reason, Row, RowId, TextHash,
};
use crate::llm::keys::Key;
use crate::llm::provider::Finish;
use crate::llm::reply_matcher::{Answer, match_reply};
use crate::output::journal::{ReplyEnd, ReplyRecord};

/// What the journal says of rows before this run asks anything.
#[derive(Debug, Default)]
pub(super) struct Priors {
    /// Whether the model has labelled any row of this job. Until then a refused row may be refused
    /// for the prompt's sake.
    has_labelled: bool,
    placed: HashMap<(Position, TextHash), Journaled>,
    /// Rows whose position was released.
    displaced: HashMap<(RowId, TextHash), Journaled>,
}

/// Where a journaled row stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// A part that was written later says what became of it.
    Settled,
    /// Nothing says more than the journal.
    Open,
    /// Its position was released; it may stand at another.
    Displaced,
}

#[derive(Clone, Copy, Debug)]
struct Journaled {
    answer: Option<Meaning>,
    attempts: Attempts,
    reason: Reason,
    /// It was refused while it stood alone: settled, as a refusal is.
    is_refused: bool,
}

/// What is known of a row that is about to be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recalled {
    /// It was answered and paid for, or asked often enough.
    Answered(Outcome),
    /// It was asked this often without an answer; ask it now.
    Asked(Attempts),
}

/// What a journaled reply says of its rows, in their order.
pub(super) fn answers_of(record: &ReplyRecord, codebook: &Codebook) -> Vec<(RowId, Answer)> {
    let keys: Vec<Key> = record.rows.iter().map(|row| Key(row.key.clone())).collect();
    let matched = match_reply(&record.reply, record.end == ReplyEnd::Cut, &keys, codebook);
    record.rows.iter().map(|row| row.id.clone()).zip(matched.answers).collect()
}

impl Priors {
    /// Reads a journaled reply again, just as the run that got it did. `standing` says where each
    /// of its rows stands now; settled ones are passed over.
    pub(super) fn replay(
        &mut self,
        record: ReplyRecord,
        codebook: &Codebook,
        standing: impl Fn(Position) -> Standing,
    ) {
        let keys: Vec<Key> = record.rows.iter().map(|row| Key(row.key.clone())).collect();
        let matched = match_reply(&record.reply, record.end == ReplyEnd::Cut, &keys, codebook);
        let finish = match record.end {
            ReplyEnd::Whole => Finish::Stop,
            ReplyEnd::Cut => Finish::Length,
            ReplyEnd::Refused => Finish::Refused,
        };
        let nothing = nothing_answered(finish, is_prose(&record.reply), &matched);
        if nothing == Some(Nothing::Cut) || (nothing.is_some() && keys.len() > 1) {
            return;
        }
        for (row, answer) in record.rows.into_iter().zip(matched.answers) {
            let unknown =
                Journaled { answer: None, attempts: 0, reason: Reason::Missing, is_refused: false };
            let known = match standing(row.position) {
                Standing::Settled => continue,
                Standing::Open => {
                    self.placed.entry((row.position, row.text_hash)).or_insert(unknown)
                }
                Standing::Displaced => {
                    self.displaced.entry((row.id, row.text_hash)).or_insert(unknown)
                }
            };
            known.attempts = known.attempts.saturating_add(1);
            known.is_refused = nothing == Some(Nothing::Refused);
            match answer {
                Answer::Label(label) => {
                    known.answer = Some(Meaning::Label(label));
                    self.has_labelled = true;
                }
                Answer::Unsure => known.answer = Some(Meaning::Unsure),
                Answer::Unresolved(reason) => known.reason = reason,
            }
        }
    }

    /// Takes note that rows of finished parts were labelled.
    pub(super) fn note_labelled(&mut self, rows: u64) {
        self.has_labelled |= rows > 0;
    }

    /// How many rows the journal answers.
    pub(super) fn answered_rows(&self) -> u64 {
        self.all().filter(|(_, known)| known.answer.is_some()).count() as u64
    }

    /// The labels that the journal holds, by text, so that equal rows profit too.
    pub(super) fn labels(&self) -> impl Iterator<Item = (TextHash, LabelIndex)> {
        self.all().filter_map(|(text_hash, known)| match known.answer {
            Some(Meaning::Label(label)) => Some((text_hash, label)),
            _ => None,
        })
    }

    fn all(&self) -> impl Iterator<Item = (TextHash, &Journaled)> {
        let placed = self.placed.iter().map(|((_, text_hash), known)| (*text_hash, known));
        let displaced = self.displaced.iter().map(|((_, text_hash), known)| (*text_hash, known));
        placed.chain(displaced)
    }

    /// What is known of a row that is about to be asked; a journaled answer counts if it was given
    /// to the same text, and is handed out once.
    ///
    /// `row.attempts` counts what finished parts say; the journal's attempts come on top.
    pub(super) fn recall(&mut self, row: &Row, max_attempts: Attempts) -> Recalled {
        let Some(known) = self.take(row) else { return Recalled::Asked(row.attempts) };
        if known.answer.is_none() && !self.has_labelled {
            // Nobody knows yet whether it was the row.
            return Recalled::Asked(row.attempts);
        }
        let attempts = row.attempts.saturating_add(known.attempts);
        match known.answer {
            Some(Meaning::Label(label)) => Recalled::Answered(Outcome::Labelled(label)),
            Some(Meaning::Unsure) => {
                Recalled::Answered(Outcome::Unlabelled { reason: Reason::Unsure, attempts })
            }
            None if known.is_refused => {
                Recalled::Answered(Outcome::Unlabelled { reason: Reason::Refused, attempts })
            }
            None if attempts >= max_attempts => {
                Recalled::Answered(Outcome::Unlabelled { reason: known.reason, attempts })
            }
            None => Recalled::Asked(attempts),
        }
    }

    fn take(&mut self, row: &Row) -> Option<Journaled> {
        if self.placed.is_empty() && self.displaced.is_empty() {
            return None;
        }
        let placed = self.placed.remove(&(row.position, row.text_hash));
        // A row with attempts stands in a part, which counts what the journal says of it elsewhere.
        if self.displaced.is_empty() || row.attempts > 0 {
            return placed;
        }
        let displaced = self.displaced.remove(&(row.id.clone(), row.text_hash));
        match (placed, displaced) {
            (Some(placed), Some(displaced)) => Some(Journaled {
                answer: placed.answer.or(displaced.answer),
                attempts: placed.attempts.saturating_add(displaced.attempts),
                ..placed
            }),
            (placed, displaced) => placed.or(displaced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::AnswerForm;
    use crate::domain::{Label, RowId, Tokens, UnixMillis};
    use crate::output::journal::JournaledRow;

    fn codebook() -> Codebook {
        let label = |name: &str, code: &str| Label {
            name: name.into(),
            code: code.into(),
            description: String::new(),
            examples: Vec::new(),
        };
        Codebook::new(vec![label("lost", "A"), label("found", "B")], None).unwrap()
    }

    fn row(position: u64, text: &str) -> Row {
        Row {
            position: Position(position),
            id: RowId::Integer(position.into()),
            text: text.into(),
            text_hash: TextHash::of(text),
            tokens: Tokens(5),
            attempts: 0,
        }
    }

    fn record(end: ReplyEnd, reply: &str, rows: &[Row]) -> ReplyRecord {
        let journaled = rows.iter().map(|row| JournaledRow {
            key: format!("{}", 100 + row.position.0).into(),
            position: row.position,
            id: row.id.clone(),
            text_hash: row.text_hash,
        });
        ReplyRecord {
            call: 1,
            at: UnixMillis(0),
            rows: journaled.collect(),
            form: AnswerForm::Array,
            end,
            reply: reply.into(),
            usage: None,
            model: None,
        }
    }

    fn priors(records: Vec<ReplyRecord>) -> Priors {
        let mut priors = Priors::default();
        for record in records {
            priors.replay(record, &codebook(), |_| Standing::Open);
        }
        priors
    }

    #[test]
    fn a_paid_answer_is_found_again_once() {
        let rows = [row(0, "a"), row(1, "b")];
        let reply = r#"{"r":["101:B","100:A"]}"#;
        let mut priors = priors(vec![record(ReplyEnd::Whole, reply, &rows)]);
        assert_eq!(priors.answered_rows(), 2);
        let label = Recalled::Answered(Outcome::Labelled(LabelIndex(1)));
        assert_eq!(priors.recall(&rows[1], 3), label);
        assert_eq!(priors.recall(&rows[1], 3), Recalled::Asked(0));
    }

    #[test]
    fn an_answer_to_another_text_is_not_taken() {
        let reply = r#"{"r":["100:A"]}"#;
        let mut priors = priors(vec![record(ReplyEnd::Whole, reply, &[row(0, "old")])]);
        assert_eq!(priors.recall(&row(0, "new"), 3), Recalled::Asked(0));
    }

    #[test]
    fn unanswered_attempts_are_counted_until_they_are_enough() {
        let rows = [row(0, "a"), row(1, "b")];
        let reply = r#"{"r":["101:B"]}"#;
        let once = || record(ReplyEnd::Whole, reply, &rows);
        assert_eq!(priors(vec![once()]).recall(&rows[0], 3), Recalled::Asked(1));
        let (reason, attempts) = (Reason::Missing, 3);
        assert_eq!(
            priors(vec![once(), once(), once()]).recall(&rows[0], 3),
            Recalled::Answered(Outcome::Unlabelled { reason, attempts })
        );
    }

    #[test]
    fn a_row_that_was_refused_alone_stays_refused() {
        let rows = [row(0, "a")];
        for (end, reply) in [(ReplyEnd::Refused, ""), (ReplyEnd::Whole, "I can't help with that")] {
            let mut priors = priors(vec![record(end, reply, &rows)]);
            assert_eq!(priors.recall(&rows[0], 3), Recalled::Asked(0), "the prompt, perhaps");
            priors.replay(record(end, reply, &rows), &codebook(), |_| Standing::Open);
            priors.note_labelled(1);
            let (reason, attempts) = (Reason::Refused, 1);
            let refused = Recalled::Answered(Outcome::Unlabelled { reason, attempts });
            assert_eq!(priors.recall(&rows[0], 3), refused);
        }
    }

    #[test]
    fn a_refusal_of_many_rows_costs_none_of_them_an_attempt() {
        let rows = [row(0, "a"), row(1, "b")];
        for (end, reply) in [
            (ReplyEnd::Refused, ""),
            (ReplyEnd::Whole, "I can't"),
            (ReplyEnd::Whole, "{\"r\":[]}"),
            (ReplyEnd::Cut, "{\"r\":["),
        ] {
            let mut priors = priors(vec![record(end, reply, &rows)]);
            assert_eq!(priors.recall(&rows[0], 3), Recalled::Asked(0), "{end:?}");
        }
    }
    #[test]
    fn an_answer_to_a_released_position_is_found_by_id_and_text() {
        let reply = r#"{"r":["100:A"]}"#;
        let mut priors = Priors::default();
        let asked = record(ReplyEnd::Whole, reply, &[row(0, "a")]);
        priors.replay(asked, &codebook(), |_| Standing::Displaced);
        let elsewhere = |id: i128, text| Row { id: RowId::Integer(id), ..row(70, text) };
        assert_eq!(priors.recall(&elsewhere(5, "a"), 3), Recalled::Asked(0), "another row");
        assert_eq!(priors.recall(&elsewhere(0, "b"), 3), Recalled::Asked(0), "another text");
        let label = Recalled::Answered(Outcome::Labelled(LabelIndex(0)));
        assert_eq!(priors.recall(&elsewhere(0, "a"), 3), label);
    }

    #[test]
    fn an_answer_to_the_new_text_outlives_one_to_the_old() {
        let answered = |text, reply| record(ReplyEnd::Whole, reply, &[row(0, text)]);
        let records = [("old", r#"{"r":["100:A"]}"#), ("new", r#"{"r":["100:B"]}"#)];
        let records = records.map(|(text, reply)| answered(text, reply));
        let mut priors = priors(records.into());
        let label = Recalled::Answered(Outcome::Labelled(LabelIndex(1)));
        assert_eq!(priors.recall(&row(0, "new"), 3), label);
    }
}
