//! Holds the fast counter and the reference together: over real text, over every pattern that
//! decides where a tokenizer splits, and over random hostile text. For more cases by hand:
//! `PROPTEST_CASES=1000000 cargo test --release token_counter::equality`.

use proptest::prelude::*;

use super::*;

const BOTH: [Vocabulary; 2] = [Vocabulary::O200k, Vocabulary::Cl100k];

/// Texts that people wrote: questions, prose, code, tables, a list of street and town names.
const REAL: [&str; 7] = [
    include_str!("../../../fixtures/banking77/questions.csv"),
    include_str!("../../../fixtures/addresses/make.py"),
    include_str!("../../../docs/architecture.md"),
    include_str!("../../../docs/command-line.md"),
    include_str!("../../../docs/CHANGELOG.md"),
    include_str!("../../../Cargo.lock"),
    include_str!("../token_counter.rs"),
];

/// At least one of each class of character that a pattern tells apart, and what the patterns name:
/// contractions in any case, an s that is only one if case is ignored, runs that cross three digits.
const PATTERN_BITS: [&str; 57] = [
    "a",
    "s",
    "Z",
    "é",
    "É",
    "ǅ",
    "ʰ",
    "漢",
    "か",
    "ー",
    "한",
    "ß",
    "ſ",
    "\u{212a}",
    "ا",
    "न",
    "\u{94d}",
    "\u{301}",
    "\u{200d}",
    "\u{fe0f}",
    "𐐀",
    "𐐨",
    "Ａ",
    "ａ",
    "１",
    "1",
    "42",
    "2026",
    "²",
    "٣",
    "〇",
    "Ⅷ",
    " ",
    "  ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\u{b}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{3000}",
    "'",
    "’",
    "'s",
    "'LL",
    "'re",
    "'ſ",
    "/",
    "!",
    "、",
    "👩",
    "\0",
    "\u{7f}",
    "\u{feff}",
    "\u{10ffff}",
];

/// Counts that differ would be wrong prices and overrun limits, so the message names the text.
fn assert_equal(text: &str) {
    for counter in BOTH.map(TokenCounter::for_vocabulary) {
        let (fast, reference) = counts(counter, text);
        assert_eq!(fast, reference, "{:?} of {text:?}", counter.vocabulary());
    }
}

fn counts(counter: TokenCounter, text: &str) -> (usize, usize) {
    (counter.count(text).0 as usize, counter.reference().count_ordinary(text))
}

#[test]
fn both_hold_the_same_tokens() {
    for (vocabulary, size) in [(Vocabulary::O200k, 199_998), (Vocabulary::Cl100k, 100_256)] {
        let counter = TokenCounter::for_vocabulary(vocabulary);
        assert_eq!(counter.bpe.vocab_size(), size as usize);
        for rank in 0..size {
            let bytes = counter.bpe.decode(&[rank]);
            assert_eq!(bytes, counter.reference().decode_bytes(&[rank]).unwrap());
            // What lets white space be split at line ends wherever it stands, also at the text's end.
            let text = String::from_utf8(bytes).unwrap_or_default();
            let blank = text.chars().all(char::is_whitespace).then_some(text.as_str());
            let after_line = blank.and_then(|text| text.rsplit_once(['\r', '\n']));
            assert!(after_line.is_none_or(|(_, rest)| rest.is_empty()), "{text:?}");
        }
    }
}

#[test]
fn real_text_counts_as_the_reference_counts_it() {
    for text in REAL {
        assert_equal(text);
        text.lines().for_each(assert_equal);
        text.lines().for_each(|line| assert_equal(&format!("\t{line}\n")));
    }
}

#[test]
fn every_character_counts_as_the_reference_counts_it() {
    // Ideographs and private characters are alike by the ten thousand, so few stand for all.
    let alphabets = '\0'..'\u{3400}';
    let sampled = ('\u{3400}'..=char::MAX).step_by(31);
    for char in alphabets.chain(sampled) {
        assert_equal(&format!("a{char}b '{char}s A{char}{char} 1{char}\n {char}!{char}\n {char}"));
    }
}

#[test]
fn every_two_ascii_characters_count_as_the_reference_counts_them() {
    for first in '\0'..='\u{7f}' {
        assert_equal(&first.to_string());
        for second in '\0'..='\u{7f}' {
            assert_equal(&format!("{first}{second}"));
            assert_equal(&format!("x{first}{second}X"));
        }
    }
}

#[test]
fn every_three_pattern_bits_count_as_the_reference_counts_them() {
    for first in PATTERN_BITS {
        for second in PATTERN_BITS {
            for third in PATTERN_BITS {
                assert_equal(&format!("{first}{second}{third}"));
            }
        }
    }
}

#[test]
fn a_long_s_after_an_apostrophe_counts_as_the_reference_counts_it() {
    let text = "s'ſ'LLa";
    assert_equal(text);
    // Once the fast way counts these as well, the detour can go.
    let counter = TokenCounter::for_vocabulary(Vocabulary::O200k);
    assert_ne!(counter.bpe.count(text), counter.reference().count_ordinary(text));
}

#[test]
fn threads_count_alike() {
    let lines: Vec<&str> = REAL[0].lines().collect();
    let sum = || -> Tokens {
        let counter = TokenCounter::for_vocabulary(Vocabulary::O200k);
        lines.iter().map(|line| counter.count(line)).sum()
    };
    let here = sum();
    std::thread::scope(|scope| {
        for thread in [0; 4].map(|_| scope.spawn(sum)) {
            assert_eq!(thread.join().unwrap(), here);
        }
    });
}

fn bit() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(&PATTERN_BITS[..]).prop_map(str::to_owned),
        1 => (prop::sample::select(&PATTERN_BITS[..]), 2..40_usize)
            .prop_map(|(bit, times)| bit.repeat(times)),
        1 => "[a-zA-Z]{1,20}",
        1 => "[ -~]{1,8}",
        1 => "\\p{L}{1,6}",
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn hostile_text_counts_as_the_reference_counts_it(
        texts in prop::collection::vec(prop::collection::vec(bit(), 1..12), 16),
    ) {
        for text in texts {
            let text = text.concat();
            for counter in BOTH.map(TokenCounter::for_vocabulary) {
                let (fast, reference) = counts(counter, &text);
                prop_assert_eq!(fast, reference, "{:?} of {:?}", counter.vocabulary(), text);
            }
        }
    }
}
