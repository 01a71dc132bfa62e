//! `calibrate`: the same rows at several sizes, none of them paid for twice, and what follows.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use batchclass::calibrate::{Plan, Sample};
use batchclass::domain::Event;
use batchclass::domain::clock::SystemClock;
use batchclass::eval::Workspace;
use batchclass::output::store::LocalStore;
use batchclass::pipeline::{Beside, RunContext};
use futures::FutureExt as _;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::support::rehearsal::{kept_ids, orders_job, provider};
use crate::support::{
    Finished, Scratch, Simulated, order_label, orders_csv, part_files, simulated_config,
};

/// [`orders_csv`] with a column `known`, in which each seventh row is called a login.
fn gold_csv(rows: usize) -> String {
    let csv = orders_csv(rows);
    let lines = csv.lines().skip(1).enumerate().map(|(at, line)| {
        let id: i64 = line.split(',').next().unwrap().parse().unwrap();
        format!("{line},{}\n", if at % 7 == 6 { "login" } else { order_label(id) })
    });
    format!("id,text,known\n{}", lines.collect::<String>())
}

fn lay(scratch: &Scratch, server: &Simulated, rows: usize) {
    scratch.write("gold.csv", &gold_csv(rows));
    scratch.write("batchclass.toml", &simulated_config(server));
}

const KEPT: [&str; 6] = ["calibrate", "gold.csv", "--out", "kept", "--progress", "none"];

fn calibrate(scratch: &Scratch, flags: &[&str]) -> Finished {
    scratch.batchclass(&[&KEPT[..], flags].concat())
}

fn figures(scratch: &Scratch, flags: &[&str]) -> Value {
    let flags = [flags, &["--gold", "known", "--json", "--sizes", "5,20"]].concat();
    serde_json::from_str(&calibrate(scratch, &flags).expect_code(0).stdout).unwrap()
}

/// The folder of the only calibration that is kept.
fn kept(scratch: &Scratch) -> PathBuf {
    let mut folders = std::fs::read_dir(scratch.path("kept")).unwrap();
    let folder = folders.next().unwrap().unwrap().path();
    assert!(folders.next().is_none(), "one way to ask has one folder");
    folder
}

/// A text column of a file by the rows' ids; nulls are left out.
fn column(file: &Path, name: &str) -> HashMap<i64, String> {
    let bytes: bytes::Bytes = std::fs::read(file).unwrap().into();
    let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let mut rows = HashMap::new();
    for batch in batches.map(Result::unwrap) {
        let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().clone();
        let texts = batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let found = ids.iter().zip(texts.iter());
        rows.extend(found.filter_map(|(id, text)| Some((id?, text?.to_owned()))));
    }
    rows
}

#[test]
fn a_second_calibrate_with_another_bound_asks_nothing() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--drop", "0.1"]);
    lay(&scratch, &server, 200);
    let first = figures(&scratch, &["--max-loss", "5"]);
    assert_eq!(first["choice"]["rows_per_call"], 20);
    let requests = server.count("requests");
    let second = figures(&scratch, &["--max-loss", "0.5"]);
    assert_eq!(server.count("requests"), requests);
    assert_eq!(second["choice"]["rows_per_call"], 5);
    assert!(second["choice"]["stopped_by"]["further_rows"].as_u64().unwrap() > 1_000);
    assert_eq!(first["sizes"], second["sizes"]);
}

#[test]
fn the_figures_are_those_of_a_count_by_hand_over_the_parts() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--drop", "0.4"]);
    lay(&scratch, &server, 210);
    let told = figures(&scratch, &["--max-attempts", "1"]);

    let gold = gold_csv(210);
    let known: HashMap<&str, &str> = gold
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap().1.rsplit_once(',').unwrap())
        .collect();
    let folder = kept(&scratch);
    let texts = column(&folder.join("rows.parquet"), "text");
    let at = |size: &str| -> HashMap<i64, String> {
        let parts = part_files(&folder.join(size));
        parts.iter().flat_map(|part| column(part, "label")).collect()
    };
    let [base, other] = ["rows-005", "rows-020"].map(at);
    let is_right = |labels: &HashMap<i64, String>, id: &i64| {
        labels.get(id).is_some_and(|label| known[texts[id].as_str()] == label)
    };
    let count = |holds: &dyn Fn(&i64) -> bool| texts.keys().filter(|id| holds(id)).count();
    assert_eq!(texts.len(), 210);
    let (small, large) = (&told["sizes"][0], &told["sizes"][1]);
    assert_eq!(small["right"], count(&|id| is_right(&base, id)));
    assert_eq!(large["right"], count(&|id| is_right(&other, id)));
    assert_eq!(large["unlabelled"], 210 - other.len());
    assert_eq!(large["only_base_right"], count(&|id| is_right(&base, id) && !is_right(&other, id)));
    assert_eq!(large["only_this_right"], count(&|id| is_right(&other, id) && !is_right(&base, id)));
    assert!(large["only_base_right"].as_u64().unwrap() > 20, "{large}");
    // A reply without an answer is asked again in halves, which of five rows have no fifths.
    let by_place = large["by_place"].as_array().unwrap();
    let sum = |of: &str| by_place.iter().map(|fifth| fifth[of].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("rows"), Some(sum("right"))), (210, large["right"].as_u64()));
}

#[test]
fn more_rows_cost_only_the_new_ones_and_fewer_cost_nothing() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    lay(&scratch, &server, 300);
    figures(&scratch, &["--rows", "100"]);
    assert_eq!(server.count("rows_asked"), 2 * 100);
    let more = figures(&scratch, &["--rows", "160"]);
    assert_eq!(server.count("rows_asked"), 2 * 160);
    assert_eq!(more["sizes"][1]["rows"], 160);
    let fewer = figures(&scratch, &["--rows", "50"]);
    assert_eq!((server.count("rows_asked"), &fewer["sizes"][1]["rows"]), (2 * 160, &50.into()));
    // Another seed draws other rows.
    figures(&scratch, &["--rows", "10", "--seed", "2"]);
    assert_eq!(server.count("rows_asked"), 2 * 160 + 2 * 10);
}

#[test]
fn killed_it_goes_on_pays_nothing_twice_and_still_knows_every_place() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "40", "--requests-per-minute", "3000"]);
    lay(&scratch, &server, 200);
    let flags = ["--gold", "known", "--sizes", "5,20", "--requests-per-minute", "3000"];
    let mut child = scratch.command(&[&KEPT[..], &flags].concat()).spawn().unwrap();
    server.wait_for("rows_asked", 60);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = kept(&scratch).join("rows-005");
    let stands = kept_ids(&LocalStore::new(&output), &output.join("_batchclass/journal")).len();
    let asked = server.count("rows_asked");
    assert!(stands > 0 && stands < 200, "{stands}");

    let told = figures(&scratch, &["--requests-per-minute", "3000"]);
    assert_eq!(server.count("rows_asked"), asked + 2 * 200 - stands as u64);
    for size in told["sizes"].as_array().unwrap() {
        let by_place = size["by_place"].as_array().unwrap().iter();
        let rows: u64 = by_place.map(|fifth| fifth["rows"].as_u64().unwrap()).sum();
        assert_eq!(rows, 200, "{size}");
    }
}

#[test]
fn interrupted_it_shows_what_is_measured_and_says_how_to_go_on() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "40"]);
    lay(&scratch, &server, 200);
    let flags = ["--gold", "known", "--sizes", "50,1", "--requests-per-minute", "600"];
    let child = scratch.command(&[&KEPT[..], &flags].concat()).spawn().unwrap();
    server.wait_for("rows_asked", 5);
    let pid = child.id().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap();
    let finished = Finished::of(child.wait_with_output().unwrap()).expect_code(130);
    assert!(finished.stdout.contains("no size is done yet"), "{}", finished.stdout);
    assert!(finished.stderr.contains("same command"), "{}", finished.stderr);
}

#[test]
fn without_known_answers_agreement_with_the_smallest_size_is_measured() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    lay(&scratch, &server, 400);
    let shown = calibrate(&scratch, &["--sizes", "1,20"]).expect_code(0).stdout;
    assert!(shown.starts_with("400 rows with no known answer, shuffled (seed 1)\n"), "{shown}");
    assert!(shown.contains("rows/call  agreement"), "{shown}");
    assert!(shown.contains("       20    100.0 %  99.0-100.0  +0.00    +0.67"), "{shown}");
    assert!(shown.contains("take rows_per_call = 20"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

#[test]
fn what_costs_money_is_priced_and_not_asked_unless_somebody_agrees() {
    let scratch = Scratch::new();
    scratch.write("gold.csv", &gold_csv(100));
    let model = "provider = \"openai\"\nname = \"gpt-4o-mini\"";
    scratch.write("batchclass.toml", &crate::support::orders_config(model));
    let refused = calibrate(&scratch, &["--sizes", "1,50"]).expect_code(2).stderr;
    let lines: Vec<&str> = refused.lines().collect();
    assert_eq!(lines[1], "rows a call  to ask  calls  tokens       price", "{refused}");
    assert!(lines[2].starts_with("          1     100    100  "), "{refused}");
    assert!(lines[3].starts_with("         50     100      2  "), "{refused}");
    assert!(refused.contains("nobody is there to agree; say --yes"), "{refused}");
    assert!(!scratch.path("kept").exists());
}

#[test]
fn the_price_that_is_told_is_what_the_server_counts() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    lay(&scratch, &server, 100);
    let told = calibrate(&scratch, &["--sizes", "1,7,50"]).expect_code(0).stderr;
    let line = told.lines().find(|line| line.trim_start().starts_with("all")).unwrap();
    let tokens = server.count("prompt_tokens") + server.count("completion_tokens");
    let told: Vec<u64> =
        line.split_whitespace().filter_map(|cell| cell.replace(',', "").parse().ok()).collect();
    assert_eq!(told[..2], [300, 100 + 15 + 2]);
    assert!(told[2] >= tokens && told[2] < tokens + tokens / 50, "{told:?}, not {tokens}");
}

#[test]
fn the_size_is_written_into_the_config_and_everything_else_stays() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    scratch.write("gold.csv", &gold_csv(400));
    let config = simulated_config(&server) + "\n[batch]\nrows_per_call = 50  # a guess\n";
    let file = scratch.write("batchclass.toml", &config);
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, private).unwrap();
    let flags = ["--gold", "known", "--sizes", "1,20", "--write-config"];
    // 400 rows without a difference tell of a point, 200 do not.
    let few = calibrate(&scratch, &[&flags[..], &["--rows", "200"]].concat()).expect_code(0);
    assert!(few.stderr.contains("the config is left as it is"), "{}", few.stderr);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), config);
    calibrate(&scratch, &flags).expect_code(0);
    let written = std::fs::read_to_string(&file).unwrap();
    let (kept, _) = written.split_once("\n[quality]\n").unwrap_or((&written, ""));
    assert_eq!(kept, config.replace("= 50 ", "= 20 "));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // It is a config as before.
    let again = calibrate(&scratch, &flags).expect_code(0);
    assert!(again.stderr.contains("has rows_per_call = 20"), "{}", again.stderr);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn a_larger_sample_begins_with_the_smaller_one_and_equal_texts_are_one_row() {
    let scratch = Scratch::new();
    let csv = orders_csv(200);
    let again = csv.lines().skip(1).take(50).enumerate();
    let again =
        again.map(|(at, line)| format!("{},{}\n", 9_000 + at, line.split_once(',').unwrap().1));
    let input = scratch.write("orders.csv", &(csv.clone() + &again.collect::<String>()));
    let job = orders_job(&input, &scratch.path("unused"), 100);
    let draw = |most, seed| Sample::draw(&job, None, most, seed).unwrap();
    let texts = |sample: Sample| -> Vec<String> {
        sample.rows.into_iter().map(|row| row.text.unwrap().into()).collect()
    };
    let all = draw(1_000, 1);
    assert_eq!((all.rows.len(), all.available), (200, 250));
    let all = texts(all);
    assert_eq!(texts(draw(60, 1)), all[..60]);
    assert_ne!(texts(draw(60, 2)), all[..60]);
    let input_order: Vec<&str> =
        csv.lines().skip(1).map(|line| line.split_once(',').unwrap().1).collect();
    assert_ne!(all, input_order);
}

#[test]
fn sizes_know_what_the_others_were_charged() {
    let scratch = Scratch::new();
    let input = scratch.write("orders.csv", &orders_csv(40));
    let mut job = orders_job(&input, &scratch.path("unused"), 100);
    job.limits.tokens_per_minute = NonZeroU32::new(10_000_000);
    let sample = Sample::draw(&job, None, 40, 1).unwrap();
    let place = Workspace::below(&scratch.path("kept"), &job, "a test").unwrap();
    let sizes = [1, 10].map(|size| NonZeroU32::new(size).unwrap());
    let plan = Plan { job: &job, sample: &sample, has_gold: false, place: &place, sizes: &sizes };
    let windows: Arc<Mutex<Vec<Vec<u64>>>> = Arc::default();
    let contexts = |_| {
        windows.lock().unwrap().push(Vec::new());
        let windows = Arc::clone(&windows);
        RunContext {
            provider: Arc::new(provider(|_| ())),
            events: Arc::new(move |event: Event| {
                if let Event::CallFinished { window_tokens, .. } = event {
                    windows.lock().unwrap().last_mut().unwrap().push(window_tokens);
                }
            }),
            clock: Arc::new(SystemClock::start()),
            stop: futures::future::pending().boxed(),
            takeover: false,
            beside: Beside::default(),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let calibrated = runtime.block_on(plan.carry_out(contexts)).unwrap();
    assert_eq!(calibrated.sizes.len(), 2);
    let windows = windows.lock().unwrap();
    let most = |at: usize| windows[at].iter().max().copied().unwrap();
    assert!(most(0) > 2_000, "{windows:?}");
    assert!(windows[1].iter().all(|tokens| *tokens > most(0)), "{windows:?}");
}

#[test]
fn a_bound_on_tokens_is_that_of_all_sizes_together() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    lay(&scratch, &server, 300);
    let spent = || server.count("prompt_tokens") + server.count("completion_tokens");
    let flags = ["--gold", "known", "--sizes", "5,20"];
    calibrate(&scratch, &["--gold", "known", "--sizes", "5"]).expect_code(0);
    let first = spent();
    // Enough for the second size by itself, and not beside the first.
    let bound = first + first / 10;
    calibrate(&scratch, &[&flags[..], &["--max-tokens", &bound.to_string()]].concat())
        .expect_code(5);
    assert!(spent() > first && spent() <= bound, "{} of {bound}", spent());
    calibrate(&scratch, &flags).expect_code(0);
}
