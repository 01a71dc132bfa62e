//! The thread on which requests to object storage run, so that callers may block.
//!
//! Callers are plain threads and also tasks of the run's own runtime, which must not be blocked on
//! from within; so requests have a runtime of their own, one worker for the whole process.

use std::future::Future;
use std::io;
use std::sync::{OnceLock, mpsc};

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();

fn handle() -> io::Result<&'static Handle> {
    let start = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(8).thread_name("cloud").enable_all();
        builder.build().ok()
    };
    let runtime = RUNTIME.get_or_init(start).as_ref();
    runtime.map(Runtime::handle).ok_or_else(|| io::Error::other("the system has no thread left"))
}

/// Runs `work` to its end, blocking the calling thread.
///
/// # Errors
/// If the system has no thread left, or `work` panicked.
pub(super) fn wait_for<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    let (done, ended) = mpsc::sync_channel(1);
    handle()?.spawn(async move {
        // The caller waits for as long as the work takes.
        let _ = done.send(work.await);
    });
    ended.recv().map_err(|_| io::Error::other("a request broke off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_waited_for_from_a_plain_thread_and_from_within_a_runtime() {
        assert_eq!(wait_for(async { 7 }).unwrap(), 7);
        let other = Builder::new_current_thread().build().unwrap();
        assert_eq!(other.block_on(async { wait_for(async { 8 }).unwrap() }), 8);
    }
}
