//! How many rows a part is planned with where the job does not say.
//!
//! A part is in memory as a whole until it is written, so those of wide rows hold fewer. Answers of
//! a part that is not whole stand in the journal alone. Where that is kept on another
//! disk than the output, a lost machine takes it along, so parts hold about a minute's worth there.

use std::num::NonZeroU32;

use crate::domain::spec::ROWS_PER_PART;
use crate::domain::{JobSpec, Tokens};
use crate::llm::prompt::Prompt;

/// Bytes that the rows of a part take in memory, about.
const PART_BYTES: u64 = 32 << 20;
/// The fewest rows: smaller parts are more of a burden to readers than a loss is worth.
const FEWEST: u32 = 500;
/// Rows where no limit tells how fast they come.
const WITHOUT_LIMIT: u32 = 10_000;
/// A row of usual length, tokens with its key.
const USUAL_ROW: u32 = 20;

/// Rows in each part of an output whose journal stands beside it, or does not; each takes about
/// `row_bytes` in memory.
pub(super) fn rows_per_part(
    job: &JobSpec,
    prompt: &Prompt,
    is_journal_beside: bool,
    row_bytes: u64,
) -> NonZeroU32 {
    if let Some(rows) = job.output.rows_per_part {
        return rows;
    }
    let rows = if is_journal_beside {
        ROWS_PER_PART
    } else {
        let form = job.model.answer_form;
        let rows = job.batch.rows_per_call.get();
        let reply = prompt.answer_tokens(form, usize::try_from(rows).unwrap_or(usize::MAX));
        let lines = Tokens(USUAL_ROW.saturating_mul(rows));
        let call = prompt.system_tokens(form) + lines + reply;
        a_minutes_rows(job.limits.tokens_per_minute, rows, call)
    };
    NonZeroU32::new(rows.min(rows_in_memory(row_bytes))).unwrap_or(NonZeroU32::MIN)
}

/// The rows, of `row_bytes` each, that a part may have in memory.
fn rows_in_memory(row_bytes: u64) -> u32 {
    u32::try_from(PART_BYTES / row_bytes.max(1)).unwrap_or(u32::MAX)
}

/// The rows that a minute's tokens pay for, in calls of `rows_per_call` rows and `call` tokens.
fn a_minutes_rows(tokens_per_minute: Option<NonZeroU32>, rows_per_call: u32, call: Tokens) -> u32 {
    let Some(limit) = tokens_per_minute else { return WITHOUT_LIMIT };
    let rows = u64::from(limit.get()) * u64::from(rows_per_call) / u64::from(call.0.max(1));
    u32::try_from(rows).unwrap_or(u32::MAX).clamp(FEWEST, ROWS_PER_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_wide_rows_holds_fewer() {
        assert!(rows_in_memory(600) > ROWS_PER_PART);
        assert_eq!(rows_in_memory(1 << 20), 32);
        assert_eq!((rows_in_memory(1 << 30), rows_in_memory(0)), (0, PART_BYTES as u32));
    }

    #[test]
    fn a_part_holds_a_minutes_worth_of_rows() {
        // 50 rows a call for 1,850 tokens, 37 a row.
        let rows = |limit| a_minutes_rows(NonZeroU32::new(limit), 50, Tokens(1_850));
        assert_eq!(rows(200_000), 5_405);
        assert_eq!(rows(1_000), FEWEST);
        assert_eq!(rows(u32::MAX), ROWS_PER_PART);
        assert_eq!(a_minutes_rows(None, 50, Tokens(1_850)), WITHOUT_LIMIT);
        assert_eq!(a_minutes_rows(NonZeroU32::new(9_000), 900, Tokens(0)), ROWS_PER_PART);
    }
}
