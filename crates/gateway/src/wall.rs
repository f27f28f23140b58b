//! The HTTP wall: what hyper lets through and we do not (security.md section 2).
//!
//! It stands before routing, so that a path is priced exactly as it is forwarded (A14).

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header};

use crate::refusal::{Code, Refusal};

/// Bounds on the head of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) uri_bytes: usize,
    pub(crate) credential_bytes: usize,
}

/// Fields of which a second line is refused: two readers might pick different ones.
const SINGLE: [&str; 11] = [
    "content-type",
    "content-encoding",
    "host",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-payment",
    "payment-signature",
    "x-cashu",
    "sign-in-with-x",
    "idempotency-key",
];
/// Fields that carry a credential, bounded before they are decoded.
const CREDENTIALS: [&str; 9] = [
    "authorization",
    "payment-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "x-payment",
    "payment-signature",
    "x-cashu",
    "sign-in-with-x",
];

/// Checks everything about a head that does not depend on the route. Returns path and query to route by.
pub(crate) fn check<'r, B>(
    request: &'r Request<B>,
    is_ours: impl Fn(&str) -> bool,
    bounds: Bounds,
) -> Result<Target<'r>, Refusal> {
    let headers = request.headers();
    let bad = |detail: &'static str| Refusal::new(Code::BadRequest, detail);
    check_host(request, is_ours)?;
    if headers.keys().any(|name| memchr::memchr(b'_', name.as_str().as_bytes()).is_some()) {
        return Err(bad("A field name contains an underscore."));
    }
    // Names are looked up only where there is something to find: in a head that has a name twice, or a long value.
    let is_twice = |name: &str| headers.get_all(name).iter().nth(1).is_some();
    if headers.len() > headers.keys_len() && SINGLE.into_iter().any(is_twice) {
        return Err(bad("A field that may stand once stands twice."));
    }
    check_framing(headers)?;
    let is_long = |value: &HeaderValue| value.len() > bounds.credential_bytes;
    let is_credential = |name: &HeaderName| CREDENTIALS.contains(&name.as_str());
    if headers.iter().any(|(name, value)| is_long(value) && is_credential(name)) {
        return Err(Refusal::new(Code::HeaderTooLarge, "A credential is larger than this gateway reads."));
    }
    target(request.uri(), bounds)
}

/// Exactly one host, and one of ours (SEC-1).
fn check_host<B>(request: &Request<B>, is_ours: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let field = request.headers().get(header::HOST).map(|value| value.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    // The target of HTTP/1 wins over the field; in HTTP/2 both are the client's and must agree (RFC 9113 8.3.1).
    if request.version() >= Version::HTTP_2 && field.is_some_and(|field| authority != Some(field)) {
        return Err(Refusal::new(Code::BadRequest, "The request names two hosts."));
    }
    let named = authority.or(field);
    let Some(host) = named else {
        return Err(Refusal::new(Code::BadRequest, "The request names no host."));
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    // Byte by byte: searches cost more than such a name is long. Behind a colon that no bracket follows stands the port.
    let mut port = host.bytes().rev().take_while(|b| !matches!(b, b':' | b']'));
    let has_port = host.bytes().rev().find(|b| matches!(b, b':' | b']')) == Some(b':');
    if host.is_empty() || !host.bytes().all(plain) || (has_port && !port.all(|b| b.is_ascii_digit())) {
        return Err(Refusal::new(Code::BadRequest, "The host is not a name with an optional port."));
    }
    if !is_ours(host) {
        return Err(Refusal::new(Code::MisdirectedRequest, "This host is not served here."));
    }
    Ok(())
}

/// One framing field at most, `chunked` alone (SEC-4). Where the next request would begin is not certain
/// then, so nothing more is read on this connection.
fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain =
        lines.next().is_none_or(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if plain && lines.next().is_none() {
        return Ok(());
    }
    let refusal = Refusal::new(Code::BadRequest, "Transfer-Encoding must be chunked alone.");
    Err(refusal.header(header::CONNECTION, HeaderValue::from_static("close")))
}

/// A checked request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'r> {
    /// Starts with one slash; no dot segment, plain or encoded.
    pub(crate) path: &'r str,
    /// Without the question mark.
    pub(crate) query: Option<&'r str>,
}

impl Target<'_> {
    /// Path and query as the upstream gets them.
    pub(crate) fn to_text(self) -> String {
        match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_owned(),
        }
    }
}

/// Query names that carry keys elsewhere: a key in a URL ends up in logs, so it is refused (SEC-30).
const SECRET_QUERY: [&str; 4] = ["key", "api_key", "access_token", "api-key"];

/// Checks a target by itself.
pub(crate) fn target(uri: &Uri, bounds: Bounds) -> Result<Target<'_>, Refusal> {
    let bad = |detail: &'static str| Refusal::new(Code::BadRequest, detail);
    let path = uri.path();
    let query = uri.query();
    if path.len() + query.map_or(0, |query| query.len() + 1) > bounds.uri_bytes {
        return Err(Refusal::new(Code::UriTooLong, "The target is longer than this gateway reads."));
    }
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(bad("The target has a scheme that is not HTTP."));
    }
    if !is_simple(path) {
        if !path.starts_with('/') || path.starts_with("//") || path.contains("//") {
            return Err(bad("The path does not start with one slash."));
        }
        if !path.is_ascii() || path.contains(['\\', ';']) || !is_plain_path(path) {
            return Err(bad("The path has a segment that servers read differently."));
        }
    }
    if let Some(query) = query {
        let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        if !query.is_ascii() || names.into_iter().any(|name| SECRET_QUERY.contains(&name)) {
            return Err(bad("Keys are not accepted in the query: send them in a header."));
        }
    }
    Ok(Target { path, query })
}

/// Whether a path is one of the many that nobody could read differently: segments of letters, digits and a few signs, none of
/// them empty but the last, and none that begins with a dot. It spares them being searched for each thing that might.
fn is_simple(path: &str) -> bool {
    let mut before = None;
    let mut is_fine = |byte: u8| match before.replace(byte) {
        None => byte == b'/',
        Some(b'/') => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~'),
        Some(_) => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.' | b'/'),
    };
    !path.is_empty() && path.bytes().all(&mut is_fine)
}

/// Percent triplets are valid and hide no dot segment, slash, backslash or control byte.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |bytes: &[u8]| {
        bytes != b"." && bytes != b".." && !bytes.iter().any(|b| matches!(b, b'/' | b'\\' | 0..=31 | 127))
    };
    path.split('/').skip(1).all(|segment| match segment.contains('%') {
        false => is_plain(segment.as_bytes()),
        true => decoded(segment).is_some_and(|bytes| is_plain(&bytes)),
    })
}

/// The bytes that percent triplets stand for; none where one is broken.
pub(crate) fn decoded(segment: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |b: u8| char::from(b).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = tail;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{Bounds, check};
    use crate::refusal::Code;

    const BOUNDS: Bounds = Bounds { uri_bytes: 64, credential_bytes: 32 };

    fn verdict(uri: &str, fields: &[(&str, &str)]) -> Result<String, Code> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let is_ours = |host: &str| host.split(':').next().unwrap().eq_ignore_ascii_case("gw.test");
        check(&request, is_ours, BOUNDS).map(|target| target.to_text()).map_err(|refusal| refusal.code())
    }

    /// SEC-1
    #[test]
    fn http2_names_one_host() {
        for (field, expected) in [
            (None, None),
            (Some("gw.test"), None),
            (Some("evil.test"), Some(Code::BadRequest)),
            (Some("gw.test:1"), Some(Code::BadRequest)),
        ] {
            let request = Request::builder().version(http::Version::HTTP_2).uri("https://gw.test/v1");
            let request = field.into_iter().fold(request, |request, field| request.header("host", field));
            let checked = check(&request.body(()).unwrap(), |host| host == "gw.test", BOUNDS).err();
            assert_eq!(checked.map(|refusal| refusal.code()), expected, "{field:?}");
        }
    }

    #[test]
    fn targets() {
        let host = [("host", "gw.test")];
        for (uri, expected) in [
            ("/v1/x", Ok("/v1/x".to_owned())),
            ("/v1/x?a=b", Ok("/v1/x?a=b".to_owned())),
            ("/v1/%41", Ok("/v1/%41".to_owned())),
            ("http://gw.test/v1", Ok("/v1".to_owned())),
            ("http://evil.test/v1", Err(Code::MisdirectedRequest)),
            ("//v1", Err(Code::BadRequest)),
            ("/v1//x", Err(Code::BadRequest)),
            ("/v1/../x", Err(Code::BadRequest)),
            ("/v1/%2e%2E/x", Err(Code::BadRequest)),
            ("/v1/%2fx", Err(Code::BadRequest)),
            ("/v1/%zz", Err(Code::BadRequest)),
            ("/v1/%00", Err(Code::BadRequest)),
            ("/v1/x;y", Err(Code::BadRequest)),
            ("/v1?key=fk_live_1", Err(Code::BadRequest)),
            ("*", Err(Code::BadRequest)),
            (
                "/a23456789012345678901234567890123456789012345678901234567890123",
                Ok("/a23456789012345678901234567890123456789012345678901234567890123".to_owned()),
            ),
            ("/a234567890123456789012345678901234567890123456789012345678901234", Err(Code::UriTooLong)),
        ] {
            assert_eq!(verdict(uri, &host), expected, "{uri}");
        }
    }

    #[test]
    fn fields() {
        for (fields, expected) in [
            (vec![("host", "gw.test")], None),
            (vec![("host", "GW.TEST:80")], None),
            (vec![], Some(Code::BadRequest)),
            (vec![("host", "")], Some(Code::BadRequest)),
            (vec![("host", "a@gw.test")], Some(Code::BadRequest)),
            (vec![("host", "gw.test:8x")], Some(Code::BadRequest)),
            (vec![("host", "other")], Some(Code::MisdirectedRequest)),
            (vec![("host", "gw.test"), ("host", "gw.test")], Some(Code::BadRequest)),
            (vec![("host", "gw.test"), ("x_y", "1")], Some(Code::BadRequest)),
            (
                vec![("host", "gw.test"), ("content-encoding", "gzip"), ("content-encoding", "br")],
                Some(Code::BadRequest),
            ),
            (vec![("host", "gw.test"), ("transfer-encoding", "Chunked")], None),
            (vec![("host", "gw.test"), ("transfer-encoding", "gzip, chunked")], Some(Code::BadRequest)),
            (
                vec![("host", "gw.test"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Some(Code::BadRequest),
            ),
            (vec![("host", "gw.test"), ("x-payment", "1"), ("x-payment", "2")], Some(Code::BadRequest)),
            (vec![("host", "gw.test"), ("authorization", "a"), ("authorization", "b")], None),
            (vec![("host", "gw.test"), ("x-payment", "12345678901234567890123456789012")], None),
            (
                vec![("host", "gw.test"), ("x-payment", "123456789012345678901234567890123")],
                Some(Code::HeaderTooLarge),
            ),
            (
                vec![("host", "gw.test"), ("payment-authorization", "123456789012345678901234567890123")],
                Some(Code::HeaderTooLarge),
            ),
        ] {
            assert_eq!(verdict("/v1", &fields).err(), expected, "{fields:?}");
        }
    }
}
