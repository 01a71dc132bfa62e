//! An input that is proved sound, to be read in id order.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::location::InputLocation;
use super::order::Order;
use super::tables::Tables;
use super::{InputError, InputFile, InputReader, ROW_NUMBER_COLUMN, RowReader};
use crate::domain::spec::{IdSource, InputSpec};
use crate::domain::{Location, PositionRange};

/// The files of an input, its columns and the order of its rows.
#[derive(Debug)]
pub struct OrderedInput {
    location: InputLocation,
    tables: Arc<Tables>,
    files: Vec<InputFile>,
    schema: SchemaRef,
    order: Order,
    rows: RowReader,
    sort_memory: u64,
}

impl OrderedInput {
    /// Finds the files, checks the columns, and proves that no id is null or repeated (repeated
    /// ones are dropped if `spec` says so). CSV files are read whole for it, of Parquet files the
    /// id column.
    ///
    /// # Errors
    /// Everything that [`InputError`] names, before anything is asked of a model.
    pub fn open(spec: &InputSpec) -> Result<OrderedInput, InputError> {
        let location = InputLocation::resolve(&spec.location, &spec.cloud)?;
        let mut tables = Tables::open(&location)?;
        let checked = chunk_schema(&tables, spec)?;
        let rows = RowReader::new(&checked, spec)?;
        let id = match &spec.id {
            IdSource::Column(name) => tables.schema().index_of(name).ok(),
            IdSource::RowNumber => None,
        };
        tables.survey(id)?;
        let schema = chunk_schema(&tables, spec)?;
        let tables = Arc::new(tables);
        let order = match id {
            Some(id) => Order::learn(&tables, id, spec.on_duplicate_id, spec.sort_memory)?,
            None => Order::of_input(),
        };
        let files = tables.describe();
        Ok(OrderedInput {
            location,
            tables,
            files,
            schema,
            order,
            rows,
            sort_memory: spec.sort_memory,
        })
    }

    /// The columns of every chunk.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows, those with a dropped id not counted. Positions go from 0 to this.
    pub fn rows(&self) -> u64 {
        self.order.rows(self.tables.rows())
    }

    /// The files in name order.
    pub fn files(&self) -> &[InputFile] {
        &self.files
    }

    /// Rows that were left out because their id stands earlier in the input.
    pub fn dropped_duplicates(&self) -> u64 {
        self.tables.rows() - self.rows()
    }

    /// Whether the input had to be put in order in memory.
    pub fn is_sorted_in_memory(&self) -> bool {
        matches!(self.order, Order::Sorted(_))
    }

    /// Whether parts written into the folder `out` would become part of this input in a later run.
    /// `out` need not exist.
    pub fn is_inside(&self, out: &Location) -> bool {
        self.location.would_find(out)
    }

    /// Reads the rows at the `wanted` positions: ascending, disjoint ranges. An input in id order
    /// is streamed from the first wanted row on; another is read into memory here.
    ///
    /// # Errors
    /// If a range lies outside the input or before its predecessor, if a file changed, or if the
    /// input doesn't fit in the memory allowed for sorting it.
    pub fn read(&self, wanted: Vec<PositionRange>) -> Result<InputReader, InputError> {
        let mut free = 0;
        for range in &wanted {
            let end = range.first.0.saturating_add(range.rows);
            if range.first.0 < free || end > self.rows() {
                return Err(InputError::OutOfRange {
                    first: range.first.0,
                    end,
                    rows: self.rows(),
                });
            }
            free = end;
        }
        let (rows, schema) = (self.rows.clone(), self.schema.clone());
        InputReader::new(&self.tables, &self.order, wanted, rows, schema, self.sort_memory)
    }
}

/// The columns of the files, after the row's number where that is the id.
fn chunk_schema(tables: &Tables, spec: &InputSpec) -> Result<SchemaRef, InputError> {
    let schema = tables.schema();
    if spec.id != IdSource::RowNumber {
        return Ok(schema.clone());
    }
    if schema.column_with_name(ROW_NUMBER_COLUMN).is_some() {
        return Err(InputError::ReservedColumn { column: ROW_NUMBER_COLUMN });
    }
    let number = Arc::new(Field::new(ROW_NUMBER_COLUMN, DataType::Int64, false));
    let fields: Vec<_> = std::iter::once(number).chain(schema.fields().iter().cloned()).collect();
    Ok(Arc::new(Schema::new(fields)))
}
