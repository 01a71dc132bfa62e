//! An NDJSON file, streamed: one JSON object a line, as columns of the types that `json_columns` finds.
//!
//! The first pass reads every line, so what is malformed is found before anything is asked. It
//! notes where each 16,384th row begins, so that done rows are skipped by a seek. Blank lines hold
//! no row.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read as _, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::InputError;
use super::csv_table::{CHECKPOINT_ROWS, MAX_BATCH_BYTES};
use super::json_columns::{JsonColumns, MOST_NAME_BYTES, ObjectFault};
use super::json_line::{Members, check, members, unescaped};
use super::json_values::Values;
use super::reader::{MAX_CHUNK_ROWS, MAX_COLUMNS};
use super::source::{Source, SourceReader};
use super::table::{Batches, Columns};
use super::text_file::{TextFile, TextReader};

/// Longest line, bytes.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// Room that is kept for the next line.
const KEPT_BYTES: usize = 1 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file whose rows are sound and whose columns are known.
#[derive(Debug)]
pub(super) struct NdjsonTable {
    file: TextFile,
    schema: SchemaRef,
    rows: u64,
    /// Bytes of the text.
    bytes: u64,
    /// Where rows 0, 16,384, ... begin, or the blank lines before them.
    checkpoints: Arc<[Checkpoint]>,
}

#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    offset: u64,
    /// Lines before it.
    lines: u64,
}

impl NdjsonTable {
    /// Reads every file once, and gives all of them the columns that their objects have together.
    /// `columns` has seen nothing yet.
    pub(super) fn open_all(
        files: impl Iterator<Item = TextFile>,
        mut columns: JsonColumns,
    ) -> Result<Vec<NdjsonTable>, InputError> {
        let survey = |(number, file)| NdjsonTable::survey(file, &mut columns, number);
        let mut tables = files.enumerate().map(survey).collect::<Result<Vec<_>, _>>()?;
        let schema = columns.schema(|(file, line)| match tables.get(file) {
            Some(table) => format!("line {line} of `{}`", table.file.name()),
            None => format!("line {line}"),
        })?;
        if let Some(first) = tables.first().filter(|_| schema.fields().is_empty()) {
            return Err(InputError::NoHeader { file: first.file.name().to_owned() });
        }
        let schema = Arc::new(schema);
        for table in &mut tables {
            table.schema = Arc::clone(&schema);
        }
        Ok(tables)
    }

    fn survey(
        file: TextFile,
        columns: &mut JsonColumns,
        number: usize,
    ) -> Result<NdjsonTable, InputError> {
        let mut lines = Lines::new(file.clone(), file.open()?);
        let mut checkpoints = Vec::new();
        let mut rows = 0_u64;
        loop {
            let place = lines.place;
            match lines.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(lines.unless_damaged(error)),
            }
            let seen = columns.see(lines.members(), (number, lines.place.lines));
            if let Err(fault) = seen {
                let error = lines.object_error(fault);
                return Err(lines.unless_damaged(error));
            }
            if rows.is_multiple_of(CHECKPOINT_ROWS) {
                checkpoints.push(place);
            }
            rows += 1;
        }
        file.source().check_unchanged()?;
        let (bytes, checkpoints) = (lines.place.offset, checkpoints.into());
        Ok(NdjsonTable { file, schema: Arc::new(Schema::empty()), rows, bytes, checkpoints })
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
        let fixed = size_of::<i64>() as u64 * self.schema.fields().len() as u64;
        self.bytes + self.rows * fixed
    }

    /// The line (from 1) of a row; `None` if the file can't be read again.
    pub(super) fn line_of(&self, row: u64) -> Option<u64> {
        let mut cursor = self.cursor(self.file.open().ok()?);
        cursor.go_to(row).ok()?;
        cursor.advance().ok()?;
        Some(cursor.lines.place.lines)
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
        Ok(Box::new(NdjsonBatches {
            cursor: self.cursor(self.file.text_of(file)?),
            places: schema
                .fields()
                .iter()
                .enumerate()
                .map(|(place, field)| (field.name().as_str().into(), place))
                .collect(),
            schema,
            wanted: wanted.into_iter().peekable(),
        }))
    }

    fn cursor(&self, text: TextReader) -> Cursor {
        let checkpoints = Arc::clone(&self.checkpoints);
        Cursor { lines: Lines::new(self.file.clone(), text), row: None, checkpoints }
    }
}

/// The lines of a file, one in memory.
struct Lines {
    file: TextFile,
    text: BufReader<TextReader>,
    /// The line in memory, a byte-order mark before it left out.
    line: String,
    /// The end of it.
    place: Checkpoint,
}

impl Lines {
    fn new(file: TextFile, text: TextReader) -> Lines {
        let text = BufReader::with_capacity(64 << 10, text);
        let place = Checkpoint { offset: 0, lines: 0 };
        Lines { file, text, line: String::new(), place }
    }

    fn seek(&mut self, to: Checkpoint) -> Result<(), InputError> {
        self.text.seek(SeekFrom::Start(to.offset)).map_err(|e| self.file.error(e, None))?;
        self.place = to;
        Ok(())
    }

    /// Reads the next line that is not blank, which is a JSON object; says whether there was one.
    fn advance(&mut self) -> Result<bool, InputError> {
        loop {
            let mut bytes = std::mem::take(&mut self.line).into_bytes();
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES);
            let line = self.place.lines + 1;
            let count = (&mut self.text)
                .take(MAX_LINE_BYTES + 1)
                .read_until(b'\n', &mut bytes)
                .map_err(|error| self.file.error(error, Some(line)))?
                as u64;
            if count > MAX_LINE_BYTES {
                return Err(InputError::LongRow { file: self.file.name().to_owned(), line });
            }
            if self.place.offset == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
                bytes.drain(..BYTE_ORDER_MARK.len());
            }
            self.line = String::from_utf8(bytes).map_err(|_| self.file.not_decodable(line))?;
            if count == 0 {
                return Ok(false);
            }
            self.place = Checkpoint { offset: self.place.offset + count, lines: line };
            if self.line.bytes().all(|byte| byte.is_ascii_whitespace()) {
                continue;
            }
            return match check(&self.line) {
                Ok(()) => Ok(true),
                Err(column) => {
                    let file = self.file.name().to_owned();
                    Err(InputError::NotAnObject { file, line, column })
                }
            };
        }
    }

    /// The members of the object on the line in memory.
    fn members(&self) -> Members<'_> {
        members(&self.line)
    }

    /// What is wrong with the object on the line in memory.
    fn object_error(&self, fault: ObjectFault) -> InputError {
        let (file, line) = (self.file.name().to_owned(), self.place.lines);
        match fault {
            ObjectFault::Escape => InputError::BadEscape { file, line },
            ObjectFault::LongNames => InputError::LongNames { file, line, most: MOST_NAME_BYTES },
            ObjectFault::Repeated(name) => InputError::RepeatedName { file, line, name },
            ObjectFault::TooMany => InputError::ManyColumns { file, line, most: MAX_COLUMNS },
            ObjectFault::NoInteger => {
                InputError::NotAnInteger { row: format!("line {line} of `{file}`") }
            }
        }
    }

    /// `error`, unless it comes of damage to the stored file.
    fn unless_damaged(&mut self, error: InputError) -> InputError {
        match error {
            InputError::BadText { .. }
            | InputError::NotAnObject { .. }
            | InputError::BadEscape { .. }
            | InputError::LongNames { .. }
            | InputError::RepeatedName { .. }
            | InputError::ManyColumns { .. }
            | InputError::NotAnInteger { .. } => {
                let file = self.file.clone();
                file.unless_damaged(&mut self.text, error)
            }
            error => error,
        }
    }
}

/// A place in the file, moved by row number.
struct Cursor {
    lines: Lines,
    /// The row that comes next; `None` before the first seek.
    row: Option<u64>,
    checkpoints: Arc<[Checkpoint]>,
}

impl Cursor {
    /// Moves to `row`: by a seek where a checkpoint lies nearer than the present place.
    fn go_to(&mut self, row: u64) -> Result<(), InputError> {
        let checkpoint = row / CHECKPOINT_ROWS;
        let near = checkpoint * CHECKPOINT_ROWS;
        if self.row.is_none_or(|at| at < near || at > row) {
            let place = usize::try_from(checkpoint).ok().and_then(|at| self.checkpoints.get(at));
            let Some(&place) = place else { return Err(self.damaged()) };
            self.lines.seek(place)?;
            self.row = Some(near);
        }
        while self.row.is_some_and(|at| at < row) {
            self.advance()?;
        }
        Ok(())
    }

    /// Reads the next row.
    fn advance(&mut self) -> Result<(), InputError> {
        self.row = self.row.map(|row| row + 1);
        if self.lines.advance()? { Ok(()) } else { Err(self.damaged()) }
    }

    fn damaged(&self) -> InputError {
        InputError::Damaged { file: self.lines.file.name().to_owned() }
    }
}

struct NdjsonBatches {
    cursor: Cursor,
    /// The place of each wanted column in the batch.
    places: HashMap<Box<str>, usize>,
    schema: SchemaRef,
    wanted: std::iter::Peekable<std::vec::IntoIter<Range<u64>>>,
}

impl NdjsonBatches {
    fn read(&mut self) -> Result<Option<RecordBatch>, InputError> {
        let fields = self.schema.fields();
        let mut values: Vec<Values> =
            fields.iter().map(|field| Values::new(field.data_type())).collect();
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
            for (name, value) in self.cursor.lines.members() {
                let name = unescaped(name).map_err(|_| self.cursor.damaged())?;
                if let Some(&place) = self.places.get(&*name)
                    && values[place].push(value, rows).is_none()
                {
                    return Err(self.cursor.damaged());
                }
            }
            for column in &mut values {
                column.fill(rows);
            }
            bytes += self.cursor.lines.line.len() + values.len() * size_of::<i64>();
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = values.iter_mut().map(Values::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns);
        batch.map(Some).map_err(|source| InputError::BadBatch { source })
    }
}

impl Iterator for NdjsonBatches {
    type Item = Result<RecordBatch, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _};
    use tempfile::TempDir;

    use super::super::OrderedInput;
    use super::super::tests::{gzip, integer_ids, keep_first, put, read, refusal, spec, whole};
    use super::*;
    use crate::domain::{Position, PositionRange};

    fn refused(text: impl AsRef<[u8]>) -> String {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.ndjson");
        put(&path, text);
        let error = refusal(&spec(&path));
        assert!(error.is_usage());
        error.to_string()
    }

    #[test]
    fn half_a_pair_in_a_string_is_met_by_the_first_pass_and_named_by_its_line() {
        let said = refused("{\"id\":1}\n{\"id\":2,\"x\":\"\\ud800\"}\n");
        assert!(said.contains("line 2 of `a.ndjson`") && said.contains("half"), "{said}");
    }

    #[test]
    fn names_that_are_values_are_refused_before_they_fill_the_memory() {
        let name = "n".repeat(1 << 20);
        let lines: String = (0..8).map(|at| format!("{{\"{name}{at}\":1}}\n")).collect();
        let said = refused(lines);
        assert!(said.contains("line 4 of `a.ndjson`") && said.contains("names"), "{said}");
    }

    #[test]
    fn values_of_every_kind_become_columns_and_what_is_absent_is_null() {
        let folder = TempDir::new().unwrap();
        put(
            &folder.path().join("a.ndjson"),
            "\u{feff}{\"id\": 2, \"text\": \"caf\\u00e9\", \"n\": 1}\r\n\r\n  {\"text\": [1, 2.50], \"id\": 1}",
        );
        put(
            &folder.path().join("b.ndjson"),
            "{\"id\": 3, \"text\": {\"a\" : null}, \"n\": 2.5, \"ok\": true}\n\n",
        );
        let input = OrderedInput::open(&spec(folder.path())).unwrap();
        let (columns, rows) = read(&input, &whole(&input));
        assert_eq!(integer_ids(&rows), [1, 2, 3]);
        let texts: Vec<_> = rows.iter().map(|row| row.text.as_deref().unwrap()).collect();
        assert_eq!(texts, ["[1, 2.50]", "café", "{\"a\" : null}"]);
        let column = |name| columns.column_by_name(name).unwrap();
        let numbers = column("n").as_primitive::<arrow::datatypes::Float64Type>();
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [None, Some(1.0), Some(2.5)]);
        let bools = column("ok").as_boolean();
        assert_eq!((bools.null_count(), bools.value(2)), (2, true));
    }

    #[test]
    fn rows_are_read_on_from_a_checkpoint() {
        let folder = TempDir::new().unwrap();
        let text: String = (0..40_000)
            .map(|id| format!("{{\"id\":{id},\"text\":\"t\"}}\n{}", "\n".repeat(id % 3)))
            .collect();
        let range = |first, rows| PositionRange { first: Position(first), rows };
        let wanted = [range(3, 1), range(16_383, 2), range(32_768, 1), range(33_000, 7_000)];
        let expected: Vec<i128> =
            wanted.iter().flat_map(|range| range.first.0..range.end().0).map(i128::from).collect();
        for (name, bytes) in
            [("a.jsonl", text.clone().into_bytes()), ("a.ndjson.gz", gzip(text.as_bytes()))]
        {
            let path = folder.path().join(name);
            put(&path, bytes);
            let input = OrderedInput::open(&spec(&path)).unwrap();
            assert_eq!(integer_ids(&read(&input, &wanted).1), expected, "{name}");
        }
    }

    #[test]
    fn what_is_malformed_is_named_by_its_line() {
        let object = "{\"id\": 1, \"text\": \"x\"}\n";
        assert_eq!(
            refused(format!("{object}\n{{\"id\": 2,}}\n")),
            "line 3 of `a.ndjson` is no JSON object (character 10); each line holds one, so write \
             it anew"
        );
        assert!(refused(format!("[{object}]")).starts_with("line 1 of `a.ndjson` is no JSON"));
        assert!(refused(format!("{object}{{\"id\": 2")).starts_with("line 2 of `a.ndjson` is no"));
        assert_eq!(
            refused("{\"id\": 1, \"id\": 2}"),
            "the object on line 1 of `a.ndjson` has `id` twice; rename one"
        );
        let found = refused(b"{\"id\": 1}\n{\"id\": \"caf\xe9\"}");
        assert!(found.starts_with("the row on line 2 of `a.ndjson` is not valid UTF-8"), "{found}");
        assert!(refused(" \n").starts_with("`a.ndjson` is empty"));
        let found = refused(format!("{object}\n{object}"));
        assert!(found.starts_with("line 3 of `a.ndjson` has the same id as line 1 of"), "{found}");
        let found = refused(format!("{object}{{\"text\": \"y\"}}"));
        assert!(found.starts_with("line 2 of `a.ndjson` has no id"), "{found}");
        assert!(refused("{\"id\": 1.5, \"text\": \"x\"}").contains("`id` is of type Float64"));
    }

    #[test]
    fn a_line_without_end_is_given_up_and_damage_is_told_from_bad_json() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.ndjson.gz");
        let mebibyte = gzip(&[b' '; 1 << 20]);
        put(&path, [gzip(b"{\"id\": 1}\n{"), mebibyte.repeat(65), b"not gzip".to_vec()].concat());
        let error = refusal(&spec(&path)).to_string();
        assert!(error.starts_with("the row on line 2 of `a.ndjson.gz` is longer"), "{error}");
        let mut bytes = gzip(b"{\"id\": 1, \"text\": \"x\"}\n{\"id\": oops}\n");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        put(&path, bytes);
        let error = refusal(&spec(&path));
        assert!(matches!(error, InputError::BadCompression { .. }), "{error}");
    }

    #[test]
    fn of_repeated_ids_the_first_is_kept() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.ndjson");
        let lines = ["b", "a", "b"].map(|id| format!("{{\"id\":\"{id}\",\"text\":\"{id}\"}}"));
        put(&path, lines.join("\n"));
        let input = OrderedInput::open(&keep_first(&path)).unwrap();
        assert_eq!((input.rows(), input.dropped_duplicates()), (2, 1));
    }
}
