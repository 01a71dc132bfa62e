//! Counts of tokens, and what a provider says that a call used.

use serde::{Deserialize, Serialize};

/// Tokens, as the model's own tokenizer counts them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tokens(pub u32);

impl Tokens {
    /// No tokens.
    pub const ZERO: Tokens = Tokens(0);

    /// The difference, at least zero.
    pub fn saturating_sub(self, other: Tokens) -> Tokens {
        Tokens(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add for Tokens {
    type Output = Tokens;

    fn add(self, other: Tokens) -> Tokens {
        Tokens(self.0.saturating_add(other.0))
    }
}

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, other: Tokens) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Tokens {
    fn sum<I: Iterator<Item = Tokens>>(counts: I) -> Tokens {
        counts.fold(Tokens::ZERO, std::ops::Add::add)
    }
}

impl std::fmt::Display for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What one call used, as the provider reported it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request, a charged schema included.
    pub prompt: Tokens,
    /// Tokens of the reply, hidden reasoning included.
    pub completion: Tokens,
    /// Of `completion`: tokens of hidden reasoning.
    #[serde(default)]
    pub reasoning: Tokens,
    /// Of `prompt`: tokens that were read from the provider's cache.
    #[serde(default)]
    pub cached: Tokens,
    /// Of `prompt`: tokens that were written into the provider's cache.
    #[serde(default)]
    pub written: Tokens,
}

impl Usage {
    /// Prompt and completion together.
    pub fn total(&self) -> Tokens {
        self.prompt + self.completion
    }
}
