//! What is said between the governor and whoever sends the calls.

use std::time::Duration;

use super::meter::LimitName;
use crate::domain::event::WaitFor;
use crate::domain::{Charge, ChargeSum, Moment};
use crate::llm::provider::ProviderError;

/// Whether a call may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send it, and say so with [`Governor::reserve`](super::Governor::reserve).
    Start,
    /// Ask again at `until`, and sooner if a call ends before.
    Wait {
        /// The smallest moment that suffices; `None` if only the end of a call can help.
        until: Option<Moment>,
        /// What it waits for.
        wait: WaitFor,
    },
    /// The call alone is over a limit and can never start.
    Never {
        /// The limit's name.
        name: LimitName,
        /// The limit.
        limit: u64,
    },
}

/// A call in flight. Ends once; ending it again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub(super) number: u64,
    pub(super) sent: Moment,
    /// The longest that it takes to reach the server's ledger.
    pub(super) transit: Duration,
    pub(super) charge: Charge,
    /// What stood in each ledger with this call just sent, in the order of [`LimitName::ALL`].
    pub(super) standing: [u64; LimitName::ALL.len()],
}

/// Why a call failed. It stays charged in full: providers count failed calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// HTTP 429 for the rate.
    RateLimited {
        /// How long to wait, if it said so.
        retry_after: Option<Duration>,
        /// Whether its headers say that there was room for it: then it is not our rate that is too
        /// high.
        had_room: bool,
    },
    /// HTTP 5xx or 529, a timeout, a dropped connection.
    Capacity {
        /// How long to wait, if it said so.
        retry_after: Option<Duration>,
    },
    /// The request itself was turned down, or the run stops: nothing is learned about capacity.
    Refused,
}

impl Failure {
    /// What `error` says to a call that counts `charge`.
    pub fn of(error: &ProviderError, charge: Charge) -> Failure {
        match error {
            ProviderError::RateLimited { retry_after, rate } => Failure::RateLimited {
                retry_after: *retry_after,
                had_room: rate.have_room_for(charge),
            },
            ProviderError::ServerError { retry_after, .. } => {
                Failure::Capacity { retry_after: *retry_after }
            }
            ProviderError::Connection { .. } | ProviderError::Timeout { .. } => {
                Failure::Capacity { retry_after: None }
            }
            ProviderError::ParameterRefused { .. }
            | ProviderError::ContentRefused
            | ProviderError::TooLong
            | ProviderError::OutOfQuota { .. }
            | ProviderError::Rejected { .. } => Failure::Refused,
        }
    }
}

/// What calls of an earlier run were charged, or of one that crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastCharge {
    /// How long ago the last of them was sent.
    pub age: Duration,
    /// What they were charged; the whole reservation where that was never settled.
    pub charge: ChargeSum,
}

/// Every call waits because of a 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Until then.
    pub until: Moment,
    /// How long the provider asked to wait, if it said so; [`LONGEST_RETRY_AFTER`] at most is
    /// waited.
    ///
    /// [`LONGEST_RETRY_AFTER`]: super::LONGEST_RETRY_AFTER
    pub asked: Option<Duration>,
}

/// A day's limit that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedUp {
    /// Its name.
    pub name: LimitName,
    /// The limit in force.
    pub limit: u64,
    /// From then on there is room for another call.
    pub until: Moment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_a_retry_is_a_matter_of_capacity_and_nothing_else_is() {
        let rate = Box::default();
        let message = String::new;
        let wait = Some(Duration::from_secs(3));
        let errors = [
            ProviderError::ParameterRefused { parameter: message(), message: message() },
            ProviderError::ContentRefused,
            ProviderError::TooLong,
            ProviderError::RateLimited { retry_after: wait, rate },
            ProviderError::OutOfQuota { message: message() },
            ProviderError::Rejected { status: 401, message: message() },
            ProviderError::ServerError { status: 529, message: message(), retry_after: wait },
            ProviderError::Connection { message: message(), was_sent: true },
            ProviderError::Timeout { after: Duration::from_secs(300) },
        ];
        for error in &errors {
            let is_capacity = Failure::of(error, Charge::default()) != Failure::Refused;
            assert_eq!(is_capacity, error.is_retryable(), "{error}");
        }
        let overloaded = Failure::of(&errors[6], Charge::default());
        assert_eq!(overloaded, Failure::Capacity { retry_after: wait });
    }
}
