//! Turns whatever is not a chat completion into a [`ProviderError`]: whose move is it?
//!
//! Codes and types decide before words do. The words are searched before they are scrubbed, but
//! only the scrubbed ones are kept.

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use serde_json::Value;

use super::super::rate_headers::retry_after;
use super::super::scrub::scrub;
use super::super::{ApiKey, ChatRequest, ProviderError, RateHeaders, ResponseFormat};
use crate::domain::UnixMillis;
use crate::llm::dialect::CacheControl;

/// What came back for a request, apart from the body.
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) now: UnixMillis,
    pub(super) key: Option<&'a ApiKey>,
    pub(super) request: &'a ChatRequest,
}

/// An error's body, whatever its shape; what is missing is empty.
#[derive(Debug, Default, PartialEq)]
struct ErrorBody {
    message: String,
    /// `type`, `code`, `status` and inner codes, lower-cased, each between spaces.
    codes: String,
    parameter: String,
    /// The status that a gateway wraps in a 200.
    status: Option<u16>,
}

impl Refusal<'_> {
    /// An error if this is a web page (a captive portal, a proxy's notice) and no JSON.
    pub(super) fn of_a_page(&self) -> Option<ProviderError> {
        let kind = self.headers.get(CONTENT_TYPE)?.to_str().ok()?.to_ascii_lowercase();
        kind.starts_with("text/html").then(|| {
            self.server_error("it answered with a web page; is there a login or proxy in between?")
        })
    }

    /// The error for a body with status 200 that is no chat completion.
    pub(super) fn no_completion(&self, body: &[u8]) -> ProviderError {
        match serde_json::from_slice::<Value>(body) {
            Ok(value) if !value["error"].is_null() => {
                let error = ErrorBody::of(&value);
                let status = error.status.filter(|status| (400..600).contains(status));
                let unsaid = if error.says_no_money() { 402 } else { 502 };
                self.judge(status.unwrap_or(unsaid), &error)
            }
            _ => self.server_error("its reply is no chat completion"),
        }
    }

    /// The error for a body with any other status.
    pub(super) fn classify(&self, body: &[u8]) -> ProviderError {
        self.judge(self.status, &ErrorBody::read(body))
    }

    fn judge(&self, status: u16, error: &ErrorBody) -> ProviderError {
        let message = self.message(status, error);
        let is_client_error = (400..500).contains(&status);
        if is_client_error && (status == 402 || error.says_no_money()) {
            return ProviderError::OutOfQuota { message };
        }
        match status {
            413 => ProviderError::TooLong,
            429 if error.says_too_long() => ProviderError::TooLong,
            429 => ProviderError::RateLimited {
                retry_after: retry_after(&self.headers, self.now),
                rate: Box::new(RateHeaders::read(&self.headers, self.now)),
            },
            400 | 422 if error.says_too_long() => ProviderError::TooLong,
            400 | 403 | 422 if error.says_content_refused() => ProviderError::ContentRefused,
            400 | 422 => match error.refused_parameter(self.request) {
                Some(parameter) => {
                    ProviderError::ParameterRefused { parameter: parameter.to_owned(), message }
                }
                None => ProviderError::Rejected { status, message },
            },
            301 | 308 => ProviderError::Rejected { status, message: self.redirect() },
            300..400 => self.server_error_as(status, &self.redirect()),
            408 | 409 | 425 => self.server_error_as(status, &message),
            400..500 => ProviderError::Rejected { status, message },
            _ => self.server_error_as(status, &message),
        }
    }

    fn message(&self, status: u16, error: &ErrorBody) -> String {
        let scrubbed = scrub(&error.message, self.key, &self.request.user);
        if !scrubbed.is_empty() {
            return scrubbed;
        }
        let reason =
            reqwest::StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason());
        reason.map_or_else(|| "no further detail".to_owned(), str::to_lowercase)
    }

    /// Names the other host only: the rest of the address may hold anything.
    fn redirect(&self) -> String {
        let location = self.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let host = location
            .and_then(|location| reqwest::Url::parse(location).ok())
            .and_then(|url| url.host_str().map(str::to_owned));
        let place = host.map_or_else(|| "another address".to_owned(), |host| format!("`{host}`"));
        let message = format!(
            "it redirects to {place}, and redirects are not followed, since the key would go \
             along; check model.base_url"
        );
        scrub(&message, self.key, &self.request.user)
    }

    fn server_error(&self, message: &str) -> ProviderError {
        self.server_error_as(self.status, message)
    }

    fn server_error_as(&self, status: u16, message: &str) -> ProviderError {
        ProviderError::ServerError {
            status,
            message: message.to_owned(),
            retry_after: retry_after(&self.headers, self.now),
        }
    }
}

impl ErrorBody {
    fn read(body: &[u8]) -> ErrorBody {
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            return ErrorBody::of(&value);
        }
        let text = String::from_utf8_lossy(body);
        if text.trim_start().starts_with('<') {
            return ErrorBody {
                message: "it answered with a web page".into(),
                ..Default::default()
            };
        }
        ErrorBody { message: text.into_owned(), ..Default::default() }
    }

    /// Reads `{"error":{...}}`, `{"error":"..."}`, `{"message":...}`, `{"detail":...}`, and any
    /// of them as the only item of a list.
    fn of(value: &Value) -> ErrorBody {
        let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
        let inner = if value["error"].is_null() { value } else { &value["error"] };
        let message =
            [&inner["message"], &inner["detail"], &value["detail"], &value["message"], inner]
                .into_iter()
                .find_map(words);
        let codes = [
            &inner["type"],
            &inner["code"],
            &inner["status"],
            &inner["innererror"]["code"],
            &value["type"],
            &value["code"],
        ];
        let mut joined = " ".to_owned();
        for code in codes.into_iter().filter_map(Value::as_str) {
            joined.push_str(&code.to_ascii_lowercase());
            joined.push(' ');
        }
        let parameter = inner["param"].as_str().unwrap_or_default().to_ascii_lowercase();
        let number = |code: &Value| code.as_u64().or_else(|| code.as_str()?.parse().ok());
        ErrorBody {
            message: message.unwrap_or_default(),
            codes: joined,
            parameter: if parameter == "none" { String::new() } else { parameter },
            status: number(&inner["code"]).and_then(|code| u16::try_from(code).ok()),
        }
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        codes.iter().any(|code| self.codes.contains(&format!(" {code} ")))
    }

    fn says(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    /// No phrase with "quota" is among these: Gemini words its per-minute limits that way.
    fn says_no_money(&self) -> bool {
        self.has_code(&[
            "insufficient_quota",
            "billing_hard_limit_reached",
            "billing_not_active",
            "enforced_spend_limit_reached",
            "spend_limit_reached",
            "insufficient_credits",
            "insufficient_balance",
            "credit_balance_too_low",
            "billing_error",
        ]) || self.says(&[
            "credit balance is too low",
            "insufficient balance",
            "insufficient credits",
        ])
    }

    fn says_too_long(&self) -> bool {
        self.has_code(&[
            "context_length_exceeded",
            "exceed_context_size_error",
            "string_above_max_length",
            "request_too_large",
        ]) || self.says(&[
            "maximum context length",
            "context window",
            "context size",
            "context length",
            "prompt is too long",
            "input is too long",
            "input token count",
            "request too large",
        ])
    }

    fn says_content_refused(&self) -> bool {
        self.has_code(&[
            "content_filter",
            "content_policy_violation",
            "responsibleaipolicyviolation",
            "invalid_prompt",
            "moderation_error",
        ]) || self.says(&["content management policy", "content policy", "usage policy"])
    }

    /// Which of the parameters in `request` the service won't take, in the words of
    /// [`Dialect::step_down`](crate::llm::dialect::Dialect::step_down).
    fn refused_parameter(&self, request: &ChatRequest) -> Option<&'static str> {
        // A service that names a parameter means that one; only without a name do words count.
        let named = !self.parameter.is_empty();
        let message = self.message.to_lowercase();
        let place = if named { &self.parameter } else { &message };
        let dialect = &request.dialect;
        if dialect.effort().value().is_some()
            && ["reasoning_effort", "reasoning.effort", "reasoning effort"]
                .iter()
                .any(|name| place.contains(name))
        {
            return Some("reasoning_effort");
        }
        if dialect.cache() != CacheControl::Untold && place.contains("prompt_cache") {
            let is_breakpoint = place.contains("prompt_cache_breakpoint");
            return Some(if is_breakpoint {
                "prompt_cache_breakpoint"
            } else {
                "prompt_cache_options"
            });
        }
        if dialect.sends_zero_temperature() && place.contains("temperature") {
            return Some("temperature");
        }
        if let Some(sent) = dialect.length_limit().parameter()
            && (place.contains("max_completion_tokens") || place.contains("max_tokens"))
        {
            // A number that is too large is the user's to mend: without a limit, one reply could
            // cost any amount.
            let is_value = self.has_code(&["integer_above_max_value", "invalid_value"])
                || self.says(&["too large", "at most", "less than or equal"]);
            return (!is_value).then_some(sent);
        }
        let is_form = [
            "response_format",
            "response format",
            "json_schema",
            "json schema",
            "json_object",
            "schema",
            "pattern",
            "grammar",
            "too many states",
            "text.format",
        ]
        .iter()
        .any(|name| place.contains(name));
        match &request.format {
            _ if !is_form => None,
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some("response_format"),
            ResponseFormat::Schema(_) if message.contains("pattern") => Some("pattern"),
            ResponseFormat::Schema(_) if self.takes_no_schema(&message) => Some("json_schema"),
            ResponseFormat::Schema(_) => Some("schema"),
        }
    }

    /// Whether schemas as such are refused, and not what is in this one.
    fn takes_no_schema(&self, message: &str) -> bool {
        let of_the_schema =
            ["invalid schema", "in context=", "grammar", "too many states", "schema contains"];
        !of_the_schema.iter().any(|words| message.contains(words))
            && self.says(&[
                "not support",
                "unsupported",
                "unavailable",
                "must be",
                "unknown",
                "unrecognized",
                "extra",
                "not permitted",
            ])
    }
}

/// The words in a message that may be text, or a list of `{"loc":[...],"msg":"..."}`.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(items) => {
            let said: Vec<String> = items
                .iter()
                .filter_map(|item| {
                    let place: Vec<&str> =
                        item["loc"].as_array()?.iter().filter_map(Value::as_str).collect();
                    Some(format!("{}: {}", place.join("."), item["msg"].as_str()?))
                })
                .collect();
            (!said.is_empty()).then(|| said.join("; "))
        }
        _ => None,
    }
}
