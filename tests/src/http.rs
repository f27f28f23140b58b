//! A plain HTTP/1.1 client: what it sends is what the test wrote, what it got is all there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::gateway::{PATIENCE, nano};

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Body after transfer decoding.
    pub body: Vec<u8>,
    /// Trailers of a chunked answer.
    pub trailers: Vec<(String, String)>,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that must be there.
    #[track_caller]
    pub fn must(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name}: {} {}", self.status, self.text()))
    }

    /// Nano units of an amount of play money in a header: `0.000030000 TEST`.
    #[track_caller]
    pub fn told(&self, name: &str) -> i64 {
        let amount = self.must(name).strip_suffix(" TEST").unwrap();
        nano(&Value::from(amount))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The code of a refusal; empty for an answer that is none.
    pub fn refusal(&self) -> String {
        let problem = self.header("content-type") == Some("application/problem+json");
        if problem { self.code() } else { String::new() }
    }

    /// The code of a refusal, wherever its dialect puts it.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request with `Host`, and `Content-Length` where there is a body, on a connection of its own.
pub fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    try_request(address, method, target, headers, body)
        .unwrap_or_else(|| panic!("no answer to {method} {target}"))
}

/// GET.
pub fn get(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Answer {
    request(address, "GET", target, headers, b"")
}

/// GET that may fail.
pub fn try_get(address: SocketAddr, target: &str) -> Option<Answer> {
    try_request(address, "GET", target, &[], b"")
}

/// POST of JSON.
pub fn post(address: SocketAddr, target: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    request(address, "POST", target, &all, body.to_string().as_bytes())
}

/// A request that may get no answer.
pub fn try_request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    // The gateway may refuse before it has read all of it.
    let _ = stream.write_all(body);
    read_answer(&mut stream)
}

/// Sends bytes as they are and reads the answer to the end of the connection.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // The gateway may refuse before it has read all of it.
    let _ = stream.write_all(bytes);
    read_answer(&mut stream)
}

/// The bytes of a POST of JSON, on a connection that goes on.
pub fn posted(address: SocketAddr, target: &str, headers: &[(&str, &str)], body: &Value) -> String {
    let body = body.to_string();
    let mut text = format!("POST {target} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text
}

/// Posts JSON and hangs up as soon as `wanted` has been seen, or at once if that is empty.
pub fn leave_after(address: SocketAddr, target: &str, headers: &[(&str, &str)], body: &Value, wanted: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(posted(address, target, headers, body).as_bytes()).unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "ended before {wanted}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
}

/// Reads one answer to the end of the connection.
pub fn read_answer(stream: &mut impl Read) -> Option<Answer> {
    let mut raw = Vec::new();
    // A reset after the answer is not the answer's fault.
    let _ = stream.read_to_end(&mut raw);
    parse(&raw)
}

/// Reads a raw answer. `None` when there is no whole head.
pub fn parse(raw: &[u8]) -> Option<Answer> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<_> = lines.filter_map(field).collect();
    let rest = &raw[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let (body, trailers) = if chunked { unchunk(rest) } else { (rest.to_vec(), Vec::new()) };
    Some(Answer { status, headers, body, trailers })
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, Vec<(String, String)>) {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap_or("0"), 16).unwrap_or(0);
        rest = &rest[at + 2..];
        if size == 0 {
            let tail = String::from_utf8_lossy(rest).into_owned();
            return (body, tail.split("\r\n").filter_map(field).collect());
        }
        let have = size.min(rest.len());
        body.extend_from_slice(&rest[..have]);
        rest = rest.get(have + 2..).unwrap_or_default();
    }
    (body, Vec::new())
}
