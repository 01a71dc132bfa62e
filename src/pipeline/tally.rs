//! What a run counts of itself: rows by source, calls, tokens, failures by kind.

use std::collections::BTreeMap;

use super::share::Share;
use crate::domain::event::Source;
use crate::domain::{Billed, Event, EventSink, Tokens, Usage};
use crate::output::Spent;

/// Counters of one run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Calls sent.
    pub(super) calls: u64,
    /// Calls answered.
    pub(super) answered: u64,
    /// Tokens as charged.
    pub(super) tokens: u64,
    /// Tokens of requests, as the provider reported them.
    pub(super) prompt_tokens: u64,
    /// Tokens of replies, as the provider reported them.
    pub(super) completion_tokens: u64,
    /// Rows labelled in this run, from whatever source.
    pub(super) labelled: u64,
    /// Rows that ended without a label in this run.
    pub(super) unlabelled: u64,
    /// Rows with an outcome that stands in the journal and in no part yet.
    pub(super) unwritten: u64,
    /// Rows that ended by a reply, or were given up on after they were asked.
    pub(super) asked: u64,
    /// Rows kept apart, for what their texts say.
    pub(super) isolated: u64,
    /// Rows asked a second time, and those of them that were answered otherwise.
    pub(super) probed: Share,
    /// Failed calls by kind.
    pub(super) failures: BTreeMap<&'static str, u64>,
    /// What this run's calls were billed for; those without an account in the worst case.
    pub(super) billed: Billed,
    /// Spent since the last sealed part.
    spent: Spent,
    /// Settled since the last report.
    news: BTreeMap<Source, (u64, u64)>,
    /// Over all runs: rows that the model has labelled.
    answers_with_label: u64,
}

impl Tally {
    /// A tally that begins where earlier runs have labelled this many rows.
    pub(super) fn of_job(labelled_before: u64) -> Tally {
        Tally { answers_with_label: labelled_before, ..Tally::default() }
    }

    pub(super) fn call_started(&mut self) {
        self.calls += 1;
        self.spent.calls += 1;
    }

    pub(super) fn call_answered(&mut self, charged: Tokens, usage: &Usage) {
        self.answered += 1;
        self.tokens += u64::from(charged.0);
        self.prompt_tokens += u64::from(usage.prompt.0);
        self.completion_tokens += u64::from(usage.completion.0);
        self.spent.prompt_tokens += u64::from(usage.prompt.0);
        self.spent.completion_tokens += u64::from(usage.completion.0);
        let billed = Billed::of_usage(usage);
        self.spent.cached_tokens += billed.cached;
        self.spent.cache_write_tokens += billed.written;
    }

    pub(super) fn call_failed(&mut self, kind: &'static str) {
        *self.failures.entry(kind).or_default() += 1;
    }

    pub(super) fn settled(&mut self, source: Source, is_labelled: bool) {
        self.asked += u64::from(source == Source::Reply);
        let (labelled, unlabelled) = self.news.entry(source).or_default();
        if is_labelled {
            *labelled += 1;
            self.labelled += 1;
            self.answers_with_label += u64::from(source == Source::Reply);
        } else {
            *unlabelled += 1;
            self.unlabelled += 1;
        }
    }

    /// Whether the model has labelled any row of this job.
    pub(super) fn has_labelled(&self) -> bool {
        self.answers_with_label > 0
    }

    /// What was spent since this was last asked; it goes into a part's record.
    pub(super) fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// Tells of the rows settled since the last report.
    pub(super) fn report(&mut self, events: &dyn EventSink) {
        for (source, (labelled, unlabelled)) in std::mem::take(&mut self.news) {
            events.emit(Event::RowsSettled { source, labelled, unlabelled });
        }
    }
}
