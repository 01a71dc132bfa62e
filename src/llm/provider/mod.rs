//! Whoever answers: one method, one request, one reply.
//!
//! A provider sends once. It never retries, sleeps or steps down by itself, since every attempt is
//! charged and has to pass the governor.

pub mod api_key;
pub mod endpoint;
pub mod lexical;
pub mod openai;
mod rate_headers;
#[doc(hidden)]
pub mod scripted;
mod scrub;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use crate::domain::{Charge, Tokens, Usage};

pub use api_key::ApiKey;
pub use endpoint::{Endpoint, ProviderSetupError};
pub use openai::OpenAi;

/// Asks a model one question.
pub trait Provider: Send + Sync {
    /// Sends `request` once and reads the whole reply.
    ///
    /// # Errors
    /// See [`ProviderError`]: each says whose move it is.
    fn ask<'a>(
        &'a self,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<ChatReply, ProviderError>>;
}

/// One question.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// The fixed part: instructions, labels, the answer's form. The same bytes in every call.
    pub system: Arc<str>,
    /// The rows, one a line.
    pub user: String,
    /// How the reply's form is enforced.
    pub format: ResponseFormat,
    /// Most tokens that the reply may have, hidden reasoning included.
    pub max_completion_tokens: Tokens,
    /// What the model was known to take when the request was built; a refusal is judged by it.
    pub dialect: Dialect,
}

/// How the reply's form is enforced by the service.
#[derive(Clone, Debug)]
pub enum ResponseFormat {
    /// A strict JSON schema.
    Schema(Arc<serde_json::Value>),
    /// Any JSON object.
    JsonObject,
    /// Free text.
    Text,
}

/// A reply, as it was read.
#[derive(Clone, Debug)]
pub struct ChatReply {
    /// The text of the reply; empty if there was none.
    pub content: String,
    /// Why it ended.
    pub finish: Finish,
    /// What the provider says that the call used; absent with some gateways.
    pub usage: Option<Usage>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// What the reply's headers say of the limits.
    pub rate: Box<RateHeaders>,
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model was done.
    Stop,
    /// The reply reached `max_completion_tokens` and was cut.
    Length,
    /// The model or a content filter refused the request as a whole.
    Refused,
}

/// What a reply's headers say of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateHeaders {
    /// Of tokens, a minute's.
    pub tokens: Reading,
    /// Of requests: a minute's with most services, a day's with some.
    pub requests: Reading,
    /// Of input tokens, a minute's.
    pub input: Reading,
    /// Of output tokens, a minute's.
    pub output: Reading,
    /// Of tokens, where the header says that they are a day's.
    pub tokens_day: Reading,
    /// Of requests, where the header says that they are a day's.
    pub requests_day: Reading,
}

/// What headers say of one limit. `None` is unknown: absent, negative, or a zero that can't be
/// meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The limit.
    pub limit: Option<u64>,
    /// What is left of it; zero only where a reset time says until when.
    pub remaining: Option<u64>,
    /// Until it is whole again.
    pub reset: Option<Duration>,
}

impl Reading {
    fn has_room_for(self, tokens: Tokens) -> Option<bool> {
        self.remaining.map(|remaining| remaining >= u64::from(tokens.0))
    }
}

impl RateHeaders {
    /// The same without the times at which limits are whole again: a 429 that says when to come back
    /// knows better, since room for one call is there before that.
    #[must_use]
    pub fn without_resets(self) -> RateHeaders {
        let without = |reading: Reading| Reading { reset: None, ..reading };
        RateHeaders {
            tokens: without(self.tokens),
            requests: without(self.requests),
            input: without(self.input),
            output: without(self.output),
            ..self
        }
    }

    /// Whether they say that a call of `charge` fits into every limit on tokens that they tell of.
    /// False if they tell of none.
    pub fn have_room_for(&self, charge: Charge) -> bool {
        let readings = [
            self.tokens.has_room_for(charge.tokens),
            self.input.has_room_for(charge.input),
            self.output.has_room_for(charge.output),
            self.tokens_day.has_room_for(charge.tokens),
        ];
        let requests = [self.requests, self.requests_day];
        let none_left = requests.iter().any(|reading| reading.remaining == Some(0));
        let mut told = readings.into_iter().flatten().peekable();
        told.peek().is_some() && told.all(|fits| fits) && !none_left
    }
}

/// Why there is no reply. No variant holds a key, a row's text or a URL with a query.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// HTTP 400 that names a parameter of ours: drop it or step down, then ask again.
    #[error("the model refused the parameter `{parameter}`")]
    ParameterRefused {
        /// `response_format`, `temperature`, `reasoning_effort`, `max_completion_tokens` ...
        parameter: String,
        /// The provider's own words, cut to 300 characters and scrubbed of quoted input.
        message: String,
    },
    /// The request as a whole was refused for what is in it: halve it.
    #[error("the provider refused the request's content")]
    ContentRefused,
    /// The request is longer than the model's context: halve it.
    #[error("the request is longer than the model's context")]
    TooLong,
    /// HTTP 429 for the rate: wait, then ask again.
    #[error("the provider's rate limit was reached")]
    RateLimited {
        /// How long to wait, if it said so.
        retry_after: Option<Duration>,
        /// What the headers say of the limits.
        rate: Box<RateHeaders>,
    },
    /// The account has no money or quota left, or a spend limit was reached: stop.
    #[error("the account is out of quota: {message}")]
    OutOfQuota {
        /// The provider's own words.
        message: String,
    },
    /// HTTP 401, 403 or 404, or another 4xx that no retry mends: stop.
    #[error("the provider answered {status}: {message}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The provider's own words.
        message: String,
    },
    /// HTTP 5xx or 529, a reply that is no chat completion, a proxy's page: back off.
    #[error("the provider failed with {status}: {message}")]
    ServerError {
        /// The HTTP status.
        status: u16,
        /// What was wrong, in words.
        message: String,
        /// How long to wait, if it said so.
        retry_after: Option<Duration>,
    },
    /// No connection, or one that broke before the reply was whole: back off.
    #[error("the connection failed: {message}")]
    Connection {
        /// What was wrong, in words.
        message: String,
        /// Whether the request may have reached the provider, which may then bill it.
        was_sent: bool,
    },
    /// No reply in time: back off.
    #[error("no reply within {} s", .after.as_secs())]
    Timeout {
        /// The timeout that passed.
        after: Duration,
    },
}

impl ProviderError {
    /// A word for events and counts.
    pub fn kind(&self) -> &'static str {
        match self {
            ProviderError::ParameterRefused { .. } => "parameter_refused",
            ProviderError::ContentRefused => "content_refused",
            ProviderError::TooLong => "context_length",
            ProviderError::RateLimited { .. } => "rate_limited",
            ProviderError::OutOfQuota { .. } => "out_of_quota",
            ProviderError::Rejected { .. } => "rejected",
            ProviderError::ServerError { .. } => "server_error",
            ProviderError::Connection { .. } => "connection",
            ProviderError::Timeout { .. } => "timeout",
        }
    }

    /// The HTTP status, where it is known: several can mean the same to a run.
    pub fn status(&self) -> Option<u16> {
        match self {
            ProviderError::RateLimited { .. } => Some(429),
            ProviderError::Rejected { status, .. } | ProviderError::ServerError { status, .. } => {
                Some(*status)
            }
            ProviderError::ParameterRefused { .. }
            | ProviderError::ContentRefused
            | ProviderError::TooLong
            | ProviderError::OutOfQuota { .. }
            | ProviderError::Connection { .. }
            | ProviderError::Timeout { .. } => None,
        }
    }

    /// Whether the same request may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            ProviderError::RateLimited { .. }
                | ProviderError::ServerError { .. }
                | ProviderError::Connection { .. }
                | ProviderError::Timeout { .. }
        )
    }
}
