//! The rows of finished parts as those have them: with their text or, where the output leaves that
//! out, with its hash.

use arrow::array::RecordBatch;

use super::merge::Text;
use super::{RunError, setup};
use crate::domain::spec::InputSpec;
use crate::domain::{JobSpec, RowId, TextHash};
use crate::input::{InputRow, RowReader, row_ids};
use crate::output::PartSchema;

/// A row of a part.
#[derive(Debug)]
pub(super) enum StandingRow {
    /// With its text.
    Whole(InputRow),
    /// With the hash of its text, `None` if that is blank.
    Hashed {
        /// Its id.
        id: RowId,
        /// The hash.
        hash: Option<TextHash>,
    },
}

/// Reads the rows of parts.
#[derive(Clone, Debug)]
pub(super) struct StandingRows {
    schema: PartSchema,
    id: String,
    /// Reads rows with their text; `None` where that is left out.
    whole: Option<RowReader>,
    text_columns: Vec<String>,
    /// The column with labels that the input came with, if parts have it.
    existing_label: Option<String>,
    tells_own_labels: bool,
}

impl StandingRows {
    /// A reader of the parts of `job`, which have the columns of `schema`.
    ///
    /// # Errors
    /// If the columns are not what the job takes them for.
    pub(super) fn new(job: &JobSpec, schema: &PartSchema) -> Result<StandingRows, RunError> {
        let goes_along = |column: &String| schema.carried().column_with_name(column).is_some();
        let own = job.input.existing_label.clone();
        let existing_label = own.clone().filter(goes_along);
        let tells_own_labels = own == existing_label;
        let whole = match schema.hash_column() {
            Some(_) => None,
            None => {
                let existing_label = existing_label.clone();
                let (gold, columns) = (None, None);
                let input = InputSpec { existing_label, gold, columns, ..job.input.clone() };
                Some(RowReader::new(schema.carried(), &input)?)
            }
        };
        Ok(StandingRows {
            schema: schema.clone(),
            id: setup::id_column(job).to_owned(),
            whole,
            text_columns: job.input.text.columns().map(str::to_owned).collect(),
            existing_label,
            tells_own_labels,
        })
    }

    /// Whether the text of a row without a label has to be read from the input.
    pub(super) fn lack_text(&self) -> bool {
        self.whole.is_none()
    }

    /// Whether a row's own columns say if its label came with the input.
    pub(super) fn tell_own_labels(&self) -> bool {
        self.tells_own_labels && (self.whole.is_some() || self.existing_label.is_none())
    }

    /// The columns of a part that are read.
    pub(super) fn columns(&self) -> Vec<&str> {
        let mut columns = vec![self.id.as_str()];
        match self.schema.hash_column() {
            Some(hash) => columns.extend([hash, self.schema.label_column()]),
            None => {
                columns.extend(self.text_columns.iter().map(String::as_str));
                columns.extend(self.existing_label.as_deref());
            }
        }
        columns
    }

    /// The rows of `batch`, in its order.
    ///
    /// # Errors
    /// If it lacks a column, or holds an id or a text that can't be read.
    pub(super) fn read(&self, batch: &RecordBatch) -> Result<Vec<StandingRow>, RunError> {
        if let Some(whole) = &self.whole {
            return Ok(whole.rows(batch)?.into_iter().map(StandingRow::Whole).collect());
        }
        let ids = row_ids(batch, &self.id)?;
        let no_hashes = || RunError::Internal("a part without the hashes of its texts".into());
        let hashes = self.schema.hashes(batch).ok_or_else(no_hashes)?;
        Ok(ids.into_iter().zip(hashes).map(|(id, hash)| StandingRow::Hashed { id, hash }).collect())
    }
}

impl StandingRow {
    /// Its id.
    pub(super) fn id(&self) -> &RowId {
        match self {
            StandingRow::Whole(row) => &row.id,
            StandingRow::Hashed { id, .. } => id,
        }
    }

    /// Its id, and its text as far as it is known.
    pub(super) fn into_text(self) -> (RowId, Text) {
        match self {
            StandingRow::Whole(row) => (row.id, Text::of(row.text)),
            StandingRow::Hashed { id, hash } => (id, hash.map_or(Text::Blank, Text::Hash)),
        }
    }
}
