//! An upstream that does what the test says, and remembers every byte it got.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::gateway::PATIENCE;

/// The operator's own key at the upstream: a canary that no client may ever see.
pub const KEY: &str = "sk-upstream-canary-0123456789";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Body after transfer decoding.
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the upstream does, after the request has arrived.
pub type Script = dyn Fn(&Seen, &mut TcpStream) + Send + Sync;

/// A scripted server on loopback. Its threads end with the process.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// Answers every request with `script`, then closes the connection.
    pub fn start(script: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), script)
    }

    /// As [`Upstream::start`], at an address that somebody knows already.
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&Seen, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, script): (_, Arc<Script>) = (Arc::clone(&seen), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), log, script) = (stream, Arc::clone(&log), Arc::clone(&script)) else {
                    return;
                };
                thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    if let Some(request) = read_request(&mut stream) {
                        log.lock().unwrap().push(request.clone());
                        script(&request, &mut stream);
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// Answers like OpenAI or Anthropic would: 10 input tokens, 5 output tokens, streamed if asked.
    pub fn friendly() -> Self {
        Self::start(|request, stream| {
            let _ = stream.write_all(&friendly_answer(request));
        })
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Number of requests so far.
    pub fn hits(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// What a friendly call costs at the usual prices, in nano units: 10 x 1000 + 5 x 4000.
pub const FRIENDLY_COST: i64 = 30_000;

/// Bytes of a plain answer with `Content-Length`.
pub fn plain(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Head of an event stream that ends with the connection.
pub const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

/// Sends parts with a pause between them, so that they arrive apart.
pub fn drip(stream: &mut TcpStream, parts: &[&str], pause: Duration) {
    for part in parts {
        if stream.write_all(part.as_bytes()).is_err() {
            return;
        }
        thread::sleep(pause);
    }
}

/// What a friendly upstream answers, up to the end of the connection.
pub fn friendly_answer(request: &Seen) -> Vec<u8> {
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let streams = body["stream"] == true;
    match (request.target.as_str(), streams) {
        ("/v1/messages", false) => plain(
            200,
            "application/json",
            r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"five words are said here"}],"stop_reason":"end_turn","usage":{"input_tokens":10,"output_tokens":5}}"#,
        ),
        ("/v1/messages", true) => {
            let events = [
                r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"c","content":[],"usage":{"input_tokens":10,"output_tokens":1}}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"five words are said here"}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
                r#"{"type":"message_stop"}"#,
            ];
            let events: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
            format!("{STREAM_HEAD}{events}").into_bytes()
        }
        (_, true) => {
            let usage = if body["stream_options"]["include_usage"] == true {
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n"
            } else {
                ""
            };
            format!(
                "{STREAM_HEAD}data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"five words are said here\"}}}}]}}\n\n{usage}data: [DONE]\n\n"
            )
            .into_bytes()
        }
        (_, false) => plain(
            200,
            "application/json",
            r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"five words are said here"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#,
        ),
    }
}

pub(crate) fn read_request(stream: &mut impl Read) -> Option<Seen> {
    let mut raw = Vec::new();
    let mut buffer = [0; 64 * 1024];
    let end = loop {
        if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => raw.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = raw.split_off(end + 4);
    while body.len() < length {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => body.extend_from_slice(&buffer[..count]),
        }
    }
    Some(Seen { method, target, headers, body })
}
