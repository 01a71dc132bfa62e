//! What is not needed is not read: here it is damaged, and nobody notices.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use tempfile::TempDir;

use super::tests::{integer_ids, put, put_csv, put_parquet, read, refusal, spec, whole};
use super::*;
use crate::domain::spec::{IdSource, InputSpec};
use crate::domain::{Position, PositionRange};

/// Rows of `id`, `noise`, `text` and `city`.
fn rows(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids = Int64Array::from_iter_values(ids);
    let texts = |word: &str| -> ArrayRef {
        let texts = ids.values().iter().map(|id| Some(format!("{word} {id}")));
        Arc::new(texts.collect::<StringArray>())
    };
    let (noise, text, city) = (texts("noise"), texts("text"), texts("city"));
    let columns = [("noise", noise), ("text", text), ("city", city)];
    let id: ArrayRef = Arc::new(ids);
    RecordBatch::try_from_iter([("id", id)].into_iter().chain(columns)).unwrap()
}

/// Overwrites all pages of `column` in the row groups that are `damaged`.
fn damage(path: &Path, column: &str, damaged: impl Fn(usize) -> bool) {
    let mut bytes = fs::read(path).unwrap();
    let file = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
    let mut count = 0;
    for (number, group) in file.metadata().row_groups().iter().enumerate() {
        for chunk in group.columns() {
            if chunk.column_path().string() == column && damaged(number) {
                let (start, length) = chunk.byte_range();
                bytes[start as usize..(start + length) as usize].fill(0xff);
                count += 1;
            }
        }
    }
    assert!(count > 0);
    put(path, bytes);
}

fn only(columns: &[&str], spec: InputSpec) -> InputSpec {
    let columns = columns.iter().map(|name| (*name).to_owned()).collect();
    InputSpec { columns: Some(columns), ..spec }
}

fn names(input: &OrderedInput) -> Vec<&str> {
    input.schema().fields().iter().map(|field| field.name().as_str()).collect()
}

#[test]
fn only_the_columns_that_the_job_names_are_read_in_any_order_of_the_rows() {
    for ids in [vec![1, 2, 3, 4, 5, 6], vec![4, 2, 6, 1, 3, 5]] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.parquet");
        put_parquet(&path, &rows(ids), 4);
        damage(&path, "noise", |_| true);
        assert!(refusal(&spec(&path)).to_string().contains("a.parquet"));
        for sort_memory in [0, 1 << 20] {
            let told = InputSpec { sort_memory, ..only(&["city"], spec(&path)) };
            let input = OrderedInput::open(&told).unwrap();
            assert_eq!(names(&input), ["id", "text", "city"]);
            let (columns, rows) = read(&input, &whole(&input));
            assert_eq!(integer_ids(&rows), [1, 2, 3, 4, 5, 6]);
            assert_eq!(columns.column(2).as_string::<i32>().value(5), "city 6");
            assert_eq!(rows[5].text.as_deref(), Some("text 6"));
        }
    }
}

#[test]
fn a_csv_has_the_named_columns_too_and_row_numbers_beside_them() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.csv");
    put_csv(&path, &rows([7, 9]), b',');
    let input = OrderedInput::open(&only(&[], spec(&path))).unwrap();
    assert_eq!(names(&input), ["id", "text"]);
    assert_eq!(integer_ids(&read(&input, &whole(&input)).1), [7, 9]);
    let numbered = InputSpec { id: IdSource::RowNumber, ..only(&["city"], spec(&path)) };
    let input = OrderedInput::open(&numbered).unwrap();
    assert_eq!(names(&input), ["row_number", "text", "city"]);
    let (columns, rows) = read(&input, &whole(&input));
    assert_eq!(columns.column(2).as_string::<i32>().value(1), "city 9");
    assert_eq!(integer_ids(&rows), [0, 1]);
}

#[test]
fn a_column_that_is_not_there_is_refused_with_the_one_that_was_meant() {
    let folder = TempDir::new().unwrap();
    put_parquet(&folder.path().join("a.parquet"), &rows(0..3), 4);
    let error = refusal(&only(&["id", "cty"], spec(folder.path())));
    assert!(error.to_string().contains("no column `cty`"), "{error}");
    assert!(error.to_string().ends_with("did you mean `city`?"), "{error}");
}

#[test]
fn row_groups_without_a_wanted_row_are_not_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    put_parquet(&path, &rows(0..40), 10);
    damage(&path, "text", |group| group != 2);
    let input = OrderedInput::open(&spec(&path)).unwrap();
    let range = |first, rows| PositionRange { first: Position(first), rows };
    let (_, found) = read(&input, &[range(20, 3), range(25, 5)]);
    assert_eq!(integer_ids(&found), [20, 21, 22, 25, 26, 27, 28, 29]);
    let mut chunks = input.read(vec![range(19, 2)]).unwrap();
    assert!(chunks.any(|chunk| chunk.is_err()), "the damage would show");
}

#[test]
fn finding_an_input_reads_no_page_of_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.parquet");
    put_parquet(&path, &rows(0..40), 10);
    for column in ["id", "noise", "text", "city"] {
        damage(&path, column, |_| true);
    }
    let found = FoundInput::find(&spec(&path)).unwrap();
    assert_eq!(found.files().len(), 1);
    assert!(found.prove().is_err(), "the damage would show");
}
