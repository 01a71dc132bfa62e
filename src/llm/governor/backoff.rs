//! When nothing may start: after a 429, and while the service is down.
//!
//! The two are kept apart. A 429 holds every call, since one account was over its limit; a single
//! 500 delays only the call that met it. Only a run of failures with no reply in between opens the
//! breaker, which then lets one probe through at a time until one is answered.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::domain::Moment;

/// The longest Retry-After that is believed; after it one call asks again.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);
/// What is added to a Retry-After at random, at most, so that several clients of one account do
/// not come back in the same instant.
const RETRY_AFTER_JITTER: Duration = Duration::from_millis(250);
/// The first backoff is drawn between zero and this; each further one from twice as much.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// No backoff is longer.
const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// So many failures in a row, with no reply in between, open the breaker.
pub(super) const BREAKER_OPENS_AT: u32 = 5;
/// Failures closer together than this count as one: a dropped connection takes with it every call
/// that shared it.
const TOGETHER: Duration = Duration::from_millis(100);

/// Randomness for waits, from a seed.
#[derive(Debug)]
pub(super) struct Jitter(ChaCha8Rng);

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Between zero and `most`.
    fn up_to(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.0.random_range(0..=most))
    }

    /// Exponential backoff with full jitter: between zero and 1 s x 2^`earlier`, 60 s at most.
    fn backoff(&mut self, earlier: u32) -> Duration {
        let most = BACKOFF_BASE.saturating_mul(1_u32.checked_shl(earlier).unwrap_or(u32::MAX));
        self.up_to(most.min(BACKOFF_CAP))
    }
}

/// The hold after 429s.
#[derive(Debug, Default)]
pub(super) struct RateHold {
    until: Moment,
    last_hit: Option<Moment>,
    in_a_row: u32,
}

impl RateHold {
    /// Nothing may start before this.
    pub(super) fn until(&self) -> Moment {
        self.until
    }

    /// A call that was sent at `sent` was answered 429. True if this is news, and not one of many
    /// calls that were in flight together.
    pub(super) fn hit(
        &mut self,
        sent: Moment,
        retry_after: Option<Duration>,
        now: Moment,
        jitter: &mut Jitter,
    ) -> bool {
        let is_news = self.last_hit.is_none_or(|last| sent >= last);
        if is_news {
            self.last_hit = Some(now);
            self.in_a_row += 1;
        }
        let wait = match retry_after.filter(|wait| !wait.is_zero()) {
            Some(wait) => wait.min(LONGEST_RETRY_AFTER) + jitter.up_to(RETRY_AFTER_JITTER),
            None if is_news => jitter.backoff(self.in_a_row - 1),
            None => Duration::ZERO,
        };
        self.until = self.until.max(now + wait);
        is_news
    }

    /// A call was answered.
    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }
}

/// Failures of the service: 5xx, timeouts, dropped connections.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    in_a_row: u32,
    last_counted: Option<Moment>,
    failing_since: Option<Moment>,
    open: Option<Open>,
}

/// The breaker is open: what is sent from `since` on is a probe.
#[derive(Debug)]
struct Open {
    since: Moment,
    until: Moment,
    failed_probes: u32,
}

impl Breaker {
    /// No probe may start before this.
    pub(super) fn until(&self) -> Moment {
        self.open.as_ref().map_or(Moment::default(), |open| open.until)
    }

    /// Whether a call that was sent at `sent` is a probe.
    pub(super) fn is_probe(&self, sent: Moment) -> bool {
        self.open.as_ref().is_some_and(|open| sent >= open.since)
    }

    /// The first failure after the last reply.
    pub(super) fn failing_since(&self) -> Option<Moment> {
        self.failing_since
    }

    /// A call that was sent at `sent` failed. Returns how long it should wait before it is asked
    /// again.
    pub(super) fn failed(
        &mut self,
        sent: Moment,
        retry_after: Option<Duration>,
        now: Moment,
        jitter: &mut Jitter,
    ) -> Duration {
        self.failing_since.get_or_insert(now);
        if self.last_counted.is_none_or(|last| now.since(last) >= TOGETHER) {
            self.last_counted = Some(now);
            self.in_a_row += 1;
        }
        let asked_for = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let failed_probes = match &self.open {
            None if self.in_a_row >= BREAKER_OPENS_AT => Some(0),
            Some(open) if sent >= open.since => Some(open.failed_probes + 1),
            _ => None,
        };
        if let Some(failed_probes) = failed_probes {
            let until = now + jitter.backoff(failed_probes).max(asked_for);
            self.open = Some(Open { since: now, until, failed_probes });
        }
        jitter.backoff(self.in_a_row - 1).max(asked_for).max(self.until().since(now))
    }

    /// A call was answered. True if that closed the breaker.
    pub(super) fn succeeded(&mut self) -> bool {
        let was_open = self.open.is_some();
        *self = Breaker::default();
        was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    #[test]
    fn backoff_doubles_up_to_its_cap_and_uses_the_whole_range() {
        let mut jitter = Jitter::new(1);
        for (earlier, most) in [(0, 1), (1, 2), (5, 32), (6, 60), (40, 60)] {
            let draws: Vec<Duration> = (0..400).map(|_| jitter.backoff(earlier)).collect();
            let most = Duration::from_secs(most);
            assert!(draws.iter().all(|draw| *draw <= most));
            assert!(draws.iter().any(|draw| *draw > most * 9 / 10));
            assert!(draws.iter().any(|draw| *draw < most / 10));
        }
    }

    #[test]
    fn a_retry_after_is_kept_to_and_capped() {
        let mut jitter = Jitter::new(1);
        let mut hold = RateHold::default();
        hold.hit(at(0), Some(Duration::from_secs(20)), at(100), &mut jitter);
        assert!((at(20_100)..=at(20_350)).contains(&hold.until()));
        hold.hit(at(30_000), Some(Duration::from_secs(86_400)), at(30_100), &mut jitter);
        assert!((at(630_100)..=at(630_350)).contains(&hold.until()));
    }

    #[test]
    fn calls_in_flight_together_are_one_incident() {
        let mut jitter = Jitter::new(1);
        let mut hold = RateHold::default();
        assert!(hold.hit(at(0), None, at(300), &mut jitter));
        assert!(!hold.hit(at(200), None, at(500), &mut jitter));
        assert!(hold.hit(at(2_000), None, at(2_300), &mut jitter));
        assert_eq!(hold.in_a_row, 2);
    }

    #[test]
    fn a_dropped_connection_with_fifty_calls_on_it_counts_once() {
        let mut jitter = Jitter::new(1);
        let mut breaker = Breaker::default();
        for call in 0..50 {
            breaker.failed(at(call), None, at(5_000 + call), &mut jitter);
        }
        assert_eq!(breaker.in_a_row, 1);
        assert!(breaker.open.is_none());
        assert_eq!(breaker.failing_since(), Some(at(5_000)));
    }

    #[test]
    fn five_failures_in_a_row_open_the_breaker_and_a_reply_closes_it() {
        let mut jitter = Jitter::new(1);
        let mut breaker = Breaker::default();
        for call in 0..5 {
            assert!(breaker.open.is_none());
            breaker.failed(at(1_000 * call), None, at(1_000 * call + 900), &mut jitter);
        }
        assert!(breaker.is_probe(at(4_901)) && !breaker.is_probe(at(4_800)));
        let before = breaker.until();
        breaker.failed(at(4_800), None, at(5_500), &mut jitter);
        assert_eq!(breaker.until(), before, "a call from before it opened is no probe");
        breaker.failed(at(6_000), Some(Duration::from_secs(30)), at(6_100), &mut jitter);
        assert_eq!(breaker.until(), at(36_100));
        assert!(breaker.succeeded());
        assert_eq!((breaker.until(), breaker.failing_since()), (at(0), None));
    }
}
