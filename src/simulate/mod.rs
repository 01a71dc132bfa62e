//! An OpenAI-compatible loopback server to rehearse a job against.
//!
//! It enforces an account's limits exactly, answers with the embedded scorer (or
//! known labels), misbehaves as told, and counts every row, so that what a job will cost, how long
//! it will take and what it does in trouble is known before the first paid call.
//! `docs/simulate.md` is its manual.

mod account;
mod act;
mod answers;
mod connections;
mod gauge;
pub mod gold;
mod gullible;
mod meter;
mod prompt_cache;
pub mod quality;
mod rate_headers;
mod reply;
mod server;
pub mod settings;
mod tally;
mod window;
mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use answers::Answers;
use connections::{Connection, Connections};
use gold::{Gold, GoldError};
use server::Server;
pub use settings::{
    Admission, Faults, HeaderStyle, LimitChange, MinuteKind, Refusal, RefusedParameter, Settings,
    SettingsError,
};
pub use tally::Stats;

/// The port unless another is given.
pub const DEFAULT_PORT: u16 = 8080;

/// How long a shutdown waits for connections that are still sending.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The gold file can't be used.
    #[error(transparent)]
    Gold(#[from] GoldError),
    /// The port can't be had.
    #[error("can't listen on 127.0.0.1:{port}; choose another port, or 0 for any free one")]
    Listen {
        /// The port.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A server that runs until [`Running::shutdown`] or until this is dropped.
pub struct Running {
    address: SocketAddr,
    server: Arc<Server>,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Starts a server on the loopback interface, on the current tokio runtime; port 0 takes any free
/// one. It listens when this returns.
///
/// # Errors
/// If a setting is out of range, the gold file can't be used or the port is taken.
pub async fn serve(settings: Settings, port: u16) -> Result<Running, SimulateError> {
    settings.check()?;
    let gold = match &settings.gold {
        Some(path) => {
            Some(Gold::read(path, &settings.gold_text_column, &settings.gold_label_column)?)
        }
        None => None,
    };
    if !settings.fixed_answer {
        // The vocabulary takes a moment to load; no request should wait for it.
        crate::llm::fitted_prompt::count_tokens("");
    }
    let unheard = |source| SimulateError::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(unheard)?;
    let address = listener.local_addr().map_err(unheard)?;

    let (closing, is_closing) = watch::channel(false);
    let answers = Answers {
        gold,
        is_fixed: settings.fixed_answer,
        quality: settings.quality.clone(),
        seed: settings.seed,
    };
    let server = Arc::new(Server::new(settings, answers, is_closing.clone()));
    let connections = Connections::new(listener, Arc::clone(&server));
    let service =
        server::router(Arc::clone(&server)).into_make_service_with_connect_info::<Connection>();
    let closed = async move {
        let mut is_closing = is_closing;
        let _ = is_closing.wait_for(|is_closing| *is_closing).await;
    };
    let task = tokio::spawn(async move {
        // It only ends when it is told to, and never with an error.
        let _ = axum::serve(connections, service).with_graceful_shutdown(closed).await;
    });
    Ok(Running { address, server, closing, task })
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a job's `base_url` has to be.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What `GET /stats` answers.
    pub fn stats(&self) -> Stats {
        self.server.tally().stats()
    }

    /// Ends the server: nothing new is taken, open requests are answered 503. Returns when all
    /// connections are closed, after 5 s at the latest.
    pub async fn shutdown(self) {
        // Without a receiver there is nobody left to tell.
        let _ = self.closing.send(true);
        let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, self.task).await;
    }
}

#[cfg(test)]
mod tests;
