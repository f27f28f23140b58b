//! One call as the caller wants it, before any credential of ours is added.

use std::fmt;

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use wire::l402::Scheme;
use wire::x402::header as x402;

use crate::{Target, TargetError};

/// A request. Its body is held in memory: the paid attempt sends the same bytes again.
#[derive(Clone)]
pub struct Request {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why a request cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a URL.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A name or value that HTTP does not allow.
    #[error("not a header, such as 'Accept: text/plain'")]
    Header,
    /// A field that belongs to the connection. `Host` would move the request to another origin.
    #[error("this header is set by the connection itself")]
    Reserved,
}

/// What the connection decides.
static RESERVED: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];
/// Where a credit key may stand (README item 18).
pub(crate) static KEY_FIELDS: [HeaderName; 4] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

impl Request {
    /// A request without headers and body.
    ///
    /// # Errors
    /// [`RequestError::Target`]
    pub fn new(method: Method, url: &str) -> Result<Self, RequestError> {
        Ok(Self { method, target: Target::parse(url)?, headers: HeaderMap::new(), body: Bytes::new() })
    }

    /// The same, of a URL that was read already.
    #[must_use]
    pub(crate) fn of_target(method: Method, target: Target) -> Self {
        Self { method, target, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// Adds a header.
    ///
    /// # Errors
    /// [`RequestError::Header`] or [`RequestError::Reserved`].
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        let name: HeaderName = name.parse().map_err(|_| RequestError::Header)?;
        if RESERVED.contains(&name) {
            return Err(RequestError::Reserved);
        }
        self.headers.append(name, HeaderValue::from_str(value).map_err(|_| RequestError::Header)?);
        Ok(self)
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Where it goes.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Whether a header of this name is set.
    #[must_use]
    pub fn has_header(&self, name: &HeaderName) -> bool {
        self.headers.contains_key(name)
    }

    /// Whether the caller put a payment in it: then we neither add one nor pay.
    pub(crate) fn brings_payment(&self) -> bool {
        let shown = self.headers.get_all(header::AUTHORIZATION).iter().any(is_l402);
        shown
            || self.headers.contains_key(x402::PAYMENT_SIGNATURE)
            || self.headers.contains_key(x402::X_PAYMENT)
    }

    /// Whether the caller put a credit key in it.
    pub(crate) fn brings_key(&self) -> bool {
        let fields = KEY_FIELDS.iter().flat_map(|name| self.headers.get_all(name));
        fields.into_iter().any(|value| contains_key(value.as_bytes()))
    }
}

impl fmt::Debug for Request {
    /// Header values may be secrets and bodies are private: names and sizes only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.keys().map(HeaderName::as_str).collect();
        write!(
            f,
            "Request({} {}, headers {names:?}, {} bytes)",
            self.method,
            self.target.url(),
            self.body.len()
        )
    }
}

fn is_l402(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| *byte == b' ').find(|word| !word.is_empty());
    scheme.and_then(|scheme| std::str::from_utf8(scheme).ok()).and_then(Scheme::parse).is_some()
}

fn contains_key(value: &[u8]) -> bool {
    value.windows(3).any(|window| window == b"fk_")
}

#[cfg(test)]
mod tests {
    use super::{Request, RequestError as E};
    use http::Method;

    fn with(name: &str, value: &str) -> Result<Request, E> {
        Request::new(Method::GET, "https://api.example.com/").and_then(|request| request.header(name, value))
    }

    #[test]
    fn headers_of_the_connection_are_refused() {
        for (name, value, expected) in [
            ("Accept", "text/plain", Ok(())),
            ("Host", "evil.example", Err(E::Reserved)),
            ("content-length", "5", Err(E::Reserved)),
            ("Transfer-Encoding", "chunked", Err(E::Reserved)),
            ("Bad Name", "x", Err(E::Header)),
            ("X", "a\r\nHost: evil.example", Err(E::Header)),
        ] {
            assert_eq!(with(name, value).map(drop), expected, "{name}: {value}");
        }
    }

    #[test]
    fn what_the_caller_brings_is_seen_and_not_shown() {
        let request = with("authorization", "Bearer fk_test_A").unwrap();
        assert!(request.brings_key() && !request.brings_payment());
        assert!(!format!("{request:?}").contains("fk_test"));
        assert!(!with("authorization", "Bearer sk-1").unwrap().brings_key());
        assert!(with("X-PAYMENT", "e30=").unwrap().brings_payment());
        assert!(with("authorization", "lsat AgE=:00").unwrap().brings_payment());
        assert!(!with("authorization", "Basic L402").unwrap().brings_payment());
    }
}
