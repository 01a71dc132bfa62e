//! What tokens cost, for the commands that measure labels.

use crate::domain::{Billed, JobSpec, Price};

/// The price of a job's tokens.
#[derive(Clone, Debug)]
pub(super) struct TokenCost(Price);

impl TokenCost {
    /// What `job`'s tokens cost; `None` where nobody knows, and for the embedded scorer, which costs
    /// nothing.
    pub(super) fn of(job: &JobSpec) -> Option<TokenCost> {
        job.budget.price.clone().map(TokenCost)
    }

    /// US dollars for these tokens, none of them from the provider's cache.
    pub(super) fn dollars(&self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        let billed =
            Billed { prompt: prompt_tokens, completion: completion_tokens, ..Billed::NOTHING };
        self.0.cost(&billed).to_f64()
    }

    /// A price of these dollars for a million tokens.
    #[cfg(test)]
    pub(super) fn per_million(input: f64, output: f64) -> TokenCost {
        let of_float = |dollars| crate::domain::Dollars::per_token_of_float(dollars);
        TokenCost(Price {
            input: of_float(input),
            cached_input: of_float(input),
            cache_write: of_float(input),
            output: of_float(output),
            source: "prices of a test".into(),
        })
    }
}
