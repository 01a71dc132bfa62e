//! How far labels agree with known answers, and how sure that number is.

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::LabelCount;
use crate::quality::{Interval, wilson};

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

impl Agreement {
    /// The share of correct labels, from 0 to 1; `None` with nothing to compare.
    pub fn accuracy(&self) -> Option<f64> {
        share(self.correct, self.compared)
    }

    /// What the majority's label alone would score, from 0 to 1; `None` with nothing to compare.
    pub fn majority_accuracy(&self) -> Option<f64> {
        share(self.majority.as_ref()?.rows, self.compared)
    }

    /// Where the accuracy lies, 95 %; `None` with nothing to compare.
    pub fn interval(&self) -> Option<Interval> {
        wilson(self.correct, self.compared)
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

    #[test]
    fn nothing_compared_is_no_accuracy_rather_than_zero() {
        let json = serde_json::to_value(Agreement::default()).unwrap();
        assert_eq!(json["compared"], 0);
        assert!(json["accuracy"].is_null() && json["interval"].is_null());
    }
}
