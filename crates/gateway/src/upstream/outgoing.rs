//! The request that goes up: built anew from a list of what may pass, never "the client's minus some" (SEC-9).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body::{Body, Frame, SizeHint};

use crate::sending::{Fault, RequestStream};

/// Fields of the client that the upstream gets to see. A content coding comes this far only with a body
/// that nobody here reads.
const PASSED: [&str; 9] = [
    "content-type",
    "content-encoding",
    "accept",
    "openai-beta",
    "anthropic-version",
    "anthropic-beta",
    "x-dashscope-sse",
    "x-stainless-retry-count",
    "traceparent",
];
const USER_AGENT_BYTES_MAX: usize = 256;

/// The body of a request: already here, or on its way.
pub(crate) enum RequestBody {
    /// Empty for GET.
    Whole(Option<Bytes>),
    Stream(Box<RequestStream>),
}

impl RequestBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => Pin::new(stream.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// The upstream's request, before it is written as its protocol has it.
pub(crate) struct Outgoing<'r> {
    method: &'r Method,
    target: String,
    host: &'r HeaderValue,
    client: &'r HeaderMap,
    user_agent: HeaderValue,
    /// The upstream's own key: nothing of the client can stand in its place (SEC-31).
    secret: Option<(&'r HeaderName, &'r HeaderValue)>,
    body: RequestBody,
}

impl<'r> Outgoing<'r> {
    /// `target` is path and query below the origin, already checked; what passes of `client` is chosen here.
    pub(crate) fn new(
        method: &'r Method,
        target: String,
        host: &'r HeaderValue,
        client: &'r HeaderMap,
        secret: Option<(&'r HeaderName, &'r HeaderValue)>,
        body: RequestBody,
    ) -> Self {
        Self { method, target, host, client, user_agent: user_agent(client), secret, body }
    }

    pub(super) const fn method(&self) -> &Method {
        self.method
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Gives each of its fields once, but for the length of a body.
    pub(super) fn fields(&self, mut field: impl FnMut(&HeaderName, &HeaderValue)) {
        let is_secret = |name: &HeaderName| self.secret.is_some_and(|(secret, _)| secret == name);
        let mut usual = |name: &HeaderName, value: &HeaderValue| {
            if !is_secret(name) {
                field(name, value);
            }
        };
        // A request that means to have a body says so even when it is empty (RFC 9110 section 8.6).
        if matches!(self.body, RequestBody::Whole(None))
            && [Method::POST, Method::PUT, Method::PATCH].contains(self.method)
        {
            usual(&header::CONTENT_LENGTH, &HeaderValue::from_static("0"));
        }
        usual(&header::HOST, self.host);
        // The first line of each, of the few that a client sends: those of one name come one behind the other.
        let mut last = None;
        for (name, value) in self.client.iter().filter(|(name, _)| PASSED.contains(&name.as_str())) {
            if last.replace(name) != Some(name) {
                usual(name, value);
            }
        }
        usual(&header::USER_AGENT, &self.user_agent);
        // The meter reads the answer (MTR-17).
        usual(&header::ACCEPT_ENCODING, &HeaderValue::from_static("identity"));
        if let Some((name, value)) = self.secret {
            field(name, value);
        }
    }

    pub(super) const fn body(&self) -> &RequestBody {
        &self.body
    }

    /// As a request that has a map of its fields.
    ///
    /// # Errors
    /// The target is none.
    pub(crate) fn into_request(self) -> Result<Request<RequestBody>, http::Error> {
        let mut request = Request::builder().method(self.method).uri(self.target.as_str()).body(())?;
        let headers = request.headers_mut();
        headers.reserve(12);
        self.fields(|name, value| {
            headers.insert(name, value.clone());
        });
        Ok(request.map(|()| self.body))
    }
}

fn user_agent(client: &HeaderMap) -> HeaderValue {
    let theirs = client.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let theirs = &theirs[..theirs.len().min(USER_AGENT_BYTES_MAX)];
    const OURS: &str = concat!("farthing/", env!("CARGO_PKG_VERSION"));
    let ours = HeaderValue::from_static(OURS);
    if theirs.is_empty() { ours } else { HeaderValue::try_from(format!("{OURS} {theirs}")).unwrap_or(ours) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

    use super::{Outgoing, RequestBody};

    #[test]
    fn nothing_passes_that_is_not_on_the_list() {
        let mut client = HeaderMap::new();
        for name in [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "cookie",
            "x-payment",
            "payment-signature",
            "payment-authorization",
            "signature",
            "signature-input",
            "x-forwarded-for",
            "forwarded",
            "via",
            "te",
            "connection",
            "proxy-authorization",
            "x-cashu",
            "x-http-method-override",
            "max-forwards",
            "farthing-key",
        ] {
            client.insert(HeaderName::from_static(name), HeaderValue::from_static("canary"));
        }
        client.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        client.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        client.append("anthropic-version", HeaderValue::from_static("1999-01-01"));
        let name = HeaderName::from_static("x-api-key");
        let secret = HeaderValue::from_static("operator");
        let (host, body) = (HeaderValue::from_static("up:1"), RequestBody::whole(Bytes::new()));
        let target = "/v1/messages".to_owned();
        let outgoing = Outgoing::new(&Method::POST, target, &host, &client, Some((&name, &secret)), body);
        let built = outgoing.into_request().unwrap();
        let mut names: Vec<_> = built.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "accept-encoding",
            "anthropic-version",
            "content-length",
            "content-type",
            "host",
            "user-agent",
            "x-api-key",
        ];
        assert_eq!(names, expected);
        assert_eq!(built.headers()["x-api-key"], "operator");
        let versions: Vec<_> = built.headers().get_all("anthropic-version").iter().collect();
        assert_eq!(versions, ["2023-06-01"], "a second line stays down here");
        assert!(!format!("{:?}", built.headers()).contains("canary"));
    }
}
