//! From which run each next row comes: two bytes a row, so that any position is found by counting,
//! without a look at the rows before it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;

/// Runs that two bytes can tell apart.
pub(super) const MOST_RUNS: usize = DROPPED as usize;

/// Marks a row that has no position, since its id stands earlier in the input.
const DROPPED: u16 = 1 << 15;

/// The next row in id order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// The run whose next row it is, less than [`MOST_RUNS`].
    pub(super) run: usize,
    /// Whether it is left out.
    pub(super) is_dropped: bool,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct OrderWriter(BufWriter<File>);

/// Reads a file from its start.
#[derive(Debug)]
pub(super) struct OrderReader(BufReader<SharedFile>);

impl OrderWriter {
    /// An order that goes into this empty file.
    pub(super) fn new(file: File) -> OrderWriter {
        OrderWriter(BufWriter::with_capacity(64 << 10, file))
    }

    /// Appends a row.
    pub(super) fn push(&mut self, next: Next) -> io::Result<()> {
        let run = u16::try_from(next.run).map_err(io::Error::other)?;
        let mark = if next.is_dropped { DROPPED } else { 0 };
        self.0.write_all(&(run | mark).to_le_bytes())
    }

    /// All rows are written.
    pub(super) fn finish(self) -> io::Result<File> {
        Ok(self.0.into_inner()?)
    }
}

impl OrderReader {
    /// Reads from the start, whatever other readers do.
    pub(super) fn new(file: &Arc<File>) -> OrderReader {
        OrderReader(BufReader::with_capacity(
            64 << 10,
            SharedFile { file: Arc::clone(file), at: 0 },
        ))
    }

    /// The next row; there must be one.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        let mut entry = [0; 2];
        self.0.read_exact(&mut entry)?;
        let entry = u16::from_le_bytes(entry);
        Ok(Next { run: usize::from(entry & !DROPPED), is_dropped: entry & DROPPED != 0 })
    }
}

/// A place of its own in a file that others read too.
#[derive(Debug)]
struct SharedFile {
    file: Arc<File>,
    at: u64,
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
