//! Watches requests on the wire, so that a failure is known by its status and code.
//!
//! object_store's own errors keep these to themselves and show addresses and bodies instead, which
//! may hold what is secret.

use std::cell::RefCell;
use std::future::Future;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use super::error::{Refusal, code_in};

tokio::task_local! {
    static LAST_REFUSAL: RefCell<Option<Refusal>>;
}

/// Runs `work`; with its result comes how its last request was refused, if one was.
pub(super) async fn watched<T>(work: impl Future<Output = T>) -> (T, Option<Refusal>) {
    let work = async {
        let result = work.await;
        (result, LAST_REFUSAL.with(RefCell::take))
    };
    LAST_REFUSAL.scope(RefCell::new(None), work).await
}

/// Notes how a request was refused.
pub(super) fn note(refusal: Refusal) {
    // Requests outside of a watch are nobody's.
    let _ = LAST_REFUSAL.try_with(|last| last.replace(Some(refusal)));
}

/// Makes clients that are watched.
#[derive(Debug)]
pub(super) struct Watch;

impl HttpConnector for Watch {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Fails only if one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(HttpClient::new(Watched { client: ReqwestConnector::default().connect(options)? }))
    }
}

#[derive(Debug)]
struct Watched {
    client: HttpClient,
}

impl Watched {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let transport = |error: HttpError| {
            note(Refusal::Transport(error.kind()));
            error
        };
        let response = self.client.execute(request).await.map_err(transport)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await.map_err(transport)?;
        note(Refusal::Status { status: status.as_u16(), code: code_in(&body) });
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}

impl HttpService for Watched {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        self.exchange(request).boxed()
    }
}
