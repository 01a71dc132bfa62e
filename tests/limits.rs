//! Limits that end: a day that is used up, and servers that count in other ways.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::num::{NonZeroU32, NonZeroU64};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batchclass::domain::clock::SystemClock;
use batchclass::domain::event::{RunEnd, WaitFor};
use batchclass::domain::{Clock, Event, JobSpec, Moment, UnixMillis};
use batchclass::output::store::MemoryStore;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::support::rehearsal::{Asked, Rehearsal, orders_job, stored_rows};
use crate::support::{Scratch, Simulated, orders_csv, read_parts, simulated_config};

/// A clock on which any wait takes a millisecond of the machine's time.
struct LeapingClock {
    waited: Arc<Mutex<Duration>>,
    machine: SystemClock,
}

impl Clock for LeapingClock {
    fn now(&self) -> Moment {
        Moment(*self.waited.lock().unwrap())
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_790_000_000_000 + self.waited.lock().unwrap().as_millis() as u64)
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let leap = self.machine.sleep(wait.min(Duration::from_millis(1)));
        let waited = Arc::clone(&self.waited);
        async move {
            leap.await;
            *waited.lock().unwrap() += wait;
        }
        .boxed()
    }
}

#[test]
fn a_day_that_is_used_up_is_waited_out_and_told_once() {
    let scratch = Scratch::new();
    let input = scratch.write("orders.csv", &orders_csv(100));
    let mut job = orders_job(&input, &scratch.path("out"), 1_000);
    // Twenty calls of five rows.
    job.limits.requests_per_day = NonZeroU64::new(8);
    let store = Arc::new(MemoryStore::default());
    let mut rehearsal = Rehearsal::of(&job, store.clone());
    let waited = Arc::default();
    rehearsal.clock = Arc::new(LeapingClock { waited, machine: SystemClock::start() });
    let (told, clock, asked) = (rehearsal.told.clone(), rehearsal.clock.clone(), Asked::default());
    let report = rehearsal.run(asked.provider()).unwrap();
    assert_eq!((report.end, asked.rows()), (RunEnd::Complete, 100));
    assert_eq!(stored_rows(&*store).len(), 100);
    let hours = clock.now().0.as_secs() / 3_600;
    assert!((48..50).contains(&hours), "{hours}");
    let events = told.all();
    let used_up: Vec<&Event> = events
        .iter()
        .map(|(_, event)| event)
        .filter(|event| matches!(event, Event::DailyLimitUsed { .. }))
        .collect();
    assert_eq!(used_up.len(), 2, "{used_up:?}");
    let Event::DailyLimitUsed { limit, most, resets_in } = used_up[0] else { panic!() };
    assert_eq!((limit.as_str(), *most), ("requests_per_day", 8));
    assert!((86_000.0..87_000.0).contains(resets_in), "{resets_in}");
    let is_day = |event: &Event| matches!(event, Event::Waiting { wait: WaitFor::Day, .. });
    assert!(events.iter().any(|(_, event)| is_day(event)));
}

/// When each call of a run was sent, its rows, and the tokens that it was charged.
fn calls_of(job: &JobSpec) -> Vec<(Moment, u64, u64)> {
    let store = Arc::new(MemoryStore::default());
    let mut rehearsal = Rehearsal::of(job, store.clone());
    let waited = Arc::default();
    rehearsal.clock = Arc::new(LeapingClock { waited, machine: SystemClock::start() });
    let (told, asked) = (rehearsal.told.clone(), Asked::default());
    let report = rehearsal.run(asked.provider()).unwrap();
    assert_eq!((report.end, asked.rows()), (RunEnd::Complete, report.rows as usize));
    let (mut calls, mut charged) = (Vec::new(), BTreeMap::new());
    for (at, event) in told.all() {
        match event {
            Event::CallStarted { call, rows, .. } => calls.push((at, rows, call)),
            Event::CallFinished { call, prompt_tokens, completion_tokens, .. } => {
                charged.insert(call, u64::from(prompt_tokens.0 + completion_tokens.0));
            }
            _ => {}
        }
    }
    calls.into_iter().map(|(at, rows, call)| (at, rows, charged[&call])).collect()
}

#[test]
fn the_last_call_of_a_slice_starts_with_a_few_rows_less_when_it_nearly_fits() {
    let scratch = Scratch::new();
    let input = scratch.write("orders.csv", &orders_csv(600));
    let mut job = orders_job(&input, &scratch.path("out"), 1_000);
    job.batch.rows_per_call = NonZeroU32::new(20).unwrap();
    let whole = calls_of(&job)[0].2;
    // A slice has room for four calls and nearly a fifth.
    let slice = whole * 5 - whole / 25;
    job.limits.tokens_per_minute = NonZeroU32::new(6 * slice as u32);
    job.limits.rules.token_slice = Some(Duration::from_secs(10));
    let calls = calls_of(&job);
    let smaller = calls.iter().filter(|(_, rows, _)| (18..20).contains(rows)).count();
    assert!(smaller >= 4, "{calls:?}");
    // Reservations are right once ten calls have been learned from.
    let calls = &calls[10..];
    for (last, (sent, ..)) in calls.iter().enumerate() {
        let within =
            calls[..=last].iter().filter(|(at, ..)| sent.since(*at) < Duration::from_secs(10));
        let tokens: u64 = within.map(|(.., charged)| charged).sum();
        // A token or two of an estimate that is rounded count for much in calls this small.
        assert!(tokens <= slice + slice / 100, "{tokens} of {slice} at call {last}");
    }
}

#[test]
fn a_day_that_is_used_up_ends_the_run_if_told_to_also_after_a_restart() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    scratch.write("orders.csv", &orders_csv(60));
    let limits = "\n[limits]\nrequests_per_day = 3\non_daily_limit = \"stop\"\n\
                  [batch]\nrows_per_call = 10\n";
    scratch.write("batchclass.toml", &(simulated_config(&server) + limits));
    for _ in 0..2 {
        let run = scratch.batchclass(&["orders.csv", "out", "--progress", "json"]).expect_code(5);
        assert!(run.stderr.contains("\"daily_limit_used\""), "{}", run.stderr);
        assert!(run.stderr.contains("limits.requests_per_day of 3 is used up"), "{}", run.stderr);
        assert_eq!(server.count("requests"), 3);
    }
    scratch.batchclass(&["orders.csv", "out", "--requests-per-day", "100"]).expect_code(0);
    assert_eq!(read_parts(&scratch.path("out")).len(), 60);
    assert_eq!((server.count("requests"), server.count("rows_asked_again")), (6, 0));
}

#[test]
fn servers_of_every_kind_turn_no_call_away() {
    // 40 calls of some 250 tokens: more than two fixed minutes would not hold them at once.
    let kinds: [&[&str]; 5] = [
        &["--minute-window", "fixed", "--headers", "azure"],
        &["--minute-window", "bucket", "--headers", "anthropic"],
        &["--admission", "max-tokens", "--headers", "groq", "--requests-per-day", "500"],
        &["--admission", "input", "--output-tokens-per-minute", "60000"],
        &["--slice-s", "10", "--headers", "none"],
    ];
    let ours: [&[&str]; 5] = [
        &["--minute-window", "fixed"],
        &["--minute-window", "bucket"],
        &["--charge-rule", "sum", "--vendor", "groq", "--requests-per-day", "500"],
        &["--charge-rule", "input", "--output-tokens-per-minute", "60000"],
        &["--slice-s", "10"],
    ];
    for (server_flags, our_flags) in kinds.into_iter().zip(ours) {
        let scratch = Scratch::new();
        let limit = ["--tokens-per-minute", "300000"];
        let server = Simulated::start(&[&limit[..], server_flags].concat());
        scratch.write("orders.csv", &orders_csv(400));
        scratch.write("batchclass.toml", &simulated_config(&server));
        let command = ["orders.csv", "out", "--rows-per-call", "10"];
        scratch.batchclass(&[&command[..], &limit, our_flags].concat()).expect_code(0);
        assert_eq!(server.count("rejected_429"), 0, "{server_flags:?}");
        assert_eq!(read_parts(&scratch.path("out")).len(), 400);
    }
}

#[test]
fn twenty_kills_in_a_minute_cross_neither_the_minutes_limit_nor_the_days() {
    for limit in ["--tokens-per-minute", "--tokens-per-day"] {
        // Room for a few calls; twenty that had been forgotten would be far over it.
        let limits = [limit, "3000"];
        let server = Simulated::start(&[&limits[..], &["--latency-ms", "100"]].concat());
        let scratch = Scratch::new();
        scratch.write("orders.csv", &orders_csv(2_000));
        scratch.write("batchclass.toml", &simulated_config(&server));
        let flags = ["orders.csv", "out", "--rows-per-call", "10", "--progress", "json"];
        let mut sent = 0;
        for _ in 0..20 {
            let mut run = scratch.command(&[&flags[..], &limits].concat());
            let mut run = run.stderr(Stdio::piped()).spawn().unwrap();
            let mut told = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
            let is_end = |line: &String| {
                let waits = ["\"tokens\"", "\"day\"", "\"spread\""];
                line.contains("\"call_started\"") || waits.iter().any(|wait| line.contains(wait))
            };
            let last = told.find(is_end).expect("it neither asks nor waits");
            if last.contains("\"call_started\"") {
                sent += 1;
                server.wait_for("requests", sent);
            }
            run.kill().unwrap();
            run.wait().unwrap();
        }
        assert!(sent >= 3, "{sent} calls were sent");
        assert_eq!(server.count("rejected_429"), 0, "{limit}");
        assert!(server.count("charged_tokens") <= 3_000, "{limit}");
    }
}
