//! Spreads calls over the minute: each takes its share of it, so that no second is a burst.
//!
//! The schedule is absolute: a start that comes late by a few milliseconds does not move the next.

use std::time::Duration;

use crate::domain::Moment;

/// How much lateness is made up for. More than this is lost, so that a process that slept does not
/// answer with a burst.
pub(super) const CATCH_UP: Duration = Duration::from_secs(1);

/// When the next call is due.
#[derive(Debug)]
pub(super) struct Spread {
    due: Moment,
}

impl Spread {
    /// The first call is due now.
    pub(super) fn new(now: Moment) -> Spread {
        Spread { due: now }
    }

    /// When the next call may start.
    pub(super) fn due(&self) -> Moment {
        self.due
    }

    /// A call starts and takes `interval` of the minute.
    pub(super) fn start(&mut self, interval: Duration, now: Moment) {
        let earliest = Moment(now.0.saturating_sub(CATCH_UP));
        self.due = self.due.max(earliest) + interval;
    }

    /// Nothing is due before `moment`, and nothing is to be made up for before it.
    pub(super) fn hold(&mut self, moment: Moment) {
        self.due = self.due.max(moment);
    }

    /// A call that had taken `reserved` of the minute turned out to cost `settled`.
    pub(super) fn settle(&mut self, reserved: Duration, settled: Duration) {
        self.due = Moment((self.due.0 + settled).saturating_sub(reserved));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    const INTERVAL: Duration = Duration::from_millis(500);

    #[test]
    fn late_starts_do_not_move_the_schedule() {
        let mut spread = Spread::new(at(1_000));
        for call in 0..100 {
            assert_eq!(spread.due(), at(1_000 + 500 * call));
            spread.start(INTERVAL, spread.due() + Duration::from_millis(7));
        }
    }

    #[test]
    fn a_long_sleep_is_made_up_for_by_one_second_at_most() {
        let mut spread = Spread::new(at(0));
        let now = at(20_000);
        let mut at_once = 0;
        while spread.due() <= now {
            spread.start(INTERVAL, now);
            at_once += 1;
        }
        assert_eq!(at_once, 3);
    }

    #[test]
    fn a_hold_leaves_nothing_to_make_up_for() {
        let mut spread = Spread::new(at(0));
        spread.hold(at(20_000));
        spread.start(INTERVAL, at(20_000));
        assert_eq!(spread.due(), at(20_500));
    }

    #[test]
    fn a_call_that_cost_less_gives_its_time_back() {
        let mut spread = Spread::new(at(0));
        spread.start(INTERVAL, at(0));
        spread.settle(INTERVAL, Duration::from_millis(480));
        assert_eq!(spread.due(), at(480));
    }
}
