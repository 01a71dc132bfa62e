//! How many calls may be in flight.
//!
//! Under a token or request limit the ledger decides, and this is only a generous bound. Without
//! one (a local vLLM or llama.cpp) the number adapts: it grows while latency stays near the
//! shortest seen or throughput still grows with it, and shrinks when neither holds or calls fail.

use std::time::Duration;

use crate::domain::Moment;

/// Most calls in flight where a limit paces them.
pub const MOST_IN_FLIGHT: usize = 1024;
/// Calls in flight at first where nothing paces them.
pub const FIRST_IN_FLIGHT: usize = 4;
/// Most calls in flight where nothing paces them.
pub const MOST_ADAPTIVE_IN_FLIGHT: usize = 256;
/// Latency up to this many times the shortest is no reason to stop growing.
const LATENCY_TOLERANCE: u32 = 2;
/// A round has at least so many calls, so that its mean means something.
const SHORTEST_ROUND: usize = 4;

/// How many calls may be in flight.
#[derive(Debug)]
pub(super) enum Concurrency {
    /// A limit paces the calls.
    Paced,
    /// Nothing paces them.
    Adaptive(Adaptive),
}

impl Concurrency {
    pub(super) fn new(is_paced: bool, now: Moment) -> Concurrency {
        if is_paced { Concurrency::Paced } else { Concurrency::Adaptive(Adaptive::new(now)) }
    }

    /// Most calls in flight at present.
    pub(super) fn limit(&self) -> usize {
        match self {
            Concurrency::Paced => MOST_IN_FLIGHT,
            Concurrency::Adaptive(adaptive) => adaptive.limit,
        }
    }

    /// A call was sent and `in_flight` are under way with it.
    pub(super) fn started(&mut self, in_flight: usize) {
        if let Concurrency::Adaptive(adaptive) = self {
            adaptive.round.peak = adaptive.round.peak.max(in_flight);
        }
    }

    /// A call that was sent at `sent` was answered.
    pub(super) fn succeeded(&mut self, sent: Moment, now: Moment) {
        if let Concurrency::Adaptive(adaptive) = self {
            adaptive.succeeded(sent, now);
        }
    }

    /// A call that was sent at `sent` failed for want of capacity.
    pub(super) fn failed(&mut self, sent: Moment, now: Moment) {
        if let Concurrency::Adaptive(adaptive) = self
            && sent >= adaptive.round.since
        {
            adaptive.move_to(Move::Shrink, now);
        }
    }
}

/// A hill climb in rounds: each round judges the latency of calls that were all sent under one
/// limit.
#[derive(Debug)]
pub(super) struct Adaptive {
    limit: usize,
    /// Until the first shrinking the limit doubles; later it grows by an eighth.
    is_slow_start: bool,
    /// The shortest mean latency of a round. Should a lucky round have set it too low, throughput
    /// alone decides.
    shortest: Option<Duration>,
    last: Option<(Move, Level)>,
    round: Round,
}

/// Calls that were sent under one limit.
#[derive(Debug)]
struct Round {
    since: Moment,
    peak: usize,
    replies: usize,
    latency: Duration,
}

/// What a limit achieved.
#[derive(Clone, Copy, Debug)]
struct Level {
    limit: usize,
    /// Replies per second, by Little's law: calls in flight over mean latency.
    rate: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Grow,
    Shrink,
}

impl Adaptive {
    fn new(now: Moment) -> Adaptive {
        Adaptive {
            limit: FIRST_IN_FLIGHT,
            is_slow_start: true,
            shortest: None,
            last: None,
            round: Round::new(now),
        }
    }

    fn succeeded(&mut self, sent: Moment, now: Moment) {
        if sent < self.round.since {
            return;
        }
        self.round.replies += 1;
        self.round.latency += now.since(sent);
        if self.round.replies >= self.limit.max(SHORTEST_ROUND) {
            self.end_round(now);
        }
    }

    fn end_round(&mut self, now: Moment) {
        let replies = u32::try_from(self.round.replies).unwrap_or(u32::MAX).max(1);
        let mean = (self.round.latency / replies).max(Duration::from_micros(1));
        let shortest = self.shortest.map_or(mean, |shortest| mean.min(shortest));
        self.shortest = Some(shortest);
        if self.round.peak < self.limit {
            // There was not enough to ask: the round says nothing about this limit.
            self.round = Round::new(now);
            return;
        }
        let level = Level { limit: self.limit, rate: self.limit as f64 / mean.as_secs_f64() };
        let is_near_shortest = mean <= shortest * LATENCY_TOLERANCE;
        let next = match self.last {
            _ if is_near_shortest => Move::Grow,
            Some((Move::Grow, before)) if level.has_gained_over(before) => Move::Grow,
            Some((Move::Shrink, before)) if level.rate < before.rate * 0.95 => Move::Grow,
            _ => Move::Shrink,
        };
        self.move_to(next, now);
        self.last = Some((next, level));
    }

    fn move_to(&mut self, next: Move, now: Moment) {
        self.limit = match next {
            Move::Grow if self.is_slow_start => self.limit * 2,
            Move::Grow => self.limit + (self.limit / 8).max(1),
            Move::Shrink => self.limit * 3 / 4,
        }
        .clamp(1, MOST_ADAPTIVE_IN_FLIGHT);
        self.is_slow_start &= next == Move::Grow;
        self.last = None;
        self.round = Round::new(now);
    }
}

impl Level {
    /// Whether growing from `before` brought at least a third of what it could have.
    fn has_gained_over(self, before: Level) -> bool {
        let growth = self.limit as f64 / before.limit as f64 - 1.0;
        growth > 0.0 && self.rate >= before.rate * (1.0 + growth / 3.0)
    }
}

impl Round {
    fn new(since: Moment) -> Round {
        Round { since, peak: 0, replies: 0, latency: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a server whose latency depends on how many calls it has, full all the time.
    fn settle_on(latency: impl Fn(usize, usize) -> Duration) -> Vec<usize> {
        let mut now = Moment::default();
        let mut concurrency = Concurrency::new(false, now);
        let mut limits = Vec::new();
        for round in 0..60 {
            let in_flight = concurrency.limit();
            let sent = now;
            concurrency.started(in_flight);
            now = now + latency(in_flight, round);
            for _ in 0..in_flight.max(SHORTEST_ROUND) {
                concurrency.succeeded(sent, now);
            }
            limits.push(concurrency.limit());
        }
        limits
    }

    #[test]
    fn a_server_with_one_slot_is_not_flooded() {
        let limits = settle_on(|calls, _| Duration::from_millis(200) * calls as u32);
        assert!(limits[30..].iter().all(|limit| *limit <= 12), "{limits:?}");
    }

    #[test]
    fn a_server_with_forty_slots_gets_enough_to_fill_them() {
        let slots = |calls: usize| Duration::from_millis(1_000) * (calls.max(40) as u32) / 40;
        let limits = settle_on(|calls, _| slots(calls));
        assert!(limits[30..].iter().all(|limit| (36..=96).contains(limit)), "{limits:?}");
    }

    #[test]
    fn a_server_that_gains_from_more_calls_gets_them_though_each_takes_longer() {
        // Continuous batching: twelve times the latency at 256 calls, twenty times the throughput.
        let batching = |calls: usize| Duration::from_millis(500 + 23 * calls as u64);
        let limits = settle_on(|calls, _| batching(calls));
        let rate = |calls: usize| calls as f64 / batching(calls).as_secs_f64();
        let worst = limits[30..].iter().map(|limit| rate(*limit)).fold(f64::MAX, f64::min);
        assert!(worst > 0.6 * rate(MOST_ADAPTIVE_IN_FLIGHT), "{worst} {limits:?}");
    }

    #[test]
    fn a_server_that_slows_down_for_good_keeps_enough_calls_to_fill_it() {
        let slots = |calls: usize| Duration::from_millis(500) * (calls.max(40) as u32) / 40;
        let limits = settle_on(|calls, round| slots(calls) * if round < 10 { 1 } else { 6 });
        let tail = &limits[30..];
        let mean = tail.iter().sum::<usize>() / tail.len();
        assert!((30..=100).contains(&mean), "{limits:?}");
    }

    #[test]
    fn failures_shrink_it_once_a_round_and_never_below_one() {
        let mut concurrency = Concurrency::new(false, Moment::default());
        let second = |seconds| Moment(Duration::from_secs(seconds));
        concurrency.failed(second(0), second(1));
        assert_eq!(concurrency.limit(), 3);
        concurrency.failed(second(0), second(1));
        assert_eq!(concurrency.limit(), 3, "it was sent under the old limit");
        for at in 2..20 {
            concurrency.failed(second(at), second(at));
        }
        assert_eq!(concurrency.limit(), 1);
    }

    #[test]
    fn too_little_to_ask_is_no_reason_to_grow() {
        let mut concurrency = Concurrency::new(false, Moment::default());
        let mut now = Moment::default();
        for _ in 0..100 {
            concurrency.started(1);
            let sent = now;
            now = now + Duration::from_millis(100);
            concurrency.succeeded(sent, now);
        }
        assert_eq!(concurrency.limit(), FIRST_IN_FLIGHT);
    }

    #[test]
    fn a_limit_leaves_the_number_to_the_ledger() {
        let mut concurrency = Concurrency::new(true, Moment::default());
        concurrency.failed(Moment::default(), Moment::default());
        assert_eq!(concurrency.limit(), MOST_IN_FLIGHT);
    }
}
