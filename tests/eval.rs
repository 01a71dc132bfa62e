//! `eval`: what labels are worth, counted from the answers themselves, and never paid for twice.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{
    Finished, OutputRow, Scratch, Simulated, order_label, orders_csv, simulated_config,
};

/// [`orders_csv`] with a column `known`: right but for each seventh row, which is called a login,
/// and each eleventh, of which nothing is known.
fn gold_csv(rows: usize) -> String {
    let csv = orders_csv(rows);
    let lines = csv.lines().skip(1).enumerate().map(|(at, line)| {
        let id: i64 = line.split(',').next().unwrap().parse().unwrap();
        format!("{line},{}\n", known(at, id).unwrap_or_default())
    });
    format!("id,text,known\n{}", lines.collect::<String>())
}

fn known(at: usize, id: i64) -> Option<&'static str> {
    match at {
        at if at % 11 == 10 => None,
        at if at % 7 == 6 => Some("login"),
        _ => Some(order_label(id)),
    }
}

fn eval(scratch: &Scratch, flags: &[&str]) -> Finished {
    let mut args = vec!["eval", "gold.csv", "--out", "kept", "--progress", "none"];
    args.extend(flags);
    scratch.batchclass(&args)
}

fn figures(scratch: &Scratch, flags: &[&str]) -> Value {
    let mut args = vec!["--gold", "known", "--json"];
    args.extend(flags);
    serde_json::from_str(&eval(scratch, &args).expect_code(0).stdout).unwrap()
}

/// The folder of the only evaluation that is kept.
fn kept(scratch: &Scratch) -> PathBuf {
    let mut folders = std::fs::read_dir(scratch.path("kept")).unwrap();
    let folder = folders.next().unwrap().unwrap().path();
    assert!(folders.next().is_none(), "one way to ask has one folder");
    folder
}

/// The rows of the kept answers; their text stands in the evaluation's input alone.
fn answers(folder: &Path) -> Vec<OutputRow> {
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder as Reader;
    let parts = crate::support::part_files(&folder.join("answers"));
    let batches = parts.into_iter().flat_map(|part| {
        let bytes: bytes::Bytes = std::fs::read(part).unwrap().into();
        Reader::try_new(bytes).unwrap().build().unwrap().map(Result::unwrap).collect::<Vec<_>>()
    });
    let rows = batches.flat_map(|batch| {
        let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().clone();
        let labels = batch.column_by_name("label").unwrap().as_string::<i32>().clone();
        let row = |(id, label): (Option<i64>, Option<&str>)| OutputRow {
            id: id.unwrap(),
            text: String::new(),
            label: label.map(str::to_owned),
            reason: None,
        };
        ids.iter().zip(labels.iter()).map(row).collect::<Vec<_>>()
    });
    rows.collect()
}

#[test]
fn eval_of_the_fixture_says_what_its_run_says() {
    let scratch = Scratch::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let gold = format!("{root}/fixtures/banking77/questions.parquet");
    let config = format!("{root}/fixtures/banking77/batchclass.toml");
    let args = ["eval", &gold, "--config", &config, "--out", "kept", "--progress", "none"];
    let shown = scratch.batchclass(&args).expect_code(0).stdout;
    assert!(shown.contains("accuracy       77.6 % (95 % between 76.1 and 79.0 %), 2,390 of 3,080"));
    assert!(shown.contains("lexical, from the labels' texts          77.6 %"), "{shown}");
    assert!(shown.contains("lexical, learned from such rows          85.4 %"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

#[test]
fn the_figures_are_those_of_a_count_by_hand_over_the_parts() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--drop", "0.2"]);
    scratch.write("gold.csv", &gold_csv(300));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let flags = ["--gold", "known", "--json", "--max-attempts", "1"];
    let finished = eval(&scratch, &flags).expect_code(3);
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();

    let rows = answers(&kept(&scratch));
    let known = |row: &OutputRow| known(((row.id - 10) / 3) as usize, row.id);
    let count = |holds: &dyn Fn(&OutputRow) -> bool| rows.iter().filter(|row| holds(row)).count();
    let figures = &told["figures"];
    assert_eq!(rows.len(), 300 - 27, "rows of which nothing is known are not asked");
    assert_eq!((&figures["rows"], &told["without_gold"]), (&rows.len().into(), &27.into()));
    let right = count(&|row| row.label.as_deref() == known(row));
    let unlabelled = count(&|row| row.label.is_none());
    assert!(unlabelled > 20, "a fifth of the rows is left out: {unlabelled}");
    assert_eq!((&figures["right"], &figures["unlabelled"]), (&right.into(), &unlabelled.into()));
    assert_eq!(figures["accuracy"], right as f64 / rows.len() as f64);
    for label in told["labels"].as_array().unwrap() {
        let name = label["label"].as_str();
        let (known, given) =
            (count(&|row| known(row) == name), count(&|row| row.label.as_deref() == name));
        assert_eq!((&label["known"], &label["given"]), (&known.into(), &given.into()), "{label}");
    }
    let tokens = server.count("prompt_tokens") + server.count("completion_tokens");
    assert_eq!(told["spent"]["tokens_per_1000_rows"], tokens as f64 * 1_000.0 / rows.len() as f64);
}

#[test]
fn a_second_eval_asks_nothing_even_with_other_known_answers() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    let gold = gold_csv(60);
    scratch.write("gold.csv", &gold);
    scratch.write("batchclass.toml", &simulated_config(&server));
    let first = figures(&scratch, &[]);
    let asked = server.count("rows_asked");
    assert_eq!(first, figures(&scratch, &[]));
    scratch.write("gold.csv", &gold.replace(",login\n", ",payment\n"));
    let corrected = figures(&scratch, &[]);
    assert_eq!(server.count("rows_asked"), asked);
    assert!(corrected["figures"]["right"].as_u64() < first["figures"]["right"].as_u64());

    // Another number of rows a call is another way to ask.
    figures(&scratch, &["--rows-per-call", "7"]);
    assert_eq!(server.count("rows_asked"), 2 * asked);
}

#[test]
fn a_known_answer_that_is_no_label_is_refused_before_anything_is_asked_and_not_shown() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    scratch.write("gold.csv", &gold_csv(60).replace(",payment\n", ",paymnet\n"));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let refused = eval(&scratch, &["--gold", "known"]).expect_code(2);
    assert_eq!(
        refused.stderr,
        "error: the gold column `known` holds no label's name in 15 rows, first in the one with id \
         13; write each as `name` in [[labels]] has it, or leave it empty\n"
    );
    assert_eq!((server.count("requests"), scratch.path("kept").exists()), (0, false));
}

#[test]
fn without_a_gold_column_eval_says_how_to_name_one() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    scratch.write("gold.csv", &gold_csv(9));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let refused = eval(&scratch, &[]).expect_code(2).stderr;
    assert!(refused.contains("gold = \"COLUMN\" in [input], or --gold COLUMN"), "{refused}");
}

#[test]
fn labels_that_the_rows_brought_along_are_not_the_models() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    let csv = gold_csv(60);
    let lines = csv.lines().skip(1).enumerate();
    let lines =
        lines.map(|(at, line)| format!("{line},{}\n", if at < 10 { "delivery" } else { "" }));
    scratch.write("gold.csv", &format!("id,text,known,old\n{}", lines.collect::<String>()));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let told = figures(&scratch, &["--existing-label", "old"]);
    assert_eq!((&told["with_own_label"], &told["without_gold"]), (&10.into(), &5.into()));
    assert_eq!(told["figures"]["rows"], 45);
    assert_eq!(server.count("rows_asked"), 45);
}
