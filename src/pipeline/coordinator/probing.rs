//! Probes: which labels are kept to be asked again, and what the second answers lead to.

use std::num::NonZeroUsize;

use super::super::back_off::{Decision, Step};
use super::super::probes::{News, Probe};
use super::super::settlement::Verdict;
use super::Coordinator;
use crate::domain::Event;
use crate::llm::reply_matcher::Answer;

impl Coordinator<'_> {
    /// Keeps some of the rows that a call of `rows` rows labelled, to ask them again later.
    pub(super) fn note_labels(&mut self, verdict: &Verdict, rows: usize) {
        let settled = verdict.settled.iter().map(|(row, outcome)| (row, outcome));
        let packer = &self.parts.packer;
        self.parts.probes.note(settled, rows, |row| !packer.is_apart(row));
    }

    /// Counts second answers, tells of them, and changes the rows per call if they say so.
    pub(super) fn take_probed(&mut self, probed: &[(Probe, Answer)]) {
        let Some(News { recent, all, rows_per_call, decision }) =
            self.parts.probes.take_answers(probed)
        else {
            return;
        };
        if let (Some(recent), Some(run)) = (recent.disagreement(), all.disagreement()) {
            let rows_per_call = rows_per_call as u64;
            self.parts.events.emit(Event::Probed { rows_per_call, recent, run });
        }
        match decision {
            Decision::Stay => {}
            Decision::Step(step) => self.change_rows_per_call(step),
            Decision::NotTheSize(step) => {
                self.change_rows_per_call(step);
                let message = format!(
                    "{} of {} rows that were asked twice, alone, were answered otherwise: the model \
                     disagrees with itself however few rows share a call, so {} share one again; if \
                     that is known, set quality.probe_baseline",
                    step.by.hits, step.by.of, step.to
                );
                self.parts.events.emit(Event::Warning { message });
            }
        }
    }

    fn change_rows_per_call(&mut self, step: Step) {
        let tokens_per_call = self.parts.packer.limits().tokens_per_call;
        let rows_per_call = NonZeroUsize::new(step.to).unwrap_or(NonZeroUsize::MIN);
        let limits = self.parts.line.asker.limits(rows_per_call, tokens_per_call);
        let too_long = self.parts.packer.set_limits(limits);
        self.give_up_too_long(too_long);
        if let Some(disagreement) = step.by.disagreement() {
            self.parts.events.emit(Event::RowsPerCallChanged {
                from: step.from as u64,
                to: step.to as u64,
                disagreement,
                bound: self.job.quality.probe_baseline + self.job.quality.probe_max,
            });
        }
    }
}
