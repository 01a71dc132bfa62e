//! One run's way to the claim, a storage call at a time: claim, then look, then hold or withdraw.
//!
//! Never two owners. A claim holds once all live claims of its *first* look are gone; no name is
//! used twice. Of two that both hold, one was made after the other had looked; that one saw the
//! other standing, and would still wait for it. Ages decide only who counts as live; a contender
//! that slept for so long that others took it for dead sees by the storage's times that they could.
//!
//! Of a race somebody wins: where all that are seen are as young as oneself, the eldest by the
//! storage's times stays and the others withdraw, to try again after a random pause. (With all of
//! them withdrawing, three could go on meeting until each gives up.)

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::names;
use super::super::store::StoreError;
use super::board::{Board, Rival, judge, since, sweep};
use super::claimant::{Claimant, Fate, Sequence};
use super::error::{ClaimError, Holder};
use super::folder_lock::{Clearance, FolderLock};
use super::{Claim, ClaimSpec, LAPSE, Place, Release};
use crate::domain::UnixMillis;

/// How often a run that meets others as young as itself tries again.
const TRIES: u32 = 5;
/// How often the eldest looks whether the others have withdrawn.
const LOOKS: u32 = 10;
/// How many names are tried before a storage that has them all is not believed.
const EDITIONS: u32 = 100;
/// The pause between two tries, or two looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// How often a lock that another process holds is tried while nothing says whose it is.
const LOCK_TRIES: u32 = 20;
/// The pause between two such tries: its owner is about to claim, or about to end.
const LOCK_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(200));

/// A run that wants the claim.
pub(super) struct Contender {
    place: Place,
    spec: ClaimSpec,
    /// Names that are used up.
    editions: u32,
    tries: u32,
    lock_tries: u32,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Outside,
    Claimed(Box<Attempt>),
    Leaving(Box<Attempt>, Denied),
}

/// A claim that stands and does not hold yet.
struct Attempt {
    object: ClaimObject,
    /// What the first look saw.
    rivals: Option<BTreeSet<String>>,
    looks: u32,
}

/// What a contender is turned away by.
struct Denied {
    is_race: bool,
    why: ClaimError,
}

/// What comes after a step.
pub(super) enum Step {
    /// The next step, at once.
    Next,
    /// The next step, after a pause between these two times.
    Pause(Duration, Duration),
    /// Nothing: the run holds the claim.
    Owned(Box<Claim>),
}

impl Contender {
    pub(super) fn new(place: Place, spec: ClaimSpec) -> Contender {
        Contender { place, spec, editions: 0, tries: 0, lock_tries: 0, state: State::Outside }
    }

    /// Takes one step. After an error nothing of this contender stands, as far as storage lets go.
    ///
    /// # Errors
    /// [`ClaimError::Held`] if another run is at work.
    pub(super) fn step(&mut self) -> Result<Step, ClaimError> {
        match std::mem::take(&mut self.state) {
            State::Outside => self.enter(),
            State::Claimed(attempt) => self.look(attempt),
            State::Leaving(attempt, denied) => {
                // Withdraws.
                drop(attempt);
                self.try_again(denied)
            }
        }
    }

    fn enter(&mut self) -> Result<Step, ClaimError> {
        let lock = FolderLock::take(&self.place.lockable)
            .map_err(|source| StoreError::from_io("claiming", self.place.folder.clone(), source))?;
        let Some(lock) = lock else { return self.name_the_locks_owner() };
        self.editions += 1;
        let name = match self.editions {
            1 => self.spec.run.clone(),
            later => format!("{}~{later}", self.spec.run),
        };
        let sequence = Sequence::next();
        let number = sequence.number();
        let claimant = self.place.host.claimant(&self.spec.run, number, self.spec.started);
        let json = self.place.encode(&claimant)?;
        let store = &self.place.store;
        let created = store.create(&names::claim(&name), &json);
        if let Err(StoreError::AlreadyExists { .. }) = created
            && store.read(&names::claim(&name))? != json
        {
            // Not ours. (Ours it is if the storage's client tried twice.)
            return match self.editions < EDITIONS {
                true => Ok(Step::Next),
                false => Err(StoreError::AlreadyExists { name: names::claim(&name) }.into()),
            };
        }
        // From here on what stands is withdrawn, also if nobody knows whether it stands.
        let object =
            ClaimObject { place: self.place.clone(), name, claimant, lock, _sequence: sequence };
        match created {
            Ok(_) | Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.state = State::Claimed(Box::new(Attempt { object, rivals: None, looks: 0 }));
        Ok(Step::Next)
    }

    fn look(&mut self, mut attempt: Box<Attempt>) -> Result<Step, ClaimError> {
        let (store, object) = (self.place.store.as_ref(), &attempt.object);
        let board = Board::look(store)?;
        let Some(own) = board.standing(&object.name) else {
            let why = ClaimError::Unlisted { folder: self.place.folder.clone() };
            self.state = State::Leaving(attempt, Denied { is_race: true, why });
            return Ok(Step::Next);
        };
        let (name, now) = (object.name.clone(), own.last_sign);
        let clearance = object.lock.clearance;
        let others = judge(store, &self.place.host, &board, &name, Some(now), clearance)?;
        let (mut rivals, mut dead) = (others.rivals, others.dead);
        if let Some(first) = &attempt.rivals {
            // Who came later has seen this claim, and waits for it; unless it took it for dead.
            let is_late = |rival: &Rival| since(rival.made, now) >= LAPSE;
            rivals.retain(|rival| first.contains(&rival.name) || is_late(rival));
        }
        let seen: BTreeSet<String> = rivals.iter().map(|rival| rival.name.clone()).collect();
        let may_overrule =
            |rival: &Rival| self.spec.takeover && rival.fate == Fate::OutOfSight && !rival.is_young;
        let (overruled, rivals): (Vec<Rival>, Vec<Rival>) =
            rivals.into_iter().partition(may_overrule);

        if rivals.is_empty() {
            for rival in overruled {
                self.take_over(&rival.name, &object.claimant)?;
                // The record of it goes once its claim has gone, from which the owner sees the same.
                dead.extend_from_slice(board.objects(&rival.name));
            }
            sweep(store, &dead);
            let claim = Claim::new(attempt.object, own, self.spec.started);
            return Ok(Step::Owned(Box::new(claim)));
        }
        let is_race = rivals.iter().all(|rival| rival.is_young);
        let age = |made: UnixMillis, name: &str| (made, name.to_owned());
        let is_eldest = rivals.iter().all(|rival| age(now, &name) < age(rival.made, &rival.name));
        if is_race && is_eldest && attempt.looks < LOOKS {
            attempt.rivals.get_or_insert(seen);
            attempt.looks += 1;
            self.state = State::Claimed(attempt);
            return Ok(Step::Pause(PAUSE.0, PAUSE.1));
        }
        let why = self.held_by(&rivals);
        let is_race = is_race && !is_eldest;
        self.state = State::Leaving(attempt, Denied { is_race, why });
        Ok(Step::Next)
    }

    fn try_again(&mut self, denied: Denied) -> Result<Step, ClaimError> {
        self.tries += 1;
        match denied.is_race && self.tries < TRIES {
            true => Ok(Step::Pause(PAUSE.0, PAUSE.1)),
            false => Err(denied.why),
        }
    }

    /// Another process holds the lock. Its claim may not stand yet, or no longer.
    fn name_the_locks_owner(&mut self) -> Result<Step, ClaimError> {
        let store = self.place.store.as_ref();
        let board = Board::look(store)?;
        let others = judge(store, &self.place.host, &board, "", None, Clearance::Nobody)?;
        let is_seen = others.rivals.iter().any(|rival| rival.fate == Fate::Alive);
        let why = ClaimError::Held {
            folder: self.place.folder.clone(),
            holder: holder(&others.rivals),
            can_take_over: false,
        };
        self.lock_tries += 1;
        match !is_seen && self.lock_tries < LOCK_TRIES {
            true => Ok(Step::Pause(LOCK_PAUSE.0, LOCK_PAUSE.1)),
            false => Err(why),
        }
    }

    fn held_by(&self, rivals: &[Rival]) -> ClaimError {
        ClaimError::Held {
            folder: self.place.folder.clone(),
            holder: holder(rivals),
            can_take_over: rivals.iter().all(|rival| rival.fate == Fate::OutOfSight),
        }
    }

    /// Records that the claim called `name` holds no more, for its owner to see.
    fn take_over(&self, name: &str, by: &Claimant) -> Result<(), ClaimError> {
        let release = Release { version: by.version, run: name.to_owned(), by: Some(by.clone()) };
        match self.place.store.create(&names::release(name), &self.place.encode(&release)?) {
            // Its owner, or another run, was faster.
            Ok(_) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The one to name: who is seen alive, else who gave the last sign of life.
fn holder(rivals: &[Rival]) -> Option<Holder> {
    let most = rivals.iter().max_by_key(|rival| (rival.fate == Fate::Alive, rival.last_sign));
    most.and_then(Rival::holder)
}

/// A claim's object: given back when dropped, and its lock after it.
pub(super) struct ClaimObject {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) claimant: Claimant,
    pub(super) lock: FolderLock,
    _sequence: Sequence,
}

impl Drop for ClaimObject {
    fn drop(&mut self) {
        let store = &self.place.store;
        if store.delete(&names::claim(&self.name)).is_err() {
            let claimant = &self.claimant;
            let release =
                Release { version: claimant.version, run: claimant.run.clone(), by: None };
            // Best effort: what stays is seen to be dead on this host, and ages elsewhere.
            if let Ok(json) = self.place.encode(&release) {
                let _ = store.create(&names::release(&self.name), &json);
            }
        }
    }
}
