//! The liar: a store that fails at its n-th call, in the ways that real storage does.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{Store, StoreError, Stored, Version};

/// How the chosen call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens; a retry may succeed.
    Passing,
    /// Nothing happens; the disk is full.
    Lasting,
    /// It happens, and an error is returned all the same.
    ErrorButDone,
    /// A write leaves the first half of its bytes under the final name.
    Torn,
}

/// What the calls after the chosen one do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// They succeed.
    Recovers,
    /// They fail: the process was killed at the chosen call, or the storage is gone.
    StaysDown,
}

/// A store in front of another that fails at one call.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    at: AtomicU64,
    fault: Fault,
    then: Then,
    calls: AtomicU64,
}

impl FaultyStore {
    /// Fails at call `at`, counted from 1.
    pub fn new(inner: Arc<dyn Store>, at: u64, fault: Fault, then: Then) -> FaultyStore {
        let (at, calls) = (AtomicU64::new(at), AtomicU64::new(0));
        FaultyStore { inner, at, fault, then, calls }
    }

    /// Fails at the `further`-th call from now on, counted from 1.
    pub fn fail_at_next(&self, further: u64) {
        self.at.store(self.calls() + further, Ordering::SeqCst);
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn next_fault(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let at = self.at.load(Ordering::SeqCst);
        match self.then {
            _ if call == at => Some(self.fault),
            Then::StaysDown if call > at => Some(Fault::Lasting),
            _ => None,
        }
    }

    fn act<T>(
        &self,
        name: &str,
        whole: impl FnOnce() -> Result<T, StoreError>,
        half: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(fault) = self.next_fault() else { return whole() };
        match fault {
            Fault::Passing | Fault::Lasting => {}
            Fault::ErrorButDone => drop(whole()?),
            Fault::Torn => drop(half()?),
        }
        let kind = match fault {
            Fault::Passing => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::StorageFull,
        };
        Err(StoreError::from_io("using", name.to_owned(), kind.into()))
    }
}

impl Store for FaultyStore {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        self.act(
            name,
            || self.inner.create(name, bytes),
            || self.inner.create(name, &bytes[..bytes.len() / 2]),
        )
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError> {
        self.act(
            name,
            || self.inner.replace(name, bytes, seen),
            || self.inner.replace(name, &bytes[..bytes.len() / 2], seen),
        )
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        let read = || self.inner.read(name);
        self.act(name, read, read)
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        let read = || self.inner.read_end(name, bytes);
        self.act(name, read, read)
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        let list = || self.inner.list(folder);
        self.act(folder, list, list)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let delete = || self.inner.delete(name);
        self.act(name, delete, delete)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    #[test]
    fn it_fails_at_the_chosen_call_in_the_chosen_way() {
        let inner = Arc::new(MemoryStore::default());
        let store = FaultyStore::new(inner.clone(), 2, Fault::Torn, Then::Recovers);
        store.create("a", b"1234").unwrap();
        store.create("b", b"1234").unwrap_err();
        store.create("c", b"1234").unwrap();
        assert_eq!(&inner.read("b").unwrap()[..], b"12");

        let store = FaultyStore::new(inner.clone(), 1, Fault::ErrorButDone, Then::StaysDown);
        store.create("d", b"1234").unwrap_err();
        store.create("e", b"1234").unwrap_err();
        assert_eq!(&inner.read("d").unwrap()[..], b"1234");
        assert!(inner.read("e").is_err());
    }
}
