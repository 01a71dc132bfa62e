//! An input that is proved sound, to be read in id order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, SchemaRef};

use super::error::shown;
use super::location::InputLocation;
use super::order::{Order, input_rows};
use super::reader::Feed;
use super::sorter::{Sorted, Sorter};
use super::table::Columns;
use super::tables::Tables;
use super::{InputError, InputFile, InputReader, ROW_NUMBER_COLUMN, RowReader};
use crate::domain::spec::{IdSource, InputSpec};
use crate::domain::{Location, PositionRange, memory};

/// The files of an input and their columns; of its rows nothing is known yet.
#[derive(Debug)]
pub struct FoundInput {
    location: InputLocation,
    tables: Tables,
    rows: RowReader,
    spec: InputSpec,
}

impl FoundInput {
    /// Finds the files and checks the columns, of which the beginnings and footers tell.
    ///
    /// # Errors
    /// If there is no file, one is damaged or of another form, or the job names a column that is
    /// not there or of no use.
    pub fn find(spec: &InputSpec) -> Result<FoundInput, InputError> {
        let location = InputLocation::resolve(&spec.location, &spec.cloud, spec.reading.format)?;
        let tables = Tables::open(&location, spec)?;
        let rows = RowReader::new(&*chunk_schema(&tables, spec)?, spec)?;
        Ok(FoundInput { location, tables, rows, spec: spec.clone() })
    }

    /// The files in name order.
    pub fn files(&self) -> Vec<InputFile> {
        self.tables.describe()
    }

    /// Rows in all files, if their footers tell.
    pub fn rows(&self) -> Option<u64> {
        self.tables.told_rows()
    }

    /// Whether parts written into the folder `out` would become part of this input in a later run.
    /// `out` need not exist.
    pub fn is_inside(&self, out: &Location) -> bool {
        self.location.would_find(out)
    }

    /// Proves that no id is null or repeated (repeated ones are dropped if the job says so). Text
    /// files are read whole for it, of Parquet files the id column.
    ///
    /// # Errors
    /// If one is, or if the files can't be read.
    pub fn prove(self) -> Result<OrderedInput, InputError> {
        let FoundInput { mut tables, rows, spec, .. } = self;
        let id_among = |tables: &Tables| match &spec.id {
            IdSource::Column(name) => tables.schema().index_of(name).ok(),
            IdSource::RowNumber => None,
        };
        tables.survey(id_among(&tables), spec.reading.id_type)?;
        tables.read_only(|column| spec.reads(column))?;
        let id = id_among(&tables);
        let schema = chunk_schema(&tables, &spec)?;
        refuse_intervals(&schema)?;
        let tables = Arc::new(tables);
        let sorted = id.and_then(|id| Sorter::new(&tables, id, &spec).find());
        let order = match (id, &sorted) {
            (_, Some(sorted)) => Order::Sorted { rows: sorted.rows() },
            (Some(id), None) => Order::learn(&tables, id, &spec)?,
            (None, None) => Order::of_input(),
        };
        Ok(OrderedInput {
            files: tables.describe(),
            tables,
            schema,
            order,
            rows,
            id,
            spec,
            sorted: Mutex::new(sorted),
        })
    }
}

/// The files of an input, its columns and the order of its rows.
#[derive(Debug)]
pub struct OrderedInput {
    tables: Arc<Tables>,
    files: Vec<InputFile>,
    schema: SchemaRef,
    order: Order,
    rows: RowReader,
    /// The place of the id column, if one is the id.
    id: Option<usize>,
    spec: InputSpec,
    /// The rows in order, once they were sorted.
    sorted: Mutex<Option<Sorted>>,
}

impl OrderedInput {
    /// Finds the files, checks the columns, and proves that no id is null or repeated: see
    /// [`FoundInput`].
    ///
    /// # Errors
    /// Everything that [`InputError`] names, before anything is asked of a model.
    pub fn open(spec: &InputSpec) -> Result<OrderedInput, InputError> {
        FoundInput::find(spec)?.prove()
    }

    /// The columns of every chunk.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows, those with a dropped id not counted. Positions go from 0 to this.
    pub fn rows(&self) -> u64 {
        self.order.rows(self.tables.rows())
    }

    /// About how many bytes a row takes in memory, or more; on an average.
    pub fn row_bytes(&self) -> u64 {
        self.tables.bytes_in_memory() / self.tables.rows().max(1)
    }

    /// The files in name order.
    pub fn files(&self) -> &[InputFile] {
        &self.files
    }

    /// Rows that were left out because their id stands earlier in the input.
    pub fn dropped_duplicates(&self) -> u64 {
        self.tables.rows() - self.rows()
    }

    /// Whether the rows stand in id order in the input, so that reading needs no sort.
    pub fn is_in_order(&self) -> bool {
        matches!(self.order, Order::Input { .. })
    }

    /// Whether what was sorted on disk stays there for a later run over the same input to find, as
    /// it does if this process is killed; it is removed otherwise.
    pub fn keep_sorted(&self, is_kept: bool) {
        if let Some(sorted) = self.sorted().as_ref() {
            sorted.keep(is_kept);
        }
    }

    /// Reads the rows at the `wanted` positions: ascending, disjoint ranges. An input in id order
    /// is streamed from the first wanted row on; another is sorted at the first call, in memory
    /// or, if it is larger than the memory allowed for that, in the temporary folder.
    ///
    /// # Errors
    /// If a range lies outside the input or before its predecessor, if a file changed, or if the
    /// temporary folder has no room or can't be written.
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
        let feed = match (&self.order, self.id) {
            (Order::Input { dropped }, _) => {
                let batches = self.tables.read(Columns::All, input_rows(dropped, &wanted));
                Feed::Streamed { batches, rest: None }
            }
            (Order::Sorted { .. }, Some(id)) if wanted.iter().any(|range| range.rows > 0) => {
                Feed::Sorted(self.sort(id)?.read())
            }
            (Order::Sorted { .. }, _) => Feed::Ended,
        };
        let (rows, schema) = (self.rows.clone(), self.schema.clone());
        Ok(InputReader::new(feed, wanted, rows, schema, self.id.is_none()))
    }

    /// The rows in order, sorted now if they were not before.
    fn sort(&self, id: usize) -> Result<Sorted, InputError> {
        let mut sorted = self.sorted();
        if let Some(sorted) = sorted.as_ref() {
            return Ok(sorted.clone());
        }
        let rows = Sorter::new(&self.tables, id, &self.spec).sort()?;
        memory::return_free();
        *sorted = Some(rows.clone());
        Ok(rows)
    }

    fn sorted(&self) -> MutexGuard<'_, Option<Sorted>> {
        self.sorted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses columns that would lose something on their way: the Parquet reader takes every interval
/// for one of days and milliseconds, and its months are gone.
fn refuse_intervals(schema: &Schema) -> Result<(), InputError> {
    match schema.fields().iter().find(|field| holds_intervals(field.data_type())) {
        Some(field) => Err(InputError::Interval { column: shown(field.name()) }),
        None => Ok(()),
    }
}

fn holds_intervals(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(unit) => *unit != IntervalUnit::YearMonth,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => holds_intervals(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_intervals(field.data_type())),
        _ => false,
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
