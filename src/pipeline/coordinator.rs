//! The one owner of a run's state: rows in, calls out, outcomes to their parts.
//!
//! Everything that decides is pure and elsewhere; this loop only carries values between the
//! stages. Each wait has an end: a reply, a row, a committed part, a moment, or a signal.

mod calls;
mod commits;
mod costs;
mod probing;
mod replies;
mod trimming;

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::{BoxFuture, OptionFuture};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::call::{CallEnd, Line};
use super::drift::Drift;
use super::error::{RunError, Stopped};
use super::heartbeat::Heartbeat;
use super::open_part::OpenParts;
use super::packer::Packer;
use super::priors::{Priors, Recalled};
use super::probes::Probes;
use super::reader::{ReadChunk, ReadRow};
use super::settlement::Parcel;
use super::storage_watch::StorageWatch;
use super::suspects::{Finding, Suspects};
use super::tally::Tally;
use super::writer::Writer;
use crate::domain::event::{Source, WaitFor};
use crate::domain::{Event, EventSink, JobSpec, Moment, Outcome, Position, Row, TextHash};
use crate::llm::budget::Budget;
use crate::llm::dedupe::{self, Dedupe, Met};
use crate::llm::governor::Governor;
use crate::output::OutputError;
use crate::output::journal::ReplyRecord;

/// Rows that may be open at once, where parts are small.
const OPEN_ROWS: u64 = 200_000;
/// Parts that may be open at once, where parts are large.
const OPEN_PARTS: u64 = 4;
/// Bytes of rows in open parts and on their way into files before reading pauses; one part is read
/// to its end in any case.
const HELD_BYTES: u64 = 48 << 20;
/// Parts that may wait for the writer before reading pauses.
const PARTS_TO_WRITE: usize = 4;

/// What a run is made of.
pub(super) struct Parts {
    /// Rows of the job that have a label already, in parts or in the journal.
    pub(super) labelled_before: u64,
    pub(super) line: Line,
    pub(super) events: Arc<dyn EventSink>,
    pub(super) governor: Governor,
    pub(super) budget: Budget,
    pub(super) packer: Packer,
    pub(super) probes: Probes,
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
    heartbeat: &'a Heartbeat,
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
    suspects: Suspects,
    last_rejection: Option<String>,
    announced: Option<(WaitFor, Moment)>,
    /// Whether it was told that a day's limit is used up.
    told_of_the_day: bool,
    drift: Drift,
    storage: StorageWatch,
    /// Why a commit fails that is going to be tried again.
    storage_error: Option<OutputError>,
    /// Replies that the journal did not take.
    unjournaled: Vec<ReplyRecord>,
    stopped: Option<Stopped>,
    tally: Tally,
}

impl<'a> Coordinator<'a> {
    pub(super) fn new(job: &'a JobSpec, parts: Parts, heartbeat: &'a Heartbeat) -> Self {
        let tally = Tally::of_job(parts.labelled_before);
        Coordinator {
            job,
            parts,
            heartbeat,
            parcels: VecDeque::new(),
            delayed: Vec::new(),
            ready: None,
            calls: JoinSet::new(),
            started: 0,
            all_read: false,
            idle_since: None,
            last_answer: None,
            suspects: Suspects::default(),
            last_rejection: None,
            announced: None,
            told_of_the_day: false,
            drift: Drift::new(job.codebook.labels().len()),
            storage: StorageWatch::new(job.give_up_after, getrandom::u64().unwrap_or_default()),
            storage_error: None,
            unjournaled: Vec::new(),
            stopped: None,
            tally,
        }
    }

    /// Runs until every planned row is done, or until something stops the run; what is in flight
    /// is finished and what is complete is committed in both cases.
    pub(super) async fn run(mut self) -> Result<(Tally, Option<Stopped>, Writer), RunError> {
        loop {
            self.tend_storage();
            let due = [self.start_calls(), self.give_up_at(), self.next_look_at_storage()];
            let wake = due.into_iter().flatten().min();
            if self.is_done() {
                return Ok(self.close());
            }
            if self.stopped.is_none() && self.is_at_a_standstill() {
                let found = self.suspects.finding_at_a_standstill(self.tally.has_labelled());
                if found != Finding::Open {
                    self.act_on(found);
                    continue;
                }
            }
            let wants_rows = self.wants_rows();
            let is_stopped = self.stopped.is_some();
            let nap = wake.map(|at| self.parts.line.clock.sleep(at.since(self.now())));
            tokio::select! {
                biased;
                () = &mut self.parts.stop, if !is_stopped => self.interrupt(),
                Some(end) = self.calls.join_next(), if !self.calls.is_empty() => {
                    self.take_end(end.map_err(RunError::from_task)?);
                }
                written = self.parts.writer.next_written(), if self.parts.writer.pending() > 0 => {
                    let broke_off = || RunError::Internal("the writer broke off".into());
                    self.take_written(written.ok_or_else(broke_off)?);
                }
                chunk = self.parts.chunks.recv(), if wants_rows => match chunk {
                    Some(Ok(chunk)) => self.take_chunk(chunk),
                    Some(Err(error)) => self.stop(Stopped::Reading(error)),
                    None => self.all_read = true,
                },
                Some(()) = OptionFuture::from(nap) => {}
                else => return Err(RunError::Internal("the run has nothing to wait for".into())),
            }
            self.tally.report(&*self.parts.events);
        }
    }

    /// Lets the journal go where it has served; no call is left that could write to it.
    fn close(self) -> (Tally, Option<Stopped>, Writer) {
        let Coordinator { parts, mut tally, mut stopped, unjournaled, .. } = self;
        tally.probed = parts.probes.all();
        tally.unwritten = parts.open.answers() + parts.writer.answers();
        let journal = Arc::into_inner(parts.line.journal);
        let journal =
            journal.map(|journal| journal.into_inner().unwrap_or_else(|it| it.into_inner()));
        if let Some(mut journal) = journal {
            for record in &unjournaled {
                // A part that the disk had no room for is gone again and may have left some.
                if journal.reply(record).is_err() {
                    tally.unwritten = tally.unwritten.saturating_sub(record.rows.len() as u64);
                }
            }
            if let Err(error) = journal.close() {
                stopped.get_or_insert(Stopped::Storage(error.into()));
            }
        }
        (tally, stopped, parts.writer)
    }

    fn now(&self) -> Moment {
        self.parts.line.clock.now()
    }

    fn is_done(&self) -> bool {
        let quiet = self.calls.is_empty() && self.parts.writer.pending() == 0;
        quiet && (self.stopped.is_some() || (self.has_asked_all() && self.suspects.is_empty()))
    }

    /// When nothing but failures is enough.
    fn give_up_at(&self) -> Option<Moment> {
        let failing_since = self.parts.governor.failing_since()?;
        self.stopped.is_none().then(|| failing_since + self.job.give_up_after)
    }

    fn has_asked_all(&self) -> bool {
        self.all_read && self.calls.is_empty() && !self.has_rows_to_ask()
    }

    /// Whether only rows are left that have failed before. What is in flight answers or fails yet.
    fn has_only_failed_rows(&self) -> bool {
        let left = self.parcels.iter().chain(self.delayed.iter().map(|(_, parcel)| parcel));
        self.all_read
            && self.ready.is_none()
            && self.parts.packer.waiting_rows() == 0
            && left.into_iter().all(|parcel| parcel.first_failed.is_some())
    }

    /// Whether nothing can go on: no call, no row to ask and none to be read.
    fn is_at_a_standstill(&self) -> bool {
        self.calls.is_empty() && !self.has_rows_to_ask() && !self.wants_rows()
    }

    fn has_rows_to_ask(&self) -> bool {
        self.ready.is_some()
            || !self.parcels.is_empty()
            || !self.delayed.is_empty()
            || self.parts.packer.waiting_rows() > 0
    }

    /// Whether another chunk may be read: enough is packed already, or too much is open.
    fn wants_rows(&self) -> bool {
        let open_rows =
            OPEN_ROWS.max(OPEN_PARTS * u64::from(self.job.output.rows_per_part().get()));
        let rows_ahead = 4 * self.job.batch.rows_per_call.get() as usize;
        self.stopped.is_none()
            && !self.all_read
            && self.parts.packer.waiting_rows() < rows_ahead
            && self.parts.open.rows() < open_rows
            && self.parts.writer.pending() < PARTS_TO_WRITE
            && (self.held_bytes() < HELD_BYTES || !self.holds_whole_part())
    }

    fn held_bytes(&self) -> u64 {
        self.parts.open.bytes() + self.parts.writer.bytes()
    }

    /// Whether memory is going to be free without another row.
    fn holds_whole_part(&self) -> bool {
        self.parts.open.has_whole_part() || self.parts.writer.pending() > 0
    }

    fn stop(&mut self, stopped: Stopped) {
        if self.stopped.is_none() {
            self.stopped = Some(stopped);
            self.storage.end(self.now());
        }
    }

    fn interrupt(&mut self) {
        self.parts.events.emit(Event::Interrupted);
        self.stop(Stopped::Interrupted);
    }

    fn take_chunk(&mut self, chunk: ReadChunk) {
        let ReadChunk { first, columns, ids, rows, .. } = chunk;
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
        self.tell_of_isolation();
    }

    /// Tells how many rows were kept apart, and once, if they are so many that they share calls.
    fn tell_of_isolation(&mut self) {
        let rows = self.parts.packer.take_news();
        if rows == 0 {
            return;
        }
        self.tally.isolated += rows;
        self.parts.events.emit(Event::RowsIsolated { rows });
        if let Some((isolated, rows)) = self.parts.packer.notice_crowd() {
            let message = format!(
                "{isolated} of {rows} rows speak of keys, codes or instructions; to ask each alone would \
                 cost too much, so they share calls with each other from now on, and with no other row"
            );
            self.parts.events.emit(Event::Warning { message });
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
                if let Err(too_long) = self.parts.packer.push(row) {
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
        if let Some(part) = self.parts.open.settle_kept(position, outcome) {
            self.seal(part);
        }
    }

    fn act_on(&mut self, found: Finding) {
        match found {
            Finding::Open => {}
            Finding::NotTheirs => self.blame_the_prompt(),
            Finding::TheirOwn => {
                for (row, outcome) in self.suspects.take() {
                    self.settle(&row, outcome, Source::Reply);
                }
            }
        }
    }

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
}

fn outcome_of(verdict: dedupe::Verdict) -> Outcome {
    match verdict {
        dedupe::Verdict::Label(label) => Outcome::Labelled(label),
        dedupe::Verdict::None { reason, attempts } => Outcome::Unlabelled { reason, attempts },
    }
}
