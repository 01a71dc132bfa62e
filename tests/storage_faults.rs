//! Whatever storage does, and wherever a run dies: nothing paid is lost and no row stands twice.

use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use batchclass::domain::event::{RunEnd, WaitFor};
use batchclass::domain::{Clock, Event, JobSpec, Moment, UnixMillis};
use batchclass::output::store::{Fault, FaultyStore, MemoryStore, Store, StoreError, Then};
use batchclass::pipeline::FailureKind;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::support::hooked_store::{HookedStore, Step, When};
use crate::support::places::{Place, ROWS, Site, clean_rows};
use crate::support::rehearsal::{Asked, Rehearsal, orders_job, provider, stored_rows};
use crate::support::{
    BINARY, Finished, Scratch, Simulated, order_label, orders_csv, read_parts, simulated_config,
};

/// A job over `rows` rows in parts of `rows_per_part`.
fn lay(scratch: &Scratch, rows: usize, rows_per_part: u32) -> JobSpec {
    let input = scratch.write("orders.csv", &orders_csv(rows));
    orders_job(&input, &scratch.path("out"), rows_per_part)
}

fn passing(name: &str) -> StoreError {
    StoreError::from_io("writing", name.to_owned(), ErrorKind::TimedOut.into())
}

fn full(name: &str) -> StoreError {
    StoreError::from_io("writing", name.to_owned(), ErrorKind::StorageFull.into())
}

/// A store that fails, and how many calls it has had.
type Liar = (Arc<dyn Store>, Box<dyn Fn() -> u64>);

/// Fails at every storage call of a run in turn, until a run passes without being touched; after
/// each, a rerun on sound storage has to end like a clean run and ask for no row again. `liar`
/// gives a store that fails at this call; `mends_itself` says that the run gets over it.
fn stumble_everywhere(
    place: Place,
    mends_itself: bool,
    liar: impl Fn(Arc<dyn Store>, u64) -> Liar,
) {
    let clean = clean_rows();
    for at in (1..).step_by(place.stride()) {
        let Some(site) = Site::new(place) else { return };
        let mut job = site.job();
        if place != Place::Bucket {
            job.give_up_after = Duration::from_secs(60);
        }
        let (store, calls) = liar(Arc::clone(&site.store), at);
        let asked = Asked::default();
        let first = Rehearsal::of(&job, store).run(asked.provider());
        let is_touched = calls() >= at;
        let case = format!("{place:?}, call {at} fails: {first:?}");
        let is_whole = first.as_ref().is_ok_and(|report| report.is_success);
        assert!(is_whole || (is_touched && !mends_itself), "{case}");
        if let Ok(report) = &first {
            let end = if is_whole { RunEnd::Complete } else { RunEnd::Storage };
            assert_eq!(report.end, end, "{case}");
        }

        site.finish(&case, |store| Rehearsal::of(&job, store).run(asked.provider()).unwrap());
        assert_eq!(site.rows(), clean, "{case}");
        assert_eq!((asked.rows(), asked.distinct_rows()), (ROWS, ROWS), "{case}");
        if !is_touched {
            assert!(at > 15, "the run made only {at} calls");
            return;
        }
    }
}

fn faulty(fault: Fault, then: Then) -> impl Fn(Arc<dyn Store>, u64) -> Liar {
    move |inner, at| {
        let store = Arc::new(FaultyStore::new(inner, at, fault, then));
        (store.clone(), Box::new(move || store.calls()))
    }
}

/// A store that fails for now, from call `at` on.
fn down(inner: Arc<dyn Store>, at: u64) -> Liar {
    let store = Arc::new(HookedStore::new(inner, move |step: &Step<'_>| {
        let is_down = step.call >= at && step.when == When::Before;
        if is_down { Err(passing(step.name)) } else { Ok(()) }
    }));
    (store.clone(), Box::new(move || store.calls()))
}

/// A store that says of call `at` that it failed for now, although it is done.
fn lying(inner: Arc<dyn Store>, at: u64) -> Liar {
    let store = Arc::new(HookedStore::new(inner, move |step: &Step<'_>| {
        let is_lie = step.call == at && step.when == When::After;
        if is_lie { Err(passing(step.name)) } else { Ok(()) }
    }));
    (store.clone(), Box::new(move || store.calls()))
}

#[test]
fn a_passing_fault_at_any_storage_call_is_outlived_by_the_run_itself() {
    for place in [Place::Memory, Place::CreateOnce, Place::Mount] {
        stumble_everywhere(place, true, faulty(Fault::Passing, Then::Recovers));
    }
}

#[test]
fn storage_that_goes_at_any_call_costs_no_answer() {
    for place in [Place::Memory, Place::CreateOnce, Place::Mount] {
        stumble_everywhere(place, false, faulty(Fault::Lasting, Then::StaysDown));
    }
}

#[test]
fn storage_that_keeps_failing_for_now_costs_no_answer() {
    for place in [Place::Memory, Place::CreateOnce] {
        stumble_everywhere(place, false, down);
    }
}

#[test]
fn an_error_although_it_was_stored_costs_no_answer() {
    for place in [Place::Memory, Place::CreateOnce, Place::Mount] {
        stumble_everywhere(place, false, faulty(Fault::ErrorButDone, Then::Recovers));
        stumble_everywhere(place, false, faulty(Fault::ErrorButDone, Then::StaysDown));
    }
}

#[test]
fn a_passing_error_although_it_was_stored_is_outlived_by_the_run_itself() {
    for place in [Place::Memory, Place::CreateOnce, Place::Mount] {
        stumble_everywhere(place, true, lying);
    }
}

#[test]
fn a_write_that_is_torn_costs_no_answer() {
    // A mount that removes gets rid of the torn part by itself, a strict one by its owner's hand.
    for place in [Place::Memory, Place::CreateOnce, Place::Mount] {
        stumble_everywhere(place, false, faulty(Fault::Torn, Then::Recovers));
        stumble_everywhere(place, false, faulty(Fault::Torn, Then::StaysDown));
    }
}

#[test]
fn a_bucket_that_fails_at_any_call_costs_no_answer() {
    // Of a real server every third call only, for each fault another third, to be done in seconds.
    stumble_everywhere(Place::Bucket, true, lying);
    stumble_everywhere(Place::Bucket, false, |inner, at| {
        faulty(Fault::ErrorButDone, Then::StaysDown)(inner, at + 1)
    });
    stumble_everywhere(Place::Bucket, false, |inner, at| {
        faulty(Fault::Lasting, Then::StaysDown)(inner, at + 2)
    });
}

/// The events between the first failed commit and the next part that is committed.
fn while_failing(told: &[(Moment, Event)]) -> Vec<Event> {
    let events = told.iter().map(|(_, event)| event);
    events
        .skip_while(|event| !matches!(event, Event::CommitFailed { .. }))
        .take_while(|event| !matches!(event, Event::PartCommitted { .. }))
        .cloned()
        .collect()
}

fn is_call(event: &Event) -> bool {
    matches!(event, Event::CallStarted { .. })
}

#[test]
fn no_call_starts_from_the_first_failed_commit_until_one_succeeds() {
    let scratch = Scratch::new();
    let job = lay(&scratch, 2_000, 10);
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let failures = AtomicU32::new(0);
    let store = HookedStore::new(inner.clone(), move |step: &Step<'_>| {
        let is_first_part = step.name == "part-000001.parquet" && step.when == When::Before;
        let fails = is_first_part && failures.fetch_add(1, Ordering::SeqCst) < 6;
        if fails { Err(passing("out/part-000001.parquet")) } else { Ok(()) }
    });
    let asked = Asked::default();
    let rehearsal = Rehearsal::of(&job, Arc::new(store));
    let told = rehearsal.told.clone();
    let report = rehearsal.run(asked.provider()).unwrap();
    assert!(report.is_success, "{report:?}");
    assert_eq!((asked.rows(), asked.distinct_rows()), (2_000, 2_000));

    let told = told.all();
    let failing = while_failing(&told);
    assert_eq!(failing.iter().filter(|event| is_call(event)).count(), 0);
    let tries: Vec<(u32, f64)> = failing
        .iter()
        .filter_map(|event| match event {
            Event::CommitFailed { failures, retry_in, message, .. } => {
                assert_eq!(message, "writing out/part-000001.parquet failed for now: timed out");
                Some((*failures, retry_in.unwrap()))
            }
            _ => None,
        })
        .collect();
    let counted: Vec<u32> = tries.iter().map(|(failures, _)| *failures).collect();
    assert_eq!(counted, [1, 2, 3, 4, 5, 6]);
    assert!(tries[5].1 >= 8.0 && tries[0].1 <= 0.5, "{tries:?}");
    let waits = |event: &Event| matches!(event, Event::Waiting { wait: WaitFor::Storage, .. });
    assert!(failing.iter().any(waits), "the wait is told");
    let all_calls = told.iter().filter(|(_, event)| is_call(event)).count();
    let before = told.iter().position(|(_, event)| matches!(event, Event::CommitFailed { .. }));
    let calls_before = told[..before.unwrap()].iter().filter(|(_, event)| is_call(event)).count();
    assert!(calls_before < all_calls, "calls go on once storage has recovered");
}

/// A clock that moves when the run waits, and by a second with each call, until storage answers.
struct WaitingClock {
    millis: AtomicU64,
    /// When storage answers, and how it is told to.
    answers_at: Duration,
    answer: Mutex<Option<std::sync::mpsc::Sender<()>>>,
    itself: std::sync::Weak<WaitingClock>,
}

impl Clock for WaitingClock {
    fn now(&self) -> Moment {
        Moment(Duration::from_millis(self.millis.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_800_000_000_000 + self.millis.load(Ordering::SeqCst))
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let clock = self.itself.upgrade().unwrap();
        async move {
            // What is ready goes first.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            if clock.answer.lock().unwrap().is_none() {
                return tokio::time::sleep(Duration::from_millis(1)).await;
            }
            clock.millis.fetch_add(wait.as_millis() as u64, Ordering::SeqCst);
            if clock.now().0 >= clock.answers_at {
                *clock.answer.lock().unwrap() = None;
            }
        }
        .boxed()
    }
}

#[test]
fn a_commit_that_hangs_holds_new_calls_after_5_s() {
    let scratch = Scratch::new();
    let job = lay(&scratch, 2_000, 10);
    let (answer, silence) = channel::<()>();
    let clock = Arc::new_cyclic(|itself| WaitingClock {
        millis: AtomicU64::new(0),
        answers_at: Duration::from_secs(80),
        answer: Mutex::new(Some(answer)),
        itself: itself.clone(),
    });
    let (silence, hung_at) = (Mutex::new(silence), Arc::new(AtomicU64::new(0)));
    let (noted, time) = (Arc::clone(&hung_at), Arc::clone(&clock));
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = HookedStore::new(inner, move |step: &Step<'_>| {
        if step.name == "part-000001.parquet" && step.when == When::Before {
            noted.store(time.now().0.as_millis() as u64, Ordering::SeqCst);
            // Ends when the sender is gone.
            let _ = silence.lock().unwrap().recv();
        }
        Ok(())
    });
    let mut rehearsal = Rehearsal::of(&job, Arc::new(store));
    rehearsal.clock = clock.clone();
    let told = rehearsal.told.clone();
    let rows = AtomicU64::new(0);
    let report = rehearsal.run(provider(move |_| {
        // Each call of five rows takes a second.
        if rows.fetch_add(1, Ordering::SeqCst).is_multiple_of(5) {
            clock.millis.fetch_add(1_000, Ordering::SeqCst);
        }
    }));
    assert!(report.unwrap().is_success);

    let told = told.all();
    let held_at = Moment(Duration::from_millis(hung_at.load(Ordering::SeqCst) + 5_000));
    let committed = |(_, event): &&(Moment, Event)| matches!(event, Event::PartCommitted { .. });
    let hanging: Vec<_> = told.iter().take_while(|it| !committed(it)).collect();
    let calls: Vec<Moment> =
        hanging.iter().filter(|(_, event)| is_call(event)).map(|(at, _)| *at).collect();
    assert!(calls.iter().all(|at| *at < held_at), "{calls:?} and held at {held_at:?}");
    assert!(calls.len() < 400, "rows were left to ask");
    let stalled = hanging.iter().filter(|(_, event)| matches!(event, Event::CommitStalled { .. }));
    assert_eq!(stalled.count(), 1, "the hanging commit is told, once");
}

#[test]
fn a_lasting_failure_ends_the_run_at_once_and_says_what_to_do() {
    let scratch = Scratch::new();
    let job = lay(&scratch, 200, 10);
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let tries = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tries);
    let store = HookedStore::new(inner.clone(), move |step: &Step<'_>| {
        if step.name.starts_with("part-") && step.when == When::Before {
            counted.fetch_add(1, Ordering::SeqCst);
            return Err(full("out/part-000001.parquet"));
        }
        Ok(())
    });
    let asked = Asked::default();
    let rehearsal = Rehearsal::of(&job, Arc::new(store));
    let told = rehearsal.told.clone();
    let report = rehearsal.run(asked.provider()).unwrap();
    assert_eq!((report.end, tries.load(Ordering::SeqCst)), (RunEnd::Storage, 1));
    let why = report.stopped_by.unwrap();
    assert!(why.starts_with("writing out/part-000001.parquet failed: "), "{why}");
    assert_eq!(report.remedy, Some("free space"));
    assert_eq!(report.unwritten, asked.rows() as u64, "every answer waits in the journal");
    assert_eq!(while_failing(&told.all()).iter().filter(|event| is_call(event)).count(), 0);

    Rehearsal::of(&job, inner.clone()).run(asked.provider()).unwrap();
    assert_eq!((asked.rows(), asked.distinct_rows()), (200, 200));
}

#[test]
fn after_nothing_but_failures_the_run_gives_up() {
    let scratch = Scratch::new();
    let mut job = lay(&scratch, 200, 10);
    job.give_up_after = Duration::from_secs(60);
    let store = HookedStore::new(Arc::new(MemoryStore::default()), |step: &Step<'_>| {
        if step.name.starts_with("part-") {
            Err(passing("out/part-000001.parquet"))
        } else {
            Ok(())
        }
    });
    let asked = Asked::default();
    let report = Rehearsal::of(&job, Arc::new(store)).run(asked.provider()).unwrap();
    assert_eq!(report.end, RunEnd::Storage);
    let why = report.stopped_by.unwrap();
    assert!(why.contains("timed out (nothing but failures for 60 s)"), "{why}");
    assert!(report.took >= Duration::from_secs(60), "{:?}", report.took);
    assert_eq!(report.unwritten, asked.rows() as u64);
}

#[test]
fn a_commit_that_never_ends_is_given_up_and_not_waited_for() {
    let scratch = Scratch::new();
    let mut job = lay(&scratch, 200, 10);
    job.give_up_after = Duration::from_secs(60);
    let (never, silence) = channel::<()>();
    let silence = Mutex::new(silence);
    let store = HookedStore::new(Arc::new(MemoryStore::default()), move |step: &Step<'_>| {
        if step.name.starts_with("part-") {
            let _ = silence.lock().unwrap().recv();
        }
        Ok(())
    });
    let asked = Asked::default();
    let report = Rehearsal::of(&job, Arc::new(store)).run(asked.provider()).unwrap();
    assert_eq!(report.end, RunEnd::Storage);
    assert_eq!(report.stopped_by.as_deref(), Some("a part has been on its way for 60 s"));
    assert_eq!((report.unwritten, report.labelled), (asked.rows() as u64, 0));
    drop(never);
}

#[test]
fn an_interrupted_run_tries_a_failing_commit_once_more_and_ends() {
    let scratch = Scratch::new();
    let job = lay(&scratch, 200, 10);
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (tries, is_failing) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, failing) = (Arc::clone(&tries), Arc::clone(&is_failing));
    let store = HookedStore::new(inner.clone(), move |step: &Step<'_>| {
        if step.name.starts_with("part-") && step.when == When::Before {
            counted.fetch_add(1, Ordering::SeqCst);
            failing.store(true, Ordering::SeqCst);
            return Err(passing("out/part-000001.parquet"));
        }
        Ok(())
    });
    let asked = Asked::default();
    let mut rehearsal = Rehearsal::of(&job, Arc::new(store));
    rehearsal.stop = futures::future::poll_fn(move |context| {
        if is_failing.load(Ordering::SeqCst) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .boxed();
    let report = rehearsal.run(asked.provider()).unwrap();
    assert_eq!(report.end, RunEnd::Interrupted);
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    Rehearsal::of(&job, inner).run(asked.provider()).unwrap();
    assert_eq!((asked.rows(), asked.distinct_rows()), (200, 200));
}

/// The folders in `folder`, by name.
fn folders_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A run, where the output takes no small writes, that storage stops at its first part.
fn stop_off_disk(job: &JobSpec, inner: &Arc<dyn Store>, asked: &Asked) {
    let faulty = HookedStore::new(Arc::clone(inner), |step: &Step<'_>| {
        if step.name.starts_with("part-") { Err(full(step.name)) } else { Ok(()) }
    });
    let stopped = Rehearsal::of(job, Arc::new(faulty)).off_disk().run(asked.provider()).unwrap();
    assert_eq!(stopped.end, RunEnd::Storage, "{stopped:?}");
    assert_eq!(stopped.unwritten, asked.rows() as u64);
}

#[test]
fn where_the_output_takes_no_journal_it_stands_in_the_state_folder_under_the_outputs_name() {
    let scratch = Scratch::new();
    let mut job = lay(&scratch, ROWS, 15);
    job.output.state_folder = Some(scratch.path("state"));
    let mut other = job.clone();
    other.output.location = scratch.path("other").into();
    let (asked, others) = (Asked::default(), Asked::default());
    let [inner, others_inner]: [Arc<dyn Store>; 2] =
        std::array::from_fn(|_| Arc::new(MemoryStore::default()) as Arc<dyn Store>);
    stop_off_disk(&job, &inner, &asked);
    stop_off_disk(&other, &others_inner, &others);
    assert_eq!(folders_in(&scratch.path("state/journals")).len(), 2);
    assert!(!scratch.path("out/_batchclass/journal").exists());

    let (before, rerun) = (asked.rows(), Rehearsal::of(&job, inner.clone()).off_disk());
    assert!(before > 0 && rerun.run(asked.provider()).unwrap().is_success);
    assert_eq!((asked.rows(), asked.distinct_rows()), (ROWS, ROWS));
    assert_eq!(stored_rows(inner.as_ref()), clean_rows());
}

#[test]
fn a_journal_stands_in_the_folder_that_is_named_and_no_other_is_left_behind_unseen() {
    let scratch = Scratch::new();
    let mut job = lay(&scratch, ROWS, 15);
    job.output.state_folder = Some(scratch.path("state"));
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let asked = Asked::default();
    stop_off_disk(&job, &inner, &asked);

    let mut named = job.clone();
    named.output.journal_folder = Some(scratch.path("journals"));
    let before = asked.rows();
    let refused = Rehearsal::of(&named, inner.clone()).off_disk().run(asked.provider());
    let refused = refused.unwrap_err().to_string();
    assert_eq!(asked.rows(), before, "nothing is asked by a run that is refused");
    assert!(refused.contains("answers of this output wait in the journal"), "{refused}");
    assert!(refused.contains(&*scratch.path("state/journals").to_string_lossy()), "{refused}");
    // As the message says.
    #[expect(clippy::disallowed_methods, reason = "a test moves its own folder")]
    std::fs::rename(scratch.path("state/journals"), scratch.path("journals")).unwrap();
    Rehearsal::of(&named, inner).off_disk().run(asked.provider()).unwrap();
    assert_eq!((asked.rows(), asked.distinct_rows()), (ROWS, ROWS));
}

#[test]
fn without_any_place_for_the_journal_nothing_is_asked() {
    let scratch = Scratch::new();
    let job = lay(&scratch, ROWS, 15);
    let (inner, asked) = (Arc::new(MemoryStore::default()), Asked::default());
    let refused = Rehearsal::of(&job, inner.clone()).off_disk().run(asked.provider()).unwrap_err();
    assert!(refused.to_string().contains("--journal-folder"), "{refused}");
    assert_eq!((refused.kind(), asked.rows()), (FailureKind::Usage, 0));
    assert_eq!(inner.list("").unwrap(), []);
}

#[test]
fn parts_are_planned_small_where_the_journal_is_on_another_disk() {
    let planned = |limit, is_on_disk: bool| {
        let scratch = Scratch::new();
        let mut job = lay(&scratch, 700, 1);
        job.output.rows_per_part = None;
        job.output.state_folder = Some(scratch.path("state"));
        job.limits.tokens_per_minute = NonZeroU32::new(limit);
        let rehearsal = Rehearsal::of(&job, Arc::new(MemoryStore::default()));
        let rehearsal = if is_on_disk { rehearsal } else { rehearsal.off_disk() };
        rehearsal.run(Asked::default().provider()).unwrap().files.len()
    };
    // 500 rows at least; a rehearsal without limit has 10,000.
    assert_eq!((planned(20_000, false), planned(0, false), planned(20_000, true)), (2, 1, 1));
}

/// Runs a script as the root of mounts of its own; `None`, and a word of it, where the system
/// refuses that.
fn with_own_mounts(scratch: &Scratch, script: &str) -> Option<Finished> {
    let unshare = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-euc", script]);
        command.current_dir(scratch.path(".")).env("BATCHCLASS", BINARY);
        // A server can't tell a probe from a row that is paid twice.
        command.env("BATCHCLASS_PROBE", "0").output()
    };
    if !unshare("mount -t tmpfs tmpfs /mnt").is_ok_and(|output| output.status.success()) {
        #[expect(
            clippy::disallowed_macros,
            clippy::print_stderr,
            reason = "says what is not shown"
        )]
        {
            eprintln!("skipped: no user may mount here");
        }
        return None;
    }
    Some(Finished::of(unshare(script).unwrap()))
}

/// Rows of 2 kB that hardly get smaller, of which 20 bytes are asked about, in parts of 400 kB.
fn lay_large(scratch: &Scratch, server: &Simulated) {
    let mut chance: u64 = 1;
    let mut letter = || {
        chance =
            chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
                [(chance >> 58) as usize],
        )
    };
    let mut csv = String::new();
    for (row, line) in orders_csv(LARGE_ROWS).lines().enumerate() {
        let blob: String = (0..2_000).map(|_| letter()).collect();
        let blob = if row == 0 { "blob" } else { &blob };
        csv.push_str(&format!("{line},{blob}\n"));
    }
    scratch.write("orders.csv", &csv);
    let rest = "\n[batch]\nrows_per_call = 10\n[output]\nrows_per_part = 200\n";
    scratch.write("batchclass.toml", &(simulated_config(server) + rest));
}

const LARGE_ROWS: usize = 2_000;

/// Each row once, with its label, in the parts in this folder.
fn expect_all_labelled(folder: &Path) {
    let rows = read_parts(folder);
    assert_eq!(rows.len(), LARGE_ROWS);
    assert!(rows.is_sorted_by_key(|row| row.id));
    for row in rows {
        assert_eq!(row.label.as_deref(), Some(order_label(row.id)), "{}", row.text);
    }
}

#[test]
fn a_disk_that_fills_up_ends_the_run_with_a_sentence_and_nothing_is_paid_twice() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    lay_large(&scratch, &server);
    let script = "
        mkdir out && mount -t tmpfs -o size=2500k tmpfs out
        code=0; $BATCHCLASS orders.csv out 2> first || code=$?
        test $code = 4
        ls out/*.parquet > parts
        mount -o remount,size=64m out
        $BATCHCLASS orders.csv out
        cp -r out copy";
    let Some(finished) = with_own_mounts(&scratch, script) else { return };
    let first = std::fs::read_to_string(scratch.path("first")).unwrap_or_default();
    assert_eq!(finished.code, Some(0), "{first}\n{}", finished.stderr);
    assert!(first.contains("failed: No space left on device"), "{first}");
    let advice = first.lines().last().unwrap();
    assert!(advice.starts_with("free space and run the same command again"), "{first}");
    assert!(!std::fs::read_to_string(scratch.path("parts")).unwrap().is_empty(), "in mid-run");
    expect_all_labelled(&scratch.path("copy"));
    assert_eq!(server.count("rows_asked_again_unexplained"), 0);
}

#[test]
fn a_journal_whose_disk_fills_up_ends_the_run_and_only_what_is_in_flight_is_paid_twice() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "20"]);
    lay_large(&scratch, &server);
    let script = "
        mkdir journals && mount -t tmpfs -o size=1100k tmpfs journals
        run='orders.csv out --journal-folder journals'
        $BATCHCLASS $run --tokens-per-minute 200_000 --progress json 2> first & run_id=$!
        tries=0
        until test -e out/part-000001.parquet; do
            tries=$((tries + 1)); test $tries -lt 600; sleep 0.05
        done
        dd if=/dev/zero of=journals/fill bs=4k 2> dd || true
        code=0; wait $run_id || code=$?
        test $code = 4
        rm journals/fill
        exec $BATCHCLASS $run --tokens-per-minute 0";
    let Some(finished) = with_own_mounts(&scratch, script) else { return };
    let first = std::fs::read_to_string(scratch.path("first")).unwrap_or_default();
    assert_eq!(finished.code, Some(0), "{first}\n{}", finished.stderr);
    expect_all_labelled(&scratch.path("out"));
    assert!(!scratch.path("out/_batchclass/journal").exists());
    let mut events =
        first.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let in_flight = events.rfind(|event| event["event"] == "call_started").unwrap();
    let in_flight = in_flight["in_flight"].as_u64().unwrap();
    let asked_twice = server.count("rows_asked") - LARGE_ROWS as u64;
    assert!(asked_twice <= 10 * in_flight, "{asked_twice} rows, {in_flight} calls in flight");
}

#[test]
fn a_disk_that_is_full_already_is_noticed_before_the_first_call() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    lay_large(&scratch, &server);
    let script = "
        mkdir out && mount -t tmpfs -o size=1m tmpfs out
        exec $BATCHCLASS orders.csv out";
    let Some(finished) = with_own_mounts(&scratch, script) else { return };
    let finished = finished.expect_code(4);
    assert!(finished.stderr.contains("the disk of out has 1.0 MiB free"), "{}", finished.stderr);
    assert_eq!(server.count("rows_asked"), 0);
}

#[test]
fn a_mount_that_goes_away_is_noticed_before_the_next_part() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "20"]);
    lay_large(&scratch, &server);
    // A mount of a folder on the same device: the device's number alone would not tell.
    let script = "
        mkdir disk out && mount --bind disk out
        $BATCHCLASS orders.csv out --tokens-per-minute 200_000 2> first & run=$!
        tries=0
        until test -e out/part-000001.parquet; do
            tries=$((tries + 1)); test $tries -lt 600; sleep 0.05
        done
        umount --lazy out
        code=0; wait $run || code=$?
        test $code = 4
        ls -A out > underneath
        mount --bind disk out
        exec $BATCHCLASS orders.csv out --tokens-per-minute 0";
    let Some(finished) = with_own_mounts(&scratch, script) else { return };
    let first = std::fs::read_to_string(scratch.path("first")).unwrap_or_default();
    assert_eq!(finished.code, Some(0), "{first}\n{}", finished.stderr);
    assert!(first.contains("was it unmounted?"), "{first}");
    assert!(first.contains("mount it again and run the same command again: "), "{first}");
    assert_eq!(std::fs::read_to_string(scratch.path("underneath")).unwrap(), "");
    expect_all_labelled(&scratch.path("disk"));
    assert_eq!(server.count("rows_asked"), LARGE_ROWS as u64);
}
