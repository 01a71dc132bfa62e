//! Control files that are written whole, once, on any storage.
//!
//! A torn write leaves an object that is never read. Where it can be replaced it is; elsewhere its
//! name is burnt, and the file stands under its next edition, `job~2.json`. So at most one edition
//! of a file is whole.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::names::{self, Edition};
use super::store::{Store, StoreError, Stored, version_of};

/// Editions that are tried at most: each is burnt by a crash of its own.
const MOST_EDITIONS: Edition = 1_000;

/// What stands under a name that was to be new.
pub(super) enum Standing {
    /// What was to be stored, from an earlier try.
    Same,
    /// Something else, whole.
    Other,
    /// The beginning of something.
    Torn,
}

/// Stores `bytes` as the file `name`, which is not there yet or torn; that the same stands already
/// is success. `judge` says what other bytes under the name are.
///
/// # Errors
/// [`StoreError::AlreadyExists`] if another whole edition stands; it is untouched.
pub(super) fn put_whole(
    store: &dyn Store,
    name: &str,
    bytes: &[u8],
    judge: impl Fn(&[u8]) -> Standing,
) -> Result<(), StoreError> {
    for edition in 1..MOST_EDITIONS {
        let name = names::edition(name, edition);
        let taken = match store.create(&name, bytes) {
            Err(taken @ StoreError::AlreadyExists { .. }) => taken,
            created => return created.map(drop),
        };
        // The version first: what is read then is at least as new, so nothing unread is replaced.
        let seen = version_of(store, &name)?;
        let standing = store.read(&name)?;
        match judge(&standing) {
            _ if standing == bytes => return Ok(()),
            Standing::Same => return Ok(()),
            Standing::Other => return Err(taken),
            Standing::Torn => {}
        }
        match store.replace(&name, bytes, &seen) {
            Err(StoreError::Refused { .. }) => {}
            replaced => return replaced.map(drop),
        }
    }
    Err(StoreError::AlreadyExists { name: name.to_owned() })
}

/// The whole edition of the file `name`, or its first where all are torn.
///
/// # Errors
/// [`StoreError::NotFound`] if there is none.
pub(super) fn read_whole(
    store: &dyn Store,
    name: &str,
    is_whole: impl Fn(&[u8]) -> bool,
) -> Result<Bytes, StoreError> {
    let first = store.read(name)?;
    let mut bytes = first.clone();
    for edition in 2..MOST_EDITIONS {
        if is_whole(&bytes) {
            return Ok(bytes);
        }
        bytes = match store.read(&names::edition(name, edition)) {
            Err(StoreError::NotFound { .. }) => return Ok(first),
            read => read?,
        };
    }
    Ok(first)
}

/// The editions of each file among `listed`, by the name of its first, in order.
pub(super) fn by_file(listed: &[Stored]) -> BTreeMap<String, Vec<String>> {
    let mut files: BTreeMap<String, BTreeMap<Edition, String>> = BTreeMap::new();
    for stored in listed {
        let (first, edition) = names::parse_edition(&stored.name);
        files.entry(first).or_default().insert(edition, stored.name.clone());
    }
    files.into_iter().map(|(first, editions)| (first, editions.into_values().collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::store::{CreateOnceStore, MemoryStore};
    use super::*;

    fn judge(bytes: &[u8]) -> Standing {
        if bytes.ends_with(b"}") { Standing::Other } else { Standing::Torn }
    }

    fn names_in(store: &dyn Store) -> Vec<String> {
        store.list("_batchclass").unwrap().into_iter().map(|stored| stored.name).collect()
    }

    #[test]
    fn a_torn_file_is_replaced_where_that_can_be_done() {
        let store = MemoryStore::default();
        store.create(names::JOB, b"{").unwrap();
        put_whole(&store, names::JOB, b"{}", judge).unwrap();
        assert_eq!(names_in(&store), [names::JOB]);
        assert_eq!(&store.read(names::JOB).unwrap()[..], b"{}");
    }

    #[test]
    fn a_burnt_name_is_passed_over_and_a_whole_file_never() {
        let store = CreateOnceStore::new(std::sync::Arc::new(MemoryStore::default()));
        for name in [names::JOB, "_batchclass/job~2.json"] {
            store.create(name, b"{").unwrap();
        }
        put_whole(&store, names::JOB, b"{1}", judge).unwrap();
        put_whole(&store, names::JOB, b"{1}", judge).unwrap();
        let other = put_whole(&store, names::JOB, b"{2}", judge);
        assert!(matches!(other, Err(StoreError::AlreadyExists { .. })), "{other:?}");
        let listed = store.list("_batchclass").unwrap();
        let third = "_batchclass/job~3.json".to_owned();
        assert_eq!(by_file(&listed)[names::JOB].last(), Some(&third));
        assert_eq!(&store.read(&third).unwrap()[..], b"{1}");
        let is_whole = |bytes: &[u8]| bytes.ends_with(b"}");
        assert_eq!(&read_whole(&store, names::JOB, is_whole).unwrap()[..], b"{1}");
        assert_eq!(&read_whole(&store, names::JOB, |_| false).unwrap()[..], b"{");
    }
}
