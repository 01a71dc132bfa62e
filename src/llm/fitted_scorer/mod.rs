//! A scorer that learns from rows whose labels are known: TF-IDF and a linear model for each label.
//!
//! Offline and deterministic: the same rows in the same order give the same model, bit for bit, on
//! every machine. All sums are taken in a fixed order and the only functions that are used of
//! floating-point numbers are those that IEEE 754 defines exactly.
//!
//! 1. `vectorizer`: a text as a sparse vector of length one.
//! 2. `linear_svm`: what separates one label's vectors from the others.
//! 3. `cross_validation`: how often rows are right that the model did not see.

mod cross_validation;
mod linear_svm;
mod random_order;
mod vectorizer;

pub use cross_validation::{CrossValidation, FOLDS, cross_validated};

use self::linear_svm::separate;
use self::vectorizer::{Reading, Vectorizer};
use super::lexical_scorer::Best;

/// Most bytes of text that a scorer is fitted on; fitting takes about 20 times as much memory.
pub const MAX_TEXT_BYTES: usize = 16 << 20;

/// Most weights of a scorer, four bytes each: with many labels the rarest features are left out.
const MAX_WEIGHTS: usize = 1 << 24;

/// Features that a scorer has in any case, however many labels there are.
const LEAST_FEATURES: usize = 4096;

/// A scorer, fitted on rows.
#[derive(Clone, Debug)]
pub struct FittedScorer {
    vectorizer: Vectorizer,
    /// `weights[f * labels..][..labels]` is what feature `f` says for each label.
    weights: Vec<f32>,
    /// What speaks for each label before anything is read; a label without rows is never given.
    biases: Vec<f32>,
}

/// Buffers that a thread reuses from row to row; see [`FittedScorer::scratch`].
#[derive(Clone, Debug)]
pub struct Scratch {
    reading: Reading,
    scores: Vec<f32>,
}

impl FittedScorer {
    /// Fits a scorer for `labels` labels on rows of a text and its label's place, from 0. Rows with
    /// another label are left out; a label without rows is never the best one.
    ///
    /// Takes half a second to one and 20 MB for 10,000 rows of 12 words with 77 labels.
    pub fn fit<'a>(rows: impl Iterator<Item = (&'a str, usize)>, labels: usize) -> FittedScorer {
        let rows: Vec<(&str, usize)> = rows.filter(|(_, label)| *label < labels).collect();
        let most = (MAX_WEIGHTS / labels.max(1)).max(LEAST_FEATURES);
        let vectorizer = Vectorizer::fit(rows.iter().map(|(text, _)| *text), most);
        let vectors = vectorizer.vectors(rows.iter().map(|(text, _)| *text));
        let mut weights = vec![0.0; vectorizer.features() * labels];
        let mut biases = vec![f32::NEG_INFINITY; labels];
        for (label, bias) in biases.iter_mut().enumerate() {
            if rows.iter().all(|(_, other)| *other != label) {
                continue;
            }
            let separator = separate(&vectors, vectorizer.features(), |row| rows[row].1 == label);
            *bias = separator.bias;
            for (feature, weight) in separator.weights.into_iter().enumerate() {
                weights[feature * labels + label] = weight;
            }
        }
        FittedScorer { vectorizer, weights, biases }
    }

    /// How many labels it tells apart, those without rows counted.
    pub fn labels(&self) -> usize {
        self.biases.len()
    }

    /// How many features it knows.
    pub fn features(&self) -> usize {
        self.vectorizer.features()
    }

    /// Buffers for [`FittedScorer::best`] of this scorer.
    pub fn scratch(&self) -> Scratch {
        Scratch { reading: self.vectorizer.reading(), scores: Vec::with_capacity(self.labels()) }
    }

    /// The label that fits `text` best; of equal ones the first, and label 0 where no label has
    /// rows. The score is 0 if nothing in the text is known, else above 0 and at most 1, and half
    /// where the label's model can't decide. `scratch` comes from this scorer's
    /// [`FittedScorer::scratch`].
    pub fn best(&self, text: &str, scratch: &mut Scratch) -> Best {
        let Scratch { reading, scores } = scratch;
        scores.clear();
        scores.extend_from_slice(&self.biases);
        let vector = self.vectorizer.read(text, reading);
        for &(feature, value) in vector {
            let from = feature as usize * scores.len();
            let weights = &self.weights[from..from + scores.len()];
            for (score, weight) in scores.iter_mut().zip(weights) {
                *score += value * weight;
            }
        }
        let (mut label, mut first, mut second) = (0, f32::NEG_INFINITY, f32::NEG_INFINITY);
        for (at, &score) in scores.iter().enumerate() {
            if score > first {
                (label, second, first) = (at, first, score);
            } else if score > second {
                second = score;
            }
        }
        if vector.is_empty() || first == f32::NEG_INFINITY {
            return Best { label, score: 0.0, margin: 0.0 };
        }
        let share = |score: f32| ((score + 1.0) / 2.0).clamp(f32::MIN_POSITIVE, 1.0);
        Best { label, score: share(first), margin: share(first) - share(second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [(&str, usize); 8] = [
        ("my card has not arrived", 0),
        ("when does the card arrive", 0),
        ("the card is still on its way", 0),
        ("what is the exchange rate", 1),
        ("which rate do you use for exchange", 1),
        ("rates of exchange today", 1),
        ("close the account", 3),
        ("please close my account", 3),
    ];

    fn fitted() -> FittedScorer {
        FittedScorer::fit(ROWS.into_iter(), 4)
    }

    fn best(scorer: &FittedScorer, text: &str) -> Best {
        scorer.best(text, &mut scorer.scratch())
    }

    #[test]
    fn what_was_learned_is_known_and_carries_over_to_other_words() {
        let scorer = fitted();
        for (text, label) in ROWS {
            assert_eq!(best(&scorer, text).label, label, "{text}");
        }
        assert_eq!(best(&scorer, "CARD arrival?").label, 0);
        assert_eq!(best(&scorer, "closing an account").label, 3);
    }

    #[test]
    fn the_same_rows_give_the_same_model_to_the_last_bit() {
        let (one, other) = (fitted(), fitted());
        let bits = |scorer: &FittedScorer| -> Vec<u32> {
            scorer.weights.iter().chain(&scorer.biases).map(|weight| weight.to_bits()).collect()
        };
        assert_eq!(bits(&one), bits(&other));
        // With optimization and without. Where this differs, rows would be labelled differently.
        let sum = bits(&one).iter().fold(0_u64, |sum, bits| sum.rotate_left(5) ^ u64::from(*bits));
        assert_eq!(sum, 0x025a_8355_df41_081e, "{sum:#x}");
    }

    #[test]
    fn a_label_without_rows_is_never_given() {
        let scorer = fitted();
        for text in ["my card", "the exchange", "nothing of all that", "", "2 b"] {
            assert_ne!(best(&scorer, text).label, 2, "{text}");
        }
        let none = FittedScorer::fit(std::iter::empty(), 2);
        assert_eq!(best(&none, "my card"), Best { label: 0, score: 0.0, margin: 0.0 });
    }

    #[test]
    fn a_text_of_which_nothing_is_known_scores_nothing() {
        let scorer = fitted();
        for text in ["", "12345", "漢字"] {
            assert_eq!((best(&scorer, text).score, best(&scorer, text).margin), (0.0, 0.0));
        }
        let known = best(&scorer, "when does the card arrive");
        assert!(known.score > 0.5 && known.margin > 0.1 && known.score <= 1.0, "{known:?}");
    }

    #[test]
    fn a_reused_scratch_remembers_nothing() {
        let scorer = fitted();
        let mut scratch = scorer.scratch();
        for (text, _) in ROWS.iter().chain(ROWS.iter().rev()) {
            assert_eq!(scorer.best(text, &mut scratch), best(&scorer, text));
        }
    }

    #[test]
    fn labels_beyond_the_last_are_left_out() {
        let scorer = FittedScorer::fit(ROWS.into_iter(), 2);
        assert_eq!(scorer.labels(), 2);
        assert_eq!(best(&scorer, "the exchange rate").label, 1);
    }

    #[test]
    fn scripts_without_spaces_are_learned_too() {
        let rows =
            [("我的卡还没到", 0), ("卡什么时候到", 0), ("汇率是多少", 1), ("你们用什么汇率", 1)];
        let scorer = FittedScorer::fit(rows.into_iter(), 2);
        assert_eq!(best(&scorer, "请问我的卡在哪里").label, 0);
        assert_eq!(best(&scorer, "今天的汇率").label, 1);
    }
}
