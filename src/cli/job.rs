//! Settings to a job: the one place that fills in defaults and checks what settings say together.

use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::environment;
use super::known_rows::{FitError, known_rows};
use super::label_setting::LabelSetting;
use super::settings::{
    InputSettings, LimitSettings, ModelSettings, Positive32, PriceSettings, Settings, TaskSettings,
};
use super::storage::{EndpointError, cloud};
use super::values::{Count, LayoutChoice, PromptCache};
use crate::domain::codebook::fold;
use crate::domain::limits::{Rules, Vendor};
use crate::domain::reading::FileFormat;
use crate::domain::spec::{
    API_KEY_ENV, AnswerForm, BASE_URL, BatchSpec, BudgetSpec, CONNECT_TIMEOUT_S, Caching,
    DEDUPE_TEXTS, GIVE_UP_AFTER_S, IdSource, InputSpec, LABEL_COLUMN, Limits, MAX_ATTEMPTS,
    MAX_OUTPUT_TOKENS, ModelSpec, OutputSpec, OwnPrice, PROBE, PROBE_MAX, ProviderKind,
    QualitySpec, READ_TIMEOUT_S, REPLY_TIMEOUT_S, ROWS_PER_CALL, SORT_MEMORY, TOKENS_PER_CALL,
    Vocabulary,
};
use crate::domain::{
    Codebook, CodebookError, Compression, Dollars, JobSpec, KnownRows, Location, LocationError,
    PartEncoding, Reading, Template, TemplateError, Tokens,
};
use crate::llm::codes::{self, LabelDraft};
use crate::llm::governor::vendors::{rules_of, vendor_at};
use crate::llm::provider::Endpoint;
use crate::llm::token_counter::{TokenCounter, vocabulary_of};

/// Why settings make no job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// What every job has to say and this one doesn't.
    #[error("{0}")]
    Missing(Missing),
    /// The model is told nothing.
    #[error(
        "`instructions` are missing: say in a sentence what the rows are and what the labels \
         mean, or name a file: instructions_file = \"prompt.md\""
    )]
    NoInstructions,
    /// Two texts where one is asked for.
    #[error("`instructions` and `instructions_file` are both given; keep one of them")]
    TwoInstructions,
    /// The instructions' file.
    #[error("can't read the instructions in {}", .file.display())]
    InstructionsUnreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The input or the output is no place.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The address of object storage.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The row's text.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The rows to learn from.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The labels.
    #[error(transparent)]
    Codebook(#[from] CodebookError),
    /// A service without a model.
    #[error("the model's name is missing: name = \"gpt-4o-mini\" in [model], or --model")]
    NoModelName,
    /// An address that can't be called.
    #[error("base_url `{url}` in [model] {problem}")]
    BaseUrl {
        /// The address, without what may be secret in it.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody said which key this host may see.
    #[error(
        "api_key_env in [model] is missing: name the environment variable with the key for {host}, \
         or write \"\" to send none"
    )]
    NoApiKeyEnv {
        /// The host.
        host: String,
    },
    /// What no variable is called, perhaps a key; it is not shown.
    #[error(
        "api_key_env in [model] is no name of an environment variable (letters, digits and _); \
         put the key into a variable and name that"
    )]
    NoVariableName,
    /// A key in the clear.
    #[error(
        "base_url `{url}` in [model] is not https, and a key is only ever sent over https or to \
         this machine; use https, or api_key_env = \"\" to send no key"
    )]
    KeyInTheClear {
        /// The address.
        url: String,
    },
    /// One character that separates fields and encloses them.
    #[error(
        "`delimiter` and `quote` in [input] are both `{character}`; choose another, or quote = \
         \"none\""
    )]
    SameQuote {
        /// The character.
        character: char,
    },
    /// A column without a name.
    #[error("`{key}` is empty; {remedy}")]
    Empty {
        /// The key.
        key: &'static str,
        /// What to write instead.
        remedy: &'static str,
    },
}

/// The lines that a job can't do without and that are not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    config: Option<PathBuf>,
    lines: Vec<&'static str>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (count, are) = match self.lines.len() {
            1 => ("one line", "is"),
            2 => ("two lines", "are"),
            _ => ("three lines", "are"),
        };
        match &self.config {
            Some(file) => writeln!(f, "{count} {are} missing in {}:\n", file.display())?,
            None => writeln!(f, "there is no batchclass.toml here, and {count} {are} missing:\n")?,
        }
        for line in &self.lines {
            writeln!(f, "    {line}")?;
        }
        write!(f, "\n`batchclass init` writes a commented batchclass.toml to start from")
    }
}

const ID_LINE: &str =
    r#"id = "id"                # the column with the rows' unique id, or "@row""#;
const TEXT_LINE: &str =
    r#"text = "text"            # the column to classify, or "{title}: {body}""#;
const PROVIDER_LINE: &str =
    r#"provider = "openai"      # in [model]; or "lexical": offline, needs no key"#;

/// The job that `settings` describe. `config` is the file that was read, if one was.
///
/// # Errors
/// If something that has no default is missing, or settings contradict each other.
pub fn job(
    settings: Settings,
    input: PathBuf,
    output: PathBuf,
    config: Option<&Path>,
) -> Result<JobSpec, JobError> {
    let (id, text, provider) = required(&settings, config)?;
    let Settings {
        task,
        labels,
        model,
        limits,
        price,
        batch,
        quality,
        input: reading,
        output: writing,
        storage,
        run,
    } = settings;
    let cloud = cloud(storage)?;
    let (fit, fit_label) = (model.fit.clone(), model.fit_label.clone());
    let prompt_cache = model.prompt_cache.unwrap_or_default();
    let model = model_spec(model, provider)?;
    let mut job = JobSpec {
        input: InputSpec {
            location: Location::parse(input.as_os_str())?,
            cloud: cloud.clone(),
            reading: files_reading(&reading)?,
            id: id_source(id)?,
            text: Template::parse(&text)?,
            existing_label: column("existing_label", reading.existing_label)?,
            gold: column("gold", reading.gold)?,
            columns: writing.columns.map(|columns| columns.0),
            on_duplicate_id: reading.on_duplicate_id.unwrap_or_default(),
            sort_memory: reading.sort_memory.map_or(SORT_MEMORY, |bytes| bytes.0),
            temp_dir: reading.temp_dir.unwrap_or_else(environment::temp_dir),
        },
        instructions: instructions(&task, provider)?,
        codebook: codebook(labels, task.unsure, task.none_of_these, model.vocabulary)?,
        budget: budget_of(&limits, &price, prompt_cache, &model),
        limits: limits_of(limits, &model),
        model,
        batch: BatchSpec {
            rows_per_call: at_least_one(batch.rows_per_call.map_or(ROWS_PER_CALL, small)),
            tokens_per_call: Tokens(batch.tokens_per_call.map_or(TOKENS_PER_CALL, small)),
            max_attempts: batch
                .max_attempts
                .and_then(|times| u16::try_from(times.get()).ok())
                .unwrap_or(MAX_ATTEMPTS),
            dedupe_texts: batch
                .dedupe_texts
                .and_then(|texts| usize::try_from(texts.get()).ok())
                .unwrap_or(DEDUPE_TEXTS),
            isolate: batch.isolate.unwrap_or(true),
        },
        quality: QualitySpec {
            probe: quality.probe.map_or(PROBE, |share| share.0),
            probe_max: quality.probe_max.map_or(PROBE_MAX, |share| share.0),
            probe_baseline: quality.probe_baseline.map_or(0.0, |share| share.0),
        },
        output: OutputSpec {
            location: Location::parse(output.as_os_str())?,
            cloud,
            layout: writing.layout.and_then(LayoutChoice::wish),
            rows_per_part: writing.rows_per_part.map(|rows| at_least_one(small(rows))),
            encoding: encoding(writing.compression, writing.row_group_rows),
            label_column: column("label_column", writing.label_column)?
                .unwrap_or_else(|| LABEL_COLUMN.to_owned()),
            max_unlabelled: writing.max_unlabelled.map_or(0, Count::get),
            retry: writing.retry.unwrap_or_default().0,
            journal_folder: writing.journal_folder,
            state_folder: None,
        },
        row_limit: run.limit.and_then(|limit| NonZeroU64::new(limit.get())),
        give_up_after: run
            .give_up_after
            .map_or(Duration::from_secs(GIVE_UP_AFTER_S), |span| span.0),
    };
    job.model.fit = fitted(&job, fit, fit_label)?.map(Arc::new);
    Ok(job)
}

/// The rows that the embedded scorer learns from, read now, since they are part of what the job is.
fn fitted(
    job: &JobSpec,
    fit: Option<PathBuf>,
    label: Option<String>,
) -> Result<Option<KnownRows>, JobError> {
    let label = column("fit_label", label)?;
    let fit = match (fit, label.is_some()) {
        (Some(_), _) if job.model.provider == ProviderKind::Openai => Err(FitError::Hosted)?,
        (Some(fit), _) => fit,
        (None, true) => Err(FitError::NoFile)?,
        (None, false) => return Ok(None),
    };
    let label = label.or_else(|| job.input.gold.clone()).ok_or(FitError::NoLabelColumn)?;
    Ok(Some(known_rows(fit, label, &job.input, &job.codebook)?))
}

/// How the input's files are read.
fn files_reading(settings: &InputSettings) -> Result<Reading, JobError> {
    let usual = Reading::default();
    let reading = Reading {
        format: settings.format,
        delimiter: settings.delimiter.map(|delimiter| delimiter.0),
        quote: settings.quote.map_or(usual.quote, |quote| quote.0),
        encoding: settings.encoding.unwrap_or(usual.encoding),
        header: settings.header.unwrap_or(usual.header),
        id_type: settings.id_type.unwrap_or_default(),
        hive_partitioning: settings.hive_partitioning.unwrap_or_default(),
    };
    let usual_delimiter = if reading.format == Some(FileFormat::Tsv) { '\t' } else { ',' };
    match reading.quote {
        Some(quote) if quote == reading.delimiter.unwrap_or(usual_delimiter) => {
            Err(JobError::SameQuote { character: quote })
        }
        _ => Ok(reading),
    }
}

/// The account's numbers, and the rules of whoever is asked, where the config has none of its own.
fn limits_of(settings: LimitSettings, model: &ModelSpec) -> Limits {
    let theirs = rules_of(settings.vendor.unwrap_or_else(|| vendor_at(&model.host())));
    let slice = settings.slice_s.map(|seconds| Duration::from_secs(seconds.get()));
    let slice_or = |theirs| slice.map_or(theirs, |slice| Some(slice).filter(|it| !it.is_zero()));
    Limits {
        tokens_per_minute: settings.tokens_per_minute.and_then(a_minute),
        requests_per_minute: settings.requests_per_minute.and_then(a_minute),
        input_tokens_per_minute: settings.input_tokens_per_minute.and_then(a_minute),
        output_tokens_per_minute: settings.output_tokens_per_minute.and_then(a_minute),
        requests_per_day: settings.requests_per_day.and_then(|most| NonZeroU64::new(most.get())),
        tokens_per_day: settings.tokens_per_day.and_then(|most| NonZeroU64::new(most.get())),
        on_daily_limit: settings.on_daily_limit.unwrap_or_default(),
        rules: Rules {
            charge_rule: settings.charge_rule.unwrap_or(theirs.charge_rule),
            cached_tokens: settings.cached_tokens.unwrap_or(theirs.cached_tokens),
            refused_calls: settings.refused_calls.unwrap_or(theirs.refused_calls),
            minute_window: settings.minute_window.unwrap_or(theirs.minute_window),
            day_window: settings.day_window.unwrap_or(theirs.day_window),
            request_slice: slice_or(theirs.request_slice),
            token_slice: slice_or(theirs.token_slice),
            request_headers_are_daily: theirs.request_headers_are_daily,
        },
    }
}

/// What the job may cost. Its price is looked up when it is known what time it is.
fn budget_of(
    limits: &LimitSettings,
    price: &PriceSettings,
    prompt_cache: PromptCache,
    model: &ModelSpec,
) -> BudgetSpec {
    let per_token = |per_million: Option<Dollars>| per_million.map(Dollars::a_millionth);
    BudgetSpec {
        max_cost: limits.max_cost,
        max_tokens: limits.max_tokens.and_then(|most| NonZeroU64::new(most.get())),
        own_price: OwnPrice {
            input: per_token(price.input),
            cached_input: per_token(price.cached_input),
            cache_write: per_token(price.cache_write),
            output: per_token(price.output),
        },
        price: None,
        caching: match (prompt_cache, limits.vendor.unwrap_or_else(|| vendor_at(&model.host()))) {
            (PromptCache::Off, _) => Caching::Off,
            (PromptCache::Auto, Vendor::Openai | Vendor::Azure) => Caching::FixedPart,
            // Anthropic's models are only ever cached where a request asks for it, wherever they run.
            (PromptCache::Auto, Vendor::Anthropic) => Caching::Unasked,
            (PromptCache::Auto, _) if model.name.contains("claude") => Caching::Unasked,
            (PromptCache::Auto, _) => Caching::Untold,
        },
    }
}

fn a_minute<const MIN: u64, const MAX: u64>(limit: Count<MIN, MAX>) -> Option<NonZeroU32> {
    NonZeroU32::new(small(limit))
}

/// How parts are encoded.
pub(super) fn encoding(
    compression: Option<Compression>,
    row_group_rows: Option<Positive32>,
) -> PartEncoding {
    let usual = PartEncoding::default();
    PartEncoding {
        compression: compression.unwrap_or(usual.compression),
        row_group_rows: row_group_rows
            .map_or(usual.row_group_rows, |rows| at_least_one(small(rows))),
    }
}

/// The three settings that have no default.
fn required(
    settings: &Settings,
    config: Option<&Path>,
) -> Result<(String, String, ProviderKind), JobError> {
    let given = (&settings.task.id, &settings.task.text, settings.model.provider);
    if let (Some(id), Some(text), Some(provider)) = given {
        return Ok((id.clone(), text.clone(), provider));
    }
    let lines = [
        (given.0.is_none(), ID_LINE),
        (given.1.is_none(), TEXT_LINE),
        (given.2.is_none(), PROVIDER_LINE),
    ];
    Err(JobError::Missing(Missing {
        config: config.map(Path::to_owned),
        lines: lines
            .into_iter()
            .filter_map(|(is_missing, line)| is_missing.then_some(line))
            .collect(),
    }))
}

fn id_source(id: String) -> Result<IdSource, JobError> {
    match id.as_str() {
        "" => Err(JobError::Empty { key: "id", remedy: "name the column with the rows' id" }),
        IdSource::ROW_NUMBER => Ok(IdSource::RowNumber),
        _ => Ok(IdSource::Column(id)),
    }
}

fn column(key: &'static str, name: Option<String>) -> Result<Option<String>, JobError> {
    match name {
        Some(name) if name.is_empty() => {
            Err(JobError::Empty { key, remedy: "name a column, or leave the line out" })
        }
        name => Ok(name),
    }
}

fn instructions(task: &TaskSettings, provider: ProviderKind) -> Result<String, JobError> {
    let text = match (&task.instructions, &task.instructions_file) {
        (Some(_), Some(_)) => return Err(JobError::TwoInstructions),
        (Some(text), None) => text.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|source| JobError::InstructionsUnreadable { file: file.clone(), source })?,
        (None, None) => String::new(),
    };
    let text = text.trim_start_matches('\u{feff}').trim();
    match provider {
        ProviderKind::Openai if text.is_empty() => Err(JobError::NoInstructions),
        _ => Ok(text.to_owned()),
    }
}

fn model_spec(model: ModelSettings, provider: ProviderKind) -> Result<ModelSpec, JobError> {
    let (name, base_url, api_key_env) = match provider {
        ProviderKind::Lexical => ("lexical".to_owned(), String::new(), None),
        ProviderKind::Openai => {
            let name = model.name.filter(|name| !name.trim().is_empty());
            let (base_url, api_key_env) = address(model.base_url, model.api_key_env)?;
            (name.ok_or(JobError::NoModelName)?, base_url, api_key_env)
        }
    };
    let seconds = |given: Option<Count<1, 86_400>>, default| {
        Duration::from_secs(given.map_or(default, Count::get))
    };
    Ok(ModelSpec {
        provider,
        vocabulary: model.vocabulary.unwrap_or_else(|| vocabulary_of(&name)),
        name,
        base_url,
        api_key_env,
        answer_form: model.answer_form.unwrap_or(AnswerForm::Array),
        key: model.key.unwrap_or_default(),
        fit: None,
        reasoning_effort: model.reasoning_effort.filter(|effort| !effort.is_empty()),
        max_output_tokens: Tokens(model.max_output_tokens.map_or(MAX_OUTPUT_TOKENS, small)),
        connect_timeout: seconds(model.connect_timeout_s, CONNECT_TIMEOUT_S),
        read_timeout: seconds(model.read_timeout_s, READ_TIMEOUT_S),
        reply_timeout: seconds(model.reply_timeout_s, REPLY_TIMEOUT_S),
    })
}

/// The service's address and the variable with its key, so that no key goes where it was not meant
/// to go.
fn address(
    base_url: Option<String>,
    api_key_env: Option<String>,
) -> Result<(String, Option<String>), JobError> {
    let base_url = base_url.as_deref().unwrap_or(BASE_URL).trim().trim_end_matches('/');
    let refuse = |url: &str, problem| JobError::BaseUrl { url: url.to_owned(), problem };
    let url = reqwest::Url::parse(base_url)
        .map_err(|_| refuse(bare(base_url), "is no address such as https://api.openai.com/v1"))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(&host, "holds a name or password; a key comes from api_key_env"));
    }
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        return Err(refuse(bare(base_url), "begins with neither https:// nor http://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(&host, "holds a `?` or `#`; it ends before /chat/completions"));
    }
    if base_url.ends_with("/chat/completions") {
        return Err(refuse(base_url, "ends too late; leave out /chat/completions"));
    }
    let is_loopback = Endpoint::parse(base_url).is_ok_and(|endpoint| endpoint.is_loopback());
    let api_key_env = match api_key_env {
        Some(variable) if variable.is_empty() => None,
        Some(variable) if !is_variable_name(&variable) => return Err(JobError::NoVariableName),
        Some(variable) => Some(variable),
        None if base_url == BASE_URL => Some(API_KEY_ENV.to_owned()),
        None if is_loopback => None,
        None => return Err(JobError::NoApiKeyEnv { host }),
    };
    if api_key_env.is_some() && url.scheme() != "https" && !is_loopback {
        return Err(JobError::KeyInTheClear { url: base_url.to_owned() });
    }
    Ok((base_url.to_owned(), api_key_env))
}

/// An address that can't be read, without the places where a password or a key may stand in it.
fn bare(address: &str) -> &str {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    address.rsplit('@').next().unwrap_or_default()
}

fn is_variable_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_word) && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// The labels with a code each: the given one, else the cheapest that is free. The catch-all is
/// added if it is not among them.
fn codebook(
    labels: Vec<LabelSetting>,
    unsure: Option<String>,
    none_of_these: Option<String>,
    vocabulary: Vocabulary,
) -> Result<Codebook, JobError> {
    let drafts = labels.into_iter().map(|label| LabelDraft {
        name: label.name,
        code: label.code,
        description: label.description,
        examples: label.examples,
    });
    let mut drafts: Vec<LabelDraft> = drafts.collect();
    let counter = TokenCounter::for_vocabulary(vocabulary);
    let Some(none) = none_of_these else { return Ok(codes::assign(drafts, unsure, &counter)?) };
    if none.trim().is_empty() {
        let remedy = "name a label, or leave the line out";
        return Err(JobError::Empty { key: "none_of_these", remedy });
    }
    if !drafts.iter().any(|draft| fold(&draft.name) == fold(&none)) {
        drafts.push(LabelDraft { name: none.trim().to_owned(), ..LabelDraft::default() });
    }
    Ok(codes::assign(drafts, unsure, &counter)?.with_none_of_these(&none)?)
}

fn small<const MIN: u64, const MAX: u64>(count: Count<MIN, MAX>) -> u32 {
    u32::try_from(count.get()).unwrap_or(u32::MAX)
}

fn at_least_one(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::config_file::parse;
    use super::*;
    use crate::domain::limits::{ChargeRule, DayWindow};

    const TASK: &str = "id = 'id'\ntext = 'text'\ninstructions = 'Sort.'\n\
                        labels = [{ name = 'a' }, { name = 'b' }]\n";

    fn made(config: &str) -> Result<JobSpec, JobError> {
        let settings = parse(config, Path::new("batchclass.toml")).unwrap();
        job(settings, "in.csv".into(), "out".into(), Some(Path::new("batchclass.toml")))
    }

    fn with_model(lines: &str) -> Result<JobSpec, JobError> {
        made(&format!("{TASK}[model]\nprovider = 'openai'\n{lines}"))
    }

    fn problem(job: Result<JobSpec, JobError>) -> String {
        super::super::console::chain(&job.unwrap_err())
    }

    #[test]
    fn without_a_config_the_three_missing_lines_are_named() {
        let nothing = job(Settings::default(), "in.csv".into(), "out".into(), None);
        assert_snapshot!(problem(nothing), @r#"
        there is no batchclass.toml here, and three lines are missing:

            id = "id"                # the column with the rows' unique id, or "@row"
            text = "text"            # the column to classify, or "{title}: {body}"
            provider = "openai"      # in [model]; or "lexical": offline, needs no key

        `batchclass init` writes a commented batchclass.toml to start from
        "#);
    }

    #[test]
    fn only_the_lines_that_are_missing_are_named() {
        assert_snapshot!(problem(made(TASK)), @r#"
        one line is missing in batchclass.toml:

            provider = "openai"      # in [model]; or "lexical": offline, needs no key

        `batchclass init` writes a commented batchclass.toml to start from
        "#);
        assert_snapshot!(problem(made("model.provider = 'lexical'")), @r#"
        two lines are missing in batchclass.toml:

            id = "id"                # the column with the rows' unique id, or "@row"
            text = "text"            # the column to classify, or "{title}: {body}"

        `batchclass init` writes a commented batchclass.toml to start from
        "#);
    }

    #[test]
    fn the_lines_that_are_named_as_missing_make_a_config() {
        let nothing = job(Settings::default(), "in.csv".into(), "out".into(), None);
        let Err(JobError::Missing(missing)) = nothing else { panic!("{nothing:?}") };
        let config = missing.lines.join("\n").replace("provider", "[model]\nprovider");
        let settings = parse(&config, Path::new("x")).unwrap();
        assert!(required(&settings, None).is_ok());
    }

    #[test]
    fn what_the_task_lacks_is_said() {
        let labels = "labels = [{ name = 'a' }, { name = 'b' }]\n";
        let task = |lines: &str| {
            problem(made(&format!("{lines}\n[model]\nprovider = 'openai'\nname = 'm'")))
        };
        assert_snapshot!(task(&format!("id = 'a'\ntext = 'b'\n{labels}")), @r#"`instructions` are missing: say in a sentence what the rows are and what the labels mean, or name a file: instructions_file = "prompt.md""#);
        assert_snapshot!(task(&format!("{TASK}instructions_file = 'x'")), @"`instructions` and `instructions_file` are both given; keep one of them");
        assert_snapshot!(task(&format!("id = 'a'\ntext = 'b'\ninstructions_file = 'no'\n{labels}")), @"can't read the instructions in no: No such file or directory (os error 2)");
        assert_snapshot!(task(&TASK.replace("'text'", "'{text'")), @"the text template has `{` without `}`; write `{{` for a brace in the text");
        assert_snapshot!(task(&TASK.replace("'text'", "''")), @"the text template is empty; name a column, or write one like `{title}: {body}`");
        assert_snapshot!(task(&TASK.replace("id = 'id'", "id = ''")), @"`id` is empty; name the column with the rows' id");
        assert_snapshot!(problem(made(&format!("{TASK}[model]\nprovider = 'lexical'\n[input]\ngold = ''"))), @"`gold` is empty; name a column, or leave the line out");
    }

    #[test]
    fn how_files_are_read_comes_from_the_table_input() {
        let input =
            |lines: &str| made(&format!("{TASK}[model]\nprovider = 'lexical'\n[input]\n{lines}"));
        let told = "format = 'csv'\ndelimiter = '\\t'\nquote = 'none'\nencoding = 'latin1'\n\
                    header = false";
        let reading = input(told).unwrap().input.reading;
        assert_eq!((reading.delimiter, reading.quote, reading.header), (Some('\t'), None, false));
        assert_eq!(reading.encoding.to_string(), "windows-1252");
        assert!(input("").unwrap().input.reading.is_default());
        assert_snapshot!(problem(input("delimiter = '\"'")), @r#"`delimiter` and `quote` in [input] are both `"`; choose another, or quote = "none""#);
        assert_snapshot!(problem(input("quote = ','")), @r#"`delimiter` and `quote` in [input] are both `,`; choose another, or quote = "none""#);
    }

    #[test]
    fn what_the_labels_lack_is_said() {
        let labels = |list: &str| {
            let config = format!(
                "id = 'id'\ntext = 'text'\nunsure = 'U'\nlabels = {list}\nmodel.provider = 'lexical'"
            );
            problem(made(&config))
        };
        assert_snapshot!(labels("[]"), @"a job needs at least two labels; 0 given");
        assert_snapshot!(labels("[{ name = 'a' }, { code = 'B' }]"), @r#"label 2 has no name; give it `name = "..."`"#);
        assert_snapshot!(labels("[{ name = 'a', code = 'X' }, { name = 'b', code = 'x' }]"), @"labels `a` and `b` both answer to `x`; codes and names must differ in more than case");
        assert_snapshot!(labels("[{ name = 'a' }, { name = 'A' }]"), @"labels `a` and `A` both answer to `a`; codes and names must differ in more than case");
        assert_snapshot!(labels("[{ name = 'a', code = 'no code' }, { name = 'b' }]"), @"label `a` has the code `no code`; a code is 1-8 characters of A-Z, a-z, 0-9, _ and -");
        assert_snapshot!(labels("[{ name = 'a', code = 'U' }, { name = 'b' }]"), @"labels `a` and `unsure` both answer to `u`; codes and names must differ in more than case");
    }

    #[test]
    fn a_catch_all_is_added_unless_it_is_among_the_labels() {
        let names = |lines: &str| {
            let config = format!("{lines}\n{TASK}[model]\nprovider = 'lexical'");
            let codebook = made(&config).unwrap().codebook;
            let names = codebook.labels().iter().map(|label| label.name.clone());
            (names.collect::<Vec<_>>(), codebook.none_of_these().map(|label| label.code.clone()))
        };
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(""), (all(&["a", "b"]), None));
        let with = names("none_of_these = ' other '");
        assert_eq!(with.0, all(&["a", "b", "other"]));
        assert!(with.1.is_some_and(|code| code.len() == 1));
        let problem =
            |config: &str| problem(made(&format!("{config}\n{TASK}model.provider = 'lexical'")));
        assert_snapshot!(problem("none_of_these = ' '"), @"`none_of_these` is empty; name a label, or leave the line out");
        assert_snapshot!(problem("none_of_these = 'B'"), @"beside the label `B` for whatever fits none, a job needs at least two labels");
    }

    #[test]
    fn what_the_model_lacks_is_said() {
        assert_snapshot!(problem(with_model("")), @r#"the model's name is missing: name = "gpt-4o-mini" in [model], or --model"#);
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'https://api.groq.com/v1'")), @r#"api_key_env in [model] is missing: name the environment variable with the key for api.groq.com, or write "" to send none"#);
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'http://10.0.0.7/v1'\napi_key_env = 'K'")), @r#"base_url `http://10.0.0.7/v1` in [model] is not https, and a key is only ever sent over https or to this machine; use https, or api_key_env = "" to send no key"#);
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'api.openai.com'")), @"base_url `api.openai.com` in [model] is no address such as https://api.openai.com/v1");
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'ftp://a/v1'")), @"base_url `ftp://a/v1` in [model] begins with neither https:// nor http://");
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'https://a:secret@b/v1'")), @"base_url `b` in [model] holds a name or password; a key comes from api_key_env");
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'https://b/v1?key=secret'")), @"base_url `b` in [model] holds a `?` or `#`; it ends before /chat/completions");
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'b:80/v1?key=secret'")), @"base_url `b:80/v1` in [model] begins with neither https:// nor http://");
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'a:secret@b/v1#secret'")), @"base_url `b/v1` in [model] begins with neither https:// nor http://");
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = '//a:secret@b?key=secret'")), @"base_url `b` in [model] is no address such as https://api.openai.com/v1");
        assert_snapshot!(problem(with_model("name = 'm'\nbase_url = 'https://b/v1/chat/completions'")), @"base_url `https://b/v1/chat/completions` in [model] ends too late; leave out /chat/completions");
    }

    #[test]
    fn a_key_only_goes_to_the_host_that_it_was_meant_for() {
        let key_at =
            |lines: &str| with_model(&format!("name = 'm'\n{lines}")).unwrap().model.api_key_env;
        assert_eq!(key_at("").as_deref(), Some("OPENAI_API_KEY"));
        assert_eq!(
            key_at("base_url = 'https://api.openai.com/v1/'").as_deref(),
            Some("OPENAI_API_KEY")
        );
        assert_eq!(key_at("base_url = 'http://127.0.0.1:8080/v1'"), None);
        assert_eq!(key_at("base_url = 'http://[::1]:8080/v1'"), None);
        assert_eq!(
            key_at("base_url = 'http://localhost/v1'\napi_key_env = 'K'").as_deref(),
            Some("K")
        );
        assert_eq!(key_at("base_url = 'http://10.0.0.7/v1'\napi_key_env = ''"), None);
        assert!(with_model("name = 'm'\nbase_url = 'http://localhost.evil.example/v1'").is_err());
    }

    #[test]
    fn what_is_not_given_has_the_documented_default() {
        let job = made(&format!("{TASK}[model]\nprovider = 'lexical'")).unwrap();
        assert_eq!(job.model.name, "lexical");
        assert_eq!(job.batch.rows_per_call.get(), ROWS_PER_CALL);
        assert_eq!(job.batch.max_attempts, MAX_ATTEMPTS);
        assert_eq!(job.output.label_column, LABEL_COLUMN);
        assert_eq!(job.limits, Limits::default());
        assert_eq!(job.give_up_after.as_secs(), GIVE_UP_AFTER_S);
        assert_eq!(job.row_limit, None);
    }

    #[test]
    fn zero_is_no_limit() {
        let job = made(&format!(
            "{TASK}[model]\nprovider = 'lexical'\n[limits]\ntokens_per_minute = 0\nrequests_per_minute = 5"
        ));
        let limits = job.unwrap().limits;
        assert_eq!(limits.tokens_per_minute, None);
        assert_eq!(limits.requests_per_minute, NonZeroU32::new(5));
    }

    #[test]
    fn the_rules_are_those_of_the_host_unless_the_config_says_otherwise() {
        let rules = |model: &str, limits: &str| {
            let model = format!("name = 'm'\napi_key_env = 'K'\n{model}[limits]\n{limits}");
            with_model(&model).unwrap().limits.rules
        };
        let azure = "base_url = 'https://x.openai.azure.com/openai/v1'\n";
        assert_eq!(rules(azure, ""), rules_of(Vendor::Azure));
        assert_eq!(rules("", ""), rules_of(Vendor::Openai));
        assert_eq!(rules("base_url = 'http://127.0.0.1:8/v1'\n", ""), rules_of(Vendor::Local));
        assert_eq!(rules(azure, "vendor = 'groq'"), rules_of(Vendor::Groq));
        let own = rules(azure, "charge_rule = 'input'\nslice_s = 0\nday_window = 'utc'");
        let expected = Rules {
            charge_rule: ChargeRule::Input,
            request_slice: None,
            day_window: DayWindow::Utc,
            ..rules_of(Vendor::Azure)
        };
        assert_eq!(own, expected);
        let sliced = rules(azure, "slice_s = 1");
        let second = Some(Duration::from_secs(1));
        assert_eq!((sliced.request_slice, sliced.token_slice), (second, second));
    }

    #[test]
    fn the_vocabulary_follows_from_the_models_name() {
        assert_eq!(vocabulary_of("gpt-4o-mini"), Vocabulary::O200k);
        assert_eq!(vocabulary_of("gpt-4-turbo"), Vocabulary::Cl100k);
        assert_eq!(vocabulary_of("openai/gpt-3.5-turbo"), Vocabulary::Cl100k);
        assert_eq!(vocabulary_of("llama-3.1-8b-instant"), Vocabulary::O200k);
    }
}
