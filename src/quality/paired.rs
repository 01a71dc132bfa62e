//! Two sets of answers to the same rows: only the rows on which they part tell them apart.
//!
//! Two accuracies on the same rows are not independent: most rows are easy or hard for both. The
//! loss is the difference of the rows that one alone gets right, and its uncertainty comes from
//! those rows, which are few: a paired comparison tells far smaller losses than two intervals do.

use super::interval::{Confidence, Interval};

/// Rows by who is right: a base, and another that is held against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paired {
    /// All rows.
    pub rows: u64,
    /// Rows that the base alone gets right.
    pub only_base: u64,
    /// Rows that the other alone gets right.
    pub only_other: u64,
}

impl Paired {
    /// Counts a row.
    pub fn add(&mut self, is_base_right: bool, is_other_right: bool) {
        self.rows += 1;
        self.only_base += u64::from(is_base_right && !is_other_right);
        self.only_other += u64::from(is_other_right && !is_base_right);
    }

    /// How much accuracy the other loses against the base, as a share of all rows; below 0 it
    /// gains. 0 without rows.
    pub fn loss(&self) -> f64 {
        Cells::of(self).loss()
    }

    /// The share of rows on which the two part; 0 without rows.
    pub fn disagreement(&self) -> f64 {
        (self.only_base + self.only_other) as f64 / (self.rows.max(1)) as f64
    }

    /// The bound that the true loss stays below with this confidence, on one side.
    pub fn loss_at_most(&self, confidence: Confidence) -> f64 {
        Cells::of(self).limit(confidence.one_sided(), Side::Upper)
    }

    /// The bound that the true loss stays above with this confidence, on one side.
    pub fn loss_at_least(&self, confidence: Confidence) -> f64 {
        Cells::of(self).limit(confidence.one_sided(), Side::Lower)
    }

    /// Where the true loss lies, 95 % on two sides.
    pub fn interval(&self) -> Interval {
        let z = Confidence::USUAL.two_sided();
        let cells = Cells::of(self);
        Interval { low: cells.limit(z, Side::Lower), high: cells.limit(z, Side::Upper) }
    }

    /// How many rows in all would tell whether the loss is below `bound`, four times in five, if
    /// the shares stay what they look like. `None` if they lie so close that no number that anyone
    /// labels would do.
    pub fn rows_to_tell(&self, bound: f64, confidence: Confidence) -> Option<u64> {
        // The row that tells is to be found with some luck to spare, not in one case of two.
        let z = confidence.one_sided() + POWER.one_sided();
        let cells = Cells::of(self);
        let side = if cells.loss() < bound { Side::Upper } else { Side::Lower };
        let tells = |rows: u64| {
            let limit = cells.scaled_to(rows as f64).limit(z, side);
            if side == Side::Upper { limit < bound } else { limit > bound }
        };
        let mut enough = self.rows.max(1);
        while !tells(enough) {
            enough = enough.checked_mul(2).filter(|rows| *rows <= MOST_ROWS)?;
        }
        let mut too_few = 0;
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            if tells(middle) { enough = middle } else { too_few = middle }
        }
        Some(enough)
    }
}

/// How often a second sample of the size that is asked for comes to a decision.
const POWER: Confidence = Confidence::fixed(0.8);

/// Nobody labels more by hand.
const MOST_ROWS: u64 = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Lower,
    Upper,
}

/// The counts as numbers that can be scaled.
#[derive(Clone, Copy, Debug)]
struct Cells {
    rows: f64,
    only_base: f64,
    only_other: f64,
}

impl Cells {
    fn of(paired: &Paired) -> Cells {
        let [rows, only_base, only_other] =
            [paired.rows, paired.only_base, paired.only_other].map(|count| count as f64);
        Cells { rows, only_base, only_other }
    }

    fn scaled_to(self, rows: f64) -> Cells {
        let scale = rows / self.rows.max(1.0);
        Cells { rows, only_base: self.only_base * scale, only_other: self.only_other * scale }
    }

    fn loss(self) -> f64 {
        (self.only_base - self.only_other) / self.rows.max(1.0)
    }

    /// The score interval's end at `z` standard deviations: Tango (1998), "Equivalence test and
    /// confidence interval for the difference in proportions for the paired-sample design",
    /// Statistics in Medicine 17, 891-908. It keeps its level at few discordant pairs, and at none,
    /// where the usual interval has no width at all. Found by halving, since the score falls
    /// steadily.
    fn limit(self, z: f64, side: Side) -> f64 {
        let (mut low, mut high) = match side {
            Side::Upper => (self.loss(), 1.0),
            Side::Lower => (-1.0, self.loss()),
        };
        if self.rows == 0.0 {
            return if side == Side::Upper { 1.0 } else { -1.0 };
        }
        let wanted = if side == Side::Upper { -z } else { z };
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.score(middle) > wanted { low = middle } else { high = middle }
        }
        f64::midpoint(low, high)
    }

    /// How many standard deviations the observed loss lies above `loss`, were that the true one.
    fn score(self, loss: f64) -> f64 {
        let Cells { rows, only_base, only_other } = self;
        // The likeliest share of `only_other` if `loss` is true solves a quadratic equation.
        let square = 2.0 * rows;
        let linear = -only_base - only_other + (2.0 * rows - only_base + only_other) * loss;
        let constant = -only_other * loss * (1.0 - loss);
        let root = (linear * linear - 4.0 * square * constant).max(0.0).sqrt();
        let likeliest = ((root - linear) / (2.0 * square)).max(0.0);
        let variance = rows * (2.0 * likeliest + loss * (1.0 - loss));
        let distance = only_base - only_other - rows * loss;
        if variance > 0.0 { distance / variance.sqrt() } else { distance.signum() * f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(only_base: u64, only_other: u64, rows: u64) -> Paired {
        Paired { rows, only_base, only_other }
    }

    fn near(found: f64, known: f64, digits: i32) {
        assert!((found - known).abs() < 0.5 * 10_f64.powi(-digits), "{found}, not {known}");
    }

    #[test]
    fn the_interval_is_tangos() {
        // Airway data of Bentur et al. (2009) as analysed by Fagerland, Lydersen and Laake (2014),
        // Statistics in Medicine 33: 1 and 7 discordant of 21 pairs, -0.517 to -0.026.
        let airways = paired(1, 7, 21).interval();
        near(airways.low, -0.517, 3);
        near(airways.high, -0.026, 3);
        // The example of R's PropCIs::scoreci.mp(b = 40, c = 20, n = 160).
        let other = paired(40, 20, 160).interval();
        near(other.low, 0.0309, 4);
        near(other.high, 0.2181, 4);
    }

    #[test]
    fn without_a_discordant_row_the_bound_is_that_of_a_single_share() {
        // By hand: the score is sqrt(n d / (1 - d)), so d = z^2 / (n + z^2).
        let z = Confidence::USUAL.one_sided();
        for rows in [10, 300, 5_000] {
            let bound = paired(0, 0, rows).loss_at_most(Confidence::USUAL);
            near(bound, z * z / (rows as f64 + z * z), 9);
        }
    }

    #[test]
    fn with_many_rows_the_bound_is_that_of_the_normal_distribution() {
        let many = paired(3_500, 1_500, 100_000);
        let deviation = ((0.05_f64 - 0.02 * 0.02) / 100_000.0).sqrt();
        near(many.loss(), 0.02, 12);
        let bound = 0.02 + Confidence::USUAL.one_sided() * deviation;
        assert!((many.loss_at_most(Confidence::USUAL) - bound).abs() < 2e-5);
    }

    #[test]
    fn losses_and_gains_are_mirror_images() {
        let (loss, gain) = (paired(7, 2, 90), paired(2, 7, 90));
        near(loss.loss_at_most(Confidence::USUAL), -gain.loss_at_least(Confidence::USUAL), 9);
        assert!(loss.loss_at_least(Confidence::USUAL) < loss.loss());
    }

    #[test]
    fn nothing_compared_bounds_nothing() {
        let nothing = Paired::default();
        assert_eq!(nothing.loss_at_most(Confidence::USUAL), 1.0);
        assert_eq!((nothing.loss(), nothing.disagreement()), (0.0, 0.0));
    }

    #[test]
    fn rows_to_tell_tell_and_one_row_fewer_does_not() {
        // By hand, no discordant row: d = z^2 / (n + z^2) < 1 % wants n > 99 z^2 with
        // z = 1.644854 + 0.841621, which is 612.1.
        assert_eq!(paired(0, 0, 100).rows_to_tell(0.01, Confidence::USUAL), Some(613));
        // About z^2 (0.05 - 0.004^2) / 0.006^2, for a loss of 0.4 points at 5 % disagreement.
        let rows = paired(54, 46, 2_000).rows_to_tell(0.01, Confidence::USUAL).unwrap();
        assert!((8_300..9_100).contains(&rows), "{rows}");
        // Too large a loss is told apart too; the very bound never is.
        assert!(paired(60, 0, 2_000).rows_to_tell(0.01, Confidence::USUAL).is_some());
        assert_eq!(paired(20, 0, 2_000).rows_to_tell(0.01, Confidence::USUAL), None);
    }
}
