//! Watches connections, to tell replies that a client surely read from those that it may not have.
//!
//! A reply that the kernel took may still die unread in the client's socket. The client confirms
//! what it was sent by sending anything more. If it leaves instead, a reset shows that bytes were
//! left unread (Linux resets a connection that is closed upon unread bytes), and an orderly end
//! within [`GRACE`] leaves it open what the client still did with them. A connection that the
//! server ends says nothing about its client.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::server::Server;
use crate::domain::Moment;

/// How long after a reply an orderly end of its connection leaves it open whether it was read.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// A listener whose connections are watched.
pub(super) struct Connections {
    listener: TcpListener,
    server: Arc<Server>,
}

/// What request handlers know of their connection.
#[derive(Clone)]
pub(super) struct Connection {
    server: Arc<Server>,
    unconfirmed: Arc<Mutex<Unconfirmed>>,
}

/// What a client was sent since it last sent something itself.
#[derive(Debug, Default)]
struct Unconfirmed {
    /// Hashes of the rows that were answered properly.
    rows: Vec<u64>,
    /// When bytes were last handed over.
    handed_over: Moment,
}

/// How a client left.
#[derive(Clone, Copy, Debug)]
struct Leave {
    at: Moment,
    was_reset: bool,
}

/// A connection's bytes on their way.
pub(super) struct Watched {
    stream: TcpStream,
    connection: Connection,
    leave: Option<Leave>,
}

impl Unconfirmed {
    /// The rows that the client may not have read, given how it left.
    fn rows_lost(&mut self, leave: Leave) -> Vec<u64> {
        if leave.was_reset || leave.at.since(self.handed_over) <= GRACE {
            std::mem::take(&mut self.rows)
        } else {
            Vec::new()
        }
    }
}

impl Connections {
    pub(super) fn new(listener: TcpListener, server: Arc<Server>) -> Connections {
        Connections { listener, server }
    }
}

impl Listener for Connections {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Replies are small and whole: waiting to fill a packet only adds latency. Where it can't
        // be turned off, replies are slower and still right.
        let _ = stream.set_nodelay(true);
        let server = Arc::clone(&self.server);
        let connection = Connection { server, unconfirmed: Arc::default() };
        (Watched { stream, connection, leave: None }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Connections>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Connection {
        stream.io().connection.clone()
    }
}

impl Connection {
    /// Remembers the rows that a reply answers properly; its bytes follow at once.
    pub(super) fn hand_over(&self, rows: &[u64]) {
        let now = self.server.now();
        let mut unconfirmed = self.unconfirmed();
        unconfirmed.rows.extend_from_slice(rows);
        unconfirmed.handed_over = now;
    }

    fn unconfirmed(&self) -> MutexGuard<'_, Unconfirmed> {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn note_leave(&mut self, was_reset: bool) {
        let at = self.connection.server.now();
        self.leave.get_or_insert(Leave { at, was_reset });
    }

    fn note_write(&mut self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(_)) => {
                self.connection.unconfirmed().handed_over = self.connection.server.now();
            }
            Poll::Ready(Err(_)) => self.note_leave(true),
            Poll::Pending => {}
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(leave) = self.leave {
            let rows = self.connection.unconfirmed().rows_lost(leave);
            self.connection.server.tally().lose(&rows);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        match &read {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                self.connection.unconfirmed().rows.clear();
            }
            Poll::Ready(Ok(())) => self.note_leave(false),
            Poll::Ready(Err(_)) => self.note_leave(true),
            Poll::Pending => {}
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_or_an_end_within_the_grace_loses_what_was_handed_over() {
        let second = Duration::from_secs(1);
        let lost_after = |wait: Duration, was_reset| {
            let mut unconfirmed = Unconfirmed { rows: vec![7], handed_over: Moment(second) };
            unconfirmed.rows_lost(Leave { at: Moment(second) + wait, was_reset })
        };
        let too_long = GRACE + Duration::from_nanos(1);
        assert_eq!(lost_after(GRACE, false), [7]);
        assert!(lost_after(too_long, false).is_empty());
        assert_eq!(lost_after(too_long, true), [7]);
    }
}
