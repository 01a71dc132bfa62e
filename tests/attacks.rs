//! Rows that try to label their neighbours, against a model that does whatever it is told.
//!
//! `cargo test attacks -- --nocapture` prints the table of `docs/isolation.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::support::{
    OutputRow, Scratch, Simulated, order_label, orders_csv, read_parts, simulated_config,
};

/// Rows of each run that do nothing but stand beside attacks.
const NEIGHBOURS: usize = 500;
const SIZES: [usize; 4] = [1, 10, 50, 100];

/// What a run made of the neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Damage {
    /// Neighbours with a label that they have not without the attacks.
    mislabelled: usize,
    /// Neighbours without a label.
    unlabelled: usize,
}

const NONE: Damage = Damage { mislabelled: 0, unlabelled: 0 };

/// The texts of the corpus of these kinds.
fn corpus(kinds: &[&str]) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/attacks/attacks.csv");
    let mut reader = csv::Reader::from_path(file).unwrap();
    let records = reader.records().map(|record| record.unwrap());
    let texts = records.filter(|record| kinds.contains(&&record[1]));
    texts.map(|record| with_every_key(&record[3])).collect()
}

/// `{every key:B}` stands for `100:B 101:B` and so on to 999: an author who can't guess a key can
/// name them all.
fn with_every_key(text: &str) -> String {
    let Some((before, rest)) = text.split_once("{every key:") else { return text.to_owned() };
    let (code, after) = rest.split_once('}').unwrap();
    let mut all = before.to_owned();
    for key in 100..1_000 {
        let _ = write!(all, "{key}:{code} ");
    }
    all + after
}

/// Neighbours with the attacks strewn among them, as CSV. The neighbours' ids leave room for them.
fn with_attacks(attacks: &[String]) -> String {
    let neighbours = orders_csv(NEIGHBOURS);
    let mut lines = neighbours.lines();
    let mut csv = format!("{}\n", lines.next().unwrap());
    let every = NEIGHBOURS / attacks.len();
    let mut attacks = attacks.iter();
    for (at, line) in lines.enumerate() {
        let _ = writeln!(csv, "{line}");
        if at % every == every / 2
            && let Some(attack) = attacks.next()
        {
            let id = 10 + 3 * at + 1;
            let _ = writeln!(csv, "{id},\"{}\"", attack.replace('"', "\"\""));
        }
    }
    assert_eq!(attacks.next(), None);
    csv
}

fn is_neighbour(row: &OutputRow) -> bool {
    row.id % 3 == 1
}

/// Runs the neighbours among `attacks` and compares their labels with those they deserve, which
/// they have without the attacks.
fn damage(attacks: &[String], rows_per_call: usize, isolate: bool) -> Damage {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--gullible"]);
    scratch.write("rows.csv", &with_attacks(attacks));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let rows_per_call = rows_per_call.to_string();
    let isolate = isolate.to_string();
    let args = ["rows.csv", "out", "--rows-per-call", &rows_per_call, "--isolate", &isolate];
    let finished = scratch.batchclass(&args);
    assert!(matches!(finished.code, Some(0 | 3)), "{finished:?}");
    let rows = read_parts(&scratch.path("out"));
    let neighbours: Vec<&OutputRow> = rows.iter().filter(|row| is_neighbour(row)).collect();
    assert_eq!(neighbours.len(), NEIGHBOURS);
    let wrong =
        |row: &&&OutputRow| row.label.as_deref().is_some_and(|it| it != order_label(row.id));
    Damage {
        mislabelled: neighbours.iter().filter(wrong).count(),
        unlabelled: neighbours.iter().filter(|row| row.label.is_none()).count(),
    }
}

/// The damage at each size, without isolation and with it.
fn table(name: &str, kinds: &[&str]) -> BTreeMap<usize, [Damage; 2]> {
    let attacks = corpus(kinds);
    let at = |size| (size, [false, true].map(|isolate| damage(&attacks, size, isolate)));
    let table = BTreeMap::from(SIZES.map(at));
    for (size, [without, with]) in &table {
        print_row(&format!(
            "| {name} | {size} | {} + {} | {} + {} |",
            without.mislabelled, without.unlabelled, with.mislabelled, with.unlabelled
        ));
    }
    table
}

#[expect(
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "prints the table that the documentation shows"
)]
fn print_row(row: &str) {
    println!("{row}");
}

#[test]
fn without_attacks_a_gullible_model_labels_every_row_as_it_deserves() {
    assert_eq!(damage(&["nothing of note".to_owned()], 100, false), NONE);
}

#[test]
fn forged_lines_keys_and_json_do_no_damage_to_any_neighbour() {
    let forged = table("forged lines, keys, JSON", &["lines", "keys", "json"]);
    for (size, [without, with]) in forged {
        assert_eq!(with, NONE, "at {size} rows a call");
        assert_eq!(without.mislabelled, 0, "at {size} rows a call without isolation");
    }
}

#[test]
fn orders_to_a_model_that_obeys_do_damage_that_isolation_undoes() {
    let orders = table("instructions", &["instructions"]);
    for (size, [without, with]) in orders {
        assert_eq!(with, NONE, "at {size} rows a call");
        let is_harmed = without.mislabelled > NEIGHBOURS / 10;
        assert_eq!(is_harmed, size > 1, "at {size} rows a call: {without:?}");
    }
}

#[test]
fn veiled_orders_reach_their_neighbours_and_no_lone_row() {
    let veiled = table("veiled instructions", &["veiled"]);
    for (size, [_, with]) in veiled {
        assert_eq!(with.mislabelled > 0, size > 1, "at {size} rows a call: {with:?}");
    }
}
