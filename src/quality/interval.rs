//! Where a true share lies, given a sample: by points of the normal distribution.

use serde::Serialize;

/// A share, as a range that holds the true one as often as its confidence says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// How sure a statement has to be, as a share: over one half, below 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence(f64);

impl Confidence {
    /// What is usual: 95 %.
    pub const USUAL: Confidence = Confidence(0.95);

    /// The confidence of `share`; `None` unless it lies above 0.5 and below 1.
    pub fn new(share: f64) -> Option<Confidence> {
        (share > 0.5 && share < 1.0).then_some(Confidence(share))
    }

    /// As [`Confidence::new`], where a constant is made.
    pub(super) const fn fixed(share: f64) -> Confidence {
        assert!(share > 0.5 && share < 1.0, "no confidence");
        Confidence(share)
    }

    /// The share.
    pub fn share(self) -> f64 {
        self.0
    }

    /// How many standard deviations leave the rest on one side.
    pub fn one_sided(self) -> f64 {
        quantile(self.0)
    }

    /// How many standard deviations leave half of the rest on each side.
    pub fn two_sided(self) -> f64 {
        quantile(f64::midpoint(self.0, 1.0))
    }
}

/// Wilson's interval of the share `hits` of `rows`, 95 % on two sides; it holds for small samples
/// and near 0 and 1 too. `None` without rows.
pub fn wilson(hits: u64, rows: u64) -> Option<Interval> {
    if rows == 0 {
        return None;
    }
    let z = Confidence::USUAL.two_sided();
    let (share, rows) = (hits as f64 / rows as f64, rows as f64);
    let spread = z * z / rows;
    let center = share + spread / 2.0;
    let half = z * (share * (1.0 - share) / rows + spread / (4.0 * rows)).sqrt();
    let scale = 1.0 + spread;
    Some(Interval {
        low: ((center - half) / scale).max(0.0),
        high: ((center + half) / scale).min(1.0),
    })
}

/// The normal distribution's share below `z`, by the series of Marsaglia (2004), "Evaluating the
/// Normal Distribution", Journal of Statistical Software 11(4).
fn share_below(z: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (z, z, 1.0);
    while sum + term != sum {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    0.5 + sum * (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The point below which a `share` of the normal distribution lies, between -8 and 8.
fn quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if share_below(middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(interval: Interval) -> (f64, f64) {
        let round = |share: f64| (share * 10_000.0).round() / 10_000.0;
        (round(interval.low), round(interval.high))
    }

    #[test]
    fn the_points_of_the_normal_distribution_are_those_of_the_tables() {
        let near = |found: f64, known: f64| assert!((found - known).abs() < 1e-9, "{found}");
        near(Confidence::USUAL.one_sided(), 1.644_853_626_951_472);
        near(Confidence::USUAL.two_sided(), 1.959_963_984_540_054);
        near(Confidence::new(0.99).unwrap().one_sided(), 2.326_347_874_040_841);
        near(Confidence::new(0.999).unwrap().two_sided(), 3.290_526_731_491_926);
        near(quantile(0.5), 0.0);
    }

    #[test]
    fn a_confidence_lies_between_a_coin_and_certainty() {
        for share in [0.5, 1.0, -1.0, f64::NAN] {
            assert_eq!(Confidence::new(share), None);
        }
    }

    #[test]
    fn the_interval_is_wilsons() {
        // From the comparison of seven methods in Newcombe (1998), Statistics in Medicine 17.
        assert_eq!(rounded(wilson(81, 263).unwrap()), (0.2553, 0.3662));
        assert_eq!(rounded(wilson(15, 148).unwrap()), (0.0624, 0.1605));
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn a_perfect_small_sample_is_not_certain() {
        let interval = wilson(10, 10).unwrap();
        assert!(interval.high > 0.999_999 && interval.high <= 1.0, "{interval:?}");
        assert!((0.72..0.73).contains(&interval.low), "{interval:?}");
    }
}
