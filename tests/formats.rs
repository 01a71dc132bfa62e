//! The same rows get the same labels, in whatever format they come.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, StringArray};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::{Scratch, order_label, orders_config, orders_csv, part_files, read_parts};

const ROWS: usize = 60;

#[expect(clippy::disallowed_methods, reason = "a test lays its own files")]
fn lay(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    zstd::stream::encode_all(text.as_bytes(), 1).unwrap()
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

/// The rows backwards, in two pieces.
fn pieces() -> [Vec<(i64, String)>; 2] {
    let csv = orders_csv(ROWS);
    let rows = csv.lines().skip(1).map(|line| line.split_once(',').unwrap());
    let mut rows: Vec<_> = rows.map(|(id, text)| (id.parse().unwrap(), text.to_owned())).collect();
    rows.reverse();
    let second = rows.split_off(ROWS / 3);
    [rows, second]
}

fn table(rows: &[(i64, String)], delimiter: char) -> String {
    let lines = rows.iter().map(|(id, text)| format!("{id}{delimiter}{text}\n"));
    format!("id{delimiter}text\n{}", lines.collect::<String>())
}

fn objects(rows: &[(i64, String)]) -> String {
    rows.iter().map(|(id, text)| format!("{{\"id\": {id}, \"text\": \"{text}\"}}\n")).collect()
}

fn columns(rows: &[(i64, String)]) -> Vec<u8> {
    let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let texts = StringArray::from_iter_values(rows.iter().map(|row| &row.1));
    parquet(vec![("id", Arc::new(ids)), ("text", Arc::new(texts))])
}

type WriteRows = fn(&[(i64, String)]) -> Vec<u8>;

#[test]
fn rows_get_the_same_labels_in_every_format() {
    let formats: [(&str, WriteRows, &[&str]); 10] = [
        ("N.parquet", columns, &[]),
        ("N.csv", |rows| table(rows, ',').into(), &[]),
        ("N.tsv", |rows| table(rows, '\t').into(), &[]),
        ("N.csv.gz", |rows| gzip(&table(rows, ',')), &[]),
        ("N.tsv.zst", |rows| zstd(&table(rows, '\t')), &[]),
        ("N.ndjson", |rows| objects(rows).into(), &[]),
        ("N.jsonl.gz", |rows| gzip(&objects(rows)), &[]),
        ("N.txt", |rows| table(rows, ';').into(), &["--format", "csv", "--delimiter", ";"]),
        (
            "N.csv",
            |rows| table(rows, ',').encode_utf16().flat_map(u16::to_le_bytes).collect(),
            &["--encoding", "utf-16le"],
        ),
        ("day=N/a.ndjson.zst", |rows| zstd(&objects(rows)), &[]),
    ];
    let scratch = Scratch::new();
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    let mut expected = None;
    for (number, (name, write, flags)) in formats.into_iter().enumerate() {
        let (input, out) = (format!("in{number}"), format!("out{number}"));
        for (piece, rows) in pieces().iter().enumerate() {
            let name = name.replace('N', &piece.to_string());
            lay(&scratch.path(&input).join(name), &write(rows));
        }
        let command = [&[input.as_str(), &out, "--rows-per-part", "25"], flags].concat();
        scratch.batchclass(&command).expect_code(0);
        let rows = read_parts(&scratch.path(&out));
        assert_eq!(rows.len(), ROWS, "{name}");
        assert!(rows.is_sorted_by_key(|row| row.id), "{name}");
        assert!(rows.iter().all(|row| row.label.as_deref() == Some(order_label(row.id))), "{name}");
        assert_eq!(*expected.get_or_insert(rows.clone()), rows, "{name}");
        scratch.batchclass(&["verify", &out, "--input", &input]).expect_code(0);
    }
}

#[test]
fn an_output_is_not_gone_on_with_over_files_that_are_read_otherwise() {
    let scratch = Scratch::new();
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    scratch.write("in.csv", &orders_csv(9));
    scratch.batchclass(&["in.csv", "out"]).expect_code(0);
    for (flag, value) in
        [("id-type", "string"), ("encoding", "latin-1"), ("hive-partitioning", "false")]
    {
        let refused = scratch.batchclass(&["in.csv", "out", &format!("--{flag}"), value]);
        let refused = refused.expect_code(2);
        let name = format!("input.{}: was", flag.replace('-', "_"));
        assert!(refused.stderr.contains(&name), "{}", refused.stderr);
    }
    scratch.batchclass(&["in.csv", "out"]).expect_code(0);
}

#[test]
fn rows_with_uuids_are_labelled_once_and_found_again_by_a_rerun() {
    let scratch = Scratch::new();
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    let [mut rows, second] = pieces();
    rows.extend(second);
    // Scattered, and different in every byte.
    let uuid = |id: i64| -> [u8; 16] {
        (id as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
    };
    let lay_rows = |rows: &[(i64, String)]| {
        let ids: Vec<[u8; 16]> = rows.iter().map(|row| uuid(row.0)).collect();
        let ids = FixedSizeBinaryArray::try_from_iter(ids.iter()).unwrap();
        let texts = StringArray::from_iter_values(rows.iter().map(|row| &row.1));
        let numbers = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let columns: Vec<(&str, ArrayRef)> =
            vec![("key", Arc::new(ids)), ("text", Arc::new(texts)), ("id", Arc::new(numbers))];
        lay(&scratch.path("in.parquet"), &parquet(columns));
    };
    lay_rows(&rows[..50]);
    let command = ["in.parquet", "out", "--id", "key", "--rows-per-part", "20"];
    scratch.batchclass(&command).expect_code(0);
    lay_rows(&rows);
    let grown = scratch.batchclass(&command).expect_code(0);
    assert!(grown.stderr.contains("the input changed: 10 new rows\n"), "{}", grown.stderr);
    scratch.batchclass(&["verify", "out", "--input", "in.parquet"]).expect_code(0);

    let labelled = read_parts(&scratch.path("out"));
    assert_eq!(labelled.len(), ROWS);
    assert!(labelled.iter().all(|row| row.label.as_deref() == Some(order_label(row.id))));
    let part = part_files(&scratch.path("out")).remove(0);
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(part).unwrap());
    let schema = reader.unwrap().schema().clone();
    assert_eq!(schema.field(0).data_type().to_string(), "FixedSizeBinary(16)");
}
