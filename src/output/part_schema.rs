//! The columns of every part of an output: the input's or some of them, then the label and the
//! reason.
//!
//! Fixed before the first part, so that all parts read as one table. Parts that don't hold the
//! columns of the text hold its hash, by which a text that changed is known.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, FixedSizeBinaryBuilder, RecordBatch, StringArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::difference::Difference;
use crate::domain::guard::without_panic;
use crate::domain::spec::reason_column;
use crate::domain::{Template, TextHash};

/// Bytes of a [`TextHash`].
const HASH_BYTES: i32 = size_of::<TextHash>() as i32;

/// The columns of the input that go along, and those of its parts.
#[derive(Clone, Debug)]
pub struct PartSchema {
    /// Where the columns that go along stand in the input; `None`: all of them, as they are.
    places: Option<Vec<usize>>,
    /// The columns that go along, and the text's hash where the text does not.
    carried: SchemaRef,
    output: SchemaRef,
    /// Where the input's label column stands if ours takes its place.
    replaced: Option<usize>,
    has_hash: bool,
}

/// Which of the input's columns go along.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// These, in this order.
    pub columns: &'a [String],
    /// The column with the id, which goes along in any case: first, if it is not among them.
    pub id: &'a str,
    /// What the text is made of.
    pub text: &'a Template,
}

/// Why the input's columns can't stand in a part.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartSchemaError {
    /// The input has a column of that name already.
    #[error(
        "the input has a column `{column}` already; if it holds labels to keep, set \
         `existing_label = \"{column}\"` under [input], else name another with `--label-column`"
    )]
    Taken {
        /// The column.
        column: String,
    },
    /// The input has a column named like the one for the reason.
    #[error(
        "the input has a column `{column}` already, which would say why a row has no label; name \
         another label column with `--label-column`"
    )]
    ReasonTaken {
        /// The column.
        column: String,
    },
    /// No such column.
    #[error("the input has no column `{column}`, which `existing_label` names")]
    NoExistingLabel {
        /// The column.
        column: String,
    },
    /// The values of this column can't be read as labels.
    #[error("column `{column}` holds {data_type}, which can't be read as labels")]
    NotLabels {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// The hash of the text would have the name of another column.
    #[error(
        "`columns` names `{column}`, which is to hold the hash of the text, since that is left out; \
         name another label column with `--label-column`"
    )]
    HashTaken {
        /// The column.
        column: String,
    },
    /// A column that goes along twice.
    #[error("`columns` under [output] names `{column}` twice")]
    Twice {
        /// The column.
        column: String,
    },
    /// Two columns of the input share a name.
    #[error("the input has two columns `{column}`; rename one")]
    Repeated {
        /// The column.
        column: String,
    },
    /// Parquet can't hold the column.
    #[error("column `{column}` holds {data_type}, which Parquet can't store; drop or cast it")]
    Unsupported {
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
}

impl PartSchema {
    /// The schema of parts for an input with the columns `input`, all of which go along. If
    /// `existing_label` is `label_column` itself, our column takes the place of the input's, at the
    /// end.
    ///
    /// # Errors
    /// If a name is taken, or a column can't be stored.
    pub fn new(
        input: &Schema,
        label_column: &str,
        existing_label: Option<&str>,
    ) -> Result<PartSchema, PartSchemaError> {
        check_labels(input, existing_label)?;
        let position = |name: &str| input.fields().iter().position(|field| field.name() == name);
        let replaced = position(label_column);
        if replaced.is_some() && existing_label != Some(label_column) {
            return Err(PartSchemaError::Taken { column: label_column.to_owned() });
        }
        let reason_column = reason_column(label_column);
        if position(&reason_column).is_some() {
            return Err(PartSchemaError::ReasonTaken { column: reason_column });
        }
        for (at, field) in input.fields().iter().enumerate() {
            if position(field.name()) != Some(at) {
                return Err(PartSchemaError::Repeated { column: field.name().clone() });
            }
            check_storable(field)?;
        }
        let kept = input.fields().iter().enumerate().filter(|(at, _)| Some(*at) != replaced);
        let mut fields: Vec<Arc<Field>> = kept.map(|(_, field)| Arc::clone(field)).collect();
        fields.push(Arc::new(Field::new(label_column, DataType::Utf8, true)));
        fields.push(Arc::new(Field::new(reason_column, DataType::Utf8, true)));
        // The input's own metadata describes the input's columns to other readers (Spark takes its
        // schema from there), so it must not stand in a part that has two more.
        let carried = Arc::new(Schema::new(input.fields().clone()));
        let output = Arc::new(Schema::new(fields));
        Ok(PartSchema { places: None, carried, output, replaced, has_hash: false })
    }

    /// As [`PartSchema::new`], but only the columns of `selection` go along.
    ///
    /// # Errors
    /// If a name is taken or stands twice, or a column can't be stored.
    pub fn select(
        input: &Schema,
        label_column: &str,
        existing_label: Option<&str>,
        selection: Selection<'_>,
    ) -> Result<PartSchema, PartSchemaError> {
        let Selection { columns, id, text } = selection;
        let mut names: Vec<&str> = columns.iter().map(String::as_str).collect();
        if let Some(at) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
            return Err(PartSchemaError::Twice { column: names[at].to_owned() });
        }
        if !names.contains(&id) {
            names.insert(0, id);
        }
        let place = |name: &&str| input.fields().iter().position(|field| field.name() == name);
        // The names were held against the input when it was opened.
        let places: Vec<usize> = names.iter().filter_map(place).collect();
        let mut fields: Vec<Arc<Field>> =
            places.iter().map(|place| Arc::clone(&input.fields()[*place])).collect();
        let is_kept = |column: &str| names.contains(&column) && column != label_column;
        let has_hash = !text.columns().all(is_kept);
        if has_hash {
            let column = hash_column(label_column);
            if names.contains(&column.as_str()) {
                return Err(PartSchemaError::HashTaken { column });
            }
            fields.push(Arc::new(Field::new(column, DataType::FixedSizeBinary(HASH_BYTES), true)));
        }
        check_labels(input, existing_label)?;
        let existing_label = existing_label.filter(|column| names.contains(column));
        let whole = PartSchema::new(&Schema::new(fields), label_column, existing_label)?;
        Ok(PartSchema { places: Some(places), has_hash, ..whole })
    }

    /// The columns of the rows that a part is made of: those of the input that go along and, where
    /// the text's are not all among them, its hash.
    pub fn carried(&self) -> &SchemaRef {
        &self.carried
    }

    /// The name of the column with the text's hash, in parts that don't hold the text.
    pub fn hash_column(&self) -> Option<&str> {
        let last = self.carried.fields().last().filter(|_| self.has_hash);
        last.map(|field| field.name().as_str())
    }

    /// What goes along of `rows`, which have the input's columns; `hashes` are those of their texts.
    ///
    /// # Errors
    /// If `rows` have other columns than the input, or the lengths differ.
    pub fn carry(
        &self,
        rows: &RecordBatch,
        hashes: impl Iterator<Item = Option<TextHash>>,
    ) -> Result<RecordBatch, ArrowError> {
        let Some(places) = &self.places else { return Ok(rows.clone()) };
        let mut columns = rows.project(places)?.columns().to_vec();
        if self.has_hash {
            let mut builder = FixedSizeBinaryBuilder::with_capacity(rows.num_rows(), HASH_BYTES);
            for hash in hashes {
                match hash {
                    Some(TextHash(bytes)) => builder.append_value(bytes)?,
                    None => builder.append_null(),
                }
            }
            columns.push(Arc::new(builder.finish()));
        }
        RecordBatch::try_new(Arc::clone(&self.carried), columns)
    }

    /// The hashes of the texts of a part's rows; `None` if there is no column for them.
    pub fn hashes(&self, rows: &RecordBatch) -> Option<Vec<Option<TextHash>>> {
        let column = rows.column_by_name(self.hash_column()?)?;
        let hashes = column.as_fixed_size_binary_opt()?;
        let hash = |bytes: Option<&[u8]>| Some(TextHash(bytes?.try_into().ok()?));
        Some(hashes.iter().map(hash).collect())
    }

    /// A part's columns.
    pub fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// How these columns differ from those of `part`, so that the two can't stand side by side;
    /// empty if they can. That values may be missing now where they never were is no difference.
    pub fn differences_from(&self, part: &Schema) -> Vec<Difference> {
        let (was, now) = (part.fields(), self.output.fields());
        let mut found = Vec::new();
        for number in 0..was.len().max(now.len()) {
            let (was, now) = (was.get(number), now.get(number));
            let stands_for = |was: &Arc<Field>, now: &Arc<Field>| {
                (was.name(), was.data_type()) == (now.name(), now.data_type())
                    && (now.is_nullable() || !was.is_nullable())
            };
            if !was.zip(now).is_some_and(|(was, now)| stands_for(was, now)) {
                let what = format!("column {} of the parts", number + 1);
                found.push(Difference { what, was: in_words(was), now: in_words(now) });
            }
        }
        found
    }

    /// The name of the label's column.
    pub fn label_column(&self) -> &str {
        self.output.field(self.output.fields().len() - 2).name()
    }

    /// The name of the reason's column.
    pub fn reason_column(&self) -> &str {
        self.output.field(self.output.fields().len() - 1).name()
    }

    /// A part's rows of the rows that go along and ours.
    ///
    /// # Errors
    /// If `rows` has other columns than go along, or the lengths differ.
    pub(super) fn join(
        &self,
        rows: &RecordBatch,
        labels: StringArray,
        reasons: StringArray,
    ) -> Result<RecordBatch, ArrowError> {
        let kept = rows.columns().iter().enumerate().filter(|(at, _)| Some(*at) != self.replaced);
        let mut columns: Vec<ArrayRef> = kept.map(|(_, column)| Arc::clone(column)).collect();
        columns.push(Arc::new(labels));
        columns.push(Arc::new(reasons));
        RecordBatch::try_new(Arc::clone(&self.output), columns)
    }

    /// The rows that went along, of a part's rows; a replaced label column comes back with the labels that
    /// stand in the part.
    ///
    /// # Errors
    /// If `part` has other columns than a part, or a label can't take the type of the input's.
    pub(super) fn split(&self, part: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let ours = self.output.fields().len() - 2;
        let mut columns: Vec<ArrayRef> = part.columns()[..ours].to_vec();
        if let Some(at) = self.replaced {
            let labels = cast(part.column(ours), self.carried.field(at).data_type())?;
            columns.insert(at, labels);
        }
        RecordBatch::try_new(self.nullable_carried(), columns)
    }

    /// The columns that went along as a part gives them back: rows without a label have none in a column
    /// that was never null in the input.
    fn nullable_carried(&self) -> SchemaRef {
        match self.replaced {
            Some(at) if !self.carried.field(at).is_nullable() => {
                let mut fields = self.carried.fields().to_vec();
                fields[at] = Arc::new(fields[at].as_ref().clone().with_nullable(true));
                Arc::new(Schema::new(fields))
            }
            _ => Arc::clone(&self.carried),
        }
    }
}

fn in_words(field: Option<&Arc<Field>>) -> String {
    field.map_or_else(
        || "not there".to_owned(),
        |field| {
            let never_null = if field.is_nullable() { "" } else { ", never null" };
            format!("`{}` ({}{never_null})", field.name(), field.data_type())
        },
    )
}

/// The name of the column with the hash of a text whose columns don't go along.
fn hash_column(label_column: &str) -> String {
    format!("{label_column}_text_hash")
}

/// Labels are texts, or something that reads as a text and back.
fn check_labels(input: &Schema, existing_label: Option<&str>) -> Result<(), PartSchemaError> {
    let Some(column) = existing_label else { return Ok(()) };
    let (_, field) = input
        .column_with_name(column)
        .ok_or_else(|| PartSchemaError::NoExistingLabel { column: column.to_owned() })?;
    let data_type = field.data_type();
    let values = match data_type {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let is_text = matches!(values, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if is_text || values.is_integer() || matches!(values, DataType::Boolean) {
        return Ok(());
    }
    let data_type = data_type.to_string();
    Err(PartSchemaError::NotLabels { column: field.name().clone(), data_type })
}

/// Parquet takes the schema of some types whose values it then refuses, or gives back as others: so
/// a null is written and read here, before anything is paid for.
fn check_storable(field: &Arc<Field>) -> Result<(), PartSchemaError> {
    let data_type = field.data_type();
    let back = without_panic(|| written_and_read(data_type)).and_then(Result::ok);
    if back.as_ref() == Some(data_type) {
        return Ok(());
    }
    let data_type = data_type.to_string();
    Err(PartSchemaError::Unsupported { column: field.name().clone(), data_type })
}

/// The type that a column of this type has once it was written.
fn written_and_read(data_type: &DataType) -> Result<DataType, ParquetError> {
    let schema = Arc::new(Schema::new(vec![Field::new("column", data_type.clone(), true)]));
    let row = RecordBatch::try_new(Arc::clone(&schema), vec![new_null_array(data_type, 1)])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None)?;
    writer.write(&row)?;
    let bytes = Bytes::from(writer.into_inner()?);
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    let row = reader.next().transpose()?;
    Ok(row.map_or(DataType::Null, |row| row.column(0).data_type().clone()))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Fields, IntervalUnit};

    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let fields = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true));
        Schema::new(fields.collect::<Vec<_>>())
    }

    fn names(schema: &PartSchema) -> Vec<&str> {
        schema.output().fields().iter().map(|field| field.name().as_str()).collect()
    }

    #[test]
    fn label_and_reason_follow_the_inputs_columns() {
        let input = schema(&[("id", DataType::Int64), ("text", DataType::Utf8)]);
        let parts = PartSchema::new(&input, "class", None).unwrap();
        assert_eq!(names(&parts), ["id", "text", "class", "class_reason"]);
        assert_eq!((parts.label_column(), parts.reason_column()), ("class", "class_reason"));
    }

    #[test]
    fn an_existing_label_column_of_our_name_is_replaced_at_the_end() {
        let input =
            schema(&[("id", DataType::Int64), ("label", DataType::Utf8), ("x", DataType::Utf8)]);
        let parts = PartSchema::new(&input, "label", Some("label")).unwrap();
        assert_eq!(names(&parts), ["id", "x", "label", "label_reason"]);
        let parts = PartSchema::new(&input, "class", Some("label")).unwrap();
        assert_eq!(names(&parts), ["id", "label", "x", "class", "class_reason"]);
    }

    #[test]
    fn a_taken_name_is_refused_with_the_way_out() {
        let input = schema(&[("label", DataType::Utf8)]);
        let error = PartSchema::new(&input, "label", None).unwrap_err().to_string();
        assert!(error.contains("existing_label") && error.contains("--label-column"), "{error}");
        let input = schema(&[("label_reason", DataType::Utf8)]);
        let error = PartSchema::new(&input, "label", None).unwrap_err();
        assert!(matches!(error, PartSchemaError::ReasonTaken { .. }));
    }

    #[test]
    fn a_column_that_parquet_can_not_hold_is_named() {
        let to =
            |values: DataType| DataType::Dictionary(Box::new(DataType::Int8), Box::new(values));
        for odd in [
            DataType::Struct(Fields::empty()),
            DataType::Interval(IntervalUnit::MonthDayNano),
            to(DataType::Boolean),
            to(DataType::Float16),
        ] {
            let error = PartSchema::new(&schema(&[("odd", odd.clone())]), "label", None);
            let error = error.expect_err(&odd.to_string());
            assert!(
                matches!(&error, PartSchemaError::Unsupported { column, .. } if column == "odd")
            );
        }
        let twice = schema(&[("a", DataType::Utf8), ("a", DataType::Utf8)]);
        let error = PartSchema::new(&twice, "label", None).unwrap_err();
        assert_eq!(error, PartSchemaError::Repeated { column: "a".into() });
    }

    fn selected(columns: &[&str], text: &str) -> Result<PartSchema, PartSchemaError> {
        let input = schema(&[
            ("id", DataType::Int64),
            ("text", DataType::Utf8),
            ("label", DataType::Utf8),
            ("city", DataType::Utf8),
        ]);
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let text = Template::parse(text).unwrap();
        let selection = Selection { columns: &columns, id: "id", text: &text };
        PartSchema::select(&input, "label", None, selection)
    }

    #[test]
    fn named_columns_go_along_in_their_order_and_the_id_with_them() {
        let parts = selected(&["city", "text"], "{text}").unwrap();
        assert_eq!(names(&parts), ["id", "city", "text", "label", "label_reason"]);
        assert_eq!(parts.hash_column(), None);
        let parts = selected(&["city", "id"], "{text}").unwrap();
        assert_eq!(names(&parts), ["city", "id", "label_text_hash", "label", "label_reason"]);
        assert_eq!(names(&selected(&[], "id").unwrap()), ["id", "label", "label_reason"]);
    }

    #[test]
    fn a_column_called_like_the_labels_is_refused_only_if_it_goes_along() {
        assert!(matches!(selected(&["label"], "text"), Err(PartSchemaError::Taken { .. })));
        assert!(selected(&["text"], "{text} {label}").unwrap().hash_column().is_some());
        let twice = selected(&["city", "id", "city"], "text").unwrap_err();
        assert_eq!(twice, PartSchemaError::Twice { column: "city".into() });
    }

    #[test]
    fn rows_go_along_with_the_hash_of_a_text_that_does_not() {
        let parts = selected(&["city"], "text").unwrap();
        let strings = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        let columns = ["id", "text", "label", "city"].map(|name| (name, strings(vec![None, None])));
        let mut columns = columns.to_vec();
        columns[0].1 = Arc::new(arrow::array::Int64Array::from(vec![1, 2]));
        columns[3].1 = strings(vec![Some("Leeds"), None]);
        let rows = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, values)| (name, values, true)),
        );
        let hashes = [Some(TextHash::of("a")), None];
        let carried = parts.carry(&rows.unwrap(), hashes.into_iter()).unwrap();
        assert_eq!(carried.column(1).as_string::<i32>().value(0), "Leeds");
        assert_eq!(parts.hashes(&carried).unwrap(), hashes);
        let ours = strings(vec![None, None]).as_string::<i32>().clone();
        let part = parts.join(&carried, ours.clone(), ours).unwrap();
        assert_eq!(parts.split(&part).unwrap(), carried);
    }

    #[test]
    fn columns_that_can_not_stand_beside_finished_ones_are_named() {
        let columns = [("id", DataType::Int64), ("text", DataType::Utf8)];
        let parts = PartSchema::new(&schema(&columns), "label", None).unwrap();
        assert_eq!(parts.differences_from(parts.output()), []);

        let mut strict = schema(&columns).fields().to_vec();
        strict[1] = Arc::new(Field::new("text", DataType::Utf8, false));
        let strict = PartSchema::new(&Schema::new(strict), "label", None).unwrap();
        assert_eq!(parts.differences_from(strict.output()), []);
        assert_eq!(strict.differences_from(parts.output()).len(), 1, "it may hold nulls already");

        let columns = [("id", DataType::Utf8), ("text", DataType::Utf8)];
        let other = PartSchema::new(&schema(&columns), "label", None).unwrap();
        let found: Vec<String> =
            other.differences_from(parts.output()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["column 1 of the parts: was `id` (Int64), is now `id` (Utf8)"]);
        let fewer = PartSchema::new(&schema(&columns[..1]), "label", None).unwrap();
        assert_eq!(fewer.differences_from(other.output()).len(), 3);
    }
}
