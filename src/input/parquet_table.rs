//! A Parquet file, streamed. Row groups and pages without a wanted row are skipped unread.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;

use super::InputError;
use super::batch_rows::{batch_rows, group_bytes};
use super::parquet_footer;
use super::parquet_pages::PageReader;
use super::source::{Source, SourceReader};
use super::table::{Batches, Columns};
use crate::domain::guard::without_panic;

/// A file and its footer.
#[derive(Debug)]
pub(super) struct ParquetTable {
    source: Source,
    footer: ArrowReaderMetadata,
    /// Rows in each row group.
    groups: Vec<u64>,
}

impl ParquetTable {
    /// Reads the footer.
    pub(super) fn open(source: Source) -> Result<ParquetTable, InputError> {
        let file = source.open()?;
        let footer = without_panic(|| parquet_footer::load(&file))
            .ok_or_else(|| InputError::Damaged { file: source.name().to_owned() })?
            .map_err(|error| parquet_error(&source, error))?;
        let groups = footer.metadata().row_groups().iter();
        let groups = groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).collect();
        Ok(ParquetTable { source, footer, groups })
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        self.footer.schema()
    }

    pub(super) fn rows(&self) -> u64 {
        self.groups.iter().sum()
    }

    pub(super) fn bytes_in_memory(&self, columns: &Columns) -> u64 {
        let places = columns.clone().places(self.schema().fields().len());
        let groups = self.footer.metadata().row_groups().iter();
        groups.map(|group| group_bytes(self.footer.metadata(), group, &places)).sum()
    }

    pub(super) fn read(
        &self,
        file: SourceReader,
        schema: &SchemaRef,
        columns: Columns,
        wanted: &[Range<u64>],
    ) -> Result<Batches, InputError> {
        let places = columns.places(schema.fields().len());
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), places.iter().copied());
        let (groups, selection) = select(&self.groups, wanted);
        let pages = PageReader::new(file, self.footer.metadata());
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(pages, self.footer.clone())
            .with_batch_size(batch_rows(self.footer.metadata(), &places))
            .with_projection(mask)
            .with_row_groups(groups)
            .with_row_selection(selection)
            .build()
            .map_err(|error| parquet_error(&self.source, error))?;
        let name = self.source.name().to_owned();
        let unreadable = move |source| InputError::BadParquet {
            file: name.clone(),
            source: Box::<dyn std::error::Error + Send + Sync>::from(source),
        };
        let schema = Arc::new(schema.project(&places).map_err(&unreadable)?);
        Ok(Box::new(reader.map(move |batch| {
            batch
                .and_then(|batch| RecordBatch::try_new(schema.clone(), batch.columns().to_vec()))
                .map_err(&unreadable)
        })))
    }
}

/// The row groups that hold a row of `wanted`, and which of their rows are wanted.
fn select(groups: &[u64], wanted: &[Range<u64>]) -> (Vec<usize>, RowSelection) {
    let mut touched = Vec::new();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut wanted = wanted.iter().filter(|range| !range.is_empty()).peekable();
    let mut group_first = 0;
    // Rows in the groups touched so far, which is how the selection counts.
    let mut kept = 0;
    for (group, &rows) in groups.iter().enumerate() {
        let group_end = group_first + rows;
        let mut is_touched = false;
        while let Some(range) = wanted.peek() {
            let first = range.start.max(group_first);
            let end = range.end.min(group_end);
            if first < end {
                is_touched = true;
                let offset = |row: u64| (kept + row - group_first) as usize;
                ranges.push(offset(first)..offset(end));
            }
            if range.end > group_end {
                break;
            }
            wanted.next();
        }
        if is_touched {
            touched.push(group);
            kept += rows;
        }
        group_first = group_end;
    }
    let selection = RowSelection::from_consecutive_ranges(ranges.into_iter(), kept as usize);
    (touched, selection)
}

/// Tells the disk's failures from the file's.
fn parquet_error(source: &Source, error: ParquetError) -> InputError {
    let error = match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => return source.io_error(*io),
            Err(inner) => ParquetError::External(inner),
        },
        error => error,
    };
    InputError::BadParquet { file: source.name().to_owned(), source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_row_groups_with_a_wanted_row_are_touched() {
        let (groups, selection) = select(&[10, 0, 10, 10, 10], &[8..9, 25..33, 33..34, 39..40]);
        assert_eq!(groups, [0, 3, 4]);
        assert_eq!(selection.row_count(), 1 + 8 + 1 + 1);
        // Group 2 is left out, so row 25 is the 16th of the rows in the touched groups.
        let expected = RowSelection::from_consecutive_ranges(
            [8..9, 15..20, 20..23, 23..24, 29..30].into_iter(),
            30,
        );
        assert_eq!(selection, expected);
    }
}
