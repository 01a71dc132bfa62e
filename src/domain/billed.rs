//! What calls are billed for, in tokens by kind, and what tokens of each kind cost.

use serde::{Deserialize, Serialize};

use super::{Dollars, Tokens, Usage};

/// What one call, or several, is billed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billed {
    /// Tokens of requests, those that come from a cache or go into one included.
    pub prompt: u64,
    /// Of `prompt`: tokens that were read from the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Of `prompt`: tokens that were written into the provider's cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub written: u64,
    /// Tokens of replies, hidden reasoning included.
    pub completion: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(tokens: &u64) -> bool {
    *tokens == 0
}

impl Billed {
    /// Nothing.
    pub const NOTHING: Billed = Billed { prompt: 0, cached: 0, written: 0, completion: 0 };

    /// A request and a reply of so many tokens, without a cache.
    pub fn of_tokens(prompt: Tokens, completion: Tokens) -> Billed {
        let (prompt, completion) = (u64::from(prompt.0), u64::from(completion.0));
        Billed { prompt, completion, ..Billed::NOTHING }
    }

    /// What `usage` tells of.
    pub fn of_usage(usage: &Usage) -> Billed {
        let prompt = u64::from(usage.prompt.0);
        let cached = u64::from(usage.cached.0).min(prompt);
        Billed {
            prompt,
            cached,
            written: u64::from(usage.written.0).min(prompt - cached),
            completion: u64::from(usage.completion.0),
        }
    }

    /// The same with every token of the request that does not come from the cache written into it.
    #[must_use]
    pub fn all_written(self) -> Billed {
        Billed { written: self.prompt.saturating_sub(self.cached), ..self }
    }

    /// Prompt and completion together.
    pub fn tokens(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }

    /// What there is beyond `other`, kind by kind.
    #[must_use]
    pub fn beyond(self, other: Billed) -> Billed {
        Billed {
            prompt: self.prompt.saturating_sub(other.prompt),
            cached: self.cached.saturating_sub(other.cached),
            written: self.written.saturating_sub(other.written),
            completion: self.completion.saturating_sub(other.completion),
        }
    }
}

impl std::ops::Add for Billed {
    type Output = Billed;

    fn add(self, other: Billed) -> Billed {
        Billed {
            prompt: self.prompt.saturating_add(other.prompt),
            cached: self.cached.saturating_add(other.cached),
            written: self.written.saturating_add(other.written),
            completion: self.completion.saturating_add(other.completion),
        }
    }
}

impl std::ops::AddAssign for Billed {
    fn add_assign(&mut self, other: Billed) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Billed {
    fn sum<I: Iterator<Item = Billed>>(all: I) -> Billed {
        all.fold(Billed::NOTHING, std::ops::Add::add)
    }
}

/// What one token of each kind costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// A token of a request.
    pub input: Dollars,
    /// A token of a request that was read from the provider's cache.
    pub cached_input: Dollars,
    /// A token of a request that was written into the provider's cache.
    pub cache_write: Dollars,
    /// A token of a reply.
    pub output: Dollars,
    /// Whose prices these are, in words: `prices of October 2026`, `your own prices`.
    pub source: String,
}

impl Price {
    /// What `billed` costs.
    pub fn cost(&self, billed: &Billed) -> Dollars {
        let Billed { prompt, cached, written, completion } = *billed;
        let fresh = prompt.saturating_sub(cached).saturating_sub(written);
        [
            self.input.times(fresh),
            self.cached_input.times(cached),
            self.cache_write.times(written),
            self.output.times(completion),
        ]
        .into_iter()
        .sum()
    }

    /// Whether writing a cache costs more than plain input.
    pub fn charges_cache_writes(&self) -> bool {
        self.cache_write > self.input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price() -> Price {
        let of = |text| Dollars::parse(text).unwrap().a_millionth();
        Price {
            input: of("0.20"),
            cached_input: of("0.02"),
            cache_write: of("0.25"),
            output: of("1.20"),
            source: String::new(),
        }
    }

    #[test]
    fn every_kind_of_token_has_its_price() {
        let billed =
            Billed { prompt: 1_000_000, cached: 400_000, written: 100_000, completion: 500_000 };
        let expected = 0.5 * 0.20 + 0.4 * 0.02 + 0.1 * 0.25 + 0.5 * 1.20;
        assert!((price().cost(&billed).to_f64() - expected).abs() < 1e-12);
        assert_eq!(billed.tokens(), 1_500_000);
    }

    #[test]
    fn costs_add_up_to_the_last_digit() {
        let one = Billed { prompt: 333, cached: 1, written: 7, completion: 77 };
        let sum: Billed = std::iter::repeat_n(one, 1_000).sum();
        let costs: Dollars = std::iter::repeat_n(price().cost(&one), 1_000).sum();
        assert_eq!(price().cost(&sum), costs);
    }

    #[test]
    fn a_usage_that_contradicts_itself_counts_no_token_twice() {
        let usage =
            Usage { prompt: Tokens(10), cached: Tokens(8), written: Tokens(8), ..Usage::default() };
        let billed = Billed::of_usage(&usage);
        assert_eq!((billed.prompt, billed.cached, billed.written), (10, 8, 2));
        assert_eq!(Billed::of_tokens(Tokens(9), Tokens(1)).all_written().written, 9);
    }
}
