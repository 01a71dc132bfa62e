//! The next rows of many runs: one page of each is in memory, and only those that are asked for.

use std::io;
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::page_file::{PageFile, Run};
use super::stretch::gather;

/// A place in each run, and the rows that were picked.
#[derive(Debug)]
pub(super) struct Cursors {
    file: Arc<PageFile>,
    heads: Vec<Head>,
    /// Pages of which rows were picked.
    pages: Vec<RecordBatch>,
    picked: Vec<(usize, usize)>,
    picked_bytes: u64,
}

/// A place in a run.
#[derive(Debug)]
struct Head {
    run: Arc<Run>,
    /// The row that comes next, counted from its page's first.
    row: usize,
    /// The page that it stands in.
    at: usize,
    page: Option<RecordBatch>,
    /// The page's place among the picked ones.
    slot: Option<usize>,
}

impl Cursors {
    /// The starts of these runs.
    pub(super) fn new(file: Arc<PageFile>, runs: &[Arc<Run>]) -> Cursors {
        let head = |run| Head { run: Arc::clone(run), row: 0, at: 0, page: None, slot: None };
        let heads = runs.iter().map(head).collect();
        Cursors { file, heads, pages: Vec::new(), picked: Vec::new(), picked_bytes: 0 }
    }

    /// Picks the next row of `run`.
    pub(super) fn pick(&mut self, run: usize) -> io::Result<()> {
        let head = self.heads.get_mut(run).ok_or_else(out_of_step)?;
        let slot = match head.slot {
            Some(slot) => slot,
            None => {
                let page = match head.page.take() {
                    Some(page) => page,
                    None => {
                        let page = head.run.pages.get(head.at);
                        self.file.read(page.ok_or_else(out_of_step)?)?
                    }
                };
                head.page = Some(page.clone());
                self.pages.push(page);
                *head.slot.insert(self.pages.len() - 1)
            }
        };
        self.picked.push((slot, head.row));
        self.picked_bytes += head.bytes_per_row();
        head.advance();
        Ok(())
    }

    /// Leaves out the next row of `run`.
    pub(super) fn pass(&mut self, run: usize) -> io::Result<()> {
        self.heads.get_mut(run).ok_or_else(out_of_step)?.advance();
        Ok(())
    }

    /// How many rows are picked.
    pub(super) fn picked(&self) -> usize {
        self.picked.len()
    }

    /// About how many bytes the picked rows have.
    pub(super) fn picked_bytes(&self) -> u64 {
        self.picked_bytes
    }

    /// The picked rows, at least one, in the order in which they were picked.
    pub(super) fn take(&mut self) -> Result<RecordBatch, arrow::error::ArrowError> {
        let rows = gather(&self.pages.iter().collect::<Vec<_>>(), &self.picked);
        self.pages.clear();
        self.picked.clear();
        self.picked_bytes = 0;
        for head in &mut self.heads {
            head.slot = None;
        }
        rows
    }
}

impl Head {
    fn advance(&mut self) {
        self.row += 1;
        if self.run.pages.get(self.at).is_some_and(|page| self.row >= page.rows as usize) {
            self.row = 0;
            self.at += 1;
            self.page = None;
            self.slot = None;
        }
    }

    fn bytes_per_row(&self) -> u64 {
        let page = self.run.pages.get(self.at);
        page.map_or(0, |page| page.bytes.unsigned_abs() / u64::from(page.rows.max(1)))
    }
}

fn out_of_step() -> io::Error {
    io::Error::other("the temporary files don't belong together")
}
