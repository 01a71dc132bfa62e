//! What is said between the governor and whoever sends the calls.

use std::time::Duration;

use super::ledger::Leaves;
use crate::domain::event::WaitFor;
use crate::domain::{Moment, Tokens};
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
    /// The call alone is over the limit and can never start.
    Never {
        /// The limit, tokens a minute.
        limit: u64,
    },
}

/// A call in flight. Ends once; ending it again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub(super) number: u64,
    pub(super) sent: Moment,
    pub(super) tokens: Tokens,
    pub(super) leaves: Leaves,
    /// What stood in the ledger with this call just sent.
    pub(super) window_tokens: u64,
    pub(super) window_requests: u64,
}

/// Why a call failed. It stays charged in full: providers count failed calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// HTTP 429 for the rate.
    RateLimited {
        /// How long to wait, if it said so.
        retry_after: Option<Duration>,
        /// Whether the server counts the tokens of a call that it turned away. The request counts
        /// in any case.
        charged: bool,
    },
    /// HTTP 5xx or 529, a timeout, a dropped connection.
    Capacity {
        /// How long to wait, if it said so.
        retry_after: Option<Duration>,
    },
    /// The request itself was turned down, or the run stops: nothing is learned about capacity.
    Refused,
}

impl From<&ProviderError> for Failure {
    fn from(error: &ProviderError) -> Failure {
        match error {
            ProviderError::RateLimited { retry_after, .. } => {
                Failure::RateLimited { retry_after: *retry_after, charged: true }
            }
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

/// A charge of an earlier run, or of one that crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastCharge {
    /// How long ago the call was sent.
    pub age: Duration,
    /// What it was charged; the whole reservation if it was never settled.
    pub tokens: Tokens,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_a_retry_is_a_matter_of_capacity_and_nothing_else_is() {
        let rate = crate::llm::provider::RateHeaders::default();
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
            ProviderError::Connection { message: message() },
            ProviderError::Timeout { after: Duration::from_secs(300) },
        ];
        for error in &errors {
            let is_capacity = Failure::from(error) != Failure::Refused;
            assert_eq!(is_capacity, error.is_retryable(), "{error}");
        }
        assert_eq!(Failure::from(&errors[6]), Failure::Capacity { retry_after: wait });
    }
}
