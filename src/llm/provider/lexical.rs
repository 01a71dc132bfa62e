//! The embedded provider: answers offline, without a key, from words alone.
//!
//! It gets the same request as a hosted model and answers in the same forms, so that everything
//! around it can be tried, and compared with, for nothing. It has no limit on a reply's length.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{ChatReply, ChatRequest, Finish, Provider, ProviderError, ResponseFormat};
use crate::domain::{Tokens, Usage};
use crate::llm::answer_writer::write_answer;
use crate::llm::fitted_prompt::{FRAMING_TOKENS, FittedPrompt, PromptCache, count_tokens};
use crate::llm::learned_scorer::LearnedScorer;
use crate::llm::prompt_reader::read_rows;

/// The embedded scorer as a [`Provider`].
#[derive(Debug)]
pub struct LexicalProvider {
    learned: Option<Arc<LearnedScorer>>,
    prompts: PromptCache,
    counts_tokens: bool,
    /// Calls beyond the machine's cores wait here instead of each taking a thread.
    cores: Semaphore,
}

impl LexicalProvider {
    /// The name by which replies call the model.
    pub const MODEL: &str = "lexical";

    /// A provider. With `counts_tokens` its replies say what they would have used, at about the
    /// price of scoring once more; without, they hold no usage.
    pub fn new(counts_tokens: bool) -> LexicalProvider {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        LexicalProvider {
            learned: None,
            prompts: PromptCache::default(),
            counts_tokens,
            cores: Semaphore::new(cores),
        }
    }

    /// A provider that answers by what `scorer` learned, whose labels are those of every prompt in
    /// their order; see [`LexicalProvider::new`].
    pub fn fitted(counts_tokens: bool, scorer: LearnedScorer) -> LexicalProvider {
        let learned = Some(Arc::new(scorer));
        LexicalProvider { learned, ..LexicalProvider::new(counts_tokens) }
    }
}

impl Provider for LexicalProvider {
    fn ask<'a>(
        &'a self,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<ChatReply, ProviderError>> {
        async move {
            let fitted =
                self.prompts.get(&request.system).ok_or_else(|| ProviderError::Rejected {
                    status: 400,
                    message: "the system message holds no labels".to_owned(),
                })?;
            let learned = self.learned.clone();
            let labels = fitted.prompt().labels.len();
            if learned.as_ref().is_some_and(|learned| learned.labels() != labels) {
                let message = "the system message holds other labels than were learned".to_owned();
                return Err(ProviderError::Rejected { status: 400, message });
            }
            // The semaphore is never closed; without a permit the call would only be less fair.
            let _permit = self.cores.acquire().await.ok();
            let counts_tokens = self.counts_tokens;
            if Handle::try_current().is_err() {
                return Ok(answer(&fitted, learned.as_deref(), request, counts_tokens));
            }
            let request = request.clone();
            tokio::task::spawn_blocking(move || {
                answer(&fitted, learned.as_deref(), &request, counts_tokens)
            })
            .await
            .map_err(|error| ProviderError::ServerError {
                status: 500,
                message: format!("the embedded scorer failed: {error}"),
                retry_after: None,
            })
        }
        .boxed()
    }
}

fn answer(
    fitted: &FittedPrompt,
    learned: Option<&LearnedScorer>,
    request: &ChatRequest,
    counts_tokens: bool,
) -> ChatReply {
    let rows = read_rows(&request.user).into_iter();
    let members: Vec<(&str, &str)> = match learned.map(LearnedScorer::get) {
        Some(scorer) => {
            let mut scratch = scorer.scratch();
            rows.map(|(key, text)| (key, fitted.code_of(scorer.best(text, &mut scratch)))).collect()
        }
        None => {
            let mut scratch = fitted.scorer().scratch();
            rows.map(|(key, text)| (key, fitted.code_for(text, &mut scratch))).collect()
        }
    };
    let form = fitted.prompt().form_for(&request.format);
    let content = write_answer(form, &members).content;
    let usage = counts_tokens.then(|| {
        let schema = match &request.format {
            ResponseFormat::Schema(schema) => count_tokens(&schema.to_string()),
            ResponseFormat::JsonObject | ResponseFormat::Text => 0,
        };
        let prompt = [fitted.system_tokens(), count_tokens(&request.user), schema, FRAMING_TOKENS];
        Usage {
            prompt: prompt.into_iter().map(Tokens).sum(),
            completion: Tokens(count_tokens(&content)),
            ..Usage::default()
        }
    });
    ChatReply {
        content,
        finish: Finish::Stop,
        usage,
        model: Some(LexicalProvider::MODEL.to_owned()),
        rate: Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::{Event, KnownRows, LabelIndex};
    use crate::llm::dialect::Dialect;
    use serde_json::json;

    use super::*;

    const SYSTEM: &str = "Labels, one per line (CODE = name: description):
A = card arrival
B = exchange rate

Answer with one line KEY:CODE for every row: its key, a colon and its label's code; nothing else.";

    fn request(system: &str, format: ResponseFormat) -> ChatRequest {
        ChatRequest {
            system: system.into(),
            user: "417\twhat rate do you use\n902\twhere is my card\n".to_owned(),
            format,
            max_completion_tokens: Tokens(100),
            dialect: Dialect::default(),
        }
    }

    #[tokio::test]
    async fn each_form_is_answered_in_its_own_words() {
        let provider = LexicalProvider::new(false);
        let array = json!({"properties": {"r": {"type": "array"}}});
        let object = json!({"properties": {"417": {}, "902": {}}});
        for (format, content) in [
            (ResponseFormat::Schema(array.into()), r#"{"r":["417:B","902:A"]}"#),
            (ResponseFormat::Schema(object.into()), r#"{"417":"B","902":"A"}"#),
            (ResponseFormat::JsonObject, r#"{"417":"B","902":"A"}"#),
            (ResponseFormat::Text, "417:B\n902:A"),
        ] {
            let reply = provider.ask(&request(SYSTEM, format)).await.unwrap();
            assert_eq!((reply.content.as_str(), reply.finish), (content, Finish::Stop));
            assert_eq!(reply.usage, None);
        }
    }

    #[tokio::test]
    async fn usage_is_counted_when_asked_for() {
        let provider = LexicalProvider::new(true);
        let request = request(SYSTEM, ResponseFormat::Text);
        let usage = provider.ask(&request).await.unwrap().usage.unwrap();
        let prompt = count_tokens(SYSTEM) + count_tokens(&request.user) + FRAMING_TOKENS;
        assert_eq!(usage.prompt, Tokens(prompt));
        assert_eq!(usage.completion, Tokens(count_tokens("417:B\n902:A")));
    }

    #[test]
    fn it_answers_outside_a_runtime_too() {
        let provider = LexicalProvider::new(false);
        let request = request(SYSTEM, ResponseFormat::Text);
        let reply = provider.ask(&request).now_or_never().unwrap().unwrap();
        assert_eq!(reply.content, "417:B\n902:A");
    }

    #[tokio::test]
    async fn what_was_learned_answers_by_the_prompts_codes() {
        let rows: Vec<(&str, u16)> = vec![
            ("where is the plastic", 0),
            ("no plastic came", 0),
            ("how many euros for a pound", 1),
            ("pounds to euros", 1),
        ];
        let learned = |labels| {
            let rows = rows.iter().map(|(text, label)| ((*text).into(), LabelIndex(*label)));
            let known = KnownRows::new(rows.collect(), labels);
            let scorer = LearnedScorer::new(Arc::new(known), Arc::new(|_: Event| {}));
            LexicalProvider::fitted(false, scorer)
        };
        let system = format!("{SYSTEM}\nIf no label can be decided for a row, answer U for it.");
        let mut request = request(&system, ResponseFormat::Text);
        request.user = "417\tmy plastic\n902\teuros?\n555\txyz\n".to_owned();
        let reply = learned(2).ask(&request).await.unwrap();
        assert_eq!(reply.content, "417:A\n902:B\n555:U");
        let error = learned(3).ask(&request).await.unwrap_err();
        assert!(!error.is_retryable());
    }

    #[tokio::test]
    async fn a_foreign_prompt_is_rejected_for_good() {
        let request = request("You are helpful.", ResponseFormat::Text);
        let error = LexicalProvider::new(false).ask(&request).await.unwrap_err();
        assert!(!error.is_retryable());
        assert_eq!(error.kind(), "rejected");
    }
}
