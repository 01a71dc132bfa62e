//! The thread that reads the input ahead of the model: folds and counts each row's text, and
//! brings along what reopened parts say of their rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tokio::sync::mpsc;

use super::RunError;
use super::work::Work;
use crate::domain::{Outcome, Position, PositionRange, Reason, Row, RowId, TextHash, Tokens};
use crate::input::{InputChunk, InputReader, InputRow};
use crate::llm::prompt::Prompt;
use crate::output::PartReader;

/// Chunks that wait for the coordinator.
const CHUNKS_AHEAD: usize = 2;

/// Consecutive rows of one part.
#[derive(Debug)]
pub(super) struct ReadChunk {
    /// The first row's position.
    pub(super) first: Position,
    /// The input's columns.
    pub(super) columns: RecordBatch,
    /// The ids of the first and the last row.
    pub(super) ids: (RowId, RowId),
    /// One entry per row, in order.
    pub(super) rows: Vec<ReadRow>,
}

/// A row as the input and earlier runs have it.
#[derive(Debug)]
pub(super) enum ReadRow {
    /// The model has to be asked.
    Ask(Row),
    /// The input itself settles it: it has a label already, or no text, or too much of it.
    Settled(Outcome),
    /// An earlier run settled it.
    Kept {
        /// What stands.
        outcome: Outcome,
        /// Its text, where that got a label from the model.
        text_hash: Option<TextHash>,
    },
}

/// What the thread reads with.
pub(super) struct Reader {
    pub(super) input: InputReader,
    pub(super) prompt: Arc<Prompt>,
    /// A row of more tokens is too long.
    pub(super) longest: Tokens,
    pub(super) work: Arc<Work>,
    pub(super) parts: PartReader,
}

/// The outcomes of the reopened part that is being read.
struct Reopened {
    range: PositionRange,
    outcomes: Vec<Outcome>,
}

impl Reader {
    /// Starts the thread; it ends when the input does, at the first error, or when the receiver
    /// is gone.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(mut self) -> std::io::Result<mpsc::Receiver<Result<ReadChunk, RunError>>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        std::thread::Builder::new().name("reader".into()).spawn(move || {
            let mut reopened = None;
            while let Some(chunk) = self.input.next() {
                let chunk = chunk.map_err(RunError::from);
                let chunk = chunk.and_then(|chunk| self.prepare(chunk, &mut reopened));
                let failed = chunk.is_err();
                let Some(chunk) = chunk.transpose() else { continue };
                if sender.blocking_send(chunk).is_err() || failed {
                    break;
                }
            }
        })?;
        Ok(receiver)
    }

    /// `None` for a chunk without rows.
    fn prepare(
        &self,
        chunk: InputChunk,
        reopened: &mut Option<Reopened>,
    ) -> Result<Option<ReadChunk>, RunError> {
        let (Some(first_row), Some(last_row)) = (chunk.rows.first(), chunk.rows.last()) else {
            return Ok(None);
        };
        let ids = (first_row.id.clone(), last_row.id.clone());
        self.reopen(chunk.first, reopened)?;
        let rows = chunk
            .rows
            .into_iter()
            .zip(chunk.first.0..)
            .map(|(row, position)| {
                let position = Position(position);
                let prior = reopened.as_ref().and_then(|part| part.outcome(position));
                self.read(row, position, prior)
            })
            .collect();
        Ok(Some(ReadChunk { first: chunk.first, columns: chunk.columns, ids, rows }))
    }

    /// Loads the reopened part that holds `position`, if one does.
    fn reopen(&self, position: Position, now: &mut Option<Reopened>) -> Result<(), RunError> {
        if now.as_ref().is_some_and(|part| part.range.contains(position)) {
            return Ok(());
        }
        *now = None;
        let Some((part, range)) = self.work.reopened_at(position) else { return Ok(()) };
        let contents = self.parts.read(part).map_err(|error| RunError::Reopen(part, error))?;
        *now = Some(Reopened { range, outcomes: contents.outcomes });
        Ok(())
    }

    fn read(&self, row: InputRow, position: Position, prior: Option<&Outcome>) -> ReadRow {
        let Some(outcome) = prior else {
            return read_row(row, position, &self.prompt, self.longest);
        };
        match outcome {
            Outcome::Unlabelled { reason, attempts }
                if self.work.is_asked_again(*reason, *attempts) =>
            {
                match read_row(row, position, &self.prompt, self.longest) {
                    ReadRow::Ask(row) => ReadRow::Ask(Row { attempts: *attempts, ..row }),
                    settled => settled,
                }
            }
            // A label that the input brought says nothing of other rows with the same text.
            Outcome::Labelled(_) if row.existing_label.is_none() => {
                let text_hash = row.text.as_deref().map(TextHash::of);
                ReadRow::Kept { outcome: outcome.clone(), text_hash }
            }
            _ => ReadRow::Kept { outcome: outcome.clone(), text_hash: None },
        }
    }
}

impl Reopened {
    fn outcome(&self, position: Position) -> Option<&Outcome> {
        let offset = position.0.checked_sub(self.range.first.0)?;
        self.outcomes.get(usize::try_from(offset).ok()?)
    }
}

/// What is to be done about a row of the input; one of over `longest` tokens is too long.
pub(super) fn read_row(
    row: InputRow,
    position: Position,
    prompt: &Prompt,
    longest: Tokens,
) -> ReadRow {
    if let Some(label) = row.existing_label {
        return ReadRow::Settled(Outcome::Existing(label));
    }
    let Some(text) = row.text else {
        let (reason, attempts) = (Reason::NoText, 0);
        return ReadRow::Settled(Outcome::Unlabelled { reason, attempts });
    };
    let text_hash = TextHash::of(&text);
    let text: Box<str> = prompt.fold(&text).into();
    let Some(tokens) = prompt.row_tokens_at_most(&row.id, &text, longest) else {
        let (reason, attempts) = (Reason::TooLong, 0);
        return ReadRow::Settled(Outcome::Unlabelled { reason, attempts });
    };
    ReadRow::Ask(Row { position, id: row.id, text, text_hash, tokens, attempts: 0 })
}
