//! Every type of column that Parquet holds comes out as it went in: its type, values, nulls and what
//! its field says besides, whatever way the rows take.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray,
    FixedSizeListArray, Float64Array, Int16Array, Int32Array, Int64Array, IntervalYearMonthArray,
    LargeListArray, ListArray, MapBuilder, NullArray, RecordBatch, StringArray, StringBuilder,
    StructArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use crate::support::{Scratch, orders_config, part_files};

const ROWS: usize = 3_000;

fn is_null(row: usize) -> bool {
    row % 7 == 3
}

fn nulls() -> NullBuffer {
    (0..ROWS).map(|row| !is_null(row)).collect::<Vec<_>>().into()
}

/// Small integers of both signs, some null.
fn small() -> ArrayRef {
    let value = |row: usize| (!is_null(row)).then_some(row as i64 % 120 - 20);
    Arc::new((0..ROWS).map(value).collect::<Int64Array>())
}

/// The same without a sign.
fn natural() -> ArrayRef {
    let value = |row: usize| (!is_null(row)).then_some(row as i64 % 120);
    Arc::new((0..ROWS).map(value).collect::<Int64Array>())
}

fn words() -> ArrayRef {
    let word = |row: usize| match row % 50 {
        0 => "".to_owned(),
        few => format!("word {few} of some length, naïve, with a \0 in it"),
    };
    let value = |row: usize| (!is_null(row)).then(|| word(row));
    Arc::new((0..ROWS).map(value).collect::<StringArray>())
}

fn numbers() -> ArrayRef {
    let value = |row: usize| match row % 6 {
        0 => f64::NAN,
        1 => -0.0,
        2 => f64::NEG_INFINITY,
        _ => row as f64 / 8.0,
    };
    Arc::new(Float64Array::from_iter((0..ROWS).map(|row| (!is_null(row)).then(|| value(row)))))
}

fn to(array: &ArrayRef, data_type: DataType) -> ArrayRef {
    cast(array, &data_type).unwrap()
}

/// Two entries to a list, each list of every fifth row empty or null.
fn offsets() -> OffsetBuffer<i32> {
    OffsetBuffer::from_lengths((0..ROWS).map(|row| if row % 5 == 0 { 0 } else { 2 }))
}

fn entries() -> ArrayRef {
    let entries = offsets().last() as usize;
    Arc::new((0..entries).map(|at| (at % 9 != 4).then_some(at as i64)).collect::<Int64Array>())
}

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("element", data_type, true))
}

fn structure() -> ArrayRef {
    let inner = Fields::from(vec![
        Field::new("day", DataType::Date32, true),
        Field::new("kind", dictionary(DataType::Int16, DataType::Utf8), true),
    ]);
    let columns = vec![
        to(&to(&small(), DataType::Int32), DataType::Date32),
        to(&words(), dictionary(DataType::Int16, DataType::Utf8)),
    ];
    let inner: ArrayRef = Arc::new(StructArray::new(inner, columns, None));
    let fields = Fields::from(vec![
        Field::new("name", DataType::LargeUtf8, true),
        Field::new("inner", inner.data_type().clone(), true),
    ]);
    let columns = vec![to(&words(), DataType::LargeUtf8), inner];
    Arc::new(StructArray::new(fields, columns, Some(nulls())))
}

fn map() -> ArrayRef {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..ROWS {
        for at in 0..row % 3 {
            builder.keys().append_value(format!("key {at}"));
            builder.values().append_option((at > 0).then(|| format!("value {row}")));
        }
        builder.append(!is_null(row)).unwrap();
    }
    Arc::new(builder.finish())
}

fn dictionary(keys: DataType, values: DataType) -> DataType {
    DataType::Dictionary(Box::new(keys), Box::new(values))
}

/// Keys into a few values of a type that nothing is cast to a dictionary of.
fn to_dictionary(kind: &DataType) -> ArrayRef {
    let DataType::Dictionary(_, values) = kind else { panic!("{kind} is no dictionary") };
    let few: ArrayRef = Arc::new(Int32Array::from_iter_values(10..30));
    let keys = (0..ROWS).map(|row| (!is_null(row)).then_some(row as i16 % 20));
    let values = match **values {
        DataType::Timestamp(..) => to(&to(&few, DataType::Int64), (**values).clone()),
        _ => to(&few, (**values).clone()),
    };
    Arc::new(DictionaryArray::new(Int16Array::from_iter(keys), values))
}

/// Columns of all types, by name.
fn columns() -> Vec<(Field, ArrayRef)> {
    use DataType::*;
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    let mut add = |name: &str, array: ArrayRef| columns.push((name.to_owned(), array));
    for kind in [Int8, Int16, Int32, Int64] {
        add(&format!("{kind}"), to(&small(), kind));
    }
    for kind in [UInt8, UInt16, UInt32, UInt64] {
        add(&format!("{kind}"), to(&natural(), kind));
    }
    for kind in [Float16, Float32, Float64] {
        add(&format!("{kind}"), to(&numbers(), kind));
    }
    for kind in
        [Decimal32(9, 2), Decimal64(18, 0), Decimal128(38, 10), Decimal256(70, 3), Decimal128(5, 1)]
    {
        add(&format!("{kind}"), to(&small(), kind));
    }
    add(
        "boolean",
        Arc::new(
            (0..ROWS).map(|row| (!is_null(row)).then_some(row % 2 == 0)).collect::<BooleanArray>(),
        ),
    );
    add("Date32", to(&to(&small(), Int32), Date32));
    add("Date64", to(&to(&to(&small(), Int32), Date32), Date64));
    let seconds = to(&natural(), Int32);
    for unit in [TimeUnit::Second, TimeUnit::Millisecond] {
        add(&format!("Time32 {unit:?}"), to(&seconds, Time32(unit)));
    }
    for unit in [TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        add(&format!("Time64 {unit:?}"), to(&natural(), Time64(unit)));
    }
    for unit in
        [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond]
    {
        for zone in [None, Some("UTC"), Some("Europe/London"), Some("+05:30")] {
            let kind = Timestamp(unit, zone.map(Into::into));
            add(&format!("{kind}"), to(&small(), kind));
        }
        add(&format!("Duration {unit:?}"), to(&small(), Duration(unit)));
    }
    let months = (0..ROWS).map(|row| (!is_null(row)).then_some(row as i32 - 50));
    add("months", Arc::new(IntervalYearMonthArray::from_iter(months)));
    for kind in [Utf8, LargeUtf8, Utf8View, LargeBinary, BinaryView] {
        add(&format!("{kind}"), to(&words(), kind));
    }
    let bytes = (0..ROWS).map(|row| (!is_null(row)).then_some([0xff, row as u8]));
    add("binary", Arc::new(BinaryArray::from_iter(bytes)));
    let uuids = (0..ROWS).map(|row| (!is_null(row)).then_some([row as u8; 16]));
    let uuids: ArrayRef =
        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).unwrap());
    add("fixed", uuids.clone());
    for keys in [Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64] {
        add(&format!("{keys} to strings"), to(&words(), dictionary(keys, Utf8)));
    }
    add("to large strings", to(&words(), dictionary(Int32, LargeUtf8)));
    add("to views", to(&words(), dictionary(Int32, Utf8View)));
    add("to integers", to(&small(), dictionary(Int16, Int64)));
    for kind in [UInt8, Float64, Date32, Decimal128(9, 2), Timestamp(TimeUnit::Millisecond, None)] {
        let kind = dictionary(Int16, kind);
        add(&format!("{kind}"), to_dictionary(&kind));
    }
    add("to bytes", to(&to(&words(), Binary), dictionary(UInt16, Binary)));
    add("list", Arc::new(ListArray::new(item(Int64), offsets(), entries(), Some(nulls()))));
    let list: ArrayRef = Arc::new(ListArray::new(item(Int64), offsets(), entries(), Some(nulls())));
    add("list view", to(&list, ListView(item(Int64))));
    add("large list view", to(&list, LargeListView(item(Int64))));
    let long = OffsetBuffer::<i64>::from_lengths(offsets().lengths());
    let list = LargeListArray::new(item(Int64), long, entries(), Some(nulls()));
    add("large list", Arc::new(list));
    let pairs: ArrayRef = Arc::new((0..2 * ROWS as i64).map(Some).collect::<Int64Array>());
    add("pairs", Arc::new(FixedSizeListArray::new(item(Int64), 2, pairs, None)));
    let some = structure().slice(0, ROWS);
    let lengths = OffsetBuffer::<i32>::from_lengths((0..ROWS).map(|row| row % 2 * 2));
    let of = some.slice(0, lengths.last() as usize);
    add(
        "structs in lists",
        Arc::new(ListArray::new(item(of.data_type().clone()), lengths, of, None)),
    );
    add("structure", structure());
    add("map", map());
    add("nothing", Arc::new(NullArray::new(ROWS)));

    let field = |name: &str, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
    let mut columns: Vec<_> =
        columns.into_iter().map(|(name, array)| (field(&name, &array), array)).collect();
    // What a field says besides: notes of its own, and a type that Arrow does not know itself.
    let notes = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let noted = field("noted", &small()).with_metadata(notes(&[("unit", "kg"), ("note", "")]));
    columns.push((noted, small()));
    let uuid = notes(&[("ARROW:extension:name", "arrow.uuid")]);
    columns.push((field("uuid", &uuids).with_metadata(uuid), uuids));
    let point = notes(&[("ARROW:extension:name", "a.point"), ("ARROW:extension:metadata", "{}")]);
    columns.push((field("point", &structure()).with_metadata(point), structure()));
    let strict = to(&natural(), Int64);
    let strict = Int64Array::from_iter_values(strict.len() as i64..2 * strict.len() as i64);
    columns.push((Field::new("never null", Int64, false), Arc::new(strict)));
    columns
}

/// All columns in id order; the text of the rows in `changed` is another one.
fn table(changed: &[usize]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ROWS as i64).map(|id| 3 * id)));
    let text = |row: usize| match changed.contains(&row) {
        true => Some(format!("unlock the login, my password is forgotten {row}")),
        // Every eleventh row has no label, so that its part is opened again.
        false => (row % 11 != 5).then(|| format!("where is the delivery of my parcel {row}")),
    };
    let texts: ArrayRef = Arc::new((0..ROWS).map(text).collect::<StringArray>());
    let mut fields =
        vec![Field::new("id", DataType::Int64, false), Field::new("text", DataType::Utf8, true)];
    let mut arrays = vec![ids, texts];
    for (field, array) in columns() {
        fields.push(field);
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests write their own inputs")]
fn put(path: &Path, rows: &RecordBatch) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    fs::write(path, writer.into_inner().unwrap()).unwrap();
}

fn read(files: &[impl AsRef<Path>]) -> RecordBatch {
    let mut batches = Vec::new();
    for file in files {
        let file = File::open(file).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        batches.extend(reader.map(Result::unwrap));
    }
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// Holds the output against the rows of the input in id order.
fn expect_unchanged(out: &Path, expected: &RecordBatch) {
    let found = read(&part_files(out));
    assert_eq!(found.num_rows(), expected.num_rows());
    for (at, field) in expected.schema().fields().iter().enumerate() {
        assert_eq!(found.schema().field(at), field.as_ref(), "{}", field.name());
        assert_eq!(found.column(at), expected.column(at), "{}", field.name());
    }
}

fn take(rows: &RecordBatch, order: impl Iterator<Item = u64>) -> RecordBatch {
    take_record_batch(rows, &order.collect::<UInt64Array>()).unwrap()
}

#[test]
fn every_type_comes_out_as_it_went_in_streamed_sorted_and_after_the_input_changed() {
    let rows = ROWS as u64;
    // 1,009 is prime to the number of rows.
    for (name, order) in [
        ("in order", (0..rows).collect::<Vec<u64>>()),
        ("shuffled", (0..rows).map(|at| at * 1_009 % rows).collect()),
    ] {
        let scratch = Scratch::new();
        let parts = "[input]\nsort_memory = \"1MiB\"\n[output]\nrows_per_part = 1100\n\
                     max_unlabelled = 100000\n";
        scratch.write("batchclass.toml", &(orders_config("provider = \"lexical\"") + parts));
        let input = scratch.path("in.parquet");
        // In id order, without the last rows, as the parquet crate gives it.
        let first = table(&[]).slice(0, ROWS - 100);
        put(&input, &first);
        let expected = read(&[&input]);
        put(&input, &take(&first, order.iter().copied().filter(|row| *row < rows - 100)));
        scratch.batchclass(&["in.parquet", "out"]).expect_code(0);
        expect_unchanged(&scratch.path("out"), &expected);

        put(&input, &table(&[7, 1_234, 2_500]));
        let expected = read(&[&input]);
        put(&input, &take(&table(&[7, 1_234, 2_500]), order.iter().copied()));
        let said = scratch.batchclass(&["in.parquet", "out"]).expect_code(0).stderr;
        assert!(said.contains("100 new rows, 3 with another text"), "{name}: {said}");
        expect_unchanged(&scratch.path("out"), &expected);

        scratch.batchclass(&["compact", "out", "dest"]).expect_code(0);
        expect_unchanged(&scratch.path("dest"), &expected);
    }
}
