//! Wanted rows of the input by number, however many of its chunks they are scattered over.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::RunError;
use crate::input::{InputReader, InputRow};

/// The rows of a reader that were not taken yet.
pub(super) struct InputRows {
    chunks: InputReader,
    rest: Option<(RecordBatch, Vec<InputRow>)>,
}

impl InputRows {
    pub(super) fn new(chunks: InputReader) -> InputRows {
        InputRows { chunks, rest: None }
    }

    /// The next rows, at least one and at most `most`, in one batch: those that were read at once,
    /// which are few if they are wide.
    ///
    /// # Errors
    /// If the input can't be read, or has no more rows.
    pub(super) fn some(&mut self, most: usize) -> Result<(RecordBatch, Vec<InputRow>), RunError> {
        let (batch, mut rows) = self.next_batch()?;
        if rows.len() > most {
            let rest = rows.split_off(most);
            self.rest = Some((batch.slice(most, rest.len()), rest));
        }
        Ok((batch.slice(0, rows.len()), rows))
    }

    /// The next `count` rows, at least one, in one batch.
    ///
    /// # Errors
    /// If the input can't be read, or has fewer rows.
    pub(super) fn next(&mut self, count: usize) -> Result<(RecordBatch, Vec<InputRow>), RunError> {
        let (mut batches, mut rows) = (Vec::new(), Vec::new());
        while rows.len() < count {
            let (batch, mut more) = self.some(count - rows.len())?;
            batches.push(batch);
            rows.append(&mut more);
        }
        match batches.as_slice() {
            [whole] => Ok((whole.clone(), rows)),
            [first, ..] => {
                let joined = concat_batches(first.schema_ref(), &batches);
                let joined = joined.map_err(|error| RunError::Internal(error.to_string()))?;
                Ok((joined, rows))
            }
            [] => Err(too_few()),
        }
    }

    fn next_batch(&mut self) -> Result<(RecordBatch, Vec<InputRow>), RunError> {
        if let Some(rest) = self.rest.take() {
            return Ok(rest);
        }
        let chunk = self.chunks.next().ok_or_else(too_few)??;
        Ok((chunk.columns, chunk.rows))
    }
}

fn too_few() -> RunError {
    RunError::Internal("the input gave fewer rows than were wanted".to_owned())
}
