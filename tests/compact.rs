//! `compact` makes full parts of small ones: the same rows, labels and reasons, and nothing asked.

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use batchclass::compact::{CompactSpec, compact};
use batchclass::domain::clock::SystemClock;
use batchclass::domain::{PartEncoding, UnixMillis};
use batchclass::output::OutputFolder;
use batchclass::output::store::{Fault, FaultyStore, MemoryStore, Store, Then};

use crate::support::{
    Scratch, Simulated, order_label, orders_config, orders_csv, part_files, read_parts,
    simulated_config,
};

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
        (["out", "./out/../out/dest"], "lie within each other"),
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
        encoding: PartEncoding::default(),
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

/// 300 rows in parts of 100, laid out without replacing; a third of them came in later files, and
/// five never got a label.
fn refilled_beside() -> Scratch {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--drop", "0.3"]);
    let mut csv = orders_csv(300);
    for blank in 0..5 {
        csv.push_str(&format!("{},\n", 11 + 150 * blank));
    }
    scratch.write("orders.csv", &csv);
    let settings = "\n[limits]\ntokens_per_minute = 0\n[batch]\nrows_per_call = 10\n\
                    max_attempts = 1\n[output]\nrows_per_part = 100\nmax_unlabelled = 5\n\
                    journal_folder = \"journals\"\n";
    scratch.write("batchclass.toml", &(simulated_config(&server) + settings));
    scratch.batchclass(&["orders.csv", "out", "--layout", "append"]).expect_code(3);
    scratch.batchclass(&["orders.csv", "out", "--max-attempts", "20"]).expect_code(0);
    assert!(scratch.path("out/part-000001-r01.parquet").exists());
    scratch
}

#[test]
fn an_output_that_was_never_replaced_in_place_keeps_every_label_with_its_row() {
    let scratch = refilled_beside();
    let sorted = |out: &str| {
        let mut rows = read_parts(&scratch.path(out));
        rows.sort();
        rows
    };
    let before = sorted("out");
    assert_eq!(before.len(), 305);
    for row in before.iter().filter(|row| row.label.is_some()) {
        assert_eq!(row.label.as_deref(), Some(order_label(row.id)));
    }
    scratch.batchclass(&["compact", "out", "dest"]).expect_code(0);
    assert_eq!(sorted("dest"), before);
    assert_eq!(part_files(&scratch.path("dest")).len(), 1);
    let verified = scratch.batchclass(&["verify", "dest", "--input", "orders.csv"]);
    verified.expect_code(0);
    scratch.batchclass(&["orders.csv", "dest"]).expect_code(0);
}

#[test]
fn rows_that_stand_in_no_file_yet_are_waited_for() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--drop", "0.3"]);
    scratch.write("orders.csv", &orders_csv(100));
    let settings = "\n[limits]\ntokens_per_minute = 0\n[batch]\nmax_attempts = 1\n\
                    [output]\njournal_folder = \"journals\"\n";
    scratch.write("batchclass.toml", &(simulated_config(&server) + settings));
    scratch.batchclass(&["orders.csv", "out", "--layout", "append"]).expect_code(3);
    let refused = scratch.batchclass(&["compact", "out", "dest"]).expect_code(2);
    assert!(refused.stderr.contains("rows stand in no part yet"), "{}", refused.stderr);
    assert!(!scratch.path("dest").exists());
}

#[test]
fn an_output_whose_input_grew_and_lost_rows_comes_out_in_order_and_is_known_again() {
    let scratch = finished();
    let lines =
        |rows: usize| -> Vec<String> { orders_csv(rows).lines().map(str::to_owned).collect() };
    // Every tenth row goes, and others come between.
    let mut csv: Vec<String> = Vec::new();
    for (at, line) in lines(ROWS).into_iter().enumerate() {
        if at == 0 || at % 10 != 0 {
            csv.push(line);
        }
        if at % 40 == 7 {
            csv.push(format!("{},a charge {at} on my card is wrong: refund", 9 + 3 * at));
        }
    }
    scratch.write("orders.csv", &(csv.join("\n") + "\n"));
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(0);
    scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "70"]).expect_code(0);
    let rows = read_parts(&scratch.path("dest"));
    assert!(rows.is_sorted_by(|a, b| a.id < b.id));
    let mut before = read_parts(&scratch.path("out"));
    before.sort();
    let mut after = rows.clone();
    after.sort();
    assert_eq!(after, before);
    scratch.batchclass(&["verify", "dest", "--input", "orders.csv"]).expect_code(0);
    let files = bytes_below(&scratch.path("dest"));
    let again = scratch.batchclass(&["orders.csv", "dest"]).expect_code(0);
    assert!(!again.stderr.contains("changed"), "{}", again.stderr);
    assert_eq!(bytes_below(&scratch.path("dest")), files);
}

#[test]
fn a_rewriting_that_was_begun_from_another_state_is_not_gone_on_with() {
    let scratch = finished();
    scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "100"]).expect_code(0);
    let before = bytes_below(&scratch.path("dest"));
    let other = scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "90"]);
    assert!(other.expect_code(2).stderr.contains("another --rows-per-part"));
    let mut csv = fs::read_to_string(scratch.path("orders.csv")).unwrap();
    csv.push_str("100001,a parcel has not arrived: where is the delivery\n");
    scratch.write("orders.csv", &csv);
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    let stale = scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "100"]);
    assert!(stale.expect_code(2).stderr.contains("another state of out"));
    assert_eq!(bytes_below(&scratch.path("dest")), before);
    // A run's own output is none that was begun so.
    let own = scratch.batchclass(&["compact", "dest", "out"]).expect_code(2);
    assert_eq!(own.stderr.lines().count(), 1, "{}", own.stderr);
}

#[test]
fn a_rewritten_output_follows_its_input_from_the_newest_state_on() {
    let scratch = finished();
    let csv = fs::read_to_string(scratch.path("orders.csv")).unwrap();
    let changed =
        csv.replace("charge 1 on my card is wrong: refund", "password 1 is forgotten: unlock");
    scratch.write("orders.csv", &changed);
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    scratch.batchclass(&["compact", "out", "dest"]).expect_code(0);
    // The first input again: its text differs from what stands.
    scratch.write("orders.csv", &csv);
    let said = scratch.batchclass(&["orders.csv", "dest"]).expect_code(0).stderr;
    assert!(said.contains("1 with another text"), "{said}");
    let row = read_parts(&scratch.path("dest")).into_iter().find(|row| row.id == 13).unwrap();
    assert_eq!(row.label.as_deref(), Some("payment"));
}

#[test]
fn an_output_that_runs_have_gone_on_with_is_left_to_them() {
    let scratch = finished();
    scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "100"]).expect_code(0);
    let csv = fs::read_to_string(scratch.path("orders.csv")).unwrap();
    let more = "100001,a parcel has not arrived\n100002,a parcel has not arrived\n";
    scratch.write("orders.csv", &(csv + more));
    scratch.batchclass(&["orders.csv", "dest", "--limit", "256"]).expect_code(0);
    assert!(!scratch.path("dest/_SUCCESS").exists());
    let before = bytes_below(&scratch.path("dest"));
    scratch.batchclass(&["compact", "out", "dest", "--rows-per-part", "100"]).expect_code(0);
    assert_eq!(bytes_below(&scratch.path("dest")), before);
    scratch.batchclass(&["orders.csv", "dest"]).expect_code(0);
    scratch.batchclass(&["verify", "dest", "--input", "orders.csv"]).expect_code(0);
}
