//! How many calls may be in flight.
//!
//! Under a token or request limit the ledger decides, and this is only a generous bound. Without
//! one (a local vLLM or llama.cpp) the number follows what the server sustains: it grows while
//! latency stays near the shortest seen or throughput still grows with it, and shrinks when neither
//! holds or when calls fail in numbers.
//!
//! The gradient of latency is that of Netflix's `concurrency-limits` (`Gradient2Limit`,
//! `VegasLimit`; github.com/Netflix/concurrency-limits), and of TCP Vegas before it: latency above
//! the shortest means that calls wait in a queue. Two things are different. Where theirs falls back
//! on a long average of the latency, which drifts up with the queue, throughput decides here (by
//! Little's law), since a server that batches gives more at a longer latency. And calls that fail
//! independently of each other are no sign of a limit: one failure in five changes nothing.

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
/// More than half of the calls that a round began have to fail before that says something of the
/// limit, and half of so many: few failures in a row are chance.
const LEAST_FOR_FAILURES: usize = 10;

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

    /// A call was sent at `now` and `in_flight` are under way with it.
    pub(super) fn started(&mut self, in_flight: usize, now: Moment) {
        if let Concurrency::Adaptive(adaptive) = self {
            if in_flight == 1 {
                adaptive.alone = Some(now);
            }
            adaptive.round.peak = adaptive.round.peak.max(in_flight);
            adaptive.round.started += 1;
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
        if let Concurrency::Adaptive(adaptive) = self {
            adaptive.failed(sent, now);
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
    /// The shortest mean latency of a round, or of a call that was alone. Should a lucky one have
    /// set it too low, throughput alone decides.
    shortest: Option<Duration>,
    /// When the last call was sent that found no other under way.
    alone: Option<Moment>,
    last: Option<(Move, Level)>,
    round: Round,
}

/// Calls that were sent under one limit.
#[derive(Debug)]
struct Round {
    since: Moment,
    peak: usize,
    started: usize,
    replies: usize,
    failures: usize,
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
            alone: None,
            last: None,
            round: Round::new(now),
        }
    }

    fn succeeded(&mut self, sent: Moment, now: Moment) {
        if self.alone == Some(sent) {
            let latency = now.since(sent);
            self.shortest = Some(self.shortest.map_or(latency, |shortest| shortest.min(latency)));
        }
        if sent < self.round.since {
            return;
        }
        self.round.replies += 1;
        self.round.latency += now.since(sent);
        if self.round.replies >= self.limit.max(SHORTEST_ROUND) {
            self.end_round(now);
        }
    }

    /// A server that sheds load fails most calls beyond its limit, and at once.
    fn failed(&mut self, sent: Moment, now: Moment) {
        if sent < self.round.since {
            return;
        }
        self.round.failures += 1;
        // Of those that have ended it would be most: a failure is often faster than a reply.
        if self.round.failures * 2 > self.round.started.max(LEAST_FOR_FAILURES) {
            self.move_to(Move::Shrink, now);
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
        Round { since, peak: 0, started: 0, replies: 0, failures: 0, latency: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Runs a server whose latency depends on how many calls it has, full all the time.
    fn settle_on(latency: impl Fn(usize, usize) -> Duration) -> Vec<usize> {
        let mut now = Moment::default();
        let mut concurrency = Concurrency::new(false, now);
        let mut limits = Vec::new();
        for round in 0..60 {
            let in_flight = concurrency.limit();
            let sent = now;
            concurrency.started(in_flight, sent);
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
    fn a_run_of_failures_shrinks_it_and_never_below_one() {
        let mut concurrency = Concurrency::new(false, Moment::default());
        let second = |seconds| Moment(Duration::from_secs(seconds));
        for _ in 0..6 {
            assert_eq!(concurrency.limit(), FIRST_IN_FLIGHT);
            concurrency.failed(second(0), second(1));
        }
        assert_eq!(concurrency.limit(), 3);
        concurrency.failed(second(0), second(1));
        assert_eq!(concurrency.limit(), 3, "it was sent under the old limit");
        for at in 2..40 {
            concurrency.failed(second(at), second(at));
        }
        assert_eq!(concurrency.limit(), 1);
    }

    /// A server with `slots` calls at a time of 800 ms each and a queue before them, kept as busy
    /// as the limit allows for ten minutes. Of a hundred calls, `failing` fail at once; if it
    /// `sheds`, calls beyond its slots do, too.
    struct Busy {
        /// Calls that were answered in a second, after the first minute.
        rate: f64,
        /// The mean latency of those.
        latency: Duration,
        /// The fewest and most calls that were allowed in flight then.
        limits: (usize, usize),
    }

    fn keep_busy(slots: usize, failing: u32, sheds: bool, seed: u64) -> Busy {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut concurrency = Concurrency::new(false, Moment::default());
        let mut free_at = vec![0_u64; slots];
        // When a call ends, when it was sent, and whether it is answered.
        let mut agenda: BinaryHeap<Reverse<(u64, u64, bool)>> = BinaryHeap::new();
        let (mut now, mut answered, mut latency) = (0, 0_u32, Duration::ZERO);
        let (mut limits, mut has_reply) = ((usize::MAX, 0), false);
        while now < 600_000 {
            // The first call of a run goes alone.
            let most = if has_reply { concurrency.limit() } else { 1 };
            while agenda.len() < most {
                concurrency.started(agenda.len() + 1, Moment(Duration::from_millis(now)));
                let slot = free_at.iter_mut().min().unwrap();
                let is_busy = *slot > now;
                if random.random_range(0..100) < failing || (sheds && is_busy) {
                    agenda.push(Reverse((now + random.random_range(10..50), now, false)));
                } else {
                    *slot = (*slot).max(now) + random.random_range(700..900);
                    agenda.push(Reverse((*slot, now, true)));
                }
            }
            let Some(Reverse((ends, sent, is_answered))) = agenda.pop() else { break };
            now = ends;
            let at = |millis| Moment(Duration::from_millis(millis));
            if is_answered {
                has_reply = true;
                concurrency.succeeded(at(sent), at(now));
            } else {
                concurrency.failed(at(sent), at(now));
            }
            if now > 60_000 {
                answered += u32::from(is_answered);
                if is_answered {
                    latency += Duration::from_millis(now - sent);
                }
                limits = (limits.0.min(concurrency.limit()), limits.1.max(concurrency.limit()));
            }
        }
        Busy { rate: f64::from(answered) / 540.0, latency: latency / answered.max(1), limits }
    }

    #[test]
    fn a_server_with_a_queue_is_kept_busy_without_its_latency_exploding() {
        for slots in [1, 2, 8, 40] {
            let Busy { rate, latency, limits } = keep_busy(slots, 0, false, 3);
            let most = slots as f64 / 0.8;
            assert!(rate >= 0.93 * most, "{slots} slots: {rate} of {most}, {limits:?}");
            let most = Duration::from_millis(800) * 3;
            assert!(latency <= most, "{slots} slots: {latency:?}");
        }
    }

    #[test]
    fn one_failure_in_five_costs_hardly_more_than_those_calls() {
        for slots in [8, 40] {
            let whole = keep_busy(slots, 0, false, 5);
            let failing = keep_busy(slots, 20, false, 5);
            assert!(failing.rate >= 0.7 * whole.rate, "{} {}", failing.rate, whole.rate);
            assert!(failing.limits.0 > 2, "{slots} slots: {:?}", failing.limits);
        }
    }

    #[test]
    fn a_server_that_sheds_what_is_too_much_gets_about_what_it_takes() {
        let Busy { rate, limits, .. } = keep_busy(8, 0, true, 7);
        assert!(rate >= 0.75 * 10.0 && limits.1 <= 16, "{rate} {limits:?}");
    }

    #[test]
    fn too_little_to_ask_is_no_reason_to_grow() {
        let mut concurrency = Concurrency::new(false, Moment::default());
        let mut now = Moment::default();
        for _ in 0..100 {
            let sent = now;
            concurrency.started(1, sent);
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
