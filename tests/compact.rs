//! `compact` makes full parts of small ones: the same rows, labels and reasons, and nothing asked.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use batchclass::compact::{CompactSpec, compact};
use batchclass::domain::UnixMillis;
use batchclass::domain::clock::SystemClock;
use batchclass::output::OutputFolder;
use batchclass::output::store::{Fault, FaultyStore, MemoryStore, Store, Then};

use crate::support::{Scratch, orders_config, orders_csv, part_files, read_parts};

const ROWS: usize = 250;

/// An output `out` of `orders.csv` in parts of 20 rows; every 50th row has no text.
fn finished() -> Scratch {
    let scratch = Scratch::new();
    let mut csv = orders_csv(ROWS);
    for blank in 0..5 {
        csv.push_str(&format!("{},\n", 11 + 150 * blank));
    }
    scratch.write("orders.csv", &csv);
    let config = orders_config("provider = \"lexical\"")
        + "[output]\nrows_per_part = 20\nmax_unlabelled = 5\n";
    scratch.write("batchclass.toml", &config);
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    scratch
}

fn bytes_below(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.path() {
            path if path.is_dir() => files.extend(bytes_below(&path)),
            path => files.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    files.sort();
    files
}

#[test]
fn the_rows_stay_as_they_are_in_fewer_parts_and_the_old_output_untouched() {
    let scratch = finished();
    let before = bytes_below(&scratch.path("out"));
    let said = scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "100"]);
    let said = said.expect_code(0).stderr;
    assert!(said.contains("255 rows in 3 parts, where there were 13"), "{said}");
    assert_eq!(bytes_below(&scratch.path("out")), before);
    let rows = read_parts(&scratch.path("dest"));
    assert_eq!(rows, read_parts(&scratch.path("out")));
    assert_eq!(rows.iter().filter(|row| row.reason.as_deref() == Some("no_text")).count(), 5);
    assert_eq!(part_files(&scratch.path("dest")).len(), 3);
    scratch.batchclass(&["verify", "dest", "--input", "orders.csv"]).expect_code(0);
}

#[test]
fn a_run_goes_on_with_the_new_output_and_has_nothing_to_ask() {
    let scratch = finished();
    scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "100"]).expect_code(0);
    let before = bytes_below(&scratch.path("dest"));
    scratch.batchclass(&["orders.csv", "dest"]).expect_code(0);
    assert_eq!(bytes_below(&scratch.path("dest")), before);
    scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "100"]).expect_code(0);
    assert_eq!(bytes_below(&scratch.path("dest")), before, "a second time writes nothing");
}

#[test]
fn what_can_not_be_rewritten_is_refused_in_one_sentence() {
    let scratch = finished();
    for (words, said) in [
        (["none", "dest"], "there is no output of batchclass at none"),
        (["out", "out/dest"], "lie within each other"),
        (["out", "out"], "lie within each other"),
    ] {
        let refused = scratch.batchclass(&[&["compact"][..], &words].concat()).expect_code(2);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    }
    fs::remove_file(scratch.path("out/part-000002.parquet")).unwrap();
    let refused = scratch.batchclass(&["compact", "out", "dest"]).expect_code(2);
    assert!(refused.stderr.contains("20 rows stand in no part yet"), "{}", refused.stderr);
    assert!(!scratch.path("dest").exists());
}

#[test]
fn cut_short_at_any_storage_call_it_goes_on_to_the_same_rows() {
    let scratch = finished();
    let from = OutputFolder::new(scratch.path("out"));
    let spec = |run: &str| CompactSpec {
        rows_per_part: NonZeroU32::new(100).unwrap(),
        run: run.to_owned(),
        started: UnixMillis(1_800_000_000_000),
    };
    let clock = SystemClock::start();
    for fault in [Fault::Lasting, Fault::ErrorButDone, Fault::Torn] {
        for at in 1.. {
            let location = scratch.path("dest");
            let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
            let faulty = Arc::new(FaultyStore::new(inner.clone(), at, fault, Then::StaysDown));
            let to = OutputFolder::with_store(&location, faulty.clone());
            let first = compact(&from, &to, &spec("r1"), &clock);
            assert!(first.is_ok() || faulty.calls() >= at, "{fault:?} at {at}: {first:?}");
            let to = OutputFolder::with_store(&location, inner.clone());
            let done = compact(&from, &to, &spec("r2"), &clock).unwrap();
            assert_eq!((done.rows, done.parts), (255, 3), "{fault:?} at {at}");
            let found = to.look().unwrap().unwrap();
            assert!(found.is_complete() && found.success.is_some(), "{fault:?} at {at}");
            assert_eq!(found.unlabelled_rows(), 5);
            if faulty.calls() < at {
                assert!(at > 10, "only {at} calls");
                break;
            }
        }
    }
}
