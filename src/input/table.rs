//! One file of the input as rows that are read by their number.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::InputError;
use super::csv_table::CsvTable;
use super::ndjson_table::NdjsonTable;
use super::parquet_table::ParquetTable;
use super::source::Source;
use crate::domain::guard::without_panic;

/// Batches of at most 8,192 rows.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, InputError>> + Send>;

/// Which columns are read.
#[derive(Clone, Debug)]
pub(super) enum Columns {
    All,
    /// The one at this place.
    Only(usize),
    /// Those at these places, ascending.
    These(Arc<[usize]>),
}

impl Columns {
    /// The places of the columns among `count`.
    pub(super) fn places(self, count: usize) -> Vec<usize> {
        match self {
            Columns::All => (0..count).collect(),
            Columns::Only(place) => vec![place],
            Columns::These(places) => places.to_vec(),
        }
    }
}

/// A file whose columns and row count are known.
#[derive(Debug)]
pub(super) enum Table {
    Parquet(ParquetTable),
    Csv(CsvTable),
    Ndjson(NdjsonTable),
}

impl Table {
    pub(super) fn source(&self) -> &Source {
        match self {
            Table::Parquet(table) => table.source(),
            Table::Csv(table) => table.source(),
            Table::Ndjson(table) => table.source(),
        }
    }

    /// The columns as the file has them; those of CSV are strings, those of NDJSON
    /// the columns of all files.
    pub(super) fn schema(&self) -> &SchemaRef {
        match self {
            Table::Parquet(table) => table.schema(),
            Table::Csv(table) => table.schema(),
            Table::Ndjson(table) => table.schema(),
        }
    }

    /// Rows in the file.
    pub(super) fn rows(&self) -> u64 {
        match self {
            Table::Parquet(table) => table.rows(),
            Table::Csv(table) => table.rows(),
            Table::Ndjson(table) => table.rows(),
        }
    }

    /// About how many bytes these columns of all rows take in memory, or more.
    pub(super) fn bytes_in_memory(&self, columns: &Columns) -> u64 {
        match self {
            Table::Parquet(table) => table.bytes_in_memory(columns),
            Table::Csv(table) => table.bytes_in_memory(),
            Table::Ndjson(table) => table.bytes_in_memory(),
        }
    }

    /// Where the row with this number (from 0) stands, in words.
    pub(super) fn place_of(&self, row: u64) -> String {
        let name = self.source().name();
        let line = match self {
            Table::Csv(table) => table.line_of(row),
            Table::Ndjson(table) => table.line_of(row),
            Table::Parquet(_) => None,
        };
        match line {
            Some(line) => format!("line {line} of `{name}`"),
            None => format!("row {} of `{name}`", row + 1),
        }
    }

    /// The `wanted` rows, ascending and disjoint, as columns of `schema` (which holds all columns
    /// of the file, in its order). Either all of them come, or an error does.
    pub(super) fn read(
        &self,
        schema: &SchemaRef,
        columns: Columns,
        wanted: Vec<Range<u64>>,
    ) -> Result<Batches, InputError> {
        let remaining = wanted.iter().map(|range| range.end - range.start).sum();
        if remaining == 0 {
            return Ok(Box::new(std::iter::empty()));
        }
        let source = self.source().clone();
        let file = source.open()?;
        let opened = without_panic(|| match self {
            Table::Parquet(table) => table.read(file, schema, columns, &wanted),
            Table::Csv(table) => table.read(file, schema, columns, wanted),
            Table::Ndjson(table) => table.read(file, schema, columns, wanted),
        });
        let batches = opened.unwrap_or_else(|| Err(damaged(&source)))?;
        Ok(Box::new(Complete { batches: Some(batches), remaining, source }))
    }
}

fn damaged(source: &Source) -> InputError {
    InputError::Damaged { file: source.name().to_owned() }
}

/// Holds a reader to its promise: every wanted row, from an unchanged file, without a panic.
struct Complete {
    batches: Option<Batches>,
    remaining: u64,
    source: Source,
}

impl Complete {
    fn read(&mut self) -> Result<Option<RecordBatch>, InputError> {
        let Some(batches) = &mut self.batches else { return Ok(None) };
        let read = without_panic(|| batches.next());
        let batch = match read {
            Some(Some(Ok(batch))) if batch.num_rows() as u64 <= self.remaining => batch,
            failure => {
                // A file that was overwritten is not to blame for what it now holds.
                self.source.check_unchanged()?;
                return Err(match failure {
                    Some(Some(Err(error))) => error,
                    _ => damaged(&self.source),
                });
            }
        };
        self.remaining -= batch.num_rows() as u64;
        if self.remaining == 0 {
            self.batches = None;
            self.source.check_unchanged()?;
        }
        Ok(Some(batch))
    }
}

impl Iterator for Complete {
    type Item = Result<RecordBatch, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.read();
        if result.is_err() {
            self.batches = None;
        }
        result.transpose()
    }
}
