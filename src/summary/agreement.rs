//! How far labels agree with known answers, and how sure that number is.

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::LabelCount;

/// Labels compared with known answers, over the rows that have both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Rows that have a label and a known answer.
    pub compared: u64,
    /// Of those, rows whose label is the known answer, letter for letter.
    pub correct: u64,
    /// The most frequent known answer among the compared rows: what giving it to every row would
    /// get right. `None` with nothing to compare.
    pub majority: Option<LabelCount>,
}

/// A share, as a range that holds the true one in 95 of 100 such samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end, from 0 to 1.
    pub low: f64,
    /// The upper end, from 0 to 1.
    pub high: f64,
}

/// The 97.5 % point of the normal distribution: two sides leave 5 %.
const Z: f64 = 1.959_963_984_540_054;

impl Agreement {
    /// The share of correct labels, from 0 to 1; `None` with nothing to compare.
    pub fn accuracy(&self) -> Option<f64> {
        share(self.correct, self.compared)
    }

    /// What the majority's label alone would score, from 0 to 1; `None` with nothing to compare.
    pub fn majority_accuracy(&self) -> Option<f64> {
        share(self.majority.as_ref()?.rows, self.compared)
    }

    /// Wilson's 95 % interval of the accuracy, which holds for small samples and near 0 and 1 too.
    pub fn interval(&self) -> Option<Interval> {
        let accuracy = self.accuracy()?;
        let rows = self.compared as f64;
        let spread = Z * Z / rows;
        let center = accuracy + spread / 2.0;
        let half = Z * (accuracy * (1.0 - accuracy) / rows + spread / (4.0 * rows)).sqrt();
        let scale = 1.0 + spread;
        Some(Interval {
            low: ((center - half) / scale).max(0.0),
            high: ((center + half) / scale).min(1.0),
        })
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Written with the derived numbers, so that a reader of the JSON needs no formula.
impl Serialize for Agreement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Agreement", 6)?;
        fields.serialize_field("compared", &self.compared)?;
        fields.serialize_field("correct", &self.correct)?;
        fields.serialize_field("accuracy", &self.accuracy())?;
        fields.serialize_field("interval", &self.interval())?;
        fields.serialize_field("majority", &self.majority)?;
        fields.serialize_field("majority_accuracy", &self.majority_accuracy())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(correct: u64, compared: u64) -> Agreement {
        Agreement { compared, correct, majority: None }
    }

    fn rounded(interval: Interval) -> (f64, f64) {
        let round = |share: f64| (share * 10_000.0).round() / 10_000.0;
        (round(interval.low), round(interval.high))
    }

    #[test]
    fn the_interval_is_wilsons() {
        // From the comparison of seven methods in Newcombe (1998), Statistics in Medicine 17.
        assert_eq!(rounded(agreement(81, 263).interval().unwrap()), (0.2553, 0.3662));
        assert_eq!(rounded(agreement(15, 148).interval().unwrap()), (0.0624, 0.1605));
    }

    #[test]
    fn a_perfect_small_sample_is_not_certain() {
        let interval = agreement(10, 10).interval().unwrap();
        assert!(interval.high > 0.999_999 && interval.high <= 1.0, "{interval:?}");
        assert!((0.72..0.73).contains(&interval.low), "{interval:?}");
        let interval = agreement(0, 10).interval().unwrap();
        assert!((0.0..1e-6).contains(&interval.low), "{interval:?}");
        assert!((0.27..0.28).contains(&interval.high), "{interval:?}");
    }

    #[test]
    fn nothing_compared_is_no_accuracy_rather_than_zero() {
        let json = serde_json::to_value(Agreement::default()).unwrap();
        assert_eq!(json["compared"], 0);
        assert!(json["accuracy"].is_null() && json["interval"].is_null());
    }
}
