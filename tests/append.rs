//! Without replacing anything: rows that are answered later stand beside those that were answered
//! first, and rows that are given up on come last.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{
    Scratch, Simulated, order_label, orders_csv, part_files, read_parts, simulated_config,
};

const ROWS: usize = 300;

/// 300 rows in parts of 100, of which the server leaves out three in ten.
fn lay() -> (Scratch, Simulated) {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--drop", "0.3"]);
    scratch.write("orders.csv", &orders_csv(ROWS));
    let limits = "\n[limits]\ntokens_per_minute = 0\n[batch]\nrows_per_call = 10\n\
                  max_attempts = 1\n[output]\nrows_per_part = 100\n\
                  journal_folder = \"journals\"\n";
    scratch.write("batchclass.toml", &(simulated_config(&server) + limits));
    (scratch, server)
}

fn bytes_of(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = part_files(out).into_iter();
    files.map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn ids(out: &Path) -> Vec<i64> {
    let mut ids: Vec<i64> = read_parts(out).iter().map(|row| row.id).collect();
    ids.sort_unstable();
    ids
}

fn all_ids() -> Vec<i64> {
    (0..ROWS as i64).map(|row| 10 + 3 * row).collect()
}

#[test]
fn rows_that_are_answered_later_stand_beside_and_no_file_ever_changes() {
    let (scratch, server) = lay();
    let out = scratch.path("out");
    let first = scratch.batchclass(&["orders.csv", "out", "--layout", "append"]).expect_code(3);
    assert!(first.stderr.contains("stand in no part until"), "{}", first.stderr);
    let before = bytes_of(&out);
    assert_eq!(before.len(), 3);
    assert!(read_parts(&out).iter().all(|row| row.label.is_some()));
    let answered = ids(&out);
    assert!(answered.len() < ROWS && answered.is_sorted_by(|a, b| a < b));
    let verified = scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(3);
    assert!(verified.stdout.contains("not written: rows are not done"), "{}", verified.stdout);

    // Nothing says `append` any more: the output stays as it was begun.
    let again = ["orders.csv", "out", "--max-attempts", "20"];
    scratch.batchclass(&again).expect_code(0);
    let after = bytes_of(&out);
    assert!(before.iter().all(|(file, bytes)| after[file] == *bytes), "a file changed");
    assert!(out.join("part-000001-r01.parquet").exists());
    assert_eq!(ids(&out), all_ids());
    for row in read_parts(&out) {
        assert_eq!(row.label.as_deref(), Some(order_label(row.id)), "{}", row.text);
    }
    scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(0);

    let asked = server.count("rows_asked");
    scratch.batchclass(&again).expect_code(0);
    assert_eq!((server.count("rows_asked"), bytes_of(&out)), (asked, after));
}

#[test]
fn rows_that_are_given_up_on_come_last_and_are_never_asked_again() {
    let (scratch, server) = lay();
    let out = scratch.path("out");
    let run = ["orders.csv", "out", "--layout", "append", "--max-unlabelled", "300"];
    scratch.batchclass(&run).expect_code(0);
    assert!(out.join("_SUCCESS").exists());
    assert_eq!(ids(&out), all_ids());
    let rows = read_parts(&out);
    let given_up: Vec<_> = rows.iter().filter(|row| row.label.is_none()).collect();
    assert!(!given_up.is_empty());
    assert!(given_up.iter().all(|row| row.reason.as_deref() == Some("missing")));
    scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(0);

    let (asked, before) = (server.count("rows_asked"), bytes_of(&out));
    let again = scratch.batchclass(&[&run[..], &["--max-attempts", "9"]].concat()).expect_code(0);
    assert!(again.stderr.contains("are not asked again"), "{}", again.stderr);
    assert_eq!((server.count("rows_asked"), bytes_of(&out)), (asked, before));
}

#[test]
fn an_output_keeps_the_layout_that_it_was_begun_in() {
    let (scratch, _server) = lay();
    scratch.batchclass(&["orders.csv", "out"]).expect_code(3);
    let other = scratch.batchclass(&["orders.csv", "out", "--layout", "append"]).expect_code(2);
    let said = "output.layout: was \"replace\", is now \"append\"";
    assert!(other.stderr.contains(said), "{}", other.stderr);
}

#[test]
fn verify_names_rows_that_stand_twice_and_rows_that_are_gone() {
    let (scratch, _server) = lay();
    let out = scratch.path("out");
    scratch.batchclass(&["orders.csv", "out", "--layout", "append"]).expect_code(3);
    scratch.batchclass(&["orders.csv", "out", "--max-attempts", "20"]).expect_code(0);
    let second = out.join("part-000002-r01.parquet");
    fs::remove_file(&second).unwrap();
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
    assert!(
        verified.stdout.contains("stand in no file; part-000002-r01.parquet is gone"),
        "{}",
        verified.stdout
    );
    fs::copy(out.join("part-000002.parquet"), &second).unwrap();
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
    assert!(verified.stdout.contains("stands in part-000002.parquet too"), "{}", verified.stdout);
    assert!(verified.stdout.contains("is that of generation 1, not 2"), "{}", verified.stdout);
}

#[test]
fn a_torn_record_beside_a_whole_edition_is_no_failure() {
    let sample = format!("{}/fixtures/formats/v1/append", env!("CARGO_MANIFEST_DIR"));
    let verified = Scratch::new().batchclass(&["verify", &sample]).expect_code(0);
    assert!(verified.stdout.lines().all(|line| line.starts_with("ok ")), "{verified:?}");
}

#[test]
fn an_input_that_was_only_fetched_anew_is_gone_on_with() {
    let (scratch, server) = lay();
    scratch
        .batchclass(&["orders.csv", "out", "--layout", "append", "--limit", "150"])
        .expect_code(3);
    let asked = server.count("rows_asked");
    assert_eq!(asked, 150);
    // The same rows in a file of another time, and of another size.
    scratch.write("orders.csv", &(orders_csv(ROWS) + "\n"));
    scratch.batchclass(&["orders.csv", "out", "--max-attempts", "20"]).expect_code(0);
    assert_eq!(ids(&scratch.path("out")), all_ids());
    scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(0);
    let rows = read_parts(&scratch.path("out"));
    assert!(rows.iter().all(|row| row.label.as_deref() == Some(order_label(row.id))));
}

#[test]
fn an_input_that_grew_is_refused_where_nothing_can_be_replaced() {
    let (scratch, server) = lay();
    scratch
        .batchclass(&["orders.csv", "out", "--layout", "append", "--limit", "150"])
        .expect_code(3);
    let asked = server.count("rows_asked");
    let first = "1,a charge on my card is wrong: refund\n";
    for csv in [
        orders_csv(ROWS + 1),
        // As many rows, of which none is where it was.
        orders_csv(ROWS - 1).replacen("id,text\n", &format!("id,text\n{first}"), 1),
    ] {
        scratch.write("orders.csv", &csv);
        let refused = scratch.batchclass(&["orders.csv", "out"]).expect_code(2);
        assert!(refused.stderr.contains("can't be replaced"), "{}", refused.stderr);
    }
    assert_eq!(server.count("rows_asked"), asked);
}
