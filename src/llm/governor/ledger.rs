//! What was charged towards one limit, and when each charge is certain to have left the server's
//! window.
//!
//! Charges are kept on a grid, rounded up: the ledger holds a few thousand slots at any rate of
//! calls, and never forgets a charge early.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::Moment;

/// A point of the grid: a charge that leaves here no longer counts from this moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot(u64);

/// The charges that may still stand in the server's window.
#[derive(Debug)]
pub(super) struct Ledger {
    /// What leaving times are rounded up to.
    grid: Duration,
    slots: BTreeMap<Slot, u64>,
    total: u64,
}

impl Ledger {
    /// An empty ledger.
    pub(super) fn new(grid: Duration) -> Ledger {
        Ledger { grid, slots: BTreeMap::new(), total: 0 }
    }

    /// Writes down a charge that leaves at `leaves`, or a grid step later.
    pub(super) fn add(&mut self, leaves: Moment, amount: u64) {
        *self.slots.entry(self.slot_after(leaves)).or_default() += amount;
        self.total += amount;
    }

    /// Takes back a charge that was to leave at `leaves`; does nothing if it has left.
    pub(super) fn take(&mut self, leaves: Moment, amount: u64) {
        if let Some(slot) = self.slots.get_mut(&self.slot_after(leaves)) {
            let taken = amount.min(*slot);
            *slot -= taken;
            self.total -= taken;
        }
    }

    /// Puts `settled` in the place of `reserved`, leaving no later than `at_latest`. A charge that
    /// has left stays gone.
    pub(super) fn settle(
        &mut self,
        leaves: Moment,
        reserved: u64,
        settled: u64,
        at_latest: Moment,
    ) {
        if self.slots.contains_key(&self.slot_after(leaves)) {
            self.take(leaves, reserved);
            self.add(leaves.min(at_latest), settled);
        }
    }

    /// Forgets what has left.
    pub(super) fn prune(&mut self, now: Moment) {
        while let Some(first) = self.slots.first_entry() {
            if moment_of(*first.key(), self.grid) > now {
                break;
            }
            self.total -= first.remove();
        }
    }

    /// All charges that stand at `now`.
    pub(super) fn total(&self, now: Moment) -> u64 {
        let gone = self.slots.iter().take_while(|(slot, _)| self.moment(**slot) <= now);
        self.total - gone.map(|(_, amount)| amount).sum::<u64>()
    }

    /// The first moment, `from` or later, at which no more than `most` stands, as long as nothing
    /// is added.
    pub(super) fn falls_to(&self, most: u64, from: Moment) -> Moment {
        let mut total = self.total;
        let mut moment = from;
        for (slot, amount) in &self.slots {
            let leaves = self.moment(*slot);
            if leaves > from {
                if total <= most {
                    break;
                }
                moment = leaves;
            }
            total -= amount;
        }
        moment
    }

    /// The first point of the grid after `moment`.
    fn slot_after(&self, moment: Moment) -> Slot {
        let steps = moment.0.as_nanos() / self.grid.as_nanos().max(1);
        Slot(u64::try_from(steps).unwrap_or(u64::MAX - 1) + 1)
    }

    fn moment(&self, slot: Slot) -> Moment {
        moment_of(slot, self.grid)
    }
}

fn moment_of(slot: Slot, grid: Duration) -> Moment {
    let nanos = u128::from(slot.0) * grid.as_nanos();
    Moment(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Duration = Duration::from_millis(10);

    fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    fn ledger(charges: &[(u64, u64)]) -> Ledger {
        let mut ledger = Ledger::new(GRID);
        charges.iter().for_each(|&(leaves, amount)| ledger.add(at(leaves), amount));
        ledger
    }

    #[test]
    fn a_charge_never_leaves_early_and_at_most_a_grid_step_late() {
        for millis in [0, 1, 9, 10, 11, 60_000, 60_009] {
            let ledger = ledger(&[(millis, 5)]);
            assert_eq!(ledger.total(at(millis)), 5, "{millis}");
            assert_eq!(ledger.total(at(millis + 10)), 0, "{millis}");
        }
    }

    #[test]
    fn falls_to_is_the_first_moment_with_room() {
        let ledger = ledger(&[(1_000, 50), (2_000, 30), (3_000, 20)]);
        assert_eq!(ledger.falls_to(100, at(5)), at(5));
        assert_eq!(ledger.falls_to(99, at(5)), at(1_010));
        assert_eq!(ledger.falls_to(50, at(5)), at(1_010));
        assert_eq!(ledger.falls_to(49, at(5)), at(2_010));
        assert_eq!(ledger.falls_to(0, at(5)), at(3_010));
        assert_eq!(ledger.falls_to(50, at(1_500)), at(1_500));
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
        assert_eq!(ledger.total, 0);
    }

    #[test]
    fn a_charge_that_has_left_can_not_be_settled_or_taken() {
        let mut ledger = ledger(&[(1_000, 50), (2_000, 30)]);
        ledger.prune(at(1_500));
        ledger.settle(at(1_000), 50, 70, at(9_000));
        ledger.take(at(1_000), 50);
        assert_eq!(ledger.total(at(1_500)), 30);
    }

    #[test]
    fn a_settled_charge_leaves_sixty_seconds_after_its_reply_at_the_latest() {
        let mut ledger = ledger(&[(61_000, 50)]);
        ledger.settle(at(61_000), 50, 40, at(60_300));
        assert_eq!((ledger.total(at(60_300)), ledger.total(at(60_310))), (40, 0));
    }

    #[test]
    fn many_charges_share_few_slots() {
        let mut ledger = Ledger::new(GRID);
        for call in 0..100_000_u64 {
            ledger.add(Moment(Duration::from_micros(call * 600)), 1);
        }
        assert!(ledger.slots.len() <= 6_001, "{}", ledger.slots.len());
        assert_eq!(ledger.total(Moment::default()), 100_000);
    }
}
