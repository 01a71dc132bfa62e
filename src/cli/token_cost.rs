//! What tokens cost, for the commands that measure labels: list prices, where they are known.

use crate::domain::clock::SystemClock;
use crate::domain::spec::ProviderKind;
use crate::domain::{Clock as _, JobSpec};
use crate::llm::price::{Price, price_of};

/// The list price of a job's tokens.
#[derive(Clone, Debug)]
pub(super) struct TokenCost(Price);

impl TokenCost {
    /// What `job`'s model costs today; `None` where the price table lacks it, and for the embedded
    /// scorer, which costs nothing.
    pub(super) fn of(job: &JobSpec) -> Option<TokenCost> {
        match job.model.provider {
            ProviderKind::Lexical => None,
            ProviderKind::Openai => {
                let now = SystemClock::start().wall();
                price_of(&job.model.name, &job.model.base_url, now).map(TokenCost)
            }
        }
    }

    /// US dollars for these tokens, none of them from the provider's cache.
    pub(super) fn dollars(&self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        (prompt_tokens as f64 * self.0.input_per_million
            + completion_tokens as f64 * self.0.output_per_million)
            / 1e6
    }

    /// A price of these dollars for a million tokens.
    #[cfg(test)]
    pub(super) fn per_million(input: f64, output: f64) -> TokenCost {
        TokenCost(Price {
            input_per_million: input,
            cached_per_million: input,
            output_per_million: output,
            provider: "openai".into(),
            model: "m".into(),
        })
    }
}
