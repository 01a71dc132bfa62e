//! One writer for an output: claim, then list.
//!
//! A claim is a file that appears with its lock held, `_batchclass/claim-<run>.json`. Whoever sees
//! another live claim after its own appeared withdraws, so of two that start at once at most one
//! stays. The system drops a dead process's lock, which is how a dead claim is known at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::job::FORMAT_VERSION;
use super::store::{StoreError, make_folders};
use crate::domain::UnixMillis;

const PREFIX: &str = "claim-";
const UNFINISHED: &str = ".claim-";
/// How often a claim whose file was swept away before it appeared is made anew.
const TRIES: u32 = 5;

/// This process's right to write; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Holds the lock.
    _file: File,
}

/// What a claim's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimant {
    /// The version of this form.
    pub version: u32,
    /// The run's name.
    pub run: String,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// The machine's boot, so that a process number is told from an earlier one.
    pub boot_id: String,
    /// When the run began.
    pub started: UnixMillis,
}

/// Why there is no claim.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another run is at work.
    #[error(
        "another run writes to {folder}: process {pid} on {host}, since {}; wait for it or stop it",
        time(*.since)
    )]
    Held {
        /// The output's control folder.
        folder: String,
        /// The other run's machine.
        host: String,
        /// Its process; 0 if it can't be told.
        pid: u32,
        /// When it began.
        since: UnixMillis,
    },
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Claim {
    /// Claims the output whose control folder is `control`; makes the folder if need be.
    ///
    /// # Errors
    /// [`ClaimError::Held`] if another run is at work; nothing of this claim stays then.
    pub fn acquire(control: &Path, run: &str, started: UnixMillis) -> Result<Claim, ClaimError> {
        let failed = |source: io::Error| {
            StoreError::from_io("claiming", control.display().to_string(), source)
        };
        make_folders(control).map_err(failed)?;
        let claimant = Claimant::this_process(run, started);
        let claim = publish(control, &claimant).map_err(failed)?;
        for other in others(control, &claim.path).map_err(failed)? {
            match holder(&other).map_err(failed)? {
                Holder::Dead(lock) => sweep(&other, lock),
                Holder::Alive(found) => {
                    return Err(ClaimError::Held {
                        folder: control.display().to_string(),
                        host: found
                            .as_ref()
                            .map_or_else(|| "this host".into(), |it| it.host.clone()),
                        pid: found.as_ref().map_or(0, |it| it.pid),
                        since: found.map_or(UnixMillis(0), |it| it.started),
                    });
                }
            }
        }
        Ok(claim)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A file that stays is seen as dead, since its lock goes with the process.
        let _ = fs::remove_file(&self.path);
    }
}

impl Claimant {
    fn this_process(run: &str, started: UnixMillis) -> Claimant {
        let kernel = |name: &str| {
            let value = fs::read_to_string(format!("/proc/sys/kernel/{name}"));
            value.map(|value| value.trim().to_owned()).ok()
        };
        Claimant {
            version: FORMAT_VERSION,
            run: run.to_owned(),
            host: kernel("hostname").unwrap_or_else(|| "this host".to_owned()),
            pid: std::process::id(),
            boot_id: kernel("random/boot_id").unwrap_or_default(),
            started,
        }
    }
}

/// Makes the claim's file appear, locked and whole.
#[expect(clippy::disallowed_methods, reason = "a claim has to appear with its lock held")]
fn publish(control: &Path, claimant: &Claimant) -> io::Result<Claim> {
    let path = control.join(format!("{PREFIX}{}.json", claimant.run));
    let unfinished = control.join(format!("{UNFINISHED}{}-{}", claimant.run, claimant.pid));
    let mut tries = 0;
    loop {
        let publish_once = || {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o644).open(&unfinished)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(&serde_json::to_vec(claimant)?)?;
            file.sync_all()?;
            if path.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(&unfinished, &path)?;
            Ok(file)
        };
        let published = publish_once();
        if published.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        tries += 1;
        match published {
            Ok(file) => return Ok(Claim { path, _file: file }),
            // Another run that found this file before its lock was held took it for a dead one's.
            Err(error) if is_swept(&error) && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_swept(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock)
}

/// The other claims in the folder, unfinished ones too.
fn others(control: &Path, own: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(control)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_claim = name.starts_with(PREFIX) || name.starts_with(UNFINISHED);
        if is_claim && entry.path() != own {
            found.push(entry.path());
        }
    }
    Ok(found)
}

enum Holder {
    /// Nobody; the file, with a lock of ours on it, or `None` if it is gone already.
    Dead(Option<File>),
    /// A live process; what its file says, if that can be read.
    Alive(Option<Claimant>),
}

fn holder(path: &Path) -> io::Result<Holder> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Dead(None)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Holder::Alive(None));
        }
        Err(error) => return Err(error),
    };
    // Shared, so that two who look at once don't take each other for the owner.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Holder::Dead(Some(file))),
        Err(Errno::WOULDBLOCK) => {
            let claimant = fs::read(path).ok();
            Ok(Holder::Alive(claimant.and_then(|json| serde_json::from_slice(&json).ok())))
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes a dead process's claim while its lock is ours.
fn sweep(path: &Path, lock: Option<File>) {
    if lock.is_some() {
        // Best effort: one that stays is dead for the next run too.
        let _ = fs::remove_file(path);
    }
}

fn time(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok().and_then(chrono::DateTime::from_timestamp_millis);
    at.map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_second_run_is_told_who_holds_it_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let claim = Claim::acquire(folder.path(), "r1", UnixMillis(1_800_000_000_000)).unwrap();
        let error = Claim::acquire(folder.path(), "r2", UnixMillis(1)).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        assert!(said.contains("2027-01-15 08:00:00 UTC"), "{said}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(claim);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        Claim::acquire(folder.path(), "r2", UnixMillis(1)).unwrap();
    }

    #[test]
    fn a_dead_process_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let claim = Claim::acquire(folder.path(), "r1", UnixMillis(1)).unwrap();
        let bytes = fs::read(&claim.path).unwrap();
        drop(claim);
        // What a killed process leaves: the file without its lock, finished or not.
        for name in ["claim-r1.json", ".claim-r9-77"] {
            let mut left = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(folder.path().join(name))
                .unwrap();
            left.write_all(&bytes).unwrap();
        }
        let _claim = Claim::acquire(folder.path(), "r2", UnixMillis(1)).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_many_that_claim_at_once_at_most_one_owns() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().unwrap();
            let (start, end, owners) = (Barrier::new(4), Barrier::new(4), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for run in 0..4 {
                    let (folder, start, end, owners) = (folder.path(), &start, &end, &owners);
                    scope.spawn(move || {
                        start.wait();
                        let claim = Claim::acquire(folder, &format!("r{run}"), UnixMillis(1));
                        if claim.is_ok() {
                            owners.fetch_add(1, Ordering::SeqCst);
                        }
                        end.wait();
                    });
                }
            });
            assert!(owners.load(Ordering::SeqCst) <= 1);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn either_order_of_a_race_ends_with_at_most_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let claimant = |run: &str| Claimant::this_process(run, UnixMillis(1));
        // Both appear before either looks: each sees the other and withdraws.
        let first = publish(folder.path(), &claimant("r1")).unwrap();
        let second = publish(folder.path(), &claimant("r2")).unwrap();
        for claim in [&first, &second] {
            let others = others(folder.path(), &claim.path).unwrap();
            assert_eq!(others.len(), 1);
            assert!(matches!(holder(&others[0]).unwrap(), Holder::Alive(Some(_))));
        }
        // One looks before the other appears: only the later sees somebody.
        drop(second);
        assert!(others(folder.path(), &first.path).unwrap().is_empty());
        let second = publish(folder.path(), &claimant("r2")).unwrap();
        assert_eq!(others(folder.path(), &second.path).unwrap(), std::slice::from_ref(&first.path));
    }
}
