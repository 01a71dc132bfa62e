//! Paces calls so that no limit of the provider is ever passed, and hardly any of it is left unused.
//!
//! Pure: time comes in as an argument; nothing here sleeps or does I/O. Ask [`Governor::admit`],
//! tell [`Governor::reserve`] at the moment of sending, and end every call exactly once with
//! [`Governor::settle`], [`Governor::fail`] or [`Governor::release`].
//!
//! Why a limit holds: a server with an exact rolling minute charges a call when it arrives,
//! between 0 and [`TRANSIT`] after it was sent. Take any of its windows and, of the calls in it,
//! the one that was sent last. Each other one arrived less than 60 s before that one, so was sent
//! less than 60 s + [`TRANSIT`] before it. A charge that is kept 60 s + [`TRANSIT`] from sending
//! was therefore in the ledger when the last one was admitted, and the sum did not pass the limit.
//! A reply proves that its call has arrived, so its charge is gone at the latest 60 s after it:
//! with short latencies the allowance costs nothing.
//!
//! The same goes for slices of a second and for days. A counter that begins anew each minute counts
//! less than the rolling minute does, whenever it begins. A bucket gets a ledger of its own
//! (`bucket`), since calls that are large beside it fill it better than a window.

mod backoff;
mod bucket;
mod call;
mod ceiling;
mod concurrency;
mod estimate_error;
mod ledger;
mod meter;
mod meters;
mod penalty;
#[cfg(test)]
mod simulation;
mod spread;
#[cfg(test)]
mod tests;
pub mod vendors;
mod window;
mod window_marks;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::event::WaitFor;
use crate::domain::limits::{Counting, Limits, Rules};
use crate::domain::{Charge, ChargeSum, Moment, Tokens, UnixMillis};
use crate::llm::provider::RateHeaders;

pub use backoff::LONGEST_RETRY_AFTER;
use backoff::{Breaker, Jitter, RateHold};
pub use call::{Admission, Failure, Hold, PastCharge, Reservation, UsedUp};
use concurrency::Concurrency;
pub use concurrency::{FIRST_IN_FLIGHT, MOST_ADAPTIVE_IN_FLIGHT, MOST_IN_FLIGHT};
use estimate_error::Estimates;
use ledger::Ledger;
pub use meter::LimitName;
use meters::Meters;
use penalty::Penalty;
use spread::Spread;
pub use window_marks::WindowMark;
use window_marks::WindowMarks;

/// The span of most limits.
const MINUTE: Duration = Duration::from_secs(60);
/// The longest that a request on a warm connection takes to reach the server's ledger. It costs
/// 0.4 % of the limit.
pub const TRANSIT: Duration = Duration::from_millis(250);
/// The same for a request that needs a new connection first (name, TCP, TLS): more calls in flight
/// than ever before, or the first ones after a failure.
pub const COLD_TRANSIT: Duration = Duration::from_secs(1);
/// How long a call that goes alone (the first of a run, a probe) keeps the others waiting.
pub const LONE_CALL_PATIENCE: Duration = Duration::from_secs(60);

/// Decides when the next call may start.
#[derive(Debug)]
pub struct Governor {
    rules: Rules,
    meters: Meters,
    penalty: Penalty,
    /// The tokens of any 60 seconds, whatever the limits: what is shown to people.
    minute: Ledger,
    spread: Spread,
    rate_hold: RateHold,
    holds: Vec<Hold>,
    breaker: Breaker,
    concurrency: Concurrency,
    estimates: Estimates,
    marks: WindowMarks,
    jitter: Jitter,
    /// Calls in flight: when each was sent, by number and thus in order of sending.
    in_flight: BTreeMap<u64, Moment>,
    next_number: u64,
    /// How many connections are taken to be open: most calls in flight since the last failure.
    warm: usize,
    has_reply: bool,
}

impl Governor {
    /// A governor with empty ledgers; `wall` is the time of day at `now`. `seed` feeds the jitter
    /// of its waits.
    pub fn new(limits: Limits, seed: u64, now: Moment, wall: UnixMillis) -> Governor {
        let meters = Meters::new(limits, now, wall);
        Governor {
            rules: limits.rules,
            concurrency: Concurrency::new(meters.are_minutes_limited(), now),
            meters,
            penalty: Penalty::default(),
            minute: Ledger::new(Duration::from_millis(10)),
            spread: Spread::new(now),
            rate_hold: RateHold::default(),
            holds: Vec::new(),
            breaker: Breaker::default(),
            estimates: Estimates::default(),
            marks: WindowMarks::default(),
            jitter: Jitter::new(seed),
            in_flight: BTreeMap::new(),
            next_number: 0,
            warm: 0,
            has_reply: false,
        }
    }

    /// Enters charges of earlier runs. Those that have left a window are passed over there.
    pub fn restore(&mut self, past: impl IntoIterator<Item = PastCharge>, now: Moment) {
        for PastCharge { age, charge } in past {
            self.meters.restore(charge, age, now);
            if let Some(remaining) = (MINUTE + COLD_TRANSIT).checked_sub(age) {
                self.minute.add(now + remaining, charge.tokens);
            }
        }
        self.update_marks(now);
    }

    /// Whether a call that is expected to count `charge` may start at `now`.
    ///
    /// A wait is the smallest that suffices: if nothing else starts, the same call is admitted at
    /// its `until`. The first call of a run goes alone, so that a wrong key fails alone.
    pub fn admit(&mut self, charge: Charge, now: Moment) -> Admission {
        if let Some((name, limit)) = self.meters.never_hold(charge) {
            return Admission::Never { name, limit };
        }
        if self.in_flight.len() >= self.concurrency.limit() {
            return Admission::Wait { until: None, wait: WaitFor::Replies };
        }
        if let Some(until) = self.lone_call_until()
            && now < until
        {
            return Admission::Wait { until: Some(until), wait: WaitFor::Replies };
        }
        let needed = self.estimates.with_margin(charge, self.in_flight.len() + 1);
        let (room, name) = self.meters.room_from(needed, &self.penalty, now);
        let waits = [
            (self.spread.due(), WaitFor::Spread),
            (room, name.wait()),
            (self.breaker.until(), WaitFor::Backoff),
            (self.rate_hold.until(), WaitFor::RetryAfter),
        ];
        let longest = waits.into_iter().max_by_key(|(until, _)| *until);
        match longest.filter(|(until, _)| *until > now) {
            Some((until, wait)) => Admission::Wait { until: Some(until), wait },
            None => Admission::Start,
        }
    }

    /// Whether a call of `charge` waits at `now` for nothing but room for tokens in a slice, so that
    /// a slightly smaller one may start.
    pub fn waits_for_slice(&self, charge: Charge, now: Moment) -> bool {
        let needed = self.estimates.with_margin(charge, self.in_flight.len() + 1);
        self.meters.only_slices_are_full(needed, &self.penalty, now)
    }

    /// The day's limit that keeps a call of `charge` waiting at `now`, if one does.
    pub fn used_up(&self, charge: Charge, now: Moment) -> Option<UsedUp> {
        let needed = self.estimates.with_margin(charge, self.in_flight.len() + 1);
        self.meters.used_up(needed, &self.penalty, now)
    }

    /// Reserves `charge` for a call that is sent at this moment.
    pub fn reserve(&mut self, charge: Charge, now: Moment) -> Reservation {
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight.insert(number, now);
        self.estimates.reserve(charge);
        let in_flight = self.in_flight.len();
        let transit = if in_flight > self.warm { COLD_TRANSIT } else { TRANSIT };
        self.warm = self.warm.max(in_flight);
        self.concurrency.started(in_flight, now);
        self.spread.start(self.interval(charge, now), now);
        self.meters.add(charge.into(), transit, now);
        self.minute.prune(now);
        self.minute.add(now + MINUTE + transit, u64::from(charge.tokens.0));
        self.update_marks(now);
        let standing = self.meters.standing(now);
        Reservation { number, sent: now, transit, charge, standing }
    }

    /// A call was answered; `charged` is what its `usage` says that it counts.
    pub fn settle(&mut self, call: Reservation, charged: Charge, now: Moment) {
        if !self.end(call) {
            return;
        }
        self.estimates.learn(call.charge, charged);
        self.recharge(call, ChargeSum::from(charged), now);
        self.spread.settle(self.interval(call.charge, now), self.interval(charged, now));
        self.concurrency.succeeded(call.sent, now);
        self.rate_hold.succeeded();
        if self.breaker.succeeded() || !self.has_reply {
            // What was held back on purpose is not made up for by a burst.
            self.spread.hold(now);
        }
        self.has_reply = true;
    }

    /// A call failed. Returns how long its rows should wait before they are asked again; `None`
    /// where the same request is not to be repeated.
    pub fn fail(&mut self, call: Reservation, failure: Failure, now: Moment) -> Option<Duration> {
        if !self.end(call) {
            return None;
        }
        match failure {
            Failure::RateLimited { retry_after, had_room } => {
                if self.rules.refused_calls == Counting::Free {
                    let request = ChargeSum { calls: 1, ..ChargeSum::default() };
                    self.recharge(call, request, now);
                }
                if self.rate_hold.hit(call.sent, retry_after, now, &mut self.jitter) {
                    if !had_room {
                        let standing = self.meters.fullest(&call, now);
                        self.penalty.deepen(standing, now);
                    }
                    self.holds.push(Hold { until: self.rate_hold.until(), asked: retry_after });
                }
                self.concurrency.failed(call.sent, now);
                self.spread.hold(self.rate_hold.until());
                Some(self.rate_hold.until().since(now))
            }
            Failure::Capacity { retry_after } => {
                self.warm = 0;
                self.concurrency.failed(call.sent, now);
                let retry_in = self.breaker.failed(call.sent, retry_after, now, &mut self.jitter);
                self.spread.hold(self.breaker.until());
                Some(retry_in)
            }
            Failure::Refused => None,
        }
    }

    /// A reserved call was not sent after all: its charge is taken back.
    pub fn release(&mut self, call: Reservation, now: Moment) {
        if self.end(call) {
            self.recharge(call, ChargeSum::default(), now);
            self.spread.settle(self.interval(call.charge, now), Duration::ZERO);
        }
    }

    /// Reads what the headers of the reply to `call` say of the limits, before or after it is
    /// settled. They may lower a ceiling for a while and never raise it above the user's.
    pub fn observe(&mut self, call: Reservation, headers: &RateHeaders, now: Moment) {
        self.meters.observe(&call, headers, self.rules.request_headers_are_daily, now);
    }

    /// The most tokens that one call should take, so that none waits long for room, and the limit
    /// that says so. `None` without a limit on tokens.
    pub fn largest_call(&self) -> Option<(Tokens, &'static str)> {
        self.meters.largest_call()
    }

    /// Tokens that count in the last 60 seconds, allowing for transit.
    pub fn window_tokens(&self, now: Moment) -> u64 {
        self.minute.total(now)
    }

    /// The marks that the window crossed upwards since the last time, oldest first.
    pub fn take_marks(&mut self) -> Vec<WindowMark> {
        self.marks.take()
    }

    /// The holds that began since the last time, oldest first.
    pub fn take_holds(&mut self) -> Vec<Hold> {
        std::mem::take(&mut self.holds)
    }

    /// Calls that were reserved and have not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Since when calls have done nothing but fail: the first [`Failure::Capacity`] after the last
    /// reply. Being told to wait (429) is no failure and does not begin it.
    pub fn failing_since(&self) -> Option<Moment> {
        self.breaker.failing_since()
    }

    /// Takes a call out of flight. False if it has ended before.
    fn end(&mut self, call: Reservation) -> bool {
        let was_in_flight = self.in_flight.remove(&call.number).is_some();
        if was_in_flight {
            self.estimates.end(call.charge);
        }
        was_in_flight
    }

    /// Puts what a call really counts in the place of its reservation.
    fn recharge(&mut self, call: Reservation, charged: ChargeSum, now: Moment) {
        self.meters.settle(&call, charged, now);
        let (reserved, leaves) =
            (u64::from(call.charge.tokens.0), call.sent + MINUTE + call.transit);
        self.minute.prune(now);
        self.minute.settle(leaves, reserved, charged.tokens, now + MINUTE);
        self.update_marks(now);
    }

    /// Until when a call that goes alone keeps the others waiting: one of a run that has no reply
    /// yet, or a probe while the breaker is open.
    fn lone_call_until(&self) -> Option<Moment> {
        let (_, &newest) = self.in_flight.last_key_value()?;
        let is_lone = !self.has_reply || self.breaker.is_probe(newest);
        is_lone.then(|| newest + LONE_CALL_PATIENCE)
    }

    /// The share of the minute that a call takes.
    fn interval(&self, charge: Charge, now: Moment) -> Duration {
        self.meters.interval(charge.into(), self.penalty.share(now), now)
    }

    fn update_marks(&mut self, now: Moment) {
        let limit = self.meters.tokens_limit(now);
        self.marks.update(self.minute.total(now), limit);
    }
}
