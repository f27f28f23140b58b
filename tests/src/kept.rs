//! An upstream that keeps its connections open and knows which request came on which.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::gateway::PATIENCE;
use crate::upstream::{Seen, read_request};

/// One request and the number of the connection it came on, from 0.
pub type Numbered = (usize, Seen);

/// Whether the connection goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Wait for the next request.
    Keep,
    /// Close.
    Close,
}

/// A scripted server on loopback. Its threads end with the process.
pub struct Kept {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Numbered>>>,
    connections: Arc<AtomicUsize>,
}

impl Kept {
    /// Answers every request with `script`.
    pub fn start(script: impl Fn(&Seen, &mut TcpStream) -> Then + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Self { address, seen: Arc::default(), connections: Arc::default() };
        let (seen, connections, script) =
            (Arc::clone(&kept.seen), Arc::clone(&kept.connections), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    while let Some(request) = read_request(&mut stream) {
                        seen.lock().unwrap().push((number, request.clone()));
                        if script(&request, &mut stream) == Then::Close {
                            return;
                        }
                    }
                });
            }
        });
        kept
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Numbered> {
        self.seen.lock().unwrap().clone()
    }

    /// Number of requests so far.
    pub fn hits(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A friendly document with a length, for a connection that goes on.
pub fn document() -> Vec<u8> {
    let body = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"five words are said here"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One chunk of a chunked body.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    framed
}

/// Head of a chunked event stream.
pub const CHUNKED_STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
