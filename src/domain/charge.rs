//! What a call counts towards a provider's limits, each limit by its own rule.

use serde::{Deserialize, Serialize};

use super::Tokens;

/// What one call counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Towards limits on tokens.
    pub tokens: Tokens,
    /// Towards limits on input tokens.
    pub input: Tokens,
    /// Towards limits on output tokens.
    pub output: Tokens,
}

impl Charge {
    /// A call of which only `tokens` is known: all of them may be input, and all of them output.
    pub const fn of_tokens(tokens: Tokens) -> Charge {
        Charge { tokens, input: tokens, output: tokens }
    }
}

/// What several calls count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeSum {
    /// How many calls.
    pub calls: u64,
    /// Towards limits on tokens.
    pub tokens: u64,
    /// Towards limits on input tokens.
    pub input: u64,
    /// Towards limits on output tokens.
    pub output: u64,
}

impl From<Charge> for ChargeSum {
    fn from(charge: Charge) -> ChargeSum {
        ChargeSum {
            calls: 1,
            tokens: u64::from(charge.tokens.0),
            input: u64::from(charge.input.0),
            output: u64::from(charge.output.0),
        }
    }
}

impl std::ops::AddAssign for ChargeSum {
    fn add_assign(&mut self, other: ChargeSum) {
        self.calls = self.calls.saturating_add(other.calls);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
    }
}
