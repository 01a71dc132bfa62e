//! What was charged, and when each charge is certain to have left the server's rolling minute.
//!
//! Charges are kept on a grid of [`GRID`], rounded up: the ledger holds at most some six thousand
//! slots at any rate of calls, and never forgets a charge early.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::Moment;

/// The grid that leaving times are rounded up to. It costs at most 10 ms of every 60 s.
const GRID: Duration = Duration::from_millis(10);

/// A point of the grid: a charge that leaves here no longer counts from this moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Leaves(u64);

impl Leaves {
    /// The first point after `moment`.
    pub(super) fn after(moment: Moment) -> Leaves {
        let steps = moment.0.as_nanos() / GRID.as_nanos();
        Leaves(u64::try_from(steps).unwrap_or(u64::MAX - 1) + 1)
    }

    fn moment(self) -> Moment {
        let nanos = u128::from(self.0) * GRID.as_nanos();
        Moment(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// What one call costs, or what many cost together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) tokens: u64,
    pub(super) requests: u64,
}

impl Charge {
    /// One call of `tokens`.
    pub(super) fn call(tokens: u64) -> Charge {
        Charge { tokens, requests: 1 }
    }

    fn add(&mut self, other: Charge) {
        self.tokens += other.tokens;
        self.requests += other.requests;
    }

    fn subtract(&mut self, other: Charge) {
        self.tokens = self.tokens.saturating_sub(other.tokens);
        self.requests = self.requests.saturating_sub(other.requests);
    }
}

/// One of the two things that are counted.
pub(super) type Axis = fn(Charge) -> u64;

/// The charges that may still stand in the server's minute.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    slots: BTreeMap<Leaves, Charge>,
    total: Charge,
}

impl Ledger {
    /// Writes a charge down.
    pub(super) fn add(&mut self, leaves: Leaves, charge: Charge) {
        self.slots.entry(leaves).or_default().add(charge);
        self.total.add(charge);
    }

    /// Takes a charge back; does nothing if it has left.
    pub(super) fn take(&mut self, leaves: Leaves, charge: Charge) {
        if let Some(slot) = self.slots.get_mut(&leaves) {
            slot.subtract(charge);
            self.total.subtract(charge);
        }
    }

    /// Puts `settled` in the place of `reserved`, leaving no later than `at_latest`. A charge that
    /// has left stays gone.
    pub(super) fn settle(
        &mut self,
        leaves: Leaves,
        reserved: Charge,
        settled: Charge,
        at_latest: Leaves,
    ) {
        if self.slots.contains_key(&leaves) {
            self.take(leaves, reserved);
            self.add(leaves.min(at_latest), settled);
        }
    }

    /// Forgets what has left.
    pub(super) fn prune(&mut self, now: Moment) {
        while let Some(first) = self.slots.first_entry() {
            if first.key().moment() > now {
                break;
            }
            self.total.subtract(first.remove());
        }
    }

    /// All charges that stand at `now`.
    pub(super) fn total(&self, now: Moment) -> Charge {
        let mut total = self.total;
        for (_, charge) in self.slots.iter().take_while(|(leaves, _)| leaves.moment() <= now) {
            total.subtract(*charge);
        }
        total
    }

    /// The first moment, `from` or later, at which no more than `most` stands, as long as nothing
    /// is added.
    pub(super) fn falls_to(&self, most: u64, axis: Axis, from: Moment) -> Moment {
        let mut total = self.total;
        let mut moment = from;
        for (leaves, charge) in &self.slots {
            if leaves.moment() > from {
                if axis(total) <= most {
                    break;
                }
                moment = leaves.moment();
            }
            total.subtract(*charge);
        }
        moment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    fn ledger(charges: &[(u64, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        for &(leaves, tokens) in charges {
            ledger.add(Leaves::after(at(leaves)), Charge::call(tokens));
        }
        ledger
    }

    #[test]
    fn a_charge_never_leaves_early_and_at_most_a_grid_step_late() {
        for millis in [0, 1, 9, 10, 11, 60_000, 60_009] {
            let moment = Leaves::after(at(millis)).moment();
            assert!(moment > at(millis) && moment <= at(millis + 10), "{millis}: {moment:?}");
        }
    }

    #[test]
    fn falls_to_is_the_first_moment_with_room() {
        let ledger = ledger(&[(1_000, 50), (2_000, 30), (3_000, 20)]);
        let tokens: Axis = |charge| charge.tokens;
        assert_eq!(ledger.falls_to(100, tokens, at(5)), at(5));
        assert_eq!(ledger.falls_to(99, tokens, at(5)), at(1_010));
        assert_eq!(ledger.falls_to(50, tokens, at(5)), at(1_010));
        assert_eq!(ledger.falls_to(49, tokens, at(5)), at(2_010));
        assert_eq!(ledger.falls_to(0, tokens, at(5)), at(3_010));
        assert_eq!(ledger.falls_to(50, tokens, at(1_500)), at(1_500));
        assert_eq!(ledger.falls_to(1, |charge| charge.requests, at(0)), at(2_010));
    }

    #[test]
    fn reading_a_total_agrees_with_pruning() {
        let mut ledger = ledger(&[(1_000, 50), (2_000, 30)]);
        for now in [0, 1_005, 1_010, 2_009, 2_010] {
            let read = ledger.total(at(now));
            ledger.prune(at(now));
            assert_eq!(ledger.total(at(now)), read);
            assert_eq!(ledger.total, read);
        }
        assert_eq!(ledger.total, Charge::default());
    }

    #[test]
    fn a_charge_that_has_left_can_not_be_settled_or_taken() {
        let mut ledger = ledger(&[(1_000, 50), (2_000, 30)]);
        ledger.prune(at(1_500));
        let late = Leaves::after(at(1_000));
        ledger.settle(late, Charge::call(50), Charge::call(70), Leaves::after(at(9_000)));
        ledger.take(late, Charge::call(50));
        assert_eq!(ledger.total(at(1_500)), Charge::call(30));
    }

    #[test]
    fn many_charges_share_few_slots() {
        let mut ledger = Ledger::default();
        for call in 0..100_000_u64 {
            let leaves = Moment(Duration::from_micros(call * 600));
            ledger.add(Leaves::after(leaves), Charge::call(1));
        }
        assert!(ledger.slots.len() <= 6_001, "{}", ledger.slots.len());
        assert_eq!(ledger.total(Moment::default()).requests, 100_000);
    }
}
