//! Rows that are asked twice: the second answer is counted and never kept, and what it shows sets
//! the rows per call. And labels that drift are told of.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use batchclass::domain::Event;
use batchclass::domain::event::{Disagreement, RunEnd};
use batchclass::llm::provider::ProviderError;
use batchclass::llm::provider::scripted::{Answer, Scripted, array_reply, rows_of};
use batchclass::output::store::MemoryStore;
use serde_json::Value;

use crate::support::rehearsal::{Asked, Rehearsal, orders_job, stored_rows};
use crate::support::{
    Finished, Scratch, Simulated, order_label, orders_csv, read_parts, simulated_config,
};

/// The code that the text of an order deserves.
fn code_of(text: &str) -> &'static str {
    match text.split(' ').next() {
        Some("parcel") => "A",
        Some("charge") => "B",
        _ => "C",
    }
}

/// Labels a text rightly the first time and wrongly the second, until `calls` calls were answered;
/// then the account is empty.
fn forgetful(calls: usize) -> Scripted {
    let mut seen = HashSet::new();
    Scripted::new(move |call, request| {
        if call >= calls {
            return Answer::Fail(ProviderError::OutOfQuota { message: "empty".into() });
        }
        let pairs: Vec<(&str, &str)> = rows_of(&request.user)
            .map(|(key, text)| {
                let is_new = seen.insert(text.to_owned());
                let right = code_of(text);
                (
                    key,
                    if is_new {
                        right
                    } else if right == "A" {
                        "B"
                    } else {
                        "A"
                    },
                )
            })
            .collect();
        Answer::Reply(array_reply(pairs.into_iter()))
    })
}

fn probing_job(scratch: &Scratch, rows: usize) -> batchclass::domain::JobSpec {
    let input = scratch.write("orders.csv", &orders_csv(rows));
    let mut job = orders_job(&input, &scratch.path("out"), 1_000);
    job.batch.rows_per_call = NonZeroU32::new(20).unwrap();
    job.quality.probe = 0.1;
    // Whatever they say, the rows per call stay.
    job.quality.probe_max = 1.0;
    job
}

fn last_probed(events: &[Event]) -> Option<Disagreement> {
    events.iter().rev().find_map(|event| match event {
        Event::Probed { run, .. } => Some(*run),
        _ => None,
    })
}

#[test]
fn a_probes_answer_is_counted_and_changes_no_label() {
    let scratch = Scratch::new();
    let job = probing_job(&scratch, 600);
    let store = Arc::new(MemoryStore::default());
    let rehearsal = Rehearsal::of(&job, store.clone());
    let told = rehearsal.told.clone();
    let report = rehearsal.run(forgetful(usize::MAX)).unwrap();
    assert_eq!(report.end, RunEnd::Complete);
    let rows = stored_rows(&*store);
    assert_eq!(rows.len(), 600);
    assert!(rows.iter().all(|row| row.label.as_deref() == Some(order_label(row.id))));

    let events: Vec<Event> = told.all().into_iter().map(|(_, event)| event).collect();
    let probes = last_probed(&events).unwrap();
    assert_eq!(report.probes, Some(probes));
    // Every second answer differed.
    assert_eq!(probes.differing, probes.probes);
    assert!((40..=60).contains(&probes.probes), "{probes:?}");
    assert!(probes.low > 0.9 && probes.high == 1.0);
    assert_eq!(report.asked, 600, "a probe is no attempt");
    let largest = events.iter().filter_map(|event| match event {
        Event::CallStarted { rows, .. } => Some(*rows),
        _ => None,
    });
    assert_eq!(largest.max(), Some(20), "probes sit within the rows per call");
}

#[test]
fn a_rerun_takes_no_probes_answer_for_its_rows_and_pays_for_nothing_twice() {
    for calls in [3, 11, 26] {
        let scratch = Scratch::new();
        let mut job = probing_job(&scratch, 600);
        let store = Arc::new(MemoryStore::default());
        let report = Rehearsal::of(&job, store.clone()).run(forgetful(calls)).unwrap();
        assert_eq!(report.end, RunEnd::Quota);
        let answered = report.unwritten as usize;
        assert!(answered > 0 && (calls < 5 || report.probes.is_some()), "{report:?}");

        job.quality.probe = 0.0;
        let asked = Asked::default();
        let rerun = Rehearsal::of(&job, store.clone()).run(remembering(&asked)).unwrap();
        assert_eq!(rerun.end, RunEnd::Complete);
        assert_eq!(asked.rows(), 600 - answered, "after {calls} calls");
        let rows = stored_rows(&*store);
        assert_eq!(rows.len(), 600);
        assert!(rows.iter().all(|row| row.label.as_deref() == Some(order_label(row.id))));
    }
}

/// Labels every row rightly and remembers what it was asked.
fn remembering(asked: &Asked) -> Scripted {
    let remembered = asked.clone();
    Scripted::new(move |_, request| {
        let pairs: Vec<(&str, &str)> = rows_of(&request.user)
            .map(|(key, text)| {
                remembered.add(text);
                (key, code_of(text))
            })
            .collect();
        Answer::Reply(array_reply(pairs.into_iter()))
    })
}

#[test]
fn a_model_that_begins_to_leave_rows_out_is_told_of_once_and_changes_nothing_else() {
    for breaks_at in [6_000, usize::MAX] {
        let scratch = Scratch::new();
        let input = scratch.write("orders.csv", &orders_csv(10_000));
        let mut job = orders_job(&input, &scratch.path("out"), 500);
        job.batch.rows_per_call = NonZeroU32::new(50).unwrap();
        job.batch.max_attempts = 1;
        let rehearsal = Rehearsal::of(&job, Arc::new(MemoryStore::default()));
        let told = rehearsal.told.clone();
        let provider = Scripted::labelling(move |text| {
            let row: usize = text.split(' ').nth(1)?.parse().ok()?;
            (row < breaks_at || !row.is_multiple_of(5)).then(|| code_of(text).to_owned())
        });
        let report = rehearsal.run(provider).unwrap();
        assert_eq!((report.end, report.rows), (RunEnd::Complete, 10_000));
        let warnings = told.all().into_iter().filter_map(|(_, event)| match event {
            Event::Warning { message } => Some(message),
            _ => None,
        });
        let warnings: Vec<String> = warnings.collect();
        let expected = usize::from(breaks_at < 10_000);
        assert_eq!(warnings.len(), expected, "{warnings:?}");
        assert!(warnings.iter().all(|it| it.contains("came back without a label")), "{warnings:?}");
    }
}

/// The events of a run that printed them as JSON lines.
fn events(finished: &Finished) -> Vec<Value> {
    finished.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn where_packing_harms_the_rows_per_call_go_down_and_stay_at_the_size_that_does_not() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[
        "--fixed-answer",
        "--accuracy",
        "1=0.95,50=0.95,100=0.9,200=0.85",
        "--disagreement",
        "1=0.005,50=0.01,100=0.16,200=0.24",
    ]);
    scratch.write("orders.csv", &orders_csv(16_000));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let args = ["orders.csv", "out", "--rows-per-call", "200", "--probe", "0.03"];
    let finished = scratch.batchclass(&[&args[..], &["--progress", "json"]].concat());
    let finished = finished.expect_code(0);
    assert_eq!(read_parts(&scratch.path("out")).len(), 16_000);

    let events = events(&finished);
    let steps = events.iter().filter(|event| event["event"] == "rows_per_call_changed");
    let sizes: Vec<u64> = steps.map(|step| step["to"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [100, 50]);
    let last = events.iter().rposition(|event| event["event"] == "rows_per_call_changed").unwrap();
    let calls = events[last..].iter().filter(|event| event["event"] == "call_started");
    let rows: Vec<u64> = calls.map(|call| call["rows"].as_u64().unwrap()).collect();
    // One may have been packed and waiting.
    assert!(rows.len() > 20 && rows[1..].iter().all(|rows| *rows <= 50), "{rows:?}");
    let probed = events.iter().rev().find(|event| event["event"] == "probed").unwrap();
    assert_eq!(probed["rows_per_call"], 50);
    let (low, high) = (&probed["recent"]["low"], &probed["recent"]["high"]);
    assert!(low.as_f64().unwrap() <= 0.01 && high.as_f64().unwrap() >= 0.01, "{probed}");
    let end = events.last().unwrap();
    assert_eq!(end["probes"]["probes"], probed["run"]["probes"]);
}

#[test]
fn without_harm_the_rows_per_call_stay_and_the_summary_tells_the_disagreement() {
    let scratch = Scratch::new();
    let server =
        Simulated::start(&["--fixed-answer", "--accuracy", "0.9", "--disagreement", "0.02"]);
    scratch.write("orders.csv", &orders_csv(6_000));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let args = ["orders.csv", "out", "--probe", "0.005", "--progress", "plain"];
    let finished = scratch.batchclass(&args).expect_code(0);
    let all = format!("{}{}", finished.stdout, finished.stderr);
    assert!(all.contains("rows that were asked twice differ"), "{all}");
    assert!(!all.contains("rows a call instead of"), "{all}");
    let again = server.count("rows_answered_again");
    // 100 of the first 2,000, 110 of the next 4,000.
    assert!((170..=215).contains(&again), "{again}");
}

#[test]
fn rows_that_are_asked_alone_are_probed_alone() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--fixed-answer"]);
    scratch.write("orders.csv", &orders_csv(400));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let args = ["orders.csv", "out", "--rows-per-call", "1", "--probe", "0.1"];
    let finished = scratch.batchclass(&[&args[..], &["--progress", "json"]].concat());
    let finished = finished.expect_code(0);
    let again = server.count("rows_answered_again");
    assert!((30..=41).contains(&again), "{again}");
    let calls = server.count("requests");
    assert_eq!(calls, 400 + again, "each probe is a call of its own");
    let end = events(&finished).pop().unwrap();
    assert_eq!(
        (end["labelled"].as_u64(), end["probes"]["differing"].as_u64()),
        (Some(400), Some(0))
    );
}
