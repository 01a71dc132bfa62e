//! A whole run within this process: a job over [`orders_csv`](super::orders_csv), a provider that
//! remembers what it was asked, and clocks that don't make a test wait.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batchclass::domain::clock::SystemClock;
use batchclass::domain::spec::{
    AnswerForm, BatchSpec, CloudSpec, IdSource, InputSpec, KeySource, Limits, ModelSpec,
    OutputSpec, ProviderKind, QualitySpec, Vocabulary,
};
use batchclass::domain::{
    Clock, Event, JobSpec, Moment, PartEncoding, Template, Tokens, UnixMillis,
};
use batchclass::llm::codes::{self, LabelDraft};
use batchclass::llm::provider::scripted::Scripted;
use batchclass::llm::token_counter::TokenCounter;
use batchclass::output::OutputFolder;
use batchclass::output::store::Store;
use batchclass::pipeline::{self, Beside, RunContext, RunError, RunReport};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{OutputRow, rows_in};

/// The labels and their codes.
const LABELS: [(&str, &str, &str); 3] =
    [("delivery", "A", "parcel"), ("payment", "B", "charge"), ("login", "C", "password")];

/// The job over `input`, in calls of five rows and parts of `rows_per_part`.
pub fn orders_job(input: &Path, output: &Path, rows_per_part: u32) -> JobSpec {
    let drafts = LABELS.map(|(name, code, _)| LabelDraft {
        name: name.into(),
        code: Some(code.into()),
        description: String::new(),
        examples: Vec::new(),
    });
    let counter = TokenCounter::for_vocabulary(Vocabulary::O200k);
    JobSpec {
        input: InputSpec {
            location: input.into(),
            cloud: CloudSpec::default(),
            reading: Default::default(),
            id: IdSource::Column("id".into()),
            text: Template::parse("text").unwrap(),
            existing_label: None,
            gold: None,
            columns: None,
            on_duplicate_id: Default::default(),
            sort_memory: 1 << 30,
            temp_dir: std::env::temp_dir(),
        },
        instructions: "You sort the messages of a shop's customers.".into(),
        codebook: codes::assign(drafts.to_vec(), None, &counter).unwrap(),
        model: ModelSpec {
            provider: ProviderKind::Openai,
            name: "m".into(),
            base_url: "http://localhost/v1".into(),
            api_key_env: None,
            vocabulary: Vocabulary::O200k,
            answer_form: AnswerForm::Array,
            key: KeySource::Random,
            reasoning_effort: None,
            max_output_tokens: Tokens(1_000),
            fit: None,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
            reply_timeout: Duration::from_secs(10),
        },
        limits: Limits::default(),
        budget: Default::default(),
        batch: BatchSpec {
            rows_per_call: NonZeroU32::new(5).unwrap(),
            tokens_per_call: Tokens(8_000),
            max_attempts: 3,
            dedupe_texts: 1_000,
            isolate: true,
        },
        quality: QualitySpec { probe: 0.0, ..QualitySpec::default() },
        output: OutputSpec {
            location: output.into(),
            cloud: CloudSpec::default(),
            layout: None,
            rows_per_part: NonZeroU32::new(rows_per_part),
            encoding: PartEncoding::default(),
            label_column: "label".into(),
            max_unlabelled: 0,
            retry: Vec::new(),
            journal_folder: None,
            state_folder: None,
        },
        row_limit: None,
        give_up_after: Duration::from_secs(1_800),
    }
}

/// Labels every row rightly; `on_row` hears the text of each row that is asked.
pub fn provider(on_row: impl Fn(&str) + Send + 'static) -> Scripted {
    Scripted::labelling(move |text| {
        on_row(text);
        let (_, code, _) = LABELS.into_iter().find(|(_, _, word)| text.starts_with(word))?;
        Some(code.to_owned())
    })
}

/// The texts that were asked, in order; shared by several runs.
#[derive(Clone, Default)]
pub struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    /// A provider that remembers here what it is asked.
    pub fn provider(&self) -> Scripted {
        let asked = self.clone();
        provider(move |text| asked.0.lock().unwrap().push(text.to_owned()))
    }

    /// Notes that this text was asked.
    pub fn add(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    pub fn rows(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn distinct_rows(&self) -> usize {
        self.0.lock().unwrap().iter().collect::<BTreeSet<_>>().len()
    }

    pub fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// What happened, with the time at which it did.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<(Moment, Event)>>>);

impl Told {
    pub fn add(&self, now: Moment, event: Event) {
        self.0.lock().unwrap().push((now, event));
    }

    pub fn all(&self) -> Vec<(Moment, Event)> {
        self.0.lock().unwrap().clone()
    }
}

/// A clock on which time passes by waiting alone, a thousand times as fast as it says.
struct FastClock {
    waited: Arc<Mutex<Duration>>,
    machine: SystemClock,
}

impl Clock for FastClock {
    fn now(&self) -> Moment {
        Moment(*self.waited.lock().unwrap())
    }

    fn wall(&self) -> UnixMillis {
        self.machine.wall()
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let (shorter, waited) = (self.machine.sleep(wait / 1_000), Arc::clone(&self.waited));
        async move {
            shorter.await;
            *waited.lock().unwrap() += wait;
        }
        .boxed()
    }
}

/// What surrounds a rehearsed run; what is not set has no effect.
pub struct Rehearsal {
    pub job: JobSpec,
    pub folder: OutputFolder,
    pub clock: Arc<dyn Clock>,
    pub told: Told,
    pub stop: BoxFuture<'static, ()>,
}

impl Rehearsal {
    pub fn of(job: &JobSpec, store: Arc<dyn Store>) -> Rehearsal {
        Rehearsal {
            job: job.clone(),
            folder: OutputFolder::with_store(job.output.location.as_path().unwrap(), store),
            clock: Arc::new(FastClock { waited: Arc::default(), machine: SystemClock::start() }),
            told: Told::default(),
            stop: futures::future::pending().boxed(),
        }
    }

    /// Lets the output be where no journal can be kept and no lock taken.
    pub fn off_disk(self) -> Rehearsal {
        Rehearsal { folder: self.folder.off_disk(), ..self }
    }

    /// Runs the job to its end, on one thread beside the writer's and the reader's.
    pub fn run(self, provider: Scripted) -> Result<RunReport, RunError> {
        let Rehearsal { job, folder, clock, told, stop } = self;
        let time = Arc::clone(&clock);
        let events = Arc::new(move |event: Event| told.add(time.now(), event));
        let provider = Arc::new(provider);
        let context = RunContext {
            provider,
            events,
            clock,
            stop,
            takeover: false,
            beside: Beside::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(pipeline::run_in(&job, folder, context))
    }
}

/// The rows of all parts that can be read, in order of the parts' names.
pub fn stored_rows(store: &dyn Store) -> Vec<OutputRow> {
    let parts = store.list("").unwrap().into_iter();
    parts
        .filter(|stored| stored.name.ends_with(".parquet"))
        .flat_map(|stored| rows_in(store.read(&stored.name).unwrap()).unwrap_or_default())
        .collect()
}

/// The ids of the rows whose answers stand in a part or in the journal's folder.
pub fn kept_ids(store: &dyn Store, journal: &Path) -> BTreeSet<i64> {
    let mut ids: BTreeSet<i64> = stored_rows(store)
        .into_iter()
        .filter(|row| row.label.is_some())
        .map(|row| row.id)
        .collect();
    for segment in segments(journal) {
        for line in std::fs::read_to_string(segment).unwrap().lines() {
            // A line that was cut is no JSON.
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let rows = line["record"]["reply"]["rows"].as_array().cloned().unwrap_or_default();
            ids.extend(rows.iter().filter_map(|row| row["id"].as_i64()));
        }
    }
    ids
}

fn segments(journal: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(journal) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "jsonl")).collect()
}
