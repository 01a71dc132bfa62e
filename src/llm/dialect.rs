//! What one model takes: how the answer's form is enforced, and which optional parameters it
//! accepts, learned from its refusals.
//!
//! Pure. Every setting only ever moves down its own ladder, so a refusal of a value that is no
//! longer in force has been dealt with, however many calls were refused for it at once.

use serde::{Deserialize, Serialize};

use crate::domain::Event;
use crate::domain::spec::AnswerForm;

/// How the answer's form is enforced, from the most that is ruled out to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormRung {
    /// [`AnswerForm::Object`] by a strict schema.
    Object,
    /// [`AnswerForm::Array`] by a strict schema whose items have a pattern.
    #[default]
    ArrayWithPattern,
    /// [`AnswerForm::Array`] by a strict schema of plain string items.
    Array,
    /// [`AnswerForm::Array`], held only to being a JSON object.
    JsonObject,
    /// [`AnswerForm::Lines`] as free text.
    Lines,
}

/// What the service is asked to hold the reply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// A strict JSON schema.
    Schema {
        /// Whether its items carry a pattern.
        with_pattern: bool,
    },
    /// Any JSON object.
    JsonObject,
    /// Nothing.
    Text,
}

impl FormRung {
    /// The form that the prompt asks for.
    pub fn answer_form(self) -> AnswerForm {
        match self {
            FormRung::Object => AnswerForm::Object,
            FormRung::ArrayWithPattern | FormRung::Array | FormRung::JsonObject => {
                AnswerForm::Array
            }
            FormRung::Lines => AnswerForm::Lines,
        }
    }

    /// What the service is asked to hold the reply to.
    pub fn enforcement(self) -> Enforcement {
        match self {
            FormRung::Object | FormRung::Array => Enforcement::Schema { with_pattern: false },
            FormRung::ArrayWithPattern => Enforcement::Schema { with_pattern: true },
            FormRung::JsonObject => Enforcement::JsonObject,
            FormRung::Lines => Enforcement::Text,
        }
    }

    /// A word for events.
    pub fn name(self) -> &'static str {
        match self {
            FormRung::Object => "object",
            FormRung::ArrayWithPattern => "array_with_pattern",
            FormRung::Array => "array",
            FormRung::JsonObject => "json_object",
            FormRung::Lines => "lines",
        }
    }

    fn below(self) -> Option<FormRung> {
        match self {
            FormRung::Object => Some(FormRung::ArrayWithPattern),
            FormRung::ArrayWithPattern => Some(FormRung::Array),
            FormRung::Array => Some(FormRung::JsonObject),
            FormRung::JsonObject => Some(FormRung::Lines),
            FormRung::Lines => None,
        }
    }
}

/// The parameter that limits the reply's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthLimit {
    /// `max_completion_tokens`.
    #[default]
    MaxCompletionTokens,
    /// `max_tokens`, its older name.
    MaxTokens,
    /// The service takes neither.
    Absent,
}

impl LengthLimit {
    /// The parameter's name in a request.
    pub fn parameter(self) -> Option<&'static str> {
        match self {
            LengthLimit::MaxCompletionTokens => Some("max_completion_tokens"),
            LengthLimit::MaxTokens => Some("max_tokens"),
            LengthLimit::Absent => None,
        }
    }
}

/// What is sent as `reasoning_effort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Not sent.
    #[default]
    Absent,
    /// `none`.
    None,
    /// `minimal`.
    Minimal,
    /// `low`.
    Low,
    /// What the user chose. It is never replaced: another value could cost far more.
    Chosen(String),
}

impl Effort {
    /// The parameter's value in a request.
    pub fn value(&self) -> Option<&str> {
        match self {
            Effort::Absent => None,
            Effort::None => Some("none"),
            Effort::Minimal => Some("minimal"),
            Effort::Low => Some("low"),
            Effort::Chosen(value) => Some(value),
        }
    }

    fn below(&self) -> Option<Effort> {
        match self {
            Effort::None => Some(Effort::Minimal),
            Effort::Minimal => Some(Effort::Low),
            Effort::Low => Some(Effort::Absent),
            Effort::Absent | Effort::Chosen(_) => None,
        }
    }
}

/// What the service is told of its prompt cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheControl {
    /// Nothing.
    #[default]
    Untold,
    /// `prompt_cache_options` in explicit mode without a breakpoint: nothing is written.
    NoWrites,
    /// The same with a breakpoint after the system message: that is written, and no row.
    AfterSystem,
}

impl CacheControl {
    fn name(self) -> &'static str {
        match self {
            CacheControl::Untold => "untold",
            CacheControl::NoWrites => "explicit",
            CacheControl::AfterSystem => "after the system message",
        }
    }
}

/// What a model takes. A request carries the dialect that it was built with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialect {
    form: FormRung,
    length_limit: LengthLimit,
    zero_temperature: bool,
    effort: Effort,
    #[serde(default)]
    cache: CacheControl,
}

/// What a refusal leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// The dialect moved; ask again with it.
    Changed(DialectChange),
    /// It had moved already when the refusal came; ask again with it.
    AlreadyChanged,
    /// Nothing is left to give up: the refusal is final.
    Exhausted,
}

/// A step of a dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialectChange {
    /// `response_format`, or the name of the parameter.
    pub parameter: &'static str,
    /// The rung or value until now.
    pub from: String,
    /// The rung or value from now on; `None` if the parameter is not sent any more.
    pub to: Option<String>,
}

impl DialectChange {
    /// How the change is told to those who watch the run.
    pub fn event(&self) -> Event {
        match (self.parameter, &self.to) {
            ("response_format", Some(to)) => {
                Event::FormChanged { from: self.from.clone(), to: to.clone() }
            }
            (parameter, None) => Event::ParameterDropped { parameter: parameter.to_owned() },
            (parameter, Some(_)) => {
                Event::ParameterDropped { parameter: format!("{parameter} = {}", self.from) }
            }
        }
    }
}

impl Dialect {
    /// Where a run with `model` begins: the strictest enforcement of `form`,
    /// `max_completion_tokens`, no temperature, and the lowest effort if the model is known to
    /// reason. `chosen_effort` is the user's own and goes to any model.
    pub fn for_model(model: &str, form: AnswerForm, chosen_effort: Option<&str>) -> Dialect {
        let form = match form {
            AnswerForm::Array => FormRung::ArrayWithPattern,
            AnswerForm::Object => FormRung::Object,
            AnswerForm::Lines => FormRung::Lines,
        };
        let effort = match chosen_effort {
            Some(value) => Effort::Chosen(value.to_owned()),
            None if is_reasoning_model(model) => Effort::None,
            None => Effort::Absent,
        };
        Dialect { form, effort, ..Dialect::default() }
    }

    /// The same dialect with `temperature` 0, until the model refuses it.
    pub fn with_zero_temperature(mut self) -> Dialect {
        self.zero_temperature = true;
        self
    }

    /// The same dialect that tells the service so of its prompt cache, until it refuses that.
    pub fn with_cache(mut self, cache: CacheControl) -> Dialect {
        self.cache = cache;
        self
    }

    /// What the service is told of its prompt cache.
    pub fn cache(&self) -> CacheControl {
        self.cache
    }

    /// How the answer's form is enforced.
    pub fn form(&self) -> FormRung {
        self.form
    }

    /// The parameter that limits the reply's length.
    pub fn length_limit(&self) -> LengthLimit {
        self.length_limit
    }

    /// Whether `temperature` 0 is sent.
    pub fn sends_zero_temperature(&self) -> bool {
        self.zero_temperature
    }

    /// What is sent as `reasoning_effort`.
    pub fn effort(&self) -> &Effort {
        &self.effort
    }

    /// Moves to a lower rung for another reason than a refusal, such as its price. `None` if the
    /// dialect is there already or lower.
    pub fn lower_form_to(&mut self, rung: FormRung) -> Option<DialectChange> {
        (rung > self.form).then(|| self.set_form(rung))
    }

    /// Gives up what the model refused: `parameter` as named by
    /// [`ProviderError::ParameterRefused`], in a request that was built with `sent`.
    ///
    /// `pattern` gives up the pattern only, `json_schema` all schemas, `response_format` and
    /// `schema` one rung.
    ///
    /// [`ProviderError::ParameterRefused`]: super::provider::ProviderError::ParameterRefused
    pub fn step_down(&mut self, sent: &Dialect, parameter: &str) -> StepDown {
        match parameter {
            "response_format" | "json_schema" | "schema" | "pattern" => {
                if self.form != sent.form {
                    return StepDown::AlreadyChanged;
                }
                let Some(below) = self.form.below() else { return StepDown::Exhausted };
                let to = if parameter == "json_schema" {
                    below.max(FormRung::JsonObject)
                } else {
                    below
                };
                StepDown::Changed(self.set_form(to))
            }
            "max_completion_tokens" | "max_tokens" => {
                if self.length_limit != sent.length_limit {
                    return StepDown::AlreadyChanged;
                }
                let below = match self.length_limit {
                    LengthLimit::MaxCompletionTokens => LengthLimit::MaxTokens,
                    LengthLimit::MaxTokens => LengthLimit::Absent,
                    LengthLimit::Absent => return StepDown::Exhausted,
                };
                let from = self.length_limit.parameter().unwrap_or_default();
                self.length_limit = below;
                StepDown::Changed(DialectChange {
                    parameter: from,
                    from: from.to_owned(),
                    to: None,
                })
            }
            "temperature" => match (sent.zero_temperature, self.zero_temperature) {
                (true, true) => {
                    self.zero_temperature = false;
                    let from = "0".to_owned();
                    StepDown::Changed(DialectChange { parameter: "temperature", from, to: None })
                }
                (true, false) => StepDown::AlreadyChanged,
                (false, _) => StepDown::Exhausted,
            },
            "reasoning_effort" => {
                if self.effort != sent.effort {
                    return StepDown::AlreadyChanged;
                }
                let Some(below) = self.effort.below() else { return StepDown::Exhausted };
                let from = self.effort.value().unwrap_or_default().to_owned();
                let to = below.value().map(str::to_owned);
                self.effort = below;
                StepDown::Changed(DialectChange { parameter: "reasoning_effort", from, to })
            }
            "prompt_cache_breakpoint" | "prompt_cache_options" => {
                if self.cache != sent.cache {
                    return StepDown::AlreadyChanged;
                }
                let (parameter, below) = match (self.cache, parameter) {
                    (CacheControl::Untold, _) => return StepDown::Exhausted,
                    (CacheControl::AfterSystem, "prompt_cache_breakpoint") => {
                        ("prompt_cache_breakpoint", CacheControl::NoWrites)
                    }
                    _ => ("prompt_cache_options", CacheControl::Untold),
                };
                let from = std::mem::replace(&mut self.cache, below).name().to_owned();
                StepDown::Changed(DialectChange { parameter, from, to: None })
            }
            _ => StepDown::Exhausted,
        }
    }

    fn set_form(&mut self, rung: FormRung) -> DialectChange {
        let from = std::mem::replace(&mut self.form, rung);
        DialectChange {
            parameter: "response_format",
            from: from.name().to_owned(),
            to: Some(rung.name().to_owned()),
        }
    }
}

/// Whether `model` is known to think before it answers: GPT-5 and later, the o series and gpt-oss,
/// with or without a vendor's prefix (`openai/gpt-oss-20b`). Chat variants don't reason.
pub fn is_reasoning_model(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    if name.starts_with("gpt-oss") {
        return true;
    }
    let generation = |rest: &str| -> Option<u32> {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse().ok()
    };
    if let Some(rest) = name.strip_prefix("gpt-") {
        return generation(rest).is_some_and(|number| number >= 5) && !name.contains("-chat");
    }
    name.strip_prefix('o').and_then(generation).is_some_and(|number| number < 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(step: StepDown) -> DialectChange {
        match step {
            StepDown::Changed(change) => change,
            other => panic!("expected a change, got {other:?}"),
        }
    }

    #[test]
    fn refusals_walk_the_whole_ladder_and_then_are_final() {
        let mut dialect = Dialect::for_model("gpt-4o-mini", AnswerForm::Object, None);
        let mut seen = vec![dialect.form().name()];
        loop {
            let sent = dialect.clone();
            match dialect.step_down(&sent, "response_format") {
                StepDown::Changed(_) => seen.push(dialect.form().name()),
                other => {
                    assert_eq!(other, StepDown::Exhausted);
                    break;
                }
            }
        }
        assert_eq!(seen, ["object", "array_with_pattern", "array", "json_object", "lines"]);
    }

    #[test]
    fn a_model_without_schemas_is_spared_the_plain_array() {
        let mut dialect = Dialect::for_model("m", AnswerForm::Array, None);
        let sent = dialect.clone();
        let change = changed(dialect.step_down(&sent, "json_schema"));
        assert_eq!(dialect.form(), FormRung::JsonObject);
        assert_eq!(
            change.event(),
            Event::FormChanged { from: "array_with_pattern".into(), to: "json_object".into() }
        );
        let sent = dialect.clone();
        changed(dialect.step_down(&sent, "json_schema"));
        assert_eq!(dialect.form(), FormRung::Lines);
    }

    #[test]
    fn ten_refusals_of_the_same_request_step_down_once() {
        let mut dialect =
            Dialect::for_model("gpt-5-mini", AnswerForm::Array, None).with_zero_temperature();
        let sent = dialect.clone();
        for parameter in ["pattern", "max_completion_tokens", "temperature", "reasoning_effort"] {
            changed(dialect.step_down(&sent, parameter));
            for _ in 0..9 {
                assert_eq!(dialect.step_down(&sent, parameter), StepDown::AlreadyChanged);
            }
        }
        assert_eq!(dialect.form(), FormRung::Array);
        assert_eq!(dialect.length_limit(), LengthLimit::MaxTokens);
        assert!(!dialect.sends_zero_temperature());
        assert_eq!(dialect.effort(), &Effort::Minimal);
    }

    #[test]
    fn cache_control_that_is_refused_goes_the_breakpoint_first() {
        let mut dialect = Dialect::default().with_cache(CacheControl::AfterSystem);
        let sent = dialect.clone();
        changed(dialect.step_down(&sent, "prompt_cache_breakpoint"));
        assert_eq!(dialect.cache(), CacheControl::NoWrites);
        assert_eq!(dialect.step_down(&sent, "prompt_cache_options"), StepDown::AlreadyChanged);
        let sent = dialect.clone();
        let dropped = changed(dialect.step_down(&sent, "prompt_cache_options")).event();
        let told = Event::ParameterDropped { parameter: "prompt_cache_options".into() };
        assert_eq!((dialect.cache(), dropped), (CacheControl::Untold, told));
        let sent = dialect.clone();
        assert_eq!(dialect.step_down(&sent, "prompt_cache_options"), StepDown::Exhausted);
        let mut whole = Dialect::default().with_cache(CacheControl::AfterSystem);
        let sent = whole.clone();
        changed(whole.step_down(&sent, "prompt_cache_options"));
        assert_eq!(whole.cache(), CacheControl::Untold);
    }

    #[test]
    fn the_length_limit_changes_its_name_and_then_goes() {
        let mut dialect = Dialect::default();
        let sent = dialect.clone();
        let change = changed(dialect.step_down(&sent, "max_completion_tokens"));
        let renamed = Event::ParameterDropped { parameter: "max_completion_tokens".into() };
        assert_eq!(change.event(), renamed);
        let sent = dialect.clone();
        changed(dialect.step_down(&sent, "max_tokens"));
        assert_eq!(dialect.length_limit().parameter(), None);
        let sent = dialect.clone();
        assert_eq!(dialect.step_down(&sent, "max_tokens"), StepDown::Exhausted);
    }

    #[test]
    fn effort_climbs_to_the_lowest_that_is_accepted() {
        let mut dialect = Dialect::for_model("o3-mini", AnswerForm::Array, None);
        let mut values = Vec::new();
        while let Some(value) = dialect.effort().value() {
            values.push(value.to_owned());
            let sent = dialect.clone();
            changed(dialect.step_down(&sent, "reasoning_effort"));
        }
        assert_eq!(values, ["none", "minimal", "low"]);
    }

    #[test]
    fn an_effort_that_the_user_chose_is_never_replaced() {
        let mut dialect = Dialect::for_model("gpt-4o", AnswerForm::Array, Some("high"));
        let sent = dialect.clone();
        assert_eq!(dialect.step_down(&sent, "reasoning_effort"), StepDown::Exhausted);
        assert_eq!(dialect.effort().value(), Some("high"));
    }

    #[test]
    fn what_was_not_sent_cannot_be_given_up() {
        let mut dialect = Dialect::default();
        let sent = dialect.clone();
        assert_eq!(dialect.step_down(&sent, "temperature"), StepDown::Exhausted);
        assert_eq!(dialect.step_down(&sent, "logprobs"), StepDown::Exhausted);
        assert_eq!(dialect, sent);
    }

    #[test]
    fn a_form_is_lowered_for_its_price_but_never_raised() {
        let mut dialect = Dialect::for_model("m", AnswerForm::Array, None);
        assert!(dialect.lower_form_to(FormRung::Array).is_some());
        assert_eq!(dialect.lower_form_to(FormRung::ArrayWithPattern), None);
        assert_eq!(dialect.form(), FormRung::Array);
    }

    #[test]
    fn reasoning_models_are_known_by_name() {
        for model in ["gpt-5", "gpt-5.1-mini", "o3", "o4-mini", "openai/gpt-oss-20b", "gpt-6-luna"]
        {
            assert!(is_reasoning_model(model), "{model}");
        }
        for model in ["gpt-4o", "gpt-4.1-nano", "olmo-2", "omni", "gpt-5-chat-latest", "claude-5"] {
            assert!(!is_reasoning_model(model), "{model}");
        }
    }

    #[test]
    fn a_dialect_survives_the_job_file() {
        let mut dialect = Dialect::for_model("gpt-5", AnswerForm::Object, Some("low"));
        let sent = dialect.clone();
        changed(dialect.step_down(&sent, "response_format"));
        let json = serde_json::to_string(&dialect).unwrap();
        assert_eq!(serde_json::from_str::<Dialect>(&json).unwrap(), dialect);
    }
}
