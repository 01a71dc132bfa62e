//! The CSV reader, over any bytes, as a file that it opens.
//!
//! The first byte chooses delimiter and id column. Held to: the rows of the `csv` crate wherever
//! that accepts the file; rejections that a plain reading of the bytes agrees with, line by line; and
//! rows that are the same whether they are read from the beginning or from the middle.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use batchclass::domain::reading::Reading;
use batchclass::domain::spec::{CloudSpec, IdSource, InputSpec, OnDuplicateId};
use batchclass::domain::{Location, Position, PositionRange, Template};
use batchclass::input::{InputError, OrderedInput};
use libfuzzer_sys::{Corpus, fuzz_target};

type Row = Vec<Option<String>>;

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let shared = PathBuf::from("/dev/shm");
    let parent = if shared.is_dir() { shared } else { std::env::temp_dir() };
    let folder = parent.join(format!("batchclass-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
});

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((&how, bytes)) = data.split_first() else { return Corpus::Reject };
    let (delimiter, extension) = if how & 1 == 0 { (b',', "csv") } else { (b'\t', "tsv") };
    let plain = read_plainly(bytes, delimiter);
    let Some(column) = plain.first_name() else { return Corpus::Reject };
    let Ok(text) = Template::parse(&format!("{{{column}}}")) else { return Corpus::Reject };
    let path = FOLDER.join(format!("in.{extension}"));
    fs::write(&path, bytes).unwrap();
    let id = if how & 2 == 0 { IdSource::RowNumber } else { IdSource::Column(column.clone()) };
    let has_ids = id != IdSource::RowNumber;
    let spec = InputSpec {
        location: Location::parse(path.as_os_str()).unwrap(),
        cloud: CloudSpec::default(),
        reading: Reading::default(),
        id,
        text,
        existing_label: None,
        gold: None,
        columns: None,
        on_duplicate_id: OnDuplicateId::Error,
        sort_memory: 1 << 20,
        temp_dir: FOLDER.clone(),
    };
    match OrderedInput::open(&spec) {
        Ok(input) => {
            assert_eq!(plain.fault, None, "accepted");
            let rows = rows_of(&input, 0, has_ids);
            let mut expected =
                rows_of_csv_crate(bytes, delimiter).expect("the csv crate refuses it");
            assert_eq!(expected, plain.rows, "the two oracles differ");
            if has_ids {
                sort_by_id(&mut expected, &rows);
            }
            assert_eq!(rows, expected);
            if let Some(middle) = (rows.len() / 2).checked_sub(1) {
                assert_eq!(rows_of(&input, middle, has_ids), expected[middle..]);
            }
        }
        Err(error) => agrees(&error, &plain, has_ids),
    }
    Corpus::Keep
});

/// The columns of every row from `first` on, without a row number.
fn rows_of(input: &OrderedInput, first: usize, has_ids: bool) -> Vec<Row> {
    let rows = input.rows() - first as u64;
    let wanted = vec![PositionRange { first: Position(first as u64), rows }];
    let mut read = Vec::new();
    for chunk in input.read(wanted).unwrap() {
        let columns = chunk.unwrap().columns;
        let skipped = usize::from(!has_ids);
        for row in 0..columns.num_rows() {
            let values = columns.columns()[skipped..].iter().map(|column| {
                (!column.is_null(row)).then(|| match column.data_type() {
                    DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
                    _ => column.as_string::<i32>().value(row).to_owned(),
                })
            });
            read.push(values.collect());
        }
    }
    read
}

/// In the order of the ids: by value if all are integers in their usual form, else by bytes.
fn sort_by_id(expected: &mut [Row], rows: &[Row]) {
    let id = |row: &Row| row[0].clone().expect("ids are never null");
    let number = |row: &Row| {
        let id = id(row);
        id.parse::<i64>().ok().filter(|number| number.to_string() == id)
    };
    if rows.iter().all(|row| number(row).is_some()) {
        expected.sort_by_key(number);
    } else {
        expected.sort_by_key(id);
    }
}

fn rows_of_csv_crate(bytes: &[u8], delimiter: u8) -> Option<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(bytes);
    let fields = |row: csv::StringRecord| row.iter().map(value).collect();
    reader.records().map(|row| row.ok().map(fields)).collect()
}

fn value(field: &str) -> Option<String> {
    (!field.is_empty()).then(|| field.to_owned())
}

/// What is wrong with a file, and the line of it.
#[derive(Debug, PartialEq)]
enum Flaw {
    Ragged(u64),
    NotUtf8(u64),
    OpenQuote(u64),
}

/// A file, read one byte after the other.
struct Plain {
    header: Option<Vec<String>>,
    rows: Vec<Row>,
    /// The line on which each row begins.
    lines: Vec<u64>,
    fault: Option<Flaw>,
}

impl Plain {
    fn first_name(&self) -> Option<String> {
        let name = self.header.as_ref()?.first()?;
        (!name.is_empty() && !name.contains(['{', '}'])).then(|| name.clone())
    }
}

fn read_plainly(bytes: &[u8], delimiter: u8) -> Plain {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut plain = Plain { header: None, rows: Vec::new(), lines: Vec::new(), fault: None };
    let (mut line, mut at) = (1, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\r' => {
                line += 1;
                at += 1 + usize::from(bytes.get(at + 1) == Some(&b'\n'));
                continue;
            }
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            _ => {}
        }
        let began_on = line;
        let mut row = vec![Vec::new()];
        let mut opened_on = None;
        let mut is_start = true;
        while at < bytes.len() {
            let byte = bytes[at];
            let field = row.last_mut().unwrap();
            at += 1;
            if opened_on.is_some() {
                let is_pair = byte == b'\r' && bytes.get(at) == Some(&b'\n');
                line += u64::from((byte == b'\n' || byte == b'\r') && !is_pair);
                if byte != b'"' {
                    field.push(byte);
                } else if bytes.get(at) == Some(&b'"') {
                    field.push(b'"');
                    at += 1;
                } else {
                    opened_on = None;
                }
                continue;
            }
            match byte {
                b'"' if is_start => opened_on = Some(line),
                b'\r' | b'\n' => {
                    at -= 1;
                    break;
                }
                _ if byte == delimiter => {
                    row.push(Vec::new());
                    is_start = true;
                    continue;
                }
                _ => field.push(byte),
            }
            is_start = false;
        }
        if let Some(opened_on) = opened_on {
            plain.fault = Some(Flaw::OpenQuote(opened_on));
            return plain;
        }
        let Ok(row) = row.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>() else {
            plain.fault = Some(Flaw::NotUtf8(began_on));
            return plain;
        };
        match &plain.header {
            None => plain.header = Some(row),
            Some(header) if header.len() != row.len() => {
                plain.fault = Some(Flaw::Ragged(began_on));
                return plain;
            }
            Some(_) => {
                plain.rows.push(row.iter().map(|field| value(field)).collect());
                plain.lines.push(began_on);
            }
        }
    }
    plain
}

fn agrees(error: &InputError, plain: &Plain, has_ids: bool) {
    let told = match error {
        InputError::RaggedRow { line, .. } => Flaw::Ragged(*line),
        InputError::BadText { line, .. } => Flaw::NotUtf8(*line),
        InputError::OpenQuote { line, .. } => Flaw::OpenQuote(*line),
        InputError::DuplicateColumn { column, .. } => {
            let names = plain.header.iter().flatten();
            // Control characters in it are shown as escapes.
            let escaped = |char: char| match char.is_control() {
                true => char.escape_default().to_string(),
                false => char.to_string(),
            };
            let shown = |name: &&String| name.chars().map(escaped).collect::<String>() == *column;
            assert!(names.filter(shown).count() > 1);
            return;
        }
        InputError::ReservedColumn { column } => {
            assert!(!has_ids && plain.header.iter().flatten().any(|name| name == column));
            return;
        }
        InputError::NullId { .. } | InputError::DuplicateId { .. } => {
            let said = error.to_string();
            let rows = plain.rows.iter().zip(&plain.lines);
            let named: Vec<&Option<String>> = rows
                .filter(|(_, line)| said.contains(&format!("line {line} of")))
                .map(|(row, _)| &row[0])
                .collect();
            match error {
                InputError::NullId { .. } => assert!(matches!(named[..], [None]), "{said}"),
                _ => assert!(matches!(named[..], [Some(a), Some(b)] if a == b), "{said}"),
            }
            return;
        }
        other => panic!("{other}"),
    };
    // An open quote is noticed as its bytes arrive, before the rows in front of it are parsed.
    let is_earlier = matches!((&told, &plain.fault), (Flaw::OpenQuote(_), Some(_)));
    assert!(is_earlier || plain.fault.as_ref() == Some(&told), "{told:?}, not {:?}", plain.fault);
}
