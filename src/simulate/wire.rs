//! The chat completions protocol, as far as this server speaks it: requests in, replies and errors
//! out.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::prompt_cache::Breakpoint;
use super::settings::RefusedParameter;
use crate::domain::Usage;
use crate::llm::provider::ResponseFormat;

/// A request's body. Unknown fields are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct WireRequest {
    /// The model that is asked for; any name is taken.
    #[serde(default)]
    pub(super) model: String,
    /// The messages.
    pub(super) messages: Vec<Message>,
    /// How the reply's form is enforced.
    pub(super) response_format: Option<WireFormat>,
    /// Most tokens of the reply.
    pub(super) max_completion_tokens: Option<u32>,
    /// The older name of the same.
    pub(super) max_tokens: Option<u32>,
    prompt_cache_options: Option<CacheOptions>,
    temperature: Option<IgnoredAny>,
    reasoning_effort: Option<IgnoredAny>,
    #[serde(default)]
    stream: bool,
}

/// One message.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    /// Who speaks: `system`, `developer`, `user` or `assistant`.
    pub(super) role: String,
    /// What is said: a text, or a list of parts whose texts are joined.
    #[serde(deserialize_with = "joined_text")]
    pub(super) content: Content,
}

/// What a message says.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Its text.
    pub(super) text: String,
    /// Whether a part of it ends what goes into the prompt cache.
    has_breakpoint: bool,
}

/// `prompt_cache_options`.
#[derive(Debug, Deserialize)]
struct CacheOptions {
    #[serde(default)]
    mode: String,
}

/// `response_format`.
#[derive(Debug, Deserialize)]
pub(super) struct WireFormat {
    /// `json_schema`, `json_object` or `text`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The schema and its name.
    pub(super) json_schema: Option<WireSchema>,
}

/// `response_format.json_schema`.
#[derive(Debug, Deserialize)]
pub(super) struct WireSchema {
    /// The schema itself.
    pub(super) schema: Option<Value>,
}

fn joined_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        text: String,
        prompt_cache_breakpoint: Option<IgnoredAny>,
    }
    struct TextOrParts;
    impl<'de> Visitor<'de> for TextOrParts {
        type Value = Content;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of parts")
        }

        fn visit_str<E>(self, text: &str) -> Result<Content, E> {
            Ok(Content { text: text.to_owned(), has_breakpoint: false })
        }

        fn visit_string<E>(self, text: String) -> Result<Content, E> {
            Ok(Content { text, has_breakpoint: false })
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
            let mut content = Content::default();
            while let Some(part) = parts.next_element::<Part>()? {
                content.text.push_str(&part.text);
                content.has_breakpoint |= part.prompt_cache_breakpoint.is_some();
            }
            Ok(content)
        }
    }
    deserializer.deserialize_any(TextOrParts)
}

impl WireRequest {
    /// The text of the first system message; empty if there is none.
    pub(super) fn system(&self) -> &str {
        self.system_content().map_or("", |content| &content.text)
    }

    fn system_content(&self) -> Option<&Content> {
        let is_system = |it: &&Message| it.role == "system" || it.role == "developer";
        self.messages.iter().find(is_system).map(|message| &message.content)
    }

    /// Where what goes into the prompt cache ends.
    pub(super) fn breakpoint(&self) -> Breakpoint {
        let is_explicit =
            self.prompt_cache_options.as_ref().is_some_and(|options| options.mode == "explicit");
        match self.system_content() {
            _ if !is_explicit => Breakpoint::Implicit,
            Some(system) if system.has_breakpoint => Breakpoint::AfterSystem,
            _ => Breakpoint::Nowhere,
        }
    }

    /// The text of the last user message; empty if there is none.
    pub(super) fn user(&self) -> &str {
        let mut said = self.messages.iter().rev().filter(|it| it.role == "user");
        said.next().map_or("", |message| &message.content.text)
    }

    /// Most tokens of the reply, by either name.
    pub(super) fn most_tokens(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// How the reply's form is enforced, without the schema's wrapping.
    pub(super) fn take_format(&mut self) -> ResponseFormat {
        let Some(format) = self.response_format.take() else { return ResponseFormat::Text };
        let schema = format.json_schema.and_then(|wrapped| wrapped.schema);
        match (format.kind.as_str(), schema) {
            ("json_schema", Some(schema)) => ResponseFormat::Schema(Arc::new(schema)),
            ("json_schema" | "json_object", _) => ResponseFormat::JsonObject,
            _ => ResponseFormat::Text,
        }
    }

    /// The error for the first parameter of this request that can't be taken.
    pub(super) fn refused(&self, refused: &[RefusedParameter]) -> Option<WireError> {
        if self.stream {
            return Some(WireError::unsupported("stream", "is not supported by this server."));
        }
        refused.iter().find_map(|&parameter| self.refused_by(parameter))
    }

    fn refused_by(&self, parameter: RefusedParameter) -> Option<WireError> {
        let format = self.response_format.as_ref().filter(|format| format.kind != "text");
        let is_schema = format.is_some_and(|format| format.kind == "json_schema");
        match parameter {
            RefusedParameter::ResponseFormat => format.map(|format| WireError {
                param: Some("response_format"),
                ..WireError::bad_request(format!(
                    "Invalid parameter: 'response_format' of type '{}' is not supported with this \
                     model.",
                    format.kind
                ))
            }),
            RefusedParameter::JsonSchema => is_schema.then(|| WireError {
                param: Some("response_format"),
                ..WireError::bad_request(
                    "Invalid parameter: 'response_format' of type 'json_schema' is not supported \
                     with this model."
                        .to_owned(),
                )
            }),
            RefusedParameter::Pattern => {
                let schema = format?.json_schema.as_ref()?.schema.as_ref()?;
                holds_pattern(schema).then(|| WireError {
                    param: Some("response_format"),
                    ..WireError::bad_request(
                        "Invalid schema for response_format: 'pattern' is not permitted."
                            .to_owned(),
                    )
                })
            }
            RefusedParameter::Temperature => self.temperature.map(|_| WireError {
                code: Some("unsupported_value"),
                ..WireError::unsupported(
                    "temperature",
                    "does not support this value with this model. Only the default (1) value is \
                     supported.",
                )
            }),
            RefusedParameter::ReasoningEffort => self.reasoning_effort.map(|_| {
                WireError::unsupported("reasoning_effort", "is not supported with this model.")
            }),
            RefusedParameter::PromptCacheOptions => self.prompt_cache_options.as_ref().map(|_| {
                WireError::unsupported("prompt_cache_options", "is not supported with this model.")
            }),
            RefusedParameter::MaxCompletionTokens => self.max_completion_tokens.map(|_| {
                WireError::unsupported(
                    "max_completion_tokens",
                    "is not supported with this model. Use 'max_tokens' instead.",
                )
            }),
        }
    }
}

/// Whether a schema uses the keyword `pattern` with a text.
fn holds_pattern(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| (name == "pattern" && value.is_string()) || holds_pattern(value)),
        Value::Array(items) => items.iter().any(holds_pattern),
        _ => false,
    }
}

/// An error as the service words it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct WireError {
    /// The HTTP status.
    #[serde(skip)]
    pub(super) status: u16,
    /// What went wrong, in words.
    pub(super) message: String,
    /// `invalid_request_error`, `server_error`, `tokens`, `requests`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The parameter that is to blame.
    pub(super) param: Option<&'static str>,
    /// A word for programs.
    pub(super) code: Option<&'static str>,
}

impl WireError {
    /// HTTP 400.
    pub(super) fn bad_request(message: String) -> WireError {
        let kind = "invalid_request_error";
        WireError { status: 400, message, kind, param: None, code: None }
    }

    fn unsupported(param: &'static str, rest: &str) -> WireError {
        WireError {
            param: Some(param),
            code: Some("unsupported_parameter"),
            ..WireError::bad_request(format!("Unsupported parameter: '{param}' {rest}"))
        }
    }

    /// HTTP 400 for what a row says.
    pub(super) fn content_policy() -> WireError {
        WireError {
            code: Some("content_policy_violation"),
            ..WireError::bad_request(
                "Your request was rejected as a result of our safety system.".to_owned(),
            )
        }
    }

    /// HTTP 500.
    pub(super) fn server_error() -> WireError {
        WireError {
            status: 500,
            kind: "server_error",
            ..WireError::bad_request(
                "The server had an error while processing your request. Sorry about that!"
                    .to_owned(),
            )
        }
    }

    /// HTTP 503, for requests that are open when the server ends.
    pub(super) fn shutting_down() -> WireError {
        WireError {
            status: 503,
            message: "The server is shutting down.".to_owned(),
            ..WireError::server_error()
        }
    }

    /// HTTP 429 for a rate.
    pub(super) fn rate_limited(message: String) -> WireError {
        WireError {
            status: 429,
            kind: "tokens",
            code: Some("rate_limit_exceeded"),
            ..WireError::bad_request(message)
        }
    }

    /// HTTP 404.
    pub(super) fn not_found() -> WireError {
        WireError {
            status: 404,
            ..WireError::bad_request("Invalid URL; see docs/simulate.md".to_owned())
        }
    }

    /// The body that carries it.
    pub(super) fn to_json(&self) -> Value {
        serde_json::json!({ "error": self })
    }
}

/// What the model says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A whole answer.
    Whole,
    /// An answer that reached its most tokens.
    Cut,
    /// The model's own refusal.
    Refusal,
    /// Nothing: the filter stopped it.
    Filtered,
}

/// What a model says that refuses.
pub(super) const REFUSAL_TEXT: &str = "I'm sorry, but I can't assist with that.";

/// The body of a reply; `content` is the answer's text, if there is an answer.
pub(super) fn completion(
    number: u64,
    created: u64,
    model: &str,
    said: Said,
    content: &str,
    usage: Option<&Usage>,
) -> Value {
    let (content, refusal, finish) = match said {
        Said::Whole => (Some(content), None, "stop"),
        Said::Cut => (Some(content), None, "length"),
        Said::Refusal => (None, Some(REFUSAL_TEXT), "stop"),
        Said::Filtered => (Some(""), None, "content_filter"),
    };
    serde_json::json!({
        "id": format!("chatcmpl-simulated-{number}"),
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content, "refusal": refusal },
            "logprobs": null,
            "finish_reason": finish,
        }],
        "usage": usage.map(|usage| serde_json::json!({
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.total(),
            "prompt_tokens_details": {
                "cached_tokens": usage.cached,
                "cache_write_tokens": usage.written,
            },
            "completion_tokens_details": { "reasoning_tokens": usage.reasoning },
        })),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(body: Value) -> WireRequest {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn messages_are_read_as_text_or_parts() {
        let request = request(json!({
            "model": "m",
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "a"}, {"text": "b"}]},
                {"role": "user", "content": "first"},
                {"role": "user", "content": "417\tlast\n"},
            ],
            "something_new": 1,
        }));
        assert_eq!((request.system(), request.user()), ("ab", "417\tlast\n"));
    }

    #[test]
    fn formats_are_told_apart() {
        let format =
            |value: Value| request(json!({"messages": [], "response_format": value})).take_format();
        let schema = json!({"type": "json_schema", "json_schema": {"schema": {"a": 1}}});
        assert!(matches!(format(schema), ResponseFormat::Schema(it) if *it == json!({"a": 1})));
        assert!(matches!(format(json!({"type": "json_object"})), ResponseFormat::JsonObject));
        assert!(matches!(format(Value::Null), ResponseFormat::Text));
    }

    #[test]
    fn each_refused_parameter_is_named() {
        let full = request(json!({
            "messages": [],
            "temperature": 0,
            "reasoning_effort": "low",
            "max_completion_tokens": 10,
            "prompt_cache_options": {"mode": "explicit"},
            "response_format": {"type": "json_schema", "json_schema": {
                "schema": {"properties": {"r": {"items": {"pattern": "^a$"}}}}}},
        }));
        let bare = request(json!({"messages": [], "max_tokens": 10}));
        for (parameter, named) in [
            (RefusedParameter::ResponseFormat, "response_format"),
            (RefusedParameter::JsonSchema, "response_format"),
            (RefusedParameter::Pattern, "response_format"),
            (RefusedParameter::Temperature, "temperature"),
            (RefusedParameter::ReasoningEffort, "reasoning_effort"),
            (RefusedParameter::MaxCompletionTokens, "max_completion_tokens"),
            (RefusedParameter::PromptCacheOptions, "prompt_cache_options"),
        ] {
            let error = full.refused(&[parameter]).unwrap();
            assert_eq!((error.status, error.param), (400, Some(named)));
            assert_eq!(error.to_json()["error"]["param"], named);
            assert_eq!(bare.refused(&[parameter]), None);
        }
        let object = request(json!({"messages": [], "response_format": {"type": "json_object"}}));
        assert_eq!(object.refused(&[RefusedParameter::JsonSchema]), None);
        assert!(object.refused(&[RefusedParameter::ResponseFormat]).is_some());
    }

    #[test]
    fn a_breakpoint_counts_where_the_request_says_that_it_does() {
        let at = |options: Value, part: Value| {
            request(json!({
                "prompt_cache_options": options,
                "messages": [{"role": "system", "content": [part]}],
            }))
            .breakpoint()
        };
        let explicit = || json!({"mode": "explicit"});
        let plain = || json!({"type": "text", "text": "a"});
        let marked = || json!({"text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}});
        assert_eq!(at(explicit(), marked()), Breakpoint::AfterSystem);
        assert_eq!(at(explicit(), plain()), Breakpoint::Nowhere);
        assert_eq!(at(Value::Null, marked()), Breakpoint::Implicit);
    }

    #[test]
    fn a_property_named_pattern_is_no_pattern() {
        assert!(!holds_pattern(&json!({"properties": {"pattern": {"type": "string"}}})));
    }
}
