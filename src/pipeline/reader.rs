//! The thread that reads ahead of the model: new rows from the input, rows of reopened parts from
//! those themselves. It folds and counts each row's text, and brings along what became of it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use tokio::sync::mpsc;

use super::RunError;
use super::byte_gate::{ByteGate, Passage};
use super::input_rows::InputRows;
use super::passes::{Pass, Task, passes};
use super::standing_rows::{StandingRow, StandingRows};
use super::work::{FromInput, Work};
use crate::domain::{
    Outcome, PartNumber, Position, PositionRange, Reason, Row, RowId, TextHash, Tokens,
};
use crate::input::{InputRow, MAX_CHUNK_ROWS, OrderedInput};
use crate::llm::prompt::Prompt;
use crate::output::{PartReader, bytes_of};

/// Chunks that wait for the coordinator.
const CHUNKS_AHEAD: usize = 2;
/// Bytes of rows in them, unless one alone has more.
const BYTES_AHEAD: u64 = 16 << 20;

/// Consecutive rows of one part.
#[derive(Debug)]
pub(super) struct ReadChunk {
    /// The first row's position.
    pub(super) first: Position,
    /// What goes along of the input's columns.
    pub(super) columns: RecordBatch,
    /// The ids of the first and the last row.
    pub(super) ids: (RowId, RowId),
    /// One entry per row, in order.
    pub(super) rows: Vec<ReadRow>,
    /// Lets further chunks come once this one is taken.
    _passage: Passage,
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
    pub(super) input: Arc<OrderedInput>,
    /// Reads the rows of parts.
    pub(super) standing: StandingRows,
    pub(super) prompt: Arc<Prompt>,
    /// A row of more tokens is too long.
    pub(super) longest: Tokens,
    pub(super) work: Work,
    pub(super) parts: PartReader,
}

/// Why reading ends before all is read.
enum Halt {
    /// The receiver is gone.
    Unheard,
    Failed(RunError),
}

impl From<RunError> for Halt {
    fn from(error: RunError) -> Halt {
        Halt::Failed(error)
    }
}

/// The way to the coordinator.
struct Chunks {
    sender: mpsc::Sender<Result<ReadChunk, RunError>>,
    gate: ByteGate,
}

impl Reader {
    /// Starts the thread; it ends when all is read, at the first error, or when the receiver is
    /// gone.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(self) -> std::io::Result<mpsc::Receiver<Result<ReadChunk, RunError>>> {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let chunks = Chunks { sender, gate: ByteGate::new(BYTES_AHEAD) };
        std::thread::Builder::new().name("reader".into()).spawn(move || {
            for pass in passes(&self.work) {
                match self.pass(pass, &chunks) {
                    Ok(()) => {}
                    Err(Halt::Unheard) => return,
                    Err(Halt::Failed(error)) => {
                        // If nobody listens any more, nobody misses it.
                        let _ = chunks.sender.blocking_send(Err(error));
                        return;
                    }
                }
            }
        })?;
        Ok(receiver)
    }

    fn pass(&self, pass: Pass, chunks: &Chunks) -> Result<(), Halt> {
        let read = self.input.read(pass.wanted).map_err(RunError::from)?;
        let mut input = InputRows::new(read);
        for task in pass.parts {
            match task {
                Task::Fill(range) => self.fill(range, None, &mut input, chunks)?,
                Task::Refill { part, range } => {
                    let contents = self.parts.read(part);
                    let contents = contents.map_err(|error| RunError::Reopen(part, error))?;
                    self.fill(range, Some(contents.outcomes), &mut input, chunks)?;
                }
                Task::Reopen { part, range, rows } => {
                    self.reopen(part, range, rows, &mut input, chunks)?;
                }
            }
        }
        Ok(())
    }

    /// The rows of a part, read from the input; `outcomes` are theirs, if it stands.
    fn fill(
        &self,
        range: PositionRange,
        outcomes: Option<Vec<Outcome>>,
        input: &mut InputRows,
        chunks: &Chunks,
    ) -> Result<(), Halt> {
        let (mut first, mut left) = (range.first, range.rows);
        let mut priors = outcomes.unwrap_or_default().into_iter();
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(MAX_CHUNK_ROWS);
            let (columns, rows) = self.carry(input.some(most)?)?;
            let count = rows.len() as u64;
            let rows = rows.into_iter().map(StandingRow::Whole).collect();
            let read = |(row, position)| self.read(row, position, priors.next());
            send(chunks, first, columns, rows, read)?;
            first.0 += count;
            left -= count;
        }
        Ok(())
    }

    /// Rows of the input with what goes along of their columns.
    fn carry(
        &self,
        (columns, rows): (RecordBatch, Vec<InputRow>),
    ) -> Result<(RecordBatch, Vec<InputRow>), RunError> {
        let carried = self.parts.schema().carry(&columns, rows.iter().map(InputRow::text_hash));
        let carried = carried.map_err(|error| RunError::Internal(error.to_string()))?;
        Ok((carried, rows))
    }

    /// The rows of a part that stands, as it has them; `from_input` come from there.
    fn reopen(
        &self,
        part: PartNumber,
        range: PositionRange,
        from_input: Vec<FromInput>,
        input: &mut InputRows,
        chunks: &Chunks,
    ) -> Result<(), Halt> {
        let contents = self.parts.read(part).map_err(|error| RunError::Reopen(part, error))?;
        let mut outcomes = contents.outcomes.into_iter();
        let mut from_input = from_input.into_iter().peekable();
        let mut before = 0;
        for mut columns in contents.columns {
            let after = before + columns.num_rows();
            let mut rows = self.standing.read(&columns)?;
            let mut priors: Vec<Option<Outcome>> =
                outcomes.by_ref().take(rows.len()).map(Some).collect();
            let mut new = Vec::new();
            while let Some(FromInput { row, is_changed }) =
                from_input.next_if(|from| from.row.offset < after)
            {
                new.push(row.offset - before);
                if is_changed {
                    priors[row.offset - before] = None;
                }
            }
            if !new.is_empty() {
                let (new_columns, new_rows) = self.carry(input.next(new.len())?)?;
                columns = spliced(&columns, &new_columns, &new)?;
                for (row, at) in new_rows.into_iter().zip(new) {
                    rows[at] = StandingRow::Whole(row);
                }
            }
            let first = Position(range.first.0 + before as u64);
            let mut priors = priors.into_iter();
            let read = |(row, position)| self.read(row, position, priors.next().flatten());
            send(chunks, first, columns, rows, read)?;
            before = after;
        }
        Ok(())
    }

    /// A row that stands with the outcome `prior`; without one it is new.
    fn read(&self, row: StandingRow, position: Position, prior: Option<Outcome>) -> ReadRow {
        match (prior, row) {
            (None, StandingRow::Whole(row)) => read_row(row, position, &self.prompt, self.longest),
            (Some(Outcome::Unlabelled { reason, attempts }), row)
                if self.work.is_asked_again(reason, attempts) =>
            {
                // What has neither a text nor a place in the input any more can't be asked.
                let attempts_used_up = self.work.max_attempts();
                let StandingRow::Whole(row) = row else {
                    let outcome = Outcome::Unlabelled { reason, attempts: attempts_used_up };
                    return ReadRow::Kept { outcome, text_hash: None };
                };
                match read_row(row, position, &self.prompt, self.longest) {
                    ReadRow::Ask(row) => ReadRow::Ask(Row { attempts, ..row }),
                    settled => settled,
                }
            }
            // A label that the input brought says nothing of other rows with the same text.
            (Some(outcome @ Outcome::Labelled(_)), row) if self.standing.tell_own_labels() => {
                let text_hash = match row {
                    StandingRow::Whole(row) if row.existing_label.is_some() => None,
                    StandingRow::Whole(row) => row.text_hash(),
                    StandingRow::Hashed { hash, .. } => hash,
                };
                ReadRow::Kept { outcome, text_hash }
            }
            (Some(outcome), _) => ReadRow::Kept { outcome, text_hash: None },
            (None, StandingRow::Hashed { .. }) => ReadRow::Kept {
                outcome: Outcome::Unlabelled { reason: Reason::Missing, attempts: 0 },
                text_hash: None,
            },
        }
    }
}

/// Sends rows that follow each other from `first` on.
fn send(
    chunks: &Chunks,
    first: Position,
    columns: RecordBatch,
    rows: Vec<StandingRow>,
    read: impl FnMut((StandingRow, Position)) -> ReadRow,
) -> Result<(), Halt> {
    let (Some(first_row), Some(last_row)) = (rows.first(), rows.last()) else { return Ok(()) };
    let ids = (first_row.id().clone(), last_row.id().clone());
    let rows = rows.into_iter().zip((first.0..).map(Position)).map(read).collect();
    let passage = chunks.gate.enter(bytes_of(&columns));
    let chunk = ReadChunk { first, columns, ids, rows, _passage: passage };
    chunks.sender.blocking_send(Ok(chunk)).map_err(|_| Halt::Unheard)
}

/// The rows of `columns`, those at the ascending places `at` replaced by the rows of `new`.
fn spliced(
    columns: &RecordBatch,
    new: &RecordBatch,
    at: &[usize],
) -> Result<RecordBatch, RunError> {
    let mut replaced = at.iter().enumerate().peekable();
    let rows: Vec<(usize, usize)> = (0..columns.num_rows())
        .map(|row| match replaced.next_if(|(_, at)| **at == row) {
            Some((number, _)) => (1, number),
            None => (0, row),
        })
        .collect();
    let joined = interleave_record_batch(&[columns, new], &rows);
    joined.map_err(|error| RunError::Internal(format!("rows of a part and the input: {error}")))
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
