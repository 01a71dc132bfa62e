//! Replies in: what the end of a call means for its rows, for the ledger and for the calls to come.

use std::time::Duration;

use super::super::call::{self, CallEnd};
use super::super::error::Stopped;
use super::super::settlement::{
    Circumstances, Parcel, Room, StopReason, Verdict, is_prose, judge_error, judge_reply, split_cut,
};
use super::super::suspects::Finding;
use super::Coordinator;
use crate::domain::event::Source;
use crate::domain::{Billed, Charge, Event, Moment, Outcome, Reason, Tokens};
use crate::llm::asker::PreparedCall;
use crate::llm::batcher::BatchLimits;
use crate::llm::budget::billed_of_failure;
use crate::llm::dialect::StepDown;
use crate::llm::governor::{Failure, Reservation};
use crate::llm::provider::ProviderError;

/// A call that ended without a reply.
struct FailedCall {
    number: u64,
    parcel: Parcel,
    prepared: PreparedCall,
    reservation: Reservation,
    took: Duration,
    error: ProviderError,
}

impl Coordinator<'_> {
    pub(super) fn take_end(&mut self, end: CallEnd) {
        let now = self.now();
        let CallEnd { number, parcel, prepared, reservation, took, probed, result, unjournaled } =
            end;
        let rows = prepared.keys.len() as u64;
        if let Some((record, error)) = unjournaled {
            self.unjournaled.push(record);
            self.stop(Stopped::Storage(error.into()));
        }
        let verdict = match result {
            Ok((reply, matched)) => {
                let charged = self.parts.line.asker.charged(&prepared, &reply);
                let billed = self.parts.line.asker.billed(&prepared, &reply);
                let cost = call::cost(&prepared, &reply);
                self.parts.governor.settle(reservation, charged, now);
                self.parts.governor.observe(reservation, &reply.rate, now);
                self.parts.line.asker.learn(&prepared, &reply);
                self.last_answer = Some(now);
                let usage = reply.usage.unwrap_or_default();
                let prose = is_prose(&reply.content);
                let hidden = usage.reasoning > Tokens::ZERO;
                let circumstances = self.circumstances(now);
                let finish = reply.finish;
                let own_rows = parcel.rows.len();
                let mut verdict = match own_rows {
                    // A lone probe: there is nothing to judge.
                    0 => Verdict::default(),
                    _ => judge_reply(parcel, finish, hidden, prose, &matched, circumstances),
                };
                self.note_labels(&verdict, own_rows);
                self.take_probed(&probed);
                self.raise_or_split(&prepared, &mut verdict);
                self.settle_bill(number, billed);
                self.note_charge(number, charged, billed);
                self.tally.call_answered(cost, &usage);
                self.parts.events.emit(Event::CallFinished {
                    call: number,
                    rows,
                    settled: verdict.settled.len() as u64,
                    prompt_tokens: usage.prompt,
                    completion_tokens: usage.completion,
                    window_tokens: self.parts.governor.window_tokens(now),
                    seconds: took.as_secs_f64(),
                });
                verdict
            }
            Err(error) => {
                let failed = FailedCall { number, parcel, prepared, reservation, took, error };
                self.take_error(failed, now)
            }
        };
        self.carry_out(verdict, now);
    }

    /// A reply that was cut too early asks for more room; where there is none, for fewer rows.
    fn raise_or_split(&mut self, call: &PreparedCall, verdict: &mut Verdict) {
        match verdict.room {
            Room::Enough => {}
            Room::Raise => {
                self.parts.line.asker.raise_output(call);
            }
            Room::RaiseOrSplit => {
                if !self.parts.line.asker.raise_output(call) {
                    let split = split_cut(std::mem::take(&mut verdict.parcels));
                    verdict.parcels = split.parcels;
                    verdict.settled.extend(split.settled);
                    verdict.refused_alone |= split.refused_alone;
                }
            }
        }
    }

    fn take_error(&mut self, failed: FailedCall, now: Moment) -> Verdict {
        let FailedCall { number, mut parcel, prepared, reservation, took, error } = failed;
        let rows = prepared.keys.len() as u64;
        let guests = std::mem::take(&mut parcel.guests);
        self.parts.probes.take_back(guests.into_iter().map(|guest| guest.probe));
        if let ProviderError::RateLimited { rate, retry_after } = &error {
            let rate = if retry_after.is_some() { rate.without_resets() } else { **rate };
            self.parts.governor.observe(reservation, &rate, now);
        }
        let failure = Failure::of(&error, prepared.reserved);
        let retry_in = self.parts.governor.fail(reservation, failure, now);
        self.emit_holds(now);
        let billed = billed_of_failure(&error, prepared.most);
        self.settle_bill(number, billed);
        if billed != prepared.most {
            self.note_charge(number, prepared.reserved, billed);
        }
        if let ProviderError::ParameterRefused { parameter, .. } = &error {
            self.step_down(&prepared, parameter, &error);
        }
        self.tally.call_failed(error.kind());
        self.parts.events.emit(Event::CallFailed {
            call: number,
            rows,
            kind: error.kind().to_owned(),
            status: error.status(),
            message: error.to_string(),
            retry_in: retry_in.map(|wait| wait.as_secs_f64()),
            seconds: took.as_secs_f64(),
        });
        let circumstances = self.circumstances(now);
        let mut verdict = judge_error(parcel, &error, retry_in.unwrap_or_default(), circumstances);
        if let ProviderError::Rejected { .. } = error {
            self.note_rejection(&error, verdict.stop.is_none());
        }
        // Of a lone probe nothing is left to ask.
        verdict.parcels.retain(|parcel| !parcel.rows.is_empty());
        verdict
    }

    /// Every row that was asked alone came to nothing: it is not the rows that are refused.
    pub(super) fn blame_the_prompt(&mut self) {
        let rows = self.suspects.len();
        let why = self
            .last_rejection
            .as_deref()
            .unwrap_or("the model refused, or answered in no form that can be read");
        self.stop(Stopped::Provider(format!(
            "{rows} rows in a row came to nothing and none was labelled: the prompt, a setting or the \
             model is at fault, not the rows ({why})"
        )));
    }

    fn warn_of_refusals(&self) {
        let rows = self.suspects.len();
        let message = format!(
            "{rows} rows in a row were refused and none was labelled meanwhile; if that goes on, \
             stop the run and look at the prompt"
        );
        self.parts.events.emit(Event::Warning { message });
    }

    /// Keeps a rejection's words; the first is told, since rows may end without a label for it.
    fn note_rejection(&mut self, error: &ProviderError, is_halved: bool) {
        let words = error.to_string();
        if is_halved && self.last_rejection.is_none() {
            let message = format!("a call is halved to find the row at fault: {words}");
            self.parts.events.emit(Event::Warning { message });
        }
        self.last_rejection = Some(words);
    }

    /// Writes down what a call was charged and billed for, so that a rerun's ledgers begin where these
    /// are.
    fn note_charge(&mut self, call: u64, charged: Charge, billed: Billed) {
        let noted = self.parts.line.journal().call_settled(call, charged, billed);
        if let Err(error) = noted {
            self.stop(Stopped::Storage(error.into()));
        }
    }

    fn step_down(&mut self, prepared: &PreparedCall, parameter: &str, error: &ProviderError) {
        match self.parts.line.asker.step_down(prepared, parameter) {
            StepDown::Changed(change) => {
                self.parts.events.emit(change.event());
                let limits = self.batch_limits();
                let too_long = self.parts.packer.set_limits(limits);
                self.give_up_too_long(too_long);
            }
            StepDown::AlreadyChanged => {}
            StepDown::Exhausted => self.stop(Stopped::Provider(error.to_string())),
        }
    }

    fn batch_limits(&self) -> BatchLimits {
        let BatchLimits { rows_per_call, tokens_per_call, .. } = *self.parts.packer.limits();
        self.parts.line.asker.limits(rows_per_call, tokens_per_call)
    }

    fn circumstances(&self, now: Moment) -> Circumstances {
        Circumstances {
            max_attempts: self.job.batch.max_attempts,
            last_answer: self.last_answer,
            only_failed_rows_left: self.has_only_failed_rows(),
            now,
        }
    }

    fn carry_out(&mut self, verdict: Verdict, now: Moment) {
        for (reason, rows) in verdict.unresolved {
            self.parts.events.emit(Event::RowsUnresolved { reason, rows });
        }
        let mut found = Finding::Open;
        for (row, outcome) in verdict.settled {
            let came_to_nothing = matches!(
                outcome,
                Outcome::Unlabelled { reason, .. } if reason != Reason::Unsure
            );
            if verdict.refused_alone || (came_to_nothing && !self.tally.has_labelled()) {
                self.suspects.add(row, outcome);
                continue;
            }
            if matches!(outcome, Outcome::Labelled(_)) {
                found = Finding::TheirOwn;
            }
            self.settle(&row, outcome, Source::Reply);
        }
        let too_long = self.parts.packer.push_again(verdict.again);
        self.give_up_too_long(too_long);
        let due = now + verdict.delay;
        for parcel in verdict.parcels {
            match verdict.delay.is_zero() {
                // Depth first: the row at fault stands alone after few calls.
                true => self.parcels.push_front(parcel),
                false => self.delayed.push((due, parcel)),
            }
        }
        if found == Finding::Open {
            found = self.suspects.finding(self.tally.has_labelled());
            if found == Finding::TheirOwn {
                self.warn_of_refusals();
            }
        }
        self.act_on(found);
        match verdict.stop {
            Some(StopReason::Rejected(words)) => self.stop(Stopped::Provider(words)),
            Some(StopReason::OutOfQuota(words)) => self.stop(Stopped::Quota(words)),
            None => {}
        }
    }
}
