//! One directory, fetched from a host that a stranger has named (IDN-18): bounded in time and size, over TLS to an address
//! that was looked at, with nothing of ours but the question.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, HeaderValue, USER_AGENT,
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use proof::identity::Origin;
use proof::identity::directory::{self, DirectoryError, ListedKey, Unsigned};

use super::address::is_public;
use super::network::Network;
use crate::dial::{Dialer, Stream};

/// Where an origin has its directory.
pub const PATH: &str = "/.well-known/http-message-signatures-directory";
/// What it is.
pub const MEDIA_TYPE: &str = "application/http-message-signatures-directory+json";

/// From the question for its address to the end of its handshake.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Everything together.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Longest body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest head: a signature for each key is in it.
const HEAD_BYTES_MAX: usize = 48 * 1024;
/// Addresses of a name that are looked at; more than that is no directory's host.
const ADDRESSES_MAX: usize = 32;
/// Of those, how many are tried.
const TRIES_MAX: usize = 2;

/// What a directory said.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) keys: Vec<ListedKey>,
    /// How long it says that it stays as it is, in seconds.
    pub(super) max_age_s: Option<u64>,
}

/// Why there are no keys. Holds nothing that came from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("its name has no address")]
    NoAddress,
    #[error("its name leads to an address that is not public")]
    Barred,
    #[error("no connection")]
    NoConnection,
    #[error("no whole answer in time, or a longer one than is read")]
    NoAnswer,
    #[error("status {0}")]
    Status(u16),
    #[error("an encoded body")]
    Encoded,
    #[error("another media type")]
    MediaType,
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// How directories are asked for.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) network: &'a dyn Network,
    pub(super) dialer: &'a Dialer,
    pub(super) unsigned: Unsigned,
}

impl Asking<'_> {
    /// Fetches and verifies. `now_s` is asked when the answer is there.
    pub(super) async fn fetch(self, origin: &Origin, now_s: impl Fn() -> u64) -> Result<Fetched, FetchError> {
        let fetching = async {
            let stream = tokio::time::timeout(CONNECT_MAX, self.connect(origin));
            let stream = stream.await.map_err(|_| FetchError::NoConnection)??;
            ask(stream, origin).await
        };
        let answer = tokio::time::timeout(TIME_MAX, fetching).await.map_err(|_| FetchError::NoAnswer)??;
        answer.read(origin, self.unsigned, now_s())
    }

    /// Resolves once, looks at every address, and connects to one that was looked at: a name that means another address a
    /// moment later changes nothing.
    async fn connect(self, origin: &Origin) -> Result<Stream, FetchError> {
        let found = self.network.resolve(origin.host()).await.map_err(|_| FetchError::NoAddress)?;
        if found.is_empty() {
            return Err(FetchError::NoAddress);
        }
        // One bad address among good ones is an attack, or will be one.
        if found.len() > ADDRESSES_MAX || !found.iter().copied().all(is_public) {
            return Err(FetchError::Barred);
        }
        for address in found.into_iter().take(TRIES_MAX) {
            let address = SocketAddr::new(address, origin.port());
            if let Ok(tcp) = self.network.connect(address).await {
                let tls = self.dialer.secure(tcp, origin.host()).await;
                return tls.map_err(|_| FetchError::NoConnection);
            }
        }
        Err(FetchError::NoConnection)
    }
}

/// A whole answer, not read yet.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

async fn ask(stream: Stream, origin: &Origin) -> Result<Answer, FetchError> {
    let lost = |_| FetchError::NoAnswer;
    let authority = authority(origin);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = http::Uri::from_static(PATH);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(authority).map_err(|_| FetchError::NoAnswer)?);
    headers.insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static("farthing (key directories)"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut building = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) =
        building.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await.map_err(lost)?.into_parts();
        // What will not be read is not waited for.
        if head.status != StatusCode::OK {
            return Err(FetchError::Status(head.status.as_u16()));
        }
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|_| FetchError::NoAnswer)?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

/// `host`, or `host:port`: the value of `Host`, and what the directory signs.
fn authority(origin: &Origin) -> &str {
    let text = origin.as_str();
    text.strip_prefix("https://").unwrap_or(text)
}

impl Answer {
    fn read(&self, origin: &Origin, unsigned: Unsigned, now_s: u64) -> Result<Fetched, FetchError> {
        debug_assert_eq!(self.status, StatusCode::OK, "any other was refused at its head");
        if self.lines(&CONTENT_ENCODING).iter().any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(FetchError::Encoded);
        }
        if !self.is_directory() {
            return Err(FetchError::MediaType);
        }
        let (inputs, signatures) = (self.lines(&SIGNATURE_INPUT), self.lines(&SIGNATURE));
        let digests = self.lines(&CONTENT_DIGEST);
        let response = directory::Response {
            authority: authority(origin),
            inputs: &inputs,
            signatures: &signatures,
            digests: &digests,
            body: &self.body,
        };
        Ok(Fetched { keys: directory::keys(&response, unsigned, now_s)?, max_age_s: self.max_age_s() })
    }

    fn lines(&self, name: &HeaderName) -> Vec<&[u8]> {
        self.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    }

    fn is_directory(&self) -> bool {
        let [line] = self.lines(&CONTENT_TYPE)[..] else { return false };
        let essence = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
    }

    /// The shortest life that is given, since any cache on the way may have added a line.
    fn max_age_s(&self) -> Option<u64> {
        let lines = self.lines(&CACHE_CONTROL);
        let texts = lines.iter().filter_map(|line| std::str::from_utf8(line).ok());
        let directives = texts.flat_map(|line| line.split(',')).map(str::trim);
        let life = directives.filter_map(|directive| {
            if ["no-store", "no-cache"].iter().any(|name| directive.eq_ignore_ascii_case(name)) {
                return Some(0);
            }
            let (name, value) = directive.split_once('=')?;
            if !name.eq_ignore_ascii_case("max-age") {
                return None;
            }
            Some(value.parse().unwrap_or(0))
        });
        life.min()
    }
}

const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
