//! A text as a sparse vector of length one: how often each known feature occurs in it, weighed by
//! how rare the feature is (TF-IDF).
//!
//! Features are words, pairs of words and groups of four letters; in scripts that leave no spaces,
//! pairs of letters too. Those that only one text has are left out.

use std::collections::HashMap;

use super::super::feature_table::FeatureTable;
use super::super::words::Words;
use super::linear_svm::Vectors;

/// How many letters a group has, spaces at a word's ends counted.
///
/// On Banking77, cross-validated, groups of 3 to 5 letters label no more rows rightly and make twice
/// as many features a row.
const GROUP: usize = 4;

/// Most occurrences of a feature that are told apart.
const MAX_COUNT: usize = 64;

/// What a text's features are looked up in.
#[derive(Clone, Debug)]
pub(super) struct Vectorizer {
    table: FeatureTable,
    /// Inverse text frequency by feature.
    rarity: Vec<f32>,
    /// What a feature weighs that occurs so often: the tenth time says little.
    by_count: Vec<f32>,
}

/// Buffers of one reader of texts.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    words: Words,
    counts: Vec<u8>,
    vector: Vec<(u32, f32)>,
}

impl Vectorizer {
    /// Learns which features `texts` have and how rare each is; at most `most` are kept, those that
    /// most texts have.
    pub(super) fn fit<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> Vectorizer {
        let mut words = Words::default();
        let mut of_text = Vec::new();
        let mut texts_with: HashMap<u64, u32> = HashMap::new();
        let mut number = 0_u32;
        for text in texts {
            number += 1;
            of_text.clear();
            words.read(text);
            each_feature(&words, |feature| of_text.push(feature));
            of_text.sort_unstable();
            of_text.dedup();
            for feature in &of_text {
                *texts_with.entry(*feature).or_default() += 1;
            }
        }
        let mut known: Vec<(u64, u32)> =
            texts_with.into_iter().filter(|(_, texts)| *texts > 1).collect();
        // The commonest first: their weights then stand together in memory.
        known.sort_unstable_by_key(|&(feature, texts)| (std::cmp::Reverse(texts), feature));
        known.truncate(most);
        let rarity = known.iter().map(|(_, texts)| rarity(*texts, number)).collect();
        let ids: Vec<(u64, u32)> = known.iter().map(|(feature, _)| *feature).zip(0..).collect();
        Vectorizer {
            table: FeatureTable::new(ids.into_iter()),
            rarity,
            by_count: (0..=MAX_COUNT).map(|count| 1.0 + ln(count.max(1) as f64) as f32).collect(),
        }
    }

    /// How many features are known.
    pub(super) fn features(&self) -> usize {
        self.rarity.len()
    }

    /// Buffers for [`Vectorizer::read`].
    pub(super) fn reading(&self) -> Reading {
        Reading { counts: vec![0; self.features()], ..Reading::default() }
    }

    /// The vector of `text`: known features in the order in which they first occur, of length one;
    /// empty if none is known.
    pub(super) fn read<'r>(&self, text: &str, reading: &'r mut Reading) -> &'r [(u32, f32)] {
        let Reading { words, counts, vector } = reading;
        vector.clear();
        counts.resize(self.features(), 0);
        words.read(text);
        each_feature(words, |feature| {
            if let Some(feature) = self.table.find(feature) {
                let count = &mut counts[feature as usize];
                if *count == 0 {
                    vector.push((feature, 0.0));
                }
                *count = count.saturating_add(1);
            }
        });
        let mut square = 0.0;
        for (feature, value) in vector.iter_mut() {
            let feature = *feature as usize;
            let count = usize::from(std::mem::take(&mut counts[feature])).min(MAX_COUNT);
            *value = self.by_count[count] * self.rarity[feature];
            square += *value * *value;
        }
        let length = square.sqrt();
        for (_, value) in vector.iter_mut() {
            *value /= length;
        }
        vector
    }

    /// The vectors of `texts`, in their order.
    pub(super) fn vectors<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Vectors {
        let mut reading = self.reading();
        let mut vectors = Vectors::default();
        for text in texts {
            vectors.push(self.read(text, &mut reading));
        }
        vectors
    }
}

fn each_feature(words: &Words, mut take: impl FnMut(u64)) {
    words.each_feature(GROUP..=GROUP, &mut take);
    words.each_unspaced_pair(take);
}

/// Smoothed inverse text frequency of a feature that `with` of `all` texts have.
fn rarity(with: u32, all: u32) -> f32 {
    (ln((1.0 + f64::from(all)) / (1.0 + f64::from(with))) + 1.0) as f32
}

/// The natural logarithm of a positive number, from additions, multiplications and divisions alone:
/// a system's own may differ in its last bit from the next one's.
fn ln(number: f64) -> f64 {
    let (mut mantissa, mut halvings) = (number, 0.0);
    while mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        halvings += 1.0;
    }
    while mantissa < std::f64::consts::FRAC_1_SQRT_2 {
        mantissa *= 2.0;
        halvings -= 1.0;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), whose argument is below 0.172 here.
    let argument = (mantissa - 1.0) / (mantissa + 1.0);
    let square = argument * argument;
    let series = (0..12).rev().fold(0.0, |sum, at| sum * square + 1.0 / f64::from(2 * at + 1));
    2.0 * argument * series + halvings * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_system_to_a_float() {
        for number in [1e-9, 0.3, 0.5, 0.99, 1.0, 1.000_001, 1.5, 2.0, 3.0, 10_004.0, 4e9] {
            let difference = ln(number) - number.ln();
            assert!(difference.abs() <= 1e-14 * number.ln().abs().max(1.0), "{number}");
        }
    }

    #[test]
    fn vectors_have_length_one_and_rare_features_weigh_more() {
        let texts = ["the card", "the rate", "the card rate", "the end"];
        let vectorizer = Vectorizer::fit(texts.into_iter(), 1000);
        let mut reading = vectorizer.reading();
        for text in texts {
            let square: f32 =
                vectorizer.read(text, &mut reading).iter().map(|(_, value)| value * value).sum();
            assert!((square - 1.0).abs() < 1e-6, "{text}: {square}");
        }
        // `the` is the commonest and therefore feature 0 or one of its neighbours; `card` is rarer.
        let vector = vectorizer.read("the card", &mut reading).to_vec();
        let (common, rare) = (vector[0].1, vector.last().unwrap().1);
        assert!(rare > common, "{vector:?}");
        assert!(vectorizer.read("zzz", &mut reading).is_empty());
    }

    #[test]
    fn what_one_text_alone_has_is_left_out_and_the_commonest_stay() {
        let texts = ["alpha beta", "alpha beta", "alpha gamma"];
        let all = Vectorizer::fit(texts.into_iter(), 1000);
        let none = |text| all.read(text, &mut all.reading()).is_empty();
        assert!(none("gamma") && !none("alpha") && !none("beta"));
        let few = Vectorizer::fit(texts.into_iter(), 1);
        assert_eq!(few.features(), 1);
        assert!(!few.read("alpha", &mut few.reading()).is_empty());
        assert!(few.read("beta", &mut few.reading()).is_empty());
    }

    #[test]
    fn repetition_weighs_little_and_is_bounded() {
        let vectorizer = Vectorizer::fit(["tea x", "tea x"].into_iter(), 1000);
        let weight = |text: &str| vectorizer.read(text, &mut vectorizer.reading())[0].1;
        let (twice, often) = (weight("tea tea x"), weight(&format!("{} x", "tea ".repeat(500))));
        assert!(weight("tea x") < twice && twice < often);
        assert_eq!(often, weight(&format!("{} x", "tea ".repeat(64))));
    }
}
