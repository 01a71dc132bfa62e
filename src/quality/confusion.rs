//! Labels held against known answers: every row counted once, by what is known and what was given.
//!
//! A row without a label is not right, and it is no label's mistake: it counts towards accuracy and
//! recall, never towards a precision or a mix-up. Only pairs that occur take room.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::LabelIndex;

/// Rows by known answer and given label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    rows: BTreeMap<(LabelIndex, Option<LabelIndex>), u64>,
}

/// How well one label is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelQuality {
    /// Which.
    pub label: LabelIndex,
    /// Rows whose known answer it is.
    pub support: u64,
    /// Rows that were given it.
    pub given: u64,
    /// Rows of which both holds.
    pub right: u64,
}

/// Rows of one label that were given another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixUp {
    /// The known answer.
    pub known: LabelIndex,
    /// The label that was given.
    pub given: LabelIndex,
    /// How many rows.
    pub rows: u64,
}

impl LabelQuality {
    /// Of the rows that were given the label, the share that deserve it; 0 if there are none.
    pub fn precision(&self) -> f64 {
        share(self.right, self.given).unwrap_or(0.0)
    }

    /// Of the rows that deserve the label, the share that were given it; 0 if there are none.
    pub fn recall(&self) -> f64 {
        share(self.right, self.support).unwrap_or(0.0)
    }

    /// The harmonic mean of both; 0 if one of them is.
    pub fn f1(&self) -> f64 {
        share(2 * self.right, self.support + self.given).unwrap_or(0.0)
    }
}

impl Confusion {
    /// Counts a row.
    pub fn add(&mut self, known: LabelIndex, given: Option<LabelIndex>) {
        *self.rows.entry((known, given)).or_default() += 1;
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Rows whose label is the known answer.
    pub fn right(&self) -> u64 {
        self.count(|known, given| given == Some(known))
    }

    /// Rows without a label.
    pub fn unlabelled(&self) -> u64 {
        self.count(|_, given| given.is_none())
    }

    /// The share of all rows whose label is the known answer; `None` without rows.
    pub fn accuracy(&self) -> Option<f64> {
        share(self.right(), self.rows())
    }

    /// The same share of the rows that have a label; `None` without any.
    pub fn accuracy_of_labelled(&self) -> Option<f64> {
        share(self.right(), self.rows() - self.unlabelled())
    }

    /// The label that most rows deserve (of equal ones the first), and how many do.
    pub fn majority(&self) -> Option<(LabelIndex, u64)> {
        let most = self.by_label().into_iter().map(|of| (of.support, of.label));
        let (rows, label) = most.max_by_key(|(rows, label)| (*rows, std::cmp::Reverse(*label)))?;
        (rows > 0).then_some((label, rows))
    }

    /// Every label that occurs, known or given, in the order of the codebook.
    pub fn by_label(&self) -> Vec<LabelQuality> {
        let occurring: BTreeSet<LabelIndex> =
            self.rows.keys().flat_map(|(known, given)| [Some(*known), *given]).flatten().collect();
        let of = |label| LabelQuality { label, support: 0, given: 0, right: 0 };
        let mut labels: BTreeMap<LabelIndex, LabelQuality> =
            occurring.into_iter().map(|label| (label, of(label))).collect();
        for ((known, given), rows) in &self.rows {
            if let Some(known) = labels.get_mut(known) {
                known.support += rows;
            }
            if let Some(given) = given.and_then(|given| labels.get_mut(&given)) {
                given.given += rows;
                given.right += if given.label == *known { *rows } else { 0 };
            }
        }
        labels.into_values().collect()
    }

    /// The mean F1 of the labels that occur, each weighing the same; `None` without rows.
    pub fn macro_f1(&self) -> Option<f64> {
        let labels = self.by_label();
        let sum: f64 = labels.iter().map(LabelQuality::f1).sum();
        (!labels.is_empty()).then(|| sum / labels.len() as f64)
    }

    /// Cohen's kappa: how far agreement lies between chance (0) and certainty (1). A row without a
    /// label counts as given a label of its own. `None` without rows, or if chance alone agrees
    /// on every row.
    pub fn kappa(&self) -> Option<f64> {
        let rows = self.rows() as f64;
        let observed = self.accuracy()?;
        let by_chance: f64 = self
            .by_label()
            .iter()
            .map(|of| (of.support as f64 / rows) * (of.given as f64 / rows))
            .sum();
        (by_chance < 1.0).then(|| (observed - by_chance) / (1.0 - by_chance))
    }

    /// The pairs that most rows were mixed up in, the worst first, at most `most`.
    pub fn worst(&self, most: usize) -> Vec<MixUp> {
        let mut pairs: Vec<MixUp> = self
            .rows
            .iter()
            .filter_map(|(&(known, given), &rows)| Some(MixUp { known, given: given?, rows }))
            .filter(|pair| pair.known != pair.given)
            .collect();
        // A stable sort keeps equal ones in the order of the codebook.
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.rows));
        pairs.truncate(most);
        pairs
    }

    fn count(&self, holds: impl Fn(LabelIndex, Option<LabelIndex>) -> bool) -> u64 {
        let rows = self.rows.iter().filter(|((known, given), _)| holds(*known, *given));
        rows.map(|(_, rows)| rows).sum()
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(cells: &[(u16, Option<u16>, u64)]) -> Confusion {
        let mut confusion = Confusion::default();
        for &(known, given, rows) in cells {
            for _ in 0..rows {
                confusion.add(LabelIndex(known), given.map(LabelIndex));
            }
        }
        confusion
    }

    fn near(found: Option<f64>, known: f64) {
        assert!(found.is_some_and(|found| (found - known).abs() < 1e-9), "{found:?}, not {known}");
    }

    #[test]
    fn kappa_is_cohens() {
        // The textbook's grants: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no. By hand:
        // po = 35/50, pe = 0.5 x 0.6 + 0.5 x 0.4 = 0.5, kappa = 0.2 / 0.5.
        let grants =
            confusion(&[(0, Some(0), 20), (0, Some(1), 5), (1, Some(0), 10), (1, Some(1), 15)]);
        near(grants.accuracy(), 0.7);
        near(grants.kappa(), 0.4);
    }

    #[test]
    fn three_labels_by_hand() {
        // sklearn's documented example: known 0 1 2 0 1 2, given 0 2 1 0 0 1, macro F1 0.26666...
        let example =
            confusion(&[(0, Some(0), 2), (1, Some(2), 1), (1, Some(0), 1), (2, Some(1), 2)]);
        near(example.macro_f1(), 0.8 / 3.0);
        let first = example.by_label()[0];
        near(Some(first.precision()), 2.0 / 3.0);
        near(Some(first.recall()), 1.0);
        assert_eq!((first.support, first.given), (2, 3));
        assert_eq!(example.majority(), Some((LabelIndex(0), 2)), "of equal ones the first");
    }

    #[test]
    fn a_row_without_a_label_is_not_right_and_nobodys_mix_up() {
        let counts = confusion(&[(0, Some(0), 6), (0, None, 2), (1, Some(0), 2)]);
        assert_eq!((counts.rows(), counts.right(), counts.unlabelled()), (10, 6, 2));
        near(counts.accuracy(), 0.6);
        near(counts.accuracy_of_labelled(), 0.75);
        near(Some(counts.by_label()[0].recall()), 0.75);
        near(Some(counts.by_label()[0].precision()), 0.75);
        assert_eq!(counts.worst(10).len(), 1);
        // pe = 0.8 x 0.8 + 0.2 x 0 = 0.64; (0.6 - 0.64) / 0.36.
        near(counts.kappa(), -0.04 / 0.36);
    }

    #[test]
    fn the_worst_pairs_come_first_and_equal_ones_in_the_codebooks_order() {
        let pairs = confusion(&[
            (0, Some(1), 3),
            (0, Some(0), 50),
            (1, Some(2), 7),
            (2, Some(0), 3),
            (2, None, 90),
        ]);
        let of = |pair: &MixUp| (pair.known.0, pair.given.0, pair.rows);
        assert_eq!(
            pairs.worst(10).iter().map(of).collect::<Vec<_>>(),
            [(1, 2, 7), (0, 1, 3), (2, 0, 3)]
        );
        assert_eq!(pairs.worst(1).len(), 1);
    }

    #[test]
    fn nothing_counted_is_no_number_rather_than_zero() {
        let nothing = Confusion::default();
        assert_eq!((nothing.accuracy(), nothing.kappa(), nothing.macro_f1()), (None, None, None));
        assert_eq!(nothing.majority(), None);
    }

    #[test]
    fn one_label_on_both_sides_says_nothing_beyond_chance() {
        assert_eq!(confusion(&[(0, Some(0), 5)]).kappa(), None);
    }
}
