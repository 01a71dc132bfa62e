//! A CSV or TSV file, streamed, with the same values that Parquet would give.
//!
//! Every column is a string, unaltered, and an empty field is null, quoted or not. Only the id
//! column may be an integer: see [`is_canonical_integer`]. The first pass over a file finds every
//! malformed row and notes where each 16,384th row begins, so that done rows are skipped by a seek.

use std::io::{BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use csv::{Position, StringRecord};

use super::InputError;
use super::csv_scan::{CsvForm, Fault, Watched, line_at};
use super::reader::{MAX_CHUNK_ROWS, MAX_COLUMNS};
use super::source::{Source, SourceReader};
use super::table::{Batches, Columns};
use super::text_file::{TextFile, TextReader};
use crate::domain::reading::IdType;

/// Rows between two noted offsets.
pub(super) const CHECKPOINT_ROWS: u64 = 16_384;
/// A batch ends early when its text passes this, so that its offsets can't overflow.
pub(super) const MAX_BATCH_BYTES: usize = 16 << 20;

/// A file whose header is known and, after [`CsvTable::survey`], whose rows are sound.
#[derive(Debug)]
pub(super) struct CsvTable {
    file: TextFile,
    form: CsvForm,
    schema: SchemaRef,
    rows: u64,
    /// Bytes of the text.
    bytes: u64,
    /// The byte offsets of rows 0, 16,384, ...
    checkpoints: Arc<[u64]>,
}

impl CsvTable {
    /// Reads the header.
    pub(super) fn open(file: TextFile, form: CsvForm) -> Result<CsvTable, InputError> {
        let mut reader = parser(Watched::new(file.open()?, form), form);
        let mut header = StringRecord::new();
        let found = reader.read_record(&mut header);
        if !found.map_err(|error| watched_error(&file, reader.get_ref(), 0, error))? {
            return Err(InputError::NoHeader { file: file.name().to_owned() });
        }
        let fields = header.iter().enumerate().map(|(at, name)| match form.has_header {
            true => Field::new(name, DataType::Utf8, true),
            false => Field::new(format!("column_{}", at + 1), DataType::Utf8, true),
        });
        let fields: Vec<_> = fields.collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(CsvTable { file, form, schema, rows: 0, bytes: 0, checkpoints: Arc::new([]) })
    }

    /// Reads the whole file once: counts the rows and finds what is malformed. Returns whether
    /// every value of the column `id` is a canonical integer; one that is none is an error if
    /// `id_type` wants them.
    pub(super) fn survey(
        &mut self,
        id: Option<usize>,
        id_type: IdType,
    ) -> Result<bool, InputError> {
        let watched = Watched::new(self.file.open()?, self.form);
        let mut reader = parser(watched, self.form);
        self.scan(&mut reader, id, id_type).map_err(|error| match error {
            InputError::RaggedRow { .. }
            | InputError::BadText { .. }
            | InputError::ManyFields { .. }
            | InputError::NotAnInteger { .. }
            | InputError::OpenQuote { .. } => {
                self.file.unless_damaged(reader.into_inner().into_inner(), error)
            }
            error => error,
        })
    }

    fn scan(
        &mut self,
        reader: &mut csv::Reader<Watched<TextReader>>,
        id: Option<usize>,
        id_type: IdType,
    ) -> Result<bool, InputError> {
        let mut record = StringRecord::new();
        let columns = self.schema.fields().len();
        let mut are_integers = true;
        let mut is_header = self.form.has_header;
        let (mut rows, mut checkpoints) = (0_u64, Vec::new());
        loop {
            let offset = reader.position().byte();
            let found = reader.read_record(&mut record);
            if !found.map_err(|e| watched_error(&self.file, reader.get_ref(), offset, e))? {
                break;
            }
            if is_header {
                is_header = false;
                continue;
            }
            if record.len() != columns {
                return Err(InputError::RaggedRow {
                    file: self.file.name().to_owned(),
                    line: line_in(&self.file, offset)?,
                    fields: record.len(),
                    columns,
                });
            }
            if rows.is_multiple_of(CHECKPOINT_ROWS) {
                checkpoints.push(offset);
            }
            let value = id.and_then(|id| record.get(id)).unwrap_or_default();
            let is_integer = is_canonical_integer(value);
            // A null is an error of its own.
            if id_type == IdType::Integer && id.is_some() && !is_integer && !value.is_empty() {
                let (line, file) = (line_in(&self.file, offset)?, self.file.name());
                return Err(InputError::NotAnInteger { row: format!("line {line} of `{file}`") });
            }
            are_integers &= is_integer;
            rows += 1;
        }
        self.file.source().check_unchanged()?;
        (self.rows, self.checkpoints) = (rows, checkpoints.into());
        self.bytes = reader.position().byte();
        Ok(are_integers)
    }

    pub(super) fn source(&self) -> &Source {
        self.file.source()
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn bytes_in_memory(&self) -> u64 {
        let offsets = size_of::<i32>() as u64 * self.schema.fields().len() as u64;
        self.bytes + self.rows * offsets
    }

    /// The line (from 1) on which a row begins; `None` if the file can't be read again.
    pub(super) fn line_of(&self, row: u64) -> Option<u64> {
        let mut cursor = self.cursor(self.file.open().ok()?);
        cursor.go_to(row).ok()?;
        line_in(&self.file, cursor.reader.position().byte()).ok()
    }

    pub(super) fn read(
        &self,
        file: SourceReader,
        schema: &SchemaRef,
        columns: Columns,
        wanted: Vec<Range<u64>>,
    ) -> Result<Batches, InputError> {
        let places = columns.places(schema.fields().len());
        let schema =
            Arc::new(schema.project(&places).map_err(|source| InputError::BadBatch { source })?);
        let cursor = self.cursor(self.file.text_of(file)?);
        Ok(Box::new(CsvBatches { cursor, places, schema, wanted: wanted.into_iter().peekable() }))
    }

    fn cursor(&self, text: TextReader) -> Cursor {
        Cursor {
            reader: parser(text, self.form),
            record: StringRecord::new(),
            row: None,
            checkpoints: self.checkpoints.clone(),
            file: self.file.clone(),
        }
    }
}

/// A place in the file, moved by row number.
struct Cursor {
    reader: csv::Reader<TextReader>,
    record: StringRecord,
    /// The row that comes next; `None` before the first seek.
    row: Option<u64>,
    checkpoints: Arc<[u64]>,
    file: TextFile,
}

impl Cursor {
    /// Moves to `row`: by a seek where a checkpoint lies nearer than the present place.
    fn go_to(&mut self, row: u64) -> Result<(), InputError> {
        let checkpoint = row / CHECKPOINT_ROWS;
        let near = checkpoint * CHECKPOINT_ROWS;
        if self.row.is_none_or(|at| at < near || at > row) {
            let offset = usize::try_from(checkpoint).ok().and_then(|at| self.checkpoints.get(at));
            let Some(&offset) = offset else {
                return Err(InputError::Damaged { file: self.file.name().to_owned() });
            };
            let mut position = Position::new();
            position.set_byte(offset);
            self.reader
                .seek(position)
                .map_err(|error| csv_error(&self.file, offset, error.into_kind()))?;
            self.row = Some(near);
        }
        while self.row.is_some_and(|at| at < row) {
            self.advance()?;
        }
        Ok(())
    }

    /// Reads the next row into `record`.
    fn advance(&mut self) -> Result<(), InputError> {
        let offset = self.reader.position().byte();
        let found = self.reader.read_record(&mut self.record);
        if !found.map_err(|error| csv_error(&self.file, offset, error.into_kind()))? {
            return Err(InputError::Damaged { file: self.file.name().to_owned() });
        }
        self.row = self.row.map(|row| row + 1);
        Ok(())
    }
}

struct CsvBatches {
    cursor: Cursor,
    places: Vec<usize>,
    schema: SchemaRef,
    wanted: std::iter::Peekable<std::vec::IntoIter<Range<u64>>>,
}

impl CsvBatches {
    fn read(&mut self) -> Result<Option<RecordBatch>, InputError> {
        let mut builders: Vec<_> = self.places.iter().map(|_| StringBuilder::new()).collect();
        let (mut rows, mut bytes) = (0, 0);
        while rows < MAX_CHUNK_ROWS && bytes < MAX_BATCH_BYTES {
            let Some(range) = self.wanted.peek_mut() else { break };
            if range.is_empty() {
                self.wanted.next();
                continue;
            }
            self.cursor.go_to(range.start)?;
            self.cursor.advance()?;
            range.start += 1;
            rows += 1;
            bytes += self.cursor.record.as_slice().len() + self.places.len() * size_of::<i32>();
            for (builder, &place) in builders.iter_mut().zip(&self.places) {
                let value = self.cursor.record.get(place);
                builder.append_option(value.filter(|value| !value.is_empty()));
            }
        }
        if rows == 0 {
            return Ok(None);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let columns = builders.into_iter().zip(self.schema.fields()).map(|(mut builder, field)| {
            let strings: ArrayRef = Arc::new(builder.finish());
            cast_with_options(&strings, field.data_type(), &options)
                .map_err(|source| InputError::BadValue { column: field.name().clone(), source })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        batch.map(Some).map_err(|source| InputError::BadBatch { source })
    }
}

impl Iterator for CsvBatches {
    type Item = Result<RecordBatch, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Whether `text` is an integer of 64 bits in the one form that writing it again gives: no blank,
/// plus sign or leading zero. An id column is int64 if that holds for all of its values, in all
/// files; so `007` and `7` stay two ids.
pub(super) fn is_canonical_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit())
        && (!digits.starts_with('0') || text == "0")
        && text.parse::<i64>().is_ok()
}

/// The header is read like a row, and the number of fields is checked by us, so that an error can
/// name a line.
fn parser<R: Read>(input: R, form: CsvForm) -> csv::Reader<R> {
    csv::ReaderBuilder::new()
        .delimiter(form.delimiter)
        .quote(form.quote.unwrap_or_default())
        .quoting(form.quote.is_some())
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(64 << 10)
        .from_reader(input)
}

fn line_in(file: &TextFile, offset: u64) -> Result<u64, InputError> {
    line_at(BufReader::new(file.open()?), offset).map_err(|error| file.error(error, None))
}

fn watched_error(
    text: &TextFile,
    watched: &Watched<TextReader>,
    offset: u64,
    error: csv::Error,
) -> InputError {
    let file = text.name().to_owned();
    match watched.fault() {
        Some(Fault::OpenQuote { line }) => InputError::OpenQuote { file, line },
        Some(Fault::LongRow { line }) => InputError::LongRow { file, line },
        Some(Fault::ManyFields { line }) => {
            InputError::ManyFields { file, line, most: MAX_COLUMNS }
        }
        None => match error.into_kind() {
            // The text up to where it can't be decoded was seen.
            csv::ErrorKind::Io(error) => text.error(error, Some(watched.line())),
            kind => csv_error(text, offset, kind),
        },
    }
}

/// `offset` is where the row begins.
fn csv_error(text: &TextFile, offset: u64, error: csv::ErrorKind) -> InputError {
    match error {
        csv::ErrorKind::Utf8 { .. } => match line_in(text, offset) {
            Ok(line) => text.not_decodable(line),
            Err(error) => error,
        },
        csv::ErrorKind::Io(error) => text.error(error, None),
        _ => InputError::Damaged { file: text.name().to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_canonical_in_one_form_only() {
        for text in ["0", "7", "-7", "9223372036854775807", "-9223372036854775808"] {
            assert!(is_canonical_integer(text), "{text}");
        }
        for text in ["", "-", "-0", "007", "+7", " 7", "7.0", "9223372036854775808", "٣"] {
            assert!(!is_canonical_integer(text), "{text}");
        }
    }
}
