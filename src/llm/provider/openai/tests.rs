//! Over real HTTP on loopback: a server that says exactly the bytes it is told to.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::spec::{AnswerForm, KeySource, ProviderKind, Vocabulary};
use crate::domain::{Tokens, UnixMillis};
use crate::llm::dialect::Dialect;
use crate::llm::provider::{Finish, ResponseFormat};

const KEY: &str = "sk-test-4f9c2d7e";
const ROW: &str = "12 Queen's Road, Brighton";

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> crate::domain::Moment {
        crate::domain::Moment::default()
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_790_000_000_000)
    }
}

/// What the server does with a connection after it has read a request.
#[derive(Clone)]
enum Then {
    /// Sends these bytes and closes.
    Send(Vec<u8>),
    /// Sends these bytes and says nothing more, but stays.
    SendAndHang(Vec<u8>),
    /// Sends these bytes for every request on the connection.
    KeepAlive(Vec<u8>),
}

struct Server {
    base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    async fn start(then: Then) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (seen, count) = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().unwrap() += 1;
                tokio::spawn(serve(stream, then.clone(), Arc::clone(&seen)));
            }
        });
        Server { base_url, requests, connections }
    }

    fn request(&self) -> String {
        self.requests.lock().unwrap()[0].clone()
    }
}

async fn serve(mut stream: TcpStream, then: Then, seen: Arc<Mutex<Vec<String>>>) {
    loop {
        let Some(request) = read_request(&mut stream).await else { return };
        seen.lock().unwrap().push(request);
        match &then {
            Then::Send(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Then::SendAndHang(bytes) => {
                let _ = stream.write_all(bytes).await;
                std::future::pending::<()>().await;
            }
            Then::KeepAlive(bytes) => {
                let _ = stream.write_all(bytes).await;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Some(text);
            }
        }
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         {headers}\r\n{body}"
    )
    .into_bytes()
}

fn spec(base_url: &str) -> ModelSpec {
    ModelSpec {
        provider: ProviderKind::Openai,
        name: "gpt-4o-mini".into(),
        base_url: base_url.to_owned(),
        api_key_env: None,
        vocabulary: Vocabulary::O200k,
        answer_form: AnswerForm::Array,
        key: KeySource::Random,
        reasoning_effort: None,
        max_output_tokens: Tokens(16_384),
        fit: None,
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(20),
        reply_timeout: Duration::from_secs(20),
    }
}

fn provider(spec: &ModelSpec) -> OpenAi {
    OpenAi::new(spec, Some(ApiKey::new(KEY).unwrap()), Arc::new(FixedClock)).unwrap()
}

fn request() -> ChatRequest {
    ChatRequest {
        system: "Classify.".into(),
        user: format!("417\t{ROW}\n"),
        format: ResponseFormat::Schema(Arc::new(serde_json::json!({ "type": "object" }))),
        max_completion_tokens: Tokens(40),
        dialect: Dialect::for_model("gpt-5-mini", AnswerForm::Array, None).with_zero_temperature(),
    }
}

async fn ask(then: Then) -> Result<ChatReply, ProviderError> {
    let server = Server::start(then).await;
    let answer = provider(&spec(&server.base_url)).ask(&request()).await;
    if let Err(error) = &answer {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(KEY), "{shown}");
        assert!(!shown.contains("Queen"), "{shown}");
    }
    answer
}

async fn refused(status: &str, headers: &str, body: &str) -> ProviderError {
    ask(Then::Send(response(status, headers, body))).await.unwrap_err()
}

const COMPLETION: &str = r#"{
    "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini-2024-07-18",
    "choices": [{
        "index": 0, "finish_reason": "stop", "logprobs": null,
        "message": { "role": "assistant", "content": "{\"r\":[\"417:B\"]}", "refusal": null }
    }],
    "usage": {
        "prompt_tokens": 812, "completion_tokens": 9, "total_tokens": 821,
        "prompt_tokens_details": { "cached_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0 }
    },
    "service_tier": "default"
}"#;

#[tokio::test]
async fn a_completion_is_read_with_usage_and_limits() {
    let headers = "x-ratelimit-limit-tokens: 200000\r\nx-ratelimit-reset-tokens: 1.5s\r\n";
    let server = Server::start(Then::Send(response("200 OK", headers, COMPLETION))).await;
    let reply = provider(&spec(&server.base_url)).ask(&request()).await.unwrap();
    assert_eq!(reply.content, r#"{"r":["417:B"]}"#);
    assert_eq!(reply.finish, Finish::Stop);
    assert_eq!(reply.usage.unwrap().total(), Tokens(821));
    assert_eq!(reply.model.as_deref(), Some("gpt-4o-mini-2024-07-18"));
    assert_eq!(reply.rate.tokens.limit, Some(200_000));
    assert_eq!(reply.rate.tokens.reset, Some(Duration::from_millis(1500)));

    let sent = server.request();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("post /v1/chat/completions http/1.1"), "{head}");
    assert!(head.contains(&format!("authorization: bearer {KEY}")), "{head}");
    assert!(head.contains("accept-encoding: identity"), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["messages"][1]["content"], format!("417\t{ROW}\n"));
    assert!(body.get("stream").is_none() && body.get("n").is_none());
}

#[tokio::test]
async fn one_connection_serves_calls_one_after_another() {
    let server = Server::start(Then::KeepAlive(response("200 OK", "", COMPLETION))).await;
    let provider = provider(&spec(&server.base_url));
    for _ in 0..5 {
        provider.ask(&request()).await.unwrap();
    }
    assert_eq!(*server.connections.lock().unwrap(), 1);
    assert_eq!(server.requests.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_failed_call_is_not_sent_again() {
    for then in [
        Then::Send(response("503 Service Unavailable", "retry-after: 0\r\n", "{}")),
        Then::Send(Vec::new()),
        Then::Send(response("200 OK", "", COMPLETION)[..100].to_vec()),
    ] {
        let server = Server::start(then).await;
        provider(&spec(&server.base_url)).ask(&request()).await.unwrap_err();
        assert_eq!(server.requests.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn hundreds_of_calls_run_at_once() {
    let server = Server::start(Then::KeepAlive(response("200 OK", "", COMPLETION))).await;
    let provider = provider(&spec(&server.base_url));
    let request = request();
    let calls = (0..300).map(|_| provider.ask(&request));
    let replies = futures::future::join_all(calls).await;
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!(server.requests.lock().unwrap().len(), 300);
}

#[test]
fn clients_for_https_start_however_many_there_are() {
    for _ in 0..2 {
        match OpenAi::new(&spec("https://api.example.com/v1"), None, Arc::new(FixedClock)) {
            Ok(openai) => assert_eq!(openai.authority(), "api.example.com"),
            // A machine without root certificates is told so.
            Err(error) => assert!(error.to_string().contains("root certificates"), "{error}"),
        }
    }
}

#[tokio::test]
async fn the_end_of_a_reply_is_told() {
    for (choice, finish, content) in [
        (
            r#"{"message":{"content":"{\"r\":["},"finish_reason":"length"}"#,
            Finish::Length,
            "{\"r\":[",
        ),
        (r#"{"message":{"content":null},"finish_reason":"content_filter"}"#, Finish::Refused, ""),
        (
            r#"{"message":{"content":null,"refusal":"I can't"},"finish_reason":"stop"}"#,
            Finish::Refused,
            "",
        ),
        (r#"{"message":{"content":null},"finish_reason":"stop"}"#, Finish::Stop, ""),
        (r#"{"finish_reason":null}"#, Finish::Stop, ""),
    ] {
        let body = format!(r#"{{"choices":[{choice}]}}"#);
        let reply = ask(Then::Send(response("200 OK", "", &body))).await.unwrap();
        assert_eq!((reply.finish, reply.content.as_str()), (finish, content), "{choice}");
        assert_eq!(reply.usage, None);
    }
    let reply = ask(Then::Send(response("200 OK", "", r#"{"choices":[]}"#))).await.unwrap();
    assert_eq!((reply.finish, reply.content.as_str()), (Finish::Stop, ""));
}

#[tokio::test]
async fn a_reply_cut_at_any_byte_is_a_broken_connection() {
    let whole = response("200 OK", "", COMPLETION);
    for cut in [1, 20, whole.len() - COMPLETION.len(), whole.len() - 200, whole.len() - 1] {
        let error = ask(Then::Send(whole[..cut].to_vec())).await.unwrap_err();
        assert!(matches!(error, ProviderError::Connection { .. }), "cut at {cut}: {error:?}");
    }
    let unframed = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", &COMPLETION[..80]);
    let error = ask(Then::Send(unframed.into_bytes())).await.unwrap_err();
    assert!(matches!(error, ProviderError::Connection { .. }), "{error:?}");
}

#[tokio::test]
async fn a_captive_portal_is_a_passing_failure() {
    let page = "<html>Welcome to the hotel</html>";
    let bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    );
    let error = ask(Then::Send(bytes.into_bytes())).await.unwrap_err();
    assert!(matches!(error, ProviderError::ServerError { status: 200, .. }), "{error:?}");
    assert!(error.is_retryable());
    for body in [r#"{"hello":"world"}"#, "[]", "not json", r#""x""#] {
        let error = refused("200 OK", "", body).await;
        assert!(
            matches!(error, ProviderError::ServerError { status: 200, .. }),
            "{body}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_error_within_a_200_is_that_error() {
    let error = refused("200 OK", "", r#"{"error":{"code":429,"message":"slow down"}}"#).await;
    assert!(matches!(error, ProviderError::RateLimited { .. }), "{error:?}");
    let error = refused("200 OK", "", r#"{"error":{"code":"insufficient_quota"}}"#).await;
    assert!(matches!(error, ProviderError::OutOfQuota { .. }), "{error:?}");
    let error = refused("200 OK", "", r#"{"error":{"message":"upstream died"}}"#).await;
    assert!(matches!(error, ProviderError::ServerError { status: 502, .. }), "{error:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(Then::Send(response("200 OK", "", COMPLETION))).await;
    let location = format!("location: {}/chat/completions?token=x\r\n", other.base_url);
    let error = refused("308 Permanent Redirect", &location, "").await;
    assert!(matches!(error, ProviderError::Rejected { status: 308, .. }), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert!(!error.to_string().contains("token"), "{error}");
    let error = refused("302 Found", &location, "").await;
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(*other.connections.lock().unwrap(), 0);
}

#[tokio::test]
async fn an_endless_reply_is_given_up() {
    let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
    bytes.resize(bytes.len() + MAX_REPLY_BYTES + 100_000, b' ');
    let error = ask(Then::Send(bytes)).await.unwrap_err();
    assert!(matches!(error, ProviderError::ServerError { status: 200, .. }), "{error:?}");
    assert!(error.to_string().contains("8388608 bytes"), "{error}");
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let mut spec = spec("");
    for (then, read, whole) in [
        (Then::SendAndHang(Vec::new()), 20_000, 50),
        (Then::SendAndHang(response("200 OK", "", COMPLETION)[..200].to_vec()), 50, 20_000),
    ] {
        let server = Server::start(then).await;
        spec.base_url = server.base_url;
        spec.read_timeout = Duration::from_millis(read);
        spec.reply_timeout = Duration::from_millis(whole);
        let error = provider(&spec).ask(&request()).await.unwrap_err();
        let ProviderError::Timeout { after } = error else { panic!("{error:?}") };
        assert_eq!(after, Duration::from_millis(50));
    }
}

#[tokio::test]
async fn a_closed_port_is_a_failed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = provider(&spec(&format!("http://{address}/v1"))).ask(&request()).await.unwrap_err();
    let ProviderError::Connection { message, was_sent: false } = &error else {
        panic!("{error:?}")
    };
    assert!(message.contains(&address.to_string()), "{message}");
    assert!(!message.contains("chat/completions"), "{message}");
}

#[tokio::test]
async fn the_name_localhost_means_this_machine() {
    let server = Server::start(Then::Send(response("200 OK", "", COMPLETION))).await;
    let named = server.base_url.replace("127.0.0.1", "localhost");
    assert!(provider(&spec(&named)).ask(&request()).await.is_ok());
}

#[test]
fn no_proxy_stands_between_this_machine_and_itself() {
    // A process's environment can't be changed safely, so another one runs a test of this file.
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "llm::provider::openai::tests::the_name_localhost_means_this_machine"])
        .envs(["HTTP_PROXY", "ALL_PROXY", "http_proxy"].map(|name| (name, "http://127.0.0.1:1")))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(told.contains("1 passed"), "{told}");
}

#[tokio::test]
async fn each_status_has_its_mover() {
    for (status, kind, is_retryable) in [
        ("401 Unauthorized", "rejected", false),
        ("402 Payment Required", "out_of_quota", false),
        ("403 Forbidden", "rejected", false),
        ("404 Not Found", "rejected", false),
        ("408 Request Timeout", "server_error", true),
        ("409 Conflict", "server_error", true),
        ("413 Payload Too Large", "context_length", false),
        ("418 I'm a teapot", "rejected", false),
        ("425 Too Early", "server_error", true),
        ("429 Too Many Requests", "rate_limited", true),
        ("500 Internal Server Error", "server_error", true),
        ("503 Service Unavailable", "server_error", true),
        ("529 Overloaded", "server_error", true),
    ] {
        let error = refused(status, "", r#"{"error":{"message":"no"}}"#).await;
        assert_eq!((error.kind(), error.is_retryable()), (kind, is_retryable), "{status}");
    }
}

#[tokio::test]
async fn a_429_and_a_503_say_how_long_to_wait() {
    let headers = "retry-after: 1.5\r\nx-ratelimit-remaining-tokens: 12\r\n";
    let error = refused("429 Too Many Requests", headers, "{}").await;
    let ProviderError::RateLimited { retry_after, rate } = error else { panic!("{error:?}") };
    assert_eq!(retry_after, Some(Duration::from_millis(1500)));
    assert_eq!(rate.tokens.remaining, Some(12));
    let headers = "retry-after: Mon, 21 Sep 2026 14:13:50 GMT\r\n";
    let error = refused("503 Service Unavailable", headers, "<html>").await;
    let ProviderError::ServerError { retry_after, message, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(retry_after, Some(Duration::from_secs(30)));
    assert_eq!(message, "it answered with a web page");
}

#[tokio::test]
async fn no_money_is_told_from_too_fast() {
    for (status, body) in [
        (
            "429 Too Many Requests",
            r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"You exceeded your current quota"}}"#,
        ),
        (
            "429 Too Many Requests",
            r#"{"type":"error","error":{"type":"enforced_spend_limit_reached","message":"limit"}}"#,
        ),
        ("400 Bad Request", r#"{"error":{"code":"billing_hard_limit_reached","message":"limit"}}"#),
        (
            "400 Bad Request",
            r#"{"error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
        ),
    ] {
        let error = refused(status, "", body).await;
        assert!(matches!(error, ProviderError::OutOfQuota { .. }), "{body}: {error:?}");
    }
    // Gemini's words for a limit of the minute; the body is a list there.
    let body = r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"You exceeded your current quota, please check your plan and billing details."}}]"#;
    let error = refused("429 Too Many Requests", "", body).await;
    assert!(matches!(error, ProviderError::RateLimited { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refused_parameter_is_named() {
    for (body, expected) in [
        (
            r#"{"error":{"message":"Unsupported parameter: 'max_completion_tokens' is not supported with this model.","type":"invalid_request_error","param":"max_completion_tokens","code":"unsupported_parameter"}}"#,
            "max_completion_tokens",
        ),
        (
            r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0 with this model.","param":"temperature","code":"unsupported_value"}}"#,
            "temperature",
        ),
        (
            r#"{"error":{"message":"Unsupported value: 'reasoning_effort' does not support 'none' with this model.","param":"reasoning_effort"}}"#,
            "reasoning_effort",
        ),
        (
            r#"{"error":{"message":"Unrecognized request argument supplied: reasoning_effort","param":null}}"#,
            "reasoning_effort",
        ),
        (
            r#"{"error":{"message":"Invalid schema for response_format 'labels': In context=('properties', 'r', 'items'), 'pattern' is not permitted.","param":"response_format"}}"#,
            "pattern",
        ),
        (
            r#"{"error":{"message":"Invalid schema for response_format 'labels': In context=(), 'additionalProperties' is required to be supplied.","param":"response_format"}}"#,
            "schema",
        ),
        (
            r#"{"error":{"message":"Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.","param":null}}"#,
            "json_schema",
        ),
        (
            r#"{"error":{"message":"This response_format type is unavailable now","param":null}}"#,
            "json_schema",
        ),
        (
            r#"{"error":{"code":400,"message":"failed to parse grammar","type":"invalid_request_error"}}"#,
            "schema",
        ),
        (
            r#"{"object":"error","message":"Extra inputs are not permitted: max_completion_tokens","type":"BadRequestError","param":"None","code":400}"#,
            "max_completion_tokens",
        ),
        (
            r#"{"detail":[{"type":"extra_forbidden","loc":["body","reasoning_effort"],"msg":"Extra inputs are not permitted","input":"none"}]}"#,
            "reasoning_effort",
        ),
    ] {
        for status in ["400 Bad Request", "422 Unprocessable Entity"] {
            let error = refused(status, "", body).await;
            let ProviderError::ParameterRefused { parameter, .. } = error else {
                panic!("{body}: {error:?}")
            };
            assert_eq!(parameter, expected, "{body}");
        }
    }
}

#[tokio::test]
async fn a_limit_that_is_too_large_is_the_users_to_mend() {
    let body = r#"{"error":{"message":"max_tokens is too large: 99999. This model supports at most 16384 completion tokens.","param":"max_tokens","code":"invalid_value"}}"#;
    let error = refused("400 Bad Request", "", body).await;
    assert!(matches!(error, ProviderError::Rejected { status: 400, .. }), "{error:?}");
    assert!(error.to_string().contains("at most 16384"), "{error}");
}

#[tokio::test]
async fn length_and_content_are_told_from_parameters() {
    for (body, kind) in [
        (
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, you requested 9000 (max_tokens 500).","param":"messages","code":"context_length_exceeded"}}"#,
            "context_length",
        ),
        (
            r#"{"error":{"code":400,"type":"exceed_context_size_error","message":"the request exceeds the available context size","n_prompt_tokens":9000,"n_ctx":4096}}"#,
            "context_length",
        ),
        (
            r#"{"error":{"code":"content_filter","param":"prompt","message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            "content_refused",
        ),
        (r#"{"error":{"code":"content_policy_violation","message":"no"}}"#, "content_refused"),
        (r#"{"error":{"message":"Invalid 'messages'","param":"messages"}}"#, "rejected"),
        ("", "rejected"),
    ] {
        assert_eq!(refused("400 Bad Request", "", body).await.kind(), kind, "{body}");
    }
    let body = r#"{"error":{"code":"rate_limit_exceeded","message":"Request too large for gpt-4o: Limit 30000, Requested 40000"}}"#;
    assert_eq!(refused("429 Too Many Requests", "", body).await.kind(), "context_length");
}

#[tokio::test]
async fn what_was_not_sent_is_not_named() {
    let server = Server::start(Then::Send(response(
        "400 Bad Request",
        "",
        r#"{"error":{"message":"temperature and schema are odd today"}}"#,
    )))
    .await;
    let mut request = request();
    request.dialect = Dialect::default();
    request.format = ResponseFormat::Text;
    let error = provider(&spec(&server.base_url)).ask(&request).await.unwrap_err();
    assert!(matches!(error, ProviderError::Rejected { status: 400, .. }), "{error:?}");
}

#[tokio::test]
async fn no_error_repeats_the_key_or_a_row() {
    // `ask` looks for both in every error of these tests; here the server does its worst.
    for status in ["400 Bad Request", "401 Unauthorized", "429 Too Many Requests", "500 Oops"] {
        for body in [
            format!(
                r#"{{"error":{{"message":"key {KEY} is wrong","type":"insufficient_quota"}}}}"#
            ),
            format!(r#"{{"error":{{"message":"cannot read: 417\t{ROW}"}}}}"#),
            format!("plain {KEY} {ROW}"),
        ] {
            refused(status, &format!("location: http://{KEY}/\r\n"), &body).await;
        }
    }
    let location = format!("location: http://{KEY}.example.com/\r\n");
    refused("301 Moved Permanently", &location, "").await;
}

#[tokio::test]
async fn a_key_in_the_clear_is_refused_before_anything_is_sent() {
    let key = || Some(ApiKey::new(KEY).unwrap());
    let spec = spec("http://llm.example.com/v1");
    let Err(error) = OpenAi::new(&spec, key(), Arc::new(FixedClock)) else { panic!("accepted") };
    assert_eq!(error, ProviderSetupError::KeyInTheClear { host: "llm.example.com".into() });
    assert!(!format!("{error} {error:?}").contains(KEY));
    assert!(OpenAi::new(&spec, None, Arc::new(FixedClock)).is_ok());
}
