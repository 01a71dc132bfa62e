//! A lock on the control folder itself: on storage of this machine it decides at once who writes.
//!
//! The system drops it with its process, whatever kills that. No file is needed for it, so a lock
//! can neither be left behind nor swept away.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::super::store::make_folders;

/// What a lock on a control folder is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::output) enum Lockable {
    /// Only this kernel writes there: who holds the lock is alone.
    ByThisKernelAlone(PathBuf),
    /// Other kernels write there too, and may not honour it: who holds it is alone on this host.
    ByOthersToo(PathBuf),
    /// Not at all, or each mount has locks of its own.
    Never,
}

/// Whom a lock that is held proves dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clearance {
    /// Everybody else.
    Everybody,
    /// Everybody else on this host.
    ThisBoot,
    /// Nobody.
    Nobody,
}

/// A lock that is held until it is dropped, and whom it proves dead.
#[derive(Debug)]
pub(super) struct FolderLock {
    pub(super) clearance: Clearance,
    _folder: Option<File>,
}

impl FolderLock {
    /// Takes the lock, making the folder if need be; `None` if another process holds it. Where
    /// nothing can be locked, what is held proves nothing.
    ///
    /// # Errors
    /// If the folder can't be made.
    pub(super) fn take(lockable: &Lockable) -> io::Result<Option<FolderLock>> {
        let (control, clearance) = match lockable {
            Lockable::ByThisKernelAlone(control) => (control, Clearance::Everybody),
            Lockable::ByOthersToo(control) => (control, Clearance::ThisBoot),
            Lockable::Never => return Ok(Some(FolderLock::none())),
        };
        make_folders(control)?;
        let Ok(folder) = File::open(control) else { return Ok(Some(FolderLock::none())) };
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if stands_at(&folder, control) => {
                Ok(Some(FolderLock { clearance, _folder: Some(folder) }))
            }
            // Removed and made anew since it was opened: another process is at work here.
            Ok(()) | Err(Errno::WOULDBLOCK) => Ok(None),
            Err(_) => Ok(Some(FolderLock::none())),
        }
    }

    fn none() -> FolderLock {
        FolderLock { clearance: Clearance::Nobody, _folder: None }
    }
}

/// Whether `folder` is what `path` names.
fn stands_at(folder: &File, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let (held, named) = (folder.metadata().map(identity), fs::metadata(path).map(identity));
    matches!((held, named), (Ok(held), Ok(named)) if held == named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_the_lock_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("out/_batchclass");
        let lockable = Lockable::ByThisKernelAlone(control.clone());
        let lock = FolderLock::take(&lockable).unwrap().unwrap();
        assert_eq!(lock.clearance, Clearance::Everybody);
        for again in [lockable.clone(), Lockable::ByOthersToo(control)] {
            assert!(FolderLock::take(&again).unwrap().is_none());
        }
        drop(lock);
        assert!(FolderLock::take(&lockable).unwrap().is_some());
    }

    #[test]
    fn where_nothing_can_be_locked_nobody_is_proved_dead() {
        let lock = FolderLock::take(&Lockable::Never).unwrap().unwrap();
        assert_eq!(lock.clearance, Clearance::Nobody);
    }

    #[test]
    fn a_lock_on_a_folder_that_was_made_anew_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("c");
        make_folders(&control).unwrap();
        let opened = File::open(&control).unwrap();
        assert!(stands_at(&opened, &control));
        fs::remove_dir(&control).unwrap();
        make_folders(&control).unwrap();
        assert!(!stands_at(&opened, &control));
    }
}
