//! Objects in memory, for tests and rehearsals.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Store, StoreError, Stored, Version};
use crate::domain::UnixMillis;

/// A store that lives as long as its value.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    by_name: BTreeMap<String, Object>,
    writes: u64,
    now: UnixMillis,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    modified: UnixMillis,
    version: Version,
}

impl Objects {
    fn put(&mut self, name: &str, bytes: &[u8]) -> Version {
        self.writes += 1;
        let version = Version(self.writes.to_string().into());
        let object = Object {
            bytes: Bytes::copy_from_slice(bytes),
            modified: self.now,
            version: version.clone(),
        };
        self.by_name.insert(name.to_owned(), object);
        version
    }
}

impl MemoryStore {
    /// Sets the time that the objects stored from now on bear.
    pub fn set_time(&self, now: UnixMillis) {
        self.objects().now = now;
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        let mut objects = self.objects();
        if objects.by_name.contains_key(name) {
            return Err(StoreError::AlreadyExists { name: name.to_owned() });
        }
        Ok(objects.put(name, bytes))
    }

    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError> {
        let mut objects = self.objects();
        if objects.by_name.get(name).is_none_or(|standing| standing.version != *seen) {
            return Err(StoreError::Changed { name: name.to_owned() });
        }
        Ok(objects.put(name, bytes))
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        let objects = self.objects();
        let object = objects.by_name.get(name);
        let bytes = object.map(|object| object.bytes.clone());
        bytes.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        let whole = self.read(name)?;
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole.slice(whole.len() - wanted..))
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut listed: Vec<Stored> = Vec::new();
        for (name, object) in &self.objects().by_name {
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            let stored = match rest.split_once('/') {
                None => Stored {
                    name: name.clone(),
                    bytes: object.bytes.len() as u64,
                    modified: object.modified,
                    version: object.version.clone(),
                },
                Some((child, _)) => Stored::folder(format!("{prefix}{child}/")),
            };
            if listed.last() != Some(&stored) {
                listed.push(stored);
            }
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed.dedup();
        Ok(listed)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.objects().by_name.remove(name);
        Ok(())
    }
}
