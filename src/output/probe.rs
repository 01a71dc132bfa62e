//! What storage keeps of what it is asked, found out by asking it: a small object is made, read,
//! listed, made again, replaced and removed.
//!
//! Nothing but that object is touched. Where nothing can be removed, it stays.

use serde::Serialize;

use super::names;
use super::store::{Store, StoreError, Version, version_of};

const FIRST: &[u8] = b"a probe of this storage; it may be removed\n";
const SECOND: &[u8] = b"a probe of this storage, replaced once; it may be removed\n";

/// Something that storage can promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// What was stored is read back as it was.
    ReadBack,
    /// A name that is taken is not taken again.
    CreateOnce,
    /// A listing shows at once what was stored.
    FreshListing,
    /// An object is replaced as a whole, and only in the version that was seen.
    Replace,
    /// An object can be removed, and is gone from the listing at once.
    Remove,
}

/// Whether storage keeps a promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Which one.
    pub promise: Promise,
    /// What came instead; `None` where it is kept.
    pub instead: Option<String>,
}

/// Asks `store` for each promise, with an object of the run called `run`.
///
/// # Errors
/// If the object can't be made at all: then nothing can be written there.
pub fn probe(store: &dyn Store, run: &str) -> Result<Vec<Kept>, StoreError> {
    let name = names::probe(run);
    let version = store.create(&name, FIRST)?;
    let kept = |promise, instead: Result<(), String>| Kept { promise, instead: instead.err() };
    Ok(vec![
        kept(Promise::ReadBack, read_back(store, &name)),
        kept(Promise::CreateOnce, create_again(store, &name)),
        kept(Promise::FreshListing, list(store, &name)),
        kept(Promise::Replace, replace(store, &name, &version)),
        kept(Promise::Remove, remove(store, &name)),
    ])
}

fn read_back(store: &dyn Store, name: &str) -> Result<(), String> {
    match store.read(name) {
        Ok(bytes) if bytes == FIRST => Ok(()),
        Ok(bytes) => Err(format!("{} bytes came back of {}", bytes.len(), FIRST.len())),
        Err(error) => Err(words(&error)),
    }
}

fn create_again(store: &dyn Store, name: &str) -> Result<(), String> {
    match store.create(name, SECOND) {
        Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Ok(_) => Err("a second object took the place of the first".to_owned()),
        Err(error) => Err(words(&error)),
    }
}

fn list(store: &dyn Store, name: &str) -> Result<(), String> {
    match version_of(store, name) {
        Ok(_) => Ok(()),
        Err(StoreError::NotFound { .. }) => Err("a new object is not listed yet".to_owned()),
        Err(error) => Err(words(&error)),
    }
}

fn replace(store: &dyn Store, name: &str, version: &Version) -> Result<(), String> {
    store.replace(name, SECOND, version).map_err(|error| words(&error))?;
    match store.read(name) {
        Ok(bytes) if bytes == SECOND => {}
        Ok(_) => return Err("the old object came back".to_owned()),
        Err(error) => return Err(words(&error)),
    }
    match store.replace(name, FIRST, version) {
        Err(StoreError::Changed { .. }) => Ok(()),
        Ok(_) => Err("a newer object was replaced unseen".to_owned()),
        Err(error) => Err(words(&error)),
    }
}

fn remove(store: &dyn Store, name: &str) -> Result<(), String> {
    store.delete(name).map_err(|error| words(&error))?;
    match version_of(store, name) {
        Err(StoreError::NotFound { .. }) => Ok(()),
        Ok(_) => Err("a removed object is still listed".to_owned()),
        Err(error) => Err(words(&error)),
    }
}

/// An error and its cause.
fn words(error: &StoreError) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::store::{Fault, FaultyStore, LocalStore, MemoryStore, Then};
    use super::*;

    #[test]
    fn a_disk_keeps_every_promise_and_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path());
        let kept = probe(&store, "r1").unwrap();
        assert_eq!(kept.len(), 5);
        assert!(kept.iter().all(|kept| kept.instead.is_none()), "{kept:?}");
        assert_eq!(store.list(names::CONTROL).unwrap(), []);
    }

    #[test]
    fn what_storage_refuses_is_said_and_the_rest_still_asked() {
        for (at, promise) in [
            (2, Promise::ReadBack),
            (3, Promise::CreateOnce),
            (4, Promise::FreshListing),
            (5, Promise::Replace),
        ] {
            let inner = Arc::new(MemoryStore::default());
            let store = FaultyStore::new(inner, at, Fault::Lasting, Then::Recovers);
            let kept = probe(&store, "r1").unwrap();
            let broken = kept.iter().filter(|kept| kept.instead.is_some());
            assert_eq!(broken.map(|kept| kept.promise).collect::<Vec<_>>(), [promise]);
        }
    }

    #[test]
    fn storage_that_takes_nothing_is_an_error() {
        let inner = Arc::new(MemoryStore::default());
        let store = FaultyStore::new(inner, 1, Fault::Lasting, Then::StaysDown);
        probe(&store, "r1").unwrap_err();
    }
}
