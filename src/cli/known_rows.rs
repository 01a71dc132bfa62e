//! `fit` in `[model]` to the rows that the embedded scorer learns from.
//!
//! They are read like the job's own rows: the same template, the same way of reading text files.
//! Rows without a text or a label teach nothing and are left out.

use std::path::PathBuf;

use super::console::one_line;
use crate::domain::spec::{IdSource, InputSpec, OnDuplicateId};
use crate::domain::{
    Codebook, KnownRows, Location, LocationError, Position, PositionRange, Reading,
};
use crate::input::{InputError, OrderedInput};
use crate::llm::fitted_scorer::MAX_TEXT_BYTES;

/// Why there is nothing to learn from.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// A hosted model learns nothing.
    #[error(
        "fit in [model] teaches the embedded scorer and does nothing with provider = \"openai\"; \
         leave it out"
    )]
    Hosted,
    /// A column of labels and no rows.
    #[error("fit_label in [model] names a column of the file that `fit` names; name that too")]
    NoFile,
    /// Rows, and nobody said where their labels are.
    #[error(
        "fit in [model] needs the column with the known labels: fit_label = \"...\" in [model], or \
         gold = \"...\" in [input]"
    )]
    NoLabelColumn,
    /// The file is no place.
    #[error("fit in [model]")]
    Location(#[from] LocationError),
    /// The rows.
    #[error("can't learn from {file}")]
    Unreadable {
        /// The file, as it was named.
        file: String,
        /// Why.
        source: Box<InputError>,
    },
    /// A label that the job doesn't have.
    #[error(
        "`{label}` in the column `{column}`, row {row} of {file}, is the name of no label; name it \
         in [[labels]], or leave such rows out"
    )]
    UnknownLabel {
        /// What stands there.
        label: String,
        /// In which column.
        column: String,
        /// Which row, from 1, headers not counted.
        row: u64,
        /// The file, as it was named.
        file: String,
    },
    /// Nothing to tell apart.
    #[error(
        "{file} has rows with a text and a label for {labels} of the job's labels; two are needed \
         to learn what tells them apart"
    )]
    TooFew {
        /// The file, as it was named.
        file: String,
        /// Labels that have rows.
        labels: usize,
    },
    /// More than is held in memory.
    #[error(
        "the texts in {file} have more than {} MiB; a sample of its rows teaches as much",
        MAX_TEXT_BYTES >> 20
    )]
    TooLarge {
        /// The file, as it was named.
        file: String,
    },
}

/// Most characters of a label that an error repeats.
const SHOWN: usize = 60;

/// The rows of `fit` with their labels in `label_column`; `input` says how the job's rows are read.
///
/// # Errors
/// If the file can't be read, holds a label that `codebook` has not, has rows for fewer than two
/// labels, or more text than [`MAX_TEXT_BYTES`].
pub(super) fn known_rows(
    fit: PathBuf,
    label_column: String,
    input: &InputSpec,
    codebook: &Codebook,
) -> Result<KnownRows, FitError> {
    let location = Location::parse(fit.as_os_str())?;
    let file = location.to_string();
    let spec = InputSpec {
        location,
        // The job's input may be of another format; what else is said of text files holds here too.
        reading: Reading { format: None, ..input.reading.clone() },
        id: IdSource::RowNumber,
        existing_label: Some(label_column.clone()),
        gold: None,
        columns: Some(Vec::new()),
        on_duplicate_id: OnDuplicateId::Error,
        ..input.clone()
    };
    let unreadable = |source: InputError| {
        let (file, source) = (file.clone(), Box::new(source));
        FitError::Unreadable { file, source }
    };
    let opened = OrderedInput::open(&spec).map_err(unreadable)?;
    let everything = PositionRange { first: Position(0), rows: opened.rows() };
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for chunk in opened.read(vec![everything]).map_err(unreadable)? {
        let chunk = chunk.map_err(unreadable)?;
        for (number, row) in (chunk.first.0 + 1..).zip(chunk.rows) {
            let (Some(text), Some(name)) = (row.text, row.existing_label) else { continue };
            let label = codebook.index_of_name(&name).ok_or_else(|| FitError::UnknownLabel {
                label: one_line(&name).chars().take(SHOWN).collect(),
                column: label_column.clone(),
                row: number,
                file: file.clone(),
            })?;
            bytes += text.len();
            if bytes > MAX_TEXT_BYTES {
                return Err(FitError::TooLarge { file });
            }
            rows.push((text, label));
        }
    }
    let labels = codebook.labels().len();
    let known = KnownRows::new(rows, labels);
    match labels - known.labels_without_rows() {
        labels @ 0..2 => Err(FitError::TooFew { file, labels }),
        _ => Ok(known),
    }
}
