//! The wanted rows in id order, as chunks that never cross the end of a wanted range.
//!
//! Rows in id order are streamed: only a batch is in memory. Others were sorted before.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::sorter::SortedRows;
use super::tables::TablesRows;
use super::{InputError, InputRow, RowReader};
use crate::domain::{Position, PositionRange};

/// Most rows in a chunk.
pub const MAX_CHUNK_ROWS: usize = 8_192;

/// Most columns of a text file, whose columns cost a few bytes each to make up.
pub(super) const MAX_COLUMNS: usize = 16_384;

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
    /// A reader of `wanted`, which lies within the order's rows and is what `feed` holds or more.
    /// `schema` is that of the chunks, with the row's number before the columns of the feed if
    /// `adds_row_number`.
    pub(super) fn new(
        feed: Feed,
        mut wanted: Vec<PositionRange>,
        rows: RowReader,
        schema: SchemaRef,
        adds_row_number: bool,
    ) -> InputReader {
        wanted.retain(|range| range.rows > 0);
        InputReader { wanted: wanted.into(), feed, rows, schema, adds_row_number }
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
pub(super) enum Feed {
    /// The files, which hold them in order: these are the wanted ones, and what is left of a batch.
    Streamed { batches: TablesRows, rest: Option<RecordBatch> },
    /// The sorted rows.
    Sorted(SortedRows),
    /// Nothing more is wanted.
    Ended,
}

impl Feed {
    /// The next rows, at least one and at most `most`, of which the first stands at `first`.
    fn take(&mut self, first: Position, most: usize) -> Result<Option<RecordBatch>, InputError> {
        match self {
            Feed::Ended => Ok(None),
            Feed::Sorted(rows) => rows.take(first, most).map(Some),
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
        }
    }
}

fn bad_batch(source: arrow::error::ArrowError) -> InputError {
    InputError::BadBatch { source }
}
