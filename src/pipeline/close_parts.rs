//! The end of an output: rows that were given up on get their place, then `_SUCCESS` is written.
//!
//! Where parts can't be replaced, a row without a label stands in no file as long as it may still
//! get one. Once the output is to be finished, the columns of those rows are read from the input
//! again and written with a null label and the reason.

use super::error::{RunError, Stopped};
use super::report::RunReport;
use super::{deserves_success, retry};
use crate::domain::{Clock, JobSpec};
use crate::input::{InputError, InputRow, OrderedInput};
use crate::output::OpenOutput;

/// Finishes the output if few enough rows lack a label; returns whether it is finished.
pub(super) async fn finish(
    job: &JobSpec,
    input: &OrderedInput,
    output: &mut OpenOutput,
    clock: &dyn Clock,
) -> Result<bool, Stopped> {
    output.refuse_stuck().map_err(Stopped::Storage)?;
    if output.is_finished() {
        return Ok(true);
    }
    let stands = RunReport::of_parts(output.plan(), output.records().values());
    if !deserves_success(job, output.known_input(), &stands) {
        return Ok(false);
    }
    let held = retry::persist(clock, || Ok(output.claim().hold(clock.wall())?)).await;
    held.map_err(Stopped::Storage)?;
    give_up(input, output, clock).await?;
    let finished = retry::persist(clock, || output.finish(clock.wall())).await;
    finished.map_err(Stopped::Storage)?;
    Ok(true)
}

/// Writes every row that stands in no file yet.
async fn give_up(
    input: &OrderedInput,
    output: &mut OpenOutput,
    clock: &dyn Clock,
) -> Result<(), Stopped> {
    let open = output.open_parts();
    if open.is_empty() {
        return Ok(());
    }
    let unreadable = |error: InputError| Stopped::Reading(RunError::from(error));
    let ranges = open.iter().map(|(_, range)| *range).collect();
    let mut chunks = input.read(ranges).map_err(unreadable)?;
    for (part, range) in open {
        let mut columns = Vec::new();
        let mut rows = 0;
        // A chunk never goes beyond the end of a range that was asked for.
        while rows < range.rows {
            let Some(chunk) = chunks.next().transpose().map_err(unreadable)? else { break };
            rows += chunk.columns.num_rows() as u64;
            let hashes = chunk.rows.iter().map(InputRow::text_hash);
            let carried = output.reader().schema().carry(&chunk.columns, hashes);
            columns.push(carried.map_err(|source| unreadable(InputError::BadBatch { source }))?);
        }
        let written = retry::persist(clock, || output.give_up(part, &columns, clock.wall())).await;
        written.map_err(Stopped::Storage)?;
    }
    Ok(())
}
