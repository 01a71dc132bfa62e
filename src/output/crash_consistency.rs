//! What every crash must come to: whichever storage call a run dies at, the next one ends with each
//! row exactly once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::output_folder::tests::{spec, spent, write_all};
use super::part_writer::tests::sealed;
use super::store::{Fault, FaultyStore, LocalStore, MemoryStore, Store, Then};
use super::*;
use crate::domain::{LabelIndex, Outcome, PartNumber, UnixMillis};

const ROWS: u64 = 25;

/// One run: parts that do not stand are written, then rows without a label get one.
fn run(location: &Path, store: Arc<dyn Store>, name: &str) -> Result<(), OutputError> {
    let mut output = OutputFolder::with_store(location, store).begin(spec(ROWS, name))?;
    write_all(&mut output)?;
    refill(&mut output)
}

fn refill(output: &mut OpenOutput) -> Result<(), OutputError> {
    let open: Vec<PartNumber> = output
        .records()
        .iter()
        .filter(|(_, record)| record.unlabelled_rows() > 0)
        .map(|(part, _)| *part)
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    output.start_work()?;
    for number in open {
        let contents = output
            .reader()
            .read(number)
            .map_err(|source| OutputError::Part { path: String::new(), source })?;
        let mut part = sealed(number.0, contents.identity.range);
        part.columns = contents.columns;
        part.outcomes = contents
            .outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Unlabelled { .. } => Outcome::Labelled(LabelIndex(1)),
                settled => settled,
            })
            .collect();
        output.commit(&part, spent(), UnixMillis(8))?;
    }
    output.finish(UnixMillis(9))?;
    Ok(())
}

/// Each row's id and label over all parts, each id once.
fn rows(location: &Path, store: &Arc<dyn Store>) -> BTreeMap<i64, Outcome> {
    let folder = OutputFolder::with_store(location, Arc::clone(store));
    let found = folder.look().unwrap().unwrap();
    let spec = spec(ROWS, "reader");
    let reader = PartReader::new(Arc::clone(store), found.fingerprint, spec.schema, spec.codebook);
    let mut rows = BTreeMap::new();
    for part in found.plan.part_numbers() {
        let contents = reader.read(part).unwrap();
        let ids: Vec<i64> = contents
            .columns
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        for (id, outcome) in ids.into_iter().zip(contents.outcomes) {
            assert_eq!(rows.insert(id, outcome), None, "id {id} stands twice");
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
    assert_eq!(found.unlabelled_rows(), 0, "{case}");
    let rows = rows(location, store);
    let ids: Vec<i64> = rows.keys().copied().collect();
    assert_eq!(ids, (0..ROWS as i64).map(|position| position * 10).collect::<Vec<_>>(), "{case}");
    assert!(rows.values().all(Outcome::is_labelled), "{case}");
    // An answer that was given once is the answer.
    let given = |position: i64| match position % 3 {
        0 => Outcome::Labelled(LabelIndex(1)),
        other => Outcome::Labelled(LabelIndex(other as u16 - 1)),
    };
    assert!(rows.iter().all(|(id, outcome)| *outcome == given(id / 10)), "{case}");
    for record in found.records.values() {
        let part = store.read(&record.part.file_name()).unwrap();
        assert_eq!(part.len() as u64, record.bytes, "{case}");
    }
    let leftovers =
        names(store.as_ref(), "").into_iter().filter(|name| LocalStore::is_leftover(name));
    assert_eq!(leftovers.count(), 0, "{case}");
}

/// Dies or stumbles at every storage call in turn, until a run passes without being touched.
fn die_everywhere(fault: Fault, then: Then, new_store: impl Fn(&Path) -> Arc<dyn Store>) {
    for at in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let inner = new_store(folder.path());
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&inner), at, fault, then));
        let first = run(folder.path(), faulty.clone(), "r1");
        let case = format!("{fault:?} at call {at}, then {then:?}: {first:?}");
        assert!(first.is_ok() || faulty.calls() >= at, "{case}");
        // Two more deaths, then peace.
        for (name, at) in [("r2", at), ("r3", at / 2 + 1)] {
            let faulty = FaultyStore::new(Arc::clone(&inner), at, fault, then);
            let _ = run(folder.path(), Arc::new(faulty), name);
        }
        run(folder.path(), Arc::clone(&inner), "r4")
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_whole(folder.path(), &inner, &case);
        if faulty.calls() < at {
            assert!(at > 20, "the run made only {at} calls");
            return;
        }
    }
}

fn memory(_: &Path) -> Arc<dyn Store> {
    Arc::new(MemoryStore::default())
}

fn disk(location: &Path) -> Arc<dyn Store> {
    Arc::new(LocalStore::new(location))
}

#[test]
fn killed_at_any_storage_call_a_rerun_ends_with_each_row_once() {
    die_everywhere(Fault::Lasting, Then::StaysDown, memory);
    die_everywhere(Fault::ErrorButDone, Then::StaysDown, memory);
}

#[test]
fn killed_in_the_midst_of_any_write_a_rerun_ends_with_each_row_once() {
    die_everywhere(Fault::Torn, Then::StaysDown, memory);
}

#[test]
fn killed_on_a_real_disk_a_rerun_ends_with_each_row_once() {
    die_everywhere(Fault::ErrorButDone, Then::StaysDown, disk);
}

#[test]
fn one_failed_call_ends_a_run_and_never_the_output() {
    for fault in [Fault::Passing, Fault::ErrorButDone, Fault::Torn] {
        die_everywhere(fault, Then::Recovers, memory);
    }
}

#[test]
fn a_commit_may_be_tried_again_after_any_failure() {
    for fault in [Fault::Passing, Fault::ErrorButDone, Fault::Torn] {
        for at in 1..=2 {
            let folder = tempfile::tempdir().unwrap();
            let inner = memory(folder.path());
            drop(
                OutputFolder::with_store(folder.path(), inner.clone())
                    .begin(spec(ROWS, "r0"))
                    .unwrap(),
            );
            let counting = Arc::new(FaultyStore::new(inner.clone(), 0, fault, Then::Recovers));
            drop(
                OutputFolder::with_store(folder.path(), counting.clone())
                    .begin(spec(ROWS, "r0"))
                    .unwrap(),
            );
            let at = counting.calls() + at;
            let faulty = Arc::new(FaultyStore::new(inner.clone(), at, fault, Then::Recovers));
            let folder = OutputFolder::with_store(folder.path(), faulty.clone());
            let mut output = folder.begin(spec(ROWS, "r1")).unwrap();
            let part = sealed(1, output.plan().range_of(PartNumber(1)).unwrap());
            let mut tries = 0;
            // A commit is two calls: the part, then its record.
            while let Err(error) = output.commit(&part, spent(), UnixMillis(5)) {
                tries += 1;
                assert!(tries < 3, "{fault:?} at call {at}: {error}");
            }
            assert_eq!((output.records().len(), tries), (1, 1));
            let found = folder.look().unwrap().unwrap();
            assert_eq!(found.records, *output.records());
            assert_eq!(found.spent, spent());
        }
    }
}
