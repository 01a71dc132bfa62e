//! Counts tokens the way the simulated service does.

use super::prompt_cache::CacheUse;
use super::settings::Settings;
use crate::domain::Usage;
use crate::domain::spec::Vocabulary;
use crate::domain::tokens::Tokens;
use crate::llm::fitted_prompt::{FRAMING_TOKENS, FittedPrompt};
use crate::llm::token_counter::TokenCounter;

/// How the service counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    /// A token for every four bytes instead of the vocabulary's.
    is_rough: bool,
    charges_schema: bool,
    /// What the service makes of one token of the vocabulary.
    factor: f64,
    hidden: u32,
}

/// A reply's text as far as its most tokens allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fitted {
    /// Bytes of the text that fit.
    pub(super) bytes: usize,
    /// Whether that is less than all of it.
    pub(super) is_cut: bool,
    /// What the service counts for it: hidden tokens and visible ones.
    pub(super) completion: u32,
    /// Of these: hidden ones.
    pub(super) hidden: u32,
}

impl Meter {
    /// The meter of a service.
    pub(super) fn new(settings: &Settings) -> Meter {
        Meter {
            is_rough: settings.fixed_answer,
            charges_schema: settings.charge_schema,
            factor: 1.0 + settings.count_bias_percent / 100.0,
            hidden: settings.hidden_output_tokens,
        }
    }

    /// Tokens of a request's prompt: both messages, their framing and a charged schema.
    pub(super) fn prompt(&self, system: &FittedPrompt, user: &str, schema: Option<&str>) -> u32 {
        let system = if self.is_rough { rough(system.system()) } else { system.system_tokens() };
        let schema = schema.filter(|_| self.charges_schema).map_or(0, |schema| self.count(schema));
        self.scaled(FRAMING_TOKENS + system + self.count(user) + schema)
    }

    /// Fits a reply's text into `most` tokens, hidden ones first; `None` is no bound. With
    /// `kept_share` it ends after that share of its own tokens at the latest.
    pub(super) fn fit(&self, content: &str, most: Option<u32>, kept_share: Option<f64>) -> Fitted {
        let most = most.unwrap_or(u32::MAX);
        let hidden = self.hidden.min(most);
        let mut room = (f64::from(most - hidden) / self.factor) as usize;
        let count = self.count(content) as usize;
        if let Some(share) = kept_share {
            room = room.min((count as f64 * share) as usize);
        }
        let kept = count.min(room);
        let bytes = if kept == count {
            content.len()
        } else if self.is_rough {
            content.floor_char_boundary(kept * 4)
        } else {
            let counter = TokenCounter::for_vocabulary(Vocabulary::O200k);
            content.floor_char_boundary(counter.bytes_of_first(kept, content))
        };
        let completion = hidden.saturating_add(self.scaled(kept as u32)).min(most);
        Fitted { bytes, is_cut: kept < count, completion, hidden }
    }

    /// What a reply reports.
    pub(super) fn usage(&self, prompt: u32, cache: CacheUse, fitted: &Fitted) -> Usage {
        Usage {
            prompt: Tokens(prompt),
            completion: Tokens(fitted.completion),
            reasoning: Tokens(fitted.hidden),
            cached: Tokens(cache.cached),
            written: Tokens(cache.written),
        }
    }

    fn count(&self, text: &str) -> u32 {
        if self.is_rough { rough(text) } else { crate::llm::fitted_prompt::count_tokens(text) }
    }

    fn scaled(&self, tokens: u32) -> u32 {
        (f64::from(tokens) * self.factor).ceil() as u32
    }
}

/// A token for every four bytes begun.
fn rough(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::fitted_prompt::count_tokens;

    const REPLY: &str = "417:B\n902:A\n100:B";

    fn meter(settings: Settings) -> Meter {
        Meter::new(&settings)
    }

    #[test]
    fn a_reply_that_fits_is_whole_and_one_that_does_not_ends_at_a_token() {
        let meter = meter(Settings::default());
        let all = count_tokens(REPLY);
        let whole = meter.fit(REPLY, Some(all), None);
        assert_eq!((whole.bytes, whole.is_cut, whole.completion), (REPLY.len(), false, all));
        let cut = meter.fit(REPLY, Some(all - 1), None);
        assert_eq!((&REPLY[..cut.bytes], cut.is_cut), ("417:B\n902:A\n100", true));
        assert_eq!(cut.completion, all - 1);
    }

    #[test]
    fn hidden_tokens_take_the_room_first() {
        let meter = meter(Settings { hidden_output_tokens: 50, ..Settings::default() });
        let all = count_tokens(REPLY);
        assert_eq!(meter.fit(REPLY, None, None).completion, 50 + all);
        let none = meter.fit(REPLY, Some(50), None);
        assert_eq!((none.bytes, none.is_cut, none.completion, none.hidden), (0, true, 50, 50));
        let less = meter.fit(REPLY, Some(30), None);
        assert_eq!((less.bytes, less.completion, less.hidden), (0, 30, 30));
    }

    #[test]
    fn a_bias_counts_more_in_prompt_and_reply() {
        let fitted = FittedPrompt::new("Labels, one per line:\nA = a\n").unwrap();
        let plain = meter(Settings::default());
        let biased = meter(Settings { count_bias_percent: 50.0, ..Settings::default() });
        let (user, schema) = ("417\ttext\n", Some("{\"type\":\"object\"}"));
        let tokens = plain.prompt(&fitted, user, schema);
        assert_eq!(biased.prompt(&fitted, user, schema), (tokens * 3).div_ceil(2));
        let all = count_tokens(REPLY);
        assert!(biased.fit(REPLY, Some(all), None).is_cut);
        assert_eq!(biased.fit(REPLY, None, None).completion, (all * 3).div_ceil(2));
    }

    #[test]
    fn a_schema_is_charged_unless_it_is_free() {
        let fitted = FittedPrompt::new("Labels, one per line:\nA = a\n").unwrap();
        let charged = meter(Settings::default());
        let free = meter(Settings { charge_schema: false, ..Settings::default() });
        let schema = "{\"type\":\"object\"}";
        assert_eq!(
            charged.prompt(&fitted, "", Some(schema)),
            free.prompt(&fitted, "", Some(schema)) + count_tokens(schema)
        );
    }

    #[test]
    fn rough_counts_take_four_bytes_a_token() {
        let meter = meter(Settings { fixed_answer: true, ..Settings::default() });
        assert_eq!(meter.fit(REPLY, None, None).completion, 5);
        let cut = meter.fit(REPLY, Some(2), None);
        assert_eq!((&REPLY[..cut.bytes], cut.is_cut), ("417:B\n90", true));
    }

    #[test]
    fn a_share_cuts_too() {
        let cut = meter(Settings::default()).fit(REPLY, None, Some(0.5));
        assert!(cut.is_cut && cut.bytes > 0 && cut.bytes < REPLY.len());
    }
}
