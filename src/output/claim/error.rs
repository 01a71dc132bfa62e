//! Why a run may not write, or no longer: who else does, since when, and whose move it is.

use std::fmt;

use super::super::store::StoreError;
use super::claimant::Claimant;
use crate::domain::UnixMillis;

/// Who holds an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The run's machine.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// When it began, by its machine's clock.
    pub since: UnixMillis,
    /// Its last sign of life, by the storage's clock.
    pub last_sign: UnixMillis,
}

impl Holder {
    pub(super) fn of(claimant: &Claimant, last_sign: UnixMillis) -> Holder {
        Holder {
            host: claimant.host.clone(),
            pid: claimant.pid,
            since: claimant.started,
            last_sign,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { host, pid, since, last_sign } = self;
        write!(f, "process {pid} on {host}, since {}", time(*since))?;
        if *last_sign > UnixMillis(0) {
            write!(f, ", last sign of life {}", time(*last_sign))?;
        }
        Ok(())
    }
}

/// Why there is no claim, or no longer one. `folder` is the output's control folder.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another run is at work.
    #[error("another run writes to {folder}: {}; {}", name(.holder.as_ref()), remedy(*.can_take_over))]
    Held {
        /// Where.
        folder: String,
        /// Who, if its claim can be read.
        holder: Option<Holder>,
        /// Whether it could be taken over: it is not seen to be alive.
        can_take_over: bool,
    },
    /// The storage does not list what it has just stored.
    #[error(
        "{folder} does not list the claim that was just written there, so that two runs could not \
         be told apart; if it is a mount, switch its caching of listings off, or try again"
    )]
    Unlisted {
        /// Where.
        folder: String,
    },
    /// Another run has taken over.
    #[error(
        "another run has taken over {folder}{}; this one stops before its next call, its paid \
         answers stand in its journal; run it again when the other has ended",
        .by.as_ref().map_or_else(String::new, |by| format!(": {by}"))
    )]
    Lost {
        /// Where.
        folder: String,
        /// Who, if its claim can be read.
        by: Option<Holder>,
    },
    /// The claim could not be renewed, and has lapsed.
    #[error(
        "the claim on {folder} could not be renewed for {minutes} minutes, so that another run may \
         take it for dead ({cause}); look after the storage, then run it again"
    )]
    Unproven {
        /// Where.
        folder: String,
        /// For how long renewing has failed.
        minutes: u64,
        /// What the storage said last.
        cause: String,
    },
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn name(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "it holds the folder's lock on this host".to_owned(), Holder::to_string)
}

fn remedy(can_take_over: bool) -> &'static str {
    match can_take_over {
        true => "wait for it, stop it, or, if you know that it is dead, use --takeover",
        false => "wait for it or stop it",
    }
}

fn time(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok().and_then(chrono::DateTime::from_timestamp_millis);
    at.map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Option<Holder> {
        Some(Holder {
            host: "build-7".into(),
            pid: 4711,
            since: UnixMillis(1_800_000_000_000),
            last_sign: UnixMillis(1_800_000_060_000),
        })
    }

    #[test]
    fn a_second_run_is_told_who_since_when_and_what_to_do() {
        let held = |holder, can_take_over| {
            ClaimError::Held { folder: "out/_batchclass".into(), holder, can_take_over }.to_string()
        };
        assert_eq!(
            held(holder(), true),
            "another run writes to out/_batchclass: process 4711 on build-7, since 2027-01-15 \
             08:00:00 UTC, last sign of life 2027-01-15 08:01:00 UTC; wait for it, stop it, or, \
             if you know that it is dead, use --takeover"
        );
        assert!(held(holder(), false).ends_with("; wait for it or stop it"));
        assert!(held(None, false).contains("it holds the folder's lock on this host"));
    }

    #[test]
    fn a_run_that_lost_its_claim_is_told_to_whom() {
        let lost = |by| ClaimError::Lost { folder: "s3://b/out/_batchclass".into(), by };
        assert!(lost(holder()).to_string().contains("process 4711 on build-7"));
        assert!(lost(None).to_string().contains("taken over s3://b/out/_batchclass; this one"));
    }
}
