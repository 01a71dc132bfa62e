//! How high the ledger may stand: never above the user's limit, lower for a while after a 429 or
//! when reply headers say so.
//!
//! Left alone, a ceiling only rises, in steps whose moments are known: so the end of a wait can be
//! computed.

use std::time::Duration;

use crate::domain::Moment;

/// How long a lower limit from a reply's headers holds after it was last seen.
const OBSERVED_LIMIT_LASTS: Duration = Duration::from_secs(300);
/// How long "so much is left" from a reply's headers holds at most.
const OBSERVED_LEFT_LASTS: Duration = Duration::from_secs(60);
/// What one 429 takes off the ceiling, in thousandths.
const PENALTY: u64 = 50;
/// The lowest share of the limit that 429s leave, in thousandths.
const LOWEST_SHARE: u64 = 500;
/// How long the ceiling takes to be whole again after the last 429.
const RECOVERY: Duration = Duration::from_secs(300);
/// In how many equal steps it recovers.
const RECOVERY_STEPS: u32 = 10;

/// The highest that one axis of the ledger may stand.
#[derive(Debug)]
pub(super) struct Ceiling {
    own: Option<u64>,
    limit: Option<Passing>,
    left: Option<Passing>,
}

/// A bound that is forgotten at a known moment.
#[derive(Clone, Copy, Debug)]
struct Passing {
    most: u64,
    until: Moment,
}

impl Passing {
    fn at(bound: Option<Passing>, now: Moment) -> Option<u64> {
        bound.filter(|bound| now < bound.until).map(|bound| bound.most)
    }
}

impl Ceiling {
    /// The user's limit; `None` is no limit.
    pub(super) fn new(own: Option<u64>) -> Ceiling {
        Ceiling { own, limit: None, left: None }
    }

    /// The user's limit.
    pub(super) fn own(&self) -> Option<u64> {
        self.own
    }

    /// The limit in force at `now`: the user's, or a lower one of the provider's.
    pub(super) fn limit(&self, now: Moment) -> Option<u64> {
        lower(self.own, Passing::at(self.limit, now))
    }

    /// The highest that the ledger may stand at `now`, with `share` thousandths of the limit left
    /// by 429s.
    pub(super) fn at(&self, now: Moment, share: u64) -> Option<u64> {
        lower(
            self.limit(now).map(|limit| (limit * share / 1000).max(1)),
            Passing::at(self.left, now),
        )
    }

    /// The moments at which it may rise.
    pub(super) fn rises(&self) -> impl Iterator<Item = Moment> {
        [self.limit, self.left].into_iter().flatten().map(|bound| bound.until)
    }

    /// A reply says that the limit is `most`.
    pub(super) fn observe_limit(&mut self, most: u64, now: Moment) {
        self.limit = Some(Passing { most, until: now + OBSERVED_LIMIT_LASTS });
    }

    /// A reply says that the ledger may stand at `most` until `reset` has passed.
    pub(super) fn observe_left(&mut self, most: u64, reset: Option<Duration>, now: Moment) {
        let lasts = reset.unwrap_or(OBSERVED_LEFT_LASTS).min(OBSERVED_LEFT_LASTS);
        self.left = Some(Passing { most, until: now + lasts });
    }
}

fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What 429s have taken off the limit, for a while.
#[derive(Debug, Default)]
pub(super) struct Penalty {
    /// Thousandths taken off at `since`.
    depth: u64,
    since: Moment,
}

impl Penalty {
    /// Takes a little more off.
    pub(super) fn deepen(&mut self, now: Moment) {
        let depth = 1000 - self.share(now) + PENALTY;
        *self = Penalty { depth: depth.min(1000 - LOWEST_SHARE), since: now };
    }

    /// What is left of the limit at `now`, in thousandths.
    pub(super) fn share(&self, now: Moment) -> u64 {
        let step = (RECOVERY / RECOVERY_STEPS).as_nanos();
        let steps = u64::from(RECOVERY_STEPS);
        let passed = u64::try_from(now.since(self.since).as_nanos() / step).unwrap_or(steps);
        1000 - self.depth * steps.saturating_sub(passed) / steps
    }

    /// The moments at which the share rises.
    pub(super) fn rises(&self) -> impl Iterator<Item = Moment> {
        let steps = if self.depth == 0 { 0 } else { RECOVERY_STEPS };
        (1..=steps).map(|step| self.since + RECOVERY / RECOVERY_STEPS * step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn headers_lower_the_limit_for_five_minutes_and_never_raise_it() {
        let mut ceiling = Ceiling::new(Some(1_000));
        ceiling.observe_limit(5_000, at(0));
        assert_eq!(ceiling.at(at(1), 1000), Some(1_000));
        ceiling.observe_limit(400, at(2));
        assert_eq!(ceiling.at(at(301), 1000), Some(400));
        assert_eq!(ceiling.at(at(302), 1000), Some(1_000));
    }

    #[test]
    fn headers_alone_make_a_limit_where_the_user_set_none() {
        let mut ceiling = Ceiling::new(None);
        assert_eq!(ceiling.at(at(0), 1000), None);
        ceiling.observe_limit(400, at(0));
        assert_eq!(ceiling.at(at(0), 1000), Some(400));
    }

    #[test]
    fn what_is_left_holds_until_its_reset_and_a_minute_at_most() {
        let mut ceiling = Ceiling::new(Some(1_000));
        ceiling.observe_left(300, Some(Duration::from_secs(7)), at(0));
        assert_eq!(ceiling.at(at(6), 1000), Some(300));
        assert_eq!(ceiling.at(at(7), 1000), Some(1_000));
        ceiling.observe_left(300, Some(Duration::from_secs(86_400)), at(10));
        assert_eq!(ceiling.at(at(69), 1000), Some(300));
        assert_eq!(ceiling.at(at(70), 1000), Some(1_000));
    }

    #[test]
    fn a_penalty_recovers_in_steps_within_five_minutes() {
        let mut penalty = Penalty::default();
        assert_eq!(penalty.share(at(0)), 1000);
        penalty.deepen(at(100));
        assert_eq!(penalty.share(at(100)), 950);
        assert_eq!(penalty.share(at(250)), 975);
        assert_eq!(penalty.share(at(399)), 995);
        assert_eq!(penalty.share(at(400)), 1000);
        for (before, rise) in [(129, 130), (159, 160), (399, 400)] {
            assert!(penalty.share(at(before)) < penalty.share(at(rise)));
            assert!(penalty.rises().any(|moment| moment == at(rise)));
        }
    }

    #[test]
    fn penalties_add_up_and_stop_at_half_of_the_limit() {
        let mut penalty = Penalty::default();
        for second in 0..100 {
            penalty.deepen(at(second));
        }
        assert_eq!(penalty.share(at(99)), 500);
    }
}
