//! What the simulated server is told: its limits, its speed, what it refuses and what it gets
//! wrong. Plain values; the defaults are the constants beside them.

use std::path::PathBuf;
use std::str::FromStr;

use super::quality::Quality;

/// How the simulated server behaves. A limit of `None` is no limit; a share is 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Tokens in any 60 seconds. Default: none.
    pub tokens_per_minute: Option<u32>,
    /// Requests in any 60 seconds. Default: none.
    pub requests_per_minute: Option<u32>,
    /// Input tokens a minute. Default: none.
    pub input_tokens_per_minute: Option<u32>,
    /// Output tokens a minute. Default: none.
    pub output_tokens_per_minute: Option<u32>,
    /// Requests a day. Default: none.
    pub requests_per_day: Option<u32>,
    /// Tokens a day. Default: none.
    pub tokens_per_day: Option<u32>,
    /// How long a day is, seconds; the first begins with the server.
    /// Default: [`Settings::DAY_SECONDS`].
    pub day_seconds: u32,
    /// What a minute is. Default: `rolling`.
    pub minute: MinuteKind,
    /// The minute's limits are enforced over any so many seconds as well. Default: 0, none.
    pub slice_seconds: u32,
    /// The share of the tokens a minute that a second client uses all the time. Default: 0.
    pub second_client: f64,
    /// The minute's limits become these shares of what they were at first, so many seconds after
    /// the first request. Default: none.
    pub limit_changes: Vec<LimitChange>,
    /// How rate headers are spelled. Default: `openai`.
    pub headers: HeaderStyle,
    /// What a request is charged when it arrives. Default: `usage`.
    pub admission: Admission,
    /// Whether a request that is answered 429 takes its place in the window nevertheless.
    /// Default: false.
    pub charge_rejected: bool,
    /// Whether a JSON schema counts as part of the prompt, as with hosted services. Default: true.
    pub charge_schema: bool,
    /// How many per cent more tokens the server counts, in prompts and replies, than the `o200k`
    /// vocabulary has. Default: 0.
    pub count_bias_percent: f64,
    /// Tokens of hidden reasoning in every reply: charged as output, and taken from the room for
    /// the answer. Default: 0.
    pub hidden_output_tokens: u32,
    /// Time to the first token of a reply, milliseconds. Default: 0.
    pub latency_ms: u64,
    /// Time for each token of a reply, milliseconds. Default: 0.
    pub ms_per_output_token: f64,
    /// How far both may be off, either way, per cent. Default: 0.
    pub jitter_percent: f64,
    /// Where the random faults and the jitter begin; request n of the same seed meets the same
    /// fate. Default: [`Settings::SEED`].
    pub seed: u64,
    /// Parameters that are answered with HTTP 400. Default: none.
    pub refuse_parameters: Vec<RefusedParameter>,
    /// A request with a row that holds this text is refused as a whole. Default: none.
    pub refuse_marker: Option<String>,
    /// How such a request is refused. Default: `finish`.
    pub refusal: Refusal,
    /// A CSV file with known answers; a row whose text stands there is answered with its label,
    /// others by the embedded scorer. Default: none.
    pub gold: Option<PathBuf>,
    /// The column of `gold` with the text, rendered as the job renders it.
    /// Default: [`Settings::GOLD_TEXT_COLUMN`].
    pub gold_text_column: String,
    /// The column of `gold` with the label's name. Default: [`Settings::GOLD_LABEL_COLUMN`].
    pub gold_label_column: String,
    /// Answer by a hash of the text and count a token for every four bytes: nothing is scored, for
    /// measuring how fast a client is. Default: false.
    pub fixed_answer: bool,
    /// Share of replies without `usage`, as some gateways send them. Default: 0.
    pub no_usage: f64,
    /// Keep a prompt cache as GPT-5.6 does: what ends at a breakpoint is written and found again, of
    /// at least 1,024 tokens; a request that sets none is written as a whole. Default: false.
    pub prompt_cache: bool,
    /// What the server gets wrong. Default: nothing.
    pub faults: Faults,
    /// How often its labels are wrong, and how. Default: never.
    pub quality: Quality,
}

/// What goes wrong, each as a share from 0 (never) to 1 (always), drawn independently. None makes
/// a client that matches by key and reads strictly give a wrong label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Share of rows that the reply leaves out.
    pub drop_row: f64,
    /// Share of rows that are answered twice, with two codes.
    pub repeat_row: f64,
    /// Share of rows that are answered with a code that no label has.
    pub unknown_code: f64,
    /// Share of rows after which a row that nobody asked about is answered too.
    pub foreign_key: f64,
    /// Share of replies whose members come in another order.
    pub shuffle: f64,
    /// Share of replies that end early, as if at their most tokens.
    pub cut: f64,
    /// Share of replies that stand in a code fence between sentences.
    pub fence: f64,
    /// Share of replies in which the model refuses to answer.
    pub refuse: f64,
    /// Share of requests that are answered 500.
    pub status_500: f64,
    /// Share of requests that are answered 429, whatever the limit.
    pub status_429: f64,
    /// Share of replies whose connection breaks after half of the body.
    pub reset: f64,
    /// Share of requests that are never answered; they end when the client leaves.
    pub hang: f64,
}

/// From some time on, the minute's limits are a share of what they were at first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitChange {
    /// Seconds after the first request.
    pub after_seconds: u32,
    /// Share of the first limits, 0 to 1.
    pub share: f64,
}

/// What a request is charged when it arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Its prompt and the reply that it will get.
    #[default]
    Usage,
    /// Its prompt and the most tokens that it allows the reply.
    MaxTokens,
    /// Its prompt and the reply, and at least the most tokens that it allows the reply.
    Max,
    /// Its prompt alone.
    Input,
}

/// What a minute is to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinuteKind {
    /// Any 60 seconds.
    #[default]
    Rolling,
    /// A counter that begins anew each minute.
    Fixed,
    /// A bucket that fills up steadily.
    Bucket,
}

/// How rate headers are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderStyle {
    /// `x-ratelimit-*`, resets as Go prints durations.
    #[default]
    Openai,
    /// `x-ratelimit-*`, resets in seconds, and `retry-after-ms`.
    Azure,
    /// `anthropic-ratelimit-*`, resets as RFC 3339 times, input and output apart.
    Anthropic,
    /// `x-ratelimit-*`, where those of requests are a day's.
    Groq,
    /// None.
    None,
}

/// A parameter that the simulated model does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedParameter {
    /// `response_format`, of any type.
    ResponseFormat,
    /// `response_format` of type `json_schema`; `json_object` is taken.
    JsonSchema,
    /// `pattern` in a schema.
    Pattern,
    /// `temperature`.
    Temperature,
    /// `reasoning_effort`.
    ReasoningEffort,
    /// `max_completion_tokens`; `max_tokens` is taken.
    MaxCompletionTokens,
    /// `prompt_cache_options`, as models before GPT-5.6 and other services.
    PromptCacheOptions,
}

/// How a request is refused for what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// A reply without text that ended with `content_filter`.
    #[default]
    Finish,
    /// HTTP 400 with the code `content_policy_violation`.
    Status,
}

impl Settings {
    /// The seed unless another is given.
    pub const SEED: u64 = 1;
    /// The length of a day unless another is given.
    pub const DAY_SECONDS: u32 = 86_400;
    /// The column of a gold file with the text.
    pub const GOLD_TEXT_COLUMN: &str = "text";
    /// The column of a gold file with the label.
    pub const GOLD_LABEL_COLUMN: &str = "label";
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            tokens_per_minute: None,
            requests_per_minute: None,
            input_tokens_per_minute: None,
            output_tokens_per_minute: None,
            requests_per_day: None,
            tokens_per_day: None,
            day_seconds: Settings::DAY_SECONDS,
            minute: MinuteKind::default(),
            slice_seconds: 0,
            second_client: 0.0,
            limit_changes: Vec::new(),
            headers: HeaderStyle::default(),
            admission: Admission::default(),
            charge_rejected: false,
            charge_schema: true,
            count_bias_percent: 0.0,
            hidden_output_tokens: 0,
            latency_ms: 0,
            ms_per_output_token: 0.0,
            jitter_percent: 0.0,
            seed: Settings::SEED,
            refuse_parameters: Vec::new(),
            refuse_marker: None,
            refusal: Refusal::default(),
            gold: None,
            gold_text_column: Settings::GOLD_TEXT_COLUMN.to_owned(),
            gold_label_column: Settings::GOLD_LABEL_COLUMN.to_owned(),
            fixed_answer: false,
            no_usage: 0.0,
            prompt_cache: false,
            faults: Faults::default(),
            quality: Quality::default(),
        }
    }
}

/// A setting that can't be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// A share that is none.
    #[error("`{name}` is a share from 0 to 1, not {value}")]
    NotAShare {
        /// The field of [`Faults`] or [`Settings`].
        name: &'static str,
        /// What it was set to.
        value: f64,
    },
    /// A number outside its range.
    #[error("`{name}` must be {range}, not {value}")]
    OutOfRange {
        /// The field of [`Settings`].
        name: &'static str,
        /// What it may be, in words.
        range: &'static str,
        /// What it was set to.
        value: f64,
    },
    /// Two askings can't differ so often.
    #[error(
        "`disagreement` of {wanted} can't be had in calls of {rows} rows: with the accuracy there, \
         two askings differ in {most:.4} of the rows at most"
    )]
    OutOfReach {
        /// Rows in a call.
        rows: u32,
        /// What it was set to there.
        wanted: f64,
        /// Twice the accuracy times the share of errors.
        most: f64,
    },
    /// An empty marker would be in every row.
    #[error("the refusal marker is empty; give the text of rows to refuse")]
    EmptyMarker,
    /// A word that names no choice.
    #[error("`{word}` is not one of {choices}")]
    UnknownWord {
        /// What was given.
        word: String,
        /// What could be, in words.
        choices: &'static str,
    },
}

impl Settings {
    /// Checks every number's range.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let changes = self.limit_changes.iter().map(|change| ("limit_changes", change.share));
        let shares = [
            ("second_client", self.second_client),
            ("no_usage", self.no_usage),
            ("late_loss", self.quality.late_loss),
            ("shift_rows", self.quality.shift_rows),
        ];
        for (name, value) in self.faults.named().into_iter().chain(shares).chain(changes) {
            if !(0.0..=1.0).contains(&value) {
                return Err(SettingsError::NotAShare { name, value });
            }
        }
        let ranges = [
            ("count_bias_percent", self.count_bias_percent, -90.0, 1000.0, "from -90 to 1000"),
            ("jitter_percent", self.jitter_percent, 0.0, 100.0, "from 0 to 100"),
            ("ms_per_output_token", self.ms_per_output_token, 0.0, 60_000.0, "from 0 to 60000"),
            ("day_seconds", f64::from(self.day_seconds), 1.0, 86_400.0, "from 1 to 86400"),
            ("slice_seconds", f64::from(self.slice_seconds), 0.0, 59.0, "from 0 to 59"),
            ("latency_ms", self.latency_ms as f64, 0.0, 86_400_000.0, "at most a day (86400000)"),
        ];
        for (name, value, least, most, range) in ranges {
            if !(least..=most).contains(&value) {
                return Err(SettingsError::OutOfRange { name, range, value });
            }
        }
        if self.refuse_marker.as_deref() == Some("") {
            return Err(SettingsError::EmptyMarker);
        }
        if let Some((rows, wanted, most)) = self.quality.out_of_reach() {
            return Err(SettingsError::OutOfReach { rows, wanted, most });
        }
        Ok(())
    }
}

impl Faults {
    /// Every share with its field's name.
    fn named(&self) -> [(&'static str, f64); 12] {
        [
            ("drop_row", self.drop_row),
            ("repeat_row", self.repeat_row),
            ("unknown_code", self.unknown_code),
            ("foreign_key", self.foreign_key),
            ("shuffle", self.shuffle),
            ("cut", self.cut),
            ("fence", self.fence),
            ("refuse", self.refuse),
            ("status_500", self.status_500),
            ("status_429", self.status_429),
            ("reset", self.reset),
            ("hang", self.hang),
        ]
    }
}

/// Finds `word` among `choices`.
fn parse_word<T: Copy>(
    word: &str,
    choices: &[(&str, T)],
    in_words: &'static str,
) -> Result<T, SettingsError> {
    let found = choices.iter().find(|(name, _)| *name == word);
    found
        .map(|(_, choice)| *choice)
        .ok_or_else(|| SettingsError::UnknownWord { word: word.to_owned(), choices: in_words })
}

impl FromStr for Admission {
    type Err = SettingsError;

    fn from_str(word: &str) -> Result<Admission, SettingsError> {
        let choices = [
            ("usage", Admission::Usage),
            ("max_tokens", Admission::MaxTokens),
            ("max", Admission::Max),
            ("input", Admission::Input),
        ];
        parse_word(word, &choices, "usage, max_tokens, max, input")
    }
}

impl FromStr for MinuteKind {
    type Err = SettingsError;

    fn from_str(word: &str) -> Result<MinuteKind, SettingsError> {
        let choices = [
            ("rolling", MinuteKind::Rolling),
            ("fixed", MinuteKind::Fixed),
            ("bucket", MinuteKind::Bucket),
        ];
        parse_word(word, &choices, "rolling, fixed, bucket")
    }
}

impl FromStr for HeaderStyle {
    type Err = SettingsError;

    fn from_str(word: &str) -> Result<HeaderStyle, SettingsError> {
        let choices = [
            ("openai", HeaderStyle::Openai),
            ("azure", HeaderStyle::Azure),
            ("anthropic", HeaderStyle::Anthropic),
            ("groq", HeaderStyle::Groq),
            ("none", HeaderStyle::None),
        ];
        parse_word(word, &choices, "openai, azure, anthropic, groq, none")
    }
}

impl FromStr for RefusedParameter {
    type Err = SettingsError;

    fn from_str(word: &str) -> Result<RefusedParameter, SettingsError> {
        let choices = [
            ("response_format", RefusedParameter::ResponseFormat),
            ("json_schema", RefusedParameter::JsonSchema),
            ("pattern", RefusedParameter::Pattern),
            ("temperature", RefusedParameter::Temperature),
            ("reasoning_effort", RefusedParameter::ReasoningEffort),
            ("max_completion_tokens", RefusedParameter::MaxCompletionTokens),
            ("prompt_cache_options", RefusedParameter::PromptCacheOptions),
        ];
        let in_words = "response_format, json_schema, pattern, temperature, reasoning_effort, \
                        max_completion_tokens, prompt_cache_options";
        parse_word(word, &choices, in_words)
    }
}

impl FromStr for Refusal {
    type Err = SettingsError;

    fn from_str(word: &str) -> Result<Refusal, SettingsError> {
        let choices = [("finish", Refusal::Finish), ("status", Refusal::Status)];
        parse_word(word, &choices, "finish, status")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_limit_nothing() {
        let settings = Settings::default();
        assert_eq!(settings.check(), Ok(()));
        assert_eq!((settings.tokens_per_minute, settings.requests_per_minute), (None, None));
        assert!(settings.faults.named().iter().all(|(_, share)| *share == 0.0));
    }

    #[test]
    fn a_share_beyond_one_or_of_nothing_is_refused_by_name() {
        for value in [1.5, -0.1, f64::NAN] {
            let faults = Faults { hang: value, ..Faults::default() };
            let error = Settings { faults, ..Settings::default() }.check().unwrap_err();
            assert!(error.to_string().starts_with("`hang` is a share from 0 to 1"), "{error}");
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        let refused = [
            Settings { slice_seconds: 60, ..Settings::default() },
            Settings { second_client: 1.5, ..Settings::default() },
            Settings { day_seconds: 0, ..Settings::default() },
            Settings { jitter_percent: 101.0, ..Settings::default() },
            Settings { ms_per_output_token: -1.0, ..Settings::default() },
            Settings { count_bias_percent: f64::INFINITY, ..Settings::default() },
            Settings { refuse_marker: Some(String::new()), ..Settings::default() },
        ];
        assert!(refused.iter().all(|settings| settings.check().is_err()));
    }

    #[test]
    fn words_are_read_and_unknown_ones_name_the_choices() {
        assert_eq!("max_tokens".parse(), Ok(Admission::MaxTokens));
        assert_eq!("bucket".parse(), Ok(MinuteKind::Bucket));
        assert_eq!("groq".parse(), Ok(HeaderStyle::Groq));
        assert_eq!("pattern".parse(), Ok(RefusedParameter::Pattern));
        assert_eq!("status".parse(), Ok(Refusal::Status));
        let error = "never".parse::<Refusal>().unwrap_err();
        assert_eq!(error.to_string(), "`never` is not one of finish, status");
    }
}
