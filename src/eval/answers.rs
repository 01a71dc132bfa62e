//! The labels of an output, read back from its parts one at a time.

use arrow::array::{Array as _, AsArray as _, RecordBatch};

use crate::domain::spec::IdSource;
use crate::domain::{JobSpec, LabelIndex, RowId};
use crate::input::{InputError, ROW_NUMBER_COLUMN, row_ids};
use crate::output::{OutputError, OutputFolder, PartError, PartScan, Spent};

/// Why answers can't be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum AnswersError {
    /// The output can't be used.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A part can't be read.
    #[error("the kept answers can't be read")]
    Part(#[from] PartError),
    /// A part has ids that can't be read.
    #[error("the kept answers can't be read")]
    Ids(#[from] InputError),
    /// A part has no such column.
    #[error("the kept answers in {part} have no text column `{column}`")]
    NoColumn {
        /// The part's file.
        part: String,
        /// The column.
        column: String,
    },
    /// The rows can't be put into a file.
    #[error("the rows can't be put into a Parquet file")]
    Encode(#[source] parquet::errors::ParquetError),
    /// The job has no identity.
    #[error("the job can't be told from others: the machine gives no random numbers")]
    Identity,
}

/// Hands each row that stands in a part of `job`'s output to `take`, with its label if it has one;
/// says what all of them cost. An output that was not begun has none.
///
/// # Errors
/// If the output or a part can't be read.
pub fn read_answers(
    job: &JobSpec,
    mut take: impl FnMut(RowId, Option<LabelIndex>),
) -> Result<Spent, AnswersError> {
    let folder = OutputFolder::at(&job.output.location, &job.output.cloud);
    let folder = folder.map_err(OutputError::from)?;
    let Some(found) = folder.look()? else { return Ok(Spent::default()) };
    let id = match &job.input.id {
        IdSource::Column(name) => name.as_str(),
        IdSource::RowNumber => ROW_NUMBER_COLUMN,
    };
    let label = job.output.label_column.as_str();
    for name in found.file_names() {
        let bytes = folder.store().read(&name).map_err(OutputError::from)?;
        for batch in PartScan::open(&name, bytes, found.fingerprint, &[id, label])? {
            let batch = batch?;
            let labels = labels(&batch, label, job).ok_or_else(|| AnswersError::NoColumn {
                part: name.clone(),
                column: label.to_owned(),
            })?;
            for (id, label) in row_ids(&batch, id)?.into_iter().zip(labels) {
                take(id, label);
            }
        }
    }
    Ok(found.spent)
}

fn labels(batch: &RecordBatch, column: &str, job: &JobSpec) -> Option<Vec<Option<LabelIndex>>> {
    let labels = batch.column_by_name(column)?.as_string_opt::<i32>()?;
    let of = |row| labels.is_valid(row).then(|| labels.value(row));
    Some((0..batch.num_rows()).map(|row| job.codebook.index_of_name(of(row)?)).collect())
}
