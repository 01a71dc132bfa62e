//! Which columns a summary reads, and whether the counting engine can open the file at all.
//!
//! The engine panics on a few types, also in columns that nobody reads; the footer is looked at
//! first, so that such a file gets a sentence.

use std::fs::File;
use std::path::Path;

use arrow::datatypes::{DataType, Schema};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::SummaryError;

/// What a column of a part is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnUse {
    /// It holds the label.
    Label,
    /// It says why there is none.
    Reason,
    /// It holds the known answer.
    Gold,
}

impl std::fmt::Display for ColumnUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ColumnUse::Label => "label column",
            ColumnUse::Reason => "reason column",
            ColumnUse::Gold => "gold column",
        })
    }
}

/// The columns of a summary, by name.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) label: String,
    pub(super) reason: String,
    pub(super) gold: Option<String>,
}

impl Wanted {
    fn uses(&self) -> impl Iterator<Item = (ColumnUse, &str)> {
        [(ColumnUse::Label, &self.label), (ColumnUse::Reason, &self.reason)]
            .into_iter()
            .chain(self.gold.as_ref().map(|gold| (ColumnUse::Gold, gold)))
            .map(|(of, name)| (of, name.as_str()))
    }
}

/// Whether `part` has the wanted columns, in types that can be counted. The other parts of a job
/// have the same schema.
pub(super) fn check(part: &Path, wanted: &Wanted) -> Result<(), SummaryError> {
    let file =
        File::open(part).map_err(|source| SummaryError::Open { part: part.to_owned(), source })?;
    let footer = ArrowReaderMetadata::load(&file, Default::default())
        .map_err(|source| SummaryError::Footer { part: part.to_owned(), source })?;
    check_schema(part, footer.schema(), wanted)
}

fn check_schema(part: &Path, schema: &Schema, wanted: &Wanted) -> Result<(), SummaryError> {
    for (of, column) in wanted.uses() {
        let Ok(field) = schema.field_with_name(column) else {
            return Err(SummaryError::NoColumn {
                part: part.to_owned(),
                of,
                column: column.to_owned(),
            });
        };
        if !is_text_like(field.data_type()) {
            return Err(SummaryError::NotText {
                part: part.to_owned(),
                of,
                column: column.to_owned(),
                kind: field.data_type().to_string(),
            });
        }
    }
    match schema.fields().iter().find(|field| !is_known(field.data_type())) {
        None => Ok(()),
        Some(field) => Err(SummaryError::UnknownType {
            part: part.to_owned(),
            column: field.name().clone(),
            kind: field.data_type().to_string(),
        }),
    }
}

/// Whether values of this type have one obvious spelling, as a label's name has.
fn is_text_like(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean => true,
        DataType::Dictionary(_, value) => is_text_like(value),
        kind => kind.is_integer() || kind.is_null(),
    }
}

/// Whether the engine can open a file with a column of this type. What is not listed was not tried.
fn is_known(kind: &DataType) -> bool {
    use DataType::*;
    match kind {
        Null | Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64
        | Float32 | Float64 | Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..)
        | Duration(_) | Binary | LargeBinary | BinaryView | FixedSizeBinary(_) | Utf8
        | LargeUtf8 | Utf8View => true,
        Decimal32(..) | Decimal64(..) | Decimal128(..) => true,
        List(item) | LargeList(item) | FixedSizeList(item, _) | Map(item, _) => {
            is_known(item.data_type())
        }
        Struct(fields) => fields.iter().all(|field| is_known(field.data_type())),
        Dictionary(_, value) => is_known(value),
        _ => false,
    }
}
