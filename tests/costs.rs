//! A job never costs more than it may, by the server's own count: whatever fails, is killed, or is
//! answered without an account.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batchclass::domain::Tokens;
use batchclass::domain::event::RunEnd;
use batchclass::llm::provider::ProviderError;
use batchclass::llm::provider::scripted::{Answer, Scripted, array_reply, rows_of};
use batchclass::output::store::MemoryStore;
use batchclass::pipeline::RunReport;

use crate::support::rehearsal::{Rehearsal, orders_job};
use crate::support::{Scratch, Simulated, orders_csv, read_parts, simulated_config};

/// What the server was asked and answered, tokens.
fn billed(server: &Simulated) -> u64 {
    server.count("prompt_tokens") + server.count("completion_tokens")
}

/// A job of so many rows for this server.
fn lay(server: &Simulated, rows: usize) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(rows));
    scratch.write("batchclass.toml", &(simulated_config(server) + "[batch]\nrows_per_call = 10\n"));
    scratch
}

const JOB: [&str; 2] = ["orders.csv", "out"];

fn with<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&JOB[..], flags].concat()
}

#[test]
fn a_bound_on_tokens_ends_the_run_and_a_higher_one_goes_on_from_there() {
    let server = Simulated::start(&[]);
    let scratch = lay(&server, 300);
    let stopped = scratch.batchclass(&with(&["--max-tokens", "6000"])).expect_code(5);
    assert!(stopped.stderr.contains("limits.max_tokens of 6000 tokens has no room"), "{stopped:?}");
    let spent = billed(&server);
    // What is left is not enough for one row, the worst reply to it, and a prompt's bytes at most.
    assert!((5_000..=6_000).contains(&spent), "{spent}");
    let requests = server.count("requests");

    let again = scratch.batchclass(&with(&["--max-tokens", "6000"])).expect_code(5);
    assert!(again.stderr.contains("this run made no call"), "{again:?}");
    assert_eq!((server.count("requests"), billed(&server)), (requests, spent));

    scratch.batchclass(&with(&["--max-tokens", "60000"])).expect_code(0);
    assert_eq!(read_parts(&scratch.path("out")).len(), 300);
    assert_eq!(server.count("rows_asked_again"), 0);
    assert!(billed(&server) <= 60_000);
}

#[test]
fn killed_runs_count_with_all_that_they_may_have_cost() {
    const BOUND: u64 = 40_000;
    let server = Simulated::start(&["--latency-ms", "30"]);
    let scratch = lay(&server, 2_000);
    let bound = BOUND.to_string();
    for kill in 1..=6 {
        let mut run = scratch.command(&with(&["--max-tokens", &bound])).spawn().unwrap();
        server.wait_for("requests", kill * 8);
        run.kill().unwrap();
        run.wait().unwrap();
        assert!(billed(&server) <= BOUND, "{}", billed(&server));
    }
    let stopped = scratch.batchclass(&with(&["--max-tokens", &bound])).expect_code(5);
    assert!(stopped.stderr.contains("limits.max_tokens"), "{stopped:?}");
    let spent = billed(&server);
    assert!((BOUND / 4..=BOUND).contains(&spent), "{spent}");
    scratch.batchclass(&with(&["--max-tokens", "1000000"])).expect_code(0);
    assert_eq!(read_parts(&scratch.path("out")).len(), 2_000);
    assert_eq!(server.count("rows_asked_again_unexplained"), 0);
}

#[test]
fn replies_without_usage_count_in_the_worst_case() {
    // What a model's name says of its vocabulary is not believed on this machine.
    for bias in ["0", "1.0"] {
        let server = Simulated::start(&["--no-usage", "1", "--count-bias", bias]);
        let scratch = lay(&server, 300);
        for _ in 0..2 {
            scratch.batchclass(&with(&["--max-tokens", "9000"])).expect_code(5);
            let spent = billed(&server);
            assert!((2_000..=9_000).contains(&spent), "{spent}");
        }
        scratch.batchclass(&JOB).expect_code(0);
        // A server that counts twice as many cuts replies.
        assert!(bias != "0" || server.count("rows_asked_again") == 0);
    }
}

#[test]
fn no_fault_and_no_tokenizer_takes_the_job_over_its_bound() {
    let flags = [
        ["--status-500", "0.15", "--reset", "0.15", "--no-usage", "0.3", "--cut", "0.2"],
        ["--drop", "0.1", "--hidden-output-tokens", "60", "--count-bias", "0.13", "--seed", "7"],
    ];
    let server = Simulated::start(&flags.concat());
    let scratch = lay(&server, 300);
    let mut before = 0;
    for bound in [4_000, 8_000, 12_000_u64, 24_000] {
        scratch.batchclass(&with(&["--max-tokens", &bound.to_string()])).expect_code(5);
        let spent = billed(&server);
        assert!(spent <= bound && spent > before, "{spent} of {bound}");
        before = spent;
    }
}

#[test]
fn a_bound_on_money_is_never_passed_by_a_cent() {
    let server = Simulated::start(&["--no-usage", "0.2"]);
    let scratch = lay(&server, 400);
    let prices = ["--price-in", "3", "--price-out", "15", "--max-cost"];
    // Millionths of a dollar.
    for bound in [20_000_u64, 23_417, 60_000] {
        let most = format!("0.{bound:06}");
        let flags = with(&[&prices[..], &[&most]].concat());
        let stopped = scratch.batchclass(&flags).expect_code(5);
        assert!(stopped.stderr.contains("(your own prices)"), "{stopped:?}");
        let cost = 3 * server.count("prompt_tokens") + 15 * server.count("completion_tokens");
        assert!(cost <= bound && cost * 3 >= bound * 2, "{cost} of {bound}");
    }
    let ended = scratch.batchclass(&with(&[&prices[..], &["5"]].concat())).expect_code(0);
    assert!(ended.stderr.contains(" over all runs (your own prices)"), "{ended:?}");
    assert_eq!(server.count("rows_asked_again"), 0);
}

#[test]
fn a_bound_that_is_set_later_counts_what_was_spent_before() {
    let server = Simulated::start(&[]);
    let scratch = lay(&server, 300);
    scratch.batchclass(&with(&["--limit", "150"])).expect_code(0);
    let spent = billed(&server);
    let barely_more = (spent + 50).to_string();
    scratch.batchclass(&with(&["--max-tokens", &barely_more])).expect_code(5);
    assert_eq!(billed(&server), spent);
    // The journal is lost: what the parts' records say is the least.
    std::fs::remove_dir_all(scratch.path("out/_batchclass/journal")).unwrap();
    scratch.batchclass(&with(&["--max-tokens", &barely_more])).expect_code(5);
    assert_eq!(billed(&server), spent);
    let more = (spent + 4_000).to_string();
    for _ in 0..2 {
        scratch.batchclass(&with(&["--max-tokens", &more])).expect_code(5);
        assert!((spent + 2_000..=spent + 4_000).contains(&billed(&server)));
    }
}

#[test]
fn money_without_a_price_is_refused_before_the_first_call() {
    let server = Simulated::start(&[]);
    let scratch = lay(&server, 30);
    let refused = scratch.batchclass(&with(&["--max-cost", "1"])).expect_code(2);
    let missing = "give `input` and `output` in [price], or --price-in and --price-out";
    assert!(refused.stderr.contains(missing), "{refused:?}");
    let half = scratch.batchclass(&with(&["--max-cost", "1", "--price-in", "1"])).expect_code(2);
    assert!(half.stderr.contains("`output` in [price] is missing"), "{half:?}");
    assert_eq!(server.count("requests"), 0);
    assert!(!scratch.path("out").exists());
    // The embedded scorer costs nothing, so any bound holds.
    let free = ["--provider", "lexical", "--max-cost", "0.000001", "--max-tokens", "1"];
    scratch.batchclass(&with(&free)).expect_code(0);
}

#[test]
fn what_the_job_has_cost_and_whose_prices_these_are_is_told_at_its_start_and_its_end() {
    let server = Simulated::start(&[]);
    let scratch = lay(&server, 30);
    let prices = ["--price-in", "1", "--price-out", "2", "--max-tokens", "90000"];
    let run = scratch.batchclass(&with(&prices)).expect_code(0);
    let told = "the job has cost 0 tokens, $0.0000 so far (your own prices); it may cost at most \
                90,000 tokens";
    assert!(run.stderr.contains(told), "{run:?}");
    assert!(run.stderr.contains("cost        $0.0"), "{run:?}");
}

/// A run of 20 calls under `max_tokens`; call `n` is answered unless `fails(n)` says otherwise, with
/// `completion` tokens. How it ended, and what was billed.
fn run_under(
    max_tokens: u64,
    completion: u32,
    fails: impl Fn(usize) -> Option<ProviderError> + Send + 'static,
) -> (RunReport, u64) {
    let scratch = Scratch::new();
    let input = scratch.write("orders.csv", &orders_csv(100));
    let mut job = orders_job(&input, &scratch.path("out"), 1_000);
    job.budget.max_tokens = NonZeroU64::new(max_tokens);
    let billed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&billed);
    let provider = Scripted::new(move |call, request| {
        if let Some(error) = fails(call) {
            return Answer::Fail(error);
        }
        let mut reply = array_reply(rows_of(&request.user).map(|(key, _)| (key, "A")));
        let usage = reply.usage.as_mut().unwrap();
        usage.completion = Tokens(completion);
        count.fetch_add(u64::from(usage.total().0), Ordering::Relaxed);
        Answer::Reply(reply)
    });
    let report = Rehearsal::of(&job, Arc::new(MemoryStore::default())).run(provider).unwrap();
    let billed = billed.load(Ordering::Relaxed);
    (report, billed)
}

#[test]
fn a_call_that_was_turned_away_costs_nothing_and_one_that_failed_may() {
    let bound = 6_000;
    let turned_away = |call: usize| {
        let rate = Box::default();
        (call % 2 == 1).then_some(ProviderError::RateLimited { retry_after: None, rate })
    };
    let (report, billed) = run_under(bound, 20, turned_away);
    assert_eq!((report.end, billed), (RunEnd::Complete, 20 * 120));
    assert_eq!(report.billed.tokens(), billed);

    let failed = |call: usize| {
        let message = String::new();
        let error = ProviderError::ServerError { status: 500, message, retry_after: None };
        (call % 2 == 1).then_some(error)
    };
    let (report, billed) = run_under(bound, 20, failed);
    assert_eq!(report.end, RunEnd::Quota);
    assert!(billed < report.billed.tokens() && report.billed.tokens() <= bound, "{report:?}");
}

#[test]
fn a_service_that_ignores_the_room_for_a_reply_is_reckoned_with_once_that_was_seen() {
    // At most 1,000 tokens of output is what the job knows of the model.
    let (report, billed) = run_under(10_000, 900, |_| None);
    assert_eq!(report.end, RunEnd::Quota);
    assert!((8_000..=10_000).contains(&billed), "{billed}");
}

/// Flags of a model that charges for writing its cache, told by OpenAI's rules.
const CHARGED: [&str; 10] = [
    "--vendor",
    "openai",
    "--price-in",
    "0.20",
    "--price-cached-in",
    "0.02",
    "--price-cache-write",
    "0.25",
    "--price-out",
    "1.20",
];

#[test]
fn a_prompt_cache_holds_the_fixed_part_alone_and_only_where_that_pays() {
    let server = Simulated::start(&["--prompt-cache"]);
    let calls = |scratch: &Scratch, flags: &[&str]| {
        let before = server.stats();
        scratch.batchclass(&with(&[&["--rows-per-call", "100"], flags].concat())).expect_code(0);
        let count = |field: &str| {
            let at = |stats: &std::collections::BTreeMap<String, serde_json::Value>| {
                stats[field].as_u64().unwrap()
            };
            at(&server.stats()) - at(&before)
        };
        (count("requests"), count("cache_write_tokens"), count("cached_tokens"))
    };
    // A short prompt: told nothing, the server writes every call's rows; told so, nothing.
    let (requests, written, cached) = calls(&lay(&server, 1_000), &["--vendor", "other"]);
    assert!(requests == 10 && written > 10_000 && cached == 0, "{requests} {written} {cached}");
    let (_, written, cached) = calls(&lay(&server, 1_000), &CHARGED);
    assert_eq!((written, cached), (0, 0));
    // A long one: the fixed part is written once and read nine times.
    let long = lay(&server, 1_000);
    let rules: String = (0..300).map(|rule| format!("Rule {rule} says so. ")).collect();
    long.write("long.md", &format!("You sort the messages of a shop's customers. {rules}"));
    let config = std::fs::read_to_string(long.path("batchclass.toml")).unwrap();
    let line = config.lines().find(|line| line.starts_with("instructions")).unwrap();
    long.write("batchclass.toml", &config.replace(line, "instructions_file = \"long.md\""));
    let (requests, written, cached) = calls(&long, &CHARGED);
    assert_eq!((requests, cached), (10, 9 * written));
    assert!(written > 1_024, "{written}");
}

#[test]
fn a_server_that_knows_no_cache_control_is_asked_without_it() {
    let server = Simulated::start(&["--refuse-parameter", "prompt_cache_options"]);
    let scratch = lay(&server, 100);
    let run = scratch.batchclass(&with(&CHARGED)).expect_code(0);
    assert!(run.stderr.contains("the model takes no `prompt_cache_options`"), "{run:?}");
    assert_eq!((server.count("bad_requests"), server.count("requests")), (1, 11));
}
