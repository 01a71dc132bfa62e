//! How often a fitted scorer is right on rows that it did not see: each fold is labelled by a scorer
//! that was fitted on the others, vocabulary included.
//!
//! Stratified: every fold has its share of every label. The folds follow from the seed.

use super::FittedScorer;
use super::random_order::RandomOrder;

/// How many folds are usual.
pub const FOLDS: usize = 5;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrossValidation {
    /// Rows whose label was found.
    pub correct: u64,
    /// All rows.
    pub rows: u64,
    /// The label that each row was given, in the rows' order.
    pub predictions: Vec<usize>,
}

impl CrossValidation {
    /// The share of rows that are right, 0 to 1; `None` without rows.
    pub fn accuracy(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.correct as f64 / self.rows as f64)
    }
}

/// Labels `rows`, each a text and its label's place below `labels`, in `folds` parts (two at least),
/// by scorers that were fitted on the other parts. Takes `folds` - 1 times as long as one fit.
pub fn cross_validated(
    rows: &[(&str, usize)],
    labels: usize,
    folds: usize,
    seed: u64,
) -> CrossValidation {
    let fold_of = fold_of_each(rows, labels, folds.max(2), seed);
    let mut predictions = vec![0; rows.len()];
    for fold in 0..folds.max(2) {
        let others = rows.iter().zip(&fold_of).filter(|(_, of)| **of != fold);
        let scorer = FittedScorer::fit(others.map(|(row, _)| *row), labels);
        let mut scratch = scorer.scratch();
        for (at, (text, _)) in rows.iter().enumerate().filter(|(at, _)| fold_of[*at] == fold) {
            predictions[at] = scorer.best(text, &mut scratch).label;
        }
    }
    let right = rows.iter().zip(&predictions).filter(|((_, label), given)| label == *given);
    CrossValidation { correct: right.count() as u64, rows: rows.len() as u64, predictions }
}

/// The fold of each row. Each label's rows are shuffled and dealt; the next label's deal goes on
/// where the last one ended, so that folds are of one size.
fn fold_of_each(rows: &[(&str, usize)], labels: usize, folds: usize, seed: u64) -> Vec<usize> {
    let mut of_label = vec![Vec::new(); labels];
    for (at, (_, label)) in rows.iter().enumerate() {
        if let Some(places) = of_label.get_mut(*label) {
            places.push(at);
        }
    }
    let mut random = RandomOrder::new(seed);
    let mut fold_of = vec![0; rows.len()];
    let mut dealt = 0;
    for places in &mut of_label {
        random.shuffle(places);
        for place in places {
            fold_of[*place] = dealt % folds;
            dealt += 1;
        }
    }
    fold_of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<(String, usize)> {
        let row = |at: usize| match at % 3 {
            0 => (format!("the card number {at} has not arrived"), 0),
            1 => (format!("what exchange rate for {at} dollars"), 1),
            _ => (format!("close account {at}"), 2),
        };
        (0..31).map(row).collect()
    }

    fn borrowed(rows: &[(String, usize)]) -> Vec<(&str, usize)> {
        rows.iter().map(|(text, label)| (text.as_str(), *label)).collect()
    }

    #[test]
    fn every_fold_has_its_share_of_every_label() {
        let rows = rows();
        let folds = fold_of_each(&borrowed(&rows), 3, 5, 7);
        for fold in 0..5 {
            let of_fold = |label| {
                let both = rows.iter().zip(&folds);
                both.filter(|(row, of)| row.1 == label && **of == fold).count()
            };
            assert!((0..3).all(|label| (2..=3).contains(&of_fold(label))), "fold {fold}");
            let size = folds.iter().filter(|of| **of == fold).count();
            assert!((6..=7).contains(&size), "fold {fold} has {size} rows");
        }
    }

    #[test]
    fn rows_are_labelled_by_what_others_teach_and_alike_each_time() {
        let rows = rows();
        let result = cross_validated(&borrowed(&rows), 3, FOLDS, 7);
        assert_eq!((result.correct, result.rows), (31, 31));
        assert_eq!(result.accuracy(), Some(1.0));
        assert_eq!(result, cross_validated(&borrowed(&rows), 3, FOLDS, 7));
    }

    #[test]
    fn a_row_is_never_labelled_by_itself() {
        // Each row's words are its own: whoever saw it would know it.
        let rows: Vec<(String, usize)> = (0..20)
            .map(|at| (format!("{0}{0}{0} {0}{0}", char::from(b'a' + at)), usize::from(at % 2)))
            .collect();
        let rows: Vec<(&str, usize)> =
            rows.iter().map(|(text, label)| (text.as_str(), *label)).collect();
        let doubled: Vec<(&str, usize)> = rows.iter().chain(&rows).copied().collect();
        let scorer = FittedScorer::fit(doubled.iter().copied(), 2);
        let mut scratch = scorer.scratch();
        let seen = rows.iter().filter(|row| scorer.best(row.0, &mut scratch).label == row.1);
        assert_eq!(seen.count(), 20);
        assert!(cross_validated(&rows, 2, FOLDS, 7).correct < 20);
    }

    #[test]
    fn no_rows_have_no_accuracy() {
        assert_eq!(cross_validated(&[], 3, FOLDS, 7).accuracy(), None);
    }
}
