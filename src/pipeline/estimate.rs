//! What asking rows would take, counted as exactly as a run packs them; nothing is sent.

use std::sync::Arc;

use super::reader::{ReadRow, read_row};
use super::{RunError, setup};
use crate::domain::{JobSpec, Moment, Position, Row, UnixMillis};
use crate::input::InputRow;
use crate::llm::asker::Asker;
use crate::llm::batcher::Batcher;
use crate::llm::governor::Governor;
use crate::llm::keys::KeyStream;
use crate::llm::provider::lexical::LexicalProvider;

/// Calls and their tokens, if each is answered in full at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Rows that the model would be asked about.
    pub rows: u64,
    /// Calls.
    pub calls: u64,
    /// Tokens of the requests, a schema included.
    pub prompt_tokens: u64,
    /// Tokens of the replies, without hidden reasoning.
    pub completion_tokens: u64,
}

impl std::ops::AddAssign for Estimate {
    fn add_assign(&mut self, other: Estimate) {
        self.rows += other.rows;
        self.calls += other.calls;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

/// What asking `rows` in their order takes, packed as `job` says.
///
/// # Errors
/// If not even one row fits into a call.
pub fn estimate(
    job: &JobSpec,
    rows: impl IntoIterator<Item = InputRow>,
) -> Result<Estimate, RunError> {
    let prompt = setup::prompt(job);
    let keys = KeyStream::new([0; 32], "estimate");
    // It is not asked; an asker has one.
    let provider = Arc::new(LexicalProvider::new(false));
    let asker = Asker::new(Arc::clone(&prompt), keys, provider, &job.model);
    let governor = Governor::new(job.limits, 0, Moment::default(), UnixMillis::default());
    let mut batcher = Batcher::new(setup::batch_limits(job, &asker, governor.largest_call())?);
    let mut estimate = Estimate::default();
    let mut add = |mut batch: Vec<Row>| {
        while !batch.is_empty() {
            let (call, rest) = asker.on_ladder(batch);
            let charge = asker.estimate(&call);
            estimate += Estimate {
                rows: call.len() as u64,
                calls: 1,
                prompt_tokens: charge.input.0.into(),
                completion_tokens: charge.output.0.into(),
            };
            batch = rest;
        }
    };
    for (row, position) in rows.into_iter().zip(0..) {
        let longest = job.batch.tokens_per_call;
        if let ReadRow::Ask(row) = read_row(row, Position(position), &prompt, longest) {
            // One that is too long for a call is never asked.
            let _ = batcher.push(row);
        }
        while let Some(batch) = batcher.next(false, None) {
            add(batch);
        }
    }
    while let Some(batch) = batcher.next(true, None) {
        add(batch);
    }
    Ok(estimate)
}
