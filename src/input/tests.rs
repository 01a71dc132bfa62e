//! The module's promises, held over files in a temporary folder.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, Int64Array,
    RecordBatch, StringArray, UInt64Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::domain::reading::{FileFormat, IdType};
use crate::domain::spec::{CloudSpec, IdSource, InputSpec, OnDuplicateId};
use crate::domain::{Position, PositionRange, RowId, Template};

pub(super) fn spec(location: &Path) -> InputSpec {
    InputSpec {
        location: location.into(),
        cloud: CloudSpec::default(),
        reading: Default::default(),
        id: IdSource::Column("id".into()),
        text: Template::parse("{text}").unwrap(),
        existing_label: None,
        gold: None,
        columns: None,
        on_duplicate_id: OnDuplicateId::Error,
        sort_memory: 64 << 20,
        temp_dir: std::env::temp_dir(),
    }
}

pub(super) fn row_numbers(location: &Path) -> InputSpec {
    InputSpec { id: IdSource::RowNumber, ..spec(location) }
}

pub(super) fn keep_first(location: &Path) -> InputSpec {
    InputSpec { on_duplicate_id: OnDuplicateId::First, ..spec(location) }
}

#[expect(clippy::disallowed_methods, reason = "tests write their own inputs")]
pub(super) fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(super) fn put_parquet(path: &Path, batch: &RecordBatch, rows_per_group: usize) {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group))
        .set_dictionary_enabled(false)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    put(path, bytes);
}

pub(super) fn put_csv(path: &Path, batch: &RecordBatch, delimiter: u8) {
    put(path, csv_of(batch, delimiter));
}

/// The batch as CSV: nulls are empty fields.
fn csv_of(batch: &RecordBatch, delimiter: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    let schema = batch.schema();
    writer.write_record(schema.fields().iter().map(|field| field.name())).unwrap();
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|column| arrow::compute::cast(column, &DataType::Utf8).unwrap())
        .collect();
    for row in 0..batch.num_rows() {
        let values = columns.iter().map(|column| {
            let column = column.as_string::<i32>();
            if column.is_null(row) { "" } else { column.value(row) }
        });
        writer.write_record(values).unwrap();
    }
    writer.into_inner().unwrap()
}

/// The batch as NDJSON: nulls stand in the first row and are left out of the others.
fn json_of(batch: &RecordBatch) -> Vec<u8> {
    let schema = batch.schema();
    let mut lines = String::new();
    for row in 0..batch.num_rows() {
        let members = batch.columns().iter().zip(schema.fields()).filter_map(|(column, field)| {
            let value = match column.data_type() {
                _ if column.is_null(row) && row > 0 => return None,
                _ if column.is_null(row) => "null".to_owned(),
                DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
                _ => serde_json::to_string(column.as_string::<i32>().value(row)).unwrap(),
            };
            Some(format!("\"{}\": {value}", field.name()))
        });
        lines.push_str(&format!("{{{}}}\n", members.collect::<Vec<_>>().join(", ")));
    }
    lines.into_bytes()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    // With a checksum, as the command writes it.
    let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    packed.include_checksum(true).unwrap();
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// Rows with these ids and a text that tells them apart.
pub(super) fn numbered(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.into_iter().collect();
    let texts: StringArray =
        ids.iter().enumerate().map(|(at, id)| Some(format!("text {id} at {at}"))).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
        ("text", Arc::new(texts) as ArrayRef),
    ])
    .unwrap()
}

pub(super) fn whole(input: &OrderedInput) -> Vec<PositionRange> {
    vec![PositionRange { first: Position(0), rows: input.rows() }]
}

/// Everything in the ranges: the columns as one batch, and the rows. Holds the chunks to their
/// contract on the way.
pub(super) fn read(input: &OrderedInput, wanted: &[PositionRange]) -> (RecordBatch, Vec<InputRow>) {
    let mut batches = Vec::new();
    let mut rows = Vec::new();
    let mut due: Vec<u64> = Vec::new();
    for range in wanted {
        due.extend(range.first.0..range.end().0);
    }
    let mut due = due.into_iter();
    for chunk in input.read(wanted.to_vec()).unwrap() {
        let chunk = chunk.unwrap();
        assert!((1..=MAX_CHUNK_ROWS).contains(&chunk.rows.len()));
        assert_eq!(chunk.columns.num_rows(), chunk.rows.len());
        assert_eq!(chunk.columns.schema(), *input.schema());
        let end = chunk.first.0 + chunk.rows.len() as u64;
        assert!(wanted.iter().any(|range| range.first <= chunk.first && end <= range.end().0));
        assert!((chunk.first.0..end).all(|position| due.next() == Some(position)));
        batches.push(chunk.columns);
        rows.extend(chunk.rows);
    }
    assert_eq!(due.next(), None);
    (concat_batches(input.schema(), &batches).unwrap(), rows)
}

pub(super) fn integer_ids(rows: &[InputRow]) -> Vec<i128> {
    let id = |row: &InputRow| match &row.id {
        RowId::Integer(id) => *id,
        RowId::Text(id) => panic!("{id} is no integer"),
    };
    rows.iter().map(id).collect()
}

/// The error of opening or of reading everything.
pub(super) fn refusal(spec: &InputSpec) -> InputError {
    match OrderedInput::open(spec) {
        Err(error) => error,
        Ok(input) => match input.read(whole(&input)) {
            Err(error) => error,
            Ok(mut chunks) => chunks.find_map(Result::err).expect("the input is refused"),
        },
    }
}

fn csv_refusal(text: impl AsRef<[u8]>) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    put(&path, text);
    let error = refusal(&spec(&path));
    assert!(error.is_usage());
    error.to_string()
}

// Order and formats

#[derive(Clone, Copy, Debug)]
enum Written {
    Parquet {
        rows_per_group: usize,
    },
    Csv,
    Tsv,
    CsvGz,
    CsvZst,
    Ndjson,
    NdjsonGz,
    JsonlZst,
    /// Parquet in a folder of its own, which is a column after the others.
    Folders,
}

fn written() -> impl Strategy<Value = Written> {
    prop_oneof![
        (1_usize..9).prop_map(|rows_per_group| Written::Parquet { rows_per_group }),
        Just(Written::Csv),
        Just(Written::Tsv),
        Just(Written::CsvGz),
        Just(Written::CsvZst),
        Just(Written::Ndjson),
        Just(Written::NdjsonGz),
        Just(Written::JsonlZst),
        Just(Written::Folders),
    ]
}

/// A table with unique ids, integers or strings, in id order; no string is empty, since CSV can't
/// tell that from null.
fn table() -> impl Strategy<Value = RecordBatch> {
    let field = || prop::option::of("[a-z0-9 ,;\"'\n\r\té€\\\\]{1,8}");
    let rows = prop::collection::btree_map(any::<i64>(), (field(), field()), 1..40);
    (rows, any::<bool>()).prop_map(|(rows, are_strings)| {
        let ids = Int64Array::from_iter_values(rows.keys().copied());
        let columns = [
            rows.values().map(|row| row.0.clone()).collect::<StringArray>(),
            rows.values().map(|row| row.1.clone()).collect::<StringArray>(),
        ];
        let mut ids: ArrayRef = Arc::new(ids);
        if are_strings {
            let mut keys: Vec<_> = rows.keys().map(|id| format!("k{id}")).collect();
            keys.sort();
            ids = Arc::new(StringArray::from(keys));
        }
        let [text, label] = columns.map(|column| Arc::new(column) as ArrayRef);
        RecordBatch::try_from_iter_with_nullable([
            ("label", label, true),
            ("id", ids, true),
            ("text", text, true),
        ])
        .unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn rows_in_any_order_split_into_any_files_of_any_format_are_the_same_input(
        (table, shuffled) in table().prop_flat_map(|table| {
            let rows: Vec<u64> = (0..table.num_rows() as u64).collect();
            (Just(table), Just(rows).prop_shuffle())
        }),
        keeps_order in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        written in written(),
    ) {
        let folder = TempDir::new().unwrap();
        let reference = folder.path().join("_reference.parquet");
        put_parquet(&reference, &table, 1_000);
        let told = |location: &Path| InputSpec {
            text: Template::parse("{id}: {text}").unwrap(),
            existing_label: Some("label".into()),
            ..spec(location)
        };
        let reference = OrderedInput::open(&told(&reference)).unwrap();
        let expected = read(&reference, &whole(&reference));
        prop_assert_eq!(&expected.0, &table);

        let order: Vec<u64> =
            if keeps_order { (0..table.num_rows() as u64).collect() } else { shuffled };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(order.len() + 1)).collect();
        cuts.extend([0, order.len()]);
        cuts.sort_unstable();
        for (number, cut) in cuts.windows(2).enumerate() {
            let rows = arrow::array::UInt64Array::from(order[cut[0]..cut[1]].to_vec());
            let piece = take_record_batch(&table, &rows).unwrap();
            let name = folder.path().join(format!("{number}"));
            match written {
                Written::Parquet { rows_per_group } => {
                    put_parquet(&name.with_extension("parquet"), &piece, rows_per_group);
                }
                Written::Csv => put_csv(&name.with_extension("csv"), &piece, b','),
                Written::Tsv => put_csv(&name.with_extension("tsv"), &piece, b'\t'),
                Written::CsvGz => {
                    put(&name.with_extension("csv.gz"), gzip(&csv_of(&piece, b',')));
                }
                Written::Folders => {
                    let name = folder.path().join(format!("piece={number}/a.parquet"));
                    put_parquet(&name, &piece, 5);
                }
                Written::Ndjson => put(&name.with_extension("ndjson"), json_of(&piece)),
                Written::NdjsonGz => {
                    put(&name.with_extension("ndjson.gz"), gzip(&json_of(&piece)));
                }
                Written::JsonlZst => {
                    put(&name.with_extension("jsonl.zst"), zstd(&json_of(&piece)));
                }
                Written::CsvZst => {
                    put(&name.with_extension("csv.zst"), zstd(&csv_of(&piece, b',')));
                }
            }
        }
        let input = OrderedInput::open(&told(folder.path())).unwrap();
        prop_assert_eq!(input.files().len(), cuts.len() - 1);
        prop_assert!(!keeps_order || input.is_in_order());
        let (columns, rows) = read(&input, &whole(&input));
        let columns = columns.project(&[0, 1, 2]).unwrap();
        prop_assert_eq!((columns, rows), expected);
    }

    #[test]
    fn reading_ranges_is_slicing_the_whole(
        ids in prop::collection::vec(0_i64..60, 1..80),
        is_sorted in any::<bool>(),
        lengths in prop::collection::vec((0_u64..9, 0_u64..9), 0..8),
        written in written(),
    ) {
        let mut ids = ids;
        if is_sorted {
            ids.sort_unstable();
        }
        let folder = TempDir::new().unwrap();
        for (number, ids) in ids.chunks(25).enumerate() {
            let name = folder.path().join(format!("{number}"));
            match written {
                Written::Parquet { rows_per_group } => put_parquet(
                    &name.with_extension("pq"), &numbered(ids.to_vec()), rows_per_group,
                ),
                _ => put_csv(&name.with_extension("csv"), &numbered(ids.to_vec()), b','),
            }
        }
        let input = OrderedInput::open(&keep_first(folder.path())).unwrap();
        let distinct: std::collections::BTreeSet<i64> = ids.iter().copied().collect();
        prop_assert_eq!(input.rows(), distinct.len() as u64);
        prop_assert_eq!(input.dropped_duplicates(), (ids.len() - distinct.len()) as u64);

        let mut ranges = Vec::new();
        let mut at = 0;
        for (skip, rows) in lengths {
            let first = at + skip;
            if first + rows <= input.rows() {
                ranges.push(PositionRange { first: Position(first), rows });
                at = first + rows;
            }
        }
        let (columns, rows) = read(&input, &whole(&input));
        let (some_columns, some_rows) = read(&input, &ranges);
        let slices: Vec<_> = ranges
            .iter()
            .map(|range| columns.slice(range.first.0 as usize, range.rows as usize))
            .collect();
        prop_assert_eq!(some_columns, concat_batches(input.schema(), &slices).unwrap());
        let slices = ranges.iter().flat_map(|range| {
            &rows[range.first.0 as usize..range.end().0 as usize]
        });
        prop_assert_eq!(some_rows, slices.cloned().collect::<Vec<_>>());
    }

    #[test]
    fn no_damaged_byte_of_a_parquet_file_causes_a_panic(at in any::<prop::sample::Index>(), byte: u8) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.parquet");
        put_parquet(&path, &numbered(0..50), 20);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        put(&path, bytes);
        if let Ok(input) = OrderedInput::open(&spec(&path))
            && let Ok(chunks) = input.read(whole(&input))
        {
            let rows: Result<Vec<_>, _> = chunks.collect();
            let rows = rows.map(|chunks| chunks.iter().map(|chunk| chunk.rows.len() as u64).sum());
            prop_assert!(rows.is_err() || rows.ok() == Some(input.rows()));
        }
    }
}

#[test]
fn sorted_files_that_follow_each_other_need_no_memory_for_sorting() {
    let folder = TempDir::new().unwrap();
    put_parquet(&folder.path().join("a.parquet"), &numbered(0..20_000), 3_000);
    put_parquet(&folder.path().join("b.parquet"), &numbered(20_000..20_001), 3_000);
    let input = OrderedInput::open(&InputSpec { sort_memory: 0, ..spec(folder.path()) }).unwrap();
    let (_, rows) = read(&input, &whole(&input));
    assert_eq!(integer_ids(&rows), (0..20_001).collect::<Vec<_>>());
    assert!(input.is_in_order());
}

#[test]
fn a_range_outside_the_input_or_before_its_predecessor_is_refused() {
    let folder = TempDir::new().unwrap();
    put_csv(&folder.path().join("a.csv"), &numbered(0..10), b',');
    let input = OrderedInput::open(&spec(folder.path())).unwrap();
    let range = |first, rows| PositionRange { first: Position(first), rows };
    for wanted in [vec![range(5, 6)], vec![range(5, 2), range(6, 1)], vec![range(u64::MAX, 2)]] {
        let error = input.read(wanted).unwrap_err();
        assert!(matches!(error, InputError::OutOfRange { .. }), "{error}");
    }
}

#[test]
fn skipped_rows_are_not_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let rows = numbered(0..20_000);
    put_parquet(&path, &rows, 10_000);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    // The first row group's texts, well before the second row group.
    bytes[middle - 90_000..middle - 50_000].fill(0xff);
    put(&path, bytes);
    let input = OrderedInput::open(&row_numbers(&path)).unwrap();
    let (_, late) = read(&input, &[PositionRange { first: Position(10_000), rows: 10_000 }]);
    assert_eq!(late[9_999].text.as_deref(), Some("text 19999 at 19999"));
    let error = input.read(whole(&input)).unwrap().find_map(Result::err).unwrap();
    assert!(error.to_string().contains("`a.parquet`"), "{error}");
}

#[test]
fn csv_is_read_on_from_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    let rows = numbered(0..50_000);
    put_csv(&path, &rows, b',');
    // CRLF and a byte-order mark shift every offset.
    let text = fs::read_to_string(&path).unwrap().replace('\n', "\r\n");
    put(&path, format!("\u{feff}{text}"));
    let input = OrderedInput::open(&spec(&path)).unwrap();
    let range = |first, rows| PositionRange { first: Position(first), rows };
    let wanted = [range(3, 1), range(16_383, 2), range(32_768, 1), range(40_000, 9_000)];
    let expected: Vec<i128> =
        wanted.iter().flat_map(|range| range.first.0..range.end().0).map(i128::from).collect();
    assert_eq!(integer_ids(&read(&input, &wanted).1), expected);
}

// Ids

#[test]
fn row_numbers_count_over_files_in_name_order() {
    let folder = TempDir::new().unwrap();
    put_csv(&folder.path().join("b.csv"), &numbered([7, 7]), b',');
    put_csv(&folder.path().join("a.csv"), &numbered([9]), b',');
    let input = OrderedInput::open(&row_numbers(folder.path())).unwrap();
    let (columns, rows) = read(&input, &whole(&input));
    assert_eq!(columns.schema().field(0).name(), ROW_NUMBER_COLUMN);
    assert_eq!(columns.column(0).as_primitive::<Int64Type>().values(), &[0, 1, 2]);
    assert_eq!(integer_ids(&rows), [0, 1, 2]);
    assert_eq!(rows[0].text.as_deref(), Some("text 9 at 0"));
    let names: Vec<_> = input.files().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["a.csv", "b.csv"]);
}

#[test]
fn a_finished_part_reads_like_the_input() {
    let folder = TempDir::new().unwrap();
    put_csv(&folder.path().join("a.csv"), &numbered([9, 3]), b',');
    let spec = row_numbers(folder.path());
    let input = OrderedInput::open(&spec).unwrap();
    let (columns, rows) = read(&input, &whole(&input));
    let (schema, mut arrays, _) = columns.into_parts();
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(arrow::datatypes::Field::new("label", DataType::Utf8, true)));
    arrays.push(Arc::new(StringArray::from(vec![Some("A"), None])));
    let part =
        RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), arrays).unwrap();
    let reader = RowReader::new(&part.schema(), &spec).unwrap();
    assert_eq!(reader.rows(&part).unwrap(), rows);
}

#[test]
fn a_column_named_like_the_row_number_is_refused() {
    let folder = TempDir::new().unwrap();
    put(&folder.path().join("a.csv"), "row_number,text\n1,x\n");
    let error = refusal(&row_numbers(folder.path()));
    assert!(matches!(error, InputError::ReservedColumn { .. }), "{error}");
}

#[test]
fn csv_ids_are_integers_only_if_all_in_all_files_are_canonical() {
    let folder = TempDir::new().unwrap();
    put(&folder.path().join("a.csv"), "id,text\n10,x\n9,y\n");
    let input = OrderedInput::open(&spec(folder.path())).unwrap();
    assert_eq!(integer_ids(&read(&input, &whole(&input)).1), [9, 10]);
    put(&folder.path().join("b.csv"), "id,text\n007,z\n7,z\n");
    let input = OrderedInput::open(&spec(folder.path())).unwrap();
    let (_, rows) = read(&input, &whole(&input));
    let ids: Vec<_> = rows.into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["007", "10", "7", "9"].map(|id| RowId::Text(id.into())));
}

#[test]
fn other_delimiters_and_quotes_and_no_header_give_the_same_rows() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.txt");
    put(&path, "2;'two; \"2\"'\n1;'it''s'\n");
    let mut told = spec(&path);
    told.reading.format = Some(FileFormat::Csv);
    told.reading.delimiter = Some(';');
    told.reading.quote = Some('\'');
    told.reading.header = false;
    told.id = IdSource::Column("column_1".into());
    told.text = Template::parse("column_2").unwrap();
    let input = OrderedInput::open(&told).unwrap();
    let (columns, rows) = read(&input, &whole(&input));
    let texts: Vec<_> = rows.iter().map(|row| row.text.as_deref().unwrap()).collect();
    assert_eq!(texts, ["it's", "two; \"2\""]);
    assert_eq!(columns.schema().field(1).name(), "column_2");

    put(&path, "1\t\"a\n2\tb\n");
    told.reading.format = Some(FileFormat::Tsv);
    (told.reading.delimiter, told.reading.quote) = (None, None);
    let input = OrderedInput::open(&told).unwrap();
    let (_, rows) = read(&input, &whole(&input));
    assert_eq!(rows[0].text.as_deref(), Some("\"a"));
}

/// Rows with these ids, each with a text that tells its place in id order.
fn with_ids(ids: ArrayRef, texts: &[&str]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap()
}

#[test]
fn ids_of_every_type_are_in_order_and_repeated_and_null_ones_are_found() {
    let places = ["third", "first", "second"];
    let bytes: [[u8; 16]; 3] = [[200; 16], [7; 16], [127; 16]];
    let strings: StringArray = ["k", "a", "b"].into_iter().map(Some).collect();
    let types: [ArrayRef; 8] = [
        Arc::new(FixedSizeBinaryArray::try_from_iter(bytes.iter()).unwrap()),
        Arc::new(BinaryArray::from_iter_values([&b"\xff"[..], b"", b"\x00a"])),
        Arc::new(UInt64Array::from(vec![u64::MAX, 3, i64::MAX as u64 + 1])),
        Arc::new(arrow::array::Int8Array::from(vec![5, -128, -1])),
        Arc::new(strings.clone()),
        arrow::compute::cast(&strings, &DataType::Utf8View).unwrap(),
        arrow::compute::cast(
            &strings,
            &DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into()),
        )
        .unwrap(),
        Arc::new(BinaryViewArray::from_iter_values([&b"\xff"[..], b"", b"\x00a"])),
    ];
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    for ids in types {
        let data_type = ids.data_type().clone();
        for sort_memory in [0, 64 << 20] {
            put_parquet(&path, &with_ids(ids.clone(), &places), 2);
            let input = OrderedInput::open(&InputSpec { sort_memory, ..spec(&path) }).unwrap();
            let (columns, rows) = read(&input, &whole(&input));
            let texts: Vec<_> = rows.iter().map(|row| row.text.as_deref().unwrap()).collect();
            assert_eq!(texts, ["first", "second", "third"], "{data_type}");
            assert!(rows.is_sorted_by_key(|row| row.id.clone()), "{data_type}");
            assert_eq!(columns.column(0).data_type(), &data_type);
        }
        let twice = arrow::compute::concat(&[&ids, &ids.slice(1, 1)]).unwrap();
        put_parquet(&path, &with_ids(twice, &["x"; 4]), 2);
        let error = refusal(&spec(&path)).to_string();
        assert!(error.starts_with("row 4 of `a.parquet` has the same id as row 2"), "{error}");
        let null = arrow::array::new_null_array(&data_type, 1);
        put_parquet(
            &path,
            &with_ids(arrow::compute::concat(&[&ids, &null]).unwrap(), &["x"; 4]),
            2,
        );
        let error = refusal(&spec(&path)).to_string();
        assert!(error.starts_with("row 4 of `a.parquet` has no id"), "{error}");
    }
}

#[test]
fn ids_are_what_they_are_told_to_be() {
    let folder = TempDir::new().unwrap();
    let told = |name: &str, text: &str, id_type| {
        let path = folder.path().join(name);
        put(&path, text);
        let mut told = spec(&path);
        told.reading.id_type = id_type;
        told
    };
    let ids = |spec: &InputSpec| {
        let input = OrderedInput::open(spec).unwrap();
        read(&input, &whole(&input)).1.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let texts = ["10", "9"].map(|id| RowId::Text(id.into()));
    let integers = [9, 10].map(RowId::Integer);
    let csv = "id,text\n9,x\n10,y\n";
    assert_eq!(ids(&told("a.csv", csv, IdType::String)), texts);
    assert_eq!(ids(&told("a.csv", csv, IdType::Integer)), integers);
    let mixed = "{\"id\": 9, \"text\": \"x\"}\n{\"id\": \"10\", \"text\": \"y\"}\n";
    assert_eq!(ids(&told("a.ndjson", mixed, IdType::String)), texts);
    assert_eq!(ids(&told("a.ndjson", mixed, IdType::Integer)), integers);

    let refused = |name: &str, text: &str, id_type| refusal(&told(name, text, id_type)).to_string();
    let found = refused("a.csv", "id,text\n9,x\n007,y\n", IdType::Integer);
    assert!(found.starts_with("the id on line 3 of `a.csv` is no integer"), "{found}");
    let found = refused("a.ndjson", "{\"id\": 1}\n{\"id\": 1.0, \"text\": 1}\n", IdType::Integer);
    assert!(found.starts_with("the id on line 2 of `a.ndjson` is no integer"), "{found}");
    assert_eq!(
        refused("a.ndjson", mixed, IdType::Auto),
        "the id on line 2 of `a.ndjson` is a string and that on line 1 of `a.ndjson` an integer; \
         make them one kind, or read all as strings with `--id-type string`"
    );
    let path = folder.path().join("a.parquet");
    put_parquet(&path, &numbered([1]), 1);
    let mut told = spec(&path);
    told.reading.id_type = IdType::String;
    assert!(refusal(&told).to_string().contains("`id_type`"));
}

#[test]
fn a_null_id_is_named_by_file_and_place() {
    assert_eq!(
        csv_refusal("id,text\n1,\"two\nlines\"\n\n,x\n"),
        "line 5 of `a.csv` has no id; fill it, name another id column, or use `id = \"@row\"`"
    );
    let folder = TempDir::new().unwrap();
    for (ids, row) in [(vec![Some(1), None], 2), (vec![Some(2), Some(1), None], 3)] {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"; ids.len()]));
        let ids: ArrayRef = Arc::new(Int64Array::from(ids));
        let rows = RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap();
        put_parquet(&folder.path().join("a.parquet"), &rows, 1);
        let error = refusal(&spec(folder.path())).to_string();
        assert!(error.starts_with(&format!("row {row} of `a.parquet` has no id")), "{error}");
    }
}

#[test]
fn a_repeated_id_names_both_rows_whether_sorted_or_not() {
    assert_eq!(
        csv_refusal("id,text\r\n1,a\r\n2,\"b\r\nb\"\r\n2,c\r\n"),
        "line 5 of `a.csv` has the same id as line 3 of `a.csv`; make ids unique, or keep the \
         first of each with `--on-duplicate-id first`"
    );
    let folder = TempDir::new().unwrap();
    put_parquet(&folder.path().join("a.parquet"), &numbered([5, 4]), 10);
    put_parquet(&folder.path().join("b.parquet"), &numbered([6, 5]), 10);
    let error = refusal(&spec(folder.path())).to_string();
    assert!(
        error.starts_with("row 2 of `b.parquet` has the same id as row 1 of `a.parquet`"),
        "{error}"
    );
}

#[test]
fn of_repeated_ids_the_first_in_the_input_is_kept_and_the_rest_counted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    for (ids, texts) in [
        (vec![1, 2, 2, 2, 3], ["text 1 at 0", "text 2 at 1", "text 3 at 4"]),
        (vec![2, 3, 2, 1, 2], ["text 1 at 3", "text 2 at 0", "text 3 at 1"]),
    ] {
        put_parquet(&path, &numbered(ids), 2);
        let input = OrderedInput::open(&keep_first(&path)).unwrap();
        let (_, rows) = read(&input, &whole(&input));
        let found: Vec<_> = rows.iter().map(|row| row.text.as_deref().unwrap()).collect();
        assert_eq!(found, texts);
        assert_eq!((input.rows(), input.dropped_duplicates()), (3, 2));
    }
}

#[test]
fn the_first_of_many_equal_ids_is_kept_in_a_large_input() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    // 7919 is prime to 100: the ids 0..100 come in one scattered order, over and over.
    put_parquet(&path, &numbered((0..20_000).map(|at| at * 7919 % 100)), 3_000);
    let input = OrderedInput::open(&keep_first(&path)).unwrap();
    let (_, rows) = read(&input, &whole(&input));
    assert_eq!(integer_ids(&rows), (0..100).collect::<Vec<_>>());
    for row in rows {
        let text = row.text.unwrap();
        let (_, at) = text.rsplit_once(' ').unwrap();
        assert!(at.parse::<u32>().unwrap() < 100, "{text}");
    }
}

#[test]
fn a_reader_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<InputReader>();
    is_send::<OrderedInput>();
}

// Broken inputs

#[test]
fn a_ragged_row_is_named_by_its_line() {
    assert_eq!(
        csv_refusal("\u{feff}id,text\r\n1,\"a\r\na\"\r\n\r\n2,b,c\r\n3,d\r\n"),
        "line 5 of `a.csv` has 3 fields where the header has 2; mend it"
    );
    assert!(csv_refusal("id,text\n1\n").starts_with("line 2 of `a.csv` has 1 fields"));
}

#[test]
fn bytes_that_are_not_utf_8_are_named_by_their_line() {
    let error = csv_refusal(b"id,text\n1,ok\n2,\"a\nb\"\n3,caf\xe9\n4,x\n");
    assert!(error.starts_with("the row on line 5 of `a.csv` is not valid UTF-8"), "{error}");
    assert!(csv_refusal(b"id,caf\xe9\n").starts_with("the row on line 1 of"));
}

#[test]
fn an_unclosed_quote_is_named_by_its_line() {
    let error = csv_refusal("id,text\n1,\"a\nb\"\n2,\"c\n3,d\n");
    assert_eq!(error, "the quote opened on line 4 of `a.csv` is never closed; mend that line");
    assert!(csv_refusal("id,\"text\n1,a\n").contains("opened on line 1"));
}

#[test]
fn a_header_must_be_there_with_different_names() {
    assert!(csv_refusal("").starts_with("`a.csv` is empty"));
    assert!(csv_refusal("\n\r\n").starts_with("`a.csv` is empty"));
    assert_eq!(csv_refusal("id,text,id\n"), "`a.csv` has two columns named `id`; rename one");
}

#[test]
fn a_header_alone_is_an_input_of_no_rows() {
    let folder = TempDir::new().unwrap();
    put(&folder.path().join("a.csv"), "id,text\n");
    put_parquet(&folder.path().join("b/a.parquet"), &numbered([]), 1);
    for name in ["a.csv", "b"] {
        let input = OrderedInput::open(&spec(&folder.path().join(name))).unwrap();
        assert_eq!(input.rows(), 0);
        assert_eq!(input.read(whole(&input)).unwrap().count(), 0);
    }
}

#[test]
fn a_file_that_is_no_parquet_or_cut_short_is_one_sentence() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    put_parquet(&path, &numbered(0..100), 50);
    let bytes = fs::read(&path).unwrap();
    for broken in [&b""[..], b"id,text\n1,x\n", &bytes[..bytes.len() / 2], &bytes[100..]] {
        put(&path, broken);
        let error = refusal(&spec(&path));
        assert!(matches!(error, InputError::BadParquet { .. }), "{error}");
        assert!(error.is_usage());
        assert!(error.source().is_some());
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

#[test]
fn files_with_different_columns_are_named_with_the_column() {
    let folder = TempDir::new().unwrap();
    put(&folder.path().join("a.csv"), "id,text\n1,x\n");
    put(&folder.path().join("b.csv"), "id,title\n2,x\n");
    assert_eq!(
        refusal(&spec(folder.path())).to_string(),
        "column 2 is `text` (Utf8) in `a.csv` but `title` (Utf8) in `b.csv`; all files of an \
         input must have the same columns"
    );
    put(&folder.path().join("b.csv"), "id,text,more\n2,x,y\n");
    let error = refusal(&spec(folder.path())).to_string();
    assert!(error.starts_with("column 3 is missing in `a.csv` but `more` (Utf8)"), "{error}");
}

#[test]
fn a_file_that_changes_is_noticed_at_the_end_of_the_read_or_before() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    put_csv(&path, &numbered(0..20_000), b',');
    let input = OrderedInput::open(&spec(&path)).unwrap();
    let mut chunks = input.read(whole(&input)).unwrap();
    assert!(chunks.next().unwrap().is_ok());
    put_csv(&path, &numbered(0..20_001), b',');
    let error = chunks.find_map(Result::err).unwrap();
    assert!(matches!(error, InputError::Changed { .. }), "{error}");
    assert!(!error.is_usage());
    assert!(chunks.next().is_none());
    let error = input.read(whole(&input)).unwrap().find_map(Result::err).unwrap();
    assert!(matches!(error, InputError::Changed { .. }), "{error}");
}

#[test]
fn a_file_that_is_overwritten_counts_as_changed_not_as_broken() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    put_parquet(&path, &numbered(0..50_000), 10_000);
    let input = OrderedInput::open(&spec(&path)).unwrap();
    let mut chunks = input.read(whole(&input)).unwrap();
    assert!(chunks.next().unwrap().is_ok());
    put(&path, "overwritten");
    let error = chunks.find_map(Result::err).unwrap();
    assert!(matches!(error, InputError::Changed { .. }), "{error}");
}
