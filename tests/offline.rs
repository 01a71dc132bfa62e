//! The main job without a network: the embedded provider on real files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::support::{
    Scratch, Simulated, order_label, orders_config, orders_csv, part_files, read_part, read_parts,
    simulated_config,
};

fn fixture(name: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("{root}/fixtures/banking77/{name}")
}

fn run_fixture(scratch: &Scratch, input: &str, out: &str) -> String {
    let config = fixture("batchclass.toml");
    let finished = scratch.batchclass(&[&fixture(input), out, "--config", &config]);
    finished.expect_code(0).stderr
}

#[test]
fn each_row_of_the_fixture_is_labelled_once_in_parquet_and_csv_alike() {
    let scratch = Scratch::new();
    let summary = run_fixture(&scratch, "questions.parquet", "from-parquet");
    run_fixture(&scratch, "questions.csv", "from-csv");

    let rows = read_parts(&scratch.path("from-parquet"));
    assert_eq!(rows.len(), 3080);
    assert!(rows.is_sorted_by_key(|row| row.id));
    assert!(rows.iter().all(|row| row.label.is_some() && row.reason.is_none()));
    assert_eq!(rows, read_parts(&scratch.path("from-csv")));
    assert!(summary.contains("accuracy    77.6 %"), "{summary}");
    assert!(scratch.path("from-parquet/_SUCCESS").exists());
}

#[test]
fn a_rerun_over_a_finished_output_writes_nothing() {
    let scratch = Scratch::new();
    run_fixture(&scratch, "questions.csv", "out");
    let before = everything_below(&scratch.path("out"));
    run_fixture(&scratch, "questions.csv", "out");
    assert_eq!(everything_below(&scratch.path("out")), before);
}

#[test]
fn parts_hold_rows_in_id_order_whatever_the_order_of_the_input() {
    let scratch = Scratch::new();
    let sorted = orders_csv(50);
    let (header, rows) = sorted.split_once('\n').unwrap();
    let mut lines: Vec<&str> = rows.lines().collect();
    lines.reverse();
    scratch.write("sorted.csv", &sorted);
    scratch.write("reversed.csv", &format!("{header}\n{}\n", lines.join("\n")));
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    for name in ["sorted", "reversed"] {
        let input = format!("{name}.csv");
        scratch.batchclass(&[&input, name, "--rows-per-part", "20"]).expect_code(0);
    }
    let sizes: Vec<usize> =
        part_files(&scratch.path("sorted")).iter().map(|file| read_part(file).len()).collect();
    assert_eq!(sizes, [20, 20, 10]);
    let rows = read_parts(&scratch.path("sorted"));
    assert_eq!(rows, read_parts(&scratch.path("reversed")));
    for row in rows {
        assert_eq!(row.label.as_deref(), Some(order_label(row.id)), "{}", row.text);
    }
}

#[test]
fn a_limited_run_is_continued_by_one_without_the_limit() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(30));
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    scratch.batchclass(&["orders.csv", "out", "--limit", "8"]).expect_code(0);
    let first = read_parts(&scratch.path("out"));
    assert_eq!(first.len(), 8);
    assert!(!scratch.path("out/_SUCCESS").exists(), "a limited output is not the whole");
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    let all = read_parts(&scratch.path("out"));
    assert_eq!(all.len(), 30);
    assert_eq!(all[..8], first);
    assert!(scratch.path("out/_SUCCESS").exists());
}

#[test]
fn rows_that_have_a_label_pass_through_and_blank_texts_end_with_a_reason() {
    let scratch = Scratch::new();
    scratch.write(
        "orders.csv",
        "id,text,known\n1,where is the delivery,payment\n2,unlock the login,\n3,  ,\n",
    );
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    let args = ["orders.csv", "out", "--existing-label", "known"];
    scratch.batchclass(&args).expect_code(3);
    let rows = read_parts(&scratch.path("out"));
    assert_eq!(rows[0].label.as_deref(), Some("payment"));
    assert_eq!(rows[1].label.as_deref(), Some("login"));
    assert_eq!(rows[2].reason.as_deref(), Some("no_text"));
    assert!(!scratch.path("out/_SUCCESS").exists());

    let args = ["orders.csv", "out", "--existing-label", "known", "--max-unlabelled", "1"];
    scratch.batchclass(&args).expect_code(0);
    assert!(scratch.path("out/_SUCCESS").exists());
}

#[test]
fn rows_without_ids_are_numbered() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", "text\nwhere is the delivery\nunlock the login\n");
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    scratch.batchclass(&["orders.csv", "out", "--id", "@row"]).expect_code(0);
    let ids: Vec<i64> = read_parts(&scratch.path("out")).iter().map(|row| row.id).collect();
    assert_eq!(ids, [0, 1]);
}

#[test]
fn a_changed_job_is_refused_with_what_changed() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(6));
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    let before = everything_below(&scratch.path("out"));
    let args = ["orders.csv", "out", "--instructions", "You sort letters."];
    let refused = scratch.batchclass(&args).expect_code(2);
    assert!(refused.stderr.contains("instructions"), "{}", refused.stderr);
    assert!(refused.stderr.contains("You sort letters."), "{}", refused.stderr);
    assert_eq!(everything_below(&scratch.path("out")), before);
}

#[test]
fn a_rehearsals_answers_never_count_as_the_models() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    scratch.write("orders.csv", &orders_csv(6));
    scratch.write("batchclass.toml", &simulated_config(&server));
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    let elsewhere = ["orders.csv", "out", "--base-url", "https://models.example/v1"];
    let args = [&elsewhere[..], &["--api-key-env", ""]].concat();
    let refused = scratch.batchclass(&args).expect_code(2);
    assert!(refused.stderr.contains("models.example"), "{}", refused.stderr);
}

#[test]
fn bad_input_costs_one_sentence_and_touches_nothing() {
    let scratch = Scratch::new();
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    scratch.write("columns.csv", "id,txet\n1,a\n");
    scratch.write("twice.csv", "id,text\n1,a\n2,b\n1,c\n");
    scratch.write("null.csv", "id,text\n1,a\n,b\n");
    scratch.write("ragged.csv", "id,text\n1,a\n2\n");
    for (input, words) in [
        ("columns.csv", vec!["`text`", "did you mean `txet`?"]),
        ("twice.csv", vec!["line 2", "line 4", "--on-duplicate-id first"]),
        ("null.csv", vec!["line 3"]),
        ("ragged.csv", vec!["line 3"]),
        ("absent.csv", vec!["absent.csv"]),
    ] {
        let refused = scratch.batchclass(&[input, "out"]).expect_code(2);
        for word in words {
            assert!(refused.stderr.contains(word), "{input}: {}", refused.stderr);
        }
        assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{}", refused.stderr);
        assert!(!scratch.path("out").exists(), "{input}");
    }
    scratch.batchclass(&["twice.csv", "out", "--on-duplicate-id", "first"]).expect_code(0);
    assert_eq!(read_parts(&scratch.path("out")).len(), 2);
}

#[test]
fn preview_shows_labels_and_the_request_and_writes_nothing() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(30));
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    let before = everything_below(&scratch.path("."));
    let shown = scratch.batchclass(&["preview", "orders.csv"]).expect_code(0).stdout;
    assert!(shown.contains("parcel 0 has not arrived"), "{shown}");
    assert!(shown.contains("delivery"), "{shown}");
    assert!(shown.contains("You sort the messages of a shop's customers."), "{shown}");
    assert_eq!(everything_below(&scratch.path(".")), before);
}

/// Every file below a folder with its size and time of change.
fn everything_below(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.metadata().unwrap();
        files.insert(path.clone(), (meta.len(), meta.modified().unwrap()));
        if meta.is_dir() {
            files.extend(everything_below(&path));
        }
    }
    files
}

#[test]
fn a_label_that_the_input_brought_is_no_answer_for_rows_with_the_same_text() {
    let scratch = Scratch::new();
    let refusing = Simulated::start(&["--refuse-marker", "login"]);
    let rows = "id,text,known\n1,unlock the login,payment\n2,unlock the login,\n3,where is it,\n";
    scratch.write("orders.csv", rows);
    scratch.write("batchclass.toml", &simulated_config(&refusing));
    let args = ["orders.csv", "out", "--existing-label", "known"];
    scratch.batchclass(&args).expect_code(3);
    let healthy = Simulated::start(&[]);
    let base_url = healthy.base_url();
    let again = [&args[..], &["--retry", "refused", "--base-url", &base_url]].concat();
    scratch.batchclass(&again).expect_code(0);
    let labels: Vec<_> =
        read_parts(&scratch.path("out")).into_iter().filter_map(|row| row.label).collect();
    assert_eq!(labels[..2], ["payment", "login"]);
}
