//! A folder on a mounted bucket, where a file can be made once and nothing else is sure.
//!
//! An object is created at its final name, written in one burst, synced, closed with the result
//! read, and read back: on one mount or another each of these is the only place where a failure
//! shows. Nothing is renamed, appended to, overwritten or linked. A writer that is killed leaves a
//! truncated object under the final name, so that an object stands never means that it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use bytes::Bytes;

use super::local::{LocalStore, close, mode_of, version};
use super::{Store, StoreError, Stored, Version};

/// Objects as files under one folder of a mount, which the first write makes.
#[derive(Debug)]
pub struct MountStore {
    files: LocalStore,
}

impl MountStore {
    /// A store of the files under `root`. Touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> MountStore {
        MountStore { files: LocalStore::new(root) }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<Version> {
        let path = self.files.path(name);
        self.files.check_place(|root| fs::create_dir_all(root))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode_of(name))
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        write_once(file, bytes)?;
        let standing = fs::read(&path)?;
        if standing != bytes {
            return Err(io::Error::other("it does not read back as it was written"));
        }
        Ok(version(&fs::symlink_metadata(&path)?))
    }
}

impl Store for MountStore {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        self.write(name, bytes).map_err(|source| match source.kind() {
            // Of a file that was just written this is no "there is none".
            io::ErrorKind::NotFound => self.files.failed("writing", name, io::Error::other(source)),
            _ => self.files.failed("writing", name, source),
        })
    }

    fn replace(&self, name: &str, _: &[u8], _: &Version) -> Result<Version, StoreError> {
        let name = self.files.path(name).display().to_string();
        Err(StoreError::Refused { doing: "replacing", name })
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        self.files.read(name)
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        self.files.read_end(name, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        self.files.list(folder)
    }

    /// Removes what a killed writer left, where the mount lets it.
    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.files.path(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if is_refusal(&error) => {
                Err(StoreError::Refused { doing: "removing", name: path.display().to_string() })
            }
            Err(error) => Err(self.files.failed("removing", name, error)),
        }
    }
}

/// One burst, synced and closed. After an error nobody knows what stands.
fn write_once(mut file: File, bytes: &[u8]) -> io::Result<()> {
    if let Err(error) = file.write_all(bytes) {
        // Mountpoint for S3 drops an upload that goes backwards, which leaves the name free.
        // Elsewhere the file is torn already.
        let _ = file.write_all_at(&[0], 0);
        let _ = close(file);
        return Err(error);
    }
    let synced = file.sync_all();
    let closed = close(file);
    synced.and(closed)
}

/// Whether a mount says by this that it removes nothing.
fn is_refusal(error: &io::Error) -> bool {
    let codes =
        [libc::EPERM, libc::EACCES, libc::EROFS, libc::ENOSYS, libc::ENOTSUP, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_appears_under_its_own_name_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = MountStore::new(folder.path().join("not/yet/there"));
        store.create("part-000001.parquet", b"x").unwrap();
        store.create("_batchclass/job.json", b"y").unwrap();
        let names: Vec<_> = store.list("").unwrap().into_iter().map(|stored| stored.name).collect();
        assert_eq!(names, ["_batchclass/", "part-000001.parquet"]);
        let path = folder.path().join("not/yet/there/_batchclass/job.json");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_planted_link_at_the_final_name_is_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::os::unix::fs::symlink(&victim, folder.path().join("part-000001.parquet")).unwrap();
        let error = MountStore::new(folder.path()).create("part-000001.parquet", b"x").unwrap_err();
        assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
        assert!(!victim.exists());
    }

    #[test]
    fn a_mount_that_went_away_is_not_written_beside() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("out");
        let store = MountStore::new(&root);
        store.create("a", b"x").unwrap();
        fs::remove_dir_all(&root).unwrap();
        let error = store.create("deep/b", b"x").unwrap_err();
        assert!(matches!(error, StoreError::Lasting { .. }) && !root.exists(), "{error:?}");
    }

    #[test]
    fn only_what_says_never_is_a_refusal() {
        let is_refused = |code| is_refusal(&io::Error::from_raw_os_error(code));
        assert!([libc::EPERM, libc::EROFS, libc::ENOSYS].into_iter().all(is_refused));
        assert!(![libc::EIO, libc::ENOTCONN, libc::ESTALE].into_iter().any(is_refused));
    }

    #[test]
    fn a_full_disk_is_an_error_and_never_an_object() {
        // Every write to it fails with ENOSPC.
        let full = OpenOptions::new().write(true).open("/dev/full");
        let Ok(full) = full else { return };
        let error = write_once(full, b"bytes").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
