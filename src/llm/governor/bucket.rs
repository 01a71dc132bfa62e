//! How full a server's bucket may be that drains steadily: what a token bucket has given out, seen
//! from the other side.
//!
//! Never lower than the real one. A refund is worth nothing once its charge would have drained
//! away meanwhile, so charges stand by themselves for a while and the level is computed from them
//! anew: a bucket that was empty in between stays right.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::Moment;

/// Sending times are rounded up to this: drained later, never earlier.
const GRID_MILLIS: i64 = 5;

/// A level times the nanoseconds of the span, so that draining is exact.
type Scaled = u128;

/// The charges of one limit.
#[derive(Debug)]
pub(super) struct Bucket {
    /// In which time a full bucket drains.
    span: Duration,
    /// What was charged when, milliseconds; before zero in an earlier process.
    charges: BTreeMap<i64, u64>,
    /// The level before the first of them, and when.
    base: (Scaled, i64),
    /// Whether nothing is known of the time before the base: then the bucket was full.
    is_base_unknown: bool,
    /// The level just after the last charge, for the limit that it was computed with.
    last: Cell<Option<(u64, Scaled, i64)>>,
}

impl Bucket {
    /// A bucket that may have been full two spans ago and has been left alone since.
    pub(super) fn new(span: Duration, now: Moment) -> Bucket {
        let since = millis(now) - 2 * span_millis(span);
        let charges = BTreeMap::new();
        Bucket { span, charges, base: (0, since), is_base_unknown: true, last: Cell::new(None) }
    }

    /// Writes a charge down that was sent at `sent`.
    pub(super) fn add(&mut self, sent: Moment, amount: u64) {
        self.add_at(millis(sent), amount);
    }

    /// Writes a charge of an earlier process down, `age` old at `now`.
    pub(super) fn restore(&mut self, age: Duration, now: Moment, amount: u64) {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        if age < 2 * span_millis(self.span) {
            self.add_at(millis(now) - age, amount);
        }
    }

    fn add_at(&mut self, at: i64, amount: u64) {
        // What was folded into the base already counts from there.
        let at = grid(at).max(self.base.1);
        *self.charges.entry(at).or_default() += amount;
        self.last.set(None);
    }

    /// Takes a charge back; what has been folded stays.
    pub(super) fn take(&mut self, sent: Moment, amount: u64) {
        if let Some(charge) = self.charges.get_mut(&grid(millis(sent))) {
            *charge = charge.saturating_sub(amount);
            self.last.set(None);
        }
    }

    /// Puts `settled` in the place of `reserved`.
    pub(super) fn settle(&mut self, sent: Moment, reserved: u64, settled: u64) {
        match settled.checked_sub(reserved) {
            Some(0) => {}
            Some(more) => self.add(sent, more),
            None => self.take(sent, reserved - settled),
        }
    }

    /// Folds charges into the base that are older than two spans: a refund for one of them is lost.
    pub(super) fn prune(&mut self, limit: u64, now: Moment) {
        let before = millis(now) - 2 * span_millis(self.span);
        while let Some(first) = self.charges.first_entry() {
            if *first.key() >= before {
                break;
            }
            let (at, amount) = (*first.key(), first.remove());
            let level = self.drained(self.base_level(limit), at - self.base.1, limit);
            self.base = (level + self.scaled(amount), at);
            self.is_base_unknown = false;
            self.last.set(None);
        }
    }

    /// The level at `now`, rounded up, as long as it drains at `limit` a span.
    pub(super) fn level(&self, limit: u64, now: Moment) -> u64 {
        let level = self.scaled_level(limit, now).div_ceil(self.span.as_nanos().max(1));
        u64::try_from(level).unwrap_or(u64::MAX)
    }

    /// The first moment, `from` or later, at which the level is `most` at the highest.
    pub(super) fn falls_to(&self, most: u64, limit: u64, from: Moment) -> Moment {
        let above = self.scaled_level(limit, from).saturating_sub(self.scaled(most));
        let nanos = above.div_ceil(u128::from(limit.max(1)));
        from + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn scaled_level(&self, limit: u64, now: Moment) -> Scaled {
        let (level, at) = self.after_last_charge(limit);
        // Nanoseconds, unlike the charges: a promised moment has to be the moment.
        let passed = i128::try_from(now.0.as_nanos()).unwrap_or(i128::MAX)
            - i128::from(at) * NANOS_PER_MILLI;
        let drained = passed.unsigned_abs().saturating_mul(u128::from(limit));
        // A charge that was rounded up stands a moment ahead, by which what was there before it has
        // drained too much.
        if passed < 0 { level.saturating_add(drained) } else { level.saturating_sub(drained) }
    }

    fn after_last_charge(&self, limit: u64) -> (Scaled, i64) {
        if let Some((computed_with, level, at)) = self.last.get()
            && computed_with == limit
        {
            return (level, at);
        }
        let (mut level, mut at) = (self.base_level(limit), self.base.1);
        for (sent, amount) in &self.charges {
            level = self.drained(level, sent - at, limit) + self.scaled(*amount);
            at = *sent;
        }
        self.last.set(Some((limit, level, at)));
        (level, at)
    }

    fn base_level(&self, limit: u64) -> Scaled {
        if self.is_base_unknown { self.scaled(limit) } else { self.base.0 }
    }

    fn drained(&self, level: Scaled, millis: i64, limit: u64) -> Scaled {
        let nanos = u128::try_from(i128::from(millis) * NANOS_PER_MILLI).unwrap_or(0);
        level.saturating_sub(nanos.saturating_mul(u128::from(limit)))
    }

    fn scaled(&self, amount: u64) -> Scaled {
        u128::from(amount).saturating_mul(self.span.as_nanos())
    }
}

const NANOS_PER_MILLI: i128 = 1_000_000;

fn millis(moment: Moment) -> i64 {
    i64::try_from(moment.0.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX / 4)
}

fn span_millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 8)
}

fn grid(at: i64) -> i64 {
    at.div_euclid(GRID_MILLIS) * GRID_MILLIS
        + if at.rem_euclid(GRID_MILLIS) > 0 { GRID_MILLIS } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const LIMIT: u64 = 6_000;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    #[test]
    fn it_drains_a_hundredth_of_a_limit_of_six_thousand_in_600_ms() {
        let mut bucket = Bucket::new(MINUTE, at(0));
        assert_eq!(bucket.level(LIMIT, at(0)), 0);
        bucket.add(at(1_000), 3_000);
        assert_eq!(bucket.level(LIMIT, at(1_000)), 3_000);
        assert_eq!(bucket.level(LIMIT, at(1_600)), 2_940);
        assert_eq!(bucket.falls_to(2_940, LIMIT, at(1_000)), at(1_600));
        assert_eq!(bucket.level(LIMIT, at(31_000)), 0);
    }

    #[test]
    fn a_charge_that_is_rounded_up_drains_nothing_early() {
        let mut bucket = Bucket::new(MINUTE, at(0));
        bucket.add(at(0), 100);
        bucket.add(at(6), 1);
        // The server has 100 - 0.6 + 1.
        assert_eq!(bucket.level(LIMIT, at(6)), 101);
    }

    #[test]
    fn a_refund_is_worth_nothing_once_its_charge_has_drained() {
        let mut bucket = Bucket::new(MINUTE, at(0));
        bucket.add(at(0), 2_000);
        bucket.add(at(12_000), 700);
        // The server was charged 1,000, was empty at 10 s, and has 700 at 12 s.
        bucket.settle(at(0), 2_000, 1_000);
        assert_eq!(bucket.level(LIMIT, at(12_000)), 700);
    }

    #[test]
    fn charges_of_an_earlier_process_have_drained_as_their_age_says() {
        let mut bucket = Bucket::new(MINUTE, at(0));
        bucket.restore(Duration::from_secs(20), at(0), 3_000);
        bucket.restore(Duration::from_secs(500), at(0), 6_000);
        assert_eq!(bucket.level(LIMIT, at(0)), 1_000);
    }

    proptest! {
        #[test]
        fn it_is_never_below_a_server_that_is_charged_less_and_later(
            calls in prop::collection::vec((0_u64..20_000, 1_u64..900, 0_u64..300, 0_u64..90_000), 1..80),
        ) {
            let mut bucket = Bucket::new(MINUTE, at(0));
            // (time, order, what) of everything that happens.
            let mut happens = Vec::new();
            let mut now = 0;
            for (number, (gap, reserved, saved, latency)) in calls.iter().copied().enumerate() {
                now += gap;
                let settled = reserved - reserved.min(saved);
                happens.push((now, 0, number, reserved, settled));
                happens.push((now + latency, 1, number, reserved, settled));
            }
            let sent: Vec<u64> = happens.iter().filter(|it| it.1 == 0).map(|it| it.0).collect();
            happens.sort_unstable();
            let (mut server, mut server_at) = (0.0_f64, 0);
            for (time, kind, number, reserved, settled) in happens {
                server = (server - (time - server_at) as f64 * 0.1).max(0.0);
                server_at = time;
                bucket.prune(LIMIT, at(time));
                if kind == 0 {
                    server += settled as f64;
                    bucket.add(at(time), reserved);
                } else {
                    bucket.settle(at(sent[number]), reserved, settled);
                }
                prop_assert!(bucket.level(LIMIT, at(time)) as f64 >= server - 1e-6);
            }
        }
    }
}
