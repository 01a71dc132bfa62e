//! Sorted rows on disk: pages of a few rows each, Arrow IPC messages one after the other.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::FileDecoder;
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message,
};
use arrow::ipc::{Block, MetadataVersion};
use serde::{Deserialize, Serialize};

use crate::domain::guard::without_panic;

/// Where a page stands, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Page {
    /// Its first byte in the file.
    offset: u64,
    /// Bytes of the message's header.
    header: i32,
    /// Bytes of the rows, as on disk so in memory.
    pub(super) bytes: i64,
    /// Rows in it.
    pub(super) rows: u32,
}

/// Pages that follow each other in id order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) pages: Vec<Page>,
}

impl Run {
    /// Bytes of its largest page, which are in memory while the run is merged.
    pub(super) fn largest_page(&self) -> u64 {
        self.pages.iter().map(|page| page.bytes.unsigned_abs()).max().unwrap_or(0)
    }
}

/// A file of pages that is being written.
pub(super) struct PageWriter {
    file: BufWriter<File>,
    end: u64,
    context: IpcWriteContext,
}

/// Reads single pages.
#[derive(Debug)]
pub(super) struct PageFile {
    file: File,
    decoder: FileDecoder,
}

impl PageWriter {
    /// Pages that go into this empty file.
    pub(super) fn new(file: File) -> PageWriter {
        let file = BufWriter::with_capacity(256 << 10, file);
        PageWriter { file, end: 0, context: IpcWriteContext::default() }
    }

    /// Appends rows in plain form as a page.
    pub(super) fn write(&mut self, rows: &RecordBatch) -> io::Result<Page> {
        let options = IpcWriteOptions::default();
        let mut tracker = DictionaryTracker::new(false);
        let encoded = without_panic(|| {
            IpcDataGenerator::default().encode(rows, &mut tracker, &options, &mut self.context)
        });
        let (_, message) = encoded.unwrap_or_else(|| Err(unsound())).map_err(io::Error::other)?;
        let written =
            write_message(&mut self.file, message, &options).map_err(|error| match error {
                ArrowError::IoError(_, source) => source,
                error => io::Error::other(error),
            });
        let (header, body) = written?;
        let offset = self.end;
        self.end += (header + body) as u64;
        Ok(Page {
            offset,
            header: i32::try_from(header).map_err(io::Error::other)?,
            bytes: i64::try_from(body).map_err(io::Error::other)?,
            rows: u32::try_from(rows.num_rows()).map_err(io::Error::other)?,
        })
    }

    /// All pages are written; their columns are those of `schema`.
    pub(super) fn finish(mut self, schema: SchemaRef) -> io::Result<PageFile> {
        self.file.flush()?;
        Ok(PageFile::new(self.file.into_inner()?, schema))
    }
}

impl std::fmt::Debug for PageWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageWriter").field("end", &self.end).finish_non_exhaustive()
    }
}

impl PageFile {
    /// A file whose pages have the columns of `schema`.
    pub(super) fn new(file: File, schema: SchemaRef) -> PageFile {
        PageFile { file, decoder: FileDecoder::new(schema, MetadataVersion::V5) }
    }

    /// Bytes of the whole file.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads the rows of a page.
    pub(super) fn read(&self, page: &Page) -> io::Result<RecordBatch> {
        let Page { offset, header, bytes, rows } = *page;
        let length = usize::try_from(i64::from(header) + bytes).map_err(io::Error::other)?;
        let mut message = vec![0; length];
        self.file.read_exact_at(&mut message, offset)?;
        let block = Block::new(i64::try_from(offset).map_err(io::Error::other)?, header, bytes);
        let message = Buffer::from_vec(message);
        let batch = without_panic(|| self.decoder.read_record_batch(&block, &message));
        let batch = batch.unwrap_or_else(|| Err(unsound())).map_err(io::Error::other)?;
        batch
            .filter(|batch| batch.num_rows() == rows as usize)
            .ok_or_else(|| io::Error::other(unsound()))
    }
}

fn unsound() -> ArrowError {
    ArrowError::IpcError("rows of another form than they were written in".to_owned())
}
