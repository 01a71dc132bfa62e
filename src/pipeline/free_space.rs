//! A disk that is full, or nearly so, is noticed before the first call.
//!
//! What is asked for is modest: room for a segment of the journal and for one part, as large as the
//! input's rows make it. Whoever has less meets the end of the disk within minutes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::RunError;

/// Bytes that the journal takes for a row, with its share of a reply.
const JOURNAL_ROW: u64 = 200;
/// The least that a disk must have free: folders, records and claims take some too.
const LEAST: u64 = 1 << 20;

/// What is going to be written, at most, before anything can go again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// For the journal, bytes.
    journal: u64,
    /// For a part, bytes.
    part: u64,
}

impl Need {
    /// The need of a run that has `rows_left` to do, in parts of `rows_per_part`, of an input that
    /// takes `input_bytes` for `input_rows`.
    pub(super) fn of(
        rows_left: u64,
        rows_per_part: u64,
        input_rows: u64,
        input_bytes: u64,
        segment_bytes: u64,
    ) -> Need {
        let row = input_bytes / input_rows.max(1);
        Need {
            journal: rows_left.saturating_mul(JOURNAL_ROW).min(segment_bytes).max(LEAST),
            part: rows_left.min(rows_per_part).saturating_mul(row).max(LEAST),
        }
    }

    /// Asks the disks of both folders whether they have that much; `output` is `None` if it is on
    /// no disk. A disk that does not say is taken to have it.
    ///
    /// # Errors
    /// [`RunError::DiskFull`].
    pub(super) fn check(self, journal: &Path, output: Option<&Path>) -> Result<(), RunError> {
        let journal = Disk::of(journal);
        let output = output.and_then(Disk::of);
        let is_shared = match (&journal, &output) {
            (Some(journal), Some(output)) => journal.device == output.device,
            _ => false,
        };
        let both = self.journal + self.part;
        if is_shared {
            return output.map_or(Ok(()), |disk| disk.has(both));
        }
        output.map_or(Ok(()), |disk| disk.has(self.part))?;
        journal.map_or(Ok(()), |disk| disk.has(self.journal))
    }
}

struct Disk {
    folder: PathBuf,
    device: u64,
    free: u64,
}

impl Disk {
    /// The disk on which `folder` is, or will be; `None` if it does not say what is free.
    fn of(folder: &Path) -> Option<Disk> {
        let whole = std::path::absolute(folder).ok()?;
        let (standing, found) =
            whole.ancestors().find_map(|above| Some((above, above.metadata().ok()?)))?;
        let told = rustix::fs::statvfs(standing).ok()?;
        let free = told.f_bavail.saturating_mul(told.f_frsize);
        (told.f_blocks > 0).then(|| Disk { folder: folder.to_owned(), device: found.dev(), free })
    }

    fn has(&self, needed: u64) -> Result<(), RunError> {
        if self.free >= needed {
            return Ok(());
        }
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Err(RunError::DiskFull {
            folder: self.folder.display().to_string(),
            free: mebibytes(self.free),
            needed: mebibytes(needed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 8 << 20;

    #[test]
    fn the_need_is_a_part_and_a_segment_and_never_more_than_the_rows_left() {
        let need = |left| Need::of(left, 50_000, 2_000_000, 400_000_000, SEGMENT);
        assert_eq!(need(2_000_000), Need { journal: SEGMENT, part: 10_000_000 });
        assert_eq!(need(20_000), Need { journal: 4_000_000, part: 4_000_000 });
        assert_eq!(need(1), Need { journal: LEAST, part: LEAST });
        assert_eq!(Need::of(9, 9, 0, 0, SEGMENT), Need { journal: LEAST, part: LEAST });
    }

    #[test]
    fn a_disk_is_asked_before_the_folder_is_made() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("not/yet/there");
        let disk = Disk::of(&folder).unwrap();
        assert!(disk.free > 0);
        disk.has(disk.free).unwrap();
        let refused = disk.has(disk.free + 1).unwrap_err().to_string();
        assert!(refused.contains("not/yet/there has "), "{refused}");
    }

    #[test]
    fn one_disk_has_to_hold_both() {
        let scratch = tempfile::tempdir().unwrap();
        let free = Disk::of(scratch.path()).unwrap().free;
        let most = Need { journal: free / 2 + free / 4, part: free / 2 };
        most.check(scratch.path(), Some(scratch.path())).unwrap_err();
        most.check(scratch.path(), None).unwrap();
    }
}
