//! Decides what becomes of each request.
//!
//! A request is charged as of the moment when its head arrived, before any latency.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::sync::watch;

use super::account::Amounts;
use super::act::{Act, Headers, OpenRequest, error_response, with_headers};
use super::answers::{Answers, AskedRow};
use super::connections::Connection;
use super::gullible::{self, Steering};
use super::meter::{Fitted, Meter};
use super::prompt_cache::{Breakpoint, CacheUse, Prefix, PromptCache};
use super::rate_headers::{rate_headers, retry_after, whole_seconds};
use super::reply::{Fate, compose};
use super::settings::{Admission, Refusal, Settings};
use super::tally::{Charge, Ending, Stats, Tally};
use super::window::Overrun;
use super::wire::{REFUSAL_TEXT, Said, WireError, WireRequest, completion};
use crate::domain::Moment;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::spec::AnswerForm;
use crate::llm::fitted_prompt::{self, FittedPrompt};
use crate::llm::prompt_reader::read_rows;
use crate::llm::provider::ResponseFormat;

/// The longest request body, bytes.
const MOST_BODY: usize = 64 << 20;
/// What an injected 429 asks the client to wait, seconds.
const INJECTED_RETRY_AFTER: u64 = 1;

/// The state that all requests share.
pub(super) struct Server {
    settings: Settings,
    meter: Meter,
    answers: Answers,
    prompts: fitted_prompt::PromptCache,
    clock: SystemClock,
    tally: Mutex<Tally>,
    prompt_cache: Mutex<PromptCache>,
    arrivals: AtomicU64,
    closing: watch::Receiver<bool>,
}

/// A request that can be answered.
struct Question {
    request: WireRequest,
    fitted: Arc<FittedPrompt>,
}

/// The rows of a request.
#[derive(Clone, Copy)]
struct Asked<'a> {
    rows: &'a [AskedRow<'a>],
    /// A hash of the message that they stand in.
    call: u64,
}

/// A reply before it is wrapped.
struct Draft {
    said: Said,
    content: String,
    /// How much of `content` is sent.
    visible: Fitted,
    /// Hashes of the rows that it answers properly.
    answered: Vec<u64>,
}

/// What becomes of a request.
enum Decision {
    /// It is answered at once and was not admitted.
    AtOnce(Response),
    /// It was admitted.
    Act(Box<Act>),
}

/// The server's routes.
pub(super) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models))
        .route("/stats", get(stats))
        .route("/stats/reset", post(reset))
        .fallback(|| async { error_response(&WireError::not_found()) })
        .with_state(server)
}

async fn models() -> Response {
    let model =
        json!({ "id": "simulated", "object": "model", "created": 0, "owned_by": "batchclass" });
    Json(json!({ "object": "list", "data": [model] })).into_response()
}

async fn stats(State(server): State<Arc<Server>>) -> Json<Stats> {
    Json(server.tally().stats())
}

async fn reset(State(server): State<Arc<Server>>) -> StatusCode {
    server.tally().reset();
    StatusCode::NO_CONTENT
}

async fn chat(
    State(server): State<Arc<Server>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let arrived = server.now();
    let Ok(body) = to_bytes(request.into_body(), MOST_BODY).await else {
        return server.bad_request(arrived, &WireError::bad_request("unreadable body".to_owned()));
    };
    match server.decide(&body, arrived) {
        Decision::AtOnce(response) => response,
        Decision::Act(act) => act.perform(connection).await,
    }
}

impl Server {
    pub(super) fn new(
        settings: Settings,
        answers: Answers,
        closing: watch::Receiver<bool>,
    ) -> Server {
        Server {
            meter: Meter::new(&settings),
            answers,
            prompts: fitted_prompt::PromptCache::default(),
            clock: SystemClock::start(),
            tally: Mutex::new(Tally::new(&settings)),
            prompt_cache: Mutex::default(),
            arrivals: AtomicU64::new(0),
            closing,
            settings,
        }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    fn bad_request(&self, arrived: Moment, error: &WireError) -> Response {
        let mut tally = self.tally();
        let now = tally.arrive(arrived, self.clock.wall());
        tally.count_bad_request();
        let headers = self.rate_headers(&mut tally, now);
        drop(tally);
        with_headers(error_response(error), headers)
    }

    /// Decides what becomes of a request and charges it.
    fn decide(self: &Arc<Self>, body: &[u8], arrived: Moment) -> Decision {
        let number = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let mut random = ChaCha8Rng::seed_from_u64(self.settings.seed);
        random.set_stream(number);
        let fate = Fate::draw(&self.settings.faults, &mut random);
        let jitter = random.random_range(-1.0..=1.0) * self.settings.jitter_percent / 100.0;
        let mut question = match self.read(body) {
            Ok(question) => question,
            Err(error) => return Decision::AtOnce(self.bad_request(arrived, &error)),
        };
        let format = question.request.take_format();
        let Question { request, fitted } = question;
        let rows: Vec<AskedRow<'_>> = read_rows(request.user())
            .into_iter()
            .map(|(key, text)| AskedRow { key, text, hash: hash_of(text) })
            .collect();
        let most = request.most_tokens();
        let form = fitted.prompt().form_for(&format);
        let call = hash_of(request.user());
        let draft = self.draft(&fitted, form, &Asked { rows: &rows, call }, most, fate, random);

        let schema = match &format {
            ResponseFormat::Schema(schema) => Some(schema.to_string()),
            ResponseFormat::JsonObject | ResponseFormat::Text => None,
        };
        let prompt = self.meter.prompt(&fitted, request.user(), schema.as_deref());
        let completion_tokens = draft.visible.completion;
        let (input, output) = (u64::from(prompt), u64::from(completion_tokens));
        let room = most.map_or(output, u64::from);
        let tokens = match self.settings.admission {
            Admission::Usage => input + output,
            Admission::MaxTokens => input + room,
            Admission::Max => (input + output).max(room),
            Admission::Input => input,
        };
        let asked: Vec<u64> = rows.iter().map(|row| row.hash).collect();
        let charge = Charge {
            prompt: input,
            completion: output,
            amounts: Amounts { tokens, input, output },
            rows: &asked,
        };
        let headers = match self.admit(&charge, fate, arrived) {
            Ok(headers) => headers,
            Err((overrun, headers)) => {
                let error = too_fast(&request.model, overrun, tokens);
                return Decision::AtOnce(with_headers(error_response(&error), headers));
            }
        };

        let wait = self.settings.latency_ms as f64
            + self.settings.ms_per_output_token * f64::from(completion_tokens);
        let (status, body) =
            if draft.said == Said::Filtered && self.settings.refusal == Refusal::Status {
                (StatusCode::BAD_REQUEST, WireError::content_policy().to_json())
            } else {
                let created = self.clock.wall().0 / 1000;
                let text = &draft.content[..draft.visible.bytes];
                let breakpoint = request.breakpoint();
                let tokens_before = match breakpoint {
                    Breakpoint::AfterSystem => self.meter.prompt(&fitted, "", schema.as_deref()),
                    Breakpoint::Implicit | Breakpoint::Nowhere => prompt,
                };
                let said = (request.system(), schema.as_deref(), request.user());
                let cache = self.use_cache(breakpoint, tokens_before, said);
                let usage = self.meter.usage(prompt, cache, &draft.visible);
                let usage = Some(&usage).filter(|_| self.tells_usage(number));
                let body = completion(number, created, &request.model, draft.said, text, usage);
                (StatusCode::OK, body)
            };
        Decision::Act(Box::new(Act {
            fate,
            wait: Duration::from_secs_f64((wait * (1.0 + jitter) / 1000.0).max(0.0)),
            status,
            body: Bytes::from(body.to_string()),
            ending: match draft.said {
                Said::Whole | Said::Cut => Ending::Answered,
                Said::Refusal | Said::Filtered => Ending::Refused,
            },
            open: OpenRequest::new(Arc::clone(self), asked, draft.answered),
            headers,
        }))
    }

    /// Whether reply `number` tells what it used. Drawn apart, so that it moves no other fate.
    fn tells_usage(&self, number: u64) -> bool {
        let mut random = ChaCha8Rng::seed_from_u64(!self.settings.seed);
        random.set_stream(number);
        random.random::<f64>() >= self.settings.no_usage
    }

    /// What an admitted request does with the prompt cache: `said` is its system message, its schema
    /// and its user's message, of which what ends at `breakpoint` has so many tokens.
    fn use_cache(
        &self,
        breakpoint: Breakpoint,
        tokens: u32,
        said: (&str, Option<&str>, &str),
    ) -> CacheUse {
        if !self.settings.prompt_cache || breakpoint == Breakpoint::Nowhere {
            return CacheUse::default();
        }
        let (system, schema, user) = said;
        let user = if breakpoint == Breakpoint::Implicit { user } else { "" };
        let hash = hash_of(&[schema.unwrap_or_default(), system, user].join("\0"));
        let mut cache = self.prompt_cache.lock().unwrap_or_else(PoisonError::into_inner);
        let used = cache.take(Prefix { hash, tokens });
        drop(cache);
        self.tally().count_cache(used);
        used
    }

    /// Reads a request that this server can answer.
    fn read(&self, body: &[u8]) -> Result<Question, WireError> {
        let request: WireRequest = serde_json::from_slice(body).map_err(|error| {
            WireError::bad_request(format!("could not parse the body: {error}"))
        })?;
        if let Some(error) = request.refused(&self.settings.refuse_parameters) {
            return Err(error);
        }
        let fitted = self.prompts.get(request.system()).ok_or_else(|| {
            WireError::bad_request(
                "the system message holds no labels in batchclass's form".to_owned(),
            )
        })?;
        Ok(Question { request, fitted })
    }

    /// Says what the reply will be, if the request gets one.
    fn draft(
        &self,
        fitted: &FittedPrompt,
        form: AnswerForm,
        asked: &Asked<'_>,
        most: Option<u32>,
        fate: Fate,
        mut random: ChaCha8Rng,
    ) -> Draft {
        let unanswered = |said, text, most| Draft {
            said,
            content: String::from(text),
            visible: self.meter.fit(text, most, None),
            answered: Vec::new(),
        };
        let Asked { rows, call } = *asked;
        let marker = self.settings.refuse_marker.as_deref();
        if marker.is_some_and(|marker| rows.iter().any(|row| row.text.contains(marker))) {
            return unanswered(Said::Filtered, "", Some(0));
        }
        if fate.is_refused {
            return unanswered(Said::Refusal, REFUSAL_TEXT, most);
        }
        let mut codes = self.answers.given(fitted, rows, call);
        let prompt = fitted.prompt();
        let mut rows = rows;
        let steering = match self.settings.quality.gullible {
            true => {
                let labels = prompt.labels.iter();
                let names: Vec<(&str, &str)> =
                    labels.map(|label| (&*label.code, &*label.name)).collect();
                gullible::steer(rows, &names)
            }
            false => Steering::default(),
        };
        if let Some(code) = &steering.for_all {
            codes.fill(code);
        }
        if let Some(only) = steering.only {
            rows = &rows[only..=only];
            codes = vec![codes[only]];
        }
        let all_codes: Vec<&str> = prompt
            .labels
            .iter()
            .map(|label| label.code.as_str())
            .chain(prompt.unsure_code.as_deref())
            .collect();
        let faults = &self.settings.faults;
        let mut composed = compose(form, rows, &codes, &all_codes, faults, fate, &mut random);
        steering.copy_into(&mut composed, form);
        let kept_share = fate.is_cut.then(|| random.random_range(0.0..1.0));
        let visible = self.meter.fit(&composed.content, most, kept_share);
        Draft {
            said: if visible.is_cut { Said::Cut } else { Said::Whole },
            answered: composed.answered_within(visible.bytes),
            content: composed.content,
            visible,
        }
    }

    /// Charges a request or not; either way with the headers of its reply.
    fn admit(
        &self,
        charge: &Charge<'_>,
        fate: Fate,
        arrived: Moment,
    ) -> Result<Headers, (Overrun, Headers)> {
        let mut tally = self.tally();
        let now = tally.arrive(arrived, self.clock.wall());
        let admitted = if fate.is_throttled {
            tally.inject_429(charge, now);
            Err(Overrun::Until(Duration::from_secs(INJECTED_RETRY_AFTER)))
        } else {
            tally.admit(charge, now)
        };
        if admitted.is_ok() && fate.hangs {
            tally.count_hang();
        }
        let mut headers = self.rate_headers(&mut tally, now);
        drop(tally);
        match admitted {
            Ok(()) => Ok(headers),
            Err(overrun) => {
                if let Overrun::Until(wait) = overrun {
                    headers.extend(retry_after(self.settings.headers, wait));
                }
                Err((overrun, headers))
            }
        }
    }

    fn rate_headers(&self, tally: &mut Tally, now: Moment) -> Headers {
        rate_headers(self.settings.headers, tally.account(), now, self.clock.wall())
    }

    /// Waits until the server is to end.
    pub(super) async fn closed(&self) {
        // An error means that whoever runs the server is gone, which ends it too.
        let _ = self.closing.clone().wait_for(|is_closing| *is_closing).await;
    }
}

fn too_fast(model: &str, overrun: Overrun, requested: u64) -> WireError {
    WireError::rate_limited(match overrun {
        Overrun::Until(wait) => {
            format!("Rate limit reached for {model}. Please try again in {}s.", whole_seconds(wait))
        }
        Overrun::Never => format!(
            "Request too large for {model}: {requested} tokens requested, more than the limit of a \
             minute."
        ),
    })
}

/// The name of a row's text in the tally: fixed keys, so that it is the same in every run.
fn hash_of(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}
