//! Scores a text against every label by the words and letter groups that they share (TF-IDF).
//!
//! Offline and deterministic: the same labels and the same text give the same label, and of equal
//! scores the label that stands first wins.
//!
//! A label is what its name, its description and its examples have in common: each text becomes a
//! vector of length one, the vectors are added, the square roots of the sums (so that one long
//! example does not outweigh four short ones) are brought back to length one.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::feature_table::FeatureTable;
use super::words::Words;

/// The shortest and the longest letter group.
const GROUP: RangeInclusive<usize> = 2..=5;

/// What a label is known by. An empty description and no examples are fine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelText<'a> {
    /// Its name; underscores, punctuation and camel case part words.
    pub name: &'a str,
    /// What it covers.
    pub description: &'a str,
    /// Texts that carry it.
    pub examples: Vec<&'a str>,
}

/// The label that fits a text best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// The label's place in the list that the scorer was fitted on.
    pub label: usize,
    /// Cosine of text and label, 0 to 1; 0 if they share nothing.
    pub score: f32,
    /// How far the runner-up's score lies below, 0 to 1.
    pub margin: f32,
}

/// A scorer, fitted on a list of labels.
#[derive(Clone, Debug)]
pub struct LexicalScorer {
    labels: usize,
    features: FeatureTable,
    /// Inverse label frequency by feature.
    rarity: Vec<f32>,
    /// That of a feature that no label has.
    unknown_rarity: f32,
    /// `postings[starts[f]..starts[f + 1]]` are the labels that have feature `f`.
    starts: Vec<u32>,
    postings: Vec<Posting>,
}

#[derive(Clone, Copy, Debug)]
struct Posting {
    label: u32,
    weight: f32,
}

/// Buffers that a thread reuses from row to row; see [`LexicalScorer::scratch`].
#[derive(Clone, Debug)]
pub struct Scratch {
    words: Words,
    counts: Vec<u16>,
    touched: Vec<u32>,
    scores: Vec<f32>,
}

impl LexicalScorer {
    /// Fits a scorer on `labels`.
    pub fn new(labels: &[LabelText<'_>]) -> LexicalScorer {
        let mut vocabulary = Vocabulary::default();
        let texts: Vec<Vec<TermCounts>> = labels.iter().map(|it| vocabulary.read(it)).collect();
        let rarity = rarity(&texts, vocabulary.ids.len());
        let mut by_feature: Vec<Vec<Posting>> = vec![Vec::new(); rarity.len()];
        for (label, texts) in (0_u32..).zip(&texts) {
            for (feature, weight) in centroid(texts, &rarity) {
                by_feature[feature as usize].push(Posting { label, weight });
            }
        }
        let mut starts = Vec::with_capacity(by_feature.len() + 1);
        let mut postings = Vec::new();
        for of_feature in &by_feature {
            starts.push(postings.len() as u32);
            postings.extend_from_slice(of_feature);
        }
        starts.push(postings.len() as u32);
        let features = FeatureTable::new(vocabulary.ids.into_iter());
        let unknown_rarity = rarity_of(0, labels.len());
        LexicalScorer { labels: labels.len(), features, rarity, unknown_rarity, starts, postings }
    }

    /// Buffers for [`LexicalScorer::best`] of this scorer.
    pub fn scratch(&self) -> Scratch {
        Scratch {
            words: Words::default(),
            counts: vec![0; self.rarity.len()],
            touched: Vec::new(),
            scores: vec![0.0; self.labels],
        }
    }

    /// The label that fits `text` best; the first one if nothing is shared with any.
    /// `scratch` comes from this scorer's [`LexicalScorer::scratch`].
    pub fn best(&self, text: &str, scratch: &mut Scratch) -> Best {
        let Scratch { words, counts, touched, scores } = scratch;
        counts.resize(self.rarity.len(), 0);
        scores.clear();
        scores.resize(self.labels, 0.0);
        words.read(text);
        let mut unknown = 0_u32;
        words.each_feature(GROUP, |hash| {
            let Some(feature) = self.features.find(hash) else {
                unknown += 1;
                return;
            };
            let count = &mut counts[feature as usize];
            if *count == 0 {
                touched.push(feature);
            }
            *count = count.saturating_add(1);
        });
        // What no label has makes the text longer all the same, and its scores smaller.
        let mut square = unknown as f32 * self.unknown_rarity * self.unknown_rarity;
        for feature in touched.drain(..) {
            let at = feature as usize;
            let weight = term_weight(counts[at]) * self.rarity[at];
            counts[at] = 0;
            square += weight * weight;
            let of_feature = self.starts[at] as usize..self.starts[at + 1] as usize;
            for posting in &self.postings[of_feature] {
                scores[posting.label as usize] += weight * posting.weight;
            }
        }
        best_of(scores, square.sqrt())
    }
}

fn best_of(scores: &[f32], length: f32) -> Best {
    let (mut label, mut first, mut second) = (0, f32::NEG_INFINITY, f32::NEG_INFINITY);
    for (at, &score) in scores.iter().enumerate() {
        if score > first {
            (label, second, first) = (at, first, score);
        } else if score > second {
            second = score;
        }
    }
    if length == 0.0 || first <= 0.0 {
        return Best { label: 0, score: 0.0, margin: 0.0 };
    }
    Best { label, score: first / length, margin: (first - second.max(0.0)) / length }
}

/// How much a feature that occurs `count` times weighs: the tenth occurrence says little.
fn term_weight(count: u16) -> f32 {
    if count <= 1 { 1.0 } else { 1.0 + f32::from(count).ln() }
}

/// How often each feature occurs in one text, in the order of first occurrence.
type TermCounts = Vec<(u32, u16)>;

/// Gives every feature of the labels' texts a number.
#[derive(Default)]
struct Vocabulary {
    ids: HashMap<u64, u32>,
    words: Words,
}

impl Vocabulary {
    fn read(&mut self, label: &LabelText<'_>) -> Vec<TermCounts> {
        [label.name, label.description]
            .into_iter()
            .chain(label.examples.iter().copied())
            .map(|text| self.count(text))
            .filter(|counts| !counts.is_empty())
            .collect()
    }

    fn count(&mut self, text: &str) -> TermCounts {
        let Vocabulary { ids, words } = self;
        let mut places: HashMap<u32, usize> = HashMap::new();
        let mut counts = TermCounts::new();
        words.read(text);
        words.each_feature(GROUP, |hash| {
            let next = ids.len() as u32;
            let id = *ids.entry(hash).or_insert(next);
            let place = *places.entry(id).or_insert(counts.len());
            match counts.get_mut(place) {
                Some((_, count)) => *count = count.saturating_add(1),
                None => counts.push((id, 1)),
            }
        });
        counts
    }
}

/// Smoothed inverse label frequency: 1 for a feature that every label has, more for rarer ones.
fn rarity(texts: &[Vec<TermCounts>], features: usize) -> Vec<f32> {
    let mut labels_with = vec![0_u32; features];
    let mut last_seen = vec![usize::MAX; features];
    for (label, texts) in texts.iter().enumerate() {
        for &(feature, _) in texts.iter().flatten() {
            let feature = feature as usize;
            if last_seen[feature] != label {
                last_seen[feature] = label;
                labels_with[feature] += 1;
            }
        }
    }
    labels_with.into_iter().map(|with| rarity_of(with, texts.len())).collect()
}

fn rarity_of(labels_with: u32, labels: usize) -> f32 {
    ((1.0 + labels as f32) / (1.0 + labels_with as f32)).ln() + 1.0
}

/// A label's vector, of length one, by rising feature.
fn centroid(texts: &[TermCounts], rarity: &[f32]) -> Vec<(u32, f32)> {
    let weight_of =
        |&(feature, count): &(u32, u16)| (feature, term_weight(count) * rarity[feature as usize]);
    let mut terms: Vec<(u32, f32)> = Vec::new();
    for text in texts {
        let length = length_of(text.iter().map(weight_of));
        terms.extend(text.iter().map(weight_of).map(|(id, weight)| (id, weight / length)));
    }
    // A stable sort keeps the sums in the texts' order, and with it the last bit of the result.
    terms.sort_by_key(|&(feature, _)| feature);
    terms.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0;
        if is_same {
            kept.1 += later.1;
        }
        is_same
    });
    for (_, weight) in &mut terms {
        *weight = weight.sqrt();
    }
    let length = length_of(terms.iter().copied());
    for (_, weight) in &mut terms {
        *weight /= length;
    }
    terms
}

fn length_of(terms: impl Iterator<Item = (u32, f32)>) -> f32 {
    terms.map(|(_, weight)| weight * weight).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named<'a>(names: &[&'a str]) -> Vec<LabelText<'a>> {
        names.iter().map(|&name| LabelText { name, ..LabelText::default() }).collect()
    }

    fn best(scorer: &LexicalScorer, text: &str) -> Best {
        scorer.best(text, &mut scorer.scratch())
    }

    #[test]
    fn names_split_at_underscores_and_camel_case() {
        for names in [["card_arrival", "exchange_rate"], ["cardArrival", "ExchangeRate"]] {
            let scorer = LexicalScorer::new(&named(&names));
            assert_eq!(best(&scorer, "when does the card arrive").label, 0);
            assert_eq!(best(&scorer, "your RATE, please").label, 1);
        }
    }

    #[test]
    fn description_and_examples_count() {
        let labels = [
            LabelText { name: "A", description: "anything about boats", examples: vec![] },
            LabelText { name: "B", description: "", examples: vec!["a slow train", "the tram"] },
        ];
        let scorer = LexicalScorer::new(&labels);
        assert_eq!(best(&scorer, "a boat").label, 0);
        assert_eq!(best(&scorer, "trams and trains").label, 1);
    }

    #[test]
    fn a_label_of_its_own_words_scores_nearly_one() {
        let scorer = LexicalScorer::new(&named(&["lost or stolen card", "top up failed"]));
        let best = best(&scorer, "Lost or stolen card");
        assert_eq!(best.label, 0);
        assert!(best.score > 0.9 && best.score < 1.001, "{best:?}");
        assert!(best.margin > 0.5 && best.margin <= best.score, "{best:?}");
    }

    #[test]
    fn nothing_shared_gives_the_first_label_and_no_score() {
        let scorer = LexicalScorer::new(&named(&["alpha", "beta"]));
        assert_eq!(best(&scorer, "12345"), Best { label: 0, score: 0.0, margin: 0.0 });
        assert_eq!(best(&scorer, ""), Best { label: 0, score: 0.0, margin: 0.0 });
    }

    #[test]
    fn of_equal_scores_the_first_label_wins() {
        let scorer = LexicalScorer::new(&named(&["other", "same", "same"]));
        assert_eq!(best(&scorer, "same").label, 1);
        assert_eq!(best(&scorer, "same").margin, 0.0);
    }

    #[test]
    fn a_reused_scratch_remembers_nothing() {
        let scorer = LexicalScorer::new(&named(&["card arrival", "exchange rate", "top up"]));
        let mut scratch = scorer.scratch();
        let texts = ["card card card", "", "the rate of exchange", "top", "ünïcode tôp üp"];
        for text in texts.iter().chain(texts.iter().rev()) {
            assert_eq!(scorer.best(text, &mut scratch), best(&scorer, text));
        }
    }

    #[test]
    fn no_labels_and_strange_letters_are_survived() {
        assert_eq!(best(&LexicalScorer::new(&[]), "text").label, 0);
        let scorer = LexicalScorer::new(&named(&["İstanbul", "ﬂour", "日本語"]));
        assert_eq!(best(&scorer, "日本").label, 2);
    }
}
