//! Syncs what was appended, soon and together, on a thread of its own.
//!
//! Once a sync has failed nobody knows what is on the disk, and a second try could hide it: from
//! then on every append is refused.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::store::StoreError;

/// How a file is brought to the disk.
type Sync = fn(&File) -> io::Result<()>;

/// The thread and what waits for it.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    sync: Sync,
}

#[derive(Default)]
struct State {
    unsynced: Vec<Unsynced>,
    failed: Option<Failed>,
    is_closing: bool,
}

#[derive(Clone)]
struct Unsynced {
    path: PathBuf,
    file: Arc<File>,
}

struct Failed {
    path: PathBuf,
    kind: io::ErrorKind,
    raw: Option<i32>,
}

impl Syncer {
    /// Starts the thread; it syncs a write at most `within` after it.
    pub(super) fn start(within: Duration, sync: Sync) -> io::Result<Syncer> {
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { state, changed: Condvar::new(), sync });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal-sync".to_owned());
        let thread = thread.spawn(move || worker.work(within))?;
        Ok(Syncer { shared, thread: Some(thread) })
    }

    /// Takes note that `file` was written to.
    pub(super) fn wrote(&self, path: &Path, file: &Arc<File>) {
        let mut state = self.shared.state();
        if !state.unsynced.iter().any(|unsynced| Arc::ptr_eq(&unsynced.file, file)) {
            let file = Arc::clone(file);
            state.unsynced.push(Unsynced { path: path.to_owned(), file });
            self.shared.changed.notify_all();
        }
    }

    /// Whether all syncs so far succeeded.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match &self.shared.state().failed {
            None => Ok(()),
            Some(Failed { path, kind, raw }) => Err(StoreError::Lasting {
                doing: "syncing",
                name: path.display().to_string(),
                source: raw.map_or_else(|| (*kind).into(), io::Error::from_raw_os_error),
            }),
        }
    }

    /// Syncs here and now what waits.
    pub(super) fn sync_now(&self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.shared.state().unsynced);
        self.shared.sync_all(waiting);
        self.check()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.state().is_closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, within: Duration) {
        let mut state = self.state();
        loop {
            let idle = |state: &mut State| state.unsynced.is_empty() && !state.is_closing;
            state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            let more = |state: &mut State| !state.is_closing;
            let waited = self.changed.wait_timeout_while(state, within, more);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let waiting = std::mem::take(&mut state.unsynced);
            if waiting.is_empty() && state.is_closing {
                return;
            }
            drop(state);
            self.sync_all(waiting);
            state = self.state();
        }
    }

    fn sync_all(&self, waiting: Vec<Unsynced>) {
        for Unsynced { path, file } in waiting {
            if let Err(error) = (self.sync)(&file) {
                let failed = Failed { path, kind: error.kind(), raw: error.raw_os_error() };
                self.state().failed.get_or_insert(failed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn file() -> Arc<File> {
        Arc::new(tempfile::tempfile().unwrap())
    }

    #[test]
    fn writes_close_together_share_a_sync_and_the_last_one_gets_its_own() {
        static SYNCS: AtomicUsize = AtomicUsize::new(0);
        let count: Sync = |_| {
            SYNCS.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let syncer = Syncer::start(Duration::from_secs(3_600), count).unwrap();
        let file = file();
        for _ in 0..100 {
            syncer.wrote(Path::new("a"), &file);
        }
        drop(syncer);
        assert_eq!(SYNCS.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_sync_is_remembered_for_ever() {
        let fail: Sync = |_| Err(io::Error::from_raw_os_error(libc::EIO));
        let syncer = Syncer::start(Duration::ZERO, fail).unwrap();
        syncer.check().unwrap();
        syncer.wrote(Path::new("journal/000001.jsonl"), &file());
        // The thread may have taken it first; either way it is known once the thread is done.
        let _ = syncer.sync_now();
        let shared = Arc::clone(&syncer.shared);
        drop(syncer);
        let failed = shared.state().failed.take().unwrap();
        assert_eq!(
            (failed.path.as_path(), failed.raw),
            (Path::new("journal/000001.jsonl"), Some(libc::EIO))
        );
    }
}
