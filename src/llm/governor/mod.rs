//! Paces calls so that no rolling 60 s at the server exceeds a limit, and hardly any of it is left
//! unused.
//!
//! Pure: time comes in as an argument; nothing here sleeps or does I/O. Ask [`Governor::admit`],
//! tell [`Governor::reserve`] at the moment of sending, and end every call exactly once with
//! [`Governor::settle`], [`Governor::fail`] or [`Governor::release`].
//!
//! Why the limit holds: a server with an exact rolling minute charges a call when it arrives,
//! between 0 and [`TRANSIT`] after it was sent. Take any of its windows and, of the calls in it,
//! the one that was sent last. Each other one arrived less than 60 s before that one, so was sent
//! less than 60 s + [`TRANSIT`] before it. A charge that is kept 60 s + [`TRANSIT`] from sending
//! was therefore in the ledger when the last one was admitted, and the sum did not pass the limit.
//! A reply proves that its call has arrived, so its charge is gone at the latest 60 s after it:
//! with short latencies the allowance costs nothing.

mod backoff;
mod call;
mod ceiling;
mod concurrency;
mod estimate_error;
mod ledger;
#[cfg(test)]
mod simulation;
mod spread;
mod window_marks;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::event::WaitFor;
use crate::domain::spec::Limits;
use crate::domain::{Moment, Tokens};
use crate::llm::provider::RateHeaders;

pub use backoff::LONGEST_RETRY_AFTER;
use backoff::{Breaker, Jitter, RateHold};
pub use call::{Admission, Failure, PastCharge, Reservation};
use ceiling::{Ceiling, Penalty};
use concurrency::Concurrency;
pub use concurrency::{FIRST_IN_FLIGHT, MOST_ADAPTIVE_IN_FLIGHT, MOST_IN_FLIGHT};
use estimate_error::EstimateError;
use ledger::{Axis, Charge, Leaves, Ledger};
use spread::Spread;
pub use window_marks::WindowMark;
use window_marks::WindowMarks;

/// The span of the limits.
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
    tokens: Ceiling,
    requests: Ceiling,
    penalty: Penalty,
    ledger: Ledger,
    spread: Spread,
    rate_hold: RateHold,
    breaker: Breaker,
    concurrency: Concurrency,
    estimate_error: EstimateError,
    marks: WindowMarks,
    jitter: Jitter,
    /// Calls in flight: when each was sent, by number and thus in order of sending.
    in_flight: BTreeMap<u64, Moment>,
    /// What the calls in flight have reserved together.
    reserved: u64,
    next_number: u64,
    /// How many connections are taken to be open: most calls in flight since the last failure.
    warm: usize,
    has_reply: bool,
}

const TOKENS: Axis = |charge| charge.tokens;
const REQUESTS: Axis = |charge| charge.requests;

impl Governor {
    /// A governor with an empty ledger. `seed` feeds the jitter of its waits.
    pub fn new(limits: Limits, seed: u64, now: Moment) -> Governor {
        let tokens = limits.tokens_per_minute.map(|limit| u64::from(limit.get()));
        let requests = limits.requests_per_minute.map(|limit| u64::from(limit.get()));
        Governor {
            concurrency: Concurrency::new(tokens.is_some() || requests.is_some(), now),
            tokens: Ceiling::new(tokens),
            requests: Ceiling::new(requests),
            penalty: Penalty::default(),
            ledger: Ledger::default(),
            spread: Spread::new(now),
            rate_hold: RateHold::default(),
            breaker: Breaker::default(),
            estimate_error: EstimateError::default(),
            marks: WindowMarks::default(),
            jitter: Jitter::new(seed),
            in_flight: BTreeMap::new(),
            reserved: 0,
            next_number: 0,
            warm: 0,
            has_reply: false,
        }
    }

    /// Enters charges of earlier runs. Those that have left the minute are passed over.
    pub fn restore(&mut self, past: impl IntoIterator<Item = PastCharge>, now: Moment) {
        for charge in past {
            if let Some(remaining) = (MINUTE + COLD_TRANSIT).checked_sub(charge.age) {
                let leaves = Leaves::after(now + remaining);
                self.ledger.add(leaves, Charge::call(u64::from(charge.tokens.0)));
            }
        }
        self.update_marks(now);
    }

    /// Whether a call of `tokens` (prompt and expected answer) may start at `now`.
    ///
    /// A wait is the smallest that suffices: if nothing else starts, the same call is admitted at
    /// its `until`. The first call of a run goes alone, so that a wrong key fails alone.
    pub fn admit(&mut self, tokens: Tokens, now: Moment) -> Admission {
        let needed = u64::from(tokens.0);
        if let Some(limit) = self.tokens.own()
            && needed > limit
        {
            return Admission::Never { limit };
        }
        if self.in_flight.len() >= self.concurrency.limit() {
            return Admission::Wait { until: None, wait: WaitFor::Replies };
        }
        if let Some(until) = self.lone_call_until()
            && now < until
        {
            return Admission::Wait { until: Some(until), wait: WaitFor::Replies };
        }
        self.ledger.prune(now);
        let margin = self.estimate_error.room_for(self.in_flight.len() + 1, self.reserved + needed);
        let with_margin = (needed + margin).min(self.tokens.own().unwrap_or(u64::MAX));
        let waits = [
            (self.spread.due(), WaitFor::Spread),
            (self.room_from(&self.requests, 1, REQUESTS, now), WaitFor::Requests),
            (self.room_from(&self.tokens, with_margin, TOKENS, now), WaitFor::Tokens),
            (self.breaker.until(), WaitFor::Backoff),
            (self.rate_hold.until(), WaitFor::RetryAfter),
        ];
        let longest = waits.into_iter().max_by_key(|(until, _)| *until);
        match longest.filter(|(until, _)| *until > now) {
            Some((until, wait)) => Admission::Wait { until: Some(until), wait },
            None => Admission::Start,
        }
    }

    /// Reserves `tokens` for a call that is sent at this moment.
    pub fn reserve(&mut self, tokens: Tokens, now: Moment) -> Reservation {
        let number = self.next_number;
        self.next_number += 1;
        self.in_flight.insert(number, now);
        self.reserved += u64::from(tokens.0);
        let in_flight = self.in_flight.len();
        let transit = if in_flight > self.warm { COLD_TRANSIT } else { TRANSIT };
        self.warm = self.warm.max(in_flight);
        self.concurrency.started(in_flight);
        self.spread.start(self.interval(tokens, now), now);

        let leaves = Leaves::after(now + MINUTE + transit);
        self.ledger.prune(now);
        self.ledger.add(leaves, Charge::call(u64::from(tokens.0)));
        self.update_marks(now);
        let window = self.ledger.total(now);
        Reservation {
            number,
            sent: now,
            tokens,
            leaves,
            window_tokens: window.tokens,
            window_requests: window.requests,
        }
    }

    /// A call was answered; `charged` is what the provider's usage says that it cost.
    pub fn settle(&mut self, call: Reservation, charged: Tokens, now: Moment) {
        if !self.end(call) {
            return;
        }
        self.estimate_error.learn(call.tokens.0, charged.0);
        self.ledger.prune(now);
        self.ledger.settle(
            call.leaves,
            Charge::call(u64::from(call.tokens.0)),
            Charge::call(u64::from(charged.0)),
            Leaves::after(now + MINUTE),
        );
        self.update_marks(now);
        self.spread.settle(self.interval(call.tokens, now), self.interval(charged, now));
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
            Failure::RateLimited { retry_after, charged } => {
                if !charged {
                    let tokens = Charge { tokens: u64::from(call.tokens.0), requests: 0 };
                    self.ledger.prune(now);
                    self.ledger.take(call.leaves, tokens);
                }
                if self.rate_hold.hit(call.sent, retry_after, now, &mut self.jitter) {
                    self.penalty.deepen(now);
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
            self.ledger.prune(now);
            self.ledger.take(call.leaves, Charge::call(u64::from(call.tokens.0)));
            self.spread.settle(self.interval(call.tokens, now), Duration::ZERO);
        }
    }

    /// Reads what the headers of the reply to `call` say of the limits, before or after it is
    /// settled. They may lower the ceiling for a while and never raise it above the user's.
    pub fn observe(&mut self, call: Reservation, headers: &RateHeaders, now: Moment) {
        // "Left" was true at some moment between sending and reply. The higher of the two ledgers
        // keeps our own later or earlier calls from looking like somebody else's.
        let window = self.ledger.total(now);
        if let Some(limit) = headers.limit_tokens {
            // A limit below a call that it let through is none.
            self.tokens.observe_limit(limit.max(u64::from(call.tokens.0)), now);
        }
        if let Some(left) = headers.remaining_tokens {
            let most = window.tokens.max(call.window_tokens).saturating_add(left);
            self.tokens.observe_left(most, headers.reset_tokens, now);
        }
        if let Some(limit) = headers.limit_requests {
            self.requests.observe_limit(limit.max(1), now);
        }
        if let Some(left) = headers.remaining_requests {
            let most = window.requests.max(call.window_requests).saturating_add(left);
            self.requests.observe_left(most, headers.reset_requests, now);
        }
    }

    /// The most that one call should take, so that none waits long for room: half of the limit.
    /// `None` without a token limit.
    pub fn largest_call(&self) -> Option<Tokens> {
        let limit = self.tokens.own()?;
        Some(Tokens(u32::try_from(limit / 2).unwrap_or(u32::MAX).max(1)))
    }

    /// Tokens in the ledger: all that may still stand in the server's rolling minute.
    pub fn window_tokens(&self, now: Moment) -> u64 {
        self.ledger.total(now).tokens
    }

    /// Requests in the ledger.
    pub fn window_requests(&self, now: Moment) -> u64 {
        self.ledger.total(now).requests
    }

    /// The marks that the window crossed upwards since the last time, oldest first.
    pub fn take_marks(&mut self) -> Vec<WindowMark> {
        self.marks.take()
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
            self.reserved -= u64::from(call.tokens.0);
        }
        was_in_flight
    }

    /// Until when a call that goes alone keeps the others waiting: one of a run that has no reply
    /// yet, or a probe while the breaker is open.
    fn lone_call_until(&self) -> Option<Moment> {
        let (_, &newest) = self.in_flight.last_key_value()?;
        let is_lone = !self.has_reply || self.breaker.is_probe(newest);
        is_lone.then(|| newest + LONE_CALL_PATIENCE)
    }

    /// The first moment, `now` or later, at which `needed` more fits under `ceiling`.
    fn room_from(&self, ceiling: &Ceiling, needed: u64, axis: Axis, now: Moment) -> Moment {
        let mut rises: Vec<Moment> =
            ceiling.rises().chain(self.penalty.rises()).filter(|rise| *rise > now).collect();
        rises.sort_unstable();
        let mut from = now;
        let mut rises = rises.into_iter();
        loop {
            let next_rise = rises.next();
            let Some(highest) = ceiling.at(from, self.penalty.share(from)) else {
                return from;
            };
            let room_at =
                highest.checked_sub(needed).map(|most| self.ledger.falls_to(most, axis, from));
            match (room_at, next_rise) {
                (Some(room_at), Some(rise)) if room_at < rise => return room_at,
                (_, Some(rise)) => from = rise,
                // The ceiling is whole again: only a call over the user's own limit has no room.
                (room_at, None) => return room_at.unwrap_or(from),
            }
        }
    }

    /// The share of the minute that a call of `tokens` takes.
    fn interval(&self, tokens: Tokens, now: Moment) -> Duration {
        let share = self.penalty.share(now);
        let part = |amount: u64, limit: Option<u64>| {
            let Some(limit) = limit else { return Duration::ZERO };
            let nanos = MINUTE.as_nanos() * u128::from(amount) * 1000
                / u128::from(limit.saturating_mul(share).max(1));
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(MINUTE)
        };
        part(u64::from(tokens.0), self.tokens.limit(now)).max(part(1, self.requests.limit(now)))
    }

    fn update_marks(&mut self, now: Moment) {
        self.marks.update(self.ledger.total(now).tokens, self.tokens.limit(now));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    fn governor(tokens: u32, requests: u32) -> Governor {
        let limits = Limits {
            tokens_per_minute: NonZeroU32::new(tokens),
            requests_per_minute: NonZeroU32::new(requests),
        };
        Governor::new(limits, 7, at(0))
    }

    /// A governor whose first call was answered at 100 ms.
    fn warm_governor(tokens: u32, requests: u32) -> Governor {
        let mut governor = governor(tokens, requests);
        let first = governor.reserve(Tokens(10), at(0));
        governor.settle(first, Tokens(10), at(100));
        governor
    }

    /// The moment at which a call of `tokens` starts when nothing else happens.
    fn starts_at(governor: &mut Governor, tokens: u32, mut now: Moment) -> Moment {
        for _ in 0..3 {
            match governor.admit(Tokens(tokens), now) {
                Admission::Start => return now,
                Admission::Wait { until: Some(until), .. } => now = until,
                other => panic!("{other:?}"),
            }
        }
        panic!("no progress by {now:?}")
    }

    fn wait(governor: &mut Governor, tokens: u32, now: Moment) -> Option<WaitFor> {
        match governor.admit(Tokens(tokens), now) {
            Admission::Wait { wait, .. } => Some(wait),
            _ => None,
        }
    }

    const DOWN: Failure = Failure::Capacity { retry_after: None };

    #[test]
    fn the_first_call_goes_alone_until_it_is_answered() {
        let mut governor = governor(200_000, 0);
        let first = governor.reserve(Tokens(1_000), at(0));
        assert_eq!(wait(&mut governor, 1_000, at(5_000)), Some(WaitFor::Replies));
        governor.settle(first, Tokens(1_000), at(5_000));
        assert_eq!(governor.admit(Tokens(1_000), at(5_000)), Admission::Start);
    }

    #[test]
    fn a_first_call_that_failed_is_followed_by_another_lone_one() {
        let mut governor = governor(200_000, 0);
        let first = governor.reserve(Tokens(10), at(0));
        governor.fail(first, Failure::Refused, at(1_000));
        assert_eq!(governor.admit(Tokens(10), at(1_000)), Admission::Start);
        governor.reserve(Tokens(10), at(1_000));
        assert_eq!(wait(&mut governor, 10, at(60_999)), Some(WaitFor::Replies));
        assert_eq!(governor.admit(Tokens(10), at(61_000)), Admission::Start);
    }

    #[test]
    fn a_call_over_the_whole_limit_never_starts_and_says_so() {
        let mut governor = governor(1_000, 0);
        assert_eq!(governor.admit(Tokens(1_001), at(0)), Admission::Never { limit: 1_000 });
        assert_eq!(governor.admit(Tokens(1_000), at(0)), Admission::Start);
        assert_eq!(governor.largest_call(), Some(Tokens(500)));
    }

    #[test]
    fn without_any_limit_replies_alone_hold_calls_back() {
        let mut governor = warm_governor(0, 0);
        assert_eq!(governor.largest_call(), None);
        for _ in 0..FIRST_IN_FLIGHT {
            assert_eq!(governor.admit(Tokens(u32::MAX), at(100)), Admission::Start);
            governor.reserve(Tokens(u32::MAX), at(100));
        }
        assert_eq!(
            governor.admit(Tokens(1), at(100)),
            Admission::Wait { until: None, wait: WaitFor::Replies }
        );
    }

    #[test]
    fn a_full_window_opens_when_its_oldest_charge_has_certainly_left() {
        let mut governor = warm_governor(1_000, 0);
        governor.reserve(Tokens(990), at(1_000));
        assert_eq!(wait(&mut governor, 500, at(60_200)), Some(WaitFor::Tokens));
        assert_eq!(starts_at(&mut governor, 500, at(60_200)), at(61_260));
    }

    #[test]
    fn a_settled_estimate_frees_what_it_did_not_need() {
        let mut governor = warm_governor(1_000, 0);
        let call = governor.reserve(Tokens(900), at(1_000));
        governor.settle(call, Tokens(400), at(2_000));
        governor.settle(call, Tokens(0), at(2_000));
        assert_eq!(governor.window_tokens(at(2_000)), 410);
        assert_eq!(governor.window_requests(at(2_000)), 2);
    }

    #[test]
    fn a_failed_call_stays_charged_and_a_released_one_does_not() {
        let mut governor = warm_governor(1_000, 0);
        let failed = governor.reserve(Tokens(300), at(1_000));
        let released = governor.reserve(Tokens(200), at(1_000));
        governor.fail(failed, DOWN, at(1_500));
        governor.release(released, at(1_500));
        assert_eq!(governor.window_tokens(at(1_500)), 310);
        assert_eq!(governor.in_flight(), 0);
    }

    #[test]
    fn charges_of_an_earlier_run_count_until_they_have_left() {
        let mut governor = governor(1_000, 0);
        let past = |seconds, tokens| PastCharge {
            age: Duration::from_secs(seconds),
            tokens: Tokens(tokens),
        };
        governor.restore([past(10, 600), past(50, 300), past(70, 900)], at(0));
        assert_eq!(governor.window_tokens(at(0)), 900);
        assert_eq!(starts_at(&mut governor, 200, at(0)), at(11_010));
        assert_eq!(starts_at(&mut governor, 900, at(0)), at(51_010));
    }

    #[test]
    fn a_429_holds_every_call_and_lowers_the_ceiling_for_a_while() {
        let mut governor = warm_governor(1_000, 0);
        let call = governor.reserve(Tokens(10), at(1_000));
        let limited =
            Failure::RateLimited { retry_after: Some(Duration::from_secs(5)), charged: true };
        let retry_in = governor.fail(call, limited, at(2_000)).unwrap();
        assert!((5_000..=5_250).contains(&(retry_in.as_millis() as u64)), "{retry_in:?}");
        assert_eq!(wait(&mut governor, 10, at(6_900)), Some(WaitFor::RetryAfter));
        assert_eq!(governor.failing_since(), None, "being told to wait is no failure");
        // 980 + 20 would fit in 1,000, and does not fit in 950 nor in any step before the last.
        assert_eq!(starts_at(&mut governor, 1_000, at(70_000)), at(302_000));
    }

    #[test]
    fn one_500_among_replies_delays_nobody_else() {
        let mut governor = warm_governor(1_000_000, 0);
        let failed = governor.reserve(Tokens(10), at(1_000));
        let retry_in = governor.fail(failed, DOWN, at(2_000)).unwrap();
        assert!(retry_in <= Duration::from_secs(1));
        assert_eq!(governor.admit(Tokens(10), at(2_000)), Admission::Start);
        assert_eq!(governor.failing_since(), Some(at(2_000)));
    }

    #[test]
    fn an_outage_lets_one_probe_through_at_a_time_until_one_is_answered() {
        let mut governor = warm_governor(1_000_000, 0);
        let mut now = at(1_000);
        for _ in 0..5 {
            now = starts_at(&mut governor, 10, now);
            let call = governor.reserve(Tokens(10), now);
            now = now + Duration::from_secs(1);
            governor.fail(call, DOWN, now);
        }
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let started = starts_at(&mut governor, 10, now);
            longest = longest.max(started.since(now));
            let probe = governor.reserve(Tokens(10), started);
            assert_eq!(wait(&mut governor, 10, started), Some(WaitFor::Replies));
            now = started + Duration::from_secs(1);
            let retry_in = governor.fail(probe, DOWN, now).unwrap();
            assert!(retry_in >= starts_at(&mut governor, 10, now).since(now));
        }
        assert!(longest > Duration::from_secs(10) && longest <= Duration::from_secs(60));
        assert_eq!(governor.failing_since(), Some(at(2_000)));
        let started = starts_at(&mut governor, 10, now);
        let probe = governor.reserve(Tokens(10), started);
        now = started + Duration::from_secs(1);
        governor.settle(probe, Tokens(10), now);
        assert_eq!(governor.failing_since(), None);
        assert_eq!(governor.admit(Tokens(10), now), Admission::Start);
        governor.reserve(Tokens(10), now);
        assert!(starts_at(&mut governor, 10, now).since(now) < Duration::from_millis(2));
    }

    #[test]
    fn headers_that_show_another_user_lower_the_ceiling_and_our_own_calls_do_not() {
        let mut governor = warm_governor(1_000, 0);
        let call = governor.reserve(Tokens(190), at(1_000));
        let left = |tokens| RateHeaders { remaining_tokens: Some(tokens), ..Default::default() };
        // 200 of ours in the window: 800 left are all.
        governor.observe(call, &left(800), at(13_000));
        governor.settle(call, Tokens(190), at(13_000));
        assert_eq!(starts_at(&mut governor, 800, at(13_000)), at(13_000));
        // 300 left: somebody else has 500. Forgotten after a minute.
        governor.observe(call, &left(300), at(13_000));
        assert_eq!(starts_at(&mut governor, 300, at(13_000)), at(13_000));
        assert_eq!(starts_at(&mut governor, 301, at(13_000)), at(60_110));
    }

    #[test]
    fn a_limit_in_the_headers_paces_even_where_the_user_set_none() {
        let mut governor = warm_governor(0, 0);
        let call = governor.reserve(Tokens(500), at(1_000));
        let headers = RateHeaders { limit_tokens: Some(1_000), ..Default::default() };
        governor.observe(call, &headers, at(2_000));
        governor.settle(call, Tokens(500), at(2_000));
        assert_eq!(starts_at(&mut governor, 600, at(2_000)), at(61_260));
    }

    #[test]
    fn a_filling_window_tells_its_marks() {
        let mut governor = warm_governor(1_000, 0);
        governor.reserve(Tokens(850), at(1_000));
        governor.reserve(Tokens(110), at(2_000));
        let percents: Vec<u8> = governor.take_marks().iter().map(|mark| mark.percent).collect();
        assert_eq!(percents, [85, 95]);
        assert!(governor.take_marks().is_empty());
    }
}
