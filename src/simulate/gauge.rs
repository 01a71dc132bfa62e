//! One limit, enforced exactly: over a rolling time, by a counter that begins anew, or by a bucket.
//!
//! Pure: time comes in as an argument and never moves backwards.

use std::time::Duration;

use super::settings::MinuteKind;
use super::window::{Overrun, Rolling};
use crate::domain::Moment;

/// A limit and what is taken of it.
#[derive(Debug)]
pub(super) struct Gauge {
    limit: u64,
    /// The limit as it was at first.
    whole: u64,
    span: Duration,
    taken: Taken,
}

#[derive(Debug)]
enum Taken {
    Rolling(Rolling),
    /// What this period was charged, and which it is: periods begin with the clock.
    Fixed {
        sum: u64,
        period: u128,
    },
    /// The level times the nanoseconds of the span, and when it was right.
    Bucket {
        level: u128,
        at: Moment,
    },
}

impl Gauge {
    /// An empty gauge of `limit` in each `span`.
    pub(super) fn new(limit: u64, span: Duration, kind: MinuteKind) -> Gauge {
        let taken = match kind {
            MinuteKind::Rolling => Taken::Rolling(Rolling::new(Some(limit), span)),
            MinuteKind::Fixed => Taken::Fixed { sum: 0, period: 0 },
            MinuteKind::Bucket => Taken::Bucket { level: 0, at: Moment::default() },
        };
        Gauge { limit, whole: limit, span, taken }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// From `now` on the limit is this share of what it was at first; what is taken stays taken.
    pub(super) fn change(&mut self, share: f64, now: Moment) {
        self.move_to(now);
        self.limit = (self.whole as f64 * share) as u64;
        if let Taken::Rolling(window) = &mut self.taken {
            window.set_limit(self.limit);
        }
    }

    /// What is left at `now`.
    pub(super) fn remaining(&mut self, now: Moment) -> u64 {
        self.move_to(now);
        let taken = match &mut self.taken {
            Taken::Rolling(window) => return window.remaining(now).unwrap_or(u64::MAX),
            Taken::Fixed { sum, .. } => *sum,
            Taken::Bucket { level, .. } => unscaled(*level, self.span),
        };
        self.limit.saturating_sub(taken)
    }

    /// How long until all of it is back.
    pub(super) fn reset_after(&self, now: Moment) -> Duration {
        match &self.taken {
            Taken::Rolling(window) => window.reset_after(now),
            Taken::Fixed { period, .. } => self.end_of(*period).saturating_sub(now.0),
            Taken::Bucket { level, .. } => self.drains_in(*level),
        }
    }

    /// Whether `amount` fits at `now`.
    ///
    /// # Errors
    /// How long to wait if it does not.
    pub(super) fn check(&mut self, amount: u64, now: Moment) -> Result<(), Overrun> {
        self.move_to(now);
        if amount > self.limit {
            return Err(Overrun::Never);
        }
        match &mut self.taken {
            Taken::Rolling(window) => window.check(amount, now),
            Taken::Fixed { sum, .. } if *sum + amount <= self.limit => Ok(()),
            Taken::Fixed { period, .. } => {
                let period = *period;
                Err(Overrun::Until(self.end_of(period).saturating_sub(now.0)))
            }
            Taken::Bucket { level, .. } => {
                let above = (*level + scaled(amount, self.span))
                    .saturating_sub(scaled(self.limit, self.span));
                if above == 0 { Ok(()) } else { Err(Overrun::Until(self.drains_in(above))) }
            }
        }
    }

    /// Charges `amount` at `now`, whether it fits or not.
    pub(super) fn charge(&mut self, amount: u64, now: Moment) {
        self.move_to(now);
        match &mut self.taken {
            Taken::Rolling(window) => window.charge(amount, now),
            Taken::Fixed { sum, .. } => *sum += amount,
            Taken::Bucket { level, .. } => *level += scaled(amount, self.span),
        }
    }

    fn move_to(&mut self, now: Moment) {
        let (limit, span) = (u128::from(self.limit), self.span);
        match &mut self.taken {
            Taken::Rolling(_) => {}
            Taken::Fixed { sum, period } => {
                let current = now.0.as_nanos() / span.as_nanos().max(1);
                if current != *period {
                    (*sum, *period) = (0, current);
                }
            }
            Taken::Bucket { level, at } => {
                *level = level.saturating_sub(now.since(*at).as_nanos() * limit);
                *at = now;
            }
        }
    }

    fn end_of(&self, period: u128) -> Duration {
        let nanos = (period + 1) * self.span.as_nanos();
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn drains_in(&self, level: u128) -> Duration {
        let nanos = level.div_ceil(u128::from(self.limit.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

fn scaled(amount: u64, span: Duration) -> u128 {
    u128::from(amount) * span.as_nanos()
}

fn unscaled(level: u128, span: Duration) -> u64 {
    u64::try_from(level.div_ceil(span.as_nanos().max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::window::MINUTE;
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn until(seconds: u64) -> Result<(), Overrun> {
        Err(Overrun::Until(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_fixed_minute_begins_anew_with_the_clock() {
        let mut gauge = Gauge::new(100, MINUTE, MinuteKind::Fixed);
        gauge.charge(90, at(50));
        assert_eq!((gauge.check(20, at(55)), gauge.remaining(at(55))), (until(5), 10));
        assert_eq!((gauge.check(100, at(60)), gauge.remaining(at(60))), (Ok(()), 100));
        assert_eq!(gauge.reset_after(at(70)), Duration::from_secs(50));
        assert_eq!(gauge.check(101, at(60)), Err(Overrun::Never));
    }

    #[test]
    fn a_bucket_drains_steadily() {
        let mut gauge = Gauge::new(60, MINUTE, MinuteKind::Bucket);
        gauge.charge(60, at(100));
        assert_eq!((gauge.check(1, at(100)), gauge.check(30, at(110))), (until(1), until(20)));
        assert_eq!((gauge.check(30, at(130)), gauge.remaining(at(130))), (Ok(()), 30));
        assert_eq!(gauge.reset_after(at(130)), Duration::from_secs(30));
        assert_eq!(gauge.remaining(at(500)), 60, "no more than full");
    }

    #[test]
    fn a_rolling_minute_has_left_after_sixty_seconds() {
        let mut gauge = Gauge::new(100, MINUTE, MinuteKind::Rolling);
        gauge.charge(90, at(50));
        assert_eq!((gauge.check(20, at(65)), gauge.check(20, at(110))), (until(45), Ok(())));
    }
}
