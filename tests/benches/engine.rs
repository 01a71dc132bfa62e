//! Two helpers of the benchmarks, for what the program itself can't show.
//!
//! `engine run INPUT OUT ROWS_PER_CALL`: the whole job without HTTP, by a provider in this process
//! that answers at once with the first label; prints rows and seconds.
//! `engine serve PORT`: an OpenAI-compatible server on loopback that does the same, so that a run
//! against it shows what the client costs and not what a model does.

use std::error::Error;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use batchclass::domain::clock::SystemClock;
use batchclass::domain::spec::{
    AnswerForm, BatchSpec, CloudSpec, IdSource, InputSpec, KeySource, Limits, ModelSpec,
    OnDuplicateId, OutputSpec, ProviderKind, QualitySpec, SORT_MEMORY, Vocabulary,
};
use batchclass::domain::{
    Clock, Event, JobSpec, Location, PartEncoding, Reading, Template, Tokens, Usage,
};
use batchclass::llm::codes::{self, LabelDraft};
use batchclass::llm::provider::{ChatReply, ChatRequest, Finish, Provider, ProviderError};
use batchclass::llm::token_counter::TokenCounter;
use batchclass::pipeline::{self, Beside, RunContext};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;

const LABELS: u16 = 7;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments[..] {
        ["run", input, out, rows_per_call] => {
            runtime.block_on(run(input, out, rows_per_call.parse()?))
        }
        ["serve", port] => runtime.block_on(serve(port.parse()?)),
        _ => Err("engine run INPUT OUT ROWS_PER_CALL | engine serve PORT".into()),
    }
}

#[expect(clippy::print_stdout, reason = "the benchmark's result")]
#[expect(clippy::disallowed_macros, reason = "the benchmark's result")]
async fn run(input: &str, out: &str, rows_per_call: NonZeroU32) -> Result<(), Failure> {
    let job = job(Location::parse(input.as_ref())?, Location::parse(out.as_ref())?, rows_per_call)?;
    let clock = Arc::new(SystemClock::start());
    let context = RunContext {
        provider: Arc::new(AtOnce),
        events: Arc::new(|_: Event| {}),
        clock: clock.clone(),
        stop: futures::future::pending().boxed(),
        takeover: false,
        beside: Beside::default(),
    };
    let began = clock.now();
    let report = pipeline::run(&job, context).await?;
    let seconds = clock.now().since(began).as_secs_f64();
    if report.labelled != report.rows {
        return Err(format!("{} of {} rows have a label", report.labelled, report.rows).into());
    }
    println!("{{\"rows\": {}, \"seconds\": {seconds:.3}}}", report.rows);
    Ok(())
}

fn job(input: Location, out: Location, rows_per_call: NonZeroU32) -> Result<JobSpec, Failure> {
    let drafts = (0..LABELS).map(|at| LabelDraft {
        name: format!("Segment {at}"),
        description: "what an address of this kind looks like".into(),
        ..LabelDraft::default()
    });
    let counter = TokenCounter::for_vocabulary(Vocabulary::O200k);
    Ok(JobSpec {
        input: InputSpec {
            location: input,
            cloud: CloudSpec::default(),
            id: IdSource::Column("id".into()),
            text: Template::parse("{address}")?,
            existing_label: None,
            columns: None,
            gold: None,
            on_duplicate_id: OnDuplicateId::Error,
            sort_memory: SORT_MEMORY,
            temp_dir: std::env::temp_dir(),
            reading: Reading::default(),
        },
        instructions: "You classify UK postal addresses into residential segments.".into(),
        codebook: codes::assign(drafts.collect(), None, &counter)?,
        model: ModelSpec {
            provider: ProviderKind::Lexical,
            name: "at-once".into(),
            base_url: String::new(),
            api_key_env: None,
            vocabulary: Vocabulary::O200k,
            answer_form: AnswerForm::Array,
            key: KeySource::Random,
            reasoning_effort: None,
            max_output_tokens: Tokens(16_384),
            fit: None,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(120),
            reply_timeout: Duration::from_secs(300),
        },
        limits: Limits::default(),
        budget: Default::default(),
        batch: BatchSpec {
            rows_per_call,
            tokens_per_call: Tokens(32_000),
            max_attempts: 3,
            dedupe_texts: 200_000,
            isolate: true,
        },
        quality: QualitySpec { probe: 0.0, ..QualitySpec::default() },
        output: OutputSpec {
            location: out,
            cloud: CloudSpec::default(),
            layout: None,
            rows_per_part: None,
            label_column: "label".into(),
            encoding: PartEncoding::default(),
            max_unlabelled: 0,
            retry: Vec::new(),
            journal_folder: None,
            state_folder: None,
        },
        row_limit: None,
        give_up_after: Duration::from_secs(60),
    })
}

/// Answers in this process.
struct AtOnce;

impl Provider for AtOnce {
    fn ask<'a>(
        &'a self,
        request: &'a ChatRequest,
    ) -> BoxFuture<'a, Result<ChatReply, ProviderError>> {
        let reply = ChatReply {
            content: answer(&request.user),
            finish: Finish::Stop,
            usage: Some(usage(request.system.len() + request.user.len())),
            model: None,
            rate: Box::default(),
        };
        futures::future::ready(Ok(reply)).boxed()
    }
}

/// The first label's code for every row of a user message.
fn answer(user: &str) -> String {
    let mut content = String::with_capacity(user.len() / 4 + 16);
    content.push_str("{\"r\":[");
    for (at, line) in user.lines().enumerate() {
        let key = line.split('\t').next().unwrap_or_default();
        content.push_str(if at == 0 { "\"" } else { ",\"" });
        content.push_str(key);
        content.push_str(":A\"");
    }
    content.push_str("]}");
    content
}

/// How many items a message of Ondine's asks about: `Process these 100 items and ...`.
fn items_of_peer(user: &str) -> Option<usize> {
    user.strip_prefix("Process these ")?.split(' ').next()?.parse().ok()
}

/// What Ondine asks for.
fn answer_of_peer(items: usize) -> String {
    let items = (1..=items).map(|id| format!("{{\"id\":{id},\"result\":\"A\"}}"));
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn usage(bytes: usize) -> Usage {
    let prompt = Tokens(u32::try_from(bytes / 4).unwrap_or(u32::MAX));
    Usage { prompt, completion: Tokens(300), ..Usage::default() }
}

async fn serve(port: u16) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let routes = Router::new()
        .route("/v1/chat/completions", post(complete))
        .layer(DefaultBodyLimit::max(64 << 20));
    axum::serve(listener, routes).await?;
    Ok(())
}

#[derive(Deserialize)]
struct Asked {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

async fn complete(body: Bytes) -> impl IntoResponse {
    let asked: Option<Asked> = serde_json::from_slice(&body).ok();
    let user = asked.and_then(|asked| asked.messages.into_iter().next_back());
    let content = user.map_or_else(String::new, |message| match items_of_peer(&message.content) {
        Some(items) => answer_of_peer(items),
        None => answer(&message.content),
    });
    let Usage { prompt, completion, .. } = usage(body.len());
    let mut reply = String::with_capacity(content.len() * 2 + 256);
    // The only characters that need escaping are the quotes of the answer itself.
    let escaped = content.replace('"', "\\\"");
    let total = prompt.0 + completion.0;
    let written = write!(
        reply,
        "{{\"id\":\"1\",\"object\":\"chat.completion\",\"model\":\"at-once\",\"choices\":[{{\"index\":0,\
         \"finish_reason\":\"stop\",\"message\":{{\"role\":\"assistant\",\"content\":\"{escaped}\"}}}}],\
         \"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total}}}}}"
    );
    match written {
        Ok(()) => ([(CONTENT_TYPE, "application/json")], reply).into_response(),
        Err(error) => error.to_string().into_response(),
    }
}
