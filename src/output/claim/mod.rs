//! One writer for an output: claim, then look; an owner says again and again that it lives.
//!
//! A claim is an object. Exclusive creation and locks are no exclusion where other kernels write,
//! so it rests on this: of two that each claim and then list, the later sees the earlier. A lock on
//! the control folder decides sooner where it can be trusted.

mod board;
mod claimant;
mod contender;
mod error;
mod folder_lock;
mod pauses;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::board::{Board, Entry, judge, since};
pub use self::claimant::Claimant;
pub(super) use self::claimant::Host;
use self::contender::{ClaimObject, Contender, Step};
pub use self::error::{ClaimError, Holder};
use self::folder_lock::Clearance;
pub(super) use self::folder_lock::Lockable;
pub(super) use self::pauses::{Pauses, Sleep};
use super::names;
use super::store::{Store, StoreError, Version, version_of};
use crate::domain::UnixMillis;

/// How often an owner says that it lives.
pub const RENEW_EVERY: Duration = Duration::from_secs(120);
/// How soon it tries again when it could not say so.
pub const RETRY_RENEWAL_AFTER: Duration = Duration::from_secs(10);
/// An owner that has not said so for this long has to prove its claim anew. Shorter than others
/// wait ([`board::LIFE`]) by what storage may take to show a sign of life.
const LAPSE: Duration = Duration::from_secs(480);

/// How many heartbeats are tried before a storage that has them all is not believed.
const BEATS: u32 = 10;

/// Where claims are made, and what is known of the storage there.
#[derive(Clone)]
pub(super) struct Place {
    /// Where the objects are.
    pub(super) store: Arc<dyn Store>,
    /// The control folder, as messages name it.
    pub(super) folder: String,
    /// What a lock on the control folder is worth.
    pub(super) lockable: Lockable,
    /// Whether a listing shows at once what other machines have stored.
    pub(super) has_fresh_listings: bool,
    /// The machine.
    pub(super) host: Host,
}

/// Who claims.
#[derive(Clone, Debug)]
pub(super) struct ClaimSpec {
    /// The run's name.
    pub(super) run: String,
    /// When it began, by this machine's clock.
    pub(super) started: UnixMillis,
    /// Whether a claim that is not seen to be alive is taken over.
    pub(super) takeover: bool,
}

/// This run's right to write; given back when dropped.
pub struct Claim {
    object: ClaimObject,
    /// Held while storage is asked.
    signs: Mutex<Signs>,
    /// Held for a moment only.
    pulse: Mutex<Pulse>,
}

/// The signs of life that were given.
struct Signs {
    /// Of the claim's object.
    version: Version,
    renewals: u64,
    /// The number of the last heartbeat; 0 as long as the claim's object is replaced instead.
    heartbeats: u32,
    can_replace: bool,
    can_delete: bool,
    /// The last one, by the storage's clock.
    last: UnixMillis,
}

/// What is known of the claim without asking storage.
struct Pulse {
    /// By this machine's clock.
    renewed: UnixMillis,
    lost: Option<Loss>,
}

#[derive(Clone)]
struct Loss {
    by: Option<Holder>,
}

/// How a claim stands.
#[derive(Debug)]
pub enum Standing {
    /// It holds.
    Held,
    /// Others may take it for dead: it has to be proved anew before anything is paid or written.
    Lapsed,
    /// It holds no more, for this reason; the run has to stop.
    Lost(ClaimError),
}

/// Says that a claim holds no more.
#[derive(Debug, Serialize, Deserialize)]
struct Release {
    version: u32,
    /// Whose claim it was.
    run: String,
    /// Who has taken over; nobody if it was given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Claimant>,
}

impl Place {
    fn encode(&self, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
        let json = serde_json::to_vec(value);
        json.map_err(|error| StoreError::from_io("claiming", self.folder.clone(), error.into()))
    }

    /// What a person should know before relying on claims here.
    pub(super) fn warning(&self) -> Option<String> {
        (!self.has_fresh_listings).then(|| {
            format!(
                "{} is on a mount whose listings may be minutes old, so that a run on another host \
                 may go unnoticed: run this job from one host only",
                self.folder
            )
        })
    }
}

impl Claim {
    /// Claims the output, waiting a few seconds at most for others that are at it too.
    ///
    /// # Errors
    /// [`ClaimError::Held`] if another run is at work; nothing of this claim holds then.
    pub(super) fn acquire(
        place: Place,
        spec: ClaimSpec,
        pauses: &mut dyn Pauses,
    ) -> Result<Claim, ClaimError> {
        let mut contender = Contender::new(place, spec);
        loop {
            match contender.step()? {
                Step::Next => {}
                Step::Pause(least, most) => pauses.pause(least, most),
                Step::Owned(claim) => return Ok(*claim),
            }
        }
    }

    fn new(object: ClaimObject, listed: &Entry, started: UnixMillis) -> Claim {
        let version = listed.claim.as_ref().map(|(_, version)| version.clone());
        let signs = Signs {
            version: version.unwrap_or_else(|| Version("".into())),
            renewals: 0,
            heartbeats: 0,
            can_replace: true,
            can_delete: true,
            last: listed.last_sign,
        };
        let pulse = Pulse { renewed: started, lost: None };
        Claim { object, signs: Mutex::new(signs), pulse: Mutex::new(pulse) }
    }

    /// The control folder, as messages name it.
    pub fn folder(&self) -> &str {
        &self.object.place.folder
    }

    /// How the claim stands at `wall`, by this machine's clock. Asks no storage.
    ///
    /// The clock is the wall's, since a monotonic one stands still in a suspended machine. One that
    /// was set makes the claim look lapsed at worst, which costs a listing.
    pub fn standing(&self, wall: UnixMillis) -> Standing {
        let pulse = self.pulse();
        if let Some(Loss { by }) = &pulse.lost {
            let (folder, by) = (self.folder().to_owned(), by.clone());
            return Standing::Lost(ClaimError::Lost { folder, by });
        }
        match wall < pulse.renewed || since(wall, pulse.renewed) >= LAPSE {
            true => Standing::Lapsed,
            false => Standing::Held,
        }
    }

    /// Makes sure that the claim holds at `wall`, proving it anew if it has lapsed.
    ///
    /// # Errors
    /// [`ClaimError::Lost`] if another run has taken over; if storage fails, nobody knows.
    pub fn hold(&self, wall: UnixMillis) -> Result<(), ClaimError> {
        if let Standing::Lapsed = self.standing(wall) {
            self.renew(wall)?;
        }
        match self.standing(wall) {
            Standing::Lost(error) => Err(error),
            Standing::Held | Standing::Lapsed => Ok(()),
        }
    }

    /// Gives a sign of life, then lists the claims: afterwards the claim holds, or is known to be
    /// lost. `wall` is the time by this machine's clock before the call.
    ///
    /// # Errors
    /// If storage fails; the claim stands as it stood, and lapses in time.
    pub fn renew(&self, wall: UnixMillis) -> Result<(), StoreError> {
        let mut signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        let was_held = match self.standing(wall) {
            Standing::Lost(_) => return Ok(()),
            standing => matches!(standing, Standing::Held),
        };
        self.give_sign(&mut signs)?;
        let board = Board::look(self.store())?;
        let lost = self.loss(&board, &mut signs, was_held)?;
        let mut pulse = self.pulse();
        pulse.lost = lost;
        pulse.renewed = wall;
        Ok(())
    }

    fn give_sign(&self, signs: &mut Signs) -> Result<(), StoreError> {
        if signs.can_replace {
            match self.replace_claim(signs) {
                Err(StoreError::Refused { .. }) => signs.can_replace = false,
                // Gone; the look that follows says so.
                Err(StoreError::NotFound { .. }) => return Ok(()),
                replaced => return replaced,
            }
        }
        self.beat(signs)
    }

    fn replace_claim(&self, signs: &mut Signs) -> Result<(), StoreError> {
        let name = names::claim(&self.object.name);
        let renewals = signs.renewals + 1;
        let renewed = Claimant { renewals, ..self.object.claimant.clone() };
        let json = self.object.place.encode(&renewed)?;
        let replaced = match self.store().replace(&name, &json, &signs.version) {
            Err(StoreError::Changed { .. }) => {
                // An earlier try came through although it failed, or the claim is gone.
                signs.version = version_of(self.store(), &name)?;
                self.store().replace(&name, &json, &signs.version)
            }
            replaced => replaced,
        };
        signs.version = replaced?;
        signs.renewals = renewals;
        Ok(())
    }

    /// A further object, where nothing can be replaced.
    fn beat(&self, signs: &mut Signs) -> Result<(), StoreError> {
        let json = self.object.place.encode(&self.object.claimant)?;
        let mut tries = 0;
        loop {
            signs.heartbeats += 1;
            tries += 1;
            let name = names::heartbeat(&self.object.name, signs.heartbeats);
            match self.store().create(&name, &json) {
                // An earlier try came through although it failed.
                Err(StoreError::AlreadyExists { .. }) if tries < BEATS => {}
                created => break drop(created?),
            }
        }
        if signs.can_delete && signs.heartbeats > 1 {
            let before = names::heartbeat(&self.object.name, signs.heartbeats - 1);
            signs.can_delete = self.store().delete(&before).is_ok();
        }
        Ok(())
    }

    /// Whether the claim is lost, by what stands on the board.
    ///
    /// While it has never lapsed, by this machine's clock and the storage's, other claims are those
    /// of contenders, who see this one. Once it has, one of them may have taken it for dead.
    fn loss(
        &self,
        board: &Board,
        signs: &mut Signs,
        was_held: bool,
    ) -> Result<Option<Loss>, StoreError> {
        let (name, place) = (&self.object.name, &self.object.place);
        let clearance = self.object.lock.clearance;
        let own = board.standing(name);
        let now = own.map(|own| own.last_sign);
        if own.is_some() && was_held && now.is_some_and(|now| since(now, signs.last) < LAPSE) {
            signs.last = now.unwrap_or(signs.last);
            return Ok(None);
        }
        let others = judge(self.store(), &place.host, board, name, now, clearance)?;
        let by = match board.is_released(name) {
            true => self.successor()?,
            false => None,
        };
        let newest = others.rivals.iter().max_by_key(|rival| rival.last_sign);
        let by = by.or_else(|| newest.and_then(|rival| rival.holder()));
        // One that came and went has written; what this run knows of the output is old then.
        let has_successor =
            clearance != Clearance::Everybody && board.has_successor(name, signs.last, LAPSE);
        signs.last = now.unwrap_or(signs.last);
        let is_lost = own.is_none() || newest.is_some() || has_successor;
        Ok(is_lost.then_some(Loss { by }))
    }

    /// Who has taken this claim over.
    fn successor(&self) -> Result<Option<Holder>, StoreError> {
        let json = match self.store().read(&names::release(&self.object.name)) {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            json => json?,
        };
        let release = serde_json::from_slice::<Release>(&json).ok();
        Ok(release.and_then(|it| it.by).map(|by| Holder::of(&by, UnixMillis(0))))
    }

    fn store(&self) -> &dyn Store {
        self.object.place.store.as_ref()
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let signs = self.signs.get_mut().unwrap_or_else(PoisonError::into_inner);
        if signs.heartbeats > 0 && signs.can_delete {
            // Best effort: the next run sweeps what stays. The claim's own object goes after it.
            let last = names::heartbeat(&self.object.name, signs.heartbeats);
            let _ = self.object.place.store.delete(&last);
        }
    }
}
