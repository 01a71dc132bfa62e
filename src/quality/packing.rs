//! How many rows a call may carry: the largest number whose loss is shown to be small enough.
//!
//! Sizes are tested from the smallest up and the test ends at the first that does not pass. In that
//! fixed sequence no size is reached by luck alone unless all before it passed, so the chance that
//! any size with too large a loss is chosen stays below one minus the confidence, without a
//! correction for the number of sizes (Maurer, Hothorn and Lehmacher 1995).

use super::interval::Confidence;
use super::paired::Paired;

/// What a size has to keep within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The loss that is too large, as a share: 0.01 is one point of accuracy.
    pub max_loss: f64,
    /// How sure it has to be that the loss is smaller, on one side.
    pub confidence: Confidence,
}

/// A number of rows a call, held against the smallest one on the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tested {
    /// Rows a call.
    pub rows_per_call: u32,
    /// Who was right, the smallest size being the base.
    pub paired: Paired,
}

/// The size to take, and what kept a larger one from being it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Rows a call: the largest that passed, else the base.
    pub rows_per_call: u32,
    /// The first that did not pass; `None` if all did.
    pub stopped_by: Option<Stop>,
}

/// A size that did not pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stop {
    /// Rows a call.
    pub rows_per_call: u32,
    /// Whether it is as sure that it loses too much; else nothing is shown either way.
    pub is_too_lossy: bool,
    /// Rows beside those that there are which would tell; `None` where nothing is left to tell, or
    /// no number of rows would.
    pub further_rows: Option<u64>,
}

/// Tests `tested`, in rising order of rows a call, against their base.
pub fn choose(base: u32, tested: &[Tested], bound: Bound) -> Choice {
    let Bound { max_loss, confidence } = bound;
    let mut rows_per_call = base;
    for size in tested {
        if size.paired.loss_at_most(confidence) >= max_loss {
            let is_too_lossy = size.paired.loss_at_least(confidence) >= max_loss;
            let in_all = size.paired.rows_to_tell(max_loss, confidence);
            let further = in_all.map(|rows| rows.saturating_sub(size.paired.rows));
            let stop = Stop {
                rows_per_call: size.rows_per_call,
                is_too_lossy,
                further_rows: further.filter(|rows| !is_too_lossy && *rows > 0),
            };
            return Choice { rows_per_call, stopped_by: Some(stop) };
        }
        rows_per_call = size.rows_per_call;
    }
    Choice { rows_per_call, stopped_by: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const BOUND: Bound = Bound { max_loss: 0.01, confidence: Confidence::USUAL };

    fn tested(rows_per_call: u32, only_base: u64, only_other: u64, rows: u64) -> Tested {
        Tested { rows_per_call, paired: Paired { rows, only_base, only_other } }
    }

    #[test]
    fn the_largest_size_that_passes_in_sequence_is_chosen() {
        let sizes = [tested(10, 20, 20, 10_000), tested(25, 30, 20, 10_000)];
        assert_eq!(choose(1, &sizes, BOUND), Choice { rows_per_call: 25, stopped_by: None });
    }

    #[test]
    fn a_size_behind_one_that_fails_is_not_looked_at() {
        let sizes =
            [tested(10, 0, 0, 10_000), tested(25, 400, 100, 10_000), tested(50, 0, 0, 10_000)];
        let choice = choose(1, &sizes, BOUND);
        assert_eq!(choice.rows_per_call, 10);
        let stop = choice.stopped_by.unwrap();
        assert_eq!((stop.rows_per_call, stop.is_too_lossy, stop.further_rows), (25, true, None));
    }

    #[test]
    fn too_few_rows_choose_the_base_and_say_how_many_more_would_tell() {
        let choice = choose(1, &[tested(10, 0, 0, 100)], BOUND);
        assert_eq!(choice.rows_per_call, 1);
        // 613 in all, as counted by hand in `paired`.
        assert_eq!(choice.stopped_by.unwrap().further_rows, Some(513));
    }

    #[test]
    fn another_bound_chooses_another_size() {
        let sizes = [tested(10, 10, 10, 5_000), tested(25, 100, 20, 5_000)];
        assert_eq!(choose(1, &sizes, BOUND).rows_per_call, 10);
        let wide = Bound { max_loss: 0.05, ..BOUND };
        assert_eq!(choose(1, &sizes, wide).rows_per_call, 25);
    }

    /// What the issue wants: 10,000 rows, 5 % of them answered differently, these true losses.
    const TRUE_LOSS: [(u32, f64); 5] =
        [(10, 0.0), (25, 0.002), (50, 0.004), (100, 0.02), (200, 0.05)];
    const DISAGREEMENT: f64 = 0.05;
    const ROWS: u64 = 10_000;

    fn trial(seed: u64) -> u32 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let sizes = TRUE_LOSS.map(|(rows_per_call, loss)| {
            let (lost, gained) = ((DISAGREEMENT + loss) / 2.0, (DISAGREEMENT - loss) / 2.0);
            let mut paired = Paired::default();
            for _ in 0..ROWS {
                let chance: f64 = random.random();
                let is_lost = chance < lost;
                let is_gained = !is_lost && chance < lost + gained;
                paired.add(!is_gained, !is_lost);
            }
            Tested { rows_per_call, paired }
        });
        choose(1, &sizes, BOUND).rows_per_call
    }

    #[test]
    fn a_size_that_loses_just_the_bound_is_chosen_about_as_often_as_the_confidence_leaves() {
        // 2,000 trials of 2,000 rows with a true loss of one point: 5 % of them, give or take
        // three standard deviations of 0.5 points.
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let chosen = (0..2_000).filter(|_| {
            let mut paired = Paired::default();
            for _ in 0..2_000 {
                let chance: f64 = random.random();
                paired.add(!(0.03..0.05).contains(&chance), chance >= 0.03);
            }
            choose(1, &[Tested { rows_per_call: 10, paired }], BOUND).rows_per_call == 10
        });
        let share = chosen.count() as f64 / 2_000.0;
        assert!((0.035..0.065).contains(&share), "{share}");
    }

    #[test]
    fn of_a_hundred_trials_at_most_five_choose_a_size_that_loses_more_than_the_bound() {
        let mut chosen = BTreeMap::<u32, u32>::new();
        for seed in 0..100 {
            *chosen.entry(trial(seed)).or_default() += 1;
        }
        let sum = |sizes: std::ops::RangeInclusive<u32>| chosen.range(sizes).map(|(_, n)| n).sum();
        let (good, bad): (u32, u32) = (sum(25..=50), sum(100..=200));
        assert!(good >= 90 && bad <= 5, "rows a call: trials that choose them: {chosen:?}");
        // The page tells these very numbers.
        let told = include_str!("../../docs/quality.md");
        let row = |size: u32| format!("| {size} | {} |", chosen.get(&size).unwrap_or(&0));
        for size in [1, 10, 25, 50, 100, 200] {
            assert!(
                told.contains(&row(size)),
                "docs/quality.md lacks {:?} of {chosen:?}",
                row(size)
            );
        }
    }
}
