//! Any OpenAI-compatible chat service: `POST {base_url}/chat/completions`, one call per question.
//!
//! A call is sent once. Nothing is retried here (only what HTTP/2 guarantees to be unprocessed is
//! sent again by the client), no redirect is followed, since the key would go along, and no
//! environment proxy stands between this machine and itself.

mod body;
mod errors;
mod reply;

use std::error::Error as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response};
use tokio::time::timeout;

use self::body::BodyBuilder;
use self::errors::Refusal;
use super::api_key::ApiKey;
use super::endpoint::{Endpoint, ProviderSetupError};
use super::scrub::scrub;
use super::{ChatReply, ChatRequest, Provider, ProviderError};
use crate::domain::Clock;
use crate::domain::spec::ModelSpec;

/// Most bytes of a reply that are read: far more than any model writes, and little enough that
/// hundreds of runaway replies at once don't exhaust the memory.
pub const MAX_REPLY_BYTES: usize = 8 << 20;

/// Most bytes of an error's body that are read.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Local servers (uvicorn under vLLM) close idle connections after 5 s; a request that is sent on
/// a connection in that moment is lost, so ours are given up first.
const PLAIN_IDLE: Duration = Duration::from_secs(4);

/// Hosted services keep idle connections for a minute and more.
const TLS_IDLE: Duration = Duration::from_secs(50);

/// A chat service.
pub struct OpenAi {
    client: Client,
    endpoint: Endpoint,
    key: Option<ApiKey>,
    bodies: BodyBuilder,
    clock: Arc<dyn Clock>,
    connect_timeout: Duration,
    read_timeout: Duration,
    reply_timeout: Duration,
}

impl OpenAi {
    /// The service at `model.base_url`, asked with `key`. `clock` dates Retry-After headers.
    ///
    /// # Errors
    /// If the address is unsound, the key may not travel there, or the HTTP client can't start.
    pub fn new(
        model: &ModelSpec,
        key: Option<ApiKey>,
        clock: Arc<dyn Clock>,
    ) -> Result<OpenAi, ProviderSetupError> {
        let endpoint = Endpoint::parse(&model.base_url)?;
        if let Some(key) = &key {
            key.may_travel_to(endpoint.chat_completions())?;
        }
        Ok(OpenAi {
            client: client(&endpoint, model.connect_timeout)?,
            endpoint,
            key,
            bodies: BodyBuilder::new(&model.name),
            clock,
            connect_timeout: model.connect_timeout,
            read_timeout: model.read_timeout,
            reply_timeout: model.reply_timeout,
        })
    }

    /// Host, and port unless it is the scheme's own: who gets the rows and the key.
    pub fn authority(&self) -> &str {
        self.endpoint.authority()
    }

    async fn exchange(&self, request: &ChatRequest) -> Result<ChatReply, ProviderError> {
        let mut http = self
            .client
            .post(self.endpoint.chat_completions().clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(key) = &self.key {
            http = http.header(AUTHORIZATION, key.bearer());
        }
        let sent = http.body(self.bodies.build(request)).send().await;
        let mut response = sent.map_err(|error| self.not_sent(&error))?;
        let refusal = Refusal {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            now: self.clock.wall(),
            key: self.key.as_ref(),
            request,
        };
        if response.status() == reqwest::StatusCode::OK {
            if let Some(error) = refusal.of_a_page() {
                return Err(error);
            }
            let (body, end) = self.read(&mut response, MAX_REPLY_BYTES).await;
            end?;
            return reply::read(&body, &refusal);
        }
        // What came of a broken error body still says more than the break does.
        let (body, _) = self.read(&mut response, MAX_ERROR_BYTES).await;
        Err(refusal.classify(&body))
    }

    /// Reads at most `most` bytes of a body; what was read stands beside how it ended.
    async fn read(
        &self,
        response: &mut Response,
        most: usize,
    ) -> (Vec<u8>, Result<(), ProviderError>) {
        let mut body = Vec::new();
        loop {
            match timeout(self.read_timeout, response.chunk()).await {
                Err(_) => return (body, Err(ProviderError::Timeout { after: self.read_timeout })),
                Ok(Err(error)) => {
                    let message = self.scrubbed(&format!(
                        "{} broke off after {} bytes of its reply: {}",
                        self.authority(),
                        body.len(),
                        innermost(&error)
                    ));
                    return (body, Err(ProviderError::Connection { message, was_sent: true }));
                }
                Ok(Ok(None)) => return (body, Ok(())),
                Ok(Ok(Some(chunk))) if body.len() + chunk.len() > most => {
                    body.extend_from_slice(&chunk[..most - body.len()]);
                    let error = ProviderError::ServerError {
                        status: response.status().as_u16(),
                        message: format!("its reply is longer than {most} bytes"),
                        retry_after: None,
                    };
                    return (body, Err(error));
                }
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            }
        }
    }

    fn not_sent(&self, error: &reqwest::Error) -> ProviderError {
        let host = self.authority();
        let message = if error.is_connect() && error.is_timeout() {
            format!("no connection to {host} within {} s", self.connect_timeout.as_secs_f64())
        } else if error.is_connect() {
            format!("no connection to {host}: {}", innermost(error))
        } else {
            format!("{host} closed the connection without a reply: {}", innermost(error))
        };
        ProviderError::Connection {
            message: self.scrubbed(&message),
            was_sent: !error.is_connect(),
        }
    }

    fn scrubbed(&self, message: &str) -> String {
        scrub(message, self.key.as_ref(), "")
    }
}

impl Provider for OpenAi {
    fn ask<'a>(
        &'a self,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<ChatReply, ProviderError>> {
        Box::pin(async move {
            match timeout(self.reply_timeout, self.exchange(request)).await {
                Ok(reply) => reply,
                Err(_) => Err(ProviderError::Timeout { after: self.reply_timeout }),
            }
        })
    }
}

fn client(endpoint: &Endpoint, connect_timeout: Duration) -> Result<Client, ProviderSetupError> {
    // An error only says that this process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("batchclass/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(usize::MAX)
        .pool_idle_timeout(if endpoint.is_https() { TLS_IDLE } else { PLAIN_IDLE });
    if endpoint.is_loopback() {
        // A name of this machine must mean this machine, whatever a resolver or a proxy says.
        let loopback = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ];
        builder = builder.no_proxy().resolve_to_addrs("localhost", &loopback);
    }
    if !endpoint.is_https() {
        // A machine without root certificates can still reach a server that needs none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| ProviderSetupError::Client { message: innermost(&error) })
}

/// The words of the error at the bottom: the ones above it repeat the URL and say no more.
fn innermost(error: &reqwest::Error) -> String {
    let Some(mut inner) = error.source() else { return "no further detail".to_owned() };
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests;
