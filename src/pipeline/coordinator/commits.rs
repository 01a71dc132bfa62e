//! Parts out: what goes to the writer when, and what its failures mean for the run.

use super::super::error::Stopped;
use super::super::open_part::Settled;
use super::super::writer::Written;
use super::Coordinator;
use crate::domain::{Event, Moment, Outcome, PartNumber};
use crate::output::{OutputError, PartRecord};

impl Coordinator<'_> {
    pub(super) fn seal(&mut self, settled: Settled) {
        self.watch_labels(&settled);
        self.parts.writer.queue(settled, self.tally.take_spent());
        self.hand_over(self.now());
    }

    /// Warns if the part's labels have left the range of the parts before it.
    fn watch_labels(&mut self, settled: &Settled) {
        let is_models = |outcome: &&Outcome| match outcome {
            Outcome::Labelled(_) => true,
            Outcome::Unlabelled { attempts, .. } => *attempts > 0,
            Outcome::Existing(_) => false,
        };
        let outcomes = settled.part.outcomes.iter().filter(is_models);
        // Of a part that was opened again most rows are from another day.
        if settled.answers * 2 < outcomes.clone().count() as u64 {
            return;
        }
        for found in self.drift.take(outcomes) {
            let message = found.message(&self.job.codebook);
            self.parts.events.emit(Event::Warning { message });
        }
    }

    /// Gives the writer what is due, tells of a commit that does not end, and gives up in time.
    pub(super) fn tend_storage(&mut self) {
        let now = self.now();
        if self.parts.writer.pending() == 0 {
            return;
        }
        if self.storage.give_up_at().is_some_and(|at| at <= now) {
            let failing_for = self.job.give_up_after;
            self.parts.writer.abandon();
            let why = match self.storage_error.take() {
                Some(error) => Stopped::StorageFailing { error, failing_for },
                None => Stopped::StorageSilent { silent_for: failing_for },
            };
            return self.stop(why);
        }
        self.hand_over(now);
        if let Some((part, pending)) = self.storage.take_stall(now) {
            self.parts.events.emit(Event::CommitStalled { part, seconds: pending.as_secs_f64() });
        }
    }

    /// When to look after the writer again, if nothing is heard of it before.
    pub(super) fn next_look_at_storage(&self) -> Option<Moment> {
        if self.parts.writer.pending() > 0 { self.storage.next_look(self.now()) } else { None }
    }

    fn hand_over(&mut self, now: Moment) {
        if !self.storage.may_commit(now) {
            return;
        }
        if let Some(part) = self.parts.writer.start_next() {
            self.storage.begun(part, now);
        }
    }

    pub(super) fn take_written(&mut self, written: Written) {
        match written {
            Written::Committed(record) => self.take_committed(*record),
            Written::Failed(part, error) => self.take_failed_commit(part, error),
        }
    }

    fn take_committed(&mut self, record: PartRecord) {
        self.storage.committed();
        self.storage_error = None;
        self.parts.events.emit(Event::PartCommitted {
            part: record.part,
            rows: record.range.rows,
            unlabelled: record.unlabelled_rows(),
            bytes: record.bytes,
        });
        let noted = self.parts.line.journal().part_committed(record.part);
        if let Err(error) = noted {
            self.stop(Stopped::Storage(error.into()));
        }
        self.hand_over(self.now());
    }

    /// What passes is tried again; anything else ends the run, and nothing more is committed.
    fn take_failed_commit(&mut self, part: PartNumber, error: OutputError) {
        let now = self.now();
        let next_try = self.storage.failed(now).filter(|_| error.is_retryable());
        self.parts.events.emit(Event::CommitFailed {
            part,
            failures: self.storage.failures(),
            message: super::super::error::with_sources(&error),
            retry_in: next_try.map(|at| at.since(now).as_secs_f64()),
        });
        match next_try {
            Some(_) => {
                self.storage_error = Some(error);
                self.hand_over(now);
            }
            None => {
                self.parts.writer.abandon();
                self.stop(Stopped::Storage(error));
            }
        }
    }
}
