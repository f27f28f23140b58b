//! Heads of HTTP/1.1: a request's as it goes up, an answer's as it is read.

use std::io::Write as _;
use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::super::Outgoing;
use super::framing::{Chunks, Framing};

/// What most heads of a request take.
const HEAD_BYTES: usize = 512;
/// Fields of an answer at most.
const FIELDS_MAX: usize = 100;

/// The head of an answer, and what it says of the bytes behind it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether its connection may bring another answer.
    pub(super) keeps: bool,
}

/// Why the head of an answer is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// No status line, or a field that is none.
    #[error("{0}")]
    Syntax(httparse::Error),
    /// A name or a value that no field may have.
    #[error("a field that no head may have")]
    Field,
    /// Lengths that are none, or of which each is another.
    #[error("its length is not one number")]
    Length,
    /// HTTP/1.0 knows no codings.
    #[error("a coding in HTTP/1.0")]
    Coding,
}

/// The target of a request is none that a head may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target of the request is none")]
pub(crate) struct TargetError;

/// Writes the head of a request with a body of so many bytes.
///
/// # Errors
/// Its target is none: with a space or a line's end in it the head would say something else.
pub(super) fn write(request: &Outgoing<'_>, body_bytes: usize) -> Result<Vec<u8>, TargetError> {
    let target = request.target();
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TargetError);
    }
    let mut head = Vec::with_capacity(HEAD_BYTES.max(target.len() + HEAD_BYTES / 2));
    for part in [request.method().as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    request.fields(|name, value| {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    });
    if body_bytes > 0 {
        // Writing to memory does not fail.
        let _ = write!(head, "content-length: {body_bytes}\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Ok(head)
}

/// Where a head ends of which this much has come, `looked_at` bytes of it before. Lines may end in a bare line feed
/// (RFC 9112 section 2.2).
pub(super) fn end(come: &[u8], looked_at: usize) -> Option<usize> {
    let from = looked_at.saturating_sub(2);
    let mut lines = memchr::memchr_iter(b'\n', come.get(from..)?).map(|at| from + at + 1);
    lines.find_map(|line| match come.get(line..)? {
        [b'\n', ..] => Some(line + 1),
        [b'\r', b'\n', ..] => Some(line + 2),
        _ => None,
    })
}

/// Reads the head of an answer to a request with this method, from its first byte to its empty line.
pub(super) fn read(bytes: &Bytes, method: &Method) -> Result<Head, HeadError> {
    // Not filled before they are read: most answers have a few.
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let parsed = parser.parse_response_with_uninit_headers(&mut answer, bytes, &mut fields);
    match parsed.map_err(HeadError::Syntax)? {
        httparse::Status::Complete(read) if read == bytes.len() => {}
        httparse::Status::Complete(_) | httparse::Status::Partial => {
            return Err(HeadError::Syntax(httparse::Error::Status));
        }
    }
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(HeadError::Syntax(httparse::Error::Status))?;
    let mut headers = HeaderMap::with_capacity(answer.headers.len());
    for field in &*answer.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Field)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        headers.append(name, value.map_err(|_| HeadError::Field)?);
    }
    let is_newest = answer.version == Some(1);
    let length = length(&headers)?;
    let coding = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
    let is_bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || method == Method::HEAD;
    let framing = match (coding, length) {
        _ if is_bodiless => Framing::Length(0),
        (Some(_), _) if !is_newest => return Err(HeadError::Coding),
        (Some(coding), _) if is_chunked(coding) => Framing::Chunked(Chunks::default()),
        (None, Some(length)) => Framing::Length(length),
        (Some(_), _) | (None, None) => Framing::Close,
    };
    // An answer framed twice may be read differently by the next hop (security.md 1.3, 2.2).
    let is_framed_twice = coding.is_some() && length.is_some();
    let is_last = !is_newest || status.is_informational() || matches!(framing, Framing::Close);
    let keeps = !is_last && !is_framed_twice && !closes(&headers);
    Ok(Head { status, headers, framing, keeps })
}

/// Whether the last coding is the one that has an end.
fn is_chunked(codings: &HeaderValue) -> bool {
    let last = codings.as_bytes().rsplit(|byte| *byte == b',').next();
    last.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, HeadError> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = text.and_then(|text| text.parse().ok()).ok_or(HeadError::Length)?;
        if length.replace(number).is_some_and(|before| before != number) {
            return Err(HeadError::Length);
        }
    }
    Ok(length)
}

fn closes(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    let mut tokens = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

    use super::super::super::{Outgoing, RequestBody};
    use super::{HeadError, TargetError, end, read, write};

    #[test]
    fn a_request_is_written_as_it_was_built() {
        let (host, mut client) = (HeaderValue::from_static("up:1"), HeaderMap::new());
        client.insert(header::ACCEPT, HeaderValue::from_static("a/b"));
        let secret = (header::AUTHORIZATION, HeaderValue::from_static("Bearer k"));
        let written = |method: &Method, target: &str, body: &'static str| {
            let whole = RequestBody::whole(Bytes::from_static(body.as_bytes()));
            let secret = Some((&secret.0, &secret.1));
            let request = Outgoing::new(method, target.to_owned(), &host, &client, secret, whole);
            write(&request, body.len()).map(|head| String::from_utf8(head).unwrap())
        };
        let ours = concat!("farthing/", env!("CARGO_PKG_VERSION"));
        let fields = format!(
            "host: up:1\r\naccept: a/b\r\nuser-agent: {ours}\r\naccept-encoding: identity\r\nauthorization: Bearer k\r\n"
        );
        for (method, target, body, line, length) in [
            (Method::POST, "/v1/a?b=c", "twelve bytes", "POST /v1/a?b=c HTTP/1.1", "content-length: 12\r\n"),
            (Method::GET, "/v1/a?b=c", "", "GET /v1/a?b=c HTTP/1.1", ""),
        ] {
            let expected = format!("{line}\r\n{fields}{length}\r\n");
            assert_eq!(written(&method, target, body), Ok(expected));
        }
        let empty = written(&Method::POST, "/", "").unwrap();
        assert_eq!(empty, format!("POST / HTTP/1.1\r\ncontent-length: 0\r\n{fields}\r\n"));
        for target in ["/a b", "/a\r\nx: y", "/\u{e9}", "a", ""] {
            assert_eq!(written(&Method::GET, target, ""), Err(TargetError), "{target:?}");
        }
    }

    /// SEC-31: of a field that the operator's key stands in the client's is not there.
    #[test]
    fn the_operators_key_stands_alone() {
        let (host, mut client) = (HeaderValue::from_static("up:1"), HeaderMap::new());
        client.insert("openai-beta", HeaderValue::from_static("theirs"));
        let (name, key) = (HeaderName::from_static("openai-beta"), HeaderValue::from_static("ours"));
        let body = RequestBody::whole(Bytes::new());
        let request = Outgoing::new(&Method::GET, "/".to_owned(), &host, &client, Some((&name, &key)), body);
        let head = String::from_utf8(write(&request, 0).unwrap()).unwrap();
        assert_eq!(head.matches("openai-beta: ").count(), 1);
        assert!(head.contains("openai-beta: ours\r\n"), "{head}");
    }

    #[test]
    fn the_end_is_found_in_any_pieces() {
        for (head, expected) in [
            (&b"HTTP/1.1 200 OK\r\na: b\r\n\r\nbody\r\n\r\n"[..], 25),
            (b"HTTP/1.1 200 OK\na: b\n\nbody\n\n", 22),
            (b"HTTP/1.1 200 OK\r\na: b\n\r\nbody\n\r\n", 24),
        ] {
            for cut in 0..head.len() {
                let at_once = end(&head[..cut], 0);
                assert_eq!(at_once, (cut >= expected).then_some(expected), "cut at {cut}");
                assert_eq!(at_once.or_else(|| end(head, cut)), Some(expected), "cut at {cut}");
            }
        }
    }

    #[test]
    fn framing_table() {
        enum Told {
            /// A body of this framing, and whether the connection stays.
            Body(&'static str, bool),
            None(HeadError),
        }
        let too_many = "a: b\r\n".repeat(101);
        for (head, method, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", Method::POST, Told::Body("Length(5)", true)),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n", Method::POST, Told::Body("Chunked", true)),
            (
                "HTTP/1.1 200\r\nTransfer-Encoding: gzip, Chunked \r\n",
                Method::GET,
                Told::Body("Chunked", true),
            ),
            ("HTTP/1.1 200 OK\r\n", Method::GET, Told::Body("Close", false)),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n", Method::GET, Told::Body("Close", false)),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n",
                Method::GET,
                Told::Body("Close", false),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
                Method::GET,
                Told::Body("Chunked", false),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close\r\n",
                Method::GET,
                Told::Body("Length(5)", false),
            ),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n", Method::GET, Told::Body("Length(5)", false)),
            ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n", Method::GET, Told::None(HeadError::Coding)),
            ("HTTP/1.1 204 No Content\r\n", Method::GET, Told::Body("Length(0)", true)),
            ("HTTP/1.1 101 Switching Protocols\r\n", Method::GET, Told::Body("Length(0)", false)),
            (
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n",
                Method::GET,
                Told::Body("Length(0)", true),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", Method::HEAD, Told::Body("Length(0)", true)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n",
                Method::GET,
                Told::Body("Length(5)", true),
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
                Method::GET,
                Told::None(HeadError::Length),
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n", Method::GET, Told::None(HeadError::Length)),
            ("HTTP/1.1 200 OK\r\ncontent-length: \r\n", Method::GET, Told::None(HeadError::Length)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n", Method::GET, Told::None(HeadError::Length)),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n",
                Method::GET,
                Told::None(HeadError::Length),
            ),
            ("HTTP/1.1 99 No\r\n", Method::GET, Told::None(HeadError::Syntax(httparse::Error::Status))),
            ("HTTP/2 200 OK\r\n", Method::GET, Told::None(HeadError::Syntax(httparse::Error::Version))),
            (
                "HTTP/1.1 200 OK\r\na : b\r\n",
                Method::GET,
                Told::None(HeadError::Syntax(httparse::Error::HeaderName)),
            ),
            (
                "HTTP/1.1 200 OK\r\na: b\r\n c\r\n",
                Method::GET,
                Told::None(HeadError::Syntax(httparse::Error::HeaderName)),
            ),
            (
                &format!("HTTP/1.1 200 OK\r\n{too_many}"),
                Method::GET,
                Told::None(HeadError::Syntax(httparse::Error::TooManyHeaders)),
            ),
        ] {
            let read = read(&Bytes::from(format!("{head}\r\n")), &method);
            match (read, expected) {
                (Ok(read), Told::Body(framing, keeps)) => {
                    let told = format!("{:?}", read.framing);
                    assert!(told.starts_with(framing), "{head}: {told}");
                    assert_eq!(read.keeps, keeps, "{head}");
                }
                (Err(error), Told::None(expected)) => assert_eq!(error, expected, "{head}"),
                (Ok(read), Told::None(_)) => panic!("{head} was read as {:?}", read.framing),
                (Err(error), Told::Body(..)) => panic!("{head}: {error}"),
            }
        }
    }
}
