//! A provider that answers by script: the liar for tests.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{ChatReply, ChatRequest, Finish, Provider, ProviderError};
use crate::domain::{Tokens, Usage};

/// What happens to one call.
#[derive(Debug)]
pub enum Answer {
    /// It is answered.
    Reply(ChatReply),
    /// It fails.
    Fail(ProviderError),
    /// Nothing ever comes.
    Hang,
}

type Script = dyn FnMut(usize, &ChatRequest) -> Answer + Send;

/// Answers by script and remembers what it was asked.
pub struct Scripted {
    script: Mutex<Box<Script>>,
    requests: Mutex<Vec<ChatRequest>>,
}

impl Scripted {
    /// Answers call `n`, from 0, by `script(n, request)`.
    pub fn new(script: impl FnMut(usize, &ChatRequest) -> Answer + Send + 'static) -> Scripted {
        Scripted { script: Mutex::new(Box::new(script)), requests: Mutex::new(Vec::new()) }
    }

    /// Gives `answers` in order, and a server error to every call after them.
    pub fn queue(answers: impl IntoIterator<Item = Answer>) -> Scripted {
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        Scripted::new(move |_, _| {
            answers.pop_front().unwrap_or_else(|| {
                Answer::Fail(ProviderError::ServerError {
                    status: 500,
                    message: "the script has ended".into(),
                    retry_after: None,
                })
            })
        })
    }

    /// Answers every row of every call with the code that `code_of(text)` gives; `None` leaves
    /// the row out.
    pub fn labelling(code_of: impl Fn(&str) -> Option<String> + Send + 'static) -> Scripted {
        Scripted::new(move |_, request| {
            let pairs: Vec<(&str, String)> = rows_of(&request.user)
                .filter_map(|(key, text)| Some((key, code_of(text)?)))
                .collect();
            Answer::Reply(array_reply(pairs.iter().map(|(key, code)| (*key, code.as_str()))))
        })
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many calls came so far.
    pub fn calls(&self) -> usize {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Provider for Scripted {
    fn ask<'a>(
        &'a self,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<ChatReply, ProviderError>> {
        let call = {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.push(request.clone());
            requests.len() - 1
        };
        let answer = {
            let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
            script(call, request)
        };
        match answer {
            Answer::Reply(reply) => futures::future::ready(Ok(reply)).boxed(),
            Answer::Fail(error) => futures::future::ready(Err(error)).boxed(),
            Answer::Hang => futures::future::pending().boxed(),
        }
    }
}

/// The rows of a user message: key and text.
pub fn rows_of(user: &str) -> impl Iterator<Item = (&str, &str)> {
    user.lines().filter_map(|line| line.split_once('\t'))
}

/// A reply in the form `{"r":["KEY:CODE",...]}`.
pub fn array_reply<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> ChatReply {
    let members: Vec<String> = pairs.map(|(key, code)| format!("\"{key}:{code}\"")).collect();
    text_reply(&format!("{{\"r\":[{}]}}", members.join(",")))
}

/// A reply that is done and says `content`, with a usage by rule of thumb.
pub fn text_reply(content: &str) -> ChatReply {
    let completion = Tokens(u32::try_from(content.len() / 4 + 1).unwrap_or(u32::MAX));
    ChatReply {
        content: content.to_owned(),
        finish: Finish::Stop,
        usage: Some(Usage { prompt: Tokens(100), completion, ..Usage::default() }),
        model: None,
        rate: Box::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::dialect::Dialect;
    use crate::llm::provider::ResponseFormat;

    fn request(user: &str) -> ChatRequest {
        ChatRequest {
            system: "system".into(),
            user: user.to_owned(),
            format: ResponseFormat::Text,
            max_completion_tokens: Tokens(10),
            dialect: Dialect::default(),
        }
    }

    #[test]
    fn a_labelling_script_answers_every_row_but_those_left_out() {
        let scripted = Scripted::labelling(|text| (text != "skip").then(|| "A".to_owned()));
        let request = request("417\tx\n902\tskip\n111\ty\n");
        let reply = scripted.ask(&request).now_or_never().unwrap().unwrap();
        assert_eq!(reply.content, r#"{"r":["417:A","111:A"]}"#);
        assert_eq!(scripted.calls(), 1);
    }

    #[test]
    fn a_queue_is_given_in_order_and_then_fails() {
        let scripted = Scripted::queue([Answer::Hang, Answer::Reply(text_reply("hello"))]);
        let request = request("");
        assert!(scripted.ask(&request).now_or_never().is_none());
        assert!(scripted.ask(&request).now_or_never().unwrap().is_ok());
        assert!(scripted.ask(&request).now_or_never().unwrap().is_err());
    }
}
