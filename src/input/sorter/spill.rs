//! Rows that don't fit in memory: sorted runs in a temporary file, and the order of their merge.

use std::fs::File;
use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::cursors::Cursors;
use super::id_keys::IdKeys;
use super::key_runs::{KeyRunWriter, KeyRuns};
use super::order_file::{MOST_RUNS, Next, OrderWriter};
use super::page_file::{PageFile, PageWriter, Run};
use super::stretch::{SortedStretch, Stretch};
use super::temp_folder::TempFolder;
use super::{SortError, Sorter, VERSION, proof};
use crate::domain::spec::OnDuplicateId;
use crate::input::MAX_CHUNK_ROWS;

const ORDER: &str = "order";
/// What a row takes besides itself while a run is sorted, bytes.
const ORDER_BYTES: u64 = 24;
/// Pages that fit in half of the memory, and so about the runs that are merged at once.
const PAGES_IN_HALF: u64 = 256;

/// Sorted runs and their order, on disk.
#[derive(Debug)]
pub(super) struct Spill {
    pub(super) pages: Arc<PageFile>,
    pub(super) runs: Vec<Arc<Run>>,
    pub(super) order: Arc<File>,
    /// Rows that have a position.
    pub(super) rows: u64,
    pub(super) folder: TempFolder,
}

/// What a finished sort says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    /// The machine's boot: what was written before a power loss may be there in part.
    boot_id: String,
    rows: u64,
    /// The file with the pages.
    pages: String,
    pages_bytes: u64,
    order_bytes: u64,
    runs: Vec<Run>,
}

/// Runs that are being written.
pub(super) struct Spiller<'a> {
    sorter: Sorter<'a>,
    schema: SchemaRef,
    folder: TempFolder,
    files: Files,
    runs: Vec<Run>,
    /// How often runs were made into larger ones.
    level: u32,
}

/// The pages of runs and the ids of the same runs.
struct Files {
    pages: PageWriter,
    keys: KeyRunWriter,
}

impl<'a> Spiller<'a> {
    /// Begins a sort of rows with the columns of `schema`, if there is room for it.
    pub(super) fn start(sorter: &Sorter<'a>, schema: SchemaRef) -> Result<Spiller<'a>, SortError> {
        let need = Spiller::need(sorter);
        let folder = sorter.new_folder(need)?;
        let files = Files::new(&folder, 0, sorter.memory)?;
        Ok(Spiller { sorter: *sorter, schema, folder, files, runs: Vec::new(), level: 0 })
    }

    /// Bytes that the files of a sort will about take.
    fn need(sorter: &Sorter<'_>) -> u64 {
        let rows = sorter.tables.bytes_in_memory();
        let ids_and_order = sorter.tables.rows() * 10;
        let once = rows + ids_and_order;
        // Runs that are made into larger ones are written twice.
        let runs = (rows + sorter.tables.rows() * ORDER_BYTES) / sorter.memory.max(1);
        let is_large = runs > PAGES_IN_HALF;
        once + if is_large { once } else { 0 }
    }

    /// Sorts a stretch and writes it as a run.
    pub(super) fn write(&mut self, stretch: Stretch) -> Result<(), SortError> {
        let (sorted, ids) = stretch.sort();
        let target = page_bytes(self.sorter.memory);
        let rows_per_page = (target / sorted.bytes_per_row()).max(1);
        let rows_per_page = usize::try_from(rows_per_page).unwrap_or(MAX_CHUNK_ROWS);
        let mut run = Run::default();
        for rows in sorted.order().chunks(rows_per_page.min(MAX_CHUNK_ROWS)) {
            self.write_pages(&sorted, rows, &mut run)?;
        }
        ids.write(sorted.order(), self.files.keys.out())?;
        self.files.keys.end_run()?;
        self.runs.push(run);
        Ok(())
    }

    /// Writes rows as one page, or as more where some are much larger than the others.
    fn write_pages(
        &mut self,
        sorted: &SortedStretch,
        rows: &[u32],
        run: &mut Run,
    ) -> Result<(), SortError> {
        let page = sorted.gather(rows)?;
        let bytes = page.get_array_memory_size() as u64;
        if rows.len() > 1 && bytes > 2 * page_bytes(self.sorter.memory) {
            drop(page);
            let (first, second) = rows.split_at(rows.len() / 2);
            self.write_pages(sorted, first, run)?;
            return self.write_pages(sorted, second, run);
        }
        run.pages.push(self.files.pages.write(&page)?);
        Ok(())
    }

    /// Merges the ids, which gives the order.
    pub(super) fn finish(mut self) -> Result<Spill, SortError> {
        let id_type = self.schema.field(self.sorter.id).data_type();
        let mut ids = IdKeys::new(id_type);
        loop {
            let Files { pages, keys } = self.files;
            let pages = Arc::new(pages.finish(Arc::clone(&self.schema))?);
            let keys = keys.finish()?;
            let runs: Vec<_> = std::mem::take(&mut self.runs).into_iter().map(Arc::new).collect();
            if group(&runs, self.sorter.memory) == runs.len() && runs.len() <= MOST_RUNS {
                self.folder.remove_file(&keys_name(self.level))?;
                return complete(self.sorter, self.folder, pages, runs, &keys, &ids, self.level);
            }
            let files = Files::new(&self.folder, self.level + 1, self.sorter.memory)?;
            self.files = files;
            let mut first = 0;
            while first < runs.len() {
                let count = group(&runs[first..], self.sorter.memory);
                let cursors = Cursors::new(Arc::clone(&pages), &runs[first..first + count]);
                self.merge(cursors, &keys, first..first + count, &mut ids)?;
                first += count;
            }
            for name in [pages_name(self.level), keys_name(self.level)] {
                self.folder.remove_file(&name)?;
            }
            self.level += 1;
        }
    }

    /// Writes some runs as one.
    fn merge(
        &mut self,
        mut cursors: Cursors,
        keys: &KeyRuns,
        runs: std::ops::Range<usize>,
        ids: &mut IdKeys,
    ) -> Result<(), SortError> {
        let target = page_bytes(self.sorter.memory);
        let id = self.sorter.id;
        let mut run = Run::default();
        let files = &mut self.files;
        let mut flush = |cursors: &mut Cursors| -> Result<(), SortError> {
            let rows = cursors.take()?;
            run.pages.push(files.write(&rows, id)?);
            Ok(())
        };
        ids.clear();
        keys.merge::<SortError>(runs, ids, false, |step| {
            cursors.pick(step.run)?;
            if cursors.picked_bytes() >= target || cursors.picked() >= MAX_CHUNK_ROWS {
                flush(&mut cursors)?;
            }
            Ok(())
        })?;
        if cursors.picked() > 0 {
            flush(&mut cursors)?;
        }
        self.files.keys.end_run()?;
        self.runs.push(run);
        Ok(())
    }
}

impl Files {
    fn new(folder: &TempFolder, level: u32, memory: u64) -> io::Result<Files> {
        Ok(Files {
            pages: PageWriter::new(folder.new_file(&pages_name(level))?),
            keys: KeyRunWriter::new(folder.new_file(&keys_name(level))?, memory),
        })
    }

    /// Writes rows in id order as a page, and their ids.
    fn write(
        &mut self,
        rows: &RecordBatch,
        id: usize,
    ) -> Result<super::page_file::Page, SortError> {
        let mut ids = IdKeys::new(rows.column(id).data_type());
        ids.extend(rows.column(id)).map_err(SortError::Ids)?;
        let all: Vec<u32> = (0..u32::try_from(ids.len()).unwrap_or(u32::MAX)).collect();
        ids.write(&all, self.keys.out())?;
        Ok(self.pages.write(rows)?)
    }
}

/// Writes the order of the runs and the manifest.
fn complete(
    sorter: Sorter<'_>,
    folder: TempFolder,
    pages: Arc<PageFile>,
    runs: Vec<Arc<Run>>,
    keys: &KeyRuns,
    like: &IdKeys,
    level: u32,
) -> Result<Spill, SortError> {
    let mut order = OrderWriter::new(folder.new_file(ORDER)?);
    let mut rows = 0;
    let stops_at_repeat = sorter.on_duplicate == OnDuplicateId::Error;
    let repeated = keys.merge::<SortError>(0..runs.len(), like, stops_at_repeat, |step| {
        rows += u64::from(!step.is_repeat);
        Ok(order.push(Next { run: step.run, is_dropped: step.is_repeat })?)
    })?;
    if let Some(key) = repeated {
        return Err(proof::name(&sorter, &key)?.into());
    }
    let order = Arc::new(order.finish()?);
    let manifest = Manifest {
        version: VERSION,
        boot_id: boot_id(),
        rows,
        pages: pages_name(level),
        pages_bytes: pages.len()?,
        order_bytes: order.metadata()?.len(),
        runs: runs.iter().map(|run| Run::clone(run)).collect(),
    };
    folder.finish(&serde_json::to_vec(&manifest).map_err(io::Error::other)?)?;
    Ok(Spill { folder, pages, runs, order, rows })
}

impl Spill {
    /// A sort that an earlier process finished, if its files are as it left them.
    pub(super) fn reopen(folder: TempFolder, manifest: &[u8], schema: SchemaRef) -> Option<Spill> {
        let spill = Spill::open(&folder, manifest, schema);
        match spill {
            Some((pages, order, manifest)) => Some(Spill {
                folder,
                pages: Arc::new(pages),
                runs: manifest.runs.into_iter().map(Arc::new).collect(),
                order: Arc::new(order),
                rows: manifest.rows,
            }),
            None => {
                folder.keep(false);
                None
            }
        }
    }

    fn open(
        folder: &TempFolder,
        manifest: &[u8],
        schema: SchemaRef,
    ) -> Option<(PageFile, File, Manifest)> {
        let manifest = useful(manifest)?;
        let pages = PageFile::new(folder.open(&manifest.pages).ok()?, schema);
        let order = folder.open(ORDER).ok()?;
        let is_whole = pages.len().ok()? == manifest.pages_bytes
            && order.metadata().ok()?.len() == manifest.order_bytes;
        is_whole.then_some((pages, order, manifest))
    }
}

/// Whether a finished sort with this manifest may be read.
pub(super) fn is_useful(manifest: &[u8]) -> bool {
    useful(manifest).is_some()
}

fn useful(manifest: &[u8]) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(manifest).ok()?;
    let is_ours = manifest.version == VERSION && !manifest.boot_id.is_empty();
    (is_ours && manifest.boot_id == boot_id()).then_some(manifest)
}

/// How many of the first runs, at least two unless there is only one, can be merged at once: one
/// page of each is in memory, in the half of it that the merged rows leave.
fn group(runs: &[Arc<Run>], memory: u64) -> usize {
    let mut bytes = 0;
    let fit = runs.iter().take_while(|run| {
        bytes += run.largest_page();
        bytes <= memory / 2
    });
    fit.count().max(2).min(runs.len())
}

/// How large a page should be.
fn page_bytes(memory: u64) -> u64 {
    memory / 2 / PAGES_IN_HALF
}

fn pages_name(level: u32) -> String {
    format!("rows-{level}")
}

fn keys_name(level: u32) -> String {
    format!("ids-{level}")
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}
