//! Brings an input into id order in bounded memory.
//!
//! 1. `proof`: the ids alone are sorted, and merged once: none stands twice.
//! 2. `spill`: rows are sorted a stretch at a time, as many as `sort_memory` holds, and written to
//!    a temporary file, page by page; the ids beside them to another. An input of one stretch stays
//!    in memory.
//! 3. The ids are merged once more, which gives the `order_file`: from which run each next row
//!    comes. Rows are not written again: a reader counts its way to any position and then needs
//!    one page of each run. Where even those are too many for the memory, neighbouring runs are
//!    made one first.
//!
//! Rows are kept in `plain` form meanwhile and get their own types back when they are read.

mod cursors;
mod id_keys;
mod key_runs;
mod order_file;
mod page_file;
mod plain;
mod proof;
mod sorted;
mod spill;
mod stretch;
mod temp_folder;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use sha2::{Digest, Sha256};

pub(super) use self::sorted::{Sorted, SortedRows};
use self::stretch::Stretch;
use self::temp_folder::TempFolder;
use super::InputError;
use super::table::Columns;
use super::tables::Tables;
use crate::domain::Location;
use crate::domain::spec::{InputSpec, OnDuplicateId};

/// Batches that are read before they are sorted.
const BATCHES_AHEAD: usize = 2;
/// The version of the files of a sort: others are not read.
const VERSION: u32 = 1;

/// What to sort, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sorter<'a> {
    tables: &'a Arc<Tables>,
    /// The place of the id column.
    id: usize,
    on_duplicate: OnDuplicateId,
    /// Bytes that sorting may take.
    memory: u64,
    temp_dir: &'a Path,
    location: &'a Location,
}

impl<'a> Sorter<'a> {
    /// A sorter of these files by the column at `id`.
    pub(super) fn new(tables: &'a Arc<Tables>, id: usize, spec: &'a InputSpec) -> Sorter<'a> {
        Sorter {
            tables,
            id,
            on_duplicate: spec.on_duplicate_id,
            memory: spec.sort_memory,
            temp_dir: &spec.temp_dir,
            location: &spec.location,
        }
    }

    /// A finished sort of the same files that an earlier run left. Removes what others left
    /// unfinished.
    pub(super) fn find(&self) -> Option<Sorted> {
        temp_folder::sweep(self.temp_dir, None, spill::is_useful);
        let (folder, manifest) = TempFolder::find(self.temp_dir, &self.key())?;
        let schema = self.tables.schema();
        let spill = spill::Spill::reopen(folder, &manifest, plain::plain_schema(schema))?;
        Some(Sorted::on_disk(spill, schema, self.temp_dir))
    }

    /// Proves the ids sound whatever their order; returns how many rows are dropped.
    ///
    /// # Errors
    /// If an id is null or, unless repeated ones are dropped, stands twice; if the input can't be
    /// read, or ids that don't fit in memory can't be written to the temporary folder.
    pub(super) fn prove(&self) -> Result<u64, InputError> {
        proof::prove(self).map_err(|error| self.input_error(error))
    }

    /// Reads all rows and puts them in order, in memory or in the temporary folder.
    ///
    /// # Errors
    /// If the input can't be read or its ids are not those that were proved, or if the temporary
    /// folder has no room or can't be written.
    pub(super) fn sort(&self) -> Result<Sorted, InputError> {
        self.sort_all().map_err(|error| self.input_error(error))
    }

    fn sort_all(&self) -> Result<Sorted, SortError> {
        let plain = plain::plain_schema(self.tables.schema());
        let batches = self.tables.read_all(Columns::All);
        let batches = batches.map(|batch| Ok(plain::convert(&batch?, &plain)?));
        ahead(batches, |batches| self.sort_batches(batches, &plain))?
    }

    /// Sorts `batches` in plain form: columns of the schema `plain`.
    fn sort_batches(
        &self,
        batches: impl Iterator<Item = Result<RecordBatch, SortError>>,
        plain: &SchemaRef,
    ) -> Result<Sorted, SortError> {
        let schema = self.tables.schema();
        let id_type = schema.field(self.id).data_type();
        let mut stretch = Stretch::new(id_type);
        let mut spiller = None;
        for batch in batches {
            let batch = batch?;
            if stretch.is_full(&batch, self.memory) {
                let spiller = match &mut spiller {
                    Some(spiller) => spiller,
                    None => spiller.insert(spill::Spiller::start(self, Arc::clone(plain))?),
                };
                spiller.write(std::mem::replace(&mut stretch, Stretch::new(id_type)))?;
            }
            stretch.push(batch, self.id)?;
        }
        match spiller {
            Some(mut spiller) => {
                spiller.write(stretch)?;
                Ok(Sorted::on_disk(spiller.finish()?, schema, self.temp_dir))
            }
            None => {
                let (mut sorted, ids) = stretch.sort();
                sorted.drop_repeats(&ids);
                Ok(Sorted::in_memory(sorted, schema))
            }
        }
    }

    /// Names a sort by all that decides its outcome.
    fn key(&self) -> String {
        let schema = self.tables.schema();
        let column = schema.field(self.id).name();
        let location = match self.location {
            Location::Path(path) => {
                std::path::absolute(path).ok().map(|path| path.to_string_lossy().into_owned())
            }
            Location::Object(url) => Some(url.canonical()),
        };
        let facts = (VERSION, location, column, self.on_duplicate, self.tables.describe());
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&facts).unwrap_or_default());
        hash.update(format!("{schema:?}"));
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// A new folder, once there is room for `need` bytes.
    fn new_folder(&self, need: u64) -> Result<TempFolder, SortError> {
        let free = temp_folder::free_bytes(self.temp_dir)?;
        if need > free {
            return Err(SortError::NoRoom { need, free });
        }
        let folder = TempFolder::create(self.temp_dir, &self.key())?;
        temp_folder::sweep(self.temp_dir, Some(&folder), spill::is_useful);
        Ok(folder)
    }

    fn input_error(&self, error: SortError) -> InputError {
        let column = || self.tables.schema().field(self.id).name().clone();
        match error {
            SortError::Input(error) => error,
            SortError::Temporary(source) => temporary_error(self.temp_dir, source),
            SortError::Ids(source) => InputError::BadValue { column: column(), source },
            SortError::Rows(source) => InputError::BadBatch { source },
            SortError::NoRoom { need, free } => InputError::TempSpace {
                folder: self.temp_dir.display().to_string(),
                need_mib: need.div_ceil(1 << 20),
                free_mib: free >> 20,
            },
        }
    }
}

/// Does `work` with what `source` yields, which a thread of its own has ready.
fn ahead<T: Send, R>(
    source: impl Iterator<Item = T> + Send,
    work: impl FnOnce(std::sync::mpsc::IntoIter<T>) -> R,
) -> io::Result<R> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(BATCHES_AHEAD);
        let read = move || {
            for item in source {
                if sender.send(item).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("sort-reader".into()).spawn_scoped(scope, read)?;
        Ok(work(receiver.into_iter()))
    })
}

/// Why sorting failed.
#[derive(Debug)]
enum SortError {
    /// The input is at fault.
    Input(InputError),
    /// The temporary files are.
    Temporary(io::Error),
    /// An id that can't be compared.
    Ids(ArrowError),
    /// Rows that can't be put together.
    Rows(ArrowError),
    /// The temporary folder has too little room, bytes.
    NoRoom { need: u64, free: u64 },
}

impl From<InputError> for SortError {
    fn from(error: InputError) -> SortError {
        SortError::Input(error)
    }
}

impl From<io::Error> for SortError {
    fn from(error: io::Error) -> SortError {
        SortError::Temporary(error)
    }
}

impl From<ArrowError> for SortError {
    fn from(error: ArrowError) -> SortError {
        SortError::Rows(error)
    }
}

fn temporary_error(temp_dir: &Path, source: io::Error) -> InputError {
    let folder = temp_dir.display().to_string();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            InputError::TempFull { folder }
        }
        _ => InputError::TempFolder { folder, source },
    }
}
