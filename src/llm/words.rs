//! A text as words, and what scorers know it by: words, pairs of words, groups of letters.
//!
//! Features are hashes of 64 bits, so that nothing is stored and most are looked up once and found
//! nowhere. The same text has the same features on every machine.

use std::ops::RangeInclusive;

/// A text as lower-case words, each between two spaces.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    letters: Vec<char>,
    /// Where each word ends in `letters`, closing space included.
    ends: Vec<usize>,
}

impl Words {
    /// Takes in `text`; what was there before is forgotten.
    pub(super) fn read(&mut self, text: &str) {
        self.letters.clear();
        self.ends.clear();
        let mut is_in_word = false;
        let mut was_lower = false;
        for letter in text.chars() {
            if !letter.is_alphanumeric() {
                is_in_word = self.close(is_in_word);
                was_lower = false;
                continue;
            }
            if was_lower && letter.is_uppercase() {
                is_in_word = self.close(is_in_word);
            }
            if !is_in_word {
                self.letters.push(' ');
                is_in_word = true;
            }
            was_lower = letter.is_lowercase();
            if letter.is_ascii() {
                self.letters.push(letter.to_ascii_lowercase());
            } else {
                self.letters.extend(letter.to_lowercase());
            }
        }
        self.close(is_in_word);
    }

    /// Ends the open word, if there is one; no word is open afterwards.
    fn close(&mut self, is_in_word: bool) -> bool {
        if is_in_word {
            self.letters.push(' ');
            self.ends.push(self.letters.len());
        }
        false
    }

    /// Gives `take` the hash of every word, pair of words and group of letters in a word; `groups`
    /// are the shortest and the longest of those, spaces at the word's ends counted.
    pub(super) fn each_feature(&self, groups: RangeInclusive<usize>, mut take: impl FnMut(u64)) {
        let (shortest, longest) = (*groups.start(), *groups.end());
        let mut start = 0;
        let mut last_word = None;
        for &end in &self.ends {
            let padded = &self.letters[start..end];
            start = end;
            let word = padded.iter().fold(WORD, |hash, &letter| mix(hash, u64::from(letter)));
            take(word);
            if let Some(last_word) = last_word.replace(word) {
                take(mix(mix(PAIR, last_word), word));
            }
            for from in 0..padded.len() {
                let mut hash = LETTERS;
                for (place, &letter) in padded[from..].iter().take(longest).enumerate() {
                    hash = mix(hash, u64::from(letter));
                    if place + 1 >= shortest {
                        take(hash);
                    }
                }
            }
        }
    }

    /// Gives `take` the hash of every two letters that follow each other in a script which leaves
    /// no spaces or few: a word is a sentence there.
    pub(super) fn each_unspaced_pair(&self, mut take: impl FnMut(u64)) {
        for pair in self.letters.windows(2) {
            if pair[0] >= UNSPACED && pair[1] >= UNSPACED {
                let first = mix(LETTER_PAIR, u64::from(pair[0]));
                take(mix(first, u64::from(pair[1])));
            }
        }
    }
}

/// The first letter of scripts like Thai, Khmer, Hangul, kana and Han.
const UNSPACED: char = '\u{e00}';

/// Where the hashes of words, pairs and letter groups begin, so that they never meet.
const WORD: u64 = 0x9e37_79b9_7f4a_7c15;
const PAIR: u64 = 0xc2b2_ae3d_27d4_eb4f;
const LETTERS: u64 = 0x1656_67b1_9e37_79f9;
const LETTER_PAIR: u64 = 0x27d4_eb2f_1656_67c5;

/// One step of a 64-bit hash: a multiplication and a rotation, since most groups are looked up
/// once and found nowhere.
fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(text: &str) -> Vec<u64> {
        let mut words = Words::default();
        let mut features = Vec::new();
        words.read(text);
        words.each_feature(4..=4, |feature| features.push(feature));
        words.each_unspaced_pair(|feature| features.push(feature));
        features
    }

    #[test]
    fn case_and_punctuation_make_no_difference_and_camel_case_parts_words() {
        let plain = features("top up failed");
        for text in ["Top-up: FAILED!", "top_up_failed", "topUpFailed", " top  up\tfailed "] {
            assert_eq!(features(text), plain, "{text}");
        }
        assert_ne!(features("up top failed"), plain);
        assert!(features("--- !").is_empty());
    }

    #[test]
    fn words_pairs_and_groups_are_counted_and_never_meet() {
        // Words: 2, pairs: 1, groups of four: ` tea` and `tea `; ` at ` in the other.
        let mut found = features("tea at");
        assert_eq!(found.len(), 6);
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 6);
    }

    #[test]
    fn only_scripts_without_spaces_have_pairs_of_letters() {
        let pairs = |text: &str| {
            let (mut words, mut count) = (Words::default(), 0);
            words.read(text);
            words.each_unspaced_pair(|_| count += 1);
            count
        };
        assert_eq!((pairs("汇率是"), pairs("Straße café"), pairs("汇 率")), (2, 0, 0));
    }
}
