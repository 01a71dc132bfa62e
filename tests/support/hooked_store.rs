//! A store in front of another that asks a hook before and after each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use batchclass::output::store::{Store, StoreError, Stored, Version};
use bytes::Bytes;

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Nothing has happened; an error of the hook is all that happens.
    Before,
    /// It has happened; an error of the hook is what the caller hears.
    After,
}

/// One call, before or after it happens.
pub struct Step<'a> {
    /// Its number, from 1.
    pub call: u64,
    pub when: When,
    pub name: &'a str,
}

type Hook = dyn Fn(&Step<'_>) -> Result<(), StoreError> + Send + Sync;

pub struct HookedStore {
    inner: Arc<dyn Store>,
    hook: Box<Hook>,
    calls: AtomicU64,
}

impl HookedStore {
    pub fn new(
        inner: Arc<dyn Store>,
        hook: impl Fn(&Step<'_>) -> Result<(), StoreError> + Send + Sync + 'static,
    ) -> HookedStore {
        HookedStore { inner, hook: Box::new(hook), calls: AtomicU64::new(0) }
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn call<T>(
        &self,
        name: &str,
        act: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        (self.hook)(&Step { call, when: When::Before, name })?;
        let done = act();
        (self.hook)(&Step { call, when: When::After, name })?;
        done
    }
}

impl Store for HookedStore {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        self.call(name, || self.inner.create(name, bytes))
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError> {
        self.call(name, || self.inner.replace(name, bytes, seen))
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        self.call(name, || self.inner.read(name))
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        self.call(name, || self.inner.read_end(name, bytes))
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        self.call(folder, || self.inner.list(folder))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.call(name, || self.inner.delete(name))
    }
}
