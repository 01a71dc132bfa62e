//! A folder for one sort among the temporary files, and what becomes of it.
//!
//! It is for its owner's eyes alone, since it holds the text of rows. A lock in it is held as long
//! as the process lives, so a free lock tells what a crash left. A finished sort may be kept for
//! the next run of its job; everything else is removed, at the end or at the next start.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::process::geteuid;

const PREFIX: &str = "batchclass-sort-";
const LOCK: &str = "lock";
/// Written when everything else is there.
const MANIFEST: &str = "manifest.json";
/// How long a finished sort is kept for a run that never comes.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often a folder that another process swept away before its lock was held is made anew.
const TRIES: u32 = 5;

static FOLDERS: AtomicU64 = AtomicU64::new(0);

/// A folder that nobody else uses; removed when dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct TempFolder {
    path: PathBuf,
    is_kept: AtomicBool,
    /// Holds the lock.
    _lock: File,
}

impl TempFolder {
    /// Makes a folder below `parent` for the sort that `key` names: hexadecimal digits.
    pub(super) fn create(parent: &Path, key: &str) -> io::Result<TempFolder> {
        let mut tries = 0;
        loop {
            let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{key}-{}-{number}", std::process::id()));
            let made = DirBuilder::new().mode(0o700).create(&path).and_then(|()| {
                let lock = new_file(&path.join(LOCK))?;
                hold(&path, lock)?.ok_or_else(|| io::ErrorKind::NotFound.into())
            });
            tries += 1;
            match made {
                Ok(lock) => {
                    let is_kept = AtomicBool::new(false);
                    return Ok(TempFolder { path, is_kept, _lock: lock });
                }
                Err(error) if is_race(&error) && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A finished sort named `key` that an earlier process left below `parent`, and its manifest.
    /// It stays kept until it is told otherwise.
    pub(super) fn find(parent: &Path, key: &str) -> Option<(TempFolder, Vec<u8>)> {
        let prefix = format!("{PREFIX}{key}-");
        own_folders(parent, &prefix).find_map(|(path, _)| {
            let lock = lock_of(&path).ok()??;
            let manifest = fs::read(path.join(MANIFEST)).ok()?;
            Some((TempFolder { path, is_kept: AtomicBool::new(true), _lock: lock }, manifest))
        })
    }

    /// Makes an empty file in it, for writing and reading.
    pub(super) fn new_file(&self, name: &str) -> io::Result<File> {
        new_file(&self.path.join(name))
    }

    /// Opens a file in it for reading.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    /// Removes a file in it; those who have it open can go on reading.
    pub(super) fn remove_file(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    /// Makes the sort one that can be found again, once all its files are whole.
    pub(super) fn finish(&self, manifest: &[u8]) -> io::Result<()> {
        self.new_file(MANIFEST)?.write_all(manifest)
    }

    /// Whether it stays when it is dropped.
    pub(super) fn keep(&self, is_kept: bool) {
        self.is_kept.store(is_kept, Ordering::Relaxed);
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            // Best effort: what stays is removed at the next start, since its lock is free.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes what dead processes of this user left below `parent`: sorts that `is_useful` says no
/// more of from their manifest, or that nobody came back for. Best effort.
pub(super) fn sweep(parent: &Path, now: Option<&TempFolder>, is_useful: impl Fn(&[u8]) -> bool) {
    let now = now.and_then(|folder| fs::metadata(&folder.path).ok()?.modified().ok());
    for (path, metadata) in own_folders(parent, PREFIX) {
        let Ok(lock) = lock_of(&path) else { continue };
        let Some(_lock) = lock else {
            // Its maker died, or has not come to the lock yet: only an empty folder goes.
            let _ = fs::remove_dir(&path);
            continue;
        };
        let manifest = fs::read(path.join(MANIFEST));
        let age = now.and_then(|now| now.duration_since(metadata.modified().ok()?).ok());
        let is_old = age.is_some_and(|age| age > KEPT_FOR);
        if is_old || !manifest.is_ok_and(|manifest| is_useful(&manifest)) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Bytes that are free for this user where `folder` is.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let space = statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// The folders below `parent` of that name which are this user's alone.
fn own_folders(parent: &Path, prefix: &str) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .filter_map(|entry| {
            // Not followed, should it be a link that somebody else put there.
            let metadata = entry.metadata().ok()?;
            let is_ours = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0;
            (metadata.is_dir() && is_ours).then(|| (entry.path(), metadata))
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// The lock of a folder whose process is dead; `None` if it has none.
fn lock_of(folder: &Path) -> io::Result<Option<File>> {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => hold(folder, lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the lock; `None` if its folder was removed meanwhile.
fn hold(folder: &Path, lock: File) -> io::Result<Option<File>> {
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let held = lock.metadata()?;
    let there = fs::metadata(folder.join(LOCK));
    Ok(there.is_ok_and(|there| there.ino() == held.ino()).then_some(lock))
}

fn is_race(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, NotFound, WouldBlock};
    matches!(error.kind(), AlreadyExists | NotFound | WouldBlock)
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn names(parent: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(parent.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn only_its_owner_can_look_inside_and_it_goes_at_the_end() {
        let parent = TempDir::new().unwrap();
        let folder = TempFolder::create(parent.path(), "00ff").unwrap();
        let file = folder.new_file("rows").unwrap();
        assert_eq!(fs::metadata(&folder.path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        drop(folder);
        assert!(names(&parent).is_empty());
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_a_live_ones_stays() {
        let parent = TempDir::new().unwrap();
        let live = TempFolder::create(parent.path(), "00ff").unwrap();
        let dead = TempFolder::create(parent.path(), "00ff").unwrap();
        dead.new_file("rows").unwrap().write_all(b"half").unwrap();
        // A process that is killed leaves the folder, but not the lock.
        dead.keep(true);
        drop(dead);
        let others = parent.path().join(format!("{PREFIX}of-others"));
        DirBuilder::new().mode(0o755).create(&others).unwrap();
        DirBuilder::new().mode(0o700).create(parent.path().join(format!("{PREFIX}x-1-1"))).unwrap();
        sweep(parent.path(), None, |_| true);
        assert!(live.path.exists() && others.exists());
        assert_eq!(names(&parent).len(), 2);
    }

    #[test]
    fn a_finished_sort_is_found_by_one_at_a_time_until_it_is_not_kept() {
        let parent = TempDir::new().unwrap();
        let folder = TempFolder::create(parent.path(), "00ff").unwrap();
        folder.finish(b"manifest").unwrap();
        folder.keep(true);
        assert!(TempFolder::find(parent.path(), "00ff").is_none(), "its process lives");
        drop(folder);
        sweep(parent.path(), None, |manifest| manifest == b"manifest");
        assert!(TempFolder::find(parent.path(), "00fe").is_none());
        let (found, manifest) = TempFolder::find(parent.path(), "00ff").unwrap();
        assert_eq!(manifest, b"manifest");
        assert!(TempFolder::find(parent.path(), "00ff").is_none());
        drop(found);
        let (found, _) = TempFolder::find(parent.path(), "00ff").unwrap();
        found.keep(false);
        drop(found);
        assert!(names(&parent).is_empty());
    }

    #[test]
    fn a_finished_sort_of_no_more_use_or_too_old_is_removed() {
        let parent = TempDir::new().unwrap();
        let leave = |key: &str, age: u64| {
            let folder = TempFolder::create(parent.path(), key).unwrap();
            folder.finish(key.as_bytes()).unwrap();
            folder.keep(true);
            let own = File::open(&folder.path).unwrap();
            let time = own.metadata().unwrap().modified().unwrap() - Duration::from_secs(age);
            own.set_modified(time).unwrap();
        };
        leave("aa", 60);
        leave("bb", 60);
        leave("cc", 8 * 24 * 60 * 60);
        let now = TempFolder::create(parent.path(), "dd").unwrap();
        sweep(parent.path(), Some(&now), |manifest| manifest != b"bb");
        let left = names(&parent);
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(TempFolder::find(parent.path(), "aa").is_some());
    }
}
