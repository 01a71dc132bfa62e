//! The liar that refuses what Mountpoint for S3 refuses: nothing is replaced or removed, and a name
//! that was taken once is taken for ever, also by a torn object.

use std::sync::Arc;

use bytes::Bytes;

use super::{Store, StoreError, Stored, Version};

/// A create-once store in front of another.
pub struct CreateOnceStore {
    inner: Arc<dyn Store>,
    removes: bool,
}

impl CreateOnceStore {
    /// Refuses to replace and to remove, as Mountpoint does by default.
    pub fn new(inner: Arc<dyn Store>) -> CreateOnceStore {
        CreateOnceStore { inner, removes: false }
    }

    /// Refuses to replace only: s3fs and rclone remove.
    pub fn that_removes(inner: Arc<dyn Store>) -> CreateOnceStore {
        CreateOnceStore { inner, removes: true }
    }
}

impl Store for CreateOnceStore {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        self.inner.create(name, bytes)
    }

    fn replace(&self, name: &str, _: &[u8], _: &Version) -> Result<Version, StoreError> {
        Err(StoreError::Refused { doing: "replacing", name: name.to_owned() })
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        self.inner.read(name)
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        self.inner.read_end(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        self.inner.list(folder)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        if self.removes || matches!(self.inner.read_end(name, 0), Err(StoreError::NotFound { .. }))
        {
            return self.inner.delete(name);
        }
        Err(StoreError::Refused { doing: "removing", name: name.to_owned() })
    }
}
