//! Never two owners, in whatever order storage calls come; and always one in the end.

use std::path::Path;
use std::sync::Barrier;

use bytes::Bytes;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::claimant::tests::host;
use super::*;
use crate::output::store::{Fault, FaultyStore, LocalStore, MemoryStore, Stored, Then};

const MINUTE: u64 = 60_000;

/// Refuses what a create-once mount refuses.
struct CreateOnce(Arc<MemoryStore>);

impl Store for CreateOnce {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        self.0.create(name, bytes)
    }

    fn replace(&self, name: &str, _: &[u8], _: &Version) -> Result<Version, StoreError> {
        Err(StoreError::Refused { doing: "replacing", name: name.to_owned() })
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        self.0.read(name)
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        self.0.read_end(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        self.0.list(folder)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        Err(StoreError::Refused { doing: "removing", name: name.to_owned() })
    }
}

/// A storage with a clock of its own.
struct World {
    memory: Arc<MemoryStore>,
    store: Arc<dyn Store>,
    now: u64,
}

impl World {
    fn new(is_create_once: bool) -> World {
        let memory = Arc::new(MemoryStore::default());
        let store: Arc<dyn Store> = match is_create_once {
            true => Arc::new(CreateOnce(Arc::clone(&memory))),
            false => Arc::clone(&memory) as Arc<dyn Store>,
        };
        let mut world = World { memory, store, now: 0 };
        world.advance(100 * MINUTE);
        world
    }

    /// Both kinds of storage.
    fn both() -> [World; 2] {
        [World::new(false), World::new(true)]
    }

    fn advance(&mut self, millis: u64) {
        self.now += millis;
        self.memory.set_time(UnixMillis(self.now));
    }

    /// A place on the host called `name`, of which no other sees the processes.
    fn place(&self, name: &str) -> Place {
        place(&self.store, host(name, 7, &[]))
    }

    fn acquire(&self, run: &str) -> Result<Claim, ClaimError> {
        acquire(self.place(run), run, false)
    }

    fn names(&self) -> Vec<String> {
        let listed = self.store.list(names::CONTROL).unwrap().into_iter();
        listed.map(|it| it.name.trim_start_matches("_batchclass/").to_owned()).collect()
    }
}

fn place(store: &Arc<dyn Store>, host: Host) -> Place {
    Place {
        store: Arc::clone(store),
        folder: "out/_batchclass".into(),
        lockable: Lockable::Never,
        has_fresh_listings: true,
        host,
    }
}

impl Claim {
    /// The claim of a run on a host of its own, kept in `store`.
    pub(crate) fn in_store(store: Arc<dyn Store>, run: &str, started: UnixMillis) -> Claim {
        let spec = ClaimSpec { run: run.to_owned(), started, takeover: false };
        Claim::acquire(place(&store, host(run, 7, &[])), spec, &mut AtOnce).ok().unwrap()
    }
}

/// Pauses that take no time.
struct AtOnce;

impl Pauses for AtOnce {
    fn pause(&mut self, least: Duration, most: Duration) {
        assert!(least < most);
        std::thread::yield_now();
    }
}

const STARTED: UnixMillis = UnixMillis(1_800_000_000_000);

fn spec(run: &str, takeover: bool) -> ClaimSpec {
    ClaimSpec { run: run.to_owned(), started: STARTED, takeover }
}

fn acquire(place: Place, run: &str, takeover: bool) -> Result<Claim, ClaimError> {
    Claim::acquire(place, spec(run, takeover), &mut AtOnce)
}

/// The wall clock of a run, `millis` after it began.
fn wall(millis: u64) -> UnixMillis {
    UnixMillis(STARTED.0 + millis)
}

/// As if the process had been killed: nothing is given back.
fn kill(claim: Claim) {
    std::mem::forget(claim);
}

#[track_caller]
fn expect_held(claimed: Result<Claim, ClaimError>, can_take_over: bool) -> String {
    let error = claimed.err().expect("another run holds it");
    let said = error.to_string();
    match error {
        ClaimError::Held { can_take_over: can, .. } => assert_eq!(can, can_take_over, "{said}"),
        other => panic!("{other}"),
    }
    said
}

#[test]
fn a_second_run_is_told_who_holds_it_and_leaves_nothing_that_holds() {
    for mut world in World::both() {
        let claim = world.acquire("r1").unwrap();
        world.advance(MINUTE);
        let said = expect_held(world.acquire("r2"), true);
        assert!(said.contains("process 7 on r1, since 2027-01-15 08:00:00 UTC"), "{said}");
        assert!(said.contains("last sign of life 1970-01-01 01:40:00 UTC"), "{said}");
        drop(claim);
        world.acquire("r3").unwrap();
    }
}

#[test]
fn a_claim_is_given_back_by_deleting_it_or_by_saying_so() {
    let [deletes, refuses] = World::both();
    drop(deletes.acquire("r1").unwrap());
    assert!(deletes.names().is_empty());
    drop(refuses.acquire("r1").unwrap());
    assert_eq!(refuses.names(), ["claim-r1.json", "release-r1.json"]);
    let claim = refuses.acquire("r2").unwrap();
    claim.renew(wall(MINUTE)).unwrap();
    claim.renew(wall(2 * MINUTE)).unwrap();
    drop(claim);
    let left = refuses.names();
    assert!(left.contains(&"heartbeat-r2-000002.json".to_owned()), "{left:?}");
    refuses.acquire("r3").unwrap();
}

#[test]
fn every_order_of_the_steps_of_two_ends_with_one_owner() {
    for schedule in 0_u32..1 << 10 {
        for world in World::both() {
            let mut runs =
                ["r1", "r2"].map(|run| Some(Contender::new(world.place(run), spec(run, false))));
            let mut owners = Vec::new();
            let turns = (0..10).map(|turn| (schedule >> turn) as usize & 1);
            for turn in turns.chain([0, 1].into_iter().cycle().take(200)) {
                let Some(run) = &mut runs[turn] else { continue };
                match run.step() {
                    Ok(Step::Next | Step::Pause(..)) => continue,
                    Ok(Step::Owned(claim)) => owners.push(claim),
                    Err(ClaimError::Held { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                runs[turn] = None;
            }
            assert!(runs.iter().all(Option::is_none));
            assert_eq!(owners.len(), 1, "schedule {schedule:b}");
        }
    }
}

/// Lets `runs` contenders take their steps in a random order; how many own in the end. A pause
/// lasts from `shortest` to four times as many steps of others.
fn race(world: &mut World, runs: usize, seed: u64, shortest: u64) -> usize {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut left: Vec<(u64, Contender)> = (0..runs)
        .map(|run| {
            (0, Contender::new(world.place(&format!("h{run}")), spec(&format!("r{run}"), false)))
        })
        .collect();
    let mut owners: Vec<Box<Claim>> = Vec::new();
    for tick in 0.. {
        if left.is_empty() {
            break;
        }
        world.advance(chance.random_range(0..20));
        let turn = chance.random_range(0..left.len());
        let (paused_until, contender) = &mut left[turn];
        if *paused_until > tick {
            continue;
        }
        match contender.step() {
            Ok(Step::Next) => {}
            Ok(Step::Pause(..)) => {
                *paused_until = tick + chance.random_range(shortest..=4 * shortest)
            }
            Ok(Step::Owned(claim)) => {
                owners.push(claim);
                drop(left.remove(turn));
            }
            Err(ClaimError::Held { .. }) => drop(left.remove(turn)),
            Err(error) => panic!("{error}"),
        }
    }
    for owner in &owners {
        owner.hold(wall(0)).unwrap();
    }
    owners.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn of_any_number_in_any_order_one_owns(
        runs in 2..6_usize, seed: u64, is_create_once: bool,
    ) {
        prop_assert_eq!(race(&mut World::new(is_create_once), runs, seed, 30), 1);
    }

    #[test]
    fn even_if_nobody_waits_there_are_never_two(
        runs in 2..6_usize, seed: u64, is_create_once: bool,
    ) {
        prop_assert!(race(&mut World::new(is_create_once), runs, seed, 1) <= 1);
    }
}

/// A run in a long history: it may die, be suspended, renew its claim and pay.
enum Actor {
    Idle,
    Contending(Box<Contender>),
    /// With whether another has owned since.
    Owning(Box<Claim>, bool),
}

/// What all came to in a history.
#[derive(Debug, Default)]
struct Counts {
    owned: u32,
    paid: u32,
    refused: u32,
}

/// Plays a random history of three hosts with clocks of their own.
fn play(seed: u64, is_create_once: bool, counts: &mut Counts) {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(is_create_once);
    let mut actors = [Actor::Idle, Actor::Idle, Actor::Idle];
    let skews = [0, 3_600_000, 86_400_000_000_u64];
    for run in 0..300 {
        let at = chance.random_range(0..3_usize);
        let now = UnixMillis(world.now + skews[at]);
        let mut acquired = None;
        actors[at] = match std::mem::replace(&mut actors[at], Actor::Idle) {
            Actor::Idle => {
                let spec = ClaimSpec { run: format!("r{run}"), started: now, takeover: false };
                Actor::Contending(Box::new(Contender::new(world.place(&format!("h{at}")), spec)))
            }
            Actor::Contending(mut contender) => match contender.step() {
                Ok(Step::Owned(claim)) => {
                    acquired = Some(at);
                    counts.owned += 1;
                    Actor::Owning(claim, false)
                }
                Ok(_) => Actor::Contending(contender),
                Err(_) => Actor::Idle,
            },
            Actor::Owning(claim, is_superseded) => match chance.random_range(0..12) {
                0 => {
                    kill(*claim);
                    Actor::Idle
                }
                1 => Actor::Idle,
                2..5 => {
                    claim.renew(now).unwrap();
                    Actor::Owning(claim, is_superseded)
                }
                _ => match claim.hold(now) {
                    Ok(()) => {
                        assert!(!is_superseded, "seed {seed}: two owners pay");
                        counts.paid += 1;
                        Actor::Owning(claim, false)
                    }
                    Err(_) => {
                        counts.refused += 1;
                        Actor::Idle
                    }
                },
            },
        };
        if let Some(owner) = acquired {
            for (at, actor) in actors.iter_mut().enumerate() {
                if let Actor::Owning(_, is_superseded) = actor {
                    *is_superseded = at != owner;
                }
            }
        }
        let step = [0, 5, 1_000, 30_000, 2 * MINUTE, 11 * MINUTE];
        world.advance(step[[0, 0, 1, 1, 2, 2, 3, 3, 4, 5][chance.random_range(0..10_usize)]]);
    }
}

#[test]
fn whoever_dies_or_sleeps_two_owners_never_pay_at_once() {
    for is_create_once in [false, true] {
        let mut counts = Counts::default();
        for seed in 0..100 {
            play(seed, is_create_once, &mut counts);
        }
        // The histories hold what they are about: claims lost while asleep, and paid calls.
        assert!(counts.owned > 500 && counts.paid > 500 && counts.refused > 25, "{counts:?}");
    }
}

#[test]
fn a_claim_lives_for_ten_minutes_after_its_last_sign_by_the_storages_clock() {
    for mut world in World::both() {
        let first = world.acquire("r1").unwrap();
        world.advance(7 * MINUTE);
        // The clocks of the hosts say what they like.
        first.renew(UnixMillis(1)).unwrap();
        kill(first);
        world.advance(9 * MINUTE + 59_000);
        expect_held(world.acquire("r2"), true);
        world.advance(1_000);
        let claim = world.acquire("r3").unwrap();
        let is_swept = !world.names().contains(&"claim-r1.json".to_owned());
        assert_eq!(is_swept, world.store.delete("none").is_ok());
        drop(claim);
    }
}

#[test]
fn an_owner_renews_by_replacing_or_by_numbered_heartbeats() {
    let [mut replaces, mut refuses] = World::both();
    for (world, left) in [
        (&mut replaces, &["claim-r1.json"][..]),
        (&mut refuses, &["claim-r1.json", "heartbeat-r1-000001.json", "heartbeat-r1-000002.json"]),
    ] {
        let claim = world.acquire("r1").unwrap();
        for renewal in 1..=2 {
            world.advance(2 * MINUTE);
            claim.renew(wall(renewal * 2 * MINUTE)).unwrap();
        }
        assert_eq!(world.names(), left);
        assert!(matches!(claim.standing(wall(11 * MINUTE)), Standing::Held));
        assert!(matches!(claim.standing(wall(12 * MINUTE)), Standing::Lapsed));
        // A clock that was set back tells nothing either.
        assert!(matches!(claim.standing(wall(0)), Standing::Lapsed));
    }
}

#[test]
fn a_renewal_that_came_through_although_it_failed_is_recognised() {
    let mut failures = 0;
    let kinds = [Fault::ErrorButDone, Fault::Passing];
    for (fault, at) in kinds.into_iter().flat_map(|fault| (1..=2).map(move |at| (fault, at))) {
        for world in World::both() {
            let mut claim = world.acquire("r1").unwrap();
            let whole = Arc::clone(&claim.object.place.store);
            let faulty = FaultyStore::new(Arc::clone(&whole), at, fault, Then::Recovers);
            claim.object.place.store = Arc::new(faulty);
            failures += usize::from(claim.renew(wall(MINUTE)).is_err());
            claim.renew(wall(2 * MINUTE)).unwrap();
            assert!(matches!(claim.standing(wall(9 * MINUTE)), Standing::Held));
            claim.object.place.store = whole;
        }
    }
    // Only where replacing is refused, its first call, it does not matter how.
    assert_eq!(failures, 7);
}

#[test]
fn a_run_that_slept_proves_its_claim_anew_and_goes_on_if_nobody_came() {
    for mut world in World::both() {
        let claim = world.acquire("r1").unwrap();
        world.advance(60 * MINUTE);
        assert!(matches!(claim.standing(wall(60 * MINUTE)), Standing::Lapsed));
        claim.hold(wall(60 * MINUTE)).unwrap();
        assert!(matches!(claim.standing(wall(60 * MINUTE)), Standing::Held));
        expect_held(world.acquire("r2"), true);
    }
}

#[test]
fn a_run_that_slept_while_another_came_stops_and_names_it() {
    for mut world in World::both() {
        let first = world.acquire("r1").unwrap();
        world.advance(11 * MINUTE);
        let second = world.acquire("r2").unwrap();
        let said = first.hold(wall(11 * MINUTE)).unwrap_err().to_string();
        assert!(said.contains("process 7 on r2"), "{said}");
        assert!(matches!(first.standing(wall(11 * MINUTE)), Standing::Lost(_)));
        second.renew(wall(0)).unwrap();
        drop(first);
        expect_held(world.acquire("r3"), true);
    }
}

#[test]
fn a_run_whose_claim_was_swept_stops_although_the_other_has_gone() {
    let mut world = World::new(false);
    let first = world.acquire("r1").unwrap();
    world.advance(11 * MINUTE);
    drop(world.acquire("r2").unwrap());
    first.hold(wall(11 * MINUTE)).unwrap_err();
}

#[test]
fn a_takeover_overrules_a_run_out_of_sight_which_stops_at_its_next_sign_of_life() {
    for mut world in World::both() {
        let first = world.acquire("r1").unwrap();
        world.advance(MINUTE);
        let second = acquire(world.place("r2"), "r2", true).unwrap();
        first.renew(wall(2 * MINUTE)).unwrap();
        let Standing::Lost(lost) = first.standing(wall(2 * MINUTE)) else { panic!("not lost") };
        assert!(lost.to_string().contains("process 7 on r2"), "{lost}");
        drop(first);
        second.renew(wall(2 * MINUTE)).unwrap();
        second.hold(wall(2 * MINUTE)).unwrap();
        // What was taken over holds nothing once the other has gone, either.
        drop(second);
        world.acquire("r3").unwrap();
    }
}

#[test]
fn a_takeover_never_overrules_who_is_seen_alive_or_is_about_to_claim() {
    for mut world in World::both() {
        let running = host("a", 1, &[(1, 10), (2, 20)]);
        let first = acquire(place(&world.store, running.clone()), "r1", false).unwrap();
        world.advance(MINUTE);
        let other = Host { pid: 2, process_start: Some(20), ..running };
        expect_held(acquire(place(&world.store, other), "r2", true), false);
        drop(first);

        let young = world.acquire("r3").unwrap();
        world.advance(5_000);
        expect_held(acquire(world.place("r4"), "r4", true), true);
        young.renew(wall(0)).unwrap();
        assert!(matches!(young.standing(wall(0)), Standing::Held));
    }
}

#[test]
fn two_takeovers_at_once_leave_one_owner() {
    for seed in 0..100 {
        for mut world in World::both() {
            kill(world.acquire("dead").unwrap());
            world.advance(MINUTE);
            let mut chance = ChaCha8Rng::seed_from_u64(seed);
            let mut left = ["r1", "r2"]
                .map(|run| Contender::new(world.place(run), spec(run, true)))
                .into_iter()
                .collect::<Vec<_>>();
            let mut owners = Vec::new();
            while !left.is_empty() {
                let turn = chance.random_range(0..left.len());
                match left[turn].step() {
                    Ok(Step::Next | Step::Pause(..)) => continue,
                    Ok(Step::Owned(claim)) => owners.push(claim),
                    Err(error) => assert!(matches!(error, ClaimError::Held { .. }), "{error}"),
                }
                drop(left.remove(turn));
            }
            assert!(owners.len() <= 1, "seed {seed}");
        }
    }
}

#[test]
fn a_dead_process_of_this_host_holds_nothing_from_the_moment_it_dies() {
    for world in World::both() {
        kill(acquire(place(&world.store, host("a", 1, &[])), "r1", false).unwrap());
        let later = Host { pid: 2, ..host("a", 1, &[(2, 20)]) };
        acquire(place(&world.store, later), "r2", false).unwrap();
    }
}

#[test]
fn a_process_of_another_container_or_of_an_earlier_boot_is_out_of_sight() {
    for world in World::both() {
        let first = host("a", 1, &[]);
        kill(acquire(place(&world.store, first.clone()), "r1", false).unwrap());
        let container = Host { pid_namespace: Some("pid:[2]".into()), pid: 2, ..first.clone() };
        expect_held(acquire(place(&world.store, container), "r2", false), true);
        let rebooted = Host { boot_id: "later".into(), ..first };
        expect_held(acquire(place(&world.store, rebooted), "r3", false), true);
    }
}

/// A folder on a disk, as the host called `name` sees it.
fn on_disk(folder: &Path, name: &str, lockable: impl Fn(std::path::PathBuf) -> Lockable) -> Place {
    let store: Arc<dyn Store> = Arc::new(LocalStore::new(folder));
    let lockable = lockable(folder.join(names::CONTROL));
    Place { lockable, ..place(&store, host(name, 7, &[(7, 70)])) }
}

#[test]
fn a_free_lock_on_a_disk_of_this_kernel_proves_everybody_dead_also_after_a_reboot() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name| on_disk(folder.path(), name, Lockable::ByThisKernelAlone);
    let claim = acquire(at("a"), "r1", false).unwrap();
    // Another boot, and what is out of sight: the lock is not.
    expect_held(acquire(at("b"), "r2", true), false);
    let (object, pulse) = (claim.object.name.clone(), claim.standing(STARTED));
    assert!(matches!(pulse, Standing::Held));
    let json = claim.store().read(&names::claim(&object)).unwrap();
    drop(claim);
    // What a killed process leaves: the claim without its lock.
    let store = LocalStore::new(folder.path());
    store.create(&names::claim("r1"), &json).unwrap();
    store.create(&names::claim("torn"), &json[..9]).unwrap();
    let _claim = acquire(at("b"), "r3", false).unwrap();
    let left: Vec<_> = store.list(names::CONTROL).unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(left, [names::claim("r3")]);
}

#[test]
fn a_free_lock_on_a_network_disk_proves_only_this_boot_dead() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name| on_disk(folder.path(), name, Lockable::ByOthersToo);
    let leave = |name: &str| {
        let claim = acquire(on_disk(folder.path(), name, |_| Lockable::Never), name, false);
        let json = claim.as_ref().unwrap().store().read(&names::claim(name)).unwrap();
        drop(claim);
        LocalStore::new(folder.path()).create(&names::claim(name), &json).unwrap();
    };
    leave("a");
    drop(acquire(at("a"), "r2", false).unwrap());
    leave("b");
    expect_held(acquire(at("a"), "r3", false), true);
}

#[test]
fn a_lock_whose_owner_has_not_claimed_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = on_disk(folder.path(), "a", Lockable::ByThisKernelAlone);
    let lock = self::folder_lock::FolderLock::take(&place.lockable).unwrap();
    let said = expect_held(acquire(place.clone(), "r1", false), false);
    assert!(said.contains("the folder's lock"), "{said}");
    let mut contender = Contender::new(place, spec("r2", false));
    assert!(matches!(contender.step(), Ok(Step::Pause(..))));
    drop(lock);
    assert!((0..3).any(|_| matches!(contender.step(), Ok(Step::Owned(_)))));
}

#[test]
fn of_threads_that_claim_one_disk_at_once_one_owns() {
    for is_locked in [true, false] {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let (start, end) = (Barrier::new(3), Barrier::new(3));
            let lockable = |control| match is_locked {
                true => Lockable::ByThisKernelAlone(control),
                false => Lockable::Never,
            };
            let owners: usize = std::thread::scope(|scope| {
                let threads = [0, 1, 2].map(|run| {
                    let place =
                        Place { host: Host::this(), ..on_disk(folder.path(), "", lockable) };
                    let (start, end) = (&start, &end);
                    scope.spawn(move || {
                        start.wait();
                        let claim = acquire(place, &format!("r{run}"), false);
                        end.wait();
                        usize::from(claim.is_ok())
                    })
                });
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            // Without a lock, and without time between two looks, the eldest may lose patience.
            assert!(if is_locked { owners == 1 } else { owners <= 1 }, "{owners}");
        }
    }
}

#[test]
fn a_claim_that_was_cut_in_its_making_holds_nothing_and_one_of_a_later_version_does() {
    for mut world in World::both() {
        let claim = names::claim("torn");
        world.store.create(&claim, br#"{"version":1,"run":"torn","#).unwrap();
        drop(world.acquire("r1").unwrap());
        world.store.create(&names::claim("later"), br#"{"version":2,"owner":[]}"#).unwrap();
        world.advance(MINUTE);
        expect_held(world.acquire("r2"), true);
    }
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    for world in World::both() {
        world.store.create(&names::claim("r1"), b"{").unwrap();
        let claim = world.acquire("r1").unwrap();
        assert_eq!(claim.object.name, "r1~2");
        drop(claim);
        assert!(world.names().contains(&"claim-r1.json".to_owned()));
    }
}

#[test]
fn a_claim_that_fails_in_any_step_holds_nothing() {
    for fault in [Fault::Passing, Fault::ErrorButDone, Fault::Torn] {
        for at in 1..=2 {
            for world in World::both() {
                let store = FaultyStore::new(Arc::clone(&world.store), at, fault, Then::Recovers);
                let store: Arc<dyn Store> = Arc::new(store);
                let claimed = acquire(place(&store, host("a", 7, &[])), "r1", false);
                assert!(matches!(claimed.err(), Some(ClaimError::Store(_))), "{fault:?} at {at}");
                world.acquire("r2").unwrap();
            }
        }
    }
}

/// Lists what it was asked for before it stored anything.
struct Stale(MemoryStore);

impl Store for Stale {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        self.0.create(name, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError> {
        self.0.replace(name, bytes, seen)
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        self.0.read(name)
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        self.0.read_end(name, bytes)
    }

    fn list(&self, _: &str) -> Result<Vec<Stored>, StoreError> {
        Ok(Vec::new())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.0.delete(name)
    }
}

#[test]
fn a_listing_without_ones_own_claim_is_no_proof() {
    let store: Arc<dyn Store> = Arc::new(Stale(MemoryStore::default()));
    let place = place(&store, host("a", 7, &[]));
    let error = acquire(place.clone(), "r1", false).err().unwrap();
    assert!(matches!(error, ClaimError::Unlisted { .. }), "{error}");
    assert_eq!(place.warning(), None);
    let stale = Place { has_fresh_listings: false, ..place };
    assert!(stale.warning().unwrap().ends_with("run this job from one host only"));
}
