//! One file of the input, and the proof that it is still the file that was opened.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::InputError;
use crate::domain::UnixMillis;

/// A file of the input, as it was when the input was opened.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InputFile {
    /// Its path below the input's folder, with `/` between the names.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last changed.
    pub modified: UnixMillis,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Csv,
    Tsv,
}

impl Format {
    /// The format that the file's extension names, in any case.
    pub(super) fn of(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "parquet" | "pq" => Some(Format::Parquet),
            "csv" => Some(Format::Csv),
            "tsv" => Some(Format::Tsv),
            _ => None,
        }
    }
}

/// A file's path and name, with the size and time that it must keep.
#[derive(Clone, Debug)]
pub(super) struct Source {
    path: PathBuf,
    name: String,
    bytes: u64,
    modified: SystemTime,
}

impl Source {
    /// Notes the file's size and time.
    pub(super) fn new(path: PathBuf, name: String) -> Result<Source, InputError> {
        match stamp(&path) {
            Ok((bytes, modified)) => Ok(Source { path, name, bytes, modified }),
            Err(source) => Err(InputError::Io { file: name, source }),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Opens the file, if it is still the same.
    pub(super) fn open(&self) -> Result<File, InputError> {
        let file = File::open(&self.path).map_err(|source| self.io_error(source))?;
        self.check_unchanged()?;
        Ok(file)
    }

    /// Fails if the file has another size or time than when the input was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), InputError> {
        match stamp(&self.path) {
            Ok(stamp) if stamp == (self.bytes, self.modified) => Ok(()),
            Ok(_) => Err(InputError::Changed { file: self.name.clone() }),
            Err(source) => Err(self.io_error(source)),
        }
    }

    pub(super) fn io_error(&self, source: io::Error) -> InputError {
        InputError::Io { file: self.name.clone(), source }
    }

    pub(super) fn describe(&self) -> InputFile {
        let since = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        InputFile {
            name: self.name.clone(),
            bytes: self.bytes,
            modified: UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

fn stamp(path: &Path) -> io::Result<(u64, SystemTime)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.len(), metadata.modified()?))
}
