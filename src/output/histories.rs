//! Random histories of one to three runs at once, over storage that fails at random: no row stands
//! twice, no label is one that was never given, none that stood goes or changes, and it always
//! comes to an end.
//!
//! The runs are the code itself and wrongly believe that each of them owns the output. They take
//! turns at every single call to the store, in an order that follows from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::{io, thread};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::output_folder::tests::spent;
use super::part_writer::tests::{codebook, sealed};
use super::store::{CreateOnceStore, MemoryStore, Store, StoreError, Stored, Version};
use super::*;
use crate::domain::{Attempts, LabelIndex, Outcome, Reason, UnixMillis};

const ROWS: u64 = 23;
const ROWS_PER_PART: u32 = 4;
const MAX_ATTEMPTS: Attempts = 3;
/// Rows that a reply leaves out, of a hundred.
const SKIPPED: u32 = 20;
/// Writes that go wrong, of a hundred.
const FAULTS: u32 = 8;
/// How often a run tries a commit.
const TRIES: usize = 3;
/// Runs of a history before it is left in peace.
const MOST_RUNS: usize = 8;

/// Storage that is really there, and all that was ever right or wrong about it.
struct World {
    store: MemoryStore,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The labels that the model gave, by row.
    given: BTreeMap<u64, BTreeSet<String>>,
    /// What each Parquet file holds.
    files: BTreeMap<String, BTreeMap<u64, Option<String>>>,
    /// Rows that were asked.
    asked: u64,
    wrong: Vec<String>,
}

impl Seen {
    /// Takes note of what a Parquet file holds now.
    fn note(&mut self, name: &str, bytes: Option<&Bytes>) {
        let rows = bytes.and_then(rows_of).unwrap_or_default();
        let before = self.files.remove(name).unwrap_or_default();
        for (row, label) in before {
            if label.is_some() && rows.get(&row) != Some(&label) {
                self.wrong.push(format!("row {row} of {name} lost its label {label:?}"));
            }
        }
        for (row, label) in &rows {
            if let Some(label) = label
                && !self.given.get(row).is_some_and(|given| given.contains(label))
            {
                self.wrong.push(format!("row {row} of {name} has {label}, which nobody gave"));
            }
            let others = self.files.iter().find(|(_, rows)| rows.contains_key(row));
            if let Some((other, _)) = others {
                self.wrong.push(format!("row {row} stands in {name} and in {other}"));
            }
        }
        self.files.insert(name.to_owned(), rows);
    }
}

/// The label of each row in a Parquet file; `None` if it is torn.
fn rows_of(bytes: &Bytes) -> Option<BTreeMap<u64, Option<String>>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).ok()?.build().ok()?;
    let mut rows = BTreeMap::new();
    for batch in reader {
        let batch = batch.ok()?;
        let ids = batch.column_by_name("id")?.as_primitive::<Int64Type>();
        let labels = batch.column_by_name("label")?.as_string::<i32>();
        for (at, id) in ids.values().iter().enumerate() {
            let label = labels.is_valid(at).then(|| labels.value(at).to_owned());
            assert_eq!(rows.insert(*id as u64 / 10, label), None, "twice in one file");
        }
    }
    Some(rows)
}

impl Store for World {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        let created = self.store.create(name, bytes)?;
        self.note(name);
        Ok(created)
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError> {
        let replaced = self.store.replace(name, bytes, seen)?;
        self.note(name);
        Ok(replaced)
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        self.store.read(name)
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        self.store.read_end(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        self.store.list(folder)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.store.delete(name)?;
        self.note(name);
        Ok(())
    }
}

impl World {
    fn note(&self, name: &str) {
        if name.ends_with(".parquet") {
            self.seen.lock().unwrap().note(name, self.store.read(name).ok().as_ref());
        }
    }
}

/// One run's view of the storage: its calls wait for their turn, and some go wrong.
struct Shaken {
    inner: Arc<dyn Store>,
    random: Mutex<ChaCha8Rng>,
    faults: u32,
    is_dead: AtomicBool,
    turn: Option<Turn>,
}

/// A run's place in the order of calls.
struct Turn(Mutex<(Sender<()>, Receiver<()>)>);

impl Turn {
    fn wait(&self) {
        let both = self.0.lock().unwrap();
        // Whoever gives turns is gone only if a test has failed already.
        let _ = both.0.send(());
        let _ = both.1.recv();
    }
}

impl Shaken {
    fn in_peace(inner: Arc<dyn Store>) -> Shaken {
        Shaken {
            inner,
            random: Mutex::new(ChaCha8Rng::seed_from_u64(0)),
            faults: 0,
            is_dead: AtomicBool::new(false),
            turn: None,
        }
    }

    /// Waits for this run's turn; an error if the process is dead.
    fn turn(&self, name: &str) -> Result<(), StoreError> {
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(broken(name));
        }
        if let Some(turn) = &self.turn {
            turn.wait();
        }
        Ok(())
    }

    fn write<T>(
        &self,
        name: &str,
        bytes: &[u8],
        write: impl Fn(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.turn(name)?;
        let kind = {
            let mut random = self.random.lock().unwrap();
            let is_fault = random.random_range(0..100) < self.faults;
            is_fault.then(|| random.random_range(0..6))
        };
        let dies = |outcome: Result<T, StoreError>| {
            self.is_dead.store(true, Ordering::SeqCst);
            outcome.and(Err(broken(name)))
        };
        match kind {
            None => write(bytes),
            Some(0) => Err(broken(name)),
            Some(1) => write(bytes).and(Err(broken(name))),
            Some(2) => write(&bytes[..bytes.len() / 2]).and(Err(broken(name))),
            Some(3) => dies(Err(broken(name))),
            Some(4) => dies(write(&bytes[..bytes.len() / 2])),
            Some(_) => dies(write(bytes)),
        }
    }
}

fn broken(name: &str) -> StoreError {
    StoreError::from_io("using", name.to_owned(), io::ErrorKind::TimedOut.into())
}

impl Store for Shaken {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        self.write(name, bytes, |bytes| self.inner.create(name, bytes))
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError> {
        // What replaces does so whole: a cut write leaves what stood.
        self.write(name, bytes, |written| match written.len() < bytes.len() {
            true => Err(broken(name)),
            false => self.inner.replace(name, written, seen),
        })
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        self.turn(name)?;
        self.inner.read(name)
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        self.turn(name)?;
        self.inner.read_end(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        self.turn(folder)?;
        self.inner.list(folder)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.write(name, &[], |_| self.inner.delete(name))
    }
}

/// Whether a run left nothing to do.
fn run(
    world: &World,
    store: Arc<dyn Store>,
    layout: Layout,
    name: &str,
    random: &mut ChaCha8Rng,
) -> Result<bool, OutputError> {
    let folder = OutputFolder::with_store("out", store);
    let found = folder.look()?;
    if found.is_some_and(|found| found.is_complete() && found.success.is_some()) {
        return Ok(true);
    }
    let mut spec = output_folder::tests::spec(ROWS, name);
    spec.job.layout = layout;
    if let Some(stretch) = &mut spec.job.stretch {
        stretch.rows_per_part = ROWS_PER_PART.try_into().unwrap();
    }
    let mut output = folder.begin_unclaimed(spec)?;
    output.start_work()?;
    let plan = output.plan().clone();
    for number in plan.part_numbers() {
        let range = plan.range_of(number).unwrap();
        let mut part = sealed(number.0, range);
        let is_asked = |rows: &UnlabelledRows| rows.attempts < MAX_ATTEMPTS;
        match output.records().get(&number) {
            None => {
                let never = Outcome::Unlabelled { reason: Reason::Missing, attempts: 0 };
                part.outcomes.fill(never);
            }
            Some(record) if record.refillable().iter().any(is_asked) => {
                let contents = output.reader().read(number);
                let contents = contents
                    .map_err(|source| OutputError::Part { path: number.file_name(), source })?;
                part.outcomes = contents.outcomes;
            }
            Some(_) => continue,
        }
        for (outcome, row) in part.outcomes.iter_mut().zip(range.first.0..) {
            ask(world, row, outcome, random);
        }
        let mut tries = 1;
        while let Err(error) = output.commit(&part, spent(), UnixMillis(5)) {
            if tries == TRIES || !error.is_retryable() {
                return Err(error);
            }
            tries += 1;
        }
    }
    output.refuse_stuck()?;
    let records = output.records().values();
    let mut left = records.flat_map(|record| record.refillable());
    if left.any(|rows| rows.attempts < MAX_ATTEMPTS) {
        return Ok(false);
    }
    for (number, range) in output.open_parts() {
        output.give_up(number, &sealed(number.0, range).columns, UnixMillis(6))?;
    }
    output.finish(UnixMillis(7))?;
    Ok(true)
}

/// Asks the model for a row that has no label, unless it was asked often enough.
fn ask(world: &World, row: u64, outcome: &mut Outcome, random: &mut ChaCha8Rng) {
    let Outcome::Unlabelled { attempts, .. } = *outcome else { return };
    if attempts == MAX_ATTEMPTS {
        return;
    }
    let mut seen = world.seen.lock().unwrap();
    seen.asked += 1;
    if random.random_range(0..100) < SKIPPED {
        *outcome = Outcome::Unlabelled { reason: Reason::Missing, attempts: attempts + 1 };
        return;
    }
    let label = LabelIndex(random.random_range(0..2));
    seen.given.entry(row).or_default().insert(codebook().label(label).name.clone());
    *outcome = Outcome::Labelled(label);
}

/// A run under way on a thread of its own.
struct Started {
    go: Sender<()>,
    waits: Receiver<()>,
    thread: thread::JoinHandle<bool>,
}

fn start(world: &Arc<World>, layout: Layout, number: usize, seed: u64) -> Started {
    let (go, turn) = channel();
    let (waiting, waits) = channel();
    let world = Arc::clone(world);
    let thread = thread::spawn(move || {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let store = Shaken {
            inner: storage(&world, layout),
            random: Mutex::new(ChaCha8Rng::seed_from_u64(seed + 1)),
            faults: FAULTS,
            is_dead: AtomicBool::new(false),
            turn: Some(Turn(Mutex::new((waiting, turn)))),
        };
        run(&world, Arc::new(store), layout, &format!("r{number}"), &mut random).unwrap_or(false)
    });
    Started { go, waits, thread }
}

fn storage(world: &Arc<World>, layout: Layout) -> Arc<dyn Store> {
    let world: Arc<dyn Store> = world.clone();
    match layout {
        Layout::Replace => world,
        Layout::Append => Arc::new(CreateOnceStore::new(world)),
    }
}

/// Plays a history with up to `at_once` runs at a time; what was wrong with it, and how many rows
/// were asked.
fn play(layout: Layout, at_once: usize, seed: u64) -> (Vec<String>, u64) {
    let world = Arc::new(World { store: MemoryStore::default(), seen: Mutex::default() });
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut started = 0;
    let mut at_work: Vec<Started> = Vec::new();
    let mut is_done = false;
    while !at_work.is_empty() || (started < MOST_RUNS && !is_done) {
        while at_work.len() < at_once && started < MOST_RUNS && !is_done {
            started += 1;
            let run = start(&world, layout, started, random.random_range(0..u64::MAX - 1));
            at_work.push(run);
            // It stands before its first call.
            let _ = at_work[at_work.len() - 1].waits.recv();
        }
        let chosen = random.random_range(0..at_work.len());
        let _ = at_work[chosen].go.send(());
        if at_work[chosen].waits.recv().is_err() {
            is_done |= at_work.swap_remove(chosen).thread.join().unwrap();
        }
    }
    let mut wrong = finish_in_peace(&world, layout, &mut random);
    let seen = world.seen.lock().unwrap();
    wrong.extend(seen.wrong.iter().cloned());
    let rows = seen.files.values().map(BTreeMap::len).sum::<usize>() as u64;
    if rows != ROWS {
        wrong.push(format!("{rows} rows in the end"));
    }
    (wrong, seen.asked)
}

/// Runs alone, on storage that works, until the output is finished. What no run can remove, a hand
/// removes.
fn finish_in_peace(world: &Arc<World>, layout: Layout, random: &mut ChaCha8Rng) -> Vec<String> {
    let mut last = String::new();
    for number in 0..10 {
        let store = Arc::new(Shaken::in_peace(storage(world, layout)));
        match run(world, store, layout, &format!("p{number}"), random) {
            Ok(true) => return Vec::new(),
            Ok(false) => {}
            Err(OutputError::Stuck { files }) => {
                for file in files {
                    let name = Path::new(&file).strip_prefix("out").unwrap();
                    world.delete(name.to_str().unwrap()).unwrap();
                }
            }
            Err(error) => last = format!("{error:?}"),
        }
    }
    vec![format!("stuck: {last}")]
}

/// A sixteenth of what `PROPTEST_CASES` asks for, at least two: a history is worth many cases.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: (usual.cases / 16).max(2), max_shrink_iters: 0, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn runs_that_replace_leave_each_row_once(seed: u64, at_once in 1_usize..=3) {
        let (wrong, _) = play(Layout::Replace, at_once, seed);
        prop_assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn runs_that_create_once_leave_each_row_once(seed: u64, at_once in 1_usize..=3) {
        let (wrong, _) = play(Layout::Append, at_once, seed);
        prop_assert_eq!(wrong, Vec::<String>::new());
    }
}

#[test]
fn a_row_in_two_files_and_a_label_that_goes_are_noticed() {
    let world = World { store: MemoryStore::default(), seen: Mutex::default() };
    let mut spec = output_folder::tests::spec(10, "r1");
    spec.job.layout = Layout::Append;
    let world = Arc::new(world);
    let folder = OutputFolder::with_store("out", world.clone());
    let mut output = folder.begin_unclaimed(spec).unwrap();
    let part = sealed(1, output.plan().range_of(crate::domain::PartNumber(1)).unwrap());
    output.commit(&part, spent(), UnixMillis(5)).unwrap();
    let twice = world.read("part-000001.parquet").unwrap();
    world.create("part-000001-r01.parquet", &twice).unwrap();
    world.delete("part-000001.parquet").unwrap();
    let seen = world.seen.lock().unwrap();
    let noticed = |words: &str| seen.wrong.iter().any(|wrong| wrong.contains(words));
    assert!(noticed("nobody gave") && noticed("stands in") && noticed("lost its label"));
}

#[test]
#[ignore = "prints the figures of PROPTEST_CASES histories a line; takes minutes"]
#[expect(
    clippy::print_stdout,
    clippy::disallowed_macros,
    reason = "its figures are what it is run for"
)]
fn figures() {
    for layout in [Layout::Replace, Layout::Append] {
        for at_once in 1..=3 {
            let histories = u64::from(ProptestConfig::default().cases);
            let (mut bad, mut asked) = (0, 0);
            for seed in 0..histories {
                let (wrong, rows) = play(layout, at_once, seed);
                bad += u64::from(!wrong.is_empty());
                asked += rows;
                if let Some(wrong) = wrong.first() {
                    println!("{layout:?} {at_once} seed {seed}: {wrong}");
                }
            }
            let per_row = asked as f64 / (histories * ROWS) as f64;
            println!(
                "{layout:?}, {at_once} at once: {bad} bad of {histories}, {per_row:.2} asked a row"
            );
        }
    }
}
