//! The handshake of a WebSocket (RFC 6455), checked before anything is paid and passed on field by field.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request};
use hyper::upgrade::OnUpgrade;
use wire::base64;

use super::{AnswerHead, KeySearch};
use crate::refusal::{Code, Refusal};

/// Fields of the handshake that go up; the version is the one there is.
const UP: [HeaderName; 3] =
    [header::SEC_WEBSOCKET_KEY, header::SEC_WEBSOCKET_PROTOCOL, header::SEC_WEBSOCKET_EXTENSIONS];
/// Those that come down. What both sides agree on is between them: an extension changes no frame's length.
const DOWN: [HeaderName; 3] =
    [header::SEC_WEBSOCKET_ACCEPT, header::SEC_WEBSOCKET_PROTOCOL, header::SEC_WEBSOCKET_EXTENSIONS];
const VERSION: HeaderValue = HeaderValue::from_static("13");
const NAME: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("Upgrade");
const KEY_BYTES: usize = 16;
const KEY_CHARS: usize = 24;

/// Whether a request is a handshake; then what becomes of its connection.
pub(crate) fn check(head: &request::Parts) -> Result<OnUpgrade, Refusal> {
    let headers = &head.headers;
    let bad = |detail: &'static str| {
        Refusal::new(Code::BadRequest, detail).header(header::SEC_WEBSOCKET_VERSION, VERSION)
    };
    let asks = head.method == Method::GET
        && head.version == Version::HTTP_11
        && names(headers, header::UPGRADE, "websocket")
        && names(headers, header::CONNECTION, "upgrade");
    let upgrade = head.extensions.get::<OnUpgrade>().filter(|_| asks);
    let Some(upgrade) = upgrade else {
        return Err(bad("This route takes WebSockets, over HTTP/1.1."));
    };
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let key = single(headers, header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let key = key.and_then(|key| base64::decode_any(key, KEY_CHARS).ok());
    let is_key = key.is_some_and(|key| key.len() == KEY_BYTES);
    if has_body || !is_key || single(headers, header::SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(bad("The handshake is none of version 13 of WebSockets."));
    }
    Ok(upgrade.clone())
}

/// Whether a list of tokens has this one.
fn names(headers: &HeaderMap, field: HeaderName, token: &str) -> bool {
    let lines = headers.get_all(field);
    let mut tokens = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    tokens.any(|named| named.trim().eq_ignore_ascii_case(token))
}

fn single(headers: &HeaderMap, field: HeaderName) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(field).iter();
    let first = lines.next();
    if lines.next().is_none() { first } else { None }
}

/// Makes a request a handshake with the client's fields.
pub(crate) fn add_handshake(headers: &mut HeaderMap, client: &HeaderMap) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, NAME);
    headers.insert(header::SEC_WEBSOCKET_VERSION, VERSION);
    pass(headers, client, &UP);
    headers.remove(header::ACCEPT_ENCODING);
}

fn pass(headers: &mut HeaderMap, from: &HeaderMap, names: &[HeaderName]) {
    for name in names {
        for value in from.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// What of a 101 comes down. One that switches to something else, or that shows the operator's key, is none.
pub(crate) fn opened(upstream: &HeaderMap, key: Option<&KeySearch>) -> AnswerHead {
    let told = |name: &HeaderName| {
        upstream.get_all(name).iter().any(|value| key.is_some_and(|key| key.finds(value.as_bytes())))
    };
    let switches = names(upstream, header::UPGRADE, "websocket")
        && names(upstream, header::CONNECTION, "upgrade")
        && single(upstream, header::SEC_WEBSOCKET_ACCEPT).is_some();
    if !switches || DOWN.iter().any(told) {
        return AnswerHead::Mask;
    }
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, NAME);
    pass(&mut headers, upstream, &DOWN);
    AnswerHead::Relay(headers)
}
