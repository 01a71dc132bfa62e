//! One file of the input, and the proof that it is still the file that was opened.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::InputError;
use super::remote_file::{RemoteFile, RemoteReader};
use crate::cloud::{Bucket, CloudError, Object};
use crate::domain::UnixMillis;
use crate::domain::reading::FileFormat;

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
pub(super) struct Format {
    pub(super) kind: FileFormat,
    pub(super) compression: Compression,
}

/// What a text file is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Format {
    /// The format that the file's extensions name, in any case. Of a file that is `told` to be of one
    /// format, they name the compression alone.
    pub(super) fn of(path: &Path, told: Option<FileFormat>) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
        let (extension, compression) = match Compression::of(extension) {
            Compression::None => (extension, Compression::None),
            compression => (stem.rsplit_once('.').map_or("", |(_, inner)| inner), compression),
        };
        let named = match extension {
            "parquet" | "pq" => Some(FileFormat::Parquet),
            "csv" => Some(FileFormat::Csv),
            "tsv" => Some(FileFormat::Tsv),
            "ndjson" | "jsonl" => Some(FileFormat::Ndjson),
            _ => None,
        };
        let kind = told.or(named)?;
        // Parquet compresses by itself.
        let is_read = kind != FileFormat::Parquet || compression == Compression::None;
        is_read.then_some(Format { kind, compression })
    }
}

impl Compression {
    fn of(extension: &str) -> Compression {
        match extension {
            "gz" | "gzip" => Compression::Gzip,
            "zst" | "zstd" => Compression::Zstd,
            _ => Compression::None,
        }
    }

    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

/// A file's place and name, with what it must keep.
#[derive(Clone, Debug)]
pub(super) struct Source {
    name: String,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Disk { path: PathBuf, bytes: u64, modified: SystemTime },
    Object(Arc<RemoteFile>),
}

impl Source {
    /// The file at `path`; notes its size and time.
    pub(super) fn new(path: PathBuf, name: String) -> Result<Source, InputError> {
        match stamp(&path) {
            Ok((bytes, modified)) => {
                Ok(Source { name, place: Place::Disk { path, bytes, modified } })
            }
            Err(source) => Err(InputError::Io { file: name, source }),
        }
    }

    /// The object of a listing.
    pub(super) fn of_object(bucket: Bucket, object: Object, name: String) -> Source {
        Source { name, place: Place::Object(Arc::new(RemoteFile::new(bucket, object))) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bytes(&self) -> u64 {
        match &self.place {
            Place::Disk { bytes, .. } => *bytes,
            Place::Object(file) => file.object().bytes,
        }
    }

    /// Opens the file, if it is still the same.
    pub(super) fn open(&self) -> Result<SourceReader, InputError> {
        match &self.place {
            Place::Disk { path, .. } => {
                let file = File::open(path).map_err(|source| self.io_error(source))?;
                self.check_unchanged()?;
                Ok(SourceReader::Disk(file))
            }
            Place::Object(file) => Ok(SourceReader::Object(RemoteReader::open(Arc::clone(file)))),
        }
    }

    /// Fails if the file has another size or time than when the input was opened. An object is
    /// read under that condition, so there it fails if a read has.
    pub(super) fn check_unchanged(&self) -> Result<(), InputError> {
        match &self.place {
            Place::Disk { path, bytes, modified } => match stamp(path) {
                Ok(stamp) if stamp == (*bytes, *modified) => Ok(()),
                Ok(_) => Err(self.changed()),
                Err(source) => Err(self.io_error(source)),
            },
            Place::Object(file) => match file.failure() {
                Some(error) => Err(self.io_error(io::Error::other(error))),
                None => Ok(()),
            },
        }
    }

    pub(super) fn io_error(&self, source: io::Error) -> InputError {
        let cause = source.get_ref().and_then(|cause| cause.downcast_ref::<CloudError>());
        match cause {
            Some(CloudError::Changed | CloudError::NotFound) => self.changed(),
            _ => InputError::Io { file: self.name.clone(), source },
        }
    }

    fn changed(&self) -> InputError {
        InputError::Changed { file: self.name.clone() }
    }

    pub(super) fn describe(&self) -> InputFile {
        let modified = match &self.place {
            Place::Disk { modified, .. } => {
                let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Place::Object(file) => file.object().modified,
        };
        InputFile { name: self.name.clone(), bytes: self.bytes(), modified }
    }
}

fn stamp(path: &Path) -> io::Result<(u64, SystemTime)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.len(), metadata.modified()?))
}

/// An open file.
#[derive(Debug)]
pub(super) enum SourceReader {
    Disk(File),
    Object(RemoteReader),
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            SourceReader::Disk(file) => file.read(buffer),
            SourceReader::Object(reader) => reader.read(buffer),
        }
    }
}

impl Seek for SourceReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            SourceReader::Disk(file) => file.seek(to),
            SourceReader::Object(reader) => reader.seek(to),
        }
    }
}

impl Length for SourceReader {
    fn len(&self) -> u64 {
        match self {
            SourceReader::Disk(file) => Length::len(file),
            SourceReader::Object(reader) => reader.len(),
        }
    }
}

impl ChunkReader for SourceReader {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Box<dyn Read>, ParquetError> {
        Ok(match self {
            SourceReader::Disk(file) => Box::new(file.get_read(start)?),
            SourceReader::Object(reader) => Box::new(reader.get_read(start)?),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        match self {
            // The memory for them is taken before they are read: a damaged length asks for 2 GiB.
            SourceReader::Disk(file) if start.saturating_add(length as u64) > Length::len(file) => {
                Err(ParquetError::EOF(format!("{length} bytes from byte {start} on")))
            }
            SourceReader::Disk(file) => file.get_bytes(start, length),
            SourceReader::Object(reader) => reader.get_bytes(start, length),
        }
    }
}
