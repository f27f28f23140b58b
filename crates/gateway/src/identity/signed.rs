//! The request as its signer saw it, and the body that a digest is compared with.

use http::{HeaderMap, HeaderValue, header};
use wire::content_digest;
use wire::message_signature::{MessageSignature, Request, SignatureError, read};

use crate::call::Arrived;

/// What of a body is here to be compared with its digest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'b> {
    /// All of it.
    Here(&'b [u8]),
    /// Nothing of it is looked at.
    Unread,
    /// It comes while it is served: nobody can vouch for it beforehand.
    Streams,
}

impl Content<'_> {
    /// Whether there is a body that has to be vouched for.
    pub(super) fn is_body(self, headers: &HeaderMap) -> bool {
        match self {
            Self::Here(body) => !body.is_empty(),
            Self::Unread => {
                headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
                    || headers.contains_key(header::TRANSFER_ENCODING)
            }
            Self::Streams => true,
        }
    }

    /// Whether the field `Content-Digest` vouches for it (IDN-12).
    pub(super) fn is_vouched_for(self, headers: &HeaderMap) -> bool {
        let Self::Here(body) = self else { return false };
        let lines = headers.get_all("content-digest").iter().map(|line| line.to_str().ok());
        let field = lines.collect::<Option<Vec<_>>>().map(|lines| lines.join(", "));
        field.is_some_and(|field| content_digest::check(&field, body).is_ok())
    }
}

/// The signatures that a request carries.
pub(super) fn signatures(headers: &HeaderMap) -> Result<Vec<MessageSignature>, SignatureError> {
    let lines = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    read(&lines("signature-input"), &lines("signature"))
}

/// Whether a request carries any signature, readable or not.
pub(super) fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key("signature-input") || headers.contains_key("signature")
}

/// Looks at a request as it was signed: with the host that the wall has found to be ours (IDN-7).
pub(super) fn as_signed<T>(arrived: &Arrived, look: impl FnOnce(&Request<'_>) -> T) -> T {
    let headers = &arrived.head.headers;
    let scheme = if arrived.snapshot.public_url.starts_with("https://") { "https" } else { "http" };
    let of_target = arrived.head.uri.authority().map(http::uri::Authority::as_str);
    let of_field = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = of_target.or_else(of_field).unwrap_or_default().to_ascii_lowercase();
    let fields = |name: &str| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    look(&Request {
        method: arrived.head.method.as_str(),
        scheme,
        authority: without_usual_port(&host, scheme),
        path: &arrived.path,
        query: arrived.target.split_once('?').map(|(_, query)| query),
        fields: &fields,
    })
}

fn without_usual_port<'h>(host: &'h str, scheme: &str) -> &'h str {
    host.strip_suffix(if scheme == "https" { ":443" } else { ":80" }).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{Content, without_usual_port};

    /// IDN-7
    #[test]
    fn idn_7_a_port_counts_where_it_is_not_the_usual_one() {
        for (host, scheme, expected) in [
            ("gw.test", "https", "gw.test"),
            ("gw.test:443", "https", "gw.test"),
            ("gw.test:443", "http", "gw.test:443"),
            ("gw.test:80", "http", "gw.test"),
            ("gw.test:8443", "https", "gw.test:8443"),
            ("[::1]:80", "http", "[::1]"),
            ("[::1:80]", "http", "[::1:80]"),
        ] {
            assert_eq!(without_usual_port(host, scheme), expected, "{host}");
        }
    }

    /// IDN-12
    #[test]
    fn idn_12_a_body_that_is_not_here_is_not_vouched_for() {
        let headers = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        let digest = wire::content_digest::of(b"{}");
        let with = headers(&[("content-digest", &digest)]);
        for (what, content, fields, is_body, is_vouched_for) in [
            ("here", Content::Here(b"{}"), &with, true, true),
            ("another", Content::Here(b"[]"), &with, true, false),
            ("no digest", Content::Here(b"{}"), &HeaderMap::new(), true, false),
            ("no body", Content::Here(b""), &HeaderMap::new(), false, false),
            (
                "unread",
                Content::Unread,
                &headers(&[("content-length", "2"), ("content-digest", &digest)]),
                true,
                false,
            ),
            ("unread and empty", Content::Unread, &headers(&[("content-length", "0")]), false, false),
            ("unread in chunks", Content::Unread, &headers(&[("transfer-encoding", "chunked")]), true, false),
            ("a stream", Content::Streams, &with, true, false),
        ] {
            assert_eq!(content.is_body(fields), is_body, "{what}");
            assert_eq!(content.is_vouched_for(fields), is_vouched_for, "{what}");
        }
        let two = headers(&[("content-digest", &digest), ("content-digest", "sha-512=:AAAA:")]);
        assert!(!Content::Here(b"{}").is_vouched_for(&two));
    }
}
