//! A counted share, and where the true one lies.

use crate::domain::event::Disagreement;
use crate::quality::{Interval, wilson};

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Those that are meant.
    pub(super) hits: u64,
    /// All.
    pub(super) of: u64,
}

impl Share {
    /// Counts one more.
    pub(super) fn add(&mut self, is_hit: bool) {
        self.hits += u64::from(is_hit);
        self.of += 1;
    }

    /// What is told of probes of which `hits` disagreed; nothing if there were none.
    pub(super) fn disagreement(self) -> Option<Disagreement> {
        let (low, high) = self.interval();
        let Share { hits, of } = self;
        (of > 0).then_some(Disagreement { probes: of, differing: hits, low, high })
    }

    /// Wilson's 95 % interval of the true share; all there can be if nothing was counted.
    pub(super) fn interval(self) -> (f64, f64) {
        wilson(self.hits, self.of).map_or((0.0, 1.0), |Interval { low, high }| (low, high))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        let (low, high) = Share { hits: 10, of: 100 }.interval();
        assert!((low - 0.0552).abs() < 1e-4 && (high - 0.1744).abs() < 1e-4, "{low} {high}");
        assert_eq!(Share::default().interval(), (0.0, 1.0));
        assert_eq!(Share { hits: 0, of: 50 }.interval().0, 0.0);
    }

    #[test]
    fn it_holds_the_true_share_as_often_as_it_says() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for (truth, of) in [(0.02, 330), (0.05, 100), (0.05, 400), (0.12, 400), (0.3, 100)] {
            let held = (0..1_000).filter(|_| {
                let mut share = Share::default();
                (0..of).for_each(|_| share.add(random.random::<f64>() < truth));
                let (low, high) = share.interval();
                (low..=high).contains(&truth)
            });
            let held = held.count();
            assert!((930..=975).contains(&held), "{truth} of {of}: {held} of 1000");
        }
    }
}
