//! Damaged files, and files that lie about themselves: each is an error of one sentence or gives
//! the rows that it had, never a panic and never a row too few.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Date64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder,
    ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::tests::{numbered, put, read, row_numbers, spec, whole};
use super::*;
use crate::domain::spec::InputSpec;

const ROWS: i64 = 120;

fn codecs() -> [Compression; 7] {
    [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
    ]
}

/// A file of three row groups with several pages each.
fn parquet(rows: &RecordBatch, codec: Compression) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_max_row_group_row_count(Some(50))
        .set_data_page_row_count_limit(20)
        .set_write_batch_size(10)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap()
}

/// All columns of all rows, or the sentence of an error.
fn outcome(spec: &InputSpec) -> Result<RecordBatch, String> {
    let read_all = || {
        let input = OrderedInput::open(spec)?;
        let chunks = input.read(whole(&input))?.collect::<Result<Vec<_>, _>>()?;
        let batches = chunks.iter().map(|chunk| &chunk.columns);
        let rows: u64 = batches.clone().map(|batch| batch.num_rows() as u64).sum();
        assert_eq!(rows, input.rows(), "rows are missing");
        Ok(arrow::compute::concat_batches(input.schema(), batches).unwrap())
    };
    read_all().map_err(|error: InputError| {
        assert!(error.is_usage(), "{error:?}");
        error.to_string()
    })
}

fn assert_one_sentence(said: &str) {
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(said.contains("`a."), "{said:?} names no file");
}

#[test]
fn parquet_of_any_codec_cut_anywhere_is_one_sentence() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    for codec in codecs() {
        let bytes = parquet(&numbered(0..ROWS), codec);
        let near_the_end = bytes.len() - 40..bytes.len();
        for end in (0..bytes.len()).step_by(97).chain(near_the_end) {
            put(&path, &bytes[..end]);
            let said = outcome(&spec(&path)).unwrap_err();
            assert!(said.starts_with("`a.parquet` can't be read as Parquet"), "{said}");
            assert_one_sentence(&said);
        }
    }
}

#[test]
fn a_flipped_bit_in_parquet_of_any_codec_is_one_sentence_or_all_rows() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    for codec in codecs() {
        let whole = parquet(&numbered(0..ROWS), codec);
        for (number, at) in (0..whole.len()).step_by(19).enumerate() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            put(&path, bytes);
            let spec = if number % 2 == 0 { spec(&path) } else { row_numbers(&path) };
            if let Err(said) = outcome(&spec) {
                assert_eq!(said.lines().count(), 1, "{codec:?} at {at}: {said:?}");
            }
        }
    }
}

#[test]
fn no_flipped_bit_in_a_page_with_a_checksum_gives_another_row() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let rows = numbered(0..ROWS);
    let whole = parquet(&rows, Compression::GZIP(GzipLevel::default()));
    put(&path, &whole);
    let undamaged = outcome(&spec(&path)).unwrap();
    let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(whole.clone()));
    let (mut refused, mut kept) = (0, 0);
    for body in gzip_bodies(&whole, &footer.unwrap()) {
        for at in body {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            put(&path, bytes);
            match outcome(&spec(&path)) {
                Err(_) => refused += 1,
                // Such as a flag or a time in the header of the compressed text.
                Ok(read) => {
                    assert_eq!(read, undamaged, "at {at}");
                    kept += 1;
                }
            }
        }
    }
    assert!(refused > 3 * kept, "{refused} refused, {kept} kept");
}

/// Where the compressed text of each page stands: from its magic number to the next, or to the end
/// of its column.
fn gzip_bodies(bytes: &[u8], footer: &ParquetMetaData) -> Vec<std::ops::Range<usize>> {
    let columns = footer.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let bodies = columns.map(|column| {
        let (first, length) = column.byte_range();
        let (first, end) = (first as usize, (first + length) as usize);
        let magic = bytes[first..end].windows(3).rposition(|three| three == [0x1f, 0x8b, 8]);
        first + magic.unwrap()..end
    });
    bodies.collect()
}

#[test]
fn csv_cut_anywhere_is_one_sentence_or_the_rows_that_are_left() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    let whole = "id,text\n1,\"a \"\"b\"\"\"\r\n2,\"two\nlines\"\n\n3,é\u{20ac}\n4,plain\n";
    put(&path, whole);
    let (columns, _) = {
        let input = OrderedInput::open(&spec(&path)).unwrap();
        read(&input, &super::tests::whole(&input))
    };
    for end in 0..whole.len() {
        put(&path, &whole.as_bytes()[..end]);
        match outcome(&spec(&path)) {
            Ok(read) => {
                // The last field may be cut; whatever stands in front of it is as it was.
                let sure = read.num_rows().saturating_sub(1);
                assert_eq!(read.slice(0, sure), columns.slice(0, sure), "{end}");
            }
            Err(said) => assert_eq!(said.lines().count(), 1, "{end}: {said:?}"),
        }
    }
}

#[test]
fn any_byte_of_a_csv_file_may_be_any_other() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    let whole = "id,text\n1,\"a \"\"b\"\"\"\r\n2,\"two\nlines\"\n3,é\n";
    for at in 0..whole.len() {
        for byte in [0, b'\n', b'\r', b'"', b',', b'x', 0x80, 0xff] {
            let mut bytes = whole.as_bytes().to_vec();
            bytes[at] = byte;
            put(&path, bytes);
            for spec in [spec(&path), row_numbers(&path)] {
                if let Err(said) = outcome(&spec) {
                    assert_eq!(said.lines().count(), 1, "{byte} at {at}: {said:?}");
                }
            }
        }
    }
}

// Footers that lie

/// The file with another footer.
fn with_footer(bytes: &[u8], change: impl Fn(ParquetMetaData) -> ParquetMetaData) -> Vec<u8> {
    let whole = bytes::Bytes::copy_from_slice(bytes);
    let footer = ParquetMetaDataReader::new().parse_and_finish(&whole).unwrap();
    let ends = footer.row_groups().iter().flat_map(RowGroupMetaData::columns).map(|column| {
        let (first, length) = column.byte_range();
        (first + length) as usize
    });
    let mut changed = bytes[..ends.max().unwrap()].to_vec();
    ParquetMetaDataWriter::new(&mut changed, &change(footer)).finish().unwrap();
    changed
}

/// The footer with another first row group.
fn with_first_group(
    footer: ParquetMetaData,
    change: impl FnOnce(RowGroupMetaData) -> RowGroupMetaData,
) -> ParquetMetaData {
    let file = footer.file_metadata().clone();
    let mut groups = footer.row_groups().to_vec();
    let first = groups.remove(0);
    groups.insert(0, change(first));
    ParquetMetaDataBuilder::new(file).set_row_groups(groups).build()
}

fn with_first_column(
    group: RowGroupMetaData,
    change: impl Fn(ColumnChunkMetaData) -> ColumnChunkMetaData,
) -> RowGroupMetaData {
    let mut columns = group.columns().to_vec();
    let first = columns.remove(0);
    columns.insert(0, change(first));
    group.into_builder().set_column_metadata(columns).build().unwrap()
}

#[track_caller]
fn refused(path: &Path, bytes: &[u8], why: &str) {
    put(path, bytes);
    for spec in [spec(path), row_numbers(path)] {
        let error = OrderedInput::open(&spec).unwrap_err();
        assert_one_sentence(&error.to_string());
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(why), "{source}");
    }
}

#[test]
fn a_footer_that_contradicts_the_file_or_itself_is_refused_before_a_page_is_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let bytes = parquet(&numbered(0..ROWS), Compression::SNAPPY);
    let unchanged = with_footer(&bytes, |footer| footer);
    put(&path, unchanged);
    assert_eq!(outcome(&spec(&path)).unwrap().num_rows(), ROWS as usize);
    let with_rows = |rows| {
        with_footer(&bytes, |footer| {
            with_first_group(footer, |group| {
                group.into_builder().set_num_rows(rows).build().unwrap()
            })
        })
    };
    refused(&path, &with_rows(1 << 40), "more or fewer values than its row group has rows");
    refused(&path, &with_rows(-1), "fewer than no rows");
    let with_column = |change: fn(ColumnChunkMetaData) -> ColumnChunkMetaData| {
        with_footer(&bytes, |footer| {
            with_first_group(footer, |group| with_first_column(group, change))
        })
    };
    let longer = with_column(|column| {
        column.into_builder().set_total_compressed_size(1 << 40).build().unwrap()
    });
    refused(&path, &longer, "beyond the end of the file");
    let elsewhere = with_column(|column| {
        column.into_builder().set_file_path("b.parquet".into()).build().unwrap()
    });
    refused(&path, &elsewhere, "in other files");
}

/// The file with `rows` rows in its first row group, and as many values in each of its columns.
fn with_invented_rows(bytes: &[u8], rows: i64) -> Vec<u8> {
    with_footer(bytes, |footer| {
        let file = footer.file_metadata();
        let others = file.num_rows() - footer.row_group(0).num_rows();
        let file = FileMetaData::new(
            file.version(),
            others + rows,
            file.created_by().map(str::to_owned),
            file.key_value_metadata().cloned(),
            file.schema_descr_ptr(),
            None,
        );
        let groups = footer.row_groups().to_vec();
        let footer = ParquetMetaDataBuilder::new(file).set_row_groups(groups).build();
        with_first_group(footer, |group| {
            let columns = group
                .columns()
                .iter()
                .cloned()
                .map(|column| column.into_builder().set_num_values(rows).build().unwrap());
            let columns = columns.collect();
            group.into_builder().set_num_rows(rows).set_column_metadata(columns).build().unwrap()
        })
    })
}

#[test]
fn rows_that_a_footer_invents_are_missed_before_any_is_taken() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let bytes = parquet(&numbered(0..ROWS), Compression::SNAPPY);
    refused(&path, &with_invented_rows(&bytes, 1 << 40), "than its pages can hold");
    // As many could stand there, all alike.
    put(&path, with_invented_rows(&bytes, 1 << 31));
    assert_one_sentence(&OrderedInput::open(&spec(&path)).unwrap_err().to_string());
    let input = OrderedInput::open(&row_numbers(&path)).unwrap();
    let error = input.read(whole(&input)).unwrap().find_map(Result::err).unwrap();
    assert_one_sentence(&error.to_string());
}

#[test]
fn a_page_that_claims_to_be_longer_than_its_column_is_refused_before_memory_is_taken() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    for codec in codecs() {
        let whole = parquet(&numbered(0..ROWS), codec);
        let footer = ParquetMetaDataReader::new()
            .parse_and_finish(&bytes::Bytes::copy_from_slice(&whole))
            .unwrap();
        // The last column of the file, so that nothing behind the longer header moves.
        let group = footer.row_groups().last().unwrap();
        let (first, length) = group.columns().last().unwrap().byte_range();
        let (first, end) = (first as usize, (first + length) as usize);
        assert_eq!(whole[first], 0x15);
        assert_eq!(whole[first + 2], 0x15);
        let digits = whole[first + 3..].iter().position(|digit| digit & 0x80 == 0).unwrap() + 1;
        let mut bytes = whole[..first + 3].to_vec();
        bytes.extend([0xfe, 0xff, 0xff, 0xff, 0x0f]);
        bytes.extend(&whole[first + 3 + digits..end]);
        let mut groups = footer.row_groups().to_vec();
        let mut columns = groups.pop().unwrap().columns().to_vec();
        let column = columns.pop().unwrap();
        let longer = column.compressed_size() + 5 - digits as i64;
        columns.push(column.into_builder().set_total_compressed_size(longer).build().unwrap());
        groups.push(group.clone().into_builder().set_column_metadata(columns).build().unwrap());
        let footer =
            ParquetMetaDataBuilder::new(footer.file_metadata().clone()).set_row_groups(groups);
        ParquetMetaDataWriter::new(&mut bytes, &footer.build()).finish().unwrap();
        put(&path, bytes);
        let input = OrderedInput::open(&spec(&path)).unwrap();
        let error = input.read(super::tests::whole(&input)).unwrap().find_map(Result::err).unwrap();
        assert_one_sentence(&error.to_string());
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("a page of 2147483647 bytes"), "{codec:?}: {source}");
    }
}

#[test]
fn files_whose_types_or_order_differ_are_named_with_the_column() {
    let folder = TempDir::new().unwrap();
    let first = numbered(0..3);
    put(&folder.path().join("a.parquet"), parquet(&first, Compression::SNAPPY));
    let narrow = arrow::compute::cast(first.column(0), &DataType::Int32).unwrap();
    let (narrow, id, text) = (("id", narrow), first.column(0), first.column(1));
    for (second, said) in [
        (
            [narrow, ("text", text.clone())],
            "column 1 is `id` (Int64) in `a.parquet` but `id` (Int32)",
        ),
        (
            [("text", text.clone()), ("id", id.clone())],
            "column 1 is `id` (Int64) in `a.parquet` but `text` (Utf8)",
        ),
    ] {
        let second = RecordBatch::try_from_iter(second).unwrap();
        put(&folder.path().join("b.parquet"), parquet(&second, Compression::SNAPPY));
        let error = OrderedInput::open(&spec(folder.path())).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}

// Types that would not come back as they were

#[test]
fn days_counted_in_milliseconds_come_out_as_days() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    let days: ArrayRef = Arc::new(Date64Array::from(vec![86_400_000, 0]));
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ("text", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
        ("day", days),
    ])
    .unwrap();
    for (as_days, expected) in [(true, DataType::Date32), (false, DataType::Date64)] {
        let properties = WriterProperties::builder().set_coerce_types(as_days).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
        writer.write(&rows).unwrap();
        put(&path, writer.into_inner().unwrap());
        let read = outcome(&spec(&path)).unwrap();
        assert_eq!(*read.column(2).data_type(), expected);
        let days = arrow::compute::cast(read.column(2), &DataType::Date64).unwrap();
        assert_eq!(&days, rows.column(2));
    }
}

// Files made by others: see fixtures/foreign/README.md

fn foreign(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/foreign").join(name)
}

/// A fixture with a column as the rows' text and their number as id.
fn with_text(name: &str, column: &str) -> InputSpec {
    let text = crate::domain::Template::parse(&format!("{{{column}}}")).unwrap();
    InputSpec { text, ..row_numbers(&foreign(name)) }
}

#[test]
fn times_of_spark_beyond_2262_are_what_spark_wrote() {
    let name = "int96_from_spark.parquet";
    let source = super::source::Source::new(foreign(name), name.to_owned()).unwrap();
    let table = super::parquet_table::ParquetTable::open(source).unwrap();
    assert_eq!(
        *table.schema().field(0).data_type(),
        DataType::Timestamp(TimeUnit::Microsecond, None)
    );
    let table = super::table::Table::Parquet(table);
    let schema = table.schema().clone();
    let rows = std::iter::once(0..6).collect();
    let mut batches = table.read(&schema, super::table::Columns::All, rows).unwrap();
    let read = batches.next().unwrap().unwrap();
    // Noon of a day in 2024 somewhere, 9999-12-31 and the end of the year 290000 among them.
    let expected = [
        Some(1_704_141_296_123_456),
        Some(1_704_070_800_000_000),
        Some(253_402_225_200_000_000),
        Some(1_735_599_600_000_000),
        None,
        Some(9_089_380_393_200_000_000),
    ];
    assert_eq!(
        *read.column(0).as_primitive::<TimestampMicrosecondType>(),
        expected.into_iter().collect()
    );
}

#[test]
fn an_interval_of_months_is_refused_by_its_column() {
    let said = outcome(&with_text("interval.duckdb.parquet", "text")).unwrap_err();
    assert!(said.starts_with("column `value` holds intervals of months"), "{said}");
}

#[test]
fn files_of_other_writers_hold_the_rows_that_their_writers_put_there() {
    for (name, column, rows) in [
        ("all_types.pyarrow.parquet", "text", 3),
        ("all_types.duckdb.parquet", "text", 3),
        ("all_types.polars.parquet", "text", 3),
        ("alltypes_plain.snappy.parquet", "id", 2),
        ("hadoop_lz4_compressed.parquet", "c0", 4),
        ("concatenated_gzip_members.parquet", "long_col", 513),
        ("datapage_v2_empty_datapage.snappy.parquet", "value", 1),
        ("rle_boolean_encoding.parquet", "datatype_boolean", 68),
        ("repeated_no_annotation.parquet", "id", 6),
    ] {
        let read = outcome(&with_text(name, column)).unwrap();
        assert_eq!(read.num_rows(), rows, "{name}");
    }
}

#[test]
fn files_that_broke_other_readers_are_one_sentence() {
    for (name, column) in [
        ("PARQUET-1481.parquet", "a"),
        ("ARROW-RS-GH-6229-DICTHEADER.parquet", "nation_key"),
        ("nation.dict-malformed.parquet", "nation_key"),
    ] {
        let said = outcome(&with_text(name, column)).unwrap_err();
        assert_eq!(said.lines().count(), 1, "{said:?}");
        assert!(said.contains(name), "{said:?}");
    }
}
