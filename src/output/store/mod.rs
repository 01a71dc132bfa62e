//! Where whole named objects are kept: the only way a file of the output becomes visible.
//!
//! An object is stored whole or not at all, and is durable when a call returns `Ok`. After an
//! error that is not "not found" or "already there" the outcome is unknown: read back and decide
//! by the bytes. Nothing here retries or waits.

mod create_once;
mod faulty;
mod kind;
mod local;
mod memory;
mod mount;
mod object_storage;

use std::io;

use bytes::Bytes;

use crate::domain::UnixMillis;

pub use create_once::CreateOnceStore;
pub use faulty::{Fault, FaultyStore, Then};
pub use kind::Kind;
pub use local::LocalStore;
pub(in crate::output) use local::{make_folders, sync_folder};
pub use memory::MemoryStore;
pub use mount::MountStore;
pub use object_storage::ObjectStorage;

/// Whole objects by name. A name is a relative path with `/` between its parts.
pub trait Store: Send + Sync {
    /// Stores `bytes` under a new name; returns their version.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if the name is taken; the object there is untouched.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError>;

    /// Stores `bytes` under `name`, in place of the object of version `seen`; returns theirs. A
    /// reader sees the old object or the new one, never a mixture.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if another version stands there, or none;
    /// [`StoreError::Refused`] where nothing can be replaced.
    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError>;

    /// The whole object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none.
    fn read(&self, name: &str) -> Result<Bytes, StoreError>;

    /// The object's last `bytes` bytes, or all of it if it is shorter.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is none.
    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError>;

    /// What stands directly in `folder` (`""` is the top), by name; sub-folders are listed too and
    /// end with `/`. A folder that does not exist is empty.
    ///
    /// # Errors
    /// If storage fails, or `folder` is a file.
    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError>;

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where nothing can be removed.
    fn delete(&self, name: &str) -> Result<(), StoreError>;
}

/// Which bytes stand under a name, as storage tells them from those before: an ETag. Opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub(in crate::output) Box<str>);

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The full name, as the other methods take it.
    pub name: String,
    /// Its size; 0 for a sub-folder.
    pub bytes: u64,
    /// When it was stored, by the storage's clock; 0 for a sub-folder.
    pub modified: UnixMillis,
    /// Which bytes stand there; empty for a sub-folder.
    pub version: Version,
}

impl Stored {
    /// The entry of a sub-folder; `name` ends with `/`.
    pub(in crate::output) fn folder(name: String) -> Stored {
        Stored { name, bytes: 0, modified: UnixMillis(0), version: Version("".into()) }
    }
}

/// Stores `bytes` under `name`, whatever stands there.
///
/// # Errors
/// As [`Store::replace`]; [`StoreError::Changed`] if another writer is at work.
pub fn put(store: &dyn Store, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
    match store.create(name, bytes) {
        Err(StoreError::AlreadyExists { .. }) => {
            store.replace(name, bytes, &version_of(store, name)?)
        }
        created => created,
    }
}

/// The version of what stands under `name`.
///
/// # Errors
/// [`StoreError::NotFound`] if nothing does.
pub fn version_of(store: &dyn Store, name: &str) -> Result<Version, StoreError> {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let standing = store.list(folder)?.into_iter().find(|stored| stored.name == name);
    let standing = standing.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })?;
    Ok(standing.version)
}

/// Why storage did not do it, told apart by the remedy. `name` is the full path.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such object.
    #[error("{name} does not exist")]
    NotFound {
        /// The object.
        name: String,
    },
    /// The name is taken.
    #[error("{name} exists already")]
    AlreadyExists {
        /// The object.
        name: String,
    },
    /// Other bytes stand there than the caller has seen.
    #[error("{name} was changed by another writer")]
    Changed {
        /// The object.
        name: String,
    },
    /// This storage can't do that at all.
    #[error("{name}: this storage refuses {doing}")]
    Refused {
        /// What was tried, such as `replacing`.
        doing: &'static str,
        /// The object.
        name: String,
    },
    /// The same call may succeed in a moment.
    #[error("{doing} {name} failed for now")]
    Passing {
        /// What was tried, such as `writing`.
        doing: &'static str,
        /// The object.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// Somebody has to act first: free space, give permission, mount the storage again.
    #[error("{doing} {name} failed")]
    Lasting {
        /// What was tried, such as `writing`.
        doing: &'static str,
        /// The object.
        name: String,
        /// The cause.
        source: io::Error,
    },
}

impl StoreError {
    /// Sorts an error of the operating system by its remedy.
    pub fn from_io(doing: &'static str, name: String, source: io::Error) -> StoreError {
        use io::ErrorKind as Kind;
        match source.kind() {
            Kind::NotFound => StoreError::NotFound { name },
            Kind::AlreadyExists => StoreError::AlreadyExists { name },
            Kind::Interrupted
            | Kind::WouldBlock
            | Kind::TimedOut
            | Kind::ResourceBusy
            | Kind::OutOfMemory
            | Kind::NetworkDown
            | Kind::ConnectionReset => StoreError::Passing { doing, name, source },
            _ if is_shortage_of_handles(&source) => StoreError::Passing { doing, name, source },
            _ => StoreError::Lasting { doing, name, source },
        }
    }

    /// Whether the same call may succeed in a moment, with nobody doing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, StoreError::Passing { .. })
    }
}

fn is_shortage_of_handles(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    raw == Some(libc::EMFILE) || raw == Some(libc::ENFILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every store promises.
    fn keeps_the_contract(store: &dyn Store) {
        assert_eq!(store.list("").unwrap(), []);
        assert_eq!(store.list("none").unwrap(), []);
        assert!(matches!(store.read("a"), Err(StoreError::NotFound { .. })));
        store.create("b", b"1").unwrap();
        store.create("a", b"345").unwrap();
        store.create("deep/er/c", b"").unwrap();
        let again = store.create("b", b"2");
        assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
        assert_eq!(&store.read("b").unwrap()[..], b"1");
        assert_eq!(&store.read_end("a", 2).unwrap()[..], b"45");
        assert_eq!(&store.read_end("a", 20).unwrap()[..], b"345");
        let names = |folder: &str| {
            let listed = store.list(folder).unwrap();
            listed.into_iter().map(|stored| (stored.name, stored.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(names(""), [("a".into(), 3), ("b".into(), 1), ("deep/".into(), 0)]);
        assert_eq!(names("deep"), [("deep/er/".into(), 0)]);
        assert_eq!(names("deep/er"), [("deep/er/c".into(), 0)]);
        store.delete("none").unwrap();
    }

    /// What a store promises that can replace.
    fn replaces_what_was_seen(store: &dyn Store) {
        let first = version_of(store, "b").unwrap();
        let second = store.replace("b", b"345", &first).unwrap();
        assert_eq!(second, version_of(store, "b").unwrap());
        let stale = store.replace("b", b"6", &first);
        assert!(matches!(stale, Err(StoreError::Changed { .. })), "{stale:?}");
        let absent = store.replace("none", b"6", &first);
        assert!(matches!(absent, Err(StoreError::Changed { .. })), "{absent:?}");
        put(store, "new", b"w").unwrap();
        put(store, "new", b"x").unwrap();
        assert_eq!(&store.read("b").unwrap()[..], b"345");
        assert_eq!(&store.read("new").unwrap()[..], b"x");
    }

    fn removes(store: &dyn Store) {
        store.delete("b").unwrap();
        store.delete("b").unwrap();
        assert!(matches!(store.read("b"), Err(StoreError::NotFound { .. })));
    }

    /// What a store promises that can replace nothing.
    fn refuses_to_replace(store: &dyn Store) {
        let seen = version_of(store, "b").unwrap();
        let refused = store.replace("b", b"6", &seen);
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
        assert!(put(store, "b", b"6").is_err());
        assert_eq!(&store.read("b").unwrap()[..], b"1");
    }

    #[test]
    fn every_store_keeps_the_same_contract() {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalStore::new(folder.path().join("not/yet/there"));
        let mut stores: Vec<Box<dyn Store>> =
            vec![Box::new(MemoryStore::default()), Box::new(local)];
        if let Some(bucket) = crate::cloud::moto::bucket() {
            for folder in ["", "deep/out"] {
                stores.push(Box::new(object_storage::tests::store(&bucket, folder)));
            }
        }
        for store in &stores {
            keeps_the_contract(store.as_ref());
            replaces_what_was_seen(store.as_ref());
            removes(store.as_ref());
        }
    }

    #[test]
    fn every_create_once_store_keeps_the_contract_but_replaces_nothing() {
        let memory = || std::sync::Arc::new(MemoryStore::default());
        let folder = tempfile::tempdir().unwrap();
        let mount = MountStore::new(folder.path().join("not/yet/there"));
        let removing = CreateOnceStore::that_removes(memory());
        for store in [&mount as &dyn Store, &removing] {
            keeps_the_contract(store);
            refuses_to_replace(store);
            removes(store);
        }
        let strict = CreateOnceStore::new(memory());
        keeps_the_contract(&strict);
        refuses_to_replace(&strict);
        let kept = strict.delete("b");
        assert!(matches!(kept, Err(StoreError::Refused { .. })), "{kept:?}");
    }

    #[test]
    fn only_what_mends_itself_is_retryable() {
        let sorted = |code| {
            let source = io::Error::from_raw_os_error(code);
            StoreError::from_io("writing", "out/x".into(), source).is_retryable()
        };
        assert!(sorted(libc::EINTR) && sorted(libc::EAGAIN) && sorted(libc::EMFILE));
        for code in [libc::ENOSPC, libc::EACCES, libc::EIO, libc::ENOTCONN, libc::EROFS] {
            assert!(!sorted(code), "{code}");
        }
    }
}
