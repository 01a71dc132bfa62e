//! The values of one column of NDJSON, gathered row by row: one a row, and null where a row has none.

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow::datatypes::DataType;

use super::json_line::Value;

/// The values of a column so far.
pub(super) enum Values {
    Integers(Int64Builder),
    Numbers(Float64Builder),
    Bools(BooleanBuilder),
    Strings(StringBuilder),
}

impl Values {
    pub(super) fn new(data_type: &DataType) -> Values {
        match data_type {
            DataType::Int64 => Values::Integers(Int64Builder::new()),
            DataType::Float64 => Values::Numbers(Float64Builder::new()),
            DataType::Boolean => Values::Bools(BooleanBuilder::new()),
            _ => Values::Strings(StringBuilder::new()),
        }
    }

    fn builder(&mut self) -> &mut dyn arrow::array::ArrayBuilder {
        match self {
            Values::Integers(values) => values,
            Values::Numbers(values) => values,
            Values::Bools(values) => values,
            Values::Strings(values) => values,
        }
    }

    /// Appends the value of row number `row` (from 1); `None` if it is not of the type, or the row
    /// has one.
    pub(super) fn push(&mut self, value: Value<'_>, row: usize) -> Option<()> {
        if self.builder().len() >= row {
            return None;
        }
        let text = value.text().ok()?;
        match self {
            Values::Integers(values) => values.append_option(parsed(text.as_deref())?),
            Values::Numbers(values) => values.append_option(parsed(text.as_deref())?),
            Values::Bools(values) => values.append_option(parsed(text.as_deref())?),
            Values::Strings(values) => values.append_option(text),
        }
        Some(())
    }

    /// Appends a null if row number `row` has no value yet.
    pub(super) fn fill(&mut self, row: usize) {
        if self.builder().len() >= row {
            return;
        }
        match self {
            Values::Integers(values) => values.append_null(),
            Values::Numbers(values) => values.append_null(),
            Values::Bools(values) => values.append_null(),
            Values::Strings(values) => values.append_null(),
        }
    }

    pub(super) fn finish(&mut self) -> ArrayRef {
        self.builder().finish()
    }
}

/// The value, or null; `None` if it is not of the type.
fn parsed<T: std::str::FromStr>(text: Option<&str>) -> Option<Option<T>> {
    text.map(|text| text.parse().ok()).map_or(Some(None), |value| value.map(Some))
}
