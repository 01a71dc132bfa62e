//! A job, validated: what to read, what to ask, within which limits, where to write.
//!
//! Settings are plain data. Their defaults are the constants here, which the help text quotes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::limits::Limits;
use super::{
    Codebook, Dollars, KnownRows, Location, PartEncoding, Price, Reading, Reason, Template, Tokens,
};

/// Default of [`BatchSpec::rows_per_call`].
pub const ROWS_PER_CALL: u32 = 50;
/// Default of [`BatchSpec::tokens_per_call`].
pub const TOKENS_PER_CALL: u32 = 8_000;
/// Default of [`BatchSpec::max_attempts`].
pub const MAX_ATTEMPTS: u16 = 3;
/// Default of [`BatchSpec::dedupe_texts`].
pub const DEDUPE_TEXTS: usize = 200_000;
/// Default of [`QualitySpec::probe`].
pub const PROBE: f64 = 0.005;
/// Default of [`QualitySpec::probe_max`].
pub const PROBE_MAX: f64 = 0.05;
/// Default of [`OutputSpec::rows_per_part`] on a disk.
pub const ROWS_PER_PART: u32 = 50_000;
/// Default of [`OutputSpec::label_column`].
pub const LABEL_COLUMN: &str = "label";
/// Default of [`InputSpec::sort_memory`]: 64 MiB.
pub const SORT_MEMORY: u64 = 64 << 20;
/// Default of [`ModelSpec::connect_timeout`], seconds.
pub const CONNECT_TIMEOUT_S: u64 = 10;
/// Default of [`ModelSpec::read_timeout`], seconds.
pub const READ_TIMEOUT_S: u64 = 120;
/// Default of [`ModelSpec::reply_timeout`], seconds.
pub const REPLY_TIMEOUT_S: u64 = 300;
/// Default of [`JobSpec::give_up_after`], seconds.
pub const GIVE_UP_AFTER_S: u64 = 1_800;

/// Default of [`ModelSpec::base_url`].
pub const BASE_URL: &str = "https://api.openai.com/v1";
/// Default of [`ModelSpec::api_key_env`] at [`BASE_URL`]; elsewhere it has none, so that a key never
/// reaches a host that it was not meant for.
pub const API_KEY_ENV: &str = "OPENAI_API_KEY";
/// Default of [`ModelSpec::max_output_tokens`]: what the smallest common model allows.
pub const MAX_OUTPUT_TOKENS: u32 = 16_384;

/// A whole job, ready to run.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// What to read.
    pub input: InputSpec,
    /// What the model is told before the labels.
    pub instructions: String,
    /// The labels and their codes.
    pub codebook: Codebook,
    /// Who answers.
    pub model: ModelSpec,
    /// How fast it may be asked.
    pub limits: Limits,
    /// What it may cost.
    pub budget: BudgetSpec,
    /// How rows are packed into calls.
    pub batch: BatchSpec,
    /// How labels are watched.
    pub quality: QualitySpec,
    /// What is written.
    pub output: OutputSpec,
    /// Classify only the first rows in id order; a later run with a higher limit or none goes on.
    pub row_limit: Option<NonZeroU64>,
    /// Longest time of nothing but failures before the run ends, resumable.
    pub give_up_after: Duration,
}

/// What a job may cost over its whole life, and what tokens cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetSpec {
    /// Most money that its calls may cost; it needs a price.
    pub max_cost: Option<Dollars>,
    /// Most tokens that its calls may be billed for, prompt and completion together.
    pub max_tokens: Option<NonZeroU64>,
    /// What the user says that tokens cost.
    pub own_price: OwnPrice,
    /// What tokens cost, where that is known: by the user's word, or by the table of prices.
    pub price: Option<Price>,
    /// What is done where writing a prompt cache costs more than plain input.
    pub caching: Caching,
}

/// What the user says that tokens cost, each for itself: the price of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnPrice {
    /// A token of a request.
    pub input: Option<Dollars>,
    /// One that was read from the provider's cache.
    pub cached_input: Option<Dollars>,
    /// One that was written into the provider's cache.
    pub cache_write: Option<Dollars>,
    /// A token of a reply.
    pub output: Option<Dollars>,
}

/// What is done where writing a prompt cache costs more than plain input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// Nothing is sent: the provider writes nothing unless asked to.
    Unasked,
    /// Nothing is sent, and the provider may write by itself, at that price.
    #[default]
    Untold,
    /// The provider is told to write the fixed part of a prompt at most, where that pays.
    FixedPart,
    /// The provider is told to write nothing.
    Off,
}

/// What to read, and which columns mean what.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// A file, a folder or a glob, as it was typed.
    pub location: Location,
    /// How object storage is reached; unused for a path.
    pub cloud: CloudSpec,
    /// How its files become rows.
    pub reading: Reading,
    /// Where a row's id comes from.
    pub id: IdSource,
    /// How a row's text is made.
    pub text: Template,
    /// Rows that have a value in this column are passed through with it, never asked.
    pub existing_label: Option<String>,
    /// Known answers, only ever compared with.
    pub gold: Option<String>,
    /// The columns that go to the output, in this order; the id goes along. `None`: all. What
    /// neither goes there nor is named above is not read.
    pub columns: Option<Vec<String>>,
    /// What a repeated id does.
    pub on_duplicate_id: OnDuplicateId,
    /// Most memory for bringing an unsorted input into id order, bytes.
    pub sort_memory: u64,
    /// Where an unsorted input that is larger than that is sorted.
    pub temp_dir: PathBuf,
}

impl InputSpec {
    /// Whether the column `name` is read at all.
    pub fn reads(&self, name: &str) -> bool {
        let is_id = matches!(&self.id, IdSource::Column(id) if id == name);
        let mut labels = self.existing_label.iter().chain(&self.gold);
        let goes_along = |columns: &Vec<String>| columns.iter().any(|column| column == name);
        is_id
            || self.text.columns().any(|column| column == name)
            || labels.any(|column| column == name)
            || self.columns.as_ref().is_none_or(goes_along)
    }
}

/// Where a row's id comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdSource {
    /// This column.
    Column(String),
    /// `"@row"`: the row's number in the input, from 0, files in name order.
    RowNumber,
}

impl IdSource {
    /// How [`IdSource::RowNumber`] is written in a config.
    pub const ROW_NUMBER: &str = "@row";
}

impl std::fmt::Display for IdSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IdSource::Column(name) => f.write_str(name),
            IdSource::RowNumber => f.write_str(IdSource::ROW_NUMBER),
        }
    }
}

/// What a repeated id does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDuplicateId {
    /// Stop before the first call and name both rows.
    #[default]
    Error,
    /// Keep the row that stands first in the input.
    First,
}

/// How an output's parts are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A part is one file with all rows of its range; filling its null labels replaces it.
    Replace,
    /// A part is one file or more, each with answered rows that stand in no earlier one; nothing
    /// is ever replaced.
    Append,
}

/// Which service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Any OpenAI-compatible chat endpoint.
    Openai,
    /// The embedded scorer: offline, no key.
    Lexical,
}

/// The tokenizer's vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vocabulary {
    /// GPT-4o and later.
    O200k,
    /// GPT-4 and GPT-3.5.
    Cl100k,
}

/// The form of the answer that is asked for; see `docs/wire-format.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerForm {
    /// `{"r":["417:B","902:A"]}`.
    Array,
    /// `{"417":"B","902":"A"}`, every key required.
    Object,
    /// `417:B`, one line per row.
    Lines,
}

/// What stands for a row in a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// Three fresh digits; the id never leaves the machine.
    #[default]
    Random,
    /// The row's own id.
    Id,
}

/// Who answers, and how it is reached.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// Which service.
    pub provider: ProviderKind,
    /// The model's name as the service knows it; `lexical` for the embedded one.
    pub name: String,
    /// Up to but not including `/chat/completions`; unused by `lexical`.
    pub base_url: String,
    /// The environment variable that holds the key; `None` sends no key.
    pub api_key_env: Option<String>,
    /// The tokenizer's vocabulary.
    pub vocabulary: Vocabulary,
    /// The form of the answer that is asked for first.
    pub answer_form: AnswerForm,
    /// What stands for a row in a call.
    pub key: KeySource,
    /// Sent as `reasoning_effort`; `None` sends the lowest that a reasoning model accepts.
    pub reasoning_effort: Option<String>,
    /// Most tokens that one reply may have, hidden reasoning included.
    pub max_output_tokens: Tokens,
    /// What the embedded scorer learns from; `None` goes by the labels' own words.
    pub fit: Option<Arc<KnownRows>>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence within a reply.
    pub read_timeout: Duration,
    /// Longest wait for a whole reply.
    pub reply_timeout: Duration,
}

impl ModelSpec {
    /// The model's name, and which rows it learned from, as parts and manifest entries tell it.
    pub fn provenance(&self) -> String {
        match &self.fit {
            Some(known) => format!("{} fit:{:.12}", self.name, known.fingerprint()),
            None => self.name.clone(),
        }
    }

    /// The host that is asked: name and port, and `localhost` for this machine by whatever name and
    /// port, since a server of one's own seldom keeps its port. Empty for the embedded provider.
    pub fn host(&self) -> String {
        if self.provider == ProviderKind::Lexical {
            return String::new();
        }
        let address = self.base_url.split_once("://").map_or(&*self.base_url, |(_, rest)| rest);
        let authority = address.split('/').next().unwrap_or_default();
        let (name, _) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_loopback = name == "localhost" || address.is_ok_and(|address| address.is_loopback());
        if is_loopback { "localhost".to_owned() } else { authority.to_owned() }
    }
}

/// How rows are packed into calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSpec {
    /// Most rows in one call; at most 900, the number of three-digit keys.
    pub rows_per_call: NonZeroU32,
    /// Most tokens of one call: prompt and expected answer.
    pub tokens_per_call: Tokens,
    /// How often a row is asked, over all runs.
    pub max_attempts: u16,
    /// How many distinct texts are remembered, so that equal rows are asked once; 0 remembers none.
    pub dedupe_texts: usize,
    /// Whether rows whose texts speak of keys, codes or instructions are asked apart from others.
    pub isolate: bool,
}

/// How labels are watched while a run goes on. Shares are 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QualitySpec {
    /// The share of rows that are asked a second time, to see whether their labels hold; 0 asks
    /// none.
    pub probe: f64,
    /// How much more such rows may disagree than `probe_baseline` before fewer rows share a call.
    pub probe_max: f64,
    /// How much they disagreed when the rows per call were chosen.
    pub probe_baseline: f64,
}

impl Default for QualitySpec {
    fn default() -> QualitySpec {
        QualitySpec { probe: PROBE, probe_max: PROBE_MAX, probe_baseline: 0.0 }
    }
}

/// What is written.
#[derive(Clone, Debug)]
pub struct OutputSpec {
    /// The output folder, as it was typed.
    pub location: Location,
    /// How object storage is reached; unused for a path.
    pub cloud: CloudSpec,
    /// How parts are filled; `None` leaves it to what the storage can do.
    pub layout: Option<Layout>,
    /// Rows in each part; `None` plans [`ROWS_PER_PART`] on a disk, and about a minute's worth of
    /// the limit elsewhere.
    pub rows_per_part: Option<NonZeroU32>,
    /// How parts are encoded from now on.
    pub encoding: PartEncoding,
    /// The name of the column with the label; the reason's column adds `_reason`.
    pub label_column: String,
    /// `_SUCCESS` is written, and the exit code is 0, with at most this many rows unlabelled.
    pub max_unlabelled: u64,
    /// Reasons that are asked again although they usually are not.
    pub retry: Vec<Reason>,
    /// Holds the journals of all outputs, each in a folder of its own; `None` keeps a journal
    /// beside the parts, or in [`OutputSpec::state_folder`] where storage takes no small writes.
    pub journal_folder: Option<PathBuf>,
    /// The user's folder for what this program keeps between runs, if there is one.
    pub state_folder: Option<PathBuf>,
}

/// How object storage is reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CloudSpec {
    /// The address of a server that speaks the service's protocol; `None` is the service itself.
    pub endpoint_url: Option<String>,
    /// The bucket's region, where it is told.
    pub region: Option<String>,
    /// The variables by which the services' own tools are set up: `AWS_*`, `AZURE_*`, `GOOGLE_*`,
    /// `HOME`. Some are secrets, so they are never shown.
    pub environment: BTreeMap<String, String>,
}

impl std::fmt::Debug for CloudSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudSpec")
            .field("endpoint_url", &self.endpoint_url)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl OutputSpec {
    /// Rows in each part, where nothing tells what the output's storage is.
    pub fn rows_per_part(&self) -> NonZeroU32 {
        const DEFAULT: NonZeroU32 = NonZeroU32::new(ROWS_PER_PART).unwrap();
        self.rows_per_part.unwrap_or(DEFAULT)
    }

    /// The name of the column that says why there is no label.
    pub fn reason_column(&self) -> String {
        reason_column(&self.label_column)
    }
}

/// The name of the column that says why `label_column` is null.
pub fn reason_column(label_column: &str) -> String {
    format!("{label_column}_reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(base_url: &str) -> String {
        let model = ModelSpec {
            provider: ProviderKind::Openai,
            name: "m".into(),
            base_url: base_url.into(),
            api_key_env: None,
            vocabulary: Vocabulary::O200k,
            answer_form: AnswerForm::Array,
            key: KeySource::Random,
            reasoning_effort: None,
            max_output_tokens: Tokens(1),
            fit: None,
            connect_timeout: Duration::ZERO,
            read_timeout: Duration::ZERO,
            reply_timeout: Duration::ZERO,
        };
        model.host()
    }

    #[test]
    fn this_machine_is_one_host_by_every_name_and_nothing_else_is_it() {
        for here in ["http://127.0.0.1:8080/v1", "http://localhost/v1", "http://[::1]:9/v1"] {
            assert_eq!(host(here), "localhost", "{here}");
        }
        assert_eq!(host("https://127.models.example/v1"), "127.models.example");
        assert_eq!(host("https://models.example:444/v1"), "models.example:444");
    }
}
