//! The head of the upstream's answer, cut to what the client may see (SEC-12).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::KeySearch;

/// Fields that come down. Everything else of the upstream stays with the operator: its cookies, its
/// organisation, its rate limits, its own idea of payment.
const PASSED: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::RETRY_AFTER];

/// Fields of an answer that there is room for from its beginning: these, and what is told of the call. It is kept for as long as
/// the answer lasts.
pub(crate) const FIELDS: usize = 12;
/// The same of one that nobody pays for.
pub(crate) const FREE_FIELDS: usize = 6;

/// What the answer is to the caller.
#[derive(Debug)]
pub(crate) enum AnswerHead {
    /// Pass it on with these headers.
    Relay(HeaderMap),
    /// An answer no client of ours must see as it is: reported as 502.
    Mask,
}

/// Decides what of an answer's head goes down, with room for so many fields.
///
/// An upstream's own 401, 402 or 403 speaks of the operator's key or credit, never of the caller's
/// (reference item 47); a redirect is not followed; 101 is no answer to any request of ours. A field that
/// would come down with the operator's key in it masks the whole (SEC-31).
pub(crate) fn answer_head(
    status: StatusCode,
    upstream: &HeaderMap,
    key: Option<&KeySearch>,
    fields: usize,
) -> AnswerHead {
    if matches!(status.as_u16(), 401..=403 | 300..=399) || status.is_informational() {
        return AnswerHead::Mask;
    }
    let mut headers = HeaderMap::with_capacity(fields);
    for name in PASSED {
        let Some(value) = upstream.get(&name) else { continue };
        if key.is_some_and(|key| key.finds(value.as_bytes())) {
            return AnswerHead::Mask;
        }
        headers.insert(name, value.clone());
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    AnswerHead::Relay(headers)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::super::KeySearch;
    use super::FIELDS;
    use super::{AnswerHead, answer_head};

    #[test]
    fn the_upstreams_own_affairs_stay_upstairs() {
        let mut upstream = HeaderMap::new();
        for name in [
            "set-cookie",
            "server",
            "openai-organization",
            "x-ratelimit-limit-requests",
            "www-authenticate",
            "link",
            "payment-required",
            "payment-response",
            "x-payment-response",
            "settlement-overrides",
            "alt-svc",
            "via",
            "content-length",
            "transfer-encoding",
            "connection",
            "trailer",
        ] {
            upstream.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        upstream.insert("content-type", HeaderValue::from_static("text/event-stream"));
        let AnswerHead::Relay(headers) = answer_head(StatusCode::OK, &upstream, None, FIELDS) else {
            panic!("masked")
        };
        let names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "cache-control"]);
        for status in [401, 402, 403, 301, 307] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(matches!(answer_head(status, &upstream, None, FIELDS), AnswerHead::Mask), "{status}");
        }
        let key = KeySearch::new(b"sk-0123456789abcdef").unwrap();
        let relayed = answer_head(StatusCode::TOO_MANY_REQUESTS, &upstream, Some(&key), FIELDS);
        assert!(matches!(relayed, AnswerHead::Relay(_)));
        // SEC-31
        upstream.insert("retry-after", HeaderValue::from_static("for sk-0123456789abcdef"));
        let told = answer_head(StatusCode::TOO_MANY_REQUESTS, &upstream, Some(&key), FIELDS);
        assert!(matches!(told, AnswerHead::Mask));
    }
}
