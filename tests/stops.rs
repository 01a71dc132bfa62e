//! What ends a run at once, with which exit code, and what stays secret.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::support::{Scratch, Simulated, orders_config, orders_csv, read_parts, simulated_config};

/// A server that answers every request with the same status and body; returns its base URL.
fn answering(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            // The request is small: it is whole once its JSON body has closed.
            while !request.ends_with(b"}") {
                match stream.read(&mut buffer) {
                    Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    format!("http://{address}/v1")
}

fn model(base_url: &str) -> String {
    orders_config(&format!(
        "provider = \"openai\"\nname = \"gpt-4o-mini\"\nbase_url = \"{base_url}\"\n\
         api_key_env = \"SHOP_KEY\""
    ))
}

const KEY: &str = "sk-canary-4711-never-printed";

#[test]
fn a_rejected_key_stops_at_the_first_call_and_is_never_shown() {
    let scratch = Scratch::new();
    let url = answering(
        "401 Unauthorized",
        r#"{"error":{"message":"Incorrect API key: sk-canary-4711-never-printed","code":"invalid_api_key"}}"#,
    );
    scratch.write("orders.csv", &orders_csv(500));
    scratch.write("batchclass.toml", &model(&url));
    let mut command = scratch.command(&["orders.csv", "out", "--progress", "json"]);
    let output = command.env("SHOP_KEY", KEY).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr.matches("\"call_started\"").count(), 1, "{stderr}");
    assert!(stderr.contains("401"), "{stderr}");
    assert!(!stderr.contains("halved"), "no row is at fault: {stderr}");
    assert!(!stderr.contains(KEY), "{stderr}");
    assert_no_file_holds(&scratch.path("."), KEY);
}

#[test]
fn a_setting_that_the_provider_rejects_stops_even_a_small_job_and_blames_no_row() {
    let scratch = Scratch::new();
    let url = answering("400 Bad Request", r#"{"error":{"message":"Invalid model name"}}"#);
    scratch.write("orders.csv", &orders_csv(3));
    scratch.write("batchclass.toml", &model(&url));
    for _ in 0..4 {
        let mut command = scratch.command(&["orders.csv", "out"]);
        let output = command.env("SHOP_KEY", KEY).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{stderr}");
        assert!(stderr.contains("Invalid model name"), "{stderr}");
    }
    assert!(crate::support::part_files(&scratch.path("out")).is_empty());
}

#[test]
fn an_empty_account_stops_with_its_own_exit_code() {
    let scratch = Scratch::new();
    let url = answering(
        "429 Too Many Requests",
        r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
    );
    scratch.write("orders.csv", &orders_csv(500));
    scratch.write("batchclass.toml", &model(&url));
    let output = scratch.command(&["orders.csv", "out"]).env("SHOP_KEY", KEY).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_key_never_travels_in_the_clear() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(5));
    scratch.write("batchclass.toml", &model("http://models.example/v1"));
    let output = scratch.command(&["orders.csv", "out"]).env("SHOP_KEY", KEY).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("https"), "{stderr}");
    assert!(!scratch.path("out").exists());
}

#[test]
fn a_key_that_is_given_as_the_variables_name_is_not_shown() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(5));
    scratch.write("batchclass.toml", &model("https://models.example/v1"));
    let args = ["orders.csv", "out", "--api-key-env", KEY];
    let finished = scratch.batchclass(&args).expect_code(2);
    assert!(!finished.stderr.contains(KEY), "{}", finished.stderr);
    assert!(finished.stderr.contains("api_key_env"), "{}", finished.stderr);
}

#[test]
fn a_missing_key_is_named_by_its_variable() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(5));
    scratch.write("batchclass.toml", &model("https://models.example/v1"));
    let finished = scratch.batchclass(&["orders.csv", "out"]).expect_code(2);
    assert!(finished.stderr.contains("SHOP_KEY"), "{}", finished.stderr);
    assert!(!scratch.path("out").exists());
}

#[test]
fn a_sort_is_left_for_the_next_run_of_a_job_that_stopped_and_removed_when_it_is_done() {
    let scratch = Scratch::new();
    let in_order = orders_csv(30_000);
    let (header, rows) = in_order.split_once('\n').unwrap();
    let rows: Vec<&str> = rows.lines().rev().collect();
    scratch.write("orders.csv", &format!("{header}\n{}\n", rows.join("\n")));
    std::fs::create_dir(scratch.path("temp")).unwrap();
    let args =
        ["orders.csv", "out", "--limit", "30", "--sort-memory", "1MiB", "--temp-dir", "temp"];
    let sorts = || {
        let entries = std::fs::read_dir(scratch.path("temp")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    let url = answering("401 Unauthorized", r#"{"error":{"code":"invalid_api_key"}}"#);
    scratch.write("batchclass.toml", &model(&url));
    let stopped = || scratch.command(&args).env("SHOP_KEY", KEY).output().unwrap();
    assert_eq!(stopped().status.code(), Some(4));
    let left = sorts();
    assert_eq!(left.len(), 1, "the sort stays");
    assert_eq!(stopped().status.code(), Some(4));
    assert_eq!(sorts(), left, "the same sort was read again");

    let server = Simulated::start(&[]);
    scratch.write("batchclass.toml", &simulated_config(&server));
    scratch.batchclass(&args).expect_code(0);
    assert_eq!(sorts(), Vec::<String>::new());
    let ids: Vec<i64> = read_parts(&scratch.path("out")).iter().map(|row| row.id).collect();
    assert_eq!(ids, (0..30).map(|row| 10 + 3 * row).collect::<Vec<_>>());
}

fn assert_no_file_holds(folder: &std::path::Path, secret: &str) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_file_holds(&path, secret);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{} holds the key", path.display());
    }
}
