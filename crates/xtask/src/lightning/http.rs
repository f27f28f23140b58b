//! One request to a loopback port and its whole answer. Small on purpose: it is what a payer without any library does.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest silence. A payment over one channel takes less than a second.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Nothing that is asked for here is longer.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Status, headers in their order, body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("no JSON ({error}), status {}", self.status))
    }

    /// Values of a header, in their order.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }
}

pub(super) fn get(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
    ask(port, "GET", path, headers, None)
}

pub(super) fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &Value) -> Result<Answer, String> {
    ask(port, "POST", path, headers, Some(body))
}

fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Result<Answer, String> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    let exchange = || -> std::io::Result<Vec<u8>> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = exchange().map_err(|error| format!("{method} {path}: {error}"))?;
    parse(&bytes).ok_or_else(|| format!("{method} {path}: the answer is no HTTP"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (bytes.get(..end)?, bytes.get(end + 4..)?);
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    let headers = lines.map(header).collect::<Option<_>>()?;
    let mut answer = Answer { status, headers, body: Vec::new() };
    let chunked = answer.all("transfer-encoding").any(|value| value.eq_ignore_ascii_case("chunked"));
    answer.body = if chunked { joined(body)? } else { body.to_vec() };
    Some(answer)
}

/// A chunked body in one piece. `None`: it was cut off.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(chunks.get(..line)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = line + 2;
        body.extend(chunks.get(start..start.checked_add(size)?)?);
        chunks = chunks.get(start + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn parse_table() {
        let plain = parse(b"HTTP/1.1 402 Payment Required\r\nA: 1\r\na: 2\r\n\r\nbody").unwrap();
        assert_eq!((plain.status, plain.body.as_slice()), (402, b"body".as_slice()));
        assert_eq!(plain.all("a").collect::<Vec<_>>(), ["1", "2"]);
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body, b"abc");
        assert!(parse(chunked.get(..chunked.len() - 8).unwrap()).is_none(), "a body that is cut off");
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_none());
    }
}
