//! Builds a request's body from two parts: the bytes up to the rows, which every call of a form
//! shares and which are serialized once, and the rest.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::json;

use super::super::{ChatRequest, ResponseFormat};
use crate::llm::dialect::CacheControl;

/// A run uses one system message per form of the answer.
const PREFIXES_KEPT: usize = 4;

/// A system message, whether a cache ends after it, and the bytes of a body up to the text of the
/// user's message.
type Prefix = (Arc<str>, bool, Arc<[u8]>);

/// Makes bodies for one model.
pub(super) struct BodyBuilder {
    model: String,
    prefixes: Mutex<Vec<Prefix>>,
}

impl BodyBuilder {
    pub(super) fn new(model: &str) -> BodyBuilder {
        BodyBuilder { model: model.to_owned(), prefixes: Mutex::new(Vec::new()) }
    }

    /// The JSON of `request`.
    pub(super) fn build(&self, request: &ChatRequest) -> Vec<u8> {
        let prefix = self.prefix(&request.system, request.dialect.cache());
        let mut body = Vec::with_capacity(prefix.len() + request.user.len() + 1024);
        body.extend_from_slice(&prefix);
        push_json(&mut body, &request.user);
        body.extend_from_slice(b"}]");
        if let Some(name) = request.dialect.length_limit().parameter() {
            push_member(&mut body, name, &request.max_completion_tokens);
        }
        if request.dialect.sends_zero_temperature() {
            push_member(&mut body, "temperature", &0);
        }
        if let Some(effort) = request.dialect.effort().value() {
            push_member(&mut body, "reasoning_effort", &effort);
        }
        if request.dialect.cache() != CacheControl::Untold {
            push_member(&mut body, "prompt_cache_options", &json!({ "mode": "explicit" }));
        }
        match &request.format {
            ResponseFormat::Schema(schema) => {
                let labels = json!({ "name": "labels", "strict": true, "schema": **schema });
                let format = json!({ "type": "json_schema", "json_schema": labels });
                push_member(&mut body, "response_format", &format);
            }
            ResponseFormat::JsonObject => {
                push_member(&mut body, "response_format", &json!({ "type": "json_object" }));
            }
            ResponseFormat::Text => {}
        }
        body.push(b'}');
        body
    }

    /// Everything up to the text of the user's message.
    fn prefix(&self, system: &Arc<str>, cache: CacheControl) -> Arc<[u8]> {
        let has_breakpoint = cache == CacheControl::AfterSystem;
        let mut prefixes = self.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this =
            |(known, has, _): &&Prefix| Arc::ptr_eq(known, system) && *has == has_breakpoint;
        if let Some((_, _, prefix)) = prefixes.iter().find(is_this) {
            return Arc::clone(prefix);
        }
        let mut prefix = br#"{"model":"#.to_vec();
        push_json(&mut prefix, &self.model);
        prefix.extend_from_slice(br#","messages":[{"role":"system","content":"#);
        if has_breakpoint {
            let part = json!([{
                "type": "text",
                "text": **system,
                "prompt_cache_breakpoint": { "mode": "explicit" },
            }]);
            push_json(&mut prefix, &part);
        } else {
            push_json(&mut prefix, &**system);
        }
        prefix.extend_from_slice(br#"},{"role":"user","content":"#);
        let prefix: Arc<[u8]> = prefix.into();
        if prefixes.len() == PREFIXES_KEPT {
            prefixes.remove(0);
        }
        prefixes.push((Arc::clone(system), has_breakpoint, Arc::clone(&prefix)));
        prefix
    }
}

fn push_member<T: Serialize + ?Sized>(body: &mut Vec<u8>, name: &str, value: &T) {
    body.push(b',');
    push_json(body, name);
    body.push(b':');
    push_json(body, value);
}

#[expect(clippy::expect_used, reason = "text, numbers and JSON values always serialize to memory")]
fn push_json<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(body, value).expect("serializes to memory");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Tokens;
    use crate::domain::spec::AnswerForm;
    use crate::llm::dialect::{Dialect, StepDown};

    fn request(format: ResponseFormat, dialect: Dialect) -> ChatRequest {
        ChatRequest {
            system: "You \"classify\".\nA = x".into(),
            user: "417\tQueen's \"Road\" \u{1F600}\n".into(),
            format,
            max_completion_tokens: Tokens(40),
            dialect,
        }
    }

    fn parsed(builder: &BodyBuilder, request: &ChatRequest) -> serde_json::Value {
        serde_json::from_slice(&builder.build(request)).unwrap()
    }

    #[test]
    fn a_strict_schema_travels_under_the_name_labels() {
        let schema = json!({ "type": "object", "properties": {} });
        let format = ResponseFormat::Schema(Arc::new(schema.clone()));
        let body = parsed(&BodyBuilder::new("gpt-4o-mini"), &request(format, Dialect::default()));
        let expected = json!({
            "model": "gpt-4o-mini",
            "messages": [
                { "role": "system", "content": "You \"classify\".\nA = x" },
                { "role": "user", "content": "417\tQueen's \"Road\" \u{1F600}\n" },
            ],
            "max_completion_tokens": 40,
            "response_format": {
                "type": "json_schema",
                "json_schema": { "name": "labels", "strict": true, "schema": schema },
            },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn the_dialect_decides_which_parameters_go_along() {
        let mut dialect =
            Dialect::for_model("gpt-5", AnswerForm::Array, None).with_zero_temperature();
        let builder = BodyBuilder::new("gpt-5");
        let body = parsed(&builder, &request(ResponseFormat::JsonObject, dialect.clone()));
        assert_eq!(body["temperature"], 0);
        assert_eq!(body["reasoning_effort"], "none");
        assert_eq!(body["response_format"], json!({ "type": "json_object" }));

        for parameter in ["temperature", "max_completion_tokens"] {
            let sent = dialect.clone();
            assert!(matches!(dialect.step_down(&sent, parameter), StepDown::Changed(_)));
        }
        let body = parsed(&builder, &request(ResponseFormat::Text, dialect));
        let names: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(names, ["max_tokens", "messages", "model", "reasoning_effort"]);
    }

    #[test]
    fn a_service_is_told_to_cache_the_fixed_part_or_nothing() {
        let builder = BodyBuilder::new("gpt-5.6-luna");
        let told = |cache| {
            let dialect = Dialect::default().with_cache(cache);
            parsed(&builder, &request(ResponseFormat::Text, dialect))
        };
        let plain = json!("You \"classify\".\nA = x");
        let untold = told(CacheControl::Untold);
        assert_eq!(untold["messages"][0]["content"], plain);
        assert!(untold.get("prompt_cache_options").is_none());

        let nothing = told(CacheControl::NoWrites);
        assert_eq!(nothing["messages"][0]["content"], plain);
        assert_eq!(nothing["prompt_cache_options"], json!({ "mode": "explicit" }));

        let fixed = told(CacheControl::AfterSystem);
        let part = json!([{
            "type": "text",
            "text": plain,
            "prompt_cache_breakpoint": { "mode": "explicit" },
        }]);
        assert_eq!(fixed["messages"][0]["content"], part);
        assert_eq!(fixed["messages"][1]["content"], untold["messages"][1]["content"]);
        assert_eq!(fixed["prompt_cache_options"], json!({ "mode": "explicit" }));
    }

    #[test]
    fn equal_system_messages_make_equal_bytes_and_few_are_kept() {
        let builder = BodyBuilder::new("m");
        let first = builder.prefix(&"system".into(), CacheControl::Untold);
        for number in 0..10 {
            builder.prefix(&format!("system {number}").into(), CacheControl::Untold);
        }
        assert_eq!(builder.prefixes.lock().unwrap().len(), PREFIXES_KEPT);
        assert_eq!(builder.prefix(&"system".into(), CacheControl::Untold), first);
    }
}
