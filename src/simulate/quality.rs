//! How good the simulated model is: what share of rows it gets right, and how alike it errs.
//!
//! Pure and without a state: whether a row comes out right follows from the seed, its text, its
//! call and its place in it, so that a call that is sent again is answered as before. Accuracy and
//! disagreement are measured against what is right without this: the gold file, else the scorer.

use std::str::FromStr;

/// A share that depends on the rows in a call: straight lines between points, flat outside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Rows in a call and the share there, by ascending rows; never empty.
    points: Vec<(u32, f64)>,
}

/// What is no curve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no share from 0 to 1 such as 0.95, and no list of shares by ascending rows a call \
     such as 1=0.95,50=0.94,200=0.88"
)]
pub struct NotACurve(String);

/// How the simulated model errs. The default never does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quality {
    /// The share of rows that are answered right, by rows in a call; `None`: all.
    pub accuracy: Option<Curve>,
    /// The share of rows that two askings in calls of the same size answer differently, one right
    /// and one wrong; `None`: none, a row always errs alike.
    pub disagreement: Option<Curve>,
    /// By how much accuracy falls from the first place of a call to the last; its mean stays.
    pub late_loss: f64,
    /// The share of calls in which every row gets its neighbour's answer: each key stands, all
    /// under the wrong row.
    pub shift_rows: f64,
    /// Whether it obeys what stands in rows and copies what looks like answers.
    pub gullible: bool,
}

/// One row in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// A hash of the row's text.
    pub row: u64,
    /// A hash of the call.
    pub call: u64,
    /// The row's place in the call, from 0.
    pub place: usize,
    /// Rows in the call.
    pub rows: usize,
}

/// What a number is drawn for: each has a stream of its own.
#[derive(Clone, Copy)]
enum Draw {
    /// How hard the row is, whoever asks.
    Row = 1,
    /// How hard it is in this call.
    Call,
    /// Whether this call goes by the former or the latter.
    Which,
    /// The label that it is mistaken for.
    Mistake,
    /// Whether the call's answers slip by a row.
    Slip,
}

impl Curve {
    /// The share in calls of `rows` rows.
    pub fn at(&self, rows: usize) -> f64 {
        let rows = rows as f64;
        let next = self.points.iter().position(|(at, _)| f64::from(*at) >= rows);
        match next {
            Some(0) => self.points[0].1,
            Some(next) => {
                let ((low, from), (high, to)) = (self.points[next - 1], self.points[next]);
                let way = (rows - f64::from(low)) / f64::from(high - low);
                from + (to - from) * way
            }
            None => self.points.last().map_or(0.0, |(_, share)| *share),
        }
    }
}

impl From<f64> for Curve {
    /// The same share at all sizes.
    fn from(share: f64) -> Curve {
        Curve { points: vec![(1, share)] }
    }
}

impl FromStr for Curve {
    type Err = NotACurve;

    fn from_str(text: &str) -> Result<Curve, NotACurve> {
        let refused = || NotACurve(text.to_owned());
        let share = |text: &str| -> Result<f64, NotACurve> {
            let share = text.trim().parse().map_err(|_| refused())?;
            if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(refused()) }
        };
        if !text.contains('=') {
            return share(text).map(Curve::from);
        }
        let mut points: Vec<(u32, f64)> = Vec::new();
        for point in text.split(',') {
            let (rows, value) = point.split_once('=').ok_or_else(refused)?;
            let rows = rows.trim().parse().ok().filter(|rows| *rows > 0).ok_or_else(refused)?;
            if points.last().is_some_and(|(last, _)| *last >= rows) {
                return Err(refused());
            }
            points.push((rows, share(value)?));
        }
        Ok(Curve { points })
    }
}

impl Quality {
    /// The sizes at which more disagreement is wanted than two askings of that accuracy can have:
    /// rows in a call, what is wanted and the most that there is.
    pub(super) fn out_of_reach(&self) -> Option<(u32, f64, f64)> {
        let (accuracy, wanted) = (self.accuracy.as_ref(), self.disagreement.as_ref()?);
        let sizes = wanted.points.iter().chain(accuracy.iter().flat_map(|curve| &curve.points));
        sizes.map(|(rows, _)| *rows).find_map(|rows| {
            let accuracy = accuracy.map_or(1.0, |curve| curve.at(rows as usize));
            let (wanted, most) = (wanted.at(rows as usize), 2.0 * accuracy * (1.0 - accuracy));
            (wanted > most + 1e-9).then_some((rows, wanted, most))
        })
    }

    /// Whether the row is answered right, before answers slip.
    ///
    /// A row is as hard in every call, but for a share of askings in which it is as hard as that
    /// call finds it; the share is the one that makes two askings differ as often as they should.
    pub fn is_right(&self, seed: u64, asking: &Asking) -> bool {
        let Some(curve) = &self.accuracy else { return true };
        let Asking { row, call, place, rows } = *asking;
        let way = if rows > 1 { place as f64 / (rows - 1) as f64 } else { 0.5 };
        let mean = curve.at(rows);
        let accuracy = (mean + self.late_loss * (0.5 - way)).clamp(0.0, 1.0);
        let differs = self.disagreement.as_ref().map_or(0.0, |curve| curve.at(rows));
        let most = 2.0 * mean * (1.0 - mean);
        let own = if most > 0.0 { 1.0 - (1.0 - (differs / most).min(1.0)).sqrt() } else { 0.0 };
        let hardness = if uniform(seed, Draw::Which, row, call) < own {
            uniform(seed, Draw::Call, row, call)
        } else {
            uniform(seed, Draw::Row, row, 0)
        };
        hardness < accuracy
    }

    /// What a row is answered whose right label is the `right`th of `labels` and that comes out
    /// wrong: another label, always the same.
    pub fn mistake(&self, seed: u64, row: u64, right: usize, labels: usize) -> usize {
        if labels < 2 {
            return right;
        }
        let others = labels - 1;
        let step = (uniform(seed, Draw::Mistake, row, 0) * others as f64) as usize;
        (right + 1 + step.min(others - 1)) % labels
    }

    /// Whether the answers of this call slip by one row.
    pub fn slips(&self, seed: u64, call: u64) -> bool {
        uniform(seed, Draw::Slip, 0, call) < self.shift_rows
    }
}

/// A number from 0 up to 1 that follows from what it is drawn for.
fn uniform(seed: u64, draw: Draw, row: u64, call: u64) -> f64 {
    let mixed = [draw as u64, row, call]
        .into_iter()
        .fold(mix(seed), |state, next| mix(state.rotate_left(17) ^ next));
    // As many bits as a float has places.
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of `value`.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(accuracy: &str, disagreement: &str) -> Quality {
        Quality {
            accuracy: Some(accuracy.parse().unwrap()),
            disagreement: Some(disagreement.parse().unwrap()),
            ..Quality::default()
        }
    }

    /// Shares of 40,000 rows in calls of `rows`: right in one asking, and answered differently in
    /// two.
    fn measured(quality: &Quality, rows: usize) -> (f64, f64) {
        let asked = |row: u64, call| {
            let place = (row as usize) % rows;
            quality.is_right(9, &Asking { row, call, place, rows })
        };
        let askings = (0..40_000).map(|row| (asked(row, 1), asked(row, 2)));
        let (mut right, mut differ) = (0, 0);
        for (first, second) in askings {
            right += usize::from(first);
            differ += usize::from(first != second);
        }
        (right as f64 / 40_000.0, differ as f64 / 40_000.0)
    }

    #[test]
    fn a_curve_is_straight_between_its_points_and_flat_outside() {
        let curve: Curve = "10=0.9,50=0.8".parse().unwrap();
        for (rows, share) in [(1, 0.9), (10, 0.9), (30, 0.85), (50, 0.8), (900, 0.8)] {
            assert!((curve.at(rows) - share).abs() < 1e-12, "{rows}: {}", curve.at(rows));
        }
        assert_eq!("0.5".parse::<Curve>().unwrap(), Curve::from(0.5));
    }

    #[test]
    fn what_is_no_curve_is_refused() {
        for text in ["", "1.5", "1=0.9,1=0.8", "50=0.9,1=0.8", "0=1", "1=0.9,", "1=2", "a=0.1"] {
            assert!(text.parse::<Curve>().is_err(), "{text}");
        }
    }

    #[test]
    fn accuracy_and_disagreement_are_as_told_at_each_size() {
        let quality = quality("1=0.95,50=0.94,200=0.88", "1=0.01,200=0.12");
        for (rows, right, differ) in [(1, 0.95, 0.01), (50, 0.94, 0.0371), (200, 0.88, 0.12)] {
            let (measured_right, measured_differ) = measured(&quality, rows);
            assert!((measured_right - right).abs() < 0.006, "{rows}: {measured_right}");
            assert!((measured_differ - differ).abs() < 0.006, "{rows}: {measured_differ}");
        }
    }

    #[test]
    fn without_disagreement_a_row_always_errs_alike_and_small_calls_err_on_a_part_of_it() {
        let quality = quality("1=0.9,100=0.8", "0");
        assert_eq!(measured(&quality, 100).1, 0.0);
        let right = |row, rows| quality.is_right(1, &Asking { row, call: 7, place: 0, rows });
        assert!((0..5_000).all(|row| right(row, 1) || !right(row, 100)));
    }

    #[test]
    fn the_last_places_lose_what_the_first_ones_gain() {
        let quality = Quality { late_loss: 0.1, ..quality("0.9", "0") };
        let right = |place| {
            let asking = |row| Asking { row, call: 1, place, rows: 100 };
            let right = (0..20_000).filter(|row| quality.is_right(3, &asking(*row))).count();
            right as f64 / 20_000.0
        };
        assert!((right(0) - 0.95).abs() < 0.01, "{}", right(0));
        assert!((right(99) - 0.85).abs() < 0.01, "{}", right(99));
        assert!((measured(&quality, 100).0 - 0.9).abs() < 0.006);
    }

    #[test]
    fn a_mistake_is_another_label_and_always_the_same() {
        let quality = Quality::default();
        let mistakes: Vec<usize> = (0..300).map(|row| quality.mistake(1, row, 2, 5)).collect();
        assert!((0..5).all(|label| mistakes.contains(&label) == (label != 2)));
        assert_eq!(mistakes[7], quality.mistake(1, 7, 2, 5));
        assert_eq!(quality.mistake(1, 7, 0, 1), 0);
    }

    #[test]
    fn more_disagreement_than_errors_allow_is_out_of_reach() {
        assert_eq!(quality("0.9", "0.18").out_of_reach(), None);
        let (rows, wanted, most) = quality("1=0.99,50=0.9", "0.05").out_of_reach().unwrap();
        assert_eq!((rows, wanted), (1, 0.05));
        assert!((most - 0.0198).abs() < 1e-9);
    }
}
