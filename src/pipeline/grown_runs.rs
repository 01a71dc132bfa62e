//! What every history of an input must come to: however it grew, changed and shrank, and wherever
//! runs over it died, the last one ends like one clean run, and no text was asked twice.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::FutureExt;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::domain::clock::SystemClock;
use crate::domain::event::RunEnd;
use crate::domain::spec::{
    AnswerForm, BatchSpec, CloudSpec, IdSource, InputSpec, KeySource, Limits, ModelSpec,
    OnDuplicateId, OutputSpec, ProviderKind, QualitySpec, Vocabulary,
};
use crate::domain::{
    Codebook, Label, Outcome, PartEncoding, PartNumber, Template, TextHash, Tokens,
};
use crate::llm::provider::ProviderError;
use crate::llm::provider::scripted::{Answer, Scripted, array_reply, rows_of};
use crate::output::store::{Fault, FaultyStore, MemoryStore, Store, Then};

/// An input, an output, and what the model was asked of them.
struct World {
    folder: tempfile::TempDir,
    store: Arc<MemoryStore>,
    rows: BTreeMap<i64, String>,
    /// Whether the output has the rows' text, or its hash.
    keeps_text: bool,
    max_attempts: u16,
    /// All texts that ever were.
    texts: BTreeMap<TextHash, String>,
    /// Every change is a text that never was before.
    version: u64,
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
    warnings: Arc<Mutex<Vec<String>>>,
}

/// One run, and how it is kept from its end.
#[derive(Clone, Copy, Debug, Default)]
struct Attempt {
    row_limit: Option<u64>,
    /// The storage call that it dies at.
    dies: Option<(u64, bool)>,
    /// The calls that the provider answers.
    answers: Option<usize>,
}

impl World {
    fn new() -> World {
        World {
            folder: tempfile::tempdir().unwrap(),
            store: Arc::default(),
            rows: BTreeMap::new(),
            keeps_text: true,
            max_attempts: 2,
            texts: BTreeMap::new(),
            version: 0,
            asked: Arc::default(),
            warnings: Arc::default(),
        }
    }

    fn put(&mut self, id: i64) {
        self.version += 1;
        let text = format!("row {id} version {}", self.version);
        self.texts.insert(TextHash::of(&text), text.clone());
        self.rows.insert(id, text);
    }

    fn location(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// Lays the input; its time is always another one.
    #[expect(clippy::disallowed_methods, reason = "tests write their own inputs")]
    fn lay_input(&mut self) -> PathBuf {
        self.version += 1;
        let lines = self.rows.iter().map(|(id, text)| format!("{id},{text}\n"));
        let path = self.folder.path().join("rows.csv");
        std::fs::write(&path, format!("id,text\n{}", lines.collect::<String>())).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(self.version)).unwrap();
        path
    }

    fn job(&mut self, row_limit: Option<u64>) -> JobSpec {
        JobSpec {
            input: InputSpec {
                location: self.folder.path().join("rows.csv").into(),
                cloud: CloudSpec::default(),
                reading: Default::default(),
                id: IdSource::Column("id".into()),
                text: Template::parse("{text}").unwrap(),
                existing_label: None,
                gold: None,
                columns: (!self.keeps_text).then(Vec::new),
                on_duplicate_id: OnDuplicateId::Error,
                sort_memory: 1 << 20,
                temp_dir: std::env::temp_dir(),
            },
            instructions: "Sort.".into(),
            codebook: codebook(),
            model: ModelSpec {
                provider: ProviderKind::Lexical,
                name: "scripted".into(),
                base_url: String::new(),
                api_key_env: None,
                vocabulary: Vocabulary::O200k,
                answer_form: AnswerForm::Array,
                key: KeySource::Random,
                reasoning_effort: None,
                max_output_tokens: Tokens(1_000),
                fit: None,
                connect_timeout: Duration::ZERO,
                read_timeout: Duration::ZERO,
                reply_timeout: Duration::ZERO,
            },
            limits: Limits::default(),
            budget: Default::default(),
            batch: BatchSpec {
                rows_per_call: NonZeroU32::new(3).unwrap(),
                tokens_per_call: Tokens(2_000),
                max_attempts: self.max_attempts,
                dedupe_texts: 1_000,
                isolate: true,
            },
            quality: QualitySpec { probe: 0.0, ..QualitySpec::default() },
            output: OutputSpec {
                location: self.location().into(),
                cloud: CloudSpec::default(),
                layout: None,
                rows_per_part: NonZeroU32::new(5),
                encoding: PartEncoding::default(),
                label_column: "label".into(),
                max_unlabelled: u64::MAX,
                retry: Vec::new(),
                journal_folder: None,
                state_folder: None,
            },
            row_limit: row_limit.and_then(NonZeroU64::new),
            give_up_after: Duration::from_secs(60),
        }
    }

    fn run(&mut self, attempt: Attempt) -> Result<RunReport, RunError> {
        let mut store: Arc<dyn Store> = self.store.clone();
        if let Some((call, is_done)) = attempt.dies {
            let fault = if is_done { Fault::ErrorButDone } else { Fault::Lasting };
            store = Arc::new(FaultyStore::new(store, call, fault, Then::StaysDown));
        }
        let asked = Arc::clone(&self.asked);
        let provider = Scripted::new(move |call, request| {
            if attempt.answers.is_some_and(|answers| call >= answers) {
                return Answer::Fail(ProviderError::OutOfQuota { message: "empty".into() });
            }
            let mut asked = asked.lock().unwrap();
            let mut pairs = Vec::new();
            for (key, text) in rows_of(&request.user) {
                *asked.entry(text.to_owned()).or_default() += 1;
                pairs.extend(code_of(text).map(|code| (key, code)));
            }
            Answer::Reply(array_reply(pairs.into_iter()))
        });
        let warnings = Arc::clone(&self.warnings);
        let context = RunContext {
            provider: Arc::new(provider),
            events: Arc::new(move |event| {
                if let Event::Warning { message } = event {
                    warnings.lock().unwrap().push(message);
                }
            }),
            clock: Arc::new(SystemClock::start()),
            stop: futures::future::pending().boxed(),
            takeover: false,
            beside: Beside::default(),
        };
        let folder = OutputFolder::with_store(self.location(), store);
        let job = self.job(attempt.row_limit);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run_in(&job, folder, context))
    }

    fn run_to_the_end(&mut self) -> RunReport {
        let report = self.run(Attempt::default()).unwrap();
        assert_eq!(report.end, RunEnd::Complete, "{report:?}");
        assert!(report.is_success, "{report:?}");
        report
    }

    fn output(&self) -> OutputFolder {
        OutputFolder::with_store(self.location(), self.store.clone())
    }

    fn found(&self) -> Found {
        self.output().look().unwrap().unwrap()
    }

    /// Text and label of each row of the parts; none stands twice.
    fn standing(&mut self) -> BTreeMap<i64, (String, Option<LabelName>)> {
        let found = self.found();
        let job = self.job(None);
        let input = OrderedInput::open(&job.input).unwrap();
        let schema = part_schema(&job, &input).unwrap();
        let reader = self.output().reader(&found, schema.clone(), Arc::new(codebook()));
        let mut standing = BTreeMap::new();
        for part in found.records.keys() {
            let contents = reader.read(*part).unwrap();
            let mut outcomes = contents.outcomes.into_iter();
            for batch in contents.columns {
                let ids = batch.column(0).as_primitive::<Int64Type>().values().to_vec();
                assert!(ids.is_sorted(), "{part}: {ids:?}");
                let hashes = schema.hashes(&batch);
                assert_eq!(hashes.is_none(), self.keeps_text);
                for (at, id) in ids.into_iter().enumerate() {
                    let text = match &hashes {
                        None => batch.column(1).as_string::<i32>().value(at).to_owned(),
                        Some(hashes) => self.texts[&hashes[at].unwrap()].clone(),
                    };
                    let label = match outcomes.next().unwrap() {
                        Outcome::Labelled(index) => Some(["even", "odd"][usize::from(index.0)]),
                        Outcome::Unlabelled { .. } => None,
                        Outcome::Existing(label) => panic!("{label}"),
                    };
                    let before = standing.insert(id, (text, label));
                    assert_eq!(before, None, "id {id} stands twice");
                }
            }
        }
        standing
    }

    /// The promise, once a run came to its end.
    fn check(&mut self) {
        let standing = self.standing();
        for (id, (text, label)) in &standing {
            assert_eq!(*label, label_of(text), "id {id}: {text}");
        }
        for (id, text) in &self.rows {
            assert_eq!(standing.get(id).map(|(text, _)| text), Some(text), "id {id}");
        }
        for (text, times) in self.asked.lock().unwrap().iter() {
            assert!(*times == 1 || label_of(text).is_none(), "{text} was asked {times} times");
        }
        let found = self.found();
        assert!(found.is_complete() && found.success.is_some(), "{:?}", found.problems);
        assert_eq!(found.success.unwrap().rows, standing.len() as u64);
    }

    fn last_warning(&self) -> String {
        self.warnings.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn texts_asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap().keys().cloned().collect()
    }
}

type LabelName = &'static str;

fn codebook() -> Codebook {
    let label = |name: &str, code: &str| Label {
        name: name.into(),
        code: code.into(),
        description: String::new(),
        examples: Vec::new(),
    };
    Codebook::new(vec![label("even", "A"), label("odd", "B")], None).unwrap()
}

/// What the model makes of a text: of every eleventh version nothing.
fn code_of(text: &str) -> Option<&'static str> {
    let version: u64 = text.rsplit(' ').next()?.parse().unwrap();
    match (version % 11, version % 2) {
        (0, _) => None,
        (_, 0) => Some("A"),
        _ => Some("B"),
    }
}

fn label_of(text: &str) -> Option<LabelName> {
    code_of(text).map(|code| if code == "A" { "even" } else { "odd" })
}

/// What happens to an output.
#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<i64>),
    Change(Vec<Index>),
    Remove(Vec<Index>),
    Touch,
    Run { row_limit: Option<u64>, dies: Option<(u64, bool)>, answers: Option<usize> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let picks = |most| prop::collection::vec(any::<Index>(), 1..most);
    let run = (
        prop::option::weighted(0.2, 1_u64..30),
        prop::option::weighted(0.6, (1_u64..60, any::<bool>())),
        prop::option::weighted(0.4, 0_usize..6),
    );
    let step = prop_oneof![
        2 => prop::collection::vec(0_i64..80, 1..12).prop_map(Step::Insert),
        1 => picks(6).prop_map(Step::Change),
        1 => picks(6).prop_map(Step::Remove),
        1 => Just(Step::Touch),
        5 => run.prop_map(|(row_limit, dies, answers)| Step::Run { row_limit, dies, answers }),
    ];
    prop::collection::vec(step, 1..14)
}

fn picked(world: &World, picks: &[Index]) -> Vec<i64> {
    let ids: Vec<i64> = world.rows.keys().copied().collect();
    if ids.is_empty() { Vec::new() } else { picks.iter().map(|pick| *pick.get(&ids)).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_an_input_ends_like_one_clean_run_that_asks_each_text_once(
        first in prop::collection::vec(0_i64..80, 1..25),
        steps in steps(),
        keeps_text in any::<bool>(),
    ) {
        let mut world = World { keeps_text, ..World::new() };
        first.into_iter().for_each(|id| world.put(id));
        world.lay_input();
        for step in steps {
            match step {
                Step::Insert(ids) => ids.into_iter().for_each(|id| world.put(id)),
                Step::Change(picks) => {
                    picked(&world, &picks).into_iter().for_each(|id| world.put(id));
                }
                Step::Remove(picks) => {
                    for id in picked(&world, &picks) {
                        world.rows.remove(&id);
                    }
                }
                Step::Touch => {}
                Step::Run { row_limit, dies, answers } => {
                    // It may be refused or end early; what it leaves behind is what counts.
                    let _ = world.run(Attempt { row_limit, dies, answers });
                    continue;
                }
            }
            world.lay_input();
        }
        world.run_to_the_end();
        world.check();
        let asked = world.texts_asked();
        prop_assert_eq!(world.run_to_the_end().calls, 0);
        prop_assert_eq!(world.texts_asked(), asked);
    }
}

fn world_of(ids: impl IntoIterator<Item = i64>) -> World {
    let mut world = World::new();
    ids.into_iter().for_each(|id| world.put(id));
    world.lay_input();
    world
}

fn names(world: &World) -> Vec<String> {
    let names = world.store.list("_batchclass").unwrap();
    names.into_iter().map(|stored| stored.name).filter(|name| name.contains("/job-")).collect()
}

#[test]
fn rows_that_join_after_the_others_are_planned_as_further_parts() {
    let mut world = world_of(1..=10);
    world.run_to_the_end();
    (11..=17).for_each(|id| world.put(id));
    world.lay_input();
    let report = world.run_to_the_end();
    assert_eq!((report.asked, report.files.len()), (7, 4));
    assert_eq!(world.last_warning(), "the input changed: 7 new rows");
    world.check();
}

#[test]
fn a_touched_file_is_compared_once_and_success_stays() {
    let mut world = world_of(1..=10);
    world.run_to_the_end();
    let finished = world.found().success;
    world.lay_input();
    assert_eq!(world.run_to_the_end().calls, 0);
    assert_eq!(world.last_warning(), "the input's files changed, its rows did not");
    assert_eq!(world.found().success, finished);
    let files = names(&world);
    assert_eq!(files, ["_batchclass/job-000002.json"]);
    assert_eq!(world.run_to_the_end().calls, 0);
    assert_eq!((names(&world), world.warnings.lock().unwrap().len()), (files, 1));
}

#[test]
fn a_changed_text_is_asked_alone_and_the_rest_of_its_part_is_kept() {
    let mut world = world_of(1..=10);
    world.run_to_the_end();
    world.put(7);
    world.rows.remove(&2);
    world.lay_input();
    let report = world.run_to_the_end();
    assert_eq!((report.asked, report.rows), (1, 10));
    assert_eq!(
        world.last_warning(),
        "the input changed: 1 with another text, 1 finished rows that it no longer has (ids 2)"
    );
    assert_eq!(world.found().records[&PartNumber(1)].generation, 1);
    assert_eq!(world.found().records[&PartNumber(2)].generation, 2);
    world.check();
}

#[test]
fn rows_without_a_label_are_asked_again_though_their_text_stands_nowhere_in_the_output() {
    for grows in [false, true] {
        let mut world = World { keeps_text: false, ..World::new() };
        (1..=12).for_each(|id| world.put(id));
        world.lay_input();
        let unanswered = world.rows.values().filter(|text| label_of(text).is_none()).count();
        assert_eq!(unanswered, 1);
        let report = world.run_to_the_end();
        assert_eq!((report.asked, report.unlabelled_rows()), (12, 1));
        assert_eq!(world.run_to_the_end().calls, 0, "its attempts are used up");
        if grows {
            world.put(0);
            world.lay_input();
        }
        world.max_attempts = 5;
        let report = world.run_to_the_end();
        assert_eq!((report.asked, report.labelled), (1 + u64::from(grows), 11 + u64::from(grows)));
        world.check();
        assert_eq!(world.run_to_the_end().calls, 0);
    }
}

#[test]
fn a_row_without_label_and_text_that_left_the_input_is_not_asked_for_ever() {
    let mut world = World { keeps_text: false, ..World::new() };
    (1..=12).for_each(|id| world.put(id));
    world.lay_input();
    world.run_to_the_end();
    world.rows.retain(|_, text| label_of(text).is_some());
    world.lay_input();
    world.max_attempts = 5;
    let report = world.run_to_the_end();
    assert_eq!((report.calls, report.rows), (0, 12));
    let names = names(&world);
    assert_eq!((world.run_to_the_end().calls, self::names(&world)), (0, names));
    world.check();
}

#[test]
fn a_part_lost_after_the_input_grew_is_planned_anew() {
    let mut world = world_of((1..=10).map(|id| 10 * id));
    world.run_to_the_end();
    (1..=9).for_each(|id| world.put(10 * id + 5));
    world.lay_input();
    world.run_to_the_end();
    world.store.delete("part-000001.parquet").unwrap();
    let report = world.run_to_the_end();
    assert_eq!(report.asked, 5);
    let numbers: Vec<u32> = report.files.iter().map(|name| name[5..11].parse().unwrap()).collect();
    assert_eq!(numbers, [2, 3, 4, 5]);
    assert_eq!(world.standing().len(), 19);
}

#[test]
fn an_answer_of_a_part_that_was_released_outlives_a_run_that_a_row_limit_kept_short() {
    let mut world = world_of([0, 1, 2, 3, 5, 10, 11]);
    world.run(Attempt { row_limit: None, dies: None, answers: Some(2) }).unwrap();
    world.put(0);
    world.lay_input();
    world.run(Attempt { row_limit: Some(1), dies: None, answers: None }).unwrap();
    world.run_to_the_end();
    world.check();
}

#[test]
fn an_answer_that_was_paid_before_the_input_changed_is_used_where_its_row_is_now() {
    let mut world = world_of((1..=20).map(|id| 10 * id));
    // The provider stops in the midst of the second part: its first answers are in the journal.
    let stopped = world.run(Attempt { answers: Some(2), ..Attempt::default() }).unwrap();
    assert_eq!(stopped.end, RunEnd::Quota);
    let paid = world.texts_asked().len();
    world.put(5);
    world.lay_input();
    let report = world.run_to_the_end();
    assert_eq!(report.asked as usize, 21 - paid);
    world.check();
}

#[test]
fn success_goes_where_a_row_limit_keeps_new_rows_out() {
    let mut world = world_of(1..=10);
    world.run_to_the_end();
    world.put(11);
    world.lay_input();
    let report = world.run(Attempt { row_limit: Some(4), ..Attempt::default() }).unwrap();
    assert_eq!((report.calls, report.is_success), (0, false));
    assert_eq!(world.found().success, None);
    assert_eq!(world.run_to_the_end().asked, 1);
    world.check();
}
