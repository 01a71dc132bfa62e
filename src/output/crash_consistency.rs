//! What every crash must come to: whichever storage call a run dies at, the next ones end with each
//! row exactly once. In both layouts, on storage that replaces and on storage that does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::output_folder::tests::spent;
use super::part_writer::tests::sealed;
use super::store::{
    CreateOnceStore, Fault, FaultyStore, LocalStore, MemoryStore, MountStore, Store, Then,
};
use super::*;
use crate::domain::{LabelIndex, Outcome, PartNumber, Position, PositionRange, Reason, UnixMillis};

const ROWS: u64 = 25;
/// The row that never gets a label.
const HOPELESS: u64 = 3;
/// How often it is asked.
const MAX_ATTEMPTS: u16 = 3;

/// A kind of storage, and how an output is laid out on it.
#[derive(Clone, Copy)]
struct Case {
    layout: Layout,
    /// The store as a run sees it, and as somebody does who may remove what a run can't.
    new_store: fn(&Path) -> [Arc<dyn Store>; 2],
}

const MEMORY: Case = Case {
    layout: Layout::Replace,
    new_store: |_| {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        [Arc::clone(&store), store]
    },
};
const DISK: Case = Case {
    layout: Layout::Replace,
    new_store: |location| [(); 2].map(|()| Arc::new(LocalStore::new(location)) as Arc<dyn Store>),
};
const CREATE_ONCE: Case = Case {
    layout: Layout::Append,
    new_store: |_| {
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
        [Arc::new(CreateOnceStore::new(Arc::clone(&inner))), inner]
    },
};
const CREATE_AND_REMOVE: Case = Case {
    layout: Layout::Append,
    new_store: |_| {
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
        [Arc::new(CreateOnceStore::that_removes(Arc::clone(&inner))), inner]
    },
};
const MOUNT: Case = Case {
    layout: Layout::Append,
    new_store: |location| [(); 2].map(|()| Arc::new(MountStore::new(location)) as Arc<dyn Store>),
};

fn spec(layout: Layout, rows: u64, name: &str) -> WriterSpec {
    let mut spec = output_folder::tests::spec(rows, name);
    spec.job.layout = layout;
    spec
}

/// The outcome that the row at `position` ends with.
fn given(position: u64) -> Outcome {
    match (position, position % 3) {
        (HOPELESS, _) => Outcome::Unlabelled { reason: Reason::Missing, attempts: MAX_ATTEMPTS },
        (_, 0) => Outcome::Labelled(LabelIndex(1)),
        (_, other) => Outcome::Labelled(LabelIndex(other as u16 - 1)),
    }
}

/// The records of parts with rows to ask again.
fn refillable(output: &OpenOutput) -> Vec<PartNumber> {
    let is_asked = |rows: &UnlabelledRows| rows.attempts < MAX_ATTEMPTS;
    let records = output.records().values();
    let open = records.filter(|record| record.refillable().iter().any(is_asked));
    open.map(|record| record.part).collect()
}

/// A run that writes the parts that do not stand, then one that gives their rows labels.
fn run_twice(
    location: &Path,
    store: &Arc<dyn Store>,
    layout: Layout,
    name: &str,
) -> Result<(), OutputError> {
    for name in [format!("{name}a"), format!("{name}b")] {
        run(location, Arc::clone(store), layout, &name)?;
    }
    Ok(())
}

fn run(
    location: &Path,
    store: Arc<dyn Store>,
    layout: Layout,
    name: &str,
) -> Result<(), OutputError> {
    let folder = OutputFolder::with_store(location, store);
    let mut output = folder.begin(spec(layout, ROWS, name))?;
    let reopened = refillable(&output);
    if output.records().len() < 3 || !reopened.is_empty() {
        output.start_work()?;
    }
    let plan = output.plan().clone();
    for number in plan.part_numbers() {
        let mut part = sealed(number.0, plan.range_of(number).unwrap());
        if reopened.contains(&number) {
            let outcomes = output.reader().read(number).map(|contents| contents.outcomes);
            let outcomes =
                outcomes.map_err(|source| OutputError::Part { path: String::new(), source })?;
            let positions = part.range.first.0..;
            let refilled =
                outcomes.into_iter().zip(positions).map(|(outcome, position)| match outcome {
                    Outcome::Unlabelled { .. } => given(position),
                    settled => settled,
                });
            part.outcomes = refilled.collect();
        } else if output.records().contains_key(&number) {
            continue;
        }
        output.commit(&part, spent(), UnixMillis(5))?;
    }
    output.refuse_stuck()?;
    match layout {
        // The labels that are missing yet are within what the user allows.
        Layout::Replace => {}
        Layout::Append if !refillable(&output).is_empty() => return Ok(()),
        Layout::Append => {
            for (number, range) in output.open_parts() {
                let columns = sealed(number.0, range).columns;
                output.give_up(number, &columns, UnixMillis(6))?;
            }
        }
    }
    output.finish(UnixMillis(7))?;
    Ok(())
}

/// Each row's id and outcome, as the files give them that `out/*.parquet` reads.
fn rows(location: &Path, store: &Arc<dyn Store>, case: &str) -> BTreeMap<i64, Outcome> {
    let folder = OutputFolder::with_store(location, Arc::clone(store));
    let found = folder.look().unwrap().unwrap();
    let mut held = 0;
    for stored in store.list("").unwrap() {
        if stored.name.ends_with(".parquet") {
            let identity = PartIdentity::read(store.as_ref(), &stored.name, found.fingerprint);
            held += identity.unwrap_or_else(|error| panic!("{case}: {error}")).rows_held();
        }
    }
    assert_eq!(held, ROWS, "{case}");
    let spec = spec(found.job.layout, ROWS, "reader");
    let reader = PartReader::new(Arc::clone(store), found.fingerprint, spec.schema, spec.codebook);
    let reader = reader.of_files(&found);
    let mut rows = BTreeMap::new();
    for part in found.plan.part_numbers() {
        let contents = reader.read(part).unwrap();
        let ids: Vec<i64> = contents
            .columns
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        assert_eq!(ids.len(), contents.outcomes.len(), "{case}");
        for (id, outcome) in ids.into_iter().zip(contents.outcomes) {
            assert_eq!(rows.insert(id, outcome), None, "{case}: id {id} stands twice");
        }
    }
    rows
}

fn names(store: &dyn Store, folder: &str) -> Vec<String> {
    store.list(folder).unwrap().into_iter().map(|stored| stored.name).collect()
}

fn assert_whole(location: &Path, store: &Arc<dyn Store>, case: &str) {
    let found = OutputFolder::with_store(location, Arc::clone(store)).look().unwrap().unwrap();
    assert!(found.is_complete() && found.success.is_some(), "{case}: {:?}", found.problems);
    assert_eq!((found.unlabelled_rows(), found.absent_rows()), (1, 0), "{case}");
    let rows = rows(location, store, case);
    let expected = (0..ROWS).map(|position| (position as i64 * 10, given(position)));
    assert_eq!(rows, expected.collect::<BTreeMap<_, _>>(), "{case}");
    let totals = found.success.as_ref().unwrap();
    assert_eq!((totals.rows, totals.labelled), (ROWS, ROWS - 1), "{case}");
    let leftovers =
        names(store.as_ref(), "").into_iter().filter(|name| LocalStore::is_leftover(name));
    assert_eq!(leftovers.count(), 0, "{case}");
}

/// Runs in peace until the output is finished. What only a hand can remove, a hand removes.
fn finish(location: &Path, [store, raw]: &[Arc<dyn Store>; 2], layout: Layout, case: &str) {
    match run_twice(location, store, layout, "r4") {
        Err(OutputError::Stuck { files }) => {
            assert!(!names(raw.as_ref(), "").contains(&SUCCESS.to_owned()), "{case}");
            for file in files {
                let name = Path::new(&file).strip_prefix(location).unwrap();
                raw.delete(name.to_str().unwrap()).unwrap();
            }
            run_twice(location, store, layout, "r5")
        }
        ended => ended,
    }
    .unwrap_or_else(|error| panic!("{case}: {error}"));
}

/// Dies or stumbles at every storage call in turn, until a run passes without being touched.
fn die_everywhere(fault: Fault, then: Then, case: Case) {
    let Case { layout, new_store } = case;
    for at in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let stores = new_store(folder.path());
        let faulty = |at| Arc::new(FaultyStore::new(Arc::clone(&stores[0]), at, fault, then));
        let first = faulty(at);
        let as_store: Arc<dyn Store> = first.clone();
        let ended = run_twice(folder.path(), &as_store, layout, "r1");
        let case = format!("{layout:?}, {fault:?} at call {at}, then {then:?}: {ended:?}");
        assert!(ended.is_ok() || first.calls() >= at, "{case}");
        // Two more deaths, then peace.
        for (name, at) in [("r2", at), ("r3", at / 2 + 1)] {
            let store: Arc<dyn Store> = faulty(at);
            let _ = run_twice(folder.path(), &store, layout, name);
        }
        finish(folder.path(), &stores, layout, &case);
        assert_whole(folder.path(), &stores[0], &case);
        if first.calls() < at {
            assert!(at > 20, "the run made only {at} calls");
            return;
        }
    }
}

#[test]
fn killed_at_any_storage_call_a_rerun_ends_with_each_row_once() {
    for case in [MEMORY, CREATE_ONCE] {
        die_everywhere(Fault::Lasting, Then::StaysDown, case);
        die_everywhere(Fault::ErrorButDone, Then::StaysDown, case);
    }
}

#[test]
fn killed_in_the_midst_of_any_write_a_rerun_ends_with_each_row_once() {
    for case in [MEMORY, CREATE_ONCE, CREATE_AND_REMOVE] {
        die_everywhere(Fault::Torn, Then::StaysDown, case);
    }
}

#[test]
fn killed_on_a_real_disk_a_rerun_ends_with_each_row_once() {
    die_everywhere(Fault::ErrorButDone, Then::StaysDown, DISK);
    die_everywhere(Fault::ErrorButDone, Then::StaysDown, MOUNT);
    die_everywhere(Fault::Torn, Then::StaysDown, MOUNT);
}

#[test]
fn one_failed_call_ends_a_run_and_never_the_output() {
    for case in [MEMORY, CREATE_ONCE] {
        for fault in [Fault::Passing, Fault::ErrorButDone, Fault::Torn] {
            die_everywhere(fault, Then::Recovers, case);
        }
    }
}

#[test]
fn a_commit_may_be_tried_again_after_any_failure() {
    for case in [MEMORY, CREATE_ONCE, CREATE_AND_REMOVE] {
        for fault in [Fault::Passing, Fault::ErrorButDone, Fault::Torn] {
            for at in 1..=2 {
                let folder = tempfile::tempdir().unwrap();
                let [inner, _] = (case.new_store)(folder.path());
                let begin = |store: Arc<dyn Store>, name: &str| {
                    let folder = OutputFolder::with_store(folder.path(), store);
                    folder.begin(spec(case.layout, ROWS, name)).unwrap()
                };
                drop(begin(inner.clone(), "r0"));
                let faulty = Arc::new(FaultyStore::new(inner.clone(), 0, fault, Then::Recovers));
                let mut output = begin(faulty.clone(), "r1");
                faulty.fail_at_next(at);
                let part = sealed(1, output.plan().range_of(PartNumber(1)).unwrap());
                let mut tries = 0;
                // A commit is two calls: the part, then its record.
                while let Err(error) = output.commit(&part, spent(), UnixMillis(5)) {
                    tries += 1;
                    assert!(tries < 3, "{fault:?} at call {at}: {error}");
                }
                assert_eq!((output.records().len(), tries), (1, 1));
                let found = output.folder().look().unwrap().unwrap();
                assert_eq!(found.records, *output.records());
                assert_eq!(found.spent, spent());
            }
        }
    }
}

#[test]
fn a_row_that_two_files_hold_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let [store, _] = (CREATE_ONCE.new_store)(folder.path());
    let location = OutputFolder::with_store(folder.path(), store.clone());
    let mut output = location.begin(spec(Layout::Append, 10, "r1")).unwrap();
    let range = PositionRange { first: Position(0), rows: 10 };
    output.commit(&sealed(1, range), spent(), UnixMillis(5)).unwrap();
    // As if a run that sees nothing of the first file wrote the same rows once more.
    output.found.files.get_mut(&PartNumber(1)).unwrap().held = RowRuns::default();
    output.commit(&sealed(1, range), spent(), UnixMillis(5)).unwrap();
    let error = location.look().unwrap_err();
    let OutputError::Part { source, .. } = &error else { panic!("{error}") };
    assert!(error.is_usage());
    assert_eq!(
        source.to_string(),
        "part-000001-r01.parquet holds rows that part-000001.parquet holds too; remove \
         part-000001-r01.parquet, and the next run does again what is missing then"
    );
}

#[test]
fn rows_whose_file_was_taken_away_are_done_again_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let [store, raw] = (CREATE_ONCE.new_store)(folder.path());
    run_twice(folder.path(), &store, Layout::Append, "r1").unwrap();
    let before = names(store.as_ref(), "");
    for name in ["part-000001.parquet", "part-000002-r01.parquet", SUCCESS] {
        raw.delete(name).unwrap();
    }
    let found = OutputFolder::with_store(folder.path(), store.clone()).look().unwrap().unwrap();
    let missing = [1, 2].map(|part| Problem::Missing { part: PartNumber(part) });
    assert_eq!(found.problems, missing);
    run_twice(folder.path(), &store, Layout::Append, "r2").unwrap();
    assert_whole(folder.path(), &store, "taken away");
    let after = names(store.as_ref(), "");
    let new: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
    // A recorded name is never used again.
    assert_eq!(new, ["part-000001-r03.parquet", "part-000002-r02.parquet"], "{before:?}");
}
