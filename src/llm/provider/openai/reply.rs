//! Reads a chat completion, as leniently as services are loose about its shape.
//!
//! What matters is the text, why it ended and what it cost; anything else may be missing, null or
//! of a type that nobody documented.

use serde::Deserialize;
use serde_json::Value;

use super::super::{ChatReply, Finish, ProviderError, RateHeaders};
use super::errors::Refusal;
use crate::domain::{Tokens, Usage};

#[derive(Deserialize)]
struct Completion {
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Value,
    #[serde(default)]
    model: Value,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    message: Value,
    #[serde(default)]
    finish_reason: Value,
}

/// The reply in the body of a 200; `exchange` knows what else came with it.
///
/// # Errors
/// If the body is cut, is no chat completion, or holds an error after all.
pub(super) fn read(body: &[u8], exchange: &Refusal<'_>) -> Result<ChatReply, ProviderError> {
    let completion: Completion = match serde_json::from_slice(body) {
        Ok(completion) => completion,
        Err(error) if error.is_eof() => {
            let message = format!("the reply ended in its middle, after {} bytes", body.len());
            return Err(ProviderError::Connection { message, was_sent: true });
        }
        Err(_) => return Err(exchange.no_completion(body)),
    };
    let Some(choices) = completion.choices else { return Err(exchange.no_completion(body)) };
    let first = choices.into_iter().next();
    let (message, reason) =
        first.map_or((Value::Null, Value::Null), |first| (first.message, first.finish_reason));
    let is_refusal = message["refusal"].as_str().is_some_and(|text| !text.is_empty());
    Ok(ChatReply {
        content: text(&message["content"]),
        finish: if is_refusal { Finish::Refused } else { finish(reason.as_str()) },
        usage: usage(&completion.usage),
        model: completion.model.as_str().map(str::to_owned),
        rate: Box::new(RateHeaders::read(&exchange.headers, exchange.now)),
    })
}

/// A message's text: a string, or the text parts of a list.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn finish(reason: Option<&str>) -> Finish {
    match reason {
        Some("length" | "max_tokens") => Finish::Length,
        Some("content_filter" | "safety" | "refusal") => Finish::Refused,
        _ => Finish::Stop,
    }
}

fn usage(usage: &Value) -> Option<Usage> {
    let prompt = count(&usage["prompt_tokens"])?;
    let completion = count(&usage["completion_tokens"]).unwrap_or_default();
    let total = count(&usage["total_tokens"]).unwrap_or_default();
    // Some services leave hidden reasoning out of `completion_tokens`; the total has it.
    let hidden = total.saturating_sub(prompt).saturating_sub(completion);
    let reasoning = count(&usage["completion_tokens_details"]["reasoning_tokens"])
        .unwrap_or_default()
        .max(hidden);
    let cached = count(&usage["prompt_tokens_details"]["cached_tokens"])
        .or_else(|| count(&usage["prompt_cache_hit_tokens"]));
    let written = count(&usage["prompt_tokens_details"]["cache_write_tokens"]);
    Some(Usage {
        prompt: Tokens(prompt),
        completion: Tokens(completion.saturating_add(hidden).max(reasoning)),
        reasoning: Tokens(reasoning),
        cached: Tokens(cached.unwrap_or_default().min(prompt)),
        written: Tokens(written.unwrap_or_default().min(prompt)),
    })
}

/// A count of tokens, also if it was written as a float. A cast saturates.
fn count(value: &Value) -> Option<u32> {
    value.as_f64().filter(|number| *number >= 0.0).map(|number| number.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usage_is_read_with_its_details() {
        let full = json!({
            "prompt_tokens": 900, "completion_tokens": 160.0, "total_tokens": 1060,
            "prompt_tokens_details": {
                "cached_tokens": 512, "cache_write_tokens": 300, "audio_tokens": 0
            },
            "completion_tokens_details": { "reasoning_tokens": 10 },
            "queue_time": 0.1,
        });
        let expected = Usage {
            prompt: Tokens(900),
            completion: Tokens(160),
            reasoning: Tokens(10),
            cached: Tokens(512),
            written: Tokens(300),
        };
        assert_eq!(usage(&full), Some(expected));
        assert_eq!(usage(&Value::Null), None);
        assert_eq!(usage(&json!({ "prompt_tokens": -1 })), None);
        let nulls = json!({ "prompt_tokens": 5, "prompt_tokens_details": null });
        assert_eq!(usage(&nulls), Some(Usage { prompt: Tokens(5), ..Usage::default() }));
    }

    #[test]
    fn reasoning_that_only_the_total_shows_is_counted() {
        let loose = json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 400 });
        let usage = usage(&loose).unwrap();
        assert_eq!((usage.completion, usage.reasoning), (Tokens(300), Tokens(280)));
    }

    #[test]
    fn content_may_come_in_parts() {
        let parts = json!([
            { "type": "thinking", "thinking": [] },
            { "type": "text", "text": "{\"r\":" },
            { "type": "text", "text": "[]}" },
        ]);
        assert_eq!(text(&parts), "{\"r\":[]}");
        assert_eq!(text(&Value::Null), "");
    }
}
