//! A system message that was read once and the scorer that was fitted on its labels.
//!
//! A job sends the same system message in every call, so fitting is paid once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::lexical_scorer::{Best, LabelText, LexicalScorer, Scratch};
use super::prompt::CHAT_FRAMING;
use super::prompt_reader::ReadPrompt;
use super::token_counter::TokenCounter;
use crate::domain::spec::Vocabulary;

/// A read prompt with its scorer.
#[derive(Debug)]
pub struct FittedPrompt {
    system: Box<str>,
    system_tokens: OnceLock<u32>,
    prompt: ReadPrompt,
    scorer: OnceLock<LexicalScorer>,
    codes_by_name: OnceLock<HashMap<String, usize>>,
}

impl FittedPrompt {
    /// Reads a system message; `None` if it holds no label block.
    pub fn new(system: &str) -> Option<FittedPrompt> {
        let prompt = ReadPrompt::parse(system)?;
        Some(FittedPrompt {
            system: system.into(),
            system_tokens: OnceLock::new(),
            prompt,
            scorer: OnceLock::new(),
            codes_by_name: OnceLock::new(),
        })
    }

    /// The system message as it came.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// What the system message says.
    pub fn prompt(&self) -> &ReadPrompt {
        &self.prompt
    }

    /// The tokens of the system message's text, counted at the first call.
    pub fn system_tokens(&self) -> u32 {
        *self.system_tokens.get_or_init(|| count_tokens(&self.system))
    }

    /// The scorer, fitted at the first call.
    pub fn scorer(&self) -> &LexicalScorer {
        self.scorer.get_or_init(|| {
            let labels: Vec<LabelText<'_>> = self
                .prompt
                .labels
                .iter()
                .map(|label| {
                    // What fits nothing else has no words of its own, whatever it is called.
                    if self.prompt.none_code.as_ref() == Some(&label.code) {
                        return LabelText::default();
                    }
                    LabelText {
                        name: &label.name,
                        description: &label.description,
                        examples: label.examples.iter().map(String::as_str).collect(),
                    }
                })
                .collect();
            LexicalScorer::new(&labels)
        })
    }

    /// The code of the label with this name, spaces and case aside; `None` if there is none.
    pub fn code_of_name(&self, name: &str) -> Option<&str> {
        let fold = |name: &str| name.trim().to_lowercase();
        let by_name = self.codes_by_name.get_or_init(|| {
            let labels = self.prompt.labels.iter().enumerate();
            labels.map(|(at, label)| (fold(&label.name), at)).collect()
        });
        by_name.get(&fold(name)).map(|&at| self.prompt.labels[at].code.as_str())
    }

    /// The code that answers `text`: the best label's; the catch-all's, if there is one and the best
    /// label's score is below [`NONE_BELOW`]; the decline code, if there is one and the text has
    /// nothing in common with any label. `scratch` comes from this prompt's scorer.
    pub fn code_for(&self, text: &str, scratch: &mut Scratch) -> &str {
        let best = self.scorer().best(text, scratch);
        if best.score < NONE_BELOW
            && let Some(none) = &self.prompt.none_code
        {
            return none;
        }
        self.code_of(best)
    }

    /// The code of the best label, or of what answers a text of which nothing is known: the
    /// catch-all, else the decline code, else that label all the same.
    pub fn code_of(&self, best: Best) -> &str {
        let ReadPrompt { labels, unsure_code, none_code, .. } = &self.prompt;
        match none_code.as_ref().or(unsure_code.as_ref()) {
            Some(nothing) if best.score == 0.0 => nothing,
            _ => &labels[best.label].code,
        }
    }
}

/// The score of [`LexicalScorer`] below which a catch-all label answers. Of the right answers to
/// Banking77 under 1 % lie below, whether labels have a name alone, a description or examples too.
pub const NONE_BELOW: f32 = 0.15;

/// The prompts that were read last; see [`PromptCache::get`].
#[derive(Debug, Default)]
pub struct PromptCache {
    recent: Mutex<VecDeque<Arc<FittedPrompt>>>,
}

/// A job has one system message for each form of the answer; a few jobs may share a server.
const REMEMBERED: usize = 8;

impl PromptCache {
    /// The fitted prompt of a system message; `None` if it holds no label block.
    pub fn get(&self, system: &str) -> Option<Arc<FittedPrompt>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = recent.iter().find(|known| *known.system == *system) {
            return Some(Arc::clone(known));
        }
        let fitted = Arc::new(FittedPrompt::new(system)?);
        recent.truncate(REMEMBERED - 1);
        recent.push_front(Arc::clone(&fitted));
        Some(fitted)
    }
}

/// The tokens of `text` in the `o200k` vocabulary.
pub fn count_tokens(text: &str) -> u32 {
    TokenCounter::for_vocabulary(Vocabulary::O200k).count(text).0
}

/// What the chat format adds to the texts of a system and a user message: their roles, their
/// delimiters and the opening of the reply.
pub const FRAMING_TOKENS: u32 = CHAT_FRAMING.0;

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str =
        "Labels, one per line (CODE = name):\nA = card arrival\nB = exchange rate\n\nAnswer.";

    #[test]
    fn the_best_labels_code_answers() {
        let fitted = FittedPrompt::new(SYSTEM).unwrap();
        let mut scratch = fitted.scorer().scratch();
        assert_eq!(fitted.code_for("my card did not arrive", &mut scratch), "A");
        assert_eq!(fitted.code_for("what rate", &mut scratch), "B");
    }

    #[test]
    fn names_lead_to_codes_whatever_their_case() {
        let fitted = FittedPrompt::new(SYSTEM).unwrap();
        assert_eq!(fitted.code_of_name(" Exchange Rate"), Some("B"));
        assert_eq!(fitted.code_of_name("exchange"), None);
    }

    #[test]
    fn a_text_like_no_label_is_declined_where_that_is_allowed() {
        let system = format!("{SYSTEM}\nIf no label can be decided for a row, answer U for it.");
        for (system, code) in [(SYSTEM, "A"), (&system, "U")] {
            let fitted = FittedPrompt::new(system).unwrap();
            assert_eq!(fitted.code_for("12345", &mut fitted.scorer().scratch()), code);
        }
    }

    #[test]
    fn the_catch_all_answers_what_is_like_no_other_label_and_wins_no_word() {
        let system = "Labels, one per line (CODE = name):\nA = card arrival\nB = exchange rate\n\
                      C = other questions\n\nAnswer.\n\
                      If no other label fits a row, answer C for it, and only then.\n\
                      If no label can be decided for a row, answer U for it.";
        let fitted = FittedPrompt::new(system).unwrap();
        let mut scratch = fitted.scorer().scratch();
        for text in ["12345", "", "who won the football match", "blue sky"] {
            assert_eq!(fitted.code_for(text, &mut scratch), "C", "{text}");
        }
        for text in ["other questions about a card", "the arrival of my other card"] {
            assert_eq!(fitted.code_for(text, &mut scratch), "A", "{text}");
        }
    }

    #[test]
    fn a_system_message_is_read_once_and_few_are_kept() {
        let cache = PromptCache::default();
        let first = cache.get(SYSTEM).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get(SYSTEM).unwrap()));
        for number in 0..REMEMBERED {
            cache.get(&format!("{number}\n{SYSTEM}")).unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &cache.get(SYSTEM).unwrap()));
        assert!(cache.get("no labels").is_none());
    }
}
