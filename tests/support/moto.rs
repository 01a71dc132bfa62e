//! A real S3 server for tests: moto, started once for the process and gone with it.
//!
//! It is `python3 -m moto.server` by what `python3` is on the path. Where that has no moto the tests
//! that want it say so and pass; `.ci/run` installs it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::Duration;

/// Ends when its stdin does, so when the tests' process ends in whatever way.
const SERVER: &str = "
import os, sys, threading
import moto.server
def wait():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=wait, daemon=True).start()
moto.server.main(['-H', '127.0.0.1', '-p', '0'])
";

/// Keys that moto takes as it takes any; canaries that must not be shown.
pub const KEY_ID: &str = "AKIACANARY7Q3XK2";
pub const SECRET_KEY: &str = "canary/secret+5Ywq0rT9";

pub struct Moto {
    address: String,
    log: Arc<Log>,
    _stdin: ChildStdin,
}

/// What the server has said, as far as it was read.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grew: Condvar,
}

/// A bucket of its own for one test.
pub struct TestBucket {
    moto: &'static Moto,
    pub name: String,
}

/// A new bucket; `None`, and a word on stderr, where there is no moto.
pub fn bucket() -> Option<TestBucket> {
    static MOTO: OnceLock<Option<Moto>> = OnceLock::new();
    static BUCKETS: AtomicU32 = AtomicU32::new(0);
    let Some(moto) = MOTO.get_or_init(start) else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: python3 has no moto (pip install moto[server,s3])"
        );
        return None;
    };
    let number = BUCKETS.fetch_add(1, Ordering::Relaxed);
    let bucket = TestBucket { moto, name: format!("box-{number}") };
    assert_eq!(bucket.request("PUT", "", b"").0, 200);
    Some(bucket)
}

fn start() -> Option<Moto> {
    let mut child = Command::new("python3")
        .args(["-c", SERVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let stdin = child.stdin.take()?;
    let stderr = child.stderr.take()?;
    let log = Arc::new(Log::default());
    let (said, address) = mpsc::channel();
    let heard = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("Running on http://") {
                let _ = said.send(address.trim().to_owned());
            }
            heard.lines.lock().unwrap().push(line);
            heard.grew.notify_all();
        }
    });
    // The sender goes with the server's stderr, so a server that can't start ends the wait.
    let address = address.recv().ok()?;
    Some(Moto { address, log, _stdin: stdin })
}

impl TestBucket {
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.moto.address)
    }

    pub fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.name)
    }

    /// The variables that lead a program to it.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        assert_eq!(self.request("PUT", key, bytes).0, 200, "{key}");
    }

    pub fn delete(&self, key: &str) {
        assert_eq!(self.request("DELETE", key, b"").0, 204, "{key}");
    }

    pub fn get(&self, key: &str) -> Vec<u8> {
        let (status, body) = self.request("GET", key, b"");
        assert_eq!(status, 200, "{key}");
        body
    }

    /// All keys that begin with `prefix`, with the objects' bytes.
    pub fn objects(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let (status, body) = self.request("GET", &format!("?list-type=2&prefix={prefix}"), b"");
        assert_eq!(status, 200);
        let listing = String::from_utf8(body).unwrap();
        let keys = listing.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap());
        keys.map(|key| (key.to_owned(), self.get(key))).collect()
    }

    /// How many requests of this kind, not HEAD, the bucket has had.
    pub fn count(&self, method: &str) -> usize {
        static MARKS: AtomicU32 = AtomicU32::new(0);
        // The server says what it answers before it answers, so all is read once this is.
        let mark = format!("mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
        self.request("HEAD", &mark, b"");
        let mark = format!("/{}/{mark} ", self.name);
        let Log { lines, grew } = &*self.moto.log;
        let unread = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(&mark));
        let within = Duration::from_secs(30);
        let (lines, waited) =
            grew.wait_timeout_while(lines.lock().unwrap(), within, unread).unwrap();
        assert!(!waited.timed_out(), "the server's log does not come");
        // Some versions of the server colour what is not 200.
        let start = format!("{method} /{}/", self.name);
        lines.iter().filter(|line| line.contains(&start)).count()
    }

    fn request(&self, method: &str, key: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.moto.address).unwrap();
        // Unsigned requests see public objects only; signatures are not checked.
        let head = format!(
            "{method} /{}/{key} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\nAuthorization: \
             AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\r\n",
            self.name,
            self.moto.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let end = reply.windows(4).position(|at| at == b"\r\n\r\n").expect("a reply has a head");
        let head = String::from_utf8_lossy(&reply[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a reply has a status"), reply.split_off(end + 4))
    }
}
