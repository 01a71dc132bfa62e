//! A batch's rows as the model's side needs them: id, rendered text, existing label.

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, UInt64Array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Int64Type, Schema, UInt64Type};
use arrow::error::ArrowError;

use super::error::shown;
use super::{InputError, ids};
use crate::domain::spec::{IdSource, InputSpec};
use crate::domain::template::Piece;
use crate::domain::{RowId, Template, TextHash};

/// The column that `id = "@row"` adds: int64, the row's number in the input, from 0.
pub const ROW_NUMBER_COLUMN: &str = "row_number";

/// Names that an error lists at most.
const LISTED_COLUMNS: usize = 10;
/// How alike two names must be for one to be suggested for the other, 0 to 1.
const LIKENESS: f64 = 0.8;
/// The zone in which time stamps are rendered whose own zone has a name instead of an offset.
const UTC_OFFSET: &str = "+00:00";

/// One row of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRow {
    /// Its id.
    pub id: RowId,
    /// The rendered template; `None` if it is blank.
    pub text: Option<Box<str>>,
    /// The label that it came with; `None` if that is null or blank.
    pub existing_label: Option<Box<str>>,
}

impl InputRow {
    /// The hash of its text; `None` if that is blank.
    pub fn text_hash(&self) -> Option<TextHash> {
        self.text.as_deref().map(TextHash::of)
    }
}

/// Reads rows from batches that have the input's columns, whatever others they have.
#[derive(Clone, Debug)]
pub struct RowReader {
    id: String,
    text: Template,
    existing_label: Option<String>,
}

impl RowReader {
    /// A reader for batches with the columns of `schema`, those that the input has or more.
    ///
    /// # Errors
    /// If a column that `spec` names isn't there or is of a type that its use doesn't allow, or if
    /// the template names no column.
    pub fn new(schema: &Schema, spec: &InputSpec) -> Result<RowReader, InputError> {
        let id = match &spec.id {
            IdSource::Column(name) => name.as_str(),
            IdSource::RowNumber => ROW_NUMBER_COLUMN,
        };
        let check = |name: &str, allows: fn(&DataType) -> bool, wanted: &'static str| {
            let found = schema.column_with_name(name).map(|(_, field)| field.data_type());
            match found {
                Some(data_type) if allows(data_type) => Ok(()),
                Some(data_type) => Err(InputError::WrongType {
                    column: name.to_owned(),
                    data_type: data_type.to_string(),
                    wanted,
                }),
                None => Err(unknown_column(name, schema, spec)),
            }
        };
        check(id, ids::is_id, "an id is an integer, a string or bytes")?;
        if spec.text.columns().next().is_none() {
            return Err(InputError::ConstantText { template: spec.text.source().to_owned() });
        }
        for name in spec.text.columns() {
            check(name, is_text, "a text is made of strings, numbers, booleans, dates and times")?;
        }
        for name in spec.existing_label.iter().chain(&spec.gold) {
            check(name, is_label, "a label is a string")?;
        }
        for name in spec.columns.iter().flatten() {
            check(name, |_| true, "any type will do")?;
        }
        Ok(RowReader {
            id: id.to_owned(),
            text: spec.text.clone(),
            existing_label: spec.existing_label.clone(),
        })
    }

    /// The rows of `batch`, in its order.
    ///
    /// # Errors
    /// If the batch lacks a column, or holds a null id or a value that can't be rendered.
    pub fn rows(&self, batch: &RecordBatch) -> Result<Vec<InputRow>, InputError> {
        let ids = Ids::new(&column(batch, &self.id)?, &self.id)?;
        let mut pieces = Vec::with_capacity(self.text.pieces().len());
        for piece in self.text.pieces() {
            pieces.push(match piece {
                Piece::Literal(literal) => TextPiece::Literal(literal),
                Piece::Column(name) => TextPiece::Values(strings(&column(batch, name)?, name)?),
            });
        }
        let labels = match &self.existing_label {
            Some(name) => Some(strings(&column(batch, name)?, name)?),
            None => None,
        };

        let mut rows = Vec::with_capacity(batch.num_rows());
        let mut buffer = String::new();
        for at in 0..batch.num_rows() {
            rows.push(InputRow {
                id: ids.get(at),
                text: unless_blank(render(&pieces, at, &mut buffer)),
                existing_label: labels.as_ref().and_then(|labels| unless_blank(value(labels, at))),
            });
        }
        Ok(rows)
    }
}

/// The ids in the column `name` of `batch`, in its order.
///
/// # Errors
/// If there is no such column, it holds no ids, or one is null.
pub fn row_ids(batch: &RecordBatch, name: &str) -> Result<Vec<RowId>, InputError> {
    let ids = Ids::new(&column(batch, name)?, name)?;
    Ok((0..batch.num_rows()).map(|at| ids.get(at)).collect())
}

/// The labels that the rows of `batch` came with, in the column `name`; `None` where that is null
/// or blank.
///
/// # Errors
/// If there is no such column, or it can't be read as labels.
pub fn existing_labels(
    batch: &RecordBatch,
    name: &str,
) -> Result<Vec<Option<Box<str>>>, InputError> {
    let labels = strings(&column(batch, name)?, name)?;
    Ok((0..batch.num_rows()).map(|at| unless_blank(value(&labels, at))).collect())
}

/// A template's piece over one batch.
enum TextPiece<'a> {
    Literal(&'a str),
    Values(StringViewArray),
}

/// The text of the row at `at`; a null renders as nothing, and so does a row whose columns are all
/// blank, whatever stands between them.
fn render<'a>(pieces: &'a [TextPiece<'_>], at: usize, buffer: &'a mut String) -> &'a str {
    if let [TextPiece::Values(values)] = pieces {
        return value(values, at);
    }
    buffer.clear();
    let mut says_something = false;
    for piece in pieces {
        match piece {
            TextPiece::Literal(literal) => buffer.push_str(literal),
            TextPiece::Values(values) => {
                let value = value(values, at);
                says_something |= !value.trim().is_empty();
                buffer.push_str(value);
            }
        }
    }
    if says_something { buffer } else { "" }
}

fn value(values: &StringViewArray, at: usize) -> &str {
    if values.is_null(at) { "" } else { values.value(at) }
}

fn unless_blank(text: &str) -> Option<Box<str>> {
    (!text.trim().is_empty()).then(|| text.into())
}

/// A batch's ids, none of them null.
enum Ids {
    Signed(Int64Array),
    Unsigned(UInt64Array),
    Text(StringViewArray),
}

impl Ids {
    fn new(ids: &ArrayRef, name: &str) -> Result<Ids, InputError> {
        let ids = &ids::unpacked(ids).map_err(|error| bad_value(name, error))?;
        if ids.null_count() > 0 {
            let nulls = (0..ids.len()).find(|&at| ids.is_null(at)).unwrap_or_default();
            return Err(InputError::NullId { row: format!("row {} of a batch", nulls + 1) });
        }
        let cast_to = |data_type| strict_cast(ids, &data_type).map_err(|e| bad_value(name, e));
        Ok(match ids.data_type() {
            DataType::UInt64 => Ids::Unsigned(ids.as_primitive::<UInt64Type>().clone()),
            data_type if data_type.is_integer() => {
                Ids::Signed(cast_to(DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            data_type if ids::is_bytes(data_type) => {
                Ids::Text(ids::texts(ids).map_err(|error| bad_value(name, error))?)
            }
            _ => Ids::Text(strings(ids, name)?),
        })
    }

    fn get(&self, at: usize) -> RowId {
        match self {
            Ids::Signed(ids) => RowId::Integer(ids.value(at).into()),
            Ids::Unsigned(ids) => RowId::Integer(ids.value(at).into()),
            Ids::Text(ids) => RowId::Text(ids.value(at).into()),
        }
    }
}

fn column(batch: &RecordBatch, name: &str) -> Result<ArrayRef, InputError> {
    batch.column_by_name(name).cloned().ok_or_else(|| {
        bad_value(name, ArrowError::SchemaError("the column is not in the batch".to_owned()))
    })
}

/// The column rendered as strings; strings are not copied.
fn strings(values: &ArrayRef, name: &str) -> Result<StringViewArray, InputError> {
    let in_utc = match values.data_type() {
        DataType::Timestamp(unit, Some(zone)) if !zone.starts_with(['+', '-']) => {
            Some(DataType::Timestamp(*unit, Some(UTC_OFFSET.into())))
        }
        _ => None,
    };
    let cast = match in_utc {
        Some(in_utc) => {
            strict_cast(values, &in_utc).and_then(|it| strict_cast(&it, &DataType::Utf8View))
        }
        None => strict_cast(values, &DataType::Utf8View),
    };
    cast.map(|array| array.as_string_view().clone()).map_err(|error| bad_value(name, error))
}

/// A value that doesn't fit is an error, not a null.
fn strict_cast(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let format_options = arrow::util::display::FormatOptions::default().with_display_error(false);
    cast_with_options(values, to, &CastOptions { safe: false, format_options })
}

fn bad_value(column: &str, source: ArrowError) -> InputError {
    InputError::BadValue { column: column.to_owned(), source }
}

fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_label(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_string(values),
        data_type => is_string(data_type),
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        DataType::Duration(_) | DataType::Interval(_) => false,
        DataType::Boolean => true,
        data_type => is_string(data_type) || data_type.is_primitive(),
    }
}

fn unknown_column(name: &str, schema: &Schema, spec: &InputSpec) -> InputError {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    InputError::UnknownColumn {
        column: name.to_owned(),
        location: spec.location.to_string(),
        hint: hint(name, &names),
    }
}

/// The name that was likely meant, else the names there are.
fn hint(name: &str, names: &[&str]) -> String {
    let folded = name.to_lowercase();
    let likeness = |other: &str| strsim::jaro_winkler(&folded, &other.to_lowercase());
    let scored = names.iter().map(|other| (likeness(other), *other));
    let nearest = scored.max_by(|(a, _), (b, _)| a.total_cmp(b));
    if let Some((_, other)) = nearest.filter(|(likeness, _)| *likeness >= LIKENESS) {
        return format!("did you mean `{}`?", shown(other));
    }
    let listed: Vec<_> =
        names.iter().take(LISTED_COLUMNS).map(|other| format!("`{}`", shown(other))).collect();
    match names.len().saturating_sub(LISTED_COLUMNS) {
        0 => format!("it has {}", listed.join(", ")),
        more => format!("it has {} and {more} more", listed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int8Array,
        StringArray, TimestampMillisecondArray,
    };
    use arrow::datatypes::{Field, Int8Type};

    use super::*;
    use crate::domain::spec::{CloudSpec, OnDuplicateId};

    fn spec(text: &str) -> InputSpec {
        InputSpec {
            location: PathBuf::from("questions.csv").into(),
            cloud: CloudSpec::default(),
            reading: Default::default(),
            id: IdSource::Column("id".into()),
            text: Template::parse(text).unwrap(),
            existing_label: None,
            gold: None,
            columns: None,
            on_duplicate_id: OnDuplicateId::Error,
            sort_memory: 0,
            temp_dir: std::env::temp_dir(),
        }
    }

    fn texts(batch: &RecordBatch, template: &str) -> Vec<Option<String>> {
        let reader = RowReader::new(&batch.schema(), &spec(template)).unwrap();
        let rows = reader.rows(batch).unwrap();
        rows.into_iter().map(|row| row.text.map(String::from)).collect()
    }

    #[test]
    fn every_renderable_type_becomes_text() {
        let label: DictionaryArray<Int8Type> = ["x"].into_iter().collect();
        let time = TimestampMillisecondArray::from(vec![1_700_000_000_000]);
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int8Array::from(vec![-3])) as ArrayRef),
            ("flag", Arc::new(BooleanArray::from(vec![true]))),
            ("real", Arc::new(Float64Array::from(vec![1.5]))),
            ("day", Arc::new(Date32Array::from(vec![0]))),
            (
                "price",
                Arc::new(
                    Decimal128Array::from(vec![1234]).with_data_type(DataType::Decimal128(10, 2)),
                ),
            ),
            ("time", Arc::new(time.clone())),
            ("utc", Arc::new(time.clone().with_timezone("UTC"))),
            ("london", Arc::new(time.with_timezone("Europe/London"))),
            ("label", Arc::new(label)),
        ])
        .unwrap();
        assert_eq!(
            texts(&batch, "{id} {flag} {real} {day} {price} {label} {time} {utc} {london}"),
            [Some(
                "-3 true 1.5 1970-01-01 12.34 x 2023-11-14T22:13:20 2023-11-14T22:13:20Z \
                 2023-11-14T22:13:20Z"
                    .to_owned()
            )]
        );
    }

    #[test]
    fn a_null_renders_as_nothing_and_a_blank_text_is_none() {
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(StringArray::from(vec!["a", "b", "c"])) as ArrayRef),
            ("town", Arc::new(StringArray::from(vec![Some("Leeds"), None, Some(" \t")]))),
        ])
        .unwrap();
        assert_eq!(texts(&batch, "town"), [Some("Leeds".to_owned()), None, None]);
        assert_eq!(
            texts(&batch, "<{town}>"),
            [Some("<Leeds>".to_owned()), None, None],
            "what stands between blank columns is no text"
        );
    }

    #[test]
    fn ids_keep_their_full_width() {
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef),
            ("t", Arc::new(StringArray::from(vec!["x"]))),
        ])
        .unwrap();
        let reader = RowReader::new(&batch.schema(), &spec("t")).unwrap();
        assert_eq!(reader.rows(&batch).unwrap()[0].id, RowId::Integer(u64::MAX.into()));
    }

    #[test]
    fn a_misspelt_column_is_suggested_and_a_strange_one_gets_the_list() {
        let field = |name: &str| Field::new(name, DataType::Utf8, true);
        let schema = Schema::new(vec![field("id"), field("address")]);
        let error = RowReader::new(&schema, &spec("{adress}")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no column `adress` in `questions.csv`; did you mean `address`?"
        );
        let error = RowReader::new(&schema, &spec("{zip}")).unwrap_err();
        assert_eq!(error.to_string(), "no column `zip` in `questions.csv`; it has `id`, `address`");

        let names: Vec<String> = (0..12).map(|at| format!("column_{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(hint("zip", &names).ends_with("`column_9` and 2 more"));
    }

    #[test]
    fn a_column_of_the_wrong_type_is_refused_by_name() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("real", DataType::Float64, true),
            Field::new("blob", DataType::Binary, true),
        ]);
        let refused = |spec: &InputSpec| {
            let error = RowReader::new(&schema, spec).unwrap_err();
            assert!(matches!(error, InputError::WrongType { .. }), "{error}");
            assert!(error.is_usage());
            error.to_string()
        };
        assert!(refused(&spec("blob")).contains("`blob` is of type Binary"));
        let id = IdSource::Column("real".into());
        assert!(refused(&InputSpec { id, ..spec("real") }).contains("`real` is of type Float64"));
        let gold = Some("real".to_owned());
        assert!(refused(&InputSpec { gold, ..spec("id") }).contains("a label is a string"));
    }

    #[test]
    fn a_template_without_a_column_is_refused() {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, true)]);
        let error = RowReader::new(&schema, &spec("{{id}}")).unwrap_err();
        assert!(matches!(error, InputError::ConstantText { .. }), "{error}");
    }
}
