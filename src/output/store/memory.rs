//! Objects in memory, for tests and rehearsals.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Store, StoreError, Stored};

/// A store that lives as long as its value.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Err(StoreError::AlreadyExists { name: name.to_owned() });
        }
        objects.insert(name.to_owned(), Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.objects().insert(name.to_owned(), Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        let objects = self.objects();
        objects.get(name).cloned().ok_or_else(|| StoreError::NotFound { name: name.to_owned() })
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        let whole = self.read(name)?;
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole.slice(whole.len() - wanted..))
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut listed: Vec<Stored> = Vec::new();
        for (name, bytes) in self.objects().iter() {
            let Some(rest) = name.strip_prefix(&prefix) else { continue };
            let stored = match rest.split_once('/') {
                None => Stored { name: name.clone(), bytes: bytes.len() as u64 },
                Some((child, _)) => Stored { name: format!("{prefix}{child}/"), bytes: 0 },
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
        self.objects().remove(name);
        Ok(())
    }
}
