//! What a run has to say at its end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::Stopped;
use super::tally::Tally;
use crate::domain::event::{Disagreement, RunEnd};
use crate::domain::{Billed, Event, Plan, Reason};
use crate::output::PartRecord;

/// The end of a run, in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct RunReport {
    /// How it ended.
    pub end: RunEnd,
    /// What stopped it, in words, if something did.
    pub stopped_by: Option<String>,
    /// What has to be done before the same command can go on, such as `free space`.
    pub remedy: Option<&'static str>,
    /// Planned rows.
    pub rows: u64,
    /// Rows with a label in committed parts, over all runs.
    pub labelled: u64,
    /// Rows without one in committed parts, by reason, over all runs.
    pub unlabelled: BTreeMap<Reason, u64>,
    /// Of those, rows that stand in no file until the output is finished.
    pub absent: u64,
    /// The files of committed parts, by name, in order.
    pub files: Vec<String>,
    /// Calls of this run.
    pub calls: u64,
    /// Failed calls of this run, by kind.
    pub failures: BTreeMap<&'static str, u64>,
    /// Tokens of this run's requests, as the provider reported them.
    pub prompt_tokens: u64,
    /// Tokens of this run's replies, as the provider reported them.
    pub completion_tokens: u64,
    /// What this run's calls were billed for; those without an account in the worst case.
    pub billed: Billed,
    /// The same over all runs.
    pub billed_in_all: Billed,
    /// Rows that this run settled, from whatever source.
    pub settled: u64,
    /// Of those, rows that the model was asked about.
    pub asked: u64,
    /// Rows that this run kept apart from ordinary ones, for what their texts say.
    pub isolated: u64,
    /// How many labels held when their rows were asked a second time, if any were.
    pub probes: Option<Disagreement>,
    /// Rows whose answers wait in the journal until their part is committed.
    pub unwritten: u64,
    /// How long the run took.
    pub took: Duration,
    /// Repeated ids that were dropped.
    pub dropped_duplicates: u64,
    /// Whether `_SUCCESS` stands.
    pub is_success: bool,
}

impl RunReport {
    /// What stands in the parts with these records, of the rows of `plan`.
    pub(super) fn of_parts<'a>(
        plan: &Plan,
        records: impl Iterator<Item = &'a PartRecord>,
    ) -> RunReport {
        let mut report = RunReport {
            end: RunEnd::Complete,
            stopped_by: None,
            remedy: None,
            rows: plan.rows(),
            labelled: 0,
            unlabelled: BTreeMap::new(),
            absent: 0,
            files: Vec::new(),
            calls: 0,
            failures: BTreeMap::new(),
            prompt_tokens: 0,
            completion_tokens: 0,
            billed: Billed::NOTHING,
            billed_in_all: Billed::NOTHING,
            settled: 0,
            asked: 0,
            isolated: 0,
            probes: None,
            unwritten: 0,
            took: Duration::ZERO,
            dropped_duplicates: 0,
            is_success: false,
        };
        for record in records {
            report.absent += record.absent_rows();
            report.labelled += record.range.rows - record.unlabelled_rows();
            for rows in &record.unlabelled {
                *report.unlabelled.entry(rows.reason).or_default() += rows.rows;
            }
        }
        report
    }

    /// Adds what a run did and how it ended; `billed_before` is what earlier ones were billed for.
    pub(super) fn add_run(
        &mut self,
        tally: Tally,
        billed_before: Billed,
        stopped: Option<Stopped>,
        took: Duration,
    ) {
        self.calls = tally.calls;
        self.failures = tally.failures;
        self.prompt_tokens = tally.prompt_tokens;
        self.completion_tokens = tally.completion_tokens;
        self.billed = tally.billed;
        self.billed_in_all = billed_before + tally.billed;
        self.settled = tally.labelled + tally.unlabelled;
        self.asked = tally.asked;
        self.isolated = tally.isolated;
        self.probes = tally.probed.disagreement();
        self.unwritten = tally.unwritten;
        self.took = took;
        if let Some(stopped) = stopped {
            self.end = stopped.end();
            self.stopped_by = stopped.message();
            self.remedy = stopped.remedy();
        }
    }

    /// The run's last event.
    pub(super) fn event(&self) -> Event {
        Event::RunFinished {
            end: self.end,
            rows: self.rows,
            labelled: self.labelled,
            unlabelled: self.unlabelled_rows(),
            calls: self.calls,
            tokens: self.prompt_tokens + self.completion_tokens,
            seconds: self.took.as_secs_f64(),
            stopped_by: self.stopped_by.clone(),
            isolated: self.isolated,
            probes: self.probes,
        }
    }

    /// Rows without a label in committed parts.
    pub fn unlabelled_rows(&self) -> u64 {
        self.unlabelled.values().sum()
    }

    /// Rows that stand in no committed part yet.
    pub fn rows_left(&self) -> u64 {
        self.rows.saturating_sub(self.labelled + self.unlabelled_rows())
    }
}
