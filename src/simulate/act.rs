//! Acts out what was decided about a request: waits, answers, breaks off or hangs.
//!
//! A request that is admitted ends exactly once; if its future is dropped first, the client has
//! left.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};

use super::connections::Connection;
use super::reply::Fate;
use super::server::Server;
use super::tally::Ending;
use super::wire::WireError;

/// How long half a body has to reach the client before the connection breaks.
const HALF_BODY_PAUSE: Duration = Duration::from_millis(20);

/// How an admitted request goes on. Its `wait` is until the first byte.
pub(super) struct Act {
    pub(super) open: OpenRequest,
    pub(super) fate: Fate,
    pub(super) wait: Duration,
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    pub(super) ending: Ending,
    pub(super) headers: Headers,
}

/// Headers of a reply.
pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

impl Act {
    /// Waits as long as the request takes, unless the server ends first, and makes the response.
    pub(super) async fn perform(self: Box<Self>, connection: Connection) -> Response {
        let Act { open, fate, wait, status, body, ending, mut headers } = *self;
        let server = Arc::clone(&open.server);
        let is_closing = if fate.hangs {
            server.closed().await;
            true
        } else if wait.is_zero() {
            false
        } else {
            tokio::select! {
                () = server.closed() => true,
                () = tokio::time::sleep(wait) => false,
            }
        };
        if is_closing {
            open.end(Ending::Closed);
            return error_response(&WireError::shutting_down());
        }
        if fate.fails {
            open.end(Ending::Failed);
            return with_headers(error_response(&WireError::server_error()), headers);
        }
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        headers.push((header::CONTENT_LENGTH, body.len().into()));
        let body = if fate.is_reset {
            open.end(Ending::Reset);
            broken_body(body)
        } else {
            // Ended only when the connection takes the body, so that a client that left before is
            // told from one that was answered.
            Body::from_stream(stream::once(async move {
                open.hand_over(ending, &connection);
                Ok::<_, Infallible>(body)
            }))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        with_headers(response, headers)
    }
}

/// Half of `body`, then a broken connection.
fn broken_body(body: Bytes) -> Body {
    let half = body.slice(..body.len() / 2);
    Body::from_stream(stream::iter([Some(half), None]).then(|part| async move {
        match part {
            Some(half) => Ok(half),
            None => {
                tokio::time::sleep(HALF_BODY_PAUSE).await;
                Err(std::io::Error::other("broken off as told"))
            }
        }
    }))
}

/// An admitted request that has not ended.
pub(super) struct OpenRequest {
    server: Arc<Server>,
    /// Hashes of its rows.
    asked: Vec<u64>,
    /// Those of them that its reply answers properly.
    answered: Vec<u64>,
    is_over: bool,
}

impl OpenRequest {
    /// A request that was just admitted: hashes of its rows, and of those that its reply answers
    /// properly.
    pub(super) fn new(server: Arc<Server>, asked: Vec<u64>, answered: Vec<u64>) -> OpenRequest {
        OpenRequest { server, asked, answered, is_over: false }
    }

    fn end(mut self, ending: Ending) {
        self.close(ending);
    }

    /// Ends it as the connection takes its reply.
    fn hand_over(mut self, ending: Ending, connection: &Connection) {
        self.close(ending);
        connection.hand_over(&self.answered);
    }

    fn close(&mut self, ending: Ending) {
        if !self.is_over {
            self.is_over = true;
            self.server.tally().end(ending, &self.asked, &self.answered);
        }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.close(Ending::Disconnected);
    }
}

pub(super) fn error_response(error: &WireError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(error.to_json())).into_response()
}

pub(super) fn with_headers(mut response: Response, headers: Headers) -> Response {
    response.headers_mut().extend(headers);
    response
}
