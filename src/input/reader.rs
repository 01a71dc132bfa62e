//! The wanted rows in id order, as chunks that never cross the end of a wanted range.
//!
//! Rows in id order are streamed: only a batch is in memory. Others were put in order before, and
//! are gathered from memory.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, SchemaRef};

use super::order::{Order, input_rows, sort_memory_error};
use super::table::Columns;
use super::tables::{Tables, TablesRows};
use super::{InputError, InputRow, RowReader};
use crate::domain::guard::without_panic;
use crate::domain::{Position, PositionRange};

/// Most rows in a chunk.
pub const MAX_CHUNK_ROWS: usize = 8_192;

/// Rows that follow each other in id order.
#[derive(Clone, Debug)]
pub struct InputChunk {
    /// The position of the first row; the others follow it without a gap.
    pub first: Position,
    /// All columns of the input, of the rows in their order.
    pub columns: RecordBatch,
    /// The same rows, as many as `columns` has.
    pub rows: Vec<InputRow>,
}

/// Yields the wanted rows; ends after the first error.
pub struct InputReader {
    wanted: VecDeque<PositionRange>,
    feed: Feed,
    rows: RowReader,
    schema: SchemaRef,
    adds_row_number: bool,
}

impl InputReader {
    /// A reader of `wanted`, which lies within the order's rows. `schema` is that of the chunks.
    pub(super) fn new(
        tables: &Arc<Tables>,
        order: &Order,
        mut wanted: Vec<PositionRange>,
        rows: RowReader,
        schema: SchemaRef,
        sort_memory: u64,
    ) -> Result<InputReader, InputError> {
        wanted.retain(|range| range.rows > 0);
        let feed = match order {
            Order::Input { dropped } => {
                let batches = tables.read(Columns::All, input_rows(dropped, &wanted));
                Feed::Streamed { batches, rest: None }
            }
            Order::Sorted(_) if wanted.is_empty() => Feed::Ended,
            Order::Sorted(order) => Feed::gather(tables, Arc::clone(order), sort_memory)?,
        };
        let adds_row_number = schema.fields().len() > tables.schema().fields().len();
        Ok(InputReader { wanted: wanted.into(), feed, rows, schema, adds_row_number })
    }

    fn read(&mut self) -> Result<Option<InputChunk>, InputError> {
        let Some(range) = self.wanted.front_mut() else { return Ok(None) };
        let first = range.first;
        let most = range.rows.min(MAX_CHUNK_ROWS as u64) as usize;
        let Some(mut columns) = self.feed.take(first, most)? else { return Ok(None) };
        let rows = columns.num_rows() as u64;
        range.first.0 += rows;
        range.rows -= rows;
        if range.rows == 0 {
            self.wanted.pop_front();
        }
        if self.adds_row_number {
            let numbers = Int64Array::from_iter_values((first.0..first.0 + rows).map(|n| n as i64));
            let numbers: ArrayRef = Arc::new(numbers);
            let all = std::iter::once(numbers).chain(columns.columns().iter().cloned()).collect();
            columns = RecordBatch::try_new(self.schema.clone(), all).map_err(bad_batch)?;
        }
        let rows = self.rows.rows(&columns)?;
        Ok(Some(InputChunk { first, columns, rows }))
    }
}

impl Iterator for InputReader {
    type Item = Result<InputChunk, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.read();
        if result.is_err() {
            self.wanted.clear();
        }
        if self.wanted.is_empty() {
            self.feed = Feed::Ended;
        }
        result.transpose()
    }
}

impl std::fmt::Debug for InputReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InputReader").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// Where the rows come from.
enum Feed {
    /// The files, which hold them in order.
    Streamed {
        batches: TablesRows,
        rest: Option<RecordBatch>,
    },
    /// Memory: all rows as they stand in the input, the number of each batch's first row, and the
    /// input row of each position.
    Gathered {
        batches: Vec<RecordBatch>,
        first_rows: Vec<u32>,
        order: Arc<[u32]>,
    },
    Ended,
}

impl Feed {
    /// Reads the whole input into memory; fails once it takes more than `sort_memory` bytes.
    fn gather(
        tables: &Arc<Tables>,
        order: Arc<[u32]>,
        sort_memory: u64,
    ) -> Result<Feed, InputError> {
        let (mut batches, mut first_rows) = (Vec::new(), Vec::new());
        let mut bytes = size_of_val(&*order) as u64;
        let mut rows = 0_u32;
        for batch in tables.read_all(Columns::All) {
            let batch = compact(batch?).map_err(bad_batch)?;
            first_rows.push(rows);
            rows += batch.num_rows() as u32;
            bytes += batch.get_array_memory_size() as u64;
            if bytes > sort_memory {
                let need = u128::from(bytes) * u128::from(tables.rows()) / u128::from(rows.max(1));
                let need = u64::try_from(need).unwrap_or(u64::MAX);
                return Err(sort_memory_error(need.max(bytes), sort_memory));
            }
            batches.push(batch);
        }
        Ok(Feed::Gathered { batches, first_rows, order })
    }

    /// The next rows, at least one and at most `most`, of which the first stands at `first`.
    fn take(&mut self, first: Position, most: usize) -> Result<Option<RecordBatch>, InputError> {
        match self {
            Feed::Ended => Ok(None),
            Feed::Streamed { batches, rest } => {
                let batch = match rest.take() {
                    Some(batch) => batch,
                    None => match batches
                        .find(|batch| !batch.as_ref().is_ok_and(|batch| batch.num_rows() == 0))
                    {
                        Some(batch) => batch?,
                        None => return Ok(None),
                    },
                };
                if batch.num_rows() <= most {
                    return Ok(Some(batch));
                }
                *rest = Some(batch.slice(most, batch.num_rows() - most));
                Ok(Some(batch.slice(0, most)))
            }
            Feed::Gathered { batches, first_rows, order } => {
                let first = first.0 as usize;
                let places: Vec<_> = order[first..first + most]
                    .iter()
                    .map(|&row| {
                        let batch = first_rows.partition_point(|&first| first <= row) - 1;
                        (batch, (row - first_rows[batch]) as usize)
                    })
                    .collect();
                let batches: Vec<_> = batches.iter().collect();
                let gathered = without_panic(|| interleave_record_batch(&batches, &places));
                gathered.transpose().map_err(bad_batch)
            }
        }
    }
}

/// Copies what views show, so that a batch holds no page of the file in memory.
fn compact(batch: RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as ArrayRef,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(batch.schema(), columns.collect())
}

fn bad_batch(source: arrow::error::ArrowError) -> InputError {
    InputError::BadBatch { source }
}
