//! Which columns go to the output, how parts are written, and what of an input is not read.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;

use crate::support::{Scratch, orders_config, part_files};

/// Rows 0 to `rows` with a text, a city and a note.
fn rows(rows: i64) -> RecordBatch {
    let ids: Vec<i64> = (0..rows).collect();
    let strings = |word: &str| -> ArrayRef {
        Arc::new(ids.iter().map(|id| Some(format!("{word} {id}"))).collect::<StringArray>())
    };
    let texts = strings("where is the delivery of my parcel");
    let (city, note) = (strings("city"), strings("note"));
    let id: ArrayRef = Arc::new(Int64Array::from(ids.clone()));
    RecordBatch::try_from_iter([("id", id), ("text", texts), ("city", city), ("note", note)])
        .unwrap()
}

/// Writes `rows` in row groups of ten.
#[expect(clippy::disallowed_methods, reason = "tests write their own inputs")]
fn put(path: &Path, rows: &RecordBatch) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(rows).unwrap();
    fs::write(path, writer.into_inner().unwrap()).unwrap();
}

/// Overwrites the pages of `columns` in the row groups that are `damaged`; size and time stay.
#[expect(clippy::disallowed_methods, reason = "tests write their own inputs")]
fn damage(path: &Path, columns: &[&str], damaged: impl Fn(usize) -> bool) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    for (number, group) in file.metadata().row_groups().iter().enumerate() {
        for chunk in group.columns() {
            if damaged(number) && columns.contains(&chunk.column_path().string().as_str()) {
                let (start, length) = chunk.byte_range();
                bytes[start as usize..(start + length) as usize].fill(0xff);
            }
        }
    }
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn lay(count: i64) -> Scratch {
    let scratch = Scratch::new();
    put(&scratch.path("in.parquet"), &rows(count));
    let parts = "[output]\nrows_per_part = 20\nmax_unlabelled = 1000\n";
    scratch.write("batchclass.toml", &(orders_config("provider = \"lexical\"") + parts));
    scratch
}

fn columns(part: &Path) -> Vec<String> {
    let file = SerializedFileReader::new(File::open(part).unwrap()).unwrap();
    let schema = file.metadata().file_metadata().schema().get_fields().to_vec();
    schema.iter().map(|field| field.name().to_owned()).collect()
}

#[test]
fn the_named_columns_are_written_in_their_order_and_another_list_is_refused() {
    let scratch = lay(50);
    damage(&scratch.path("in.parquet"), &["note"], |_| true);
    let run = |list: &str| scratch.batchclass(&["in.parquet", "out", "--columns", list]);
    run("city").expect_code(0);
    for part in part_files(&scratch.path("out")) {
        let wanted = ["id", "city", "label_text_hash", "label", "label_reason"];
        assert_eq!(columns(&part), wanted);
    }
    run("city").expect_code(0);
    let refused = run("city,text").expect_code(2).stderr;
    assert!(refused.contains(r#"output.columns: was "city", is now "city, text""#), "{refused}");
    scratch.batchclass(&["verify", "out", "--input", "in.parquet"]).expect_code(0);

    let new = |list: &str| scratch.batchclass(&["in.parquet", "new", "--columns", list]);
    let refused = new("citi").expect_code(2).stderr;
    assert!(refused.contains("no column `citi`") && refused.contains("`city`?"), "{refused}");
    assert!(new("city,city").expect_code(2).stderr.contains("names `city` twice"));
    assert!(!scratch.path("new").exists());
}

#[test]
fn a_text_that_stands_nowhere_in_the_output_is_still_compared() {
    let scratch = lay(50);
    let run = || scratch.batchclass(&["in.parquet", "out", "--columns", ""]);
    run().expect_code(0);
    let mut changed = rows(51).columns().to_vec();
    let texts = changed[1].as_any().downcast_ref::<StringArray>().unwrap();
    let texts = texts.iter().enumerate().map(|(row, text)| match row {
        17 => Some("unlock the login, my password is forgotten"),
        _ => text,
    });
    changed[1] = Arc::new(texts.collect::<StringArray>());
    put(&scratch.path("in.parquet"), &RecordBatch::try_new(rows(0).schema(), changed).unwrap());
    let said = run().expect_code(0).stderr;
    assert!(said.contains("the input changed: 1 new rows, 1 with another text"), "{said}");
    scratch.batchclass(&["verify", "out", "--input", "in.parquet"]).expect_code(0);
    scratch.batchclass(&["compact", "out", "dest"]).expect_code(0);
    assert_eq!(columns(&part_files(&scratch.path("dest"))[0])[1], "label_text_hash");
    let again = scratch.batchclass(&["in.parquet", "dest", "--columns", ""]).expect_code(0).stderr;
    assert!(!again.contains("changed"), "{again}");
}

#[test]
fn parts_are_compressed_as_told_and_a_later_run_may_tell_otherwise() {
    let scratch = lay(50);
    let run = |limit: &str, codec: &str, rows: &str| {
        let flags = ["--limit", limit, "--compression", codec, "--row-group-rows", rows];
        scratch.batchclass(&[["in.parquet", "out"].as_slice(), &flags].concat()).expect_code(0)
    };
    run("20", "snappy", "7");
    run("40", "none", "1000");
    run("50", "gzip(9)", "1000");
    let encoded = |part: &Path| {
        let file = SerializedFileReader::new(File::open(part).unwrap()).unwrap();
        let groups = file.metadata().row_groups().to_vec();
        (groups.len(), groups[0].column(0).compression())
    };
    let parts: Vec<_> = part_files(&scratch.path("out")).iter().map(|part| encoded(part)).collect();
    assert_eq!(parts[..2], [(3, Compression::SNAPPY), (1, Compression::UNCOMPRESSED)]);
    assert!(matches!(parts[2], (1, Compression::GZIP(_))), "{parts:?}");

    let flags = ["compact", "out", "dest", "--compression", "brotli", "--row-group-rows", "25"];
    scratch.batchclass(&flags).expect_code(0);
    let parts = part_files(&scratch.path("dest"));
    assert!(matches!(encoded(&parts[0]), (2, Compression::BROTLI(_))));

    let refused = scratch.batchclass(&["in.parquet", "out", "--compression", "lzo"]).expect_code(2);
    assert!(refused.stderr.contains("`zstd(3)`"), "{}", refused.stderr);
}

#[test]
fn a_rerun_reads_no_row_group_of_done_rows_but_their_ids_and_none_once_all_are_done() {
    let scratch = lay(60);
    let input = scratch.path("in.parquet");
    scratch.batchclass(&["in.parquet", "out", "--limit", "20"]).expect_code(0);
    damage(&input, &["text", "city", "note"], |group| group < 2);
    scratch.batchclass(&["in.parquet", "out"]).expect_code(0);
    scratch.batchclass(&["in.parquet", "new"]).expect_code(2);

    damage(&input, &["id", "text", "city", "note"], |_| true);
    scratch.batchclass(&["in.parquet", "out"]).expect_code(0);
    let refused = scratch.batchclass(&["in.parquet", "newer"]).expect_code(2).stderr;
    assert!(refused.contains("in.parquet"), "{refused}");
}

#[test]
fn parts_of_wide_rows_hold_few_and_one_that_is_told_to_hold_more_is_written_all_the_same() {
    let scratch = lay(60);
    let cell = vec![7_u8; 1 << 20];
    let cells: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..60).map(|_| &cell)));
    let narrow = rows(60);
    let names = ["id", "text", "city", "note"];
    let columns = names.into_iter().zip(narrow.columns().to_vec()).chain([("cell", cells)]);
    put(&scratch.path("in.parquet"), &RecordBatch::try_from_iter(columns).unwrap());
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    let run = |out: &str, rows: &[&str]| {
        let flags = ["in.parquet", out, "--max-unlabelled", "60"];
        scratch.batchclass(&[flags.as_slice(), rows].concat()).expect_code(0);
        part_files(&scratch.path(out)).iter().map(|part| groups(part)).collect::<Vec<_>>()
    };
    // 32 MiB of rows make a part; a row group ends with the batch, of 15 rows, that fills as many.
    assert_eq!(run("out", &[]), [[31], [29]]);
    assert_eq!(run("large", &["--rows-per-part", "60"]), [[45, 15]]);
}

/// The rows of each row group.
fn groups(part: &Path) -> Vec<i64> {
    let file = SerializedFileReader::new(File::open(part).unwrap()).unwrap();
    file.metadata().row_groups().iter().map(|group| group.num_rows()).collect()
}
