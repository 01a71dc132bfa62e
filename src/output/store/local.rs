//! A folder on a disk, local or network.
//!
//! An object is written to a hidden file beside its final place, synced, closed, renamed and its
//! folder synced, so that neither a kill nor a power loss leaves a part of it under its name. All
//! of it is refused once the folder stands on another mount than at the first write: one that went
//! away leaves an ordinary local folder behind.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use super::{Store, StoreError, Stored, Version};
use crate::domain::UnixMillis;

/// How the name of a file that was not finished ends.
const UNFINISHED: &str = ".batchclass-tmp";

/// Objects as files under one folder, which the first write makes.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    place: OnceLock<Place>,
    unfinished: AtomicU64,
}

impl LocalStore {
    /// A store of the files under `root`. Touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> LocalStore {
        LocalStore { root: root.into(), place: OnceLock::new(), unfinished: AtomicU64::new(0) }
    }

    /// Whether `name` is a file that a killed writer left unfinished.
    pub fn is_leftover(name: &str) -> bool {
        let file = name.rsplit('/').next().unwrap_or(name);
        file.starts_with('.') && file.ends_with(UNFINISHED)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    pub(super) fn failed(&self, doing: &'static str, name: &str, source: io::Error) -> StoreError {
        if doing == "writing" && source.kind() == io::ErrorKind::NotFound {
            // What is missing is a folder above, which can't be made.
            let name = self.path(name).display().to_string();
            return StoreError::Lasting { doing, name, source };
        }
        StoreError::from_io(doing, self.path(name).display().to_string(), source)
    }

    /// Writes a hidden file beside `name`, then lets `publish` give it its name.
    fn store(
        &self,
        name: &str,
        bytes: &[u8],
        publish: impl FnOnce(&Path, &Path) -> io::Result<()>,
    ) -> Result<Version, StoreError> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        let steps = || {
            self.check_place(make_folders)?;
            make_folders(folder)?;
            let unfinished = self.unfinished_path(&path);
            let stored = write_synced(&unfinished, bytes, mode_of(name)).and_then(|()| {
                let version = version(&fs::symlink_metadata(&unfinished)?);
                publish(&unfinished, &path)?;
                Ok(version)
            });
            if stored.is_err() {
                // Best effort: a file that stays is removed by the next run's recovery.
                let _ = fs::remove_file(&unfinished);
            }
            let version = stored?;
            sync_folder(folder)?;
            Ok(version)
        };
        steps().map_err(|source: io::Error| self.failed("writing", name, source))
    }

    fn unfinished_path(&self, path: &Path) -> PathBuf {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let number = self.unfinished.fetch_add(1, Ordering::Relaxed);
        path.with_file_name(format!(".{file}.{}-{number}{UNFINISHED}", std::process::id()))
    }

    /// Lets `make` make the top folder before the first write; before each later one it has to stand where
    /// it stood.
    pub(super) fn check_place(&self, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let Some(place) = self.place.get() else {
            make(&self.root)?;
            let place = Place::of(&self.root)?;
            self.place.get_or_init(|| place);
            return Ok(());
        };
        match Place::of(&self.root) {
            Ok(found) if found == *place => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "its folder is not where it was at the start; was it unmounted?",
            )),
        }
    }
}

/// What a folder stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    device: u64,
    /// Tells a bind mount from the folder beneath it; `None` where the system doesn't say.
    mount: Option<u64>,
}

impl Place {
    fn of(folder: &Path) -> io::Result<Place> {
        Ok(Place { device: fs::metadata(folder)?.dev(), mount: mount_of(folder) })
    }
}

#[cfg(target_os = "linux")]
fn mount_of(folder: &Path) -> Option<u64> {
    use rustix::fs::{StatxFlags, statx};
    let found = statx(CWD, folder, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

#[cfg(not(target_os = "linux"))]
fn mount_of(_: &Path) -> Option<u64> {
    None
}

impl Store for LocalStore {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        self.store(name, bytes, rename_to_new)
    }

    #[expect(clippy::disallowed_methods, reason = "here a file becomes visible")]
    fn replace(&self, name: &str, bytes: &[u8], seen: &Version) -> Result<Version, StoreError> {
        let mut is_changed = false;
        let stored = self.store(name, bytes, |from, to| {
            // Between this look and the rename only the claim keeps others away.
            is_changed = match fs::symlink_metadata(to) {
                Ok(standing) => version(&standing) != *seen,
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(error) => return Err(error),
            };
            if is_changed { Err(io::ErrorKind::Other.into()) } else { fs::rename(from, to) }
        });
        if is_changed {
            return Err(StoreError::Changed { name: self.path(name).display().to_string() });
        }
        stored
    }

    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        let whole = fs::read(self.path(name));
        whole.map(Bytes::from).map_err(|source| self.failed("reading", name, source))
    }

    fn read_end(&self, name: &str, bytes: u64) -> Result<Bytes, StoreError> {
        let steps = || {
            let mut file = File::open(self.path(name))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end)?;
            Ok(Bytes::from(end))
        };
        steps().map_err(|source: io::Error| self.failed("reading", name, source))
    }

    fn list(&self, folder: &str) -> Result<Vec<Stored>, StoreError> {
        let steps = || {
            let entries = match fs::read_dir(self.path(folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let mut listed = Vec::new();
            for entry in entries {
                let entry = entry?;
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                match fs::metadata(entry.path()) {
                    Ok(found) if found.is_dir() => listed.push(Stored::folder(name + "/")),
                    Ok(found) => listed.push(Stored {
                        name,
                        bytes: found.len(),
                        modified: modified(&found),
                        version: version(&found),
                    }),
                    // Removed since, or a link to nowhere.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            listed.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(listed)
        };
        steps().map_err(|source: io::Error| self.failed("listing", folder, source))
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name);
        let steps = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                removed => removed?,
            }
            sync_folder(path.parent().unwrap_or(&self.root))
        };
        steps().map_err(|source: io::Error| self.failed("removing", name, source))
    }
}

/// A file that was written anew has another inode, size or time.
pub(super) fn version(found: &Metadata) -> Version {
    let (inode, bytes) = (found.ino(), found.len());
    Version(format!("{inode}-{bytes}-{}.{:09}", found.mtime(), found.mtime_nsec()).into())
}

fn modified(found: &Metadata) -> UnixMillis {
    let millis = found.mtime().saturating_mul(1_000) + found.mtime_nsec() / 1_000_000;
    UnixMillis(u64::try_from(millis).unwrap_or(0))
}

/// Only the owner may read what is in `_batchclass/`: the job's secret, raw replies.
pub(super) fn mode_of(name: &str) -> u32 {
    if name.contains('/') { 0o600 } else { 0o644 }
}

/// Makes `folder` and its parents, each of them durable.
pub(in crate::output) fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    folder.parent().map_or(Ok(()), sync_folder)
}

pub(in crate::output) fn sync_folder(folder: &Path) -> io::Result<()> {
    let here = Path::new(".");
    File::open(if folder.as_os_str().is_empty() { here } else { folder })?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    close(file)
}

/// Closes `file` and tells what came of it, which dropping it would not: on some file systems it
/// is the only error there is.
#[expect(unsafe_code, reason = "the standard library ignores the result of close(2)")]
pub(super) fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor is open and owned by nobody after `into_raw_fd`; it is used once.
    let closed = unsafe { libc::close(file.into_raw_fd()) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Renames unless `to` exists; a hard link where the file system knows no such rename.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        renamed => return renamed.map_err(io::Error::from),
    }
    link_to_new(from, to)
}

fn link_to_new(from: &Path, to: &Path) -> io::Result<()> {
    rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?;
    // The object stands; a second name that stays is removed by the next run's recovery.
    let _ = fs::remove_file(from);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::put;
    use super::*;

    #[test]
    fn parts_are_for_all_and_the_rest_for_the_owner_and_nothing_unfinished_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path());
        store.create("part-000001.parquet", b"x").unwrap();
        store.create("_batchclass/job.json", b"x").unwrap();
        store.create("part-000001.parquet", b"y").unwrap_err();
        let mode = |name: &str| {
            fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("_batchclass/job.json"), 0o600);
        assert_eq!(mode("part-000001.parquet") & 0o600, 0o600);
        assert_eq!(mode("part-000001.parquet") & 0o133, 0);
        let names: Vec<_> = store.list("").unwrap().into_iter().map(|stored| stored.name).collect();
        assert_eq!(names, ["_batchclass/", "part-000001.parquet"]);
    }

    #[test]
    fn a_hard_link_publishes_without_replacing() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        write_synced(&from, b"new", 0o644).unwrap();
        link_to_new(&from, &to).unwrap();
        assert!(!from.exists());
        write_synced(&from, b"newer", 0o644).unwrap();
        let taken = link_to_new(&from, &to).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"new");
    }

    #[test]
    fn an_unfinished_file_is_hidden_and_no_parquet_file() {
        let store = LocalStore::new("/out");
        let path = store.unfinished_path(Path::new("/out/part-000001.parquet"));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(LocalStore::is_leftover(name) && name.starts_with('.'));
        assert!(!name.ends_with(".parquet"));
        assert!(!LocalStore::is_leftover("part-000001.parquet"));
    }

    #[test]
    fn a_planted_link_at_the_final_name_is_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        write_synced(&victim, b"mine", 0o644).unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("part-000001.parquet")).unwrap();
        let store = LocalStore::new(folder.path());
        store.create("part-000001.parquet", b"new").unwrap_err();
        let error = put(&store, "part-000001.parquet", b"new").unwrap_err();
        assert!(matches!(error, StoreError::Changed { .. }), "{error}");
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
    }

    #[test]
    fn a_folder_that_went_away_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("out");
        let store = LocalStore::new(&root);
        store.create("a", b"x").unwrap();
        fs::remove_dir_all(&root).unwrap();
        let error = store.create("b", b"x").unwrap_err();
        assert!(matches!(error, StoreError::Lasting { .. }) && !root.exists(), "{error:?}");
    }

    #[test]
    fn a_listing_of_a_file_is_an_error_and_of_nothing_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        write_synced(&file, b"x", 0o644).unwrap();
        assert!(LocalStore::new(&file).list("").is_err());
        assert!(LocalStore::new(folder.path().join("none")).list("").unwrap().is_empty());
    }
}
