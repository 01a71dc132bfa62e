//! Turns rows into a request and learns from what comes back.
//!
//! The one place where prompt, keys, dialect and room for the reply meet; it sends a request once
//! and decides nothing about rows.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batcher::BatchLimits;
use super::dialect::{
    CacheControl, Dialect, Enforcement, FormRung, LengthLimit, StepDown, is_reasoning_model,
};
use super::governor::vendors::vendor_at;
use super::keys::{Key, KeyStream};
use super::output_budget::OutputBudget;
use super::prompt::Prompt;
use super::prompt_ceiling::PromptCeiling;
use super::provider::{ChatReply, ChatRequest, Provider, ProviderError, ResponseFormat};
use super::token_counter::is_vocabulary_known;
use crate::domain::limits::{Rules, Vendor};
use crate::domain::spec::{AnswerForm, BudgetSpec, Caching, KeySource, ModelSpec};
use crate::domain::{Billed, Charge, Row, Tokens, Usage};

/// The shortest fixed part that a provider keeps in its cache, tokens.
const LEAST_CACHED: Tokens = Tokens(1_024);
/// What a service may frame a prompt with, bytes: roles, separators, a name for the schema.
const FRAMING_BYTES: usize = 256;

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
    /// The most that the call can be billed for.
    pub most: Billed,
}

/// Asks one provider on behalf of one run.
pub struct Asker {
    prompt: Arc<Prompt>,
    keys: KeyStream,
    provider: Arc<dyn Provider>,
    rules: Rules,
    /// Most tokens that any reply may have.
    longest_reply: Tokens,
    caching: Caching,
    /// Bytes of the form `array`'s schema, without a pattern and with one.
    schema_bytes: [usize; 2],
    learned: Mutex<Learned>,
}

struct Learned {
    dialect: Dialect,
    budget: OutputBudget,
    ceiling: PromptCeiling,
    /// Whether a reply was longer than it was allowed to be.
    is_overlong: bool,
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
        let ceiling =
            PromptCeiling::new(is_vocabulary_known(&model.name) && is_at_its_makers(model));
        let learned = Mutex::new(Learned { dialect, budget, ceiling, is_overlong: false });
        let (rules, longest_reply) = (Rules::default(), model.max_output_tokens);
        let caching = Caching::Unasked;
        let schema_bytes = [false, true].map(|with_pattern| {
            let schema = prompt.schema(AnswerForm::Array, &[], with_pattern);
            schema.map_or(0, |schema| schema.to_string().len())
        });
        Asker { prompt, keys, provider, rules, longest_reply, caching, schema_bytes, learned }
    }

    /// The same asker of a provider whose prompt cache is dealt with as `budget` says.
    #[must_use]
    pub fn cached_by(self, budget: &BudgetSpec) -> Asker {
        let form = self.learned().dialect.form();
        let (control, caching) = cache_control(budget, self.fixed_tokens(form, 0));
        let mut learned = self.learned();
        learned.dialect = learned.dialect.clone().with_cache(control);
        drop(learned);
        Asker { caching, ..self }
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
        let most = self.most_of(&learned, rows, answer);
        PreparedCall { request, keys, reserved, counted, answer, most }
    }

    /// The most that a call with these rows can be billed for, whatever becomes of it.
    pub fn most_billed(&self, rows: &[Row]) -> Billed {
        let learned = self.learned();
        let form = learned.dialect.form().answer_form();
        let answer = match self.prompt.key_source() {
            KeySource::Random => self.prompt.answer_tokens(form, rows.len()),
            KeySource::Id => self.prompt.reply_tokens(form, &ids_of(rows)),
        };
        self.most_of(&learned, rows, answer)
    }

    fn most_of(&self, learned: &Learned, rows: &[Row], answer: Tokens) -> Billed {
        let rung = learned.dialect.form();
        let counted = self.counted(rung, rows);
        let prompt = learned.ceiling.most(counted, || self.bytes(rung, rows));
        let completion = match learned.dialect.length_limit() {
            // Nothing holds the service back.
            LengthLimit::Absent => self.longest_reply,
            _ if learned.is_overlong => self.longest_reply,
            LengthLimit::MaxCompletionTokens | LengthLimit::MaxTokens => {
                learned.budget.max_completion_tokens(answer)
            }
        };
        let most = Billed::of_tokens(prompt, completion);
        if self.may_write_cache(&learned.dialect) { most.all_written() } else { most }
    }

    /// Whether a cache may be written for a call in this dialect, at a price.
    fn may_write_cache(&self, dialect: &Dialect) -> bool {
        match dialect.cache() {
            CacheControl::NoWrites => false,
            CacheControl::AfterSystem => true,
            CacheControl::Untold => self.caching != Caching::Unasked,
        }
    }

    /// What a call is billed for that got this reply: the worst case, as far as the reply does not
    /// tell.
    pub fn billed(&self, call: &PreparedCall, reply: &ChatReply) -> Billed {
        let Some(usage) = told(reply) else {
            let most = || usize::try_from(call.most.prompt).unwrap_or(usize::MAX);
            let prompt = u64::from(self.learned().ceiling.most(call.counted, most).0);
            // Whatever else was reserved stays: what would have been written still may be.
            let written = call.most.written.min(prompt);
            return Billed { prompt, written, ..call.most };
        };
        let mut billed = Billed::of_usage(usage);
        if billed.completion == 0 && !reply.content.is_empty() {
            billed.completion = call.most.completion;
        }
        let dialect = &call.request.dialect;
        let says_nothing_of_a_cache = billed.cached == 0 && billed.written == 0;
        if dialect.cache() == CacheControl::Untold
            && says_nothing_of_a_cache
            && self.may_write_cache(dialect)
        {
            return billed.all_written();
        }
        billed
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
        let mut learned = self.learned();
        if let Some(usage) = &reply.usage {
            learned.budget.learn(call.counted, call.answer, usage);
            learned.is_overlong |= usage.completion > call.request.max_completion_tokens;
        }
        match told(reply) {
            Some(usage) => learned.ceiling.learn(call.counted, usage.prompt),
            None => learned.ceiling.learn_nothing(),
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
                return ids_of(rows);
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

    /// Bytes of a request's prompt, with whatever frames it: more than it can have tokens.
    fn bytes(&self, rung: FormRung, rows: &[Row]) -> usize {
        let form = rung.answer_form();
        let schema = match rung.enforcement() {
            Enforcement::Schema { .. } if form == AnswerForm::Object => {
                let keys = self.keys.job_keys(rows.len()).unwrap_or_default();
                let schema = self.prompt.schema(form, &keys, false);
                schema.map_or(0, |schema| schema.to_string().len())
            }
            Enforcement::Schema { with_pattern } => self.schema_bytes[usize::from(with_pattern)],
            Enforcement::JsonObject | Enforcement::Text => 0,
        };
        let key_bytes = |row: &Row| match self.prompt.key_source() {
            KeySource::Random => 3,
            KeySource::Id => Key::of_id(&row.id).0.len(),
        };
        // A key, a tab, a text and a line end.
        let lines = rows.iter().map(|row| key_bytes(row) + row.text.len() + 2);
        FRAMING_BYTES + schema + self.prompt.system(form).len() + lines.sum::<usize>()
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

/// What a service is told of its prompt cache, and what to expect where it is told nothing, for calls
/// that share a `fixed` part of so many tokens. That part is all that they share, so nothing else is
/// ever worth writing; and it is where a cache takes it and reading it is cheaper than sending it.
fn cache_control(budget: &BudgetSpec, fixed: Tokens) -> (CacheControl, Caching) {
    let charges = budget.price.as_ref().filter(|price| price.charges_cache_writes());
    let control = match (budget.caching, charges) {
        (Caching::Off, _) => CacheControl::NoWrites,
        (_, None) => return (CacheControl::Untold, Caching::Unasked),
        (Caching::Unasked | Caching::Untold, Some(_)) => CacheControl::Untold,
        (Caching::FixedPart, Some(price)) => {
            let pays = fixed >= LEAST_CACHED && price.cached_input < price.input;
            if pays { CacheControl::AfterSystem } else { CacheControl::NoWrites }
        }
    };
    (control, budget.caching)
}

/// What a reply says that it used; some gateways say nothing, or zero.
fn told(reply: &ChatReply) -> Option<&Usage> {
    reply.usage.as_ref().filter(|usage| usage.prompt > Tokens::ZERO)
}

fn ids_of(rows: &[Row]) -> Vec<Key> {
    rows.iter().map(|row| Key::of_id(&row.id)).collect()
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

/// Whether the model is asked where its name can mean nothing else: behind a gateway it may be
/// anybody's.
fn is_at_its_makers(model: &ModelSpec) -> bool {
    matches!(vendor_at(&model.host()), Vendor::Openai | Vendor::Azure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Dollars, Price};

    fn budget(caching: Caching, write: &str, read: &str) -> BudgetSpec {
        let of = |text| Dollars::parse(text).unwrap().a_millionth();
        let price = Price {
            input: of("0.20"),
            cached_input: of(read),
            cache_write: of(write),
            output: of("1.20"),
            source: String::new(),
        };
        BudgetSpec { price: Some(price), caching, ..BudgetSpec::default() }
    }

    #[test]
    fn a_cache_is_written_only_where_that_saves() {
        use CacheControl::{AfterSystem, NoWrites, Untold};
        let told = |budget: &BudgetSpec, fixed| cache_control(budget, Tokens(fixed)).0;
        let dear = budget(Caching::FixedPart, "0.25", "0.02");
        assert_eq!([1_023, 1_024].map(|fixed| told(&dear, fixed)), [NoWrites, AfterSystem]);
        // Writing is free, or reading saves nothing, or nobody knows the price.
        assert_eq!(told(&budget(Caching::FixedPart, "0.20", "0.02"), 5_000), Untold);
        assert_eq!(told(&budget(Caching::FixedPart, "0.25", "0.20"), 5_000), NoWrites);
        let unknown = BudgetSpec { price: None, ..dear };
        assert_eq!(told(&unknown, 5_000), Untold);
        // Others are told nothing, unless the user wants it off.
        assert_eq!(told(&budget(Caching::Untold, "0.25", "0.02"), 5_000), Untold);
        assert_eq!(told(&BudgetSpec { caching: Caching::Off, ..unknown }, 5_000), NoWrites);
    }
}
