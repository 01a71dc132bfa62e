//! An input in id order, and the reading of its rows by position.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::cursors::Cursors;
use super::order_file::OrderReader;
use super::plain::convert;
use super::spill::Spill;
use super::stretch::SortedStretch;
use super::temporary_error;
use crate::domain::Position;
use crate::input::InputError;

/// Bytes of rows that are read at once, unless a single row has more.
const MOST_BYTES: u64 = 16 << 20;

/// Rows in id order; a clone is another hold on the same rows.
#[derive(Clone, Debug)]
pub(in crate::input) struct Sorted {
    place: Place,
    /// The columns as the input has them.
    schema: SchemaRef,
}

#[derive(Clone, Debug)]
enum Place {
    Memory(Arc<SortedStretch>),
    Disk(Arc<Spill>, Arc<Path>),
}

impl Sorted {
    pub(super) fn in_memory(rows: SortedStretch, schema: &SchemaRef) -> Sorted {
        Sorted { place: Place::Memory(Arc::new(rows)), schema: Arc::clone(schema) }
    }

    /// `temp_dir` is where errors say that it is.
    pub(super) fn on_disk(spill: Spill, schema: &SchemaRef, temp_dir: &Path) -> Sorted {
        let place = Place::Disk(Arc::new(spill), temp_dir.into());
        Sorted { place, schema: Arc::clone(schema) }
    }

    /// Rows that have a position.
    pub(in crate::input) fn rows(&self) -> u64 {
        match &self.place {
            Place::Memory(rows) => rows.order().len() as u64,
            Place::Disk(spill, _) => spill.rows,
        }
    }

    /// Whether temporary files stay for a later run to find when the last hold on them goes.
    pub(in crate::input) fn keep(&self, is_kept: bool) {
        if let Place::Disk(spill, _) = &self.place {
            spill.folder.keep(is_kept);
        }
    }

    /// Reads rows from the first position on.
    pub(in crate::input) fn read(&self) -> SortedRows {
        let from = match &self.place {
            Place::Memory(rows) => Reader::Memory(Arc::clone(rows)),
            Place::Disk(spill, temp_dir) => Reader::Disk(SpillReader {
                order: OrderReader::new(&spill.order),
                cursors: Cursors::new(Arc::clone(&spill.pages), &spill.runs),
                position: 0,
                temp_dir: temp_dir.to_path_buf(),
                _spill: Arc::clone(spill),
            }),
        };
        SortedRows { from, schema: Arc::clone(&self.schema), rest: None }
    }
}

/// Reads rows by position, which only ever ascends.
#[derive(Debug)]
pub(in crate::input) struct SortedRows {
    from: Reader,
    schema: SchemaRef,
    /// Rows that were read, in plain form, and not yet taken.
    rest: Option<RecordBatch>,
}

#[derive(Debug)]
enum Reader {
    Memory(Arc<SortedStretch>),
    Disk(SpillReader),
}

impl SortedRows {
    /// The next rows, at least one and at most `most`, of which the first stands at `first`. Rows
    /// before it that were not taken are passed over.
    ///
    /// # Errors
    /// If the temporary files can't be read, or rows not be put together.
    pub(in crate::input) fn take(
        &mut self,
        first: Position,
        most: usize,
    ) -> Result<RecordBatch, InputError> {
        let rows = match (self.rest.take(), &mut self.from) {
            (Some(rest), _) => rest,
            (None, Reader::Memory(rows)) => {
                let first = usize::try_from(first.0).unwrap_or(usize::MAX);
                let wanted: Vec<_> = rows.order().iter().skip(first).take(most).copied().collect();
                rows.gather(&wanted).map_err(|source| InputError::BadBatch { source })?
            }
            (None, Reader::Disk(reader)) => reader
                .read(first, most)
                .map_err(|source| temporary_error(&reader.temp_dir, source))?,
        };
        self.restore(rows)
    }

    /// Gives the first rows their own types; as many as those allow, since a dictionary of small
    /// keys holds few values.
    fn restore(&mut self, rows: RecordBatch) -> Result<RecordBatch, InputError> {
        let mut count = rows.num_rows();
        loop {
            match convert(&rows.slice(0, count), &self.schema) {
                Ok(restored) => {
                    let left = rows.num_rows() - count;
                    self.rest = (left > 0).then(|| rows.slice(count, left));
                    return Ok(restored);
                }
                Err(_) if count > 1 => count /= 2,
                Err(source) => return Err(InputError::BadBatch { source }),
            }
        }
    }
}

/// A place in a spill.
#[derive(Debug)]
struct SpillReader {
    order: OrderReader,
    cursors: Cursors,
    /// The position of the next row.
    position: u64,
    temp_dir: PathBuf,
    /// Its files stay while they are read.
    _spill: Arc<Spill>,
}

impl SpillReader {
    fn read(&mut self, first: Position, most: usize) -> io::Result<RecordBatch> {
        while self.position < first.0 {
            let next = self.order.next()?;
            self.cursors.pass(next.run)?;
            self.position += u64::from(!next.is_dropped);
        }
        while self.cursors.picked() < most && self.cursors.picked_bytes() < MOST_BYTES {
            let next = self.order.next()?;
            if next.is_dropped {
                self.cursors.pass(next.run)?;
            } else {
                self.cursors.pick(next.run)?;
                self.position += 1;
            }
        }
        self.cursors.take().map_err(io::Error::other)
    }
}
