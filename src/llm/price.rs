//! What tokens cost: by the user's word, else by the price table that this program is built with.
//!
//! A table's price is only given for a service whose address it knows: the same model costs something
//! else elsewhere, and nothing on one's own machine. It is the dearest that may apply to a call.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use genai_prices::{Calculator, PriceRequest, UsageKey};

use crate::domain::spec::OwnPrice;
use crate::domain::{Dollars, Price, Tokens, UnixMillis};

/// The price table and the month of its data.
pub const PRICE_TABLE: &str = "genai-prices 0.2.1, October 2026";

/// A prompt that is under every size from which a model costs more, tokens.
const SHORT_PROMPT: f64 = 1_000.0;

/// Tokens of a reply that a price is asked for.
const REPLY: f64 = 1_000.0;

/// The price of `model` at the service behind `base_url` at the time `at` and in the day that follows,
/// at the standard tier, for prompts of at most `longest` tokens. `None` if the table lacks the
/// service or the model, or has a price for requests beside tokens.
pub fn price_of(model: &str, base_url: &str, at: UnixMillis, longest: Tokens) -> Option<Price> {
    let table = Calculator::bundled();
    let service = table.find_provider(None, Some(base_url)).ok()??.id();
    let begin = UNIX_EPOCH.checked_add(Duration::from_millis(at.0))?;
    // Some services have dear hours, some models a dearer tier for long prompts.
    let hours = (0..24).map(|hour| begin + Duration::from_hours(hour));
    let prompts = [SHORT_PROMPT, f64::from(longest.0).max(SHORT_PROMPT)];
    let mut dearest: Option<Price> = None;
    for (time, prompt) in hours.flat_map(|time| prompts.map(|prompt| (time, prompt))) {
        let price = price_at(table, service, model, time, prompt)?;
        let most = dearest.get_or_insert_with(|| price.clone());
        most.input = most.input.max(price.input);
        most.cached_input = most.cached_input.max(price.cached_input);
        most.cache_write = most.cache_write.max(price.cache_write);
        most.output = most.output.max(price.output);
    }
    dearest
}

fn price_at(
    table: &Calculator,
    service: &str,
    model: &str,
    time: SystemTime,
    prompt: f64,
) -> Option<Price> {
    let ask = |kind: Option<UsageKey>, reply: f64| {
        let told = [(UsageKey::INPUT_TOKENS, prompt), (UsageKey::OUTPUT_TOKENS, reply)];
        let usage = told.into_iter().chain(kind.map(|kind| (kind, prompt))).collect();
        let request =
            PriceRequest::new(model, &usage).with_provider_id(service).with_timestamp(time);
        table.calculate(&request).ok()
    };
    let per_token =
        |cost: f64, tokens: f64| Dollars::per_token_of_float(cost / tokens * 1_000_000.0);
    let plain = ask(None, REPLY)?;
    let rest = plain.total_price - plain.input_price - plain.output_price;
    if rest > plain.total_price * 1e-9 {
        return None;
    }
    let cached_input = ask(Some(UsageKey::CACHE_READ_TOKENS), 0.0)?.input_price;
    let cache_write = ask(Some(UsageKey::CACHE_WRITE_TOKENS), 0.0)?.input_price;
    let month = PRICE_TABLE.split(", ").last().unwrap_or(PRICE_TABLE);
    let cached_input = per_token(cached_input, prompt);
    Some(Price {
        input: per_token(plain.input_price, prompt).max(cached_input),
        cached_input,
        cache_write: per_token(cache_write, prompt),
        output: per_token(plain.output_price, REPLY),
        source: format!("prices of {month}"),
    })
}

/// Why own prices make none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Half a price.
    #[error("`{0}` in [price] is missing: the table of prices lacks this model at this address")]
    Half(&'static str),
    /// A cache that costs more than none.
    #[error("`cached_input` in [price] is more than `input`")]
    DearCache,
}

/// What tokens cost: `own` where the user says so, else as in `table`. Without a word on caches,
/// reading one saves nothing and writing one costs what the table says, if that is more. `None` if
/// neither knows.
///
/// # Errors
/// If only one of the prices for input and output is known, or a cached token costs more than another.
pub fn priced(own: OwnPrice, table: Option<Price>) -> Result<Option<Price>, PriceError> {
    if own == OwnPrice::default() {
        return Ok(table);
    }
    let of_table = |of: fn(&Price) -> Dollars| table.as_ref().map(of);
    let input = own.input.or(of_table(|price| price.input));
    let output = own.output.or(of_table(|price| price.output));
    let input = input.ok_or(PriceError::Half("input"))?;
    let output = output.ok_or(PriceError::Half("output"))?;
    let cached_of_table = of_table(|price| price.cached_input).filter(|_| own.input.is_none());
    let cached_input = own.cached_input.or(cached_of_table).unwrap_or(input);
    if cached_input > input {
        return Err(PriceError::DearCache);
    }
    let cache_write = own.cache_write.or(of_table(|price| price.cache_write));
    let rest = table.filter(|_| own.input.is_none() || own.output.is_none());
    let source = match rest {
        Some(table) => format!("your own prices, the rest {}", table.source),
        None => "your own prices".to_owned(),
    };
    let cache_write =
        cache_write.map_or(input, |write| write.max(own.cache_write.unwrap_or(input)));
    Ok(Some(Price { input, cached_input, cache_write, output, source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMillis = UnixMillis(1_795_000_000_000);
    const OPENAI: &str = "https://api.openai.com/v1";

    fn of_million(text: &str) -> Dollars {
        Dollars::parse(text).unwrap().a_millionth()
    }

    fn known(model: &str, base_url: &str, longest: u32) -> Option<Price> {
        price_of(model, base_url, AT, Tokens(longest))
    }

    #[test]
    fn a_known_models_price_is_that_of_its_service_to_the_last_digit() {
        let expected = Price {
            input: of_million("0.15"),
            cached_input: of_million("0.075"),
            cache_write: of_million("0.15"),
            output: of_million("0.6"),
            source: "prices of October 2026".into(),
        };
        assert_eq!(known("gpt-4o-mini", OPENAI, 8_000), Some(expected));
    }

    #[test]
    fn writing_a_cache_costs_more_with_some_models() {
        let luna = known("gpt-5.6-luna", OPENAI, 8_000).unwrap();
        assert!(luna.charges_cache_writes(), "{luna:?}");
        assert!(!known("gpt-4o-mini", OPENAI, 8_000).unwrap().charges_cache_writes());
    }

    #[test]
    fn a_call_that_may_reach_a_dearer_tier_is_priced_by_it() {
        let anthropic = "https://api.anthropic.com/v1";
        let prices =
            [8_000, 150_000].map(|longest| known("claude-haiku-5-5", anthropic, longest).unwrap());
        assert!(prices[1].input > prices[0].input, "{prices:?}");
    }

    #[test]
    fn nothing_is_guessed_for_strangers_and_own_machines() {
        assert_eq!(known("gpt-4o-mini", "http://127.0.0.1:8080/v1", 8_000), None);
        assert_eq!(known("gpt-4o-mini", "https://llm.example.com/v1", 8_000), None);
        assert_eq!(known("no-such-model", OPENAI, 8_000), None);
    }

    #[test]
    fn own_prices_stand_over_the_tables() {
        let own = OwnPrice {
            input: Some(of_million("2")),
            output: Some(of_million("8")),
            ..OwnPrice::default()
        };
        let alone = priced(own, None).unwrap().unwrap();
        assert_eq!((alone.cached_input, alone.cache_write), (alone.input, alone.input));
        assert_eq!(alone.source, "your own prices");
        assert_eq!(priced(own, known("gpt-4o-mini", OPENAI, 1)), Ok(Some(alone)));

        let half = OwnPrice { output: None, ..own };
        let rest = priced(half, known("gpt-4o-mini", OPENAI, 1)).unwrap().unwrap();
        assert_eq!(rest.source, "your own prices, the rest prices of October 2026");
        assert_eq!((rest.input, rest.output), (of_million("2"), of_million("0.6")));
        assert_eq!(priced(half, None), Err(PriceError::Half("output")));
        let dear = OwnPrice { cached_input: Some(of_million("3")), ..own };
        assert_eq!(priced(dear, None), Err(PriceError::DearCache));
        assert_eq!(priced(OwnPrice::default(), None), Ok(None));
    }

    #[test]
    fn the_tables_name_is_that_of_the_build() {
        let lock = include_str!("../../Cargo.lock");
        let version = PRICE_TABLE.split([' ', ',']).nth(1).unwrap();
        assert!(lock.contains(&format!("name = \"genai-prices\"\nversion = \"{version}\"")));
    }
}
