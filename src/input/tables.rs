//! All files of an input as one sequence of rows, in name order.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::csv_scan::CsvForm;
use super::csv_table::CsvTable;
use super::error::shown;
use super::ids::unpacked_type;
use super::json_columns::JsonColumns;
use super::location::InputLocation;
use super::ndjson_table::NdjsonTable;
use super::parquet_table::ParquetTable;
use super::partitions::Partitions;
use super::table::{Batches, Columns, Table};
use super::text_file::TextFile;
use super::{InputError, InputFile};
use crate::domain::reading::{FileFormat, IdType};
use crate::domain::spec::{IdSource, InputSpec};

/// The files, with those of their columns that are read.
#[derive(Debug)]
pub(super) struct Tables {
    tables: Vec<Table>,
    /// All columns, which the files share.
    all: SchemaRef,
    schema: SchemaRef,
    /// Columns that the folders are; they stand after those of the files.
    partitions: Partitions,
    /// The places among all columns of those that are read.
    places: Arc<[usize]>,
}

impl Tables {
    /// Opens every file, and proves that all have the same columns. NDJSON files are read whole for
    /// it.
    pub(super) fn open(location: &InputLocation, spec: &InputSpec) -> Result<Tables, InputError> {
        let reading = &spec.reading;
        let (kind, files) = location.files()?;
        let text = |(source, compression)| TextFile::new(source, compression, reading.encoding);
        let csv =
            |file, usual| CsvTable::open(text(file), CsvForm::of(reading, usual)).map(Table::Csv);
        let files = files.into_iter();
        let tables: Vec<Table> = match kind {
            FileFormat::Parquet => files
                .map(|(source, _)| ParquetTable::open(source).map(Table::Parquet))
                .collect::<Result<_, _>>()?,
            FileFormat::Csv => files.map(|file| csv(file, ',')).collect::<Result<_, _>>()?,
            FileFormat::Tsv => files.map(|file| csv(file, '\t')).collect::<Result<_, _>>()?,
            FileFormat::Ndjson => {
                let id = match &spec.id {
                    IdSource::Column(name) => Some((name.as_str(), reading.id_type)),
                    IdSource::RowNumber => None,
                };
                let tables = NdjsonTable::open_all(files.map(text), JsonColumns::new(id))?;
                tables.into_iter().map(Table::Ndjson).collect()
            }
        };
        let schema = shared_schema(&tables)?;
        let names: Vec<&str> = tables.iter().map(|table| table.source().name()).collect();
        let partitions = Partitions::find(&names, &schema, reading.hive_partitioning)?;
        let schema = partitions.after(&schema);
        let places = (0..schema.fields().len()).collect();
        Ok(Tables { tables, all: Arc::clone(&schema), schema, partitions, places })
    }

    /// Proves the rows of CSV files well-formed, and makes `id` a column of integers if all of its
    /// values are and `id_type` doesn't want strings. The footers of Parquet files say as much, and
    /// NDJSON files were read.
    ///
    /// # Errors
    /// If a file is malformed, or ids are not of the type that is wanted.
    pub(super) fn survey(&mut self, id: Option<usize>, id_type: IdType) -> Result<(), InputError> {
        let in_file = id.filter(|id| *id < self.partitions.file_columns());
        let mut are_integers = in_file.is_some() && id_type != IdType::String;
        for table in &mut self.tables {
            match table {
                Table::Csv(csv) => are_integers &= csv.survey(in_file, id_type)?,
                Table::Parquet(_) | Table::Ndjson(_) => are_integers = false,
            }
        }
        let Some(id) = id else { return Ok(()) };
        if are_integers {
            let mut fields = self.all.fields().to_vec();
            let field = fields[id].as_ref().clone().with_data_type(DataType::Int64);
            fields[id] = Arc::new(field);
            self.all = Arc::new(Schema::new(fields));
            self.schema = Arc::clone(&self.all);
        }
        let field = self.schema.field(id);
        let is_wanted = match id_type {
            IdType::Auto => true,
            IdType::Integer => unpacked_type(field.data_type()).is_integer(),
            IdType::String => !unpacked_type(field.data_type()).is_integer(),
        };
        match is_wanted {
            true => Ok(()),
            false => Err(InputError::WrongType {
                column: field.name().clone(),
                data_type: field.data_type().to_string(),
                wanted: "`id_type` in [input] wants another",
            }),
        }
    }

    /// Leaves the columns unread that are not `wanted`: from now on they are not there.
    pub(super) fn read_only(&mut self, wanted: impl Fn(&str) -> bool) -> Result<(), InputError> {
        let fields = self.all.fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| wanted(field.name()));
        let places: Vec<usize> = wanted.map(|(place, _)| place).collect();
        let schema = self.all.project(&places).map_err(|source| InputError::BadBatch { source })?;
        self.schema = Arc::new(schema);
        self.places = places.into();
        Ok(())
    }

    /// The columns that are read, in the order of the files.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows in all files.
    pub(super) fn rows(&self) -> u64 {
        self.tables.iter().map(Table::rows).sum()
    }

    /// Rows in all files, if they are known without a look at each.
    pub(super) fn told_rows(&self) -> Option<u64> {
        let are_told = self.tables.iter().all(|table| matches!(table, Table::Parquet(_)));
        are_told.then(|| self.rows())
    }

    /// About how many bytes all rows take in memory.
    pub(super) fn bytes_in_memory(&self) -> u64 {
        let columns = self.within_all(Columns::All);
        self.tables.iter().map(|table| table.bytes_in_memory(&columns)).sum()
    }

    /// Columns by their places among all of the files.
    fn within_all(&self, columns: Columns) -> Columns {
        match columns {
            Columns::All => Columns::These(Arc::clone(&self.places)),
            Columns::Only(place) => Columns::Only(self.places[place]),
            Columns::These(places) => {
                Columns::These(places.iter().map(|place| self.places[*place]).collect())
            }
        }
    }

    pub(super) fn describe(&self) -> Vec<InputFile> {
        self.tables.iter().map(|table| table.source().describe()).collect()
    }

    /// Where a row stands, in words; `row` counts from 0 over all files.
    pub(super) fn place_of(&self, mut row: u64) -> String {
        for table in &self.tables {
            if row < table.rows() {
                return table.place_of(row);
            }
            row -= table.rows();
        }
        format!("row {} after the input's end", row + 1)
    }

    /// Reads the `wanted` rows, ascending and disjoint, counted over all files. A file is opened
    /// when its first wanted row is due.
    pub(super) fn read(self: &Arc<Self>, columns: Columns, wanted: Vec<Range<u64>>) -> TablesRows {
        let mut wanted = wanted.into_iter().filter(|range| !range.is_empty()).peekable();
        let mut due = VecDeque::new();
        let mut first = 0;
        for (at, table) in self.tables.iter().enumerate() {
            let end = first + table.rows();
            let mut in_table = Vec::new();
            while let Some(range) = wanted.peek_mut().filter(|range| range.start < end) {
                let stop = range.end.min(end);
                in_table.push(range.start - first..stop - first);
                range.start = stop;
                if range.is_empty() {
                    wanted.next();
                }
            }
            if !in_table.is_empty() {
                due.push_back((at, in_table));
            }
            first = end;
        }
        let columns = self.within_all(columns);
        TablesRows { tables: Arc::clone(self), columns, due, current: None }
    }

    /// Reads every row.
    pub(super) fn read_all(self: &Arc<Self>, columns: Columns) -> TablesRows {
        self.read(columns, std::iter::once(0..self.rows()).collect())
    }
}

/// Batches of the wanted rows, file after file.
pub(super) struct TablesRows {
    tables: Arc<Tables>,
    columns: Columns,
    due: VecDeque<(usize, Vec<Range<u64>>)>,
    current: Option<Batches>,
}

impl Iterator for TablesRows {
    type Item = Result<RecordBatch, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.current.as_mut().and_then(Iterator::next) {
                if batch.is_err() {
                    self.due.clear();
                    self.current = None;
                }
                return Some(batch);
            }
            let (at, wanted) = self.due.pop_front()?;
            let Tables { tables, all, partitions, .. } = &*self.tables;
            match partitions.read(&tables[at], at, all, self.columns.clone(), wanted) {
                Ok(batches) => self.current = Some(batches),
                Err(error) => {
                    self.due.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The columns of all files: a column is nullable if it is in any of them. What a file says of
/// itself besides (its metadata) is left out.
fn shared_schema(tables: &[Table]) -> Result<SchemaRef, InputError> {
    let mut shared: Vec<Field> = Vec::new();
    let mut first_name = "";
    for (at, table) in tables.iter().enumerate() {
        let (name, fields) = (table.source().name(), table.schema().fields());
        if at == 0 {
            let mut names = HashSet::new();
            if let Some(twice) = fields.iter().find(|field| !names.insert(field.name())) {
                return Err(InputError::DuplicateColumn {
                    file: name.to_owned(),
                    column: shown(twice.name()),
                });
            }
            first_name = name;
            shared = fields.iter().map(|field| field.as_ref().clone()).collect();
            continue;
        }
        for number in 0..shared.len().max(fields.len()) {
            let (ours, theirs) = (shared.get_mut(number), fields.get(number));
            match (ours, theirs) {
                (Some(ours), Some(theirs)) if is_same(ours, theirs) => {
                    ours.set_nullable(ours.is_nullable() || theirs.is_nullable());
                }
                (ours, theirs) => {
                    return Err(InputError::SchemaDiffers {
                        number: number + 1,
                        first: first_name.to_owned(),
                        first_column: in_words(ours.as_deref()),
                        second: name.to_owned(),
                        second_column: in_words(theirs.map(AsRef::as_ref)),
                    });
                }
            }
        }
    }
    Ok(Arc::new(Schema::new(shared)))
}

fn is_same(a: &Field, b: &Field) -> bool {
    a.name() == b.name() && a.data_type() == b.data_type()
}

fn in_words(field: Option<&Field>) -> String {
    match field {
        Some(field) => format!("`{}` ({})", shown(field.name()), field.data_type()),
        None => "missing".to_owned(),
    }
}
