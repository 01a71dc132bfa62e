//! Two runs at once: one works, the other is told who does; a dead one is in nobody's way.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use batchclass::cli::config_file;
use batchclass::cli::job::job;
use batchclass::domain::clock::SystemClock;
use batchclass::domain::event::RunEnd;
use batchclass::domain::{Clock, Event, Moment, UnixMillis};
use batchclass::llm::provider::lexical::LexicalProvider;
use batchclass::llm::provider::{ChatReply, ChatRequest, Provider, ProviderError};
use batchclass::pipeline::{Beside, RunContext};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::support::{
    Finished, Scratch, Simulated, orders_config, orders_csv, read_parts, simulated_config,
};

/// What stands in the control folder of `out` and belongs to a claim.
fn claims(out: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(out.join("_batchclass")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_of_a_claim =
        |name: &String| ["claim-", "heartbeat-", "release-"].iter().any(|it| name.contains(it));
    names.filter(is_of_a_claim).collect()
}

#[expect(clippy::disallowed_methods, reason = "polls another process, bounded")]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("never {what}");
}

/// A run that waits for its first reply, and the server that lets it wait.
fn hanging(scratch: &Scratch) -> (Child, Simulated) {
    let server = Simulated::start(&["--latency-ms", "60000"]);
    scratch.write("orders.csv", &orders_csv(30));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let child = scratch.command(&["orders.csv", "out"]).spawn().unwrap();
    wait_until("asked", || server.count("rows_asked") > 0);
    (child, server)
}

#[test]
fn of_two_started_together_one_runs_and_the_other_names_it_or_runs_after_it() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(6));
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    let mut refused = 0;
    for round in 0..50 {
        let out = format!("out-{round}");
        let runs = [(); 2].map(|()| scratch.command(&["orders.csv", &out]).spawn().unwrap());
        let pids = [runs[0].id().to_string(), runs[1].id().to_string()];
        let [first, second] = runs.map(|run| Finished::of(run.wait_with_output().unwrap()));
        match (first.code, second.code) {
            (Some(0), Some(0)) => {}
            (Some(0), Some(4)) => {
                refused += 1;
                assert!(second.stderr.contains(&pids[0]), "{}", second.stderr);
            }
            (Some(4), Some(0)) => {
                refused += 1;
                assert!(first.stderr.contains(&pids[1]), "{}", first.stderr);
            }
            _ => panic!("round {round}: {first:?} {second:?}"),
        }
        let out = scratch.path(&out);
        assert_eq!(read_parts(&out).len(), 6);
        assert_eq!(claims(&out), Vec::<String>::new());
    }
    assert!(refused > 0, "no two runs ever met");
}

#[test]
fn a_run_that_was_killed_is_in_nobodys_way_from_that_moment() {
    let scratch = Scratch::new();
    let (mut child, _server) = hanging(&scratch);
    child.kill().unwrap();
    // Nobody has waited for it yet: its process number is still taken.
    let fast = Simulated::start(&[]);
    wait_until("dead", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
    assert_eq!(claims(&scratch.path("out")).len(), 1);
    scratch.batchclass(&["orders.csv", "out", "--base-url", &fast.base_url()]).expect_code(0);
    assert_eq!(claims(&scratch.path("out")), Vec::<String>::new());
    child.wait().unwrap();
}

#[test]
fn a_run_that_lives_on_this_host_is_never_taken_over() {
    let scratch = Scratch::new();
    let (mut child, _server) = hanging(&scratch);
    let second = scratch.batchclass(&["orders.csv", "out", "--takeover"]).expect_code(4);
    let pid = format!("process {} on ", child.id());
    assert!(second.stderr.contains(&pid), "{}", second.stderr);
    assert!(second.stderr.contains("last sign of life"), "{}", second.stderr);
    assert!(second.stderr.contains("; wait for it or stop it"), "{}", second.stderr);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_claim_is_given_back_by_a_run_that_stops_early_too() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(30));
    // Nobody listens there.
    let model = "provider = \"openai\"\nname = \"gpt-4o-mini\"\nbase_url = \"http://127.0.0.1:9\"";
    scratch.write("batchclass.toml", &orders_config(model));
    let args = ["orders.csv", "out", "--give-up-after", "1s"];
    scratch.batchclass(&args).expect_code(4);
    assert_eq!(claims(&scratch.path("out")), Vec::<String>::new());
}

/// A clock whose time of day jumps by an hour once it is told to, as in a machine that slept.
struct Asleep {
    clock: SystemClock,
    has_slept: AtomicBool,
}

impl Clock for Asleep {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn wall(&self) -> UnixMillis {
        let slept = if self.has_slept.load(Ordering::SeqCst) { 3_600_000 } else { 0 };
        UnixMillis(self.clock.wall().0 + slept)
    }
}

/// Puts the machine to sleep at the first call, while another run sweeps the claim away.
struct Sleeper {
    lexical: LexicalProvider,
    clock: Arc<Asleep>,
    is_swept: bool,
    control: PathBuf,
    calls: Arc<AtomicUsize>,
}

impl Provider for Sleeper {
    fn ask<'a>(
        &'a self,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<ChatReply, ProviderError>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if !self.clock.has_slept.swap(true, Ordering::SeqCst) && self.is_swept {
            for entry in std::fs::read_dir(&self.control).unwrap().map(Result::unwrap) {
                if entry.file_name().to_string_lossy().starts_with("claim-") {
                    std::fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        self.lexical.ask(request)
    }
}

#[test]
fn a_run_that_slept_proves_its_claim_before_the_next_call_and_stops_if_it_is_lost() {
    const ROWS: usize = 2_000;
    for is_swept in [false, true] {
        let scratch = Scratch::new();
        let input = scratch.write("orders.csv", &orders_csv(ROWS));
        let config = orders_config("provider = \"lexical\"\n[batch]\nrows_per_call = 1");
        let settings = config_file::parse(&config, Path::new("batchclass.toml")).unwrap();
        let out = scratch.path("out");
        let job = job(settings, input, out.clone(), None).unwrap();
        let (clock, has_slept) = (SystemClock::start(), AtomicBool::new(false));
        let clock = Arc::new(Asleep { clock, has_slept });
        let calls = Arc::new(AtomicUsize::new(0));
        let provider = Sleeper {
            lexical: LexicalProvider::new(true),
            clock: Arc::clone(&clock),
            is_swept,
            control: out.join("_batchclass"),
            calls: Arc::clone(&calls),
        };
        let context = RunContext {
            provider: Arc::new(provider),
            events: Arc::new(|_: Event| {}),
            clock,
            stop: futures::future::pending().boxed(),
            takeover: false,
            beside: Beside::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let report = runtime.block_on(batchclass::pipeline::run(&job, context)).unwrap();
        let calls = calls.load(Ordering::SeqCst);
        if is_swept {
            // What was in flight when it fell asleep was asked; nothing after it.
            assert!(report.end == RunEnd::Storage && calls < ROWS / 2, "{calls} calls: {report:?}");
            let why = report.stopped_by.unwrap();
            assert!(why.contains("another run has taken over"), "{why}");
            assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing is committed");
        } else {
            assert_eq!((report.end, report.labelled), (RunEnd::Complete, ROWS as u64));
        }
    }
}
