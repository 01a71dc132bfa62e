//! What tokens cost, from the price table that this program is built with.
//!
//! A price is only given for a service whose address the table knows: the same model costs
//! something else elsewhere, and nothing on one's own machine.

use std::time::{Duration, UNIX_EPOCH};

use genai_prices::{Calculator, PriceRequest, UsageKey};

use crate::domain::{UnixMillis, Usage};

/// The price table and the month of its data, to be printed beside every estimate.
pub const PRICE_TABLE: &str = "genai-prices 0.2.1, October 2026";

/// US dollars for a million tokens, at the service's standard tier and for prompts under the size
/// from which some models cost more (at least 128,000 tokens).
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// Tokens of a request.
    pub input_per_million: f64,
    /// Tokens of a request that were read from the provider's cache.
    pub cached_per_million: f64,
    /// Tokens of a reply.
    pub output_per_million: f64,
    /// The service, as the table names it.
    pub provider: String,
    /// The model, as the table names it.
    pub model: String,
}

/// The price of `model` at the service behind `base_url` at the time `at`. `None` if the table
/// lacks the service or the model.
pub fn price_of(model: &str, base_url: &str, at: UnixMillis) -> Option<Price> {
    let table = Calculator::bundled();
    let service = table.find_provider(None, Some(base_url)).ok()??.id();
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(at.0))?;
    let dollars = |usage: &[(UsageKey, f64)]| {
        let usage = usage.iter().cloned().collect();
        let request =
            PriceRequest::new(model, &usage).with_provider_id(service).with_timestamp(time);
        table.calculate(&request).ok()
    };
    // A thousand tokens stay under every tier.
    let per_million = |price: f64| price * 1000.0;
    let input = dollars(&[(UsageKey::INPUT_TOKENS, 1000.0)])?;
    let cached =
        dollars(&[(UsageKey::INPUT_TOKENS, 1000.0), (UsageKey::CACHE_READ_TOKENS, 1000.0)])?;
    let output = dollars(&[(UsageKey::OUTPUT_TOKENS, 1000.0)])?;
    Some(Price {
        input_per_million: per_million(input.input_price),
        cached_per_million: per_million(cached.input_price),
        output_per_million: per_million(output.output_price),
        provider: input.provider_id,
        model: input.model_id,
    })
}

impl Price {
    /// What `usage` costs, US dollars.
    pub fn cost(&self, usage: &Usage) -> f64 {
        let cached = usage.cached.min(usage.prompt);
        let fresh = usage.prompt.saturating_sub(cached);
        (f64::from(fresh.0) * self.input_per_million
            + f64::from(cached.0) * self.cached_per_million
            + f64::from(usage.completion.0) * self.output_per_million)
            / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Tokens;

    const AT: UnixMillis = UnixMillis(1_795_000_000_000);

    #[test]
    fn a_known_models_price_is_that_of_its_service() {
        let price = price_of("gpt-4o-mini", "https://api.openai.com/v1", AT).unwrap();
        assert_eq!(price.provider, "openai");
        assert!((price.input_per_million - 0.15).abs() < 1e-9, "{price:?}");
        assert!((price.cached_per_million - 0.075).abs() < 1e-9, "{price:?}");
        assert!((price.output_per_million - 0.6).abs() < 1e-9, "{price:?}");
    }

    #[test]
    fn cached_tokens_cost_less() {
        let price = price_of("gpt-4o-mini", "https://api.openai.com/v1", AT).unwrap();
        let usage = Usage {
            prompt: Tokens(1_000_000),
            completion: Tokens(500_000),
            reasoning: Tokens::ZERO,
            cached: Tokens(400_000),
        };
        assert!((price.cost(&usage) - (0.6 * 0.15 + 0.4 * 0.075 + 0.3)).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_guessed_for_strangers_and_own_machines() {
        assert_eq!(price_of("gpt-4o-mini", "http://127.0.0.1:8080/v1", AT), None);
        assert_eq!(price_of("gpt-4o-mini", "https://llm.example.com/v1", AT), None);
        assert_eq!(price_of("no-such-model", "https://api.openai.com/v1", AT), None);
    }

    #[test]
    fn the_tables_name_is_that_of_the_build() {
        let lock = include_str!("../../Cargo.lock");
        let version = PRICE_TABLE.split([' ', ',']).nth(1).unwrap();
        assert!(lock.contains(&format!("name = \"genai-prices\"\nversion = \"{version}\"")));
    }
}
