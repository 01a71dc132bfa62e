//! The same command over an input that grew, changed or shrank asks for the difference alone.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{OutputRow, Scratch, Simulated, part_files, read_parts, simulated_config};

const TOPICS: [(&str, &str); 3] = [
    ("delivery", "parcel has not arrived: where is the delivery"),
    ("payment", "charge on my card is wrong: refund the payment"),
    ("login", "password is forgotten: unlock the login"),
];

/// Messages by id; the label that each deserves follows from its topic.
type Messages = BTreeMap<i64, usize>;

fn csv(messages: &Messages) -> String {
    let lines = messages.iter().map(|(id, topic)| format!("{id},{id} {}\n", TOPICS[*topic].1));
    format!("id,text\n{}", lines.collect::<String>())
}

fn topic_of(id: i64) -> usize {
    usize::try_from(id % 3).unwrap()
}

/// Messages with every `step`-th id of 0 to 900.
fn messages(step: usize) -> Messages {
    (0..900).step_by(step).map(|id| (id, topic_of(id))).collect()
}

fn lay(scratch: &Scratch, server: &Simulated, messages: &Messages) {
    scratch.write("in.csv", &csv(messages));
    let limits = "\n[limits]\ntokens_per_minute = 0\n[batch]\nrows_per_call = 10\n\
                  [output]\nrows_per_part = 50\n";
    scratch.write("batchclass.toml", &(simulated_config(server) + limits));
}

fn expect_labels(out: &Path, messages: &Messages) {
    let rows = read_parts(out);
    let by_id: BTreeMap<i64, &OutputRow> = rows.iter().map(|row| (row.id, row)).collect();
    assert_eq!(by_id.len(), rows.len(), "an id stands twice");
    for (id, topic) in messages {
        let row = by_id[id];
        assert_eq!(row.text, format!("{id} {}", TOPICS[*topic].1));
        assert_eq!(row.label.as_deref(), Some(TOPICS[*topic].0), "{}", row.text);
    }
}

fn expect_verified(scratch: &Scratch) {
    let verified = scratch.batchclass(&["verify", "out", "--input", "in.csv"]).expect_code(0);
    assert!(!verified.stdout.contains("not done"), "{}", verified.stdout);
}

#[test]
fn new_rows_among_finished_ones_and_changed_texts_are_asked_and_nothing_else() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    let mut all = messages(3);
    lay(&scratch, &server, &all);
    scratch.batchclass(&["in.csv", "out"]).expect_code(0);
    let asked = server.count("rows_asked");
    assert_eq!(asked, 300);

    all.extend(messages(4));
    all.insert(300, 1);
    all.insert(600, 2);
    all.remove(&0);
    all.remove(&9);
    lay(&scratch, &server, &all);
    let finished = scratch.batchclass(&["in.csv", "out"]).expect_code(0);
    let new = all.keys().filter(|id| **id % 3 != 0).count();
    let told = format!(
        "the input changed: {new} new rows, 2 with another text, 2 finished rows that it no longer \
         has (ids 0, 9)"
    );
    assert!(finished.stderr.contains(&told), "{}", finished.stderr);
    assert_eq!(server.count("rows_asked"), asked + new as u64 + 2);
    expect_labels(&scratch.path("out"), &all);
    assert!(scratch.path("out/_SUCCESS").exists());
    expect_verified(&scratch);

    let asked = server.count("rows_asked");
    let again = scratch.batchclass(&["in.csv", "out"]).expect_code(0);
    assert!(!again.stderr.contains("changed"), "{}", again.stderr);
    assert_eq!(server.count("rows_asked"), asked);
}

#[test]
fn files_that_are_split_or_named_otherwise_are_no_new_rows() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    let all = messages(3);
    lay(&scratch, &server, &all);
    std::fs::create_dir(scratch.path("folder")).unwrap();
    scratch.write("folder/all.csv", &csv(&all));
    scratch.batchclass(&["folder", "out"]).expect_code(0);
    let (calls, parts) = (server.count("requests"), part_files(&scratch.path("out")));

    std::fs::remove_file(scratch.path("folder/all.csv")).unwrap();
    let (low, high): (Messages, Messages) = all.iter().partition(|(id, _)| **id < 450);
    scratch.write("folder/a.csv", &csv(&low));
    scratch.write("folder/b.csv", &csv(&high));
    let finished = scratch.batchclass(&["folder", "out"]).expect_code(0);
    assert!(finished.stderr.contains("its rows did not"), "{}", finished.stderr);
    assert_eq!((server.count("requests"), part_files(&scratch.path("out"))), (calls, parts));
    assert!(scratch.path("out/_SUCCESS").exists());
}

#[test]
fn a_run_that_was_killed_goes_on_over_a_grown_input_and_pays_only_for_what_was_in_flight() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "40"]);
    let mut all = messages(3);
    lay(&scratch, &server, &all);
    for step in [4, 5, 7] {
        let before = server.count("rows_asked");
        let mut child = scratch.command(&["in.csv", "out"]).spawn().unwrap();
        server.wait_for("rows_asked", before + 100);
        child.kill().unwrap();
        child.wait().unwrap();
        all.extend(messages(step));
        lay(&scratch, &server, &all);
    }
    scratch.batchclass(&["in.csv", "out"]).expect_code(0);
    expect_labels(&scratch.path("out"), &all);
    assert_eq!(server.count("rows_asked_again_unexplained"), 0);
    expect_verified(&scratch);
}

#[test]
fn a_column_that_is_gone_is_refused_by_name_and_nothing_is_asked() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    lay(&scratch, &server, &messages(9));
    let extra = csv(&messages(9)).replace("id,text", "id,text,more").replace('\n', ",x\n");
    scratch.write("in.csv", &extra.replacen("more,x", "more", 1));
    scratch.batchclass(&["in.csv", "out"]).expect_code(0);
    let asked = server.count("rows_asked");
    lay(&scratch, &server, &messages(3));
    let refused = scratch.batchclass(&["in.csv", "out"]).expect_code(2);
    assert!(refused.stderr.contains("`more`"), "{}", refused.stderr);
    assert_eq!(server.count("rows_asked"), asked);
    assert!(scratch.path("out/_SUCCESS").exists());
}

#[test]
fn rows_without_an_id_shift_where_one_is_put_between_and_join_where_it_is_put_last() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    let mut all: Vec<usize> = (0..90).map(|row| row / 3 % 3).collect();
    let text = |all: &[usize]| {
        let lines = all.iter().map(|topic| format!("{}\n", TOPICS[*topic].1));
        format!("text\n{}", lines.collect::<String>())
    };
    lay(&scratch, &server, &Messages::new());
    let config = std::fs::read_to_string(scratch.path("batchclass.toml")).unwrap();
    scratch.write("batchclass.toml", &config.replace("id = \"id\"", "id = \"@row\""));
    scratch.write("in.csv", &text(&all));
    scratch.batchclass(&["in.csv", "out"]).expect_code(0);

    all.push(1);
    scratch.write("in.csv", &text(&all));
    let grown = scratch.batchclass(&["in.csv", "out"]).expect_code(0);
    assert!(grown.stderr.contains("the input changed: 1 new rows\n"), "{}", grown.stderr);

    all.insert(30, 2);
    scratch.write("in.csv", &text(&all));
    let shifted = scratch.batchclass(&["in.csv", "out"]).expect_code(0);
    assert!(shifted.stderr.contains("1 new rows, "), "{}", shifted.stderr);
    assert!(shifted.stderr.contains("with another text"), "{}", shifted.stderr);
    let rows: Vec<(i64, Option<String>)> =
        read_parts(&scratch.path("out")).into_iter().map(|row| (row.id, row.label)).collect();
    let expected: Vec<(i64, Option<String>)> =
        (0..).zip(all).map(|(id, topic)| (id, Some(TOPICS[topic].0.to_owned()))).collect();
    assert_eq!(rows, expected);
}
