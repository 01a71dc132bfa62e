//! The claims of an output, as one listing shows them, and which of them live.
//!
//! Ages are differences of the storage's own times: no machine's clock is compared with another's.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::names::{self, CONTROL, Sign};
use super::super::store::{Store, StoreError, Stored, Version};
use super::claimant::{Claimant, Fate, Host};
use super::error::Holder;
use super::folder_lock::Clearance;
use crate::domain::UnixMillis;

/// A claim without a sign of life for this long is dead.
pub(super) const LIFE: Duration = Duration::from_secs(600);
/// Claims this close to each other, by the storage's times, may not have seen each other.
const RACE: Duration = Duration::from_secs(10);

/// The claims in one listing, by name.
#[derive(Debug, Default)]
pub(super) struct Board {
    entries: BTreeMap<String, Entry>,
}

/// What a listing shows of one claim.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Time and version of the claim's own object.
    pub(super) claim: Option<(UnixMillis, Version)>,
    /// The newest time among the claim's object and its heartbeats.
    pub(super) last_sign: UnixMillis,
    /// The highest number of a heartbeat; 0 if there is none.
    pub(super) heartbeats: u32,
    /// Whether it was given back or taken over.
    pub(super) is_released: bool,
    /// Everything that belongs to it, the claim's own object last.
    pub(super) objects: Vec<String>,
}

impl Board {
    /// Lists the claims.
    pub(super) fn look(store: &dyn Store) -> Result<Board, StoreError> {
        Ok(Board::of(&store.list(CONTROL)?))
    }

    fn of(listing: &[Stored]) -> Board {
        let mut board = Board::default();
        for stored in listing {
            let Some((name, sign)) = names::parse_sign(&stored.name) else { continue };
            let entry = board.entries.entry(name.to_owned()).or_default();
            match sign {
                Sign::Claim => entry.claim = Some((stored.modified, stored.version.clone())),
                Sign::Heartbeat(number) => entry.heartbeats = entry.heartbeats.max(number),
                Sign::Release => entry.is_released = true,
            }
            if sign != Sign::Release {
                entry.last_sign = entry.last_sign.max(stored.modified);
            }
            let at = if sign == Sign::Claim { entry.objects.len() } else { 0 };
            entry.objects.insert(at, stored.name.clone());
        }
        board
    }

    /// The claim with this name, if it stands and was not released.
    pub(super) fn standing(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name).filter(|entry| entry.claim.is_some() && !entry.is_released)
    }

    /// Whether the claim with this name was given back or taken over.
    pub(super) fn is_released(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.is_released)
    }

    /// Whether another claim, live or not, was made so long after `last` that its owner may have
    /// taken the one called `own`, which gave its last sign of life then, for dead.
    pub(super) fn has_successor(&self, own: &str, last: UnixMillis, after: Duration) -> bool {
        let mut others = self.entries.iter().filter(|(name, _)| *name != own);
        others.any(|(_, entry)| {
            entry.claim.as_ref().is_some_and(|(made, _)| since(*made, last) >= after)
        })
    }

    /// Everything that belongs to the claim with this name.
    pub(super) fn objects(&self, name: &str) -> &[String] {
        self.entries.get(name).map_or(&[], |entry| &entry.objects)
    }
}

/// A claim of another run that may be live.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) name: String,
    /// What it says; `None` if a later version wrote it.
    pub(super) claimant: Option<Claimant>,
    pub(super) made: UnixMillis,
    pub(super) last_sign: UnixMillis,
    pub(super) fate: Fate,
    /// Whether it was made when one's own was, and holds nothing for sure.
    pub(super) is_young: bool,
}

impl Rival {
    pub(super) fn holder(&self) -> Option<Holder> {
        self.claimant.as_ref().map(|claimant| Holder::of(claimant, self.last_sign))
    }
}

/// The other claims, judged.
#[derive(Debug, Default)]
pub(super) struct Others {
    pub(super) rivals: Vec<Rival>,
    /// Objects of dead claims.
    pub(super) dead: Vec<String>,
}

/// Judges all claims but `own`. `now` is the storage's time, by one's own last sign of life; without
/// it no claim is too old.
///
/// A claim that is no whole JSON was cut in its making. It holds nothing: its owner has not listed
/// yet, and will see one's own when it does.
pub(super) fn judge(
    store: &dyn Store,
    host: &Host,
    board: &Board,
    own: &str,
    now: Option<UnixMillis>,
    clearance: Clearance,
) -> Result<Others, StoreError> {
    let mut others = Others::default();
    for (name, entry) in board.entries.iter().filter(|(name, _)| *name != own) {
        let is_expired = |now: UnixMillis| since(now, entry.last_sign) >= LIFE;
        let (Some((made, _)), false) = (&entry.claim, entry.is_released) else {
            others.dead.extend_from_slice(&entry.objects);
            continue;
        };
        if clearance == Clearance::Everybody || now.is_some_and(is_expired) {
            others.dead.extend_from_slice(&entry.objects);
            continue;
        }
        let claimant = match store.read(&names::claim(name)) {
            Ok(json) => match read_claimant(&json) {
                Some(claimant) => claimant,
                None => continue,
            },
            // Withdrawn since the listing.
            Err(StoreError::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        let fate = claimant.as_ref().map_or(Fate::OutOfSight, |claimant| {
            match clearance == Clearance::ThisBoot && host.is_of_this_boot(claimant) {
                true => Fate::Dead,
                false => host.fate(claimant),
            }
        });
        if fate == Fate::Dead {
            others.dead.extend_from_slice(&entry.objects);
            continue;
        }
        let was_renewed = claimant.as_ref().is_none_or(|it| it.renewals > 0);
        let is_near = |now| since(now, *made).max(since(*made, now)) <= RACE;
        others.rivals.push(Rival {
            name: name.clone(),
            is_young: !was_renewed && entry.heartbeats == 0 && now.is_some_and(is_near),
            claimant,
            made: *made,
            last_sign: entry.last_sign,
            fate,
        });
    }
    Ok(others)
}

/// What a claim says: nothing if it was cut in its making, nobody if a later version wrote it.
fn read_claimant(json: &[u8]) -> Option<Option<Claimant>> {
    let whole: serde_json::Value = serde_json::from_slice(json).ok()?;
    Some(serde_json::from_value(whole).ok())
}

/// The time from `earlier` to `later`; zero if it is the other way round.
pub(super) fn since(later: UnixMillis, earlier: UnixMillis) -> Duration {
    Duration::from_millis(later.0.saturating_sub(earlier.0))
}

/// Removes what dead claims left, until the storage refuses; what stays is passed over.
pub(super) fn sweep(store: &dyn Store, objects: &[String]) {
    let _ = objects.iter().try_for_each(|name| store.delete(name));
}
