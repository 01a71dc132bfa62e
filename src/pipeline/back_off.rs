//! Chooses how many rows share a call, by how often probes disagree there.
//!
//! Pure. Fewer rows as soon as the disagreement is surely above the bound, more again once it is
//! surely below it. A size that was left is tried again after ever more probes, so that the choice
//! settles instead of swinging.

use std::collections::VecDeque;

use super::share::Share;

/// Sizes that are tried below the one that is set.
const LADDER: [usize; 6] = [200, 100, 50, 25, 10, 1];
/// Probes that the share looks back on.
const WINDOW: usize = 400;
/// Fewest probes that anything is decided by.
const LEAST: u64 = 30;
/// A decision is looked for after so many more; each look is a chance to err.
const LOOK_EVERY: u64 = 10;
/// Fewest probes at a size before the next larger one is tried again; doubled each time it fails.
const PATIENCE: u64 = 400;

/// A change of the rows per call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Rows per call until now.
    pub(super) from: usize,
    /// Rows per call from now on.
    pub(super) to: usize,
    /// What it was decided by.
    pub(super) by: Share,
}

/// What a probe led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing changes.
    Stay,
    /// The rows per call change.
    Step(Step),
    /// Probes disagree too often even where rows share no call, so packing is not the cause: the rows
    /// per call go back to what was set and stay there.
    NotTheSize(Step),
}

/// The rows per call, and why.
#[derive(Clone, Debug)]
pub(super) struct BackOff {
    /// Sizes to choose from, the largest first.
    sizes: Vec<usize>,
    /// Which is in force.
    at: usize,
    bound: f64,
    /// The latest probes at this size: whether they disagreed.
    window: VecDeque<bool>,
    /// All probes at this size since it was chosen.
    here: Share,
    /// For each size: probes that the next smaller one has to see before it is tried again.
    patience: Vec<u64>,
    /// Whether the size was found not to be the cause.
    is_settled: bool,
}

impl BackOff {
    /// Starts with `rows_per_call`; more disagreement than `bound`, a share, is too much.
    pub(super) fn new(rows_per_call: usize, bound: f64) -> BackOff {
        let smaller = LADDER.into_iter().filter(|size| *size < rows_per_call);
        let sizes: Vec<usize> = std::iter::once(rows_per_call).chain(smaller).collect();
        let patience = vec![PATIENCE; sizes.len()];
        BackOff {
            sizes,
            at: 0,
            bound,
            window: VecDeque::new(),
            here: Share::default(),
            patience,
            is_settled: false,
        }
    }

    /// The rows per call in force.
    pub(super) fn rows_per_call(&self) -> usize {
        self.sizes[self.at]
    }

    /// How often the latest probes at this size disagreed.
    pub(super) fn recent(&self) -> Share {
        let hits = self.window.iter().filter(|differs| **differs).count();
        Share { hits: hits as u64, of: self.window.len() as u64 }
    }

    /// Takes one probe whose label and second answer were both given at this size.
    pub(super) fn add(&mut self, differs: bool) -> Decision {
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(differs);
        self.here.add(differs);
        if self.here.of < LEAST || !self.here.of.is_multiple_of(LOOK_EVERY) {
            return Decision::Stay;
        }
        if self.is_settled {
            return Decision::Stay;
        }
        let recent = self.recent();
        if recent.interval().0 > self.bound {
            return self.lower(recent);
        }
        let may_rise = self.at > 0 && self.here.of >= self.patience[self.at - 1];
        if may_rise && self.here.interval().1 < self.bound {
            return Decision::Step(self.go(self.at - 1, self.here));
        }
        Decision::Stay
    }

    fn lower(&mut self, recent: Share) -> Decision {
        if self.at + 1 < self.sizes.len() {
            self.patience[self.at] = self.patience[self.at].saturating_mul(2);
            return Decision::Step(self.go(self.at + 1, recent));
        }
        self.is_settled = true;
        Decision::NotTheSize(self.go(0, recent))
    }

    fn go(&mut self, at: usize, by: Share) -> Step {
        let from = self.rows_per_call();
        self.at = at;
        self.window.clear();
        self.here = Share::default();
        Step { from, to: self.rows_per_call(), by }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// How often probes disagree by rows per call.
    type Truth = [(usize, f64); 6];

    /// Packing harms from 100 rows on.
    const HARM_FROM_100: Truth =
        [(1, 0.01), (10, 0.01), (25, 0.015), (50, 0.02), (100, 0.1), (200, 0.18)];

    fn disagreement(truth: &Truth, rows: usize) -> f64 {
        truth.iter().find(|(size, _)| *size == rows).map(|(_, share)| *share).unwrap()
    }

    /// Runs `probes` probes; how many fell into the second half at each size, and the steps.
    fn run(truth: &Truth, start: usize, probes: usize, seed: u64) -> (Vec<usize>, Vec<Step>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut back_off = BackOff::new(start, 0.05);
        let (mut late, mut steps) = (Vec::new(), Vec::new());
        for at in 0..probes {
            let rows = back_off.rows_per_call();
            if at >= probes / 2 {
                late.push(rows);
            }
            if let Decision::Step(step) =
                back_off.add(random.random::<f64>() < disagreement(truth, rows))
            {
                steps.push(step);
            }
        }
        (late, steps)
    }

    /// The share of late probes at `rows`, and whether the last one is there.
    fn settled(late: &[usize], rows: usize) -> (f64, bool) {
        let there = late.iter().filter(|size| **size == rows).count();
        (there as f64 / late.len() as f64, late.last() == Some(&rows))
    }

    #[test]
    fn it_settles_at_the_largest_size_within_the_bound() {
        for (start, best) in [(200, 50), (100, 50), (50, 50), (25, 25)] {
            let settled: Vec<(f64, bool)> = (0..100)
                .map(|seed| settled(&run(&HARM_FROM_100, start, 8_000, seed).0, best))
                .collect();
            let mostly = settled.iter().filter(|(share, _)| *share >= 0.85).count();
            let ends = settled.iter().filter(|(_, ends)| *ends).count();
            assert!(mostly >= 95 && ends >= 90, "{start}: {mostly} mostly, {ends} at the end");
        }
    }

    #[test]
    fn without_harm_it_never_moves() {
        let quiet: Truth = [1, 10, 25, 50, 100, 200].map(|rows| (rows, 0.025));
        let moved = (0..100).filter(|seed| !run(&quiet, 200, 8_000, *seed).1.is_empty()).count();
        assert!(moved <= 2, "{moved} of 100");
    }

    #[test]
    fn it_leaves_a_bad_size_within_a_few_hundred_probes() {
        let late: Vec<usize> = (0..100)
            .map(|seed| {
                let mut back_off = BackOff::new(100, 0.05);
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let stays = |_: &usize| {
                    matches!(back_off.add(random.random::<f64>() < 0.12), Decision::Stay)
                };
                (0..2_000).take_while(stays).count()
            })
            .collect();
        let slow = late.iter().filter(|probes| **probes > 300).count();
        assert!(slow <= 5, "{slow} of 100 took more than 300 probes");
    }

    #[test]
    fn a_passing_harm_is_forgotten() {
        let mut back_off = BackOff::new(50, 0.05);
        let lowered = (0..500).any(|_| matches!(back_off.add(true), Decision::Step(_)));
        assert!(lowered && back_off.rows_per_call() == 25);
        let probes = (1..2_000).find(|_| matches!(back_off.add(false), Decision::Step(_)));
        assert_eq!((back_off.rows_per_call(), probes), (50, Some(2 * PATIENCE as usize)));
    }

    #[test]
    fn a_model_that_disagrees_with_itself_at_one_row_a_call_is_told_of_once_and_packed_as_before() {
        let mut back_off = BackOff::new(50, 0.05);
        let decisions: Vec<Decision> = (0..5_000).map(|_| back_off.add(true)).collect();
        assert_eq!(back_off.rows_per_call(), 50);
        let told = |decision: &&Decision| matches!(decision, Decision::NotTheSize(_));
        assert_eq!(decisions.iter().filter(told).count(), 1);
        let steps = decisions.iter().filter(|decision| **decision != Decision::Stay);
        assert_eq!(steps.count(), 4, "25, 10, 1 and back");
    }
}
