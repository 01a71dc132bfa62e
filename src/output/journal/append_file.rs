//! A file of lines that only grows: one `write(2)` for a line, at once.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::store::{StoreError, sync_folder};
use super::syncer::Syncer;

/// The file, open for appending.
pub(super) struct AppendFile {
    path: PathBuf,
    file: Arc<File>,
    bytes: u64,
    /// Whether the file may end within a line, which the next one then has to end.
    is_ragged: bool,
    syncer: Arc<Syncer>,
}

impl AppendFile {
    /// Makes a new file that begins with `first`, and its folder if need be. Both are synced with
    /// the next group: whoever waits for this waits for no disk.
    pub(super) fn create(
        path: PathBuf,
        first: &[u8],
        syncer: Arc<Syncer>,
    ) -> Result<AppendFile, StoreError> {
        let steps = || {
            let folder = path.parent().unwrap_or(Path::new(""));
            make_private_folders(folder)?;
            let mut file =
                OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
            let written = file.write_all(first);
            if written.is_err() {
                // So that the same name can be tried again.
                let _ = std::fs::remove_file(&path);
            }
            written?;
            Ok((Arc::new(file), folder.to_owned(), Arc::new(File::open(folder)?)))
        };
        let (file, folder, opened) = steps().map_err(|source| failed("writing", &path, source))?;
        syncer.wrote(&path, &file);
        syncer.wrote(&folder, &opened);
        Ok(AppendFile { path, file, bytes: first.len() as u64, is_ragged: false, syncer })
    }

    /// Opens a file that exists, to go on after its end.
    pub(super) fn open(path: PathBuf, syncer: Arc<Syncer>) -> Result<AppendFile, StoreError> {
        let steps = || {
            let file = OpenOptions::new().append(true).open(&path)?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        };
        let (file, bytes) = steps().map_err(|source| failed("opening", &path, source))?;
        Ok(AppendFile { path, file: Arc::new(file), bytes, is_ragged: bytes > 0, syncer })
    }

    /// Appends `line`, which ends with a line end. On an error the line counts as not written.
    pub(super) fn append(&mut self, line: &[u8]) -> Result<(), StoreError> {
        self.syncer.check()?;
        let ended;
        let bytes = if self.is_ragged {
            ended = [b"\n", line].concat();
            &ended
        } else {
            line
        };
        self.is_ragged = true;
        let written = self.file.as_ref().write_all(bytes);
        written.map_err(|source| failed("writing", &self.path, source))?;
        self.is_ragged = false;
        self.bytes += bytes.len() as u64;
        self.syncer.wrote(&self.path, &self.file);
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes `folder` and its parents, each of them durable, for the owner alone.
pub(super) fn make_private_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    make_private_folders(parent)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    sync_folder(parent)
}

/// Removes a file; one that is gone is removed already.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| failed("removing", path, source)),
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::from_io(doing, path.display().to_string(), source)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn syncer() -> Arc<Syncer> {
        Arc::new(Syncer::start(Duration::ZERO, File::sync_data).unwrap())
    }

    #[test]
    fn a_line_is_in_the_file_when_append_returns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal/000001.jsonl");
        let mut file = AppendFile::create(path.clone(), b"1\n", syncer()).unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\n");
        assert_eq!(file.bytes(), 4);
    }

    #[test]
    fn the_journal_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state/journals/out/000001.jsonl");
        AppendFile::create(path.clone(), b"1\n", syncer()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        for folder in path.ancestors().skip(1).take(3) {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
    }

    #[test]
    fn a_line_after_a_torn_one_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("charges.jsonl");
        AppendFile::create(path.clone(), b"1\n2", syncer()).unwrap();
        let mut file = AppendFile::open(path.clone(), syncer()).unwrap();
        file.append(b"3\n").unwrap();
        file.append(b"4\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\n3\n4\n");
    }

    #[test]
    fn nothing_is_appended_after_a_failed_sync() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000001.jsonl");
        let fail = |_: &File| Err(io::Error::from_raw_os_error(libc::EIO));
        let syncer = Arc::new(Syncer::start(Duration::from_secs(3_600), fail).unwrap());
        let mut file = AppendFile::create(path.clone(), b"1\n", syncer.clone()).unwrap();
        file.append(b"2\n").unwrap();
        while syncer.sync_now().is_ok() {
            syncer.wrote(&path, &file.file);
        }
        let error = file.append(b"3\n").unwrap_err();
        assert!(error.to_string().starts_with("syncing "), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n2\n");
    }
}
