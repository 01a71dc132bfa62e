//! The columns of every part of an output: the input's, then the label and the reason.
//!
//! Fixed before the first part, so that all parts read as one table.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use parquet::arrow::ArrowSchemaConverter;

use super::difference::Difference;

/// The input's columns and those of its parts.
#[derive(Clone, Debug)]
pub struct PartSchema {
    input: SchemaRef,
    output: SchemaRef,
    /// Where the input's label column stands if ours takes its place.
    replaced: Option<usize>,
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
    /// The schema of parts for an input with the columns `input`. If `existing_label` is
    /// `label_column` itself, our column takes the place of the input's, at the end.
    ///
    /// # Errors
    /// If a name is taken, or a column can't be stored.
    pub fn new(
        input: &Schema,
        label_column: &str,
        existing_label: Option<&str>,
    ) -> Result<PartSchema, PartSchemaError> {
        let position = |name: &str| input.fields().iter().position(|field| field.name() == name);
        if let Some(column) = existing_label {
            let at = position(column)
                .ok_or_else(|| PartSchemaError::NoExistingLabel { column: column.to_owned() })?;
            check_labels(input.field(at))?;
        }
        let replaced = position(label_column);
        if replaced.is_some() && existing_label != Some(label_column) {
            return Err(PartSchemaError::Taken { column: label_column.to_owned() });
        }
        let reason_column = format!("{label_column}_reason");
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
        let input = Arc::new(Schema::new(input.fields().clone()));
        Ok(PartSchema { input, output: Arc::new(Schema::new(fields)), replaced })
    }

    /// The input's columns.
    pub fn input(&self) -> &SchemaRef {
        &self.input
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

    /// A part's rows of the input's rows and ours.
    ///
    /// # Errors
    /// If `rows` has other columns than the input, or the lengths differ.
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

    /// The input's rows of a part's rows; a replaced label column comes back with the labels that
    /// stand in the part.
    ///
    /// # Errors
    /// If `part` has other columns than a part, or a label can't take the type of the input's.
    pub(super) fn split(&self, part: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let ours = self.output.fields().len() - 2;
        let mut columns: Vec<ArrayRef> = part.columns()[..ours].to_vec();
        if let Some(at) = self.replaced {
            let labels = cast(part.column(ours), self.input.field(at).data_type())?;
            columns.insert(at, labels);
        }
        RecordBatch::try_new(self.nullable_input(), columns)
    }

    /// The input's columns as a part gives them back: rows without a label have none in a column
    /// that was never null in the input.
    fn nullable_input(&self) -> SchemaRef {
        match self.replaced {
            Some(at) if !self.input.field(at).is_nullable() => {
                let mut fields = self.input.fields().to_vec();
                fields[at] = Arc::new(fields[at].as_ref().clone().with_nullable(true));
                Arc::new(Schema::new(fields))
            }
            _ => Arc::clone(&self.input),
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

/// Labels are texts, or something that reads as a text and back.
fn check_labels(field: &Field) -> Result<(), PartSchemaError> {
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

fn check_storable(field: &Arc<Field>) -> Result<(), PartSchemaError> {
    let alone = Schema::new(vec![Arc::clone(field)]);
    if ArrowSchemaConverter::new().convert(&alone).is_ok() {
        return Ok(());
    }
    let data_type = field.data_type().to_string();
    Err(PartSchemaError::Unsupported { column: field.name().clone(), data_type })
}

#[cfg(test)]
mod tests {
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
        let empty = DataType::Struct(arrow::datatypes::Fields::empty());
        let error = PartSchema::new(&schema(&[("odd", empty)]), "label", None).unwrap_err();
        assert!(matches!(&error, PartSchemaError::Unsupported { column, .. } if column == "odd"));
        let twice = schema(&[("a", DataType::Utf8), ("a", DataType::Utf8)]);
        let error = PartSchema::new(&twice, "label", None).unwrap_err();
        assert_eq!(error, PartSchemaError::Repeated { column: "a".into() });
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
