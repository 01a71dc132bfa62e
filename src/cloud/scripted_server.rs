//! A server on loopback that answers with what a test wrote down, one request after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use super::Bucket;
use crate::domain::spec::CloudSpec;
use crate::domain::{Location, ObjectUrl};

/// Secrets that no message may hold.
pub(crate) const SECRETS: [&str; 2] = ["AKIASCRIPTED", "scripted/secret"];

/// Answers the last reply again and again.
pub(crate) struct ScriptedServer {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ScriptedServer {
    /// A server with these replies, such as `503 Slow Down\r\nETag: "x"`, each with its body.
    pub(crate) fn start(replies: &[(&str, &str)]) -> ScriptedServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&asked);
        let replies: Vec<(String, String)> =
            replies.iter().map(|(head, body)| (head.to_string(), body.to_string())).collect();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut reader = BufReader::new(stream.unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap() <= 2 {
                        break;
                    }
                    let line = line.to_ascii_lowercase();
                    if let Some(bytes) = line.strip_prefix("content-length:") {
                        length = bytes.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                reader.read_exact(&mut vec![0; length]).unwrap();
                heads.lock().unwrap().push(head);
                let (head, body) = &replies[number.min(replies.len() - 1)];
                let length = body.len();
                let reply = format!(
                    "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                reader.get_mut().write_all(reply.as_bytes()).unwrap();
            }
        });
        ScriptedServer { address, asked }
    }

    /// How it is reached.
    pub(crate) fn spec(&self) -> CloudSpec {
        let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].into_iter().zip(SECRETS);
        CloudSpec {
            endpoint_url: Some(self.address.clone()),
            environment: keys.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ..CloudSpec::default()
        }
    }

    pub(crate) fn bucket(&self) -> Bucket {
        Bucket::connect(&url("s3://box/out"), &self.spec()).unwrap()
    }

    /// The heads of the requests so far, in lower case.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A URL that is one.
pub(crate) fn url(typed: &str) -> ObjectUrl {
    match Location::parse(typed.as_ref()).unwrap() {
        Location::Object(url) => url,
        Location::Path(path) => panic!("{} is a path", path.display()),
    }
}
