//! The server as a client sees it, over real connections.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connections::GRACE;
use super::*;
use crate::llm::fitted_prompt::{FRAMING_TOKENS, count_tokens};

const SYSTEM: &str = "You sort questions.

Labels, one per line (CODE = name: description):
A = card arrival
B = exchange rate

Each line of the next message is one row: a key, a tab, a text.
Answer with one line KEY:CODE for every row: its key, a colon and its label's code; nothing else.";

const USER: &str = "417\twhere is my card\n902\twhat rate do you use\n";
const ANSWER: &str = "417:A\n902:B";

struct Client {
    http: reqwest::Client,
    running: Running,
}

/// A reply as a client sees it.
struct Seen {
    status: u16,
    headers: HashMap<String, String>,
    body: Value,
}

impl Seen {
    fn content(&self) -> &str {
        self.body["choices"][0]["message"]["content"].as_str().unwrap()
    }

    fn finish(&self) -> &str {
        self.body["choices"][0]["finish_reason"].as_str().unwrap()
    }

    fn usage(&self, field: &str) -> u64 {
        self.body["usage"][field].as_u64().unwrap()
    }
}

impl Client {
    async fn of(settings: Settings) -> Client {
        // Another test may have been first; any provider will do for plain HTTP.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Client { http, running: serve(settings, 0).await.unwrap() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address())
    }

    fn request(&self, user: &str, more: &Value) -> reqwest::RequestBuilder {
        let mut body = asking(user);
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.http.post(self.url("/v1/chat/completions")).body(body.to_string())
    }

    async fn ask_with(&self, user: &str, more: &Value) -> Seen {
        let reply = self.request(user, more).send().await.unwrap();
        let status = reply.status().as_u16();
        let headers = reply
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let body = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        Seen { status, headers, body }
    }

    async fn ask(&self) -> Seen {
        self.ask_with(USER, &json!({})).await
    }

    /// A connection of its own, on which a question was sent whose reply is not read yet.
    async fn sent(&self) -> TcpStream {
        let mut connection = TcpStream::connect(self.running.address()).await.unwrap();
        send(&mut connection).await;
        connection
    }

    /// Waits for what the server only notices a moment after its client.
    async fn stats_once(&self, is_there: impl Fn(&Stats) -> bool) -> Stats {
        for _ in 0..10_000_000 {
            let stats = self.running.stats();
            if is_there(&stats) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
        panic!("never seen; at the end: {:?}", self.running.stats());
    }
}

fn asking(user: &str) -> Value {
    json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": user},
        ],
    })
}

async fn send(connection: &mut TcpStream) {
    let body = asking(USER).to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
}

/// Reads one reply to its end, which is the end of its JSON.
async fn read_reply(connection: &mut TcpStream) {
    let mut reply = Vec::new();
    while !reply.ends_with(b"}}") {
        assert_ne!(connection.read_buf(&mut reply).await.unwrap(), 0);
    }
}

/// Leaves with nothing unread; returns when the server has closed its side too.
async fn leave(mut connection: TcpStream) {
    connection.shutdown().await.unwrap();
    assert_eq!(connection.read(&mut [0]).await.unwrap(), 0);
}

/// How many rows were answered again, unconfirmed and unexplained.
fn rows_again(stats: &Stats) -> (u64, u64, u64) {
    (
        stats.rows_answered_again,
        stats.rows_unconfirmed_at_disconnect,
        stats.rows_asked_again_unexplained,
    )
}

fn with_faults(faults: Faults) -> Settings {
    Settings { faults, ..Settings::default() }
}

#[tokio::test]
async fn a_reply_is_right_and_its_usage_is_counted() {
    let client = Client::of(Settings::default()).await;
    let seen = client.ask().await;
    assert_eq!((seen.status, seen.content(), seen.finish()), (200, ANSWER, "stop"));
    let prompt = count_tokens(SYSTEM) + count_tokens(USER) + FRAMING_TOKENS;
    assert_eq!(seen.usage("prompt_tokens"), u64::from(prompt));
    assert_eq!(seen.usage("completion_tokens"), u64::from(count_tokens(ANSWER)));
    assert!(!seen.headers.keys().any(|name| name.starts_with("x-ratelimit")));
    let stats = client.stats_once(|stats| stats.answered == 1).await;
    assert_eq!((stats.rows_asked, stats.rows_answered, stats.open_requests), (2, 2, 0));
    assert_eq!(stats.prompt_tokens, u64::from(prompt));
    assert_eq!(stats.charged_tokens, stats.prompt_tokens + stats.completion_tokens);
}

#[tokio::test]
async fn each_form_is_answered_and_its_schema_charged() {
    let client = Client::of(Settings::default()).await;
    let plain = client.ask().await.usage("prompt_tokens");
    for (schema, content) in [
        (json!({"properties": {"r": {"type": "array"}}}), r#"{"r":["417:A","902:B"]}"#),
        (json!({"properties": {"417": {}, "902": {}}}), r#"{"417":"A","902":"B"}"#),
    ] {
        let format = json!({"type": "json_schema", "json_schema": {"schema": schema}});
        let seen = client.ask_with(USER, &json!({"response_format": format})).await;
        assert_eq!(seen.content(), content);
        let charged = u64::from(count_tokens(&schema.to_string()));
        assert_eq!(seen.usage("prompt_tokens"), plain + charged);
    }
}

#[tokio::test]
async fn beyond_the_minute_it_answers_429_and_says_how_long() {
    let first = Client::of(Settings::default()).await.ask().await;
    let once = first.usage("total_tokens");
    let settings = Settings {
        tokens_per_minute: Some(u32::try_from(once * 2).unwrap() + 1),
        requests_per_minute: Some(10),
        ..Settings::default()
    };
    let client = Client::of(settings).await;
    let seen = client.ask().await;
    let header = |seen: &Seen, name: &str| seen.headers[&format!("x-ratelimit-{name}")].clone();
    assert_eq!(header(&seen, "limit-tokens"), (once * 2 + 1).to_string());
    assert_eq!(header(&seen, "remaining-tokens"), (once + 1).to_string());
    assert_eq!(header(&seen, "reset-tokens"), "1m0s");
    assert_eq!(header(&seen, "limit-requests"), "10");
    assert_eq!(header(&seen, "remaining-requests"), "9");
    assert_eq!(client.ask().await.status, 200);
    let seen = client.ask().await;
    assert_eq!((seen.status, &seen.body["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert_eq!(header(&seen, "remaining-tokens"), "1");
    let wait: u64 = seen.headers["retry-after"].parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    let stats = client.running.stats();
    assert_eq!((stats.rejected_429, stats.fullest_minute_tokens), (1, once * 2));
    assert_eq!(stats.rows_asked, 4);
}

#[tokio::test]
async fn a_request_above_the_limit_is_told_that_no_wait_helps() {
    let settings = Settings { tokens_per_minute: Some(10), ..Settings::default() };
    let seen = Client::of(settings).await.ask().await;
    assert_eq!(seen.status, 429);
    assert!(!seen.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_day_and_a_slice_are_limits_too() {
    let settings =
        Settings { requests_per_day: Some(1), day_seconds: 3_600, ..Settings::default() };
    let client = Client::of(settings).await;
    assert_eq!(client.ask().await.status, 200);
    let seen = client.ask().await;
    let wait: u64 = seen.headers["retry-after"].parse().unwrap();
    assert!(seen.status == 429 && (3_590..=3_600).contains(&wait), "{wait}");
    let settings = Settings {
        requests_per_minute: Some(60),
        slice_seconds: 1,
        headers: HeaderStyle::Azure,
        ..Settings::default()
    };
    let client = Client::of(settings).await;
    assert_eq!(client.ask().await.status, 200);
    let seen = client.ask().await;
    let millis: u64 = seen.headers["retry-after-ms"].parse().unwrap();
    assert!(seen.status == 429 && millis <= 1_000, "{millis}");
}

#[tokio::test]
async fn admission_by_input_and_by_the_greater_of_two() {
    for (admission, room) in [(Admission::Input, 500), (Admission::Max, 500), (Admission::Max, 30)]
    {
        let client = Client::of(Settings { admission, ..Settings::default() }).await;
        let seen = client.ask_with(USER, &json!({ "max_completion_tokens": room })).await;
        let expected = match admission {
            Admission::Input => seen.usage("prompt_tokens"),
            _ => seen.usage("total_tokens").max(room),
        };
        assert!(seen.usage("total_tokens") < 500 && seen.usage("total_tokens") > 30);
        assert_eq!(client.running.stats().charged_tokens, expected, "{admission:?} {room}");
    }
}

#[tokio::test]
async fn admission_by_max_tokens_charges_the_room_and_not_the_reply() {
    let settings = Settings { admission: Admission::MaxTokens, ..Settings::default() };
    let client = Client::of(settings).await;
    let seen = client.ask_with(USER, &json!({"max_completion_tokens": 500})).await;
    assert_eq!(client.running.stats().charged_tokens, seen.usage("prompt_tokens") + 500);
}

#[tokio::test]
async fn a_reply_longer_than_its_room_is_cut() {
    let settings = Settings { hidden_output_tokens: 40, ..Settings::default() };
    let client = Client::of(settings).await;
    let room = 40 + count_tokens(ANSWER) - 1;
    let seen = client.ask_with(USER, &json!({"max_completion_tokens": room})).await;
    assert_eq!((seen.content(), seen.finish()), ("417:A\n902", "length"));
    assert_eq!(seen.usage("completion_tokens"), u64::from(room));
    assert_eq!(seen.body["usage"]["completion_tokens_details"]["reasoning_tokens"], 40);
    let stats = client.stats_once(|stats| stats.answered == 1).await;
    assert_eq!(stats.rows_answered, 1);
    let seen = client.ask_with(USER, &json!({"max_tokens": 30})).await;
    assert_eq!((seen.content(), seen.finish()), ("", "length"));
}

#[tokio::test]
async fn refused_parameters_are_answered_400_by_name() {
    let refuse_parameters = vec![RefusedParameter::ReasoningEffort];
    let client = Client::of(Settings { refuse_parameters, ..Settings::default() }).await;
    let seen = client.ask_with(USER, &json!({"reasoning_effort": "low"})).await;
    assert_eq!((seen.status, &seen.body["error"]["param"]), (400, &json!("reasoning_effort")));
    assert_eq!(client.ask().await.status, 200);
    let stats = client.running.stats();
    assert_eq!((stats.bad_requests, stats.requests, stats.rows_asked), (1, 2, 2));
}

#[tokio::test]
async fn a_marked_row_refuses_the_whole_request() {
    let marked = Settings { refuse_marker: Some("rate do".into()), ..Settings::default() };
    let client = Client::of(marked.clone()).await;
    let seen = client.ask().await;
    assert_eq!((seen.status, seen.content(), seen.finish()), (200, "", "content_filter"));
    assert_eq!(client.ask_with("417\tmy card\n", &json!({})).await.content(), "417:A");
    let client = Client::of(Settings { refusal: Refusal::Status, ..marked }).await;
    let seen = client.ask().await;
    assert_eq!(
        (seen.status, &seen.body["error"]["code"]),
        (400, &json!("content_policy_violation"))
    );
    let stats = client.stats_once(|stats| stats.refused == 1).await;
    assert_eq!((stats.rows_asked, stats.rows_answered), (2, 0));
}

#[tokio::test]
async fn gold_answers_before_the_scorer() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"q,a\nwhere is my card,exchange rate\n").unwrap();
    let settings = Settings {
        gold: Some(file.path().to_owned()),
        gold_text_column: "q".into(),
        gold_label_column: "a".into(),
        ..Settings::default()
    };
    assert_eq!(Client::of(settings).await.ask().await.content(), "417:B\n902:B");
}

#[tokio::test]
async fn row_faults_leave_the_answer_readable_and_the_rows_unanswered() {
    for (faults, content) in [
        (Faults { drop_row: 1.0, ..Faults::default() }, ""),
        (Faults { repeat_row: 1.0, ..Faults::default() }, "417:A\n417:B\n902:B\n902:A"),
        (Faults { unknown_code: 1.0, ..Faults::default() }, "417:zq9\n902:zq9"),
    ] {
        let client = Client::of(with_faults(faults)).await;
        let seen = client.ask().await;
        assert_eq!((seen.status, seen.content()), (200, content));
        let stats = client.stats_once(|stats| stats.answered == 1).await;
        assert_eq!(stats.rows_answered, 0);
        client.ask().await;
        let stats = client.running.stats();
        assert_eq!((stats.rows_asked_again, stats.rows_answered_again), (2, 0));
    }
}

#[tokio::test]
async fn reply_faults_are_seen() {
    let client = Client::of(with_faults(Faults { cut: 1.0, ..Faults::default() })).await;
    let seen = client.ask().await;
    assert_eq!(seen.finish(), "length");
    assert!(ANSWER.starts_with(seen.content()) && seen.content() != ANSWER);
    let client = Client::of(with_faults(Faults { fence: 1.0, ..Faults::default() })).await;
    assert!(client.ask().await.content().contains(&format!("```json\n{ANSWER}\n```\n")));
    let client = Client::of(with_faults(Faults { refuse: 1.0, ..Faults::default() })).await;
    let message = &client.ask().await.body["choices"][0]["message"];
    assert!(message["content"].is_null() && message["refusal"].is_string());
}

#[tokio::test]
async fn injected_statuses_are_counted_apart() {
    let client = Client::of(with_faults(Faults { status_429: 1.0, ..Faults::default() })).await;
    let seen = client.ask().await;
    assert_eq!((seen.status, seen.headers["retry-after"].as_str()), (429, "1"));
    let stats = client.running.stats();
    assert_eq!((stats.injected_429, stats.rejected_429, stats.charged_tokens), (1, 0, 0));
    let client = Client::of(with_faults(Faults { status_500: 1.0, ..Faults::default() })).await;
    let seen = client.ask().await;
    assert_eq!((seen.status, &seen.body["error"]["type"]), (500, &json!("server_error")));
    let stats = client.running.stats();
    assert_eq!((stats.injected_500, stats.answered, stats.open_requests), (1, 0, 0));
    assert!(stats.charged_tokens > 0);
}

#[tokio::test]
async fn a_reset_breaks_off_after_half_of_the_body() {
    let client = Client::of(with_faults(Faults { reset: 1.0, ..Faults::default() })).await;
    let reply = client.request(USER, &json!({})).send().await.unwrap();
    assert_eq!(reply.status().as_u16(), 200);
    let announced = reply.content_length().unwrap();
    let mut reply = reply;
    let half = reply.chunk().await.unwrap().unwrap();
    assert_eq!(half.len() as u64, announced / 2);
    assert!(reply.chunk().await.is_err());
    let stats = client.running.stats();
    assert_eq!((stats.injected_resets, stats.rows_answered, stats.disconnects), (1, 0, 0));
}

#[tokio::test]
async fn a_hanging_request_ends_when_the_client_leaves() {
    let client = Client::of(with_faults(Faults { hang: 1.0, ..Faults::default() })).await;
    let asking = tokio::spawn(client.request(USER, &json!({})).send());
    client.stats_once(|stats| stats.open_requests == 1).await;
    asking.abort();
    let stats = client.stats_once(|stats| stats.disconnects == 1).await;
    assert_eq!((stats.injected_hangs, stats.open_requests), (1, 0));
    assert_eq!((stats.rows_open_at_disconnect, stats.answered), (2, 0));
}

#[tokio::test]
async fn a_client_that_leaves_during_the_latency_was_not_answered() {
    let client = Client::of(Settings { latency_ms: 600_000, ..Settings::default() }).await;
    let asking = tokio::spawn(client.request(USER, &json!({})).send());
    client.stats_once(|stats| stats.open_requests == 1).await;
    asking.abort();
    let stats = client.stats_once(|stats| stats.disconnects == 1).await;
    assert_eq!((stats.rows_open_at_disconnect, stats.rows_answered), (2, 0));
}

#[tokio::test]
async fn latency_is_kept() {
    let settings = Settings { latency_ms: 30, ms_per_output_token: 5.0, ..Settings::default() };
    let client = Client::of(settings).await;
    let clock = crate::domain::clock::SystemClock::start();
    client.ask().await;
    let least = Duration::from_millis(30 + 5 * u64::from(count_tokens(ANSWER)));
    assert!(crate::domain::Clock::now(&clock).0 >= least);
}

#[tokio::test]
async fn a_row_that_was_answered_and_is_asked_again_is_told() {
    let client = Client::of(Settings::default()).await;
    client.ask().await;
    client.stats_once(|stats| stats.answered == 1).await;
    client.ask().await;
    let stats = client.running.stats();
    assert_eq!((stats.rows_distinct, stats.rows_answered_again), (2, 2));
}

#[tokio::test]
async fn a_reply_that_was_never_read_explains_why_its_rows_are_asked_again() {
    // Not every system tells by a reset that bytes were left unread.
    let longest = if cfg!(target_os = "linux") { GRACE * 2 } else { Duration::ZERO };
    for wait in [Duration::ZERO, longest] {
        let client = Client::of(Settings::default()).await;
        let connection = client.sent().await;
        client.stats_once(|stats| stats.answered == 1).await;
        // Its bytes are there once they can be peeked at; they stay unread.
        connection.peek(&mut [0]).await.unwrap();
        tokio::time::sleep(wait).await;
        drop(connection);
        client.stats_once(|stats| stats.rows_unconfirmed_at_disconnect == 2).await;
        client.ask().await;
        assert_eq!(rows_again(&client.running.stats()), (2, 2, 0));
        assert_eq!(client.running.stats().rows_open_at_disconnect, 0);
    }
}

#[tokio::test]
async fn a_reply_that_was_read_at_leisure_does_not() {
    let client = Client::of(Settings::default()).await;
    let mut connection = client.sent().await;
    read_reply(&mut connection).await;
    // The grace itself has to pass; no event tells of it.
    tokio::time::sleep(GRACE * 2).await;
    leave(connection).await;
    client.ask().await;
    assert_eq!(rows_again(&client.running.stats()), (2, 0, 2));
}

#[tokio::test]
async fn a_client_that_leaves_on_the_reply_may_not_have_used_it() {
    let client = Client::of(Settings::default()).await;
    // A busy machine may let the grace pass before the client has left, though not every time.
    for _ in 0..20 {
        let mut connection = client.sent().await;
        read_reply(&mut connection).await;
        leave(connection).await;
        if client.running.stats().rows_unconfirmed_at_disconnect > 0 {
            break;
        }
    }
    let (_, unconfirmed, unexplained) = rows_again(&client.running.stats());
    client.ask().await;
    assert_eq!(unconfirmed, 2);
    assert_eq!(client.running.stats().rows_asked_again_unexplained, unexplained);
}

#[tokio::test]
async fn a_further_request_confirms_the_reply_before_it() {
    let client = Client::of(Settings::default()).await;
    let mut connection = client.sent().await;
    read_reply(&mut connection).await;
    connection.write_all(b"POST").await.unwrap();
    leave(connection).await;
    client.ask().await;
    assert_eq!(rows_again(&client.running.stats()), (2, 0, 2));
}

#[tokio::test]
async fn a_connection_that_the_server_closes_leaves_nothing_unconfirmed() {
    let client = Client::of(Settings::default()).await;
    let asked = client.http.post(client.url("/v1/chat/completions")).header("connection", "close");
    asked.body(asking(USER).to_string()).send().await.unwrap().text().await.unwrap();
    client.ask().await;
    assert_eq!(rows_again(&client.running.stats()), (2, 0, 2));
}

#[tokio::test]
async fn stats_and_models_are_served_and_reset() {
    let client = Client::of(Settings::default()).await;
    client.ask().await;
    client.stats_once(|stats| stats.answered == 1).await;
    let get = async |path: &str| -> Value {
        let reply = client.http.get(client.url(path)).send().await.unwrap();
        serde_json::from_str(&reply.text().await.unwrap()).unwrap()
    };
    let stats: Stats = serde_json::from_value(get("/stats").await).unwrap();
    assert_eq!(stats, client.running.stats());
    assert_eq!(stats.requests, 1);
    assert_eq!(get("/v1/models").await["data"][0]["id"], "simulated");
    assert_eq!(get("/v2").await["error"]["type"], "invalid_request_error");
    client.http.post(client.url("/stats/reset")).send().await.unwrap();
    let charged = (stats.fullest_minute_tokens, stats.fullest_minute_requests);
    let stats = client.running.stats();
    assert_eq!((stats.requests, stats.rows_distinct, stats.answered), (0, 0, 0));
    assert_eq!((stats.fullest_minute_tokens, stats.fullest_minute_requests), charged);
}

#[tokio::test]
async fn the_same_seed_meets_the_same_fates() {
    let faults = Faults { drop_row: 0.5, shuffle: 0.5, cut: 0.3, ..Faults::default() };
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let client = Client::of(Settings { seed, ..with_faults(faults) }).await;
        let mut contents = Vec::new();
        for _ in 0..12 {
            contents.push(client.ask().await.content().to_owned());
        }
        runs.push(contents);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn a_foreign_or_broken_request_is_answered_400() {
    let client = Client::of(Settings::default()).await;
    let post =
        |body: &str| client.http.post(client.url("/v1/chat/completions")).body(body.to_owned());
    for body in ["{", r#"{"messages":[{"role":"system","content":"Be kind."}]}"#] {
        assert_eq!(post(body).send().await.unwrap().status().as_u16(), 400);
    }
    assert_eq!(client.running.stats().bad_requests, 2);
}

#[tokio::test]
async fn a_shutdown_answers_what_is_open_and_frees_the_port() {
    let client = Client::of(with_faults(Faults { hang: 1.0, ..Faults::default() })).await;
    let asking = tokio::spawn(client.request(USER, &json!({})).send());
    client.stats_once(|stats| stats.open_requests == 1).await;
    let port = client.running.address().port();
    client.running.shutdown().await;
    assert_eq!(asking.await.unwrap().unwrap().status().as_u16(), 503);
    assert!(serve(Settings::default(), port).await.is_ok());
}

#[tokio::test]
async fn a_taken_port_and_a_bad_setting_are_refused_in_words() {
    let running = serve(Settings::default(), 0).await.unwrap();
    let port = running.address().port();
    let error = serve(Settings::default(), port).await.err().unwrap();
    assert!(error.to_string().starts_with(&format!("can't listen on 127.0.0.1:{port}")));
    let error = serve(with_faults(Faults { cut: 2.0, ..Faults::default() }), 0).await;
    assert!(matches!(error, Err(SimulateError::Settings(_))));
}
