//! Rows in memory and their order: a whole small input, or what becomes a run on disk.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::id_keys::IdKeys;
use crate::domain::guard::without_panic;

/// Rows as they were read, with their ids.
#[derive(Debug)]
pub(super) struct Stretch {
    batches: Vec<RecordBatch>,
    /// The number of each batch's first row.
    first_rows: Vec<u32>,
    ids: IdKeys,
    bytes: u64,
}

/// The rows of a stretch in id order.
#[derive(Debug)]
pub(super) struct SortedStretch {
    batches: Vec<RecordBatch>,
    first_rows: Vec<u32>,
    order: Vec<u32>,
}

impl Stretch {
    /// No rows yet; their ids are of this type.
    pub(super) fn new(id_type: &DataType) -> Stretch {
        Stretch { batches: Vec::new(), first_rows: Vec::new(), ids: IdKeys::new(id_type), bytes: 0 }
    }

    /// Appends rows in plain form, whose ids are the column at `id`.
    pub(super) fn push(&mut self, rows: RecordBatch, id: usize) -> Result<(), ArrowError> {
        self.first_rows.push(self.rows());
        self.ids.extend(rows.column(id))?;
        self.bytes += rows.get_array_memory_size() as u64;
        self.batches.push(rows);
        Ok(())
    }

    fn rows(&self) -> u32 {
        u32::try_from(self.ids.len()).unwrap_or(u32::MAX)
    }

    /// Whether further `rows` don't fit in `budget` bytes, sorting included. A stretch without
    /// rows takes any.
    pub(super) fn is_full(&self, rows: &RecordBatch, budget: u64) -> bool {
        let added = rows.get_array_memory_size() as u64;
        let count = self.ids.len() + rows.num_rows();
        let need = self.bytes + added + self.ids.bytes_to_order();
        !self.batches.is_empty() && (need > budget || u32::try_from(count).is_err())
    }

    /// Puts the rows in order; of equal ids the first row comes first.
    pub(super) fn sort(self) -> (SortedStretch, IdKeys) {
        let order = self.ids.order();
        let Stretch { batches, first_rows, ids, bytes: _ } = self;
        (SortedStretch { batches, first_rows, order }, ids)
    }
}

impl SortedStretch {
    /// The rows' numbers in the stretch, in id order.
    pub(super) fn order(&self) -> &[u32] {
        &self.order
    }

    /// Leaves out each row whose id is that of the row before it.
    pub(super) fn drop_repeats(&mut self, ids: &IdKeys) {
        self.order.dedup_by(|row, before| ids.is_repeat(*row, *before));
    }

    /// About how many bytes a row takes.
    pub(super) fn bytes_per_row(&self) -> u64 {
        let bytes: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        (bytes as u64 / self.order.len().max(1) as u64).max(1)
    }

    /// Copies these rows, which are numbers in the stretch and at least one, into one batch.
    pub(super) fn gather(&self, rows: &[u32]) -> Result<RecordBatch, ArrowError> {
        let places: Vec<_> = rows.iter().map(|&row| self.place(row)).collect();
        let batches: Vec<_> = self.batches.iter().collect();
        gather(&batches, &places)
    }

    fn place(&self, row: u32) -> (usize, usize) {
        let batch = self.first_rows.partition_point(|&first| first <= row) - 1;
        (batch, (row - self.first_rows[batch]) as usize)
    }
}

/// The rows at `places`, each a batch and a row in it, as one batch.
pub(super) fn gather(
    batches: &[&RecordBatch],
    places: &[(usize, usize)],
) -> Result<RecordBatch, ArrowError> {
    without_panic(|| interleave_record_batch(batches, places)).unwrap_or_else(|| {
        Err(ArrowError::ComputeError("the values are too long to stand side by side".to_owned()))
    })
}
