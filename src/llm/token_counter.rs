//! Counts tokens as the model's own tokenizer does, in bounded time and never too few.
//!
//! A tokenizer backtracks over a long run of one kind of character, so a long text is counted in
//! pieces. A piece ends where the tokenizer itself splits; only a run without such a place (a
//! megabyte of one letter) is cut by force, and each such cut adds `CUT_SLACK`.
//!
//! The crate tiktoken counts, about ten times as fast as the reference, tiktoken-rs, which counts
//! what tiktoken is known to misread. `equality` holds the two together.

use std::sync::LazyLock;

use tiktoken::CoreBpe;
use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

use crate::domain::Tokens;
use crate::domain::spec::Vocabulary;

/// No token of either vocabulary has more bytes, so a text has at least its length over this.
const LONGEST_TOKEN: usize = 128;
/// Most bytes that the tokenizer sees at once.
const PIECE_BYTES: usize = 8 * 1024;
/// Tokens added for a cut within a run, since tokens beside a cut may differ from those of the whole.
const CUT_SLACK: Tokens = Tokens(2);
/// A long s is an s whose case is ignored, so o200k draws this to the word before it as it does
/// `'s`; tiktoken 4.1 doesn't.
const MISREAD_IN_O200K: &str = "'\u{17f}";

static O200K: LazyLock<CoreBpe> = LazyLock::new(tiktoken::encoding::o200k_base);
static CL100K: LazyLock<CoreBpe> = LazyLock::new(tiktoken::encoding::cl100k_base);

/// Counts the tokens of a text in one vocabulary. Cheap to copy; the vocabulary is loaded once a
/// process, at the first counter that needs it (about 0.1 s).
#[derive(Clone, Copy)]
pub struct TokenCounter {
    bpe: &'static CoreBpe,
    vocabulary: Vocabulary,
}

impl TokenCounter {
    /// A counter for `vocabulary`.
    pub fn for_vocabulary(vocabulary: Vocabulary) -> TokenCounter {
        let bpe = match vocabulary {
            Vocabulary::O200k => &*O200K,
            Vocabulary::Cl100k => &*CL100K,
        };
        TokenCounter { bpe, vocabulary }
    }

    /// What it counts in.
    pub fn vocabulary(&self) -> Vocabulary {
        self.vocabulary
    }

    /// Tokens of `text`: exact up to 8 KiB and wherever a longer text has a space after a letter
    /// now and then, otherwise a little more. Markers such as `<|endoftext|>` are plain text.
    pub fn count(&self, text: &str) -> Tokens {
        pieces(text).map(|piece| self.count_piece(piece)).sum()
    }

    /// Tokens of `text` if there are at most `limit`. Costs no more than counting `limit` tokens,
    /// however long the text is.
    pub fn count_at_most(&self, text: &str, limit: Tokens) -> Option<Tokens> {
        if text.len().div_ceil(LONGEST_TOKEN) > limit.0 as usize {
            return None;
        }
        let mut total = Tokens::ZERO;
        for piece in pieces(text) {
            total += self.count_piece(piece);
            if total > limit {
                return None;
            }
        }
        Some(total)
    }

    /// Bytes of the first `tokens` tokens of `text`, all of it if it has fewer. They may end within
    /// a character, since a token may.
    pub fn bytes_of_first(&self, tokens: usize, text: &str) -> usize {
        let mut encoded = self.bpe.encode(text);
        encoded.truncate(tokens);
        self.bpe.decode(&encoded).len()
    }

    fn count_piece(&self, piece: Piece<'_>) -> Tokens {
        let tokens = if self.misreads(piece.text) {
            self.reference().count_ordinary(piece.text)
        } else {
            self.bpe.count(piece.text)
        };
        let slack = if piece.is_forced { CUT_SLACK } else { Tokens::ZERO };
        Tokens(u32::try_from(tokens).unwrap_or(u32::MAX)) + slack
    }

    fn misreads(&self, text: &str) -> bool {
        self.vocabulary == Vocabulary::O200k && text.contains(MISREAD_IN_O200K)
    }

    /// What every count has to equal. Slower, and a vocabulary of its own in memory, so it is
    /// loaded only when a text needs it.
    fn reference(&self) -> &'static CoreBPE {
        match self.vocabulary {
            Vocabulary::O200k => o200k_base_singleton(),
            Vocabulary::Cl100k => cl100k_base_singleton(),
        }
    }
}

impl std::fmt::Debug for TokenCounter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenCounter").field(&self.vocabulary).finish()
    }
}

/// The vocabulary of a model, by its name as a service knows it. Models of other makers, whose
/// tokenizers are not public, are counted in the newer one; their `usage` settles the difference.
pub fn vocabulary_of(model: &str) -> Vocabulary {
    let name = model.to_ascii_lowercase();
    let name = bare_name(&name);
    let is_gpt_4 =
        name.strip_prefix("gpt-4").is_some_and(|rest| !rest.starts_with(['o', '.', '1', '5']));
    if is_gpt_4 || name.starts_with("gpt-3.5") || name.starts_with("gpt-35") {
        Vocabulary::Cl100k
    } else {
        Vocabulary::O200k
    }
}

/// Whether `model` is, by its name, one whose vocabulary is public: one of OpenAI's.
pub fn is_vocabulary_known(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    let name = bare_name(&name);
    let is_of_the_o_series = |name: &str| {
        name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()))
    };
    name.starts_with("gpt-") || name.starts_with("chatgpt-") || is_of_the_o_series(name)
}

/// A lower-case name without the maker's before it and without the mark of a fine-tuned model.
fn bare_name(name: &str) -> &str {
    let name = name.strip_prefix("ft:").unwrap_or(name);
    name.rsplit('/').next().unwrap_or(name)
}

struct Piece<'a> {
    text: &'a str,
    /// Whether the piece ends within what the tokenizer would have kept together.
    is_forced: bool,
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (end, is_forced) = piece_end(rest);
        let (text, tail) = rest.split_at(end);
        rest = tail;
        Some(Piece { text, is_forced })
    })
}

/// Where the next piece of `text` ends, and whether by force.
fn piece_end(text: &str) -> (usize, bool) {
    if text.len() <= PIECE_BYTES {
        return (text.len(), false);
    }
    let window = text.floor_char_boundary(PIECE_BYTES);
    let mut after = text[window..].chars().next();
    for (at, before) in text[..window].char_indices().rev() {
        if after.is_some_and(|after| is_seam(before, after)) {
            return (at + before.len_utf8(), false);
        }
        after = Some(before);
    }
    (window, true)
}

/// Whether both tokenizers always split between these two characters: a letter or digit never
/// shares a pre-token with the space or punctuation that follows it (an apostrophe may).
fn is_seam(before: char, after: char) -> bool {
    let ends_word = before.is_ascii_alphanumeric()
        || matches!(before, '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}');
    let starts_gap = (after.is_ascii() && !after.is_ascii_alphanumeric() && after != '\'')
        || matches!(after, '\u{3000}'..='\u{3002}' | '\u{ff0c}');
    ends_word && starts_gap
}

#[cfg(test)]
mod equality;

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Vocabulary; 2] = [Vocabulary::O200k, Vocabulary::Cl100k];

    #[test]
    fn the_vocabularies_of_openais_models_are_known() {
        for known in ["gpt-4o-mini", "openai/gpt-oss-20b", "o4-mini", "ft:gpt-4o-mini:us::x"] {
            assert!(is_vocabulary_known(known), "{known}");
        }
        for other in ["llama-3.1-8b", "claude-haiku-4-5", "olmo-2", "lexical", ""] {
            assert!(!is_vocabulary_known(other), "{other}");
        }
    }

    #[test]
    fn known_counts() {
        let counter = TokenCounter::for_vocabulary(Vocabulary::O200k);
        assert_eq!(counter.count(""), Tokens(0));
        assert_eq!(counter.count("hello world"), Tokens(2));
        assert_eq!(counter.count("<|endoftext|>").0, 7);
    }

    #[test]
    fn a_text_ends_after_its_first_tokens() {
        let counter = TokenCounter::for_vocabulary(Vocabulary::O200k);
        let ends = [0, 1, 2, 3].map(|tokens| counter.bytes_of_first(tokens, "hello world"));
        assert_eq!(ends, [0, "hello".len(), "hello world".len(), "hello world".len()]);
    }

    #[test]
    fn a_model_is_counted_in_its_own_vocabulary() {
        for model in [
            "gpt-4",
            "gpt-4-turbo",
            "gpt-4-0613",
            "GPT-3.5-turbo",
            "openai/gpt-4",
            "ft:gpt-3.5-turbo:x",
        ] {
            assert_eq!(vocabulary_of(model), Vocabulary::Cl100k, "{model}");
        }
        for model in [
            "gpt-4o-mini",
            "gpt-4.1-nano",
            "gpt-4.5-preview",
            "gpt-5",
            "o3",
            "claude-haiku-4-5",
            "openai/gpt-4o",
        ] {
            assert_eq!(vocabulary_of(model), Vocabulary::O200k, "{model}");
        }
    }

    #[test]
    fn no_token_is_longer_than_the_bound() {
        for (vocabulary, size) in [(Vocabulary::O200k, 199_998), (Vocabulary::Cl100k, 100_256)] {
            let bpe = TokenCounter::for_vocabulary(vocabulary).bpe;
            let longest = (0..size).map(|rank| bpe.decode(&[rank]).len()).max();
            assert_eq!(longest, Some(LONGEST_TOKEN), "{vocabulary:?}");
        }
    }

    #[test]
    fn long_prose_is_counted_exactly_in_pieces() {
        let prose = "Flat 3, 17 Mill Lane, Leeds LS6 3HN; isn't it? \u{4f60}\u{597d}\u{3002}\n  "
            .repeat(1_000);
        for counter in BOTH.map(TokenCounter::for_vocabulary) {
            assert!(pieces(&prose).count() > 5);
            assert_eq!(
                counter.count(&prose).0 as usize,
                counter.reference().count_ordinary(&prose)
            );
        }
    }

    #[test]
    fn a_long_run_is_never_counted_too_low() {
        for counter in BOTH.map(TokenCounter::for_vocabulary) {
            for unit in [
                "a",
                "A",
                " ",
                "é",
                "漢",
                "!",
                "0",
                "\u{301}",
                "\u{3000}",
                "ab",
                "Aa",
                "/",
                "👩‍👧",
                "'s",
            ] {
                let run = unit.repeat(40_000 / unit.len());
                let whole = counter.reference().count_ordinary(&run);
                let counted = counter.count(&run).0 as usize;
                assert!(counted >= whole, "{unit:?}: {counted} < {whole}");
                assert!(counted <= whole + 16 + whole / 8, "{unit:?}: {counted} > {whole}");
            }
        }
    }

    #[test]
    fn a_text_over_the_limit_is_known_without_reading_it_all() {
        let counter = TokenCounter::for_vocabulary(Vocabulary::O200k);
        for unit in ["a", "A", " ", "漢", "word "] {
            assert_eq!(counter.count_at_most(&unit.repeat(30_000_000), Tokens(8_000)), None);
        }
        assert_eq!(counter.count_at_most("hello world", Tokens(2)), Some(Tokens(2)));
        assert_eq!(counter.count_at_most("hello world", Tokens(1)), None);
        assert_eq!(counter.count_at_most("", Tokens(0)), Some(Tokens(0)));
    }
}
