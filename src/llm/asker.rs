//! Turns rows into a request and learns from what comes back.
//!
//! The one place where prompt, keys, dialect and room for the reply meet; it sends a request once
//! and decides nothing about rows.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batcher::BatchLimits;
use super::dialect::{Dialect, Enforcement, FormRung, StepDown, is_reasoning_model};
use super::keys::{Key, KeyStream};
use super::output_budget::OutputBudget;
use super::prompt::Prompt;
use super::provider::{ChatReply, ChatRequest, Provider, ProviderError, ResponseFormat};
use crate::domain::limits::Rules;
use crate::domain::spec::{AnswerForm, KeySource, ModelSpec};
use crate::domain::{Charge, Row, Tokens};

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub struct PreparedCall {
    /// What is sent.
    pub request: ChatRequest,
    /// The rows' keys, in the rows' order.
    pub keys: Vec<Key>,
    /// What the call is expected to count.
    pub reserved: Charge,
    /// The prompt as counted here, a schema included.
    pub counted: Tokens,
    /// The complete reply as counted here.
    pub answer: Tokens,
}

/// Asks one provider on behalf of one run.
pub struct Asker {
    prompt: Arc<Prompt>,
    keys: KeyStream,
    provider: Arc<dyn Provider>,
    rules: Rules,
    learned: Mutex<Learned>,
}

struct Learned {
    dialect: Dialect,
    budget: OutputBudget,
}

impl Asker {
    /// An asker that begins with the strictest form of the answer and learns from there.
    pub fn new(
        prompt: Arc<Prompt>,
        keys: KeyStream,
        provider: Arc<dyn Provider>,
        model: &ModelSpec,
    ) -> Asker {
        let effort = model.reasoning_effort.as_deref();
        let mut dialect = Dialect::for_model(&model.name, model.answer_form, effort);
        if prompt.has_dear_pattern() && dialect.form() == FormRung::ArrayWithPattern {
            dialect.lower_form_to(FormRung::Array);
        }
        let budget = OutputBudget::new(model.max_output_tokens, is_reasoning_model(&model.name));
        let learned = Mutex::new(Learned { dialect, budget });
        Asker { prompt, keys, provider, rules: Rules::default(), learned }
    }

    /// The same asker of a provider that counts by `rules`.
    #[must_use]
    pub fn counted_by(self, rules: Rules) -> Asker {
        Asker { rules, ..self }
    }

    /// What the batcher has to reckon with: the fixed part of a call, and what a row adds to it
    /// beside its own line.
    pub fn limits(&self, rows_per_call: NonZeroUsize, tokens_per_call: Tokens) -> BatchLimits {
        let learned = self.learned();
        let rung = learned.dialect.form();
        let answer = |rows| self.prompt.answer_tokens(rung.answer_form(), rows).0;
        // A schema that names each key grows with the rows.
        let schema = |rows| self.fixed_tokens(rung, rows).0;
        let per_row = |of: &dyn Fn(usize) -> u32| f64::from(of(101).saturating_sub(of(1))) / 100.0;
        BatchLimits {
            rows_per_call,
            tokens_per_call,
            fixed: learned.budget.estimate_prompt(Tokens(schema(0))) + Tokens(answer(0)),
            per_row: per_row(&answer) + per_row(&schema),
        }
    }

    /// What a call with these rows is expected to count.
    pub fn estimate(&self, rows: &[Row]) -> Charge {
        let learned = self.learned();
        let rung = learned.dialect.form();
        let counted = self.counted(rung, rows);
        let answer = self.prompt.answer_tokens(rung.answer_form(), rows.len());
        let most = learned.budget.max_completion_tokens(answer);
        self.rules.charge(&learned.budget.expected_usage(counted, answer), most)
    }

    /// The rows that one call takes of these, and the rest. Only the form `object` leaves a rest:
    /// its schema names every key, so calls come in a few sizes that share a schema each.
    pub fn on_ladder(&self, mut rows: Vec<Row>) -> (Vec<Row>, Vec<Row>) {
        if self.learned().dialect.form() != FormRung::Object {
            return (rows, Vec::new());
        }
        let rest = rows.split_off(ladder_size(rows.len()));
        (rows, rest)
    }

    /// Whether one call takes this many rows as they are; see [`Asker::on_ladder`].
    pub fn is_on_ladder(&self, rows: usize) -> bool {
        self.learned().dialect.form() != FormRung::Object || ladder_size(rows) == rows
    }

    /// The request for these rows; `batch` is its number in the run, never used twice.
    pub fn prepare(&self, rows: &[Row], batch: u64) -> PreparedCall {
        let learned = self.learned();
        let rung = learned.dialect.form();
        let form = rung.answer_form();
        let keys = self.draw_keys(rung, rows, batch);
        let lines: Vec<(Key, &str)> =
            keys.iter().cloned().zip(rows.iter().map(|row| &*row.text)).collect();
        let counted = self.counted(rung, rows);
        let answer = self.prompt.reply_tokens(form, &keys);
        let request = ChatRequest {
            system: self.prompt.system(form),
            user: self.prompt.user_message(&lines),
            format: self.format(rung, &keys),
            max_completion_tokens: learned.budget.max_completion_tokens(answer),
            dialect: learned.dialect.clone(),
        };
        let expected = learned.budget.expected_usage(counted, answer);
        let reserved = self.rules.charge(&expected, request.max_completion_tokens);
        PreparedCall { request, keys, reserved, counted, answer }
    }

    /// Sends the call once.
    ///
    /// # Errors
    /// Those of [`Provider::ask`].
    pub async fn send(&self, call: &PreparedCall) -> Result<ChatReply, ProviderError> {
        self.provider.ask(&call.request).await
    }

    /// What a call counts that got this reply: what was expected, if the reply does not tell.
    pub fn charged(&self, call: &PreparedCall, reply: &ChatReply) -> Charge {
        let most = call.request.max_completion_tokens;
        reply.usage.as_ref().map_or(call.reserved, |usage| self.rules.charge(usage, most))
    }

    /// Learns what such a call is charged.
    pub fn learn(&self, call: &PreparedCall, reply: &ChatReply) {
        if let Some(usage) = &reply.usage {
            self.learned().budget.learn(call.counted, call.answer, usage);
        }
    }

    /// Makes more room for replies after this call's was cut; false if the model has no more.
    pub fn raise_output(&self, call: &PreparedCall) -> bool {
        self.learned().budget.raise(call.answer, call.request.max_completion_tokens)
    }

    /// Gives up what the model refused in this call.
    pub fn step_down(&self, call: &PreparedCall, parameter: &str) -> StepDown {
        self.learned().dialect.step_down(&call.request.dialect, parameter)
    }

    fn draw_keys(&self, rung: FormRung, rows: &[Row], batch: u64) -> Vec<Key> {
        let drawn = match (self.prompt.key_source(), rung) {
            (KeySource::Id, _) => {
                return rows.iter().map(|row| Key::of_id(&row.id)).collect();
            }
            (KeySource::Random, FormRung::Object) => self.keys.job_keys(rows.len()),
            (KeySource::Random, _) => self.keys.draw(batch, rows.len()),
        };
        // A call never has more rows than there are keys: the job is checked for that.
        drawn.unwrap_or_default()
    }

    fn format(&self, rung: FormRung, keys: &[Key]) -> ResponseFormat {
        match rung.enforcement() {
            Enforcement::Schema { with_pattern } => {
                match self.prompt.schema(rung.answer_form(), keys, with_pattern) {
                    Some(schema) => ResponseFormat::Schema(schema),
                    None => ResponseFormat::Text,
                }
            }
            Enforcement::JsonObject => ResponseFormat::JsonObject,
            Enforcement::Text => ResponseFormat::Text,
        }
    }

    fn counted(&self, rung: FormRung, rows: &[Row]) -> Tokens {
        self.fixed_tokens(rung, rows.len()) + rows.iter().map(|row| row.tokens).sum()
    }

    /// System message, framing and schema.
    fn fixed_tokens(&self, rung: FormRung, rows: usize) -> Tokens {
        let form = rung.answer_form();
        let schema = match rung.enforcement() {
            Enforcement::Schema { with_pattern } => {
                let keys = match form {
                    AnswerForm::Object => self.keys.job_keys(rows).unwrap_or_default(),
                    AnswerForm::Array | AnswerForm::Lines => Vec::new(),
                };
                self.prompt.schema_tokens(form, &keys, with_pattern)
            }
            Enforcement::JsonObject | Enforcement::Text => Tokens::ZERO,
        };
        self.prompt.system_tokens(form) + schema
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The largest of 1, 2, 5, 10, 20, 50, 100 ... that is at most `rows`.
fn ladder_size(rows: usize) -> usize {
    let mut size = 1;
    for step in [2, 5, 10, 20, 50, 100, 200, 500] {
        if step <= rows {
            size = step;
        }
    }
    size.min(rows)
}
