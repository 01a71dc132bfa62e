//! Rows that came to nothing when they were asked alone, or before any row of the job was labelled,
//! until it is known whose fault that is.
//!
//! Where the model labels other rows meanwhile, it was theirs. Where it labels none, the prompt, a
//! setting or the service is at fault, and no row is to pay for it with an attempt. Pure.

use crate::domain::{Outcome, Reason, Row};

/// So many, and none labelled in the job: the prompt itself is refused.
const AT_FIRST: usize = 5;
/// So many in a row in a job that has labels: the service has changed its mind.
const IN_A_ROW: usize = 50;

/// Rows whose outcome is not believed yet.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    rows: Vec<(Row, Outcome)>,
}

/// What the suspects mean by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing yet.
    Open,
    /// Their outcomes stand.
    TheirOwn,
    /// The run is to stop, and they are nobody's but the prompt's, a setting's or the service's.
    NotTheirs,
}

impl Suspects {
    /// Adds a row that came to nothing alone.
    pub(super) fn add(&mut self, row: Row, outcome: Outcome) {
        self.rows.push((row, outcome));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Hands them out.
    pub(super) fn take(&mut self) -> Vec<(Row, Outcome)> {
        std::mem::take(&mut self.rows)
    }

    /// What they mean while calls go on; `has_labelled` is whether the job has any label.
    pub(super) fn finding(&self, has_labelled: bool) -> Finding {
        match (has_labelled, self.len()) {
            (false, AT_FIRST..) => Finding::NotTheirs,
            // A filter may well refuse many rows that stand together; all else is never theirs.
            (true, IN_A_ROW..) if !self.are_refused() => Finding::NotTheirs,
            (true, IN_A_ROW..) => Finding::TheirOwn,
            _ => Finding::Open,
        }
    }

    /// What they mean where nothing goes on without them.
    pub(super) fn finding_at_a_standstill(&self, has_labelled: bool) -> Finding {
        match self.finding(has_labelled) {
            Finding::Open if self.is_empty() => Finding::Open,
            Finding::Open if !has_labelled && !self.are_refused() => Finding::NotTheirs,
            Finding::Open => Finding::TheirOwn,
            found => found,
        }
    }

    /// Whether each of them was refused for what is in it.
    fn are_refused(&self) -> bool {
        let is_refused = |outcome: &Outcome| {
            matches!(outcome, Outcome::Unlabelled { reason: Reason::Refused, .. })
        };
        self.rows.iter().all(|(_, outcome)| is_refused(outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Position, RowId, TextHash, Tokens};

    fn suspects(count: usize, reason: Reason) -> Suspects {
        let mut suspects = Suspects::default();
        for number in 0..count as u64 {
            let row = Row {
                position: Position(number),
                id: RowId::Integer(number.into()),
                text: "x".into(),
                text_hash: TextHash::of("x"),
                tokens: Tokens(5),
                attempts: 1,
            };
            suspects.add(row, Outcome::Unlabelled { reason, attempts: 1 });
        }
        suspects
    }

    #[test]
    fn a_job_without_a_label_blames_the_prompt_after_a_few() {
        assert_eq!(suspects(AT_FIRST - 1, Reason::Refused).finding(false), Finding::Open);
        assert_eq!(suspects(AT_FIRST, Reason::Refused).finding(false), Finding::NotTheirs);
    }

    #[test]
    fn refused_rows_that_stand_together_are_refused_but_rejections_stop_the_run() {
        assert_eq!(suspects(IN_A_ROW - 1, Reason::Refused).finding(true), Finding::Open);
        assert_eq!(suspects(IN_A_ROW, Reason::Refused).finding(true), Finding::TheirOwn);
        assert_eq!(suspects(IN_A_ROW, Reason::ProviderError).finding(true), Finding::NotTheirs);
    }

    #[test]
    fn at_a_standstill_a_few_rows_are_settled_unless_a_setting_may_be_at_fault() {
        let at_a_standstill = |count, reason, has_labelled| {
            suspects(count, reason).finding_at_a_standstill(has_labelled)
        };
        assert_eq!(at_a_standstill(0, Reason::Refused, false), Finding::Open);
        assert_eq!(at_a_standstill(2, Reason::Refused, false), Finding::TheirOwn);
        assert_eq!(at_a_standstill(2, Reason::ProviderError, false), Finding::NotTheirs);
        assert_eq!(at_a_standstill(2, Reason::ProviderError, true), Finding::TheirOwn);
    }
}
