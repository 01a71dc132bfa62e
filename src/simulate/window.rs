//! Charges over a rolling time, exactly: what came in less than that ago counts, nothing else.
//!
//! Pure: time comes in as an argument and never moves backwards.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::Moment;

/// How long a charge counts towards a limit a minute.
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// A rolling window of charges, with an optional limit.
#[derive(Debug)]
pub(super) struct Rolling {
    span: Duration,
    limit: Option<u64>,
    charges: VecDeque<(Moment, u64)>,
    sum: u64,
    fullest: u64,
}

/// Why a charge does not fit; the greater of two takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Overrun {
    /// It fits after this time, if nothing else comes in.
    Until(Duration),
    /// It is more than the limit by itself.
    Never,
}

impl Rolling {
    /// An empty window of `span`; with `None` everything fits.
    pub(super) fn new(limit: Option<u64>, span: Duration) -> Rolling {
        Rolling { span, limit, charges: VecDeque::new(), sum: 0, fullest: 0 }
    }

    /// From now on the limit is this one.
    pub(super) fn set_limit(&mut self, limit: u64) {
        self.limit = Some(limit);
    }

    /// The most that any window held so far.
    pub(super) fn fullest(&self) -> u64 {
        self.fullest
    }

    /// Starts the record of the fullest window anew, from what is charged.
    pub(super) fn restart_record(&mut self) {
        self.fullest = self.sum;
    }

    /// What is left of the limit at `now`; `None` without one.
    pub(super) fn remaining(&mut self, now: Moment) -> Option<u64> {
        self.forget_before(now);
        self.limit.map(|limit| limit.saturating_sub(self.sum))
    }

    /// How long until nothing is charged any more.
    pub(super) fn reset_after(&self, now: Moment) -> Duration {
        self.charges
            .back()
            .map_or(Duration::ZERO, |&(at, _)| self.span.saturating_sub(now.since(at)))
    }

    /// Whether `amount` fits at `now`, beside what is charged.
    ///
    /// # Errors
    /// How long to wait if it does not.
    pub(super) fn check(&mut self, amount: u64, now: Moment) -> Result<(), Overrun> {
        self.forget_before(now);
        let Some(limit) = self.limit else { return Ok(()) };
        if amount > limit {
            return Err(Overrun::Never);
        }
        let mut sum = self.sum;
        for &(at, charged) in &self.charges {
            if sum + amount <= limit {
                break;
            }
            sum -= charged;
            if sum + amount <= limit {
                return Err(Overrun::Until(self.span.saturating_sub(now.since(at))));
            }
        }
        Ok(())
    }

    /// Charges `amount` at `now`, whether it fits or not.
    pub(super) fn charge(&mut self, amount: u64, now: Moment) {
        self.forget_before(now);
        self.charges.push_back((now, amount));
        self.sum += amount;
        self.fullest = self.fullest.max(self.sum);
    }

    fn forget_before(&mut self, now: Moment) {
        while let Some(&(at, amount)) = self.charges.front()
            && now.since(at) >= self.span
        {
            self.sum -= amount;
            self.charges.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    #[test]
    fn a_charge_leaves_after_exactly_sixty_seconds() {
        let mut minute = Rolling::new(Some(100), MINUTE);
        minute.charge(100, at(0));
        assert_eq!(minute.check(1, at(59_999)), Err(Overrun::Until(Duration::from_millis(1))));
        assert_eq!(minute.check(100, at(60_000)), Ok(()));
        assert_eq!(minute.remaining(at(60_000)), Some(100));
    }

    #[test]
    fn the_wait_is_for_as_many_charges_as_must_leave() {
        let mut minute = Rolling::new(Some(100), MINUTE);
        minute.charge(40, at(0));
        minute.charge(40, at(10_000));
        assert_eq!(minute.check(20, at(20_000)), Ok(()));
        assert_eq!(minute.check(30, at(20_000)), Err(Overrun::Until(Duration::from_secs(40))));
        assert_eq!(minute.check(70, at(20_000)), Err(Overrun::Until(Duration::from_secs(50))));
        assert_eq!(minute.check(101, at(20_000)), Err(Overrun::Never));
        assert_eq!(minute.reset_after(at(20_000)), Duration::from_secs(50));
    }

    #[test]
    fn without_a_limit_everything_fits_and_is_counted() {
        let mut minute = Rolling::new(None, MINUTE);
        minute.charge(7, at(0));
        minute.charge(5, at(59_999));
        minute.charge(6, at(60_000));
        assert_eq!(minute.check(u64::MAX, at(60_000)), Ok(()));
        assert_eq!((minute.fullest(), minute.remaining(at(60_000))), (12, None));
    }

    proptest! {
        #[test]
        fn the_fullest_minute_is_what_counting_by_hand_finds(
            steps in prop::collection::vec((0_u64..30_000, 1_u64..50), 1..60),
        ) {
            let mut minute = Rolling::new(Some(120), MINUTE);
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            let mut now = 0;
            for (wait, amount) in steps {
                now += wait;
                if minute.check(amount, at(now)).is_ok() {
                    minute.charge(amount, at(now));
                    admitted.push((now, amount));
                }
            }
            let in_minute_up_to = |end: u64| -> u64 {
                let counts = |at: u64| at <= end && end - at < 60_000;
                admitted.iter().filter(|(at, _)| counts(*at)).map(|(_, amount)| amount).sum()
            };
            let fullest = admitted.iter().map(|&(at, _)| in_minute_up_to(at)).max().unwrap_or(0);
            prop_assert_eq!(minute.fullest(), fullest);
            prop_assert!(fullest <= 120);
        }
    }
}
