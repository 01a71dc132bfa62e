//! Calls out: what is asked next, when it may start, and what waits for it.

use std::time::Duration;

use super::super::call;
use super::super::error::Stopped;
use super::super::packer::Packed;
use super::super::probes::{Guest, Probe};
use super::super::settlement::Parcel;
use super::Coordinator;
use super::trimming::Trimmed;
use crate::domain::event::{Source, WaitFor};
use crate::domain::limits::OnDailyLimit;
use crate::domain::spec::KeySource;
use crate::domain::{Charge, Event, Moment, Outcome, Reason};
use crate::llm::asker::PreparedCall;
use crate::llm::batcher::{TakenSeats, TooLong, halve};
use crate::llm::governor::{Admission, Hold, LimitName, UsedUp};
use crate::llm::keys::Key;
use crate::output::Standing;

/// How long a batch that is not full waits for more rows once nothing more can be read.
const FLUSH_AFTER: Duration = Duration::from_secs(2);

/// How soon to look again whether a claim that had lapsed is proved.
const PROVED_WITHIN: Duration = Duration::from_millis(100);

impl Coordinator<'_> {
    /// Starts every call that may start now; says when to look again.
    pub(super) fn start_calls(&mut self) -> Option<Moment> {
        self.give_up_in_time();
        while self.stopped.is_none() {
            let now = self.now();
            if let Some(until) = self.storage.hold(now) {
                if self.has_rows_to_ask() || !self.all_read {
                    self.announce(WaitFor::Storage, Some(until), now);
                }
                return None;
            }
            let Some(parcel) = self.next_parcel(now) else {
                return self.next_moment();
            };
            match self.heartbeat.standing() {
                Standing::Held => {}
                Standing::Lapsed => {
                    self.ready = Some(parcel);
                    return Some(now + PROVED_WITHIN);
                }
                Standing::Lost(error) => {
                    self.ready = Some(parcel);
                    self.stop(Stopped::Storage(error.into()));
                    return None;
                }
            }
            let parcel = self.within_budget(parcel, now)?;
            if parcel.rows.is_empty() && parcel.guests.is_empty() {
                continue;
            }
            let estimate = self.parts.line.asker.estimate(&parcel.asked());
            match self.parts.governor.admit(estimate, now) {
                Admission::Start => self.send(parcel, now),
                Admission::Wait { until, wait } => {
                    let (parcel, until) = match self.trimmed(parcel, until, now) {
                        Trimmed::Fits(parcel) => {
                            self.send(parcel, now);
                            continue;
                        }
                        Trimmed::Waits(parcel, until) => (parcel, until),
                    };
                    self.ready = Some(parcel);
                    if wait == WaitFor::Day && self.ends_for_the_day(estimate, now) {
                        return None;
                    }
                    self.announce(wait, until, now);
                    return until;
                }
                Admission::Never { name, .. } => self.split_for_limit(parcel, name),
            }
        }
        None
    }

    pub(super) fn next_parcel(&mut self, now: Moment) -> Option<Parcel> {
        if let Some(parcel) = self.ready.take() {
            return Some(parcel);
        }
        if let Some(due) = self.delayed.iter().position(|(at, _)| *at <= now) {
            return Some(self.delayed.swap_remove(due).1);
        }
        let parcel = match self.parcels.pop_front() {
            Some(parcel) => parcel,
            None => self.next_shared(now)?,
        };
        if !parcel.guests.is_empty() {
            return Some(parcel);
        }
        let Parcel { rows, failures, first_failed, .. } = parcel;
        let (fits, rest) = self.parts.line.asker.on_ladder(rows);
        let parcel = |rows| Parcel { failures, first_failed, ..Parcel::of(rows) };
        if !rest.is_empty() {
            self.parcels.push_front(parcel(rest));
        }
        Some(parcel(fits))
    }

    /// The next rows that share a call, with the probes that are due among them.
    fn next_shared(&mut self, now: Moment) -> Option<Parcel> {
        if let Some(probe) = self.parts.probes.invite_alone() {
            return Some(Parcel::with_guests(Vec::new(), vec![Guest { probe, seat: 0 }]));
        }
        let invited = self.parts.probes.invite();
        let tokens = invited.iter().map(|probe| probe.row.tokens).sum();
        let Some(packed) = self.next_batch(now, TakenSeats { rows: invited.len(), tokens }) else {
            self.parts.probes.take_back(invited);
            return None;
        };
        let rows = packed.rows;
        if !packed.may_have_guests {
            self.parts.probes.take_back(invited);
            return Some(Parcel::of(rows));
        }
        self.parts.probes.count_rows(rows.len());
        let asks_by_id = self.job.model.key == KeySource::Id;
        let clashes = |probe: &Probe| {
            let key = Key::of_id(&probe.row.id);
            rows.iter().any(|row| Key::of_id(&row.id) == key)
        };
        let seats = rows.len() + invited.len();
        if !self.parts.line.asker.is_on_ladder(seats) || (asks_by_id && invited.iter().any(clashes))
        {
            self.parts.probes.take_back(invited);
            return Some(Parcel::of(rows));
        }
        let guests = self.parts.probes.seat(invited, rows.len());
        Some(Parcel::with_guests(rows, guests))
    }

    /// A full batch, or what there is once waiting for more has become pointless.
    fn next_batch(&mut self, now: Moment, guests: TakenSeats) -> Option<Packed> {
        if let Some(full) = self.parts.packer.next(false, guests) {
            self.idle_since = None;
            return Some(full);
        }
        if self.parts.packer.waiting_rows() == 0 || self.wants_rows() {
            self.idle_since = None;
            return None;
        }
        let idle_since = *self.idle_since.get_or_insert(now);
        let nothing_else = self.calls.is_empty() && self.delayed.is_empty();
        if !nothing_else && now.since(idle_since) < FLUSH_AFTER {
            return None;
        }
        self.idle_since = None;
        self.parts.packer.next(true, guests)
    }

    fn next_moment(&self) -> Option<Moment> {
        let due = self.delayed.iter().map(|(at, _)| *at);
        let flush = self.idle_since.map(|since| since + FLUSH_AFTER);
        due.chain(flush).min()
    }

    pub(super) fn send(&mut self, parcel: Parcel, now: Moment) {
        self.started += 1;
        self.announced = None;
        self.told_of_the_day = false;
        let number = self.started;
        let asked = parcel.asked();
        let rows = asked.len() as u64;
        let prepared = self.parts.line.asker.prepare(&asked, number);
        drop(asked);
        let at = self.parts.line.clock.wall();
        let PreparedCall { reserved, most, .. } = prepared;
        let noted = self.parts.line.journal().call_sent(number, reserved, most, at);
        if let Err(error) = noted {
            self.parcels.push_front(parcel);
            return self.stop(Stopped::Storage(error.into()));
        }
        let reservation = self.parts.governor.reserve(reserved, now);
        self.parts.budget.reserve(number, most);
        self.tally.call_started();
        self.parts.events.emit(Event::CallStarted {
            call: number,
            rows,
            reserved: reserved.tokens,
            in_flight: self.calls.len() as u64 + 1,
        });
        self.emit_marks();
        let line = self.parts.line.clone();
        self.calls.spawn(call::run(line, number, parcel, prepared, reservation));
    }

    /// A call that no window can ever hold is made smaller, down to one row.
    fn split_for_limit(&mut self, parcel: Parcel, limit: LimitName) {
        let Parcel { rows, guests, .. } = parcel;
        self.parts.probes.take_back(guests.into_iter().map(|guest| guest.probe));
        if rows.is_empty() {
            return;
        }
        if rows.len() > 1 {
            let (first, second) = halve(rows);
            self.parcels.push_front(Parcel::of(second));
            self.parcels.push_front(Parcel::of(first));
            return;
        }
        // Its own tokens are within the limit, or the batcher had not taken it.
        let charge = self.parts.line.asker.estimate(&rows);
        self.parcels.push_front(Parcel::of(rows));
        let (tokens, output) = (charge.tokens, charge.output);
        self.stop(Stopped::Provider(format!(
            "a call of one row is charged about {tokens} tokens here ({output} of output, hidden \
             ones included), and limits.{} never has room for that; raise it",
            limit.key()
        )));
    }

    /// Tells that a day's limit is used up, once nothing is in flight whose charge may yet turn out
    /// lower; ends the run if it was told to.
    fn ends_for_the_day(&mut self, charge: Charge, now: Moment) -> bool {
        if !self.calls.is_empty() {
            return false;
        }
        let Some(UsedUp { name, limit, until }) = self.parts.governor.used_up(charge, now) else {
            return false;
        };
        let resets_in = until.since(now);
        if !std::mem::replace(&mut self.told_of_the_day, true) {
            self.parts.events.emit(Event::DailyLimitUsed {
                limit: name.key().to_owned(),
                most: limit,
                resets_in: resets_in.as_secs_f64(),
            });
        }
        let is_end = self.job.limits.on_daily_limit == OnDailyLimit::Stop;
        if is_end {
            self.stop(Stopped::Quota(format!(
                "limits.{} of {limit} is used up; there is room again in {}",
                name.key(),
                in_hours(resets_in)
            )));
        }
        is_end
    }

    pub(super) fn emit_holds(&mut self, now: Moment) {
        for Hold { until, asked } in self.parts.governor.take_holds() {
            let seconds = until.since(now).as_secs_f64();
            let asked = asked.map(|asked| asked.as_secs_f64());
            self.parts.events.emit(Event::Held { seconds, asked });
        }
    }

    pub(super) fn give_up_too_long(&mut self, rows: impl IntoIterator<Item = TooLong>) {
        for TooLong(row) in rows {
            let (reason, attempts) = (Reason::TooLong, row.attempts);
            self.settle(&row, Outcome::Unlabelled { reason, attempts }, Source::GivenUp);
        }
    }

    pub(super) fn announce(&mut self, wait: WaitFor, until: Option<Moment>, now: Moment) {
        let seconds = until.map_or(0.0, |until| until.since(now).as_secs_f64());
        let is_news = self
            .announced
            .is_none_or(|(told, at)| told != wait || now.since(at) >= Duration::from_secs(1));
        let is_for_replies = matches!(wait, WaitFor::Replies | WaitFor::Budget);
        if !is_news || (seconds < 0.05 && !is_for_replies) {
            return;
        }
        self.announced = Some((wait, now));
        let window_tokens = self.parts.governor.window_tokens(now);
        self.parts.events.emit(Event::Waiting { wait, seconds, window_tokens });
    }

    pub(super) fn emit_marks(&mut self) {
        for mark in self.parts.governor.take_marks() {
            self.parts.events.emit(Event::WindowCrossed {
                percent: mark.percent,
                window_tokens: mark.window_tokens,
                limit: mark.limit,
            });
        }
    }

    fn give_up_in_time(&mut self) {
        if self.give_up_at().is_some_and(|at| at <= self.now()) {
            let failing_for = self.job.give_up_after;
            self.stop(Stopped::Provider(format!(
                "nothing but failures for {} s",
                failing_for.as_secs()
            )));
        }
    }
}

/// A wait as a person would say it: `3 h 20 min`, `12 min`, `40 s`.
fn in_hours(wait: Duration) -> String {
    let minutes = wait.as_secs().div_ceil(60);
    match (minutes / 60, minutes % 60) {
        (0, 0 | 1) => format!("{} s", wait.as_secs().max(1)),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
