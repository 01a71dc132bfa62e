//! What stands beside a run: who else hears of its answers, and what else its account is charged.

use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::{Billed, RowId};
use crate::llm::reply_matcher::Answer;

/// What a run minds and tells beside its own matters; by default nothing.
#[derive(Clone, Default)]
pub struct Beside {
    /// Hears what each reply said.
    pub answers: Option<Arc<dyn AnswerSink>>,
    /// The journals of other outputs that the same account pays for. What they were charged within
    /// the limits' windows counts here too.
    pub charged_with: Vec<PathBuf>,
    /// What other outputs were billed for that share the job's bounds on money and tokens.
    pub billed: Billed,
}

/// Hears what each reply said of its rows, in the order of the request.
pub trait AnswerSink: Send + Sync {
    /// A reply, once it is in the journal; also of earlier runs, as far as the journal still has
    /// them. Called from any thread, and not to be kept waiting.
    fn replied(&self, rows: Vec<(RowId, Answer)>);
}
