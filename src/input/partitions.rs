//! Columns that stand in the names of folders: `year=2024/month=01/a.parquet`.
//!
//! They come after the columns of the files, in the order of the folders. A value is the text after
//! the `=`, percent-decoded; a column is one of integers if all of its values, of all files, are
//! integers in their usual form, else one of strings. A name that the files have as a column too is
//! theirs: a row says itself what it holds.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::InputError;
use super::csv_table::is_canonical_integer;
use super::reader::MAX_CHUNK_ROWS;
use super::table::{Batches, Columns, Table};
use crate::domain::reading::HivePartitioning;

/// What Hive and Spark write for null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition columns, and what each file has in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Partitions {
    fields: Vec<Field>,
    /// The values by file, then column.
    values: Vec<Vec<Option<String>>>,
    /// Columns of the files, before those.
    file_columns: usize,
}

impl Partitions {
    /// The partitions in the `names` of all files, whose columns are `schema`.
    ///
    /// # Errors
    /// If the names don't have the same keys, or none where `wanted` says that they have.
    pub(super) fn find(
        names: &[&str],
        schema: &Schema,
        wanted: HivePartitioning,
    ) -> Result<Partitions, InputError> {
        let file_columns = schema.fields().len();
        let none = Partitions { file_columns, ..Partitions::default() };
        if wanted == HivePartitioning::False {
            return Ok(none);
        }
        let pairs: Vec<Vec<Pair<'_>>> = names.iter().map(|name| pairs(name)).collect();
        let Some((first, rest)) = pairs.split_first() else { return Ok(none) };
        for (pairs, name) in rest.iter().zip(&names[1..]) {
            let keys = |pairs: &[Pair<'_>]| -> Vec<String> {
                pairs.iter().map(|(key, _)| key.to_string()).collect()
            };
            if keys(pairs) != keys(first) {
                return Err(InputError::PartitionsDiffer {
                    first: names[0].to_owned(),
                    second: (*name).to_owned(),
                });
            }
        }
        if first.is_empty() && wanted == HivePartitioning::True {
            return Err(InputError::NoPartitions { file: names[0].to_owned() });
        }
        let mut found = none;
        found.values = vec![Vec::new(); names.len()];
        for (at, (key, _)) in first.iter().enumerate() {
            if first[..at].iter().any(|(other, _)| other == key) {
                let (file, column) = (names[0].to_owned(), key.to_string());
                return Err(InputError::DuplicateColumn { file, column });
            }
            if schema.column_with_name(key).is_some() {
                continue;
            }
            let mut values = pairs.iter().filter_map(|pairs| pairs[at].1.as_deref()).peekable();
            let are_integers = values.peek().is_some() && values.all(is_canonical_integer);
            let data_type = if are_integers { DataType::Int64 } else { DataType::Utf8 };
            found.fields.push(Field::new(&**key, data_type, true));
            for (values, pairs) in found.values.iter_mut().zip(&pairs) {
                values.push(pairs[at].1.as_ref().map(ToString::to_string));
            }
        }
        Ok(found)
    }

    /// The columns of the files, and these.
    pub(super) fn after(&self, schema: &SchemaRef) -> SchemaRef {
        let own = self.fields.iter().cloned().map(Arc::new);
        let fields: Vec<_> = schema.fields().iter().cloned().chain(own).collect();
        Arc::new(Schema::new(fields))
    }

    /// How many columns the files have themselves.
    pub(super) fn file_columns(&self) -> usize {
        self.file_columns
    }

    /// Reads `columns` of the `wanted` rows of `table`, the file with this number; `schema` has the
    /// columns of the files and these.
    pub(super) fn read(
        &self,
        table: &Table,
        number: usize,
        schema: &SchemaRef,
        columns: Columns,
        wanted: Vec<Range<u64>>,
    ) -> Result<Batches, InputError> {
        if self.fields.is_empty() {
            return table.read(schema, columns, wanted);
        }
        let bad = |source| InputError::BadBatch { source };
        let places = columns.places(schema.fields().len());
        let (in_file, own): (Vec<usize>, Vec<usize>) =
            places.iter().partition(|place| **place < self.file_columns);
        let values = own.into_iter().map(|place| {
            let at = place - self.file_columns;
            let value = self.values.get(number).and_then(|values| values[at].clone());
            (self.fields[at].data_type().clone(), value)
        });
        let values: Vec<(DataType, Option<String>)> = values.collect();
        let read = Arc::new(schema.project(&places).map_err(bad)?);
        let batches = match in_file.is_empty() {
            true => rows_alone(wanted),
            false => {
                let files: Vec<usize> = (0..self.file_columns).collect();
                let files = Arc::new(schema.project(&files).map_err(bad)?);
                table.read(&files, Columns::These(in_file.into()), wanted)?
            }
        };
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch?;
            let rows = batch.num_rows();
            let own = values.iter().map(|(data_type, value)| repeated(data_type, value, rows));
            let all = batch.columns().iter().cloned().chain(own).collect();
            RecordBatch::try_new(Arc::clone(&read), all).map_err(bad)
        })))
    }
}

/// A key and its value, null or not.
type Pair<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// The keys and values in the folders of `name`, a path.
fn pairs(name: &str) -> Vec<Pair<'_>> {
    let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
    let pairs = folders.split('/').filter_map(|folder| {
        let (key, value) = folder.split_once('=').filter(|(key, _)| !key.is_empty())?;
        let value = (!value.is_empty() && value != NULL).then(|| decoded(value));
        Some((decoded(key), value))
    });
    pairs.collect()
}

/// `text` with each `%41` as the byte that it stands for; as it is if that makes no text.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let is_hex = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let digits = digits.filter(is_hex).filter(|_| byte == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_or(text.into(), Cow::Owned)
}

fn repeated(data_type: &DataType, value: &Option<String>, rows: usize) -> ArrayRef {
    match data_type {
        DataType::Int64 => {
            let value: Option<i64> = value.as_ref().and_then(|value| value.parse().ok());
            Arc::new(Int64Array::from(vec![value; rows]))
        }
        _ => Arc::new(StringArray::from(vec![value.as_deref(); rows])),
    }
}

/// As many rows as are wanted, without a column.
fn rows_alone(wanted: Vec<Range<u64>>) -> Batches {
    let mut left: u64 = wanted.iter().map(|range| range.end - range.start).sum();
    Box::new(std::iter::from_fn(move || {
        let rows = left.min(MAX_CHUNK_ROWS as u64);
        left -= rows;
        let options = RecordBatchOptions::new().with_row_count(usize::try_from(rows).ok());
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options);
        (rows > 0).then(|| batch.map_err(|source| InputError::BadBatch { source }))
    }))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;
    use arrow::datatypes::Int64Type;
    use tempfile::TempDir;

    use super::super::OrderedInput;
    use super::super::tests::{numbered, put, put_parquet, read, refusal, spec, whole};
    use super::*;

    #[test]
    fn folders_are_columns_after_those_of_the_files() {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        put_parquet(&at("year=2023/month=01/a.parquet"), &numbered([3, 1]), 9);
        put_parquet(&at("year=2024/month=1%2F2/a.parquet"), &numbered([2]), 9);
        put_parquet(&at(&format!("year={NULL}/month=02/a.parquet")), &numbered([4]), 9);
        let input = OrderedInput::open(&spec(folder.path())).unwrap();
        let (columns, _) = read(&input, &whole(&input));
        let names: Vec<_> =
            columns.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["id", "text", "year", "month"]);
        let years = columns.column(2).as_primitive::<Int64Type>();
        assert_eq!(years.iter().collect::<Vec<_>>(), [Some(2023), Some(2024), Some(2023), None]);
        let months = columns.column(3).as_string::<i32>();
        assert_eq!(months.iter().flatten().collect::<Vec<_>>(), ["01", "1/2", "01", "02"]);
    }

    #[test]
    fn a_partition_can_be_part_of_the_text_or_even_the_id() {
        let folder = TempDir::new().unwrap();
        put(&folder.path().join("day=mon/a.csv"), "text\nx\n");
        put(&folder.path().join("day=fri/a.csv"), "text\ny\n");
        let mut told = spec(folder.path());
        told.id = crate::domain::spec::IdSource::Column("day".into());
        told.text = crate::domain::Template::parse("{day}: {text}").unwrap();
        let input = OrderedInput::open(&told).unwrap();
        let (_, rows) = read(&input, &whole(&input));
        let texts: Vec<_> = rows.iter().map(|row| row.text.as_deref().unwrap()).collect();
        assert_eq!(texts, ["fri: y", "mon: x"]);
    }

    #[test]
    fn a_column_of_the_files_is_theirs() {
        let folder = TempDir::new().unwrap();
        put(&folder.path().join("text=folder/a.csv"), "id,text\n1,file\n");
        let input = OrderedInput::open(&spec(folder.path())).unwrap();
        let (columns, rows) = read(&input, &whole(&input));
        assert_eq!((columns.num_columns(), rows[0].text.as_deref()), (2, Some("file")));
    }

    #[test]
    fn all_files_have_the_same_keys_unless_folders_are_no_columns() {
        let folder = TempDir::new().unwrap();
        put(&folder.path().join("a.csv"), "id,text\n1,x\n");
        put(&folder.path().join("y=1/a.csv"), "id,text\n2,x\n");
        let mut told = spec(folder.path());
        assert_eq!(
            refusal(&told).to_string(),
            "the folders of `a.csv` and of `y=1/a.csv` don't name the same keys in the same order; \
             move the files, or use `--hive-partitioning false`"
        );
        told.reading.hive_partitioning = HivePartitioning::False;
        assert_eq!(OrderedInput::open(&told).unwrap().schema().fields().len(), 2);
        told.reading.hive_partitioning = HivePartitioning::True;
        told.location = folder.path().join("a.csv").into();
        assert!(refusal(&told).to_string().starts_with("`a.csv` stands in no folder"));
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        for (text, expected) in [
            ("a%20b", "a b"),
            ("100%", "100%"),
            ("%zz%e9", "%zz%e9"),
            ("%C3%A9", "é"),
            ("%+1", "%+1"),
        ] {
            assert_eq!(decoded(text), expected);
        }
        assert_eq!(
            pairs("=x/a=/b=c=d/e.csv"),
            [("a".into(), None), ("b".into(), Some("c=d".into()))]
        );
    }
}
