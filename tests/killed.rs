//! SIGKILL at every storage call of a run: the next one ends like one that nobody killed, and pays
//! for no answer that was kept.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use batchclass::output::store::{Fault, FaultyStore, Store, Then};

use crate::support::OutputRow;
use crate::support::hooked_store::{HookedStore, Step, When};
use crate::support::places::{self, Place, ROWS, Site, clean_rows};
use crate::support::rehearsal::{Asked, Rehearsal, kept_ids, provider};

/// When in its storage call a run dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Before,
    /// Half of what it writes is there, as a mount leaves it.
    Midway,
    After,
}

impl Death {
    const ALL: [Death; 3] = [Death::Before, Death::Midway, Death::After];
}

const PLACE: &str = "BATCHCLASS_TEST_PLACE";
const SCRATCH: &str = "BATCHCLASS_TEST_SCRATCH";
const URL: &str = "BATCHCLASS_TEST_URL";
const DIES_AT: &str = "BATCHCLASS_TEST_DIES_AT";
const DIES: &str = "BATCHCLASS_TEST_DIES";
const KILLED_PLACES: [Place; 4] =
    [Place::LocalDisk, Place::Mount, Place::StrictMount, Place::Bucket];

#[expect(clippy::disallowed_methods, reason = "how a test tells its child what to do")]
fn told_by_parent(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A run there. Where no disk is, it has no lock to go by and its journal is elsewhere.
fn rehearsal(place: Place, scratch: &Path, store: Arc<dyn Store>) -> Rehearsal {
    let rehearsal = Rehearsal::of(&places::job(place, scratch), store);
    if place == Place::LocalDisk { rehearsal } else { rehearsal.off_disk() }
}

fn journal(place: Place, scratch: &Path) -> PathBuf {
    if place == Place::LocalDisk {
        return scratch.join("out/_batchclass/journal");
    }
    let journals = std::fs::read_dir(scratch.join("state/journals"));
    // Killed at its start, a run has none.
    let journal = journals.ok().and_then(|mut folders| Some(folders.next()?.unwrap().path()));
    journal.unwrap_or_else(|| scratch.join("none"))
}

/// The child of the tests below; by itself it does nothing.
#[test]
fn child_that_kills_itself_at_a_storage_call() {
    let Some(scratch) = told_by_parent(SCRATCH) else { return };
    let scratch = Path::new(&scratch);
    let told = |name| told_by_parent(name).unwrap();
    let place = KILLED_PLACES.into_iter().find(|it| format!("{it:?}") == told(PLACE)).unwrap();
    let death = Death::ALL.into_iter().find(|it| format!("{it:?}") == told(DIES)).unwrap();
    let at: u64 = told(DIES_AT).parse().unwrap();
    let cloud = ["AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let cloud = cloud.iter().filter_map(|name| Some(((*name).to_owned(), told_by_parent(name)?)));
    let [store, _] = place.stores(scratch, &told(URL), cloud.collect());
    let (store, when): (Arc<dyn Store>, When) = match death {
        Death::Before => (store, When::Before),
        Death::After => (store, When::After),
        Death::Midway => {
            (Arc::new(FaultyStore::new(store, at, Fault::Torn, Then::Recovers)), When::After)
        }
    };
    let store = HookedStore::new(store, move |step: &Step<'_>| {
        if step.call == at && step.when == when {
            let this = rustix::process::getpid();
            rustix::process::kill_process(this, rustix::process::Signal::KILL).unwrap();
        }
        Ok(())
    });
    let report = rehearsal(place, scratch, Arc::new(store)).run(provider(|_| ()));
    assert!(report.unwrap().is_success);
}

/// Runs the job in a process that kills itself; whether it got that far.
fn is_killed(place: Place, site: &Site, at: u64, death: Death) -> bool {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["killed::child_that_kills_itself_at_a_storage_call", "--exact"]);
    child.env(PLACE, format!("{place:?}")).env(SCRATCH, site.scratch.path("."));
    child.env(DIES_AT, at.to_string()).env(DIES, format!("{death:?}")).env(URL, "");
    if let Some(bucket) = site.bucket() {
        child.env(URL, bucket.url("out")).envs(bucket.environment());
    }
    let output = child.output().unwrap();
    match output.status.signal() {
        Some(9) => true,
        None if output.status.success() => false,
        _ => panic!("{output:?}"),
    }
}

/// What came of a run that was to die.
struct Died {
    /// Whether it got that far.
    is_killed: bool,
    /// The torn parts that had to be removed by hand.
    removed: usize,
}

/// Lets a run die at this call and another one go on.
fn die_and_go_on(place: Place, at: u64, death: Death, clean: &[OutputRow]) -> Option<Died> {
    let case = format!("killed at call {at}, {death:?}, on {place:?}");
    let site = Site::new(place)?;
    let scratch = site.scratch.path(".");
    let is_killed = is_killed(place, &site, at, death);
    let kept = kept_ids(site.store.as_ref(), &journal(place, &scratch));

    let asked = Asked::default();
    let removed = site.finish(&case, |store| {
        rehearsal(place, &scratch, store).run(asked.provider()).expect(&case)
    });
    let rows = site.rows();
    assert_eq!(rows, clean, "{case}");
    let asked = asked.texts();
    let is_paid_again = |row: &&OutputRow| kept.contains(&row.id) && asked.contains(&row.text);
    assert_eq!(rows.iter().filter(is_paid_again).count(), 0, "{case}");
    assert_eq!(asked.len(), ROWS - kept.len(), "{case}");
    Some(Died { is_killed, removed })
}

/// Kills runs at every call of theirs, until one ends before it could be killed. Returns how many
/// torn parts had to be removed by hand; `None` where there is no such place.
fn die_everywhere(place: Place, death: Death) -> Option<usize> {
    const AT_ONCE: usize = 4;
    let clean = clean_rows();
    let (mut calls, mut removed) = ((1..).step_by(place.stride()), 0);
    loop {
        let calls: Vec<u64> = calls.by_ref().take(AT_ONCE).collect();
        let died: Option<Vec<Died>> = std::thread::scope(|scope| {
            let clean = &clean;
            let start = |at| scope.spawn(move || die_and_go_on(place, at, death, clean));
            let runs: Vec<_> = calls.iter().map(|at| start(*at)).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        let died = died?;
        removed += died.iter().map(|died| died.removed).sum::<usize>();
        if !died.iter().all(|died| died.is_killed) {
            assert!(calls[0] > 15, "the run made only {} calls", calls[0]);
            return Some(removed);
        }
    }
}

#[test]
fn killed_at_any_storage_call_a_rerun_ends_like_a_clean_run() {
    die_everywhere(Place::LocalDisk, Death::Before);
    die_everywhere(Place::LocalDisk, Death::After);
}

#[test]
fn killed_at_any_storage_call_on_a_mount_a_rerun_ends_like_a_clean_run() {
    let removed = die_everywhere(Place::Mount, Death::Midway);
    assert_eq!(removed, Some(0), "runs remove what they may");
    die_everywhere(Place::StrictMount, Death::After);
}

#[test]
fn killed_in_the_midst_of_any_write_on_a_mount_that_removes_nothing_a_rerun_ends_like_a_clean_run()
{
    let removed = die_everywhere(Place::StrictMount, Death::Midway);
    assert_eq!(removed, Some(3), "one of each part");
}

#[test]
fn killed_at_any_storage_call_to_a_bucket_a_rerun_ends_like_a_clean_run() {
    // Every third call only, to be done in seconds.
    die_everywhere(Place::Bucket, Death::Before);
    die_everywhere(Place::Bucket, Death::After);
}
