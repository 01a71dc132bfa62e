//! The one owner of a run's state: rows in, calls out, outcomes to their parts.
//!
//! Everything that decides is pure and elsewhere; this loop only carries values between the
//! stages. Each wait has an end: a reply, a row, a committed part, a moment, or a signal.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::call::{self, CallEnd, Line};
use super::error::{RunError, Stopped};
use super::open_part::OpenParts;
use super::priors::{Priors, Recalled};
use super::reader::{ReadChunk, ReadRow};
use super::settlement::{
    Circumstances, Parcel, Room, StopReason, Verdict, judge_error, judge_reply, split_cut,
};
use super::tally::Tally;
use super::writer::Writer;
use crate::domain::event::{Source, WaitFor};
use crate::domain::{
    Event, EventSink, JobSpec, Moment, Outcome, Position, Reason, Row, TextHash, Tokens,
};
use crate::llm::asker::PreparedCall;
use crate::llm::batcher::{BatchLimits, Batcher, TooLong};
use crate::llm::dedupe::{self, Dedupe, Met};
use crate::llm::dialect::StepDown;
use crate::llm::governor::{Admission, Failure, Governor, Reservation};
use crate::llm::provider::ProviderError;
use crate::output::journal::Journal;
use crate::output::{OutputError, PartRecord, SealedPart};

/// Rows that may be open at once, where parts are small.
const OPEN_ROWS: u64 = 200_000;
/// Parts that may be open at once, where parts are large.
const OPEN_PARTS: u64 = 4;
/// Parts that may wait for the writer before reading pauses.
const PARTS_TO_WRITE: usize = 4;
/// How long a batch that is not full waits for more rows once nothing more can be read.
const FLUSH_AFTER: Duration = Duration::from_secs(2);
/// Lone rows refused, and none answered: the prompt itself is refused.
const REFUSED_ALONE: u32 = 8;

/// What a run is made of.
pub(super) struct Parts {
    pub(super) line: Line,
    pub(super) events: Arc<dyn EventSink>,
    pub(super) governor: Governor,
    pub(super) batcher: Batcher,
    pub(super) dedupe: Dedupe<Position>,
    pub(super) open: OpenParts,
    pub(super) priors: Priors,
    pub(super) writer: Writer,
    pub(super) chunks: mpsc::Receiver<Result<ReadChunk, RunError>>,
    pub(super) stop: BoxFuture<'static, ()>,
}

pub(super) struct Coordinator<'a> {
    job: &'a JobSpec,
    parts: Parts,
    /// Rows to be asked by themselves, at once.
    parcels: VecDeque<Parcel>,
    /// Rows to be asked by themselves, later.
    delayed: Vec<(Moment, Parcel)>,
    /// Rows that wait for the governor.
    ready: Option<Parcel>,
    calls: JoinSet<CallEnd>,
    started: u64,
    all_read: bool,
    /// Since when a batch that is not full has been waiting while nothing could be read.
    idle_since: Option<Moment>,
    last_answer: Option<Moment>,
    refused_alone: u32,
    announced: Option<(WaitFor, Moment)>,
    stopped: Option<Stopped>,
    tally: Tally,
}

impl<'a> Coordinator<'a> {
    pub(super) fn new(job: &'a JobSpec, parts: Parts) -> Self {
        Coordinator {
            job,
            parts,
            parcels: VecDeque::new(),
            delayed: Vec::new(),
            ready: None,
            calls: JoinSet::new(),
            started: 0,
            all_read: false,
            idle_since: None,
            last_answer: None,
            refused_alone: 0,
            announced: None,
            stopped: None,
            tally: Tally::default(),
        }
    }

    /// Runs until every planned row is done, or until something stops the run; what is in flight
    /// is finished and what is complete is committed in both cases.
    pub(super) async fn run(mut self) -> Result<(Tally, Option<Stopped>, Writer), RunError> {
        loop {
            let wake = self.start_calls();
            if self.is_done() {
                return Ok(self.close());
            }
            let wants_rows = self.wants_rows();
            let is_stopped = self.stopped.is_some();
            let nap = wake.map_or(Duration::MAX, |at| at.since(self.now()));
            tokio::select! {
                biased;
                () = &mut self.parts.stop, if !is_stopped => self.interrupt(),
                Some(end) = self.calls.join_next(), if !self.calls.is_empty() => {
                    self.take_end(end.map_err(RunError::from_task)?);
                }
                Some(written) = self.parts.writer.next_written(),
                    if self.parts.writer.pending() > 0 => self.take_written(written),
                chunk = self.parts.chunks.recv(), if wants_rows => match chunk {
                    Some(Ok(chunk)) => self.take_chunk(chunk),
                    Some(Err(error)) => self.stop(Stopped::Reading(error)),
                    None => self.all_read = true,
                },
                () = tokio::time::sleep(nap), if wake.is_some() => {}
            }
            self.tally.report(&*self.parts.events);
        }
    }

    /// Lets the journal go where it has served; no call is left that could write to it.
    fn close(self) -> (Tally, Option<Stopped>, Writer) {
        let Coordinator { parts, tally, mut stopped, .. } = self;
        let journal = Arc::into_inner(parts.line.journal);
        let journal =
            journal.map(|journal| journal.into_inner().unwrap_or_else(|it| it.into_inner()));
        if let Some(Err(error)) = journal.map(Journal::close) {
            stopped.get_or_insert(Stopped::Storage(error.into()));
        }
        (tally, stopped, parts.writer)
    }

    fn now(&self) -> Moment {
        self.parts.line.clock.now()
    }

    fn is_done(&self) -> bool {
        let quiet = self.calls.is_empty() && self.parts.writer.pending() == 0;
        quiet && (self.stopped.is_some() || (self.all_read && !self.has_rows_to_ask()))
    }

    fn has_rows_to_ask(&self) -> bool {
        self.ready.is_some()
            || !self.parcels.is_empty()
            || !self.delayed.is_empty()
            || self.parts.batcher.waiting_rows() > 0
    }

    /// Whether another chunk may be read: enough is packed already, or too much is open.
    fn wants_rows(&self) -> bool {
        let open_rows = OPEN_ROWS.max(OPEN_PARTS * u64::from(self.job.output.rows_per_part.get()));
        let rows_ahead = 4 * self.job.batch.rows_per_call.get() as usize;
        self.stopped.is_none()
            && !self.all_read
            && self.parts.batcher.waiting_rows() < rows_ahead
            && self.parts.open.rows() < open_rows
            && self.parts.writer.pending() < PARTS_TO_WRITE
    }

    fn stop(&mut self, stopped: Stopped) {
        self.stopped.get_or_insert(stopped);
    }

    fn interrupt(&mut self) {
        self.parts.events.emit(Event::Interrupted);
        self.stop(Stopped::Interrupted);
    }

    // --- rows in -------------------------------------------------------------------------------

    fn take_chunk(&mut self, chunk: ReadChunk) {
        let ReadChunk { first, columns, ids, rows } = chunk;
        self.parts.open.take_columns(first, columns, ids);
        for (row, position) in rows.into_iter().zip(first.0..) {
            let position = Position(position);
            match row {
                ReadRow::Settled(outcome) => {
                    let source = match outcome {
                        Outcome::Existing(_) => Source::Input,
                        _ => Source::GivenUp,
                    };
                    self.settle_position(position, outcome, source);
                }
                ReadRow::Kept { outcome, text_hash } => self.keep(position, outcome, text_hash),
                ReadRow::Ask(row) => self.take_row(row),
            }
        }
    }

    fn take_row(&mut self, mut row: Row) {
        match self.parts.priors.recall(&row, self.job.batch.max_attempts) {
            Recalled::Answered(outcome) => {
                return self.settle(&row, outcome, Source::Journal);
            }
            Recalled::Asked(attempts) => row.attempts = attempts,
        }
        match self.parts.dedupe.meet(row.text_hash, row.position) {
            Met::First(_) => {
                if let Err(too_long) = self.parts.batcher.push(row) {
                    self.give_up_too_long([too_long]);
                }
            }
            Met::Waiting => {}
            Met::Known(position, verdict) => {
                self.settle_position(position, outcome_of(verdict), Source::SameText);
            }
        }
    }

    /// A row of a reopened part whose outcome stands; rows with the same text profit from it.
    fn keep(&mut self, position: Position, outcome: Outcome, text_hash: Option<TextHash>) {
        if let (Some(text_hash), Outcome::Labelled(label)) = (text_hash, &outcome) {
            self.parts.dedupe.seed(text_hash, *label);
        }
        if let Some(part) = self.parts.open.settle(position, outcome) {
            self.seal(part);
        }
    }

    // --- calls out -----------------------------------------------------------------------------

    /// Starts every call that may start now; says when to look again.
    fn start_calls(&mut self) -> Option<Moment> {
        self.give_up_in_time();
        while self.stopped.is_none() {
            let now = self.now();
            let Some(parcel) = self.next_parcel(now) else {
                return self.next_moment();
            };
            let estimate = self.parts.line.asker.estimate(&parcel.rows);
            match self.parts.governor.admit(estimate, now) {
                Admission::Start => self.send(parcel, now),
                Admission::Wait { until, wait } => {
                    self.ready = Some(parcel);
                    self.announce(wait, until, now);
                    return until;
                }
                Admission::Never { .. } => self.split_for_limit(parcel),
            }
        }
        None
    }

    fn next_parcel(&mut self, now: Moment) -> Option<Parcel> {
        if let Some(parcel) = self.ready.take() {
            return Some(parcel);
        }
        if let Some(due) = self.delayed.iter().position(|(at, _)| *at <= now) {
            return Some(self.delayed.swap_remove(due).1);
        }
        let parcel = match self.parcels.pop_front() {
            Some(parcel) => parcel,
            None => Parcel::of(self.next_batch(now)?),
        };
        let (fits, rest) = self.parts.line.asker.on_ladder(parcel.rows);
        if !rest.is_empty() {
            self.parcels.push_front(Parcel { rows: rest, failures: parcel.failures });
        }
        Some(Parcel { rows: fits, failures: parcel.failures })
    }

    /// A full batch, or what there is once waiting for more has become pointless.
    fn next_batch(&mut self, now: Moment) -> Option<Vec<Row>> {
        if let Some(full) = self.parts.batcher.next(false, None) {
            self.idle_since = None;
            return Some(full);
        }
        if self.parts.batcher.waiting_rows() == 0 || self.wants_rows() {
            self.idle_since = None;
            return None;
        }
        let idle_since = *self.idle_since.get_or_insert(now);
        let nothing_else = self.calls.is_empty() && self.delayed.is_empty();
        if !nothing_else && now.since(idle_since) < FLUSH_AFTER {
            return None;
        }
        self.idle_since = None;
        self.parts.batcher.next(true, None)
    }

    fn next_moment(&self) -> Option<Moment> {
        let due = self.delayed.iter().map(|(at, _)| *at);
        let flush = self.idle_since.map(|since| since + FLUSH_AFTER);
        due.chain(flush).min()
    }

    fn send(&mut self, parcel: Parcel, now: Moment) {
        self.started += 1;
        self.announced = None;
        let number = self.started;
        let prepared = self.parts.line.asker.prepare(&parcel.rows, number);
        let at = self.parts.line.clock.wall();
        let noted = self.parts.line.journal().call_sent(number, prepared.reserved, at);
        if let Err(error) = noted {
            self.parcels.push_front(parcel);
            return self.stop(Stopped::Storage(error.into()));
        }
        let reservation = self.parts.governor.reserve(prepared.reserved, now);
        self.tally.call_started();
        self.parts.events.emit(Event::CallStarted {
            call: number,
            rows: parcel.rows.len() as u64,
            reserved: prepared.reserved,
            in_flight: self.calls.len() as u64 + 1,
        });
        self.emit_marks();
        let line = self.parts.line.clone();
        self.calls.spawn(call::run(line, number, parcel, prepared, reservation));
    }

    /// A call that no window can ever hold is made smaller; a single row is too long.
    fn split_for_limit(&mut self, parcel: Parcel) {
        let mut rows = parcel.rows;
        if rows.len() > 1 {
            let back = rows.split_off(rows.len().div_ceil(2));
            self.parcels.push_front(Parcel::of(back));
            self.parcels.push_front(Parcel::of(rows));
            return;
        }
        self.give_up_too_long(rows.into_iter().map(TooLong));
    }

    fn give_up_too_long(&mut self, rows: impl IntoIterator<Item = TooLong>) {
        for TooLong(row) in rows {
            let (reason, attempts) = (Reason::TooLong, row.attempts);
            self.settle(&row, Outcome::Unlabelled { reason, attempts }, Source::GivenUp);
        }
    }

    fn announce(&mut self, wait: WaitFor, until: Option<Moment>, now: Moment) {
        let seconds = until.map_or(0.0, |until| until.since(now).as_secs_f64());
        let is_news = self
            .announced
            .is_none_or(|(told, at)| told != wait || now.since(at) >= Duration::from_secs(1));
        if !is_news || (seconds < 0.05 && wait != WaitFor::Replies) {
            return;
        }
        self.announced = Some((wait, now));
        let window_tokens = self.parts.governor.window_tokens(now);
        self.parts.events.emit(Event::Waiting { wait, seconds, window_tokens });
    }

    fn emit_marks(&mut self) {
        for mark in self.parts.governor.take_marks() {
            self.parts.events.emit(Event::WindowCrossed {
                percent: mark.percent,
                window_tokens: mark.window_tokens,
                limit: mark.limit,
            });
        }
    }

    fn give_up_in_time(&mut self) {
        let Some(since) = self.parts.governor.failing_since() else { return };
        let failing_for = self.now().since(since);
        if failing_for >= self.job.give_up_after {
            self.stop(Stopped::Provider(format!(
                "nothing but failures for {} minutes",
                failing_for.as_secs() / 60
            )));
        }
    }

    // --- replies in ----------------------------------------------------------------------------

    fn take_end(&mut self, end: CallEnd) {
        let now = self.now();
        let CallEnd { number, parcel, prepared, reservation, took, result, journaled, .. } = end;
        let rows = parcel.rows.len() as u64;
        if let Err(error) = journaled {
            self.stop(Stopped::Storage(error.into()));
        }
        let verdict = match result {
            Ok((reply, matched)) => {
                let charged = call::charged(&prepared, &reply);
                self.parts.governor.settle(reservation, charged, now);
                self.parts.governor.observe(reservation, &reply.rate, now);
                self.parts.line.asker.learn(&prepared, &reply);
                self.last_answer = Some(now);
                let usage = reply.usage.unwrap_or_default();
                let has_text = !reply.content.trim().is_empty();
                let hidden = usage.reasoning > Tokens::ZERO;
                let circumstances = self.circumstances(now, took);
                let finish = reply.finish;
                let mut verdict =
                    judge_reply(parcel, finish, hidden, has_text, &matched, circumstances);
                self.raise_or_split(&prepared, &mut verdict);
                self.note_charge(number, charged);
                self.tally.call_answered(charged, &usage);
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
                }
            }
        }
    }

    fn take_error(&mut self, failed: FailedCall, now: Moment) -> Verdict {
        let FailedCall { number, parcel, prepared, reservation, took, error } = failed;
        let rows = parcel.rows.len() as u64;
        if let ProviderError::RateLimited { rate, .. } = &error {
            self.parts.governor.observe(reservation, rate, now);
        }
        let retry_in = self.parts.governor.fail(reservation, Failure::from(&error), now);
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
        judge_error(parcel, &error, retry_in.unwrap_or_default(), self.circumstances(now, took))
    }

    /// Writes down what a call was charged, so that a rerun's ledger begins where this one is.
    fn note_charge(&mut self, call: u64, charged: Tokens) {
        let noted = self.parts.line.journal().call_settled(call, charged);
        if let Err(error) = noted {
            self.stop(Stopped::Storage(error.into()));
        }
    }

    fn step_down(&mut self, prepared: &PreparedCall, parameter: &str, error: &ProviderError) {
        match self.parts.line.asker.step_down(prepared, parameter) {
            StepDown::Changed(change) => {
                self.parts.events.emit(change.event());
                let limits = self.batch_limits();
                let too_long = self.parts.batcher.set_limits(limits);
                self.give_up_too_long(too_long);
            }
            StepDown::AlreadyChanged => {}
            StepDown::Exhausted => self.stop(Stopped::Provider(error.to_string())),
        }
    }

    fn batch_limits(&self) -> BatchLimits {
        let BatchLimits { rows_per_call, tokens_per_call, .. } = *self.parts.batcher.limits();
        self.parts.line.asker.limits(rows_per_call, tokens_per_call)
    }

    fn circumstances(&self, now: Moment, took: Duration) -> Circumstances {
        let sent = Moment(now.0.saturating_sub(took));
        Circumstances {
            max_attempts: self.job.batch.max_attempts,
            answered_before: self.last_answer.is_some(),
            others_answered: self.last_answer.is_some_and(|at| at > sent),
        }
    }

    fn carry_out(&mut self, verdict: Verdict, now: Moment) {
        for (reason, rows) in verdict.unresolved {
            self.parts.events.emit(Event::RowsUnresolved { reason, rows });
        }
        for (row, outcome) in verdict.settled {
            self.settle(&row, outcome, Source::Reply);
        }
        let too_long = self.parts.batcher.push_again(verdict.again);
        self.give_up_too_long(too_long);
        let due = now + verdict.delay;
        for parcel in verdict.parcels {
            match verdict.delay.is_zero() {
                true => self.parcels.push_back(parcel),
                false => self.delayed.push((due, parcel)),
            }
        }
        if verdict.refused_alone {
            self.refused_alone += 1;
            if self.refused_alone >= REFUSED_ALONE && !self.tally.has_labelled() {
                self.stop(Stopped::Provider(format!(
                    "the model refused {REFUSED_ALONE} rows asked one by one and labelled none: \
                     the instructions or the labels are what it refuses"
                )));
            }
        }
        match verdict.stop {
            Some(StopReason::Rejected(words)) => self.stop(Stopped::Provider(words)),
            Some(StopReason::OutOfQuota(words)) => self.stop(Stopped::Quota(words)),
            None => {}
        }
    }

    // --- outcomes to parts ---------------------------------------------------------------------

    fn settle(&mut self, row: &Row, outcome: Outcome, source: Source) {
        self.settle_text(row.position, row.text_hash, outcome, source);
    }

    /// Settles a row and the rows with the same text that wait for it.
    fn settle_text(
        &mut self,
        position: Position,
        text_hash: TextHash,
        outcome: Outcome,
        source: Source,
    ) {
        let verdict = match outcome {
            Outcome::Labelled(label) => Some(dedupe::Verdict::Label(label)),
            Outcome::Unlabelled { reason, attempts } => {
                Some(dedupe::Verdict::None { reason, attempts })
            }
            Outcome::Existing(_) => None,
        };
        for follower in verdict.map_or_else(Vec::new, |it| self.parts.dedupe.settle(text_hash, it))
        {
            self.settle_position(follower, outcome.clone(), Source::SameText);
        }
        self.settle_position(position, outcome, source);
    }

    fn settle_position(&mut self, position: Position, outcome: Outcome, source: Source) {
        self.tally.settled(source, outcome.is_labelled());
        if let Some(part) = self.parts.open.settle(position, outcome) {
            self.seal(part);
        }
    }

    fn seal(&mut self, part: SealedPart) {
        self.parts.writer.commit(part, self.tally.take_spent());
    }

    fn take_written(&mut self, written: Result<PartRecord, OutputError>) {
        match written {
            Ok(record) => {
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
            }
            Err(error) => self.stop(Stopped::Storage(error)),
        }
    }
}

fn outcome_of(verdict: dedupe::Verdict) -> Outcome {
    match verdict {
        dedupe::Verdict::Label(label) => Outcome::Labelled(label),
        dedupe::Verdict::None { reason, attempts } => Outcome::Unlabelled { reason, attempts },
    }
}

/// A call that ended without a reply.
struct FailedCall {
    number: u64,
    parcel: Parcel,
    prepared: PreparedCall,
    reservation: Reservation,
    took: Duration,
    error: ProviderError,
}
