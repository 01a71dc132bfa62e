//! The thread that commits settled parts, so that a slow disk never holds up a reply.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::domain::Clock;
use crate::output::{OpenOutput, OutputError, PartRecord, SealedPart, Spent};

/// A running writer.
#[derive(Debug)]
pub(super) struct Writer {
    parts: std::sync::mpsc::Sender<(SealedPart, Spent)>,
    written: mpsc::UnboundedReceiver<Result<PartRecord, OutputError>>,
    thread: std::thread::JoinHandle<OpenOutput>,
    pending: usize,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(super) fn start(mut output: OpenOutput, clock: Arc<dyn Clock>) -> std::io::Result<Writer> {
        let (parts, queue) = std::sync::mpsc::channel::<(SealedPart, Spent)>();
        let (report, written) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || {
            for (part, spent) in queue {
                if report.send(output.commit(&part, spent, clock.wall())).is_err() {
                    break;
                }
            }
            output
        })?;
        Ok(Writer { parts, written, thread, pending: 0 })
    }

    /// Hands a part over, with what was spent since the last one.
    pub(super) fn commit(&mut self, part: SealedPart, spent: Spent) {
        // A writer that is gone has reported why; the part's answers stand in the journal.
        if self.parts.send((part, spent)).is_ok() {
            self.pending += 1;
        }
    }

    /// How many parts are not committed yet.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Waits for the next part to be committed; `None` if the thread is gone.
    pub(super) async fn next_written(&mut self) -> Option<Result<PartRecord, OutputError>> {
        let written = self.written.recv().await;
        self.pending = match written {
            Some(_) => self.pending.saturating_sub(1),
            None => 0,
        };
        written
    }

    /// Ends the thread and gives the output back; `None` if the thread panicked.
    pub(super) fn finish(self) -> Option<OpenOutput> {
        drop(self.parts);
        self.thread.join().ok()
    }
}
