//! How request and answer of a route's calls travel: one after the other, or both at the same time (`specs/upstreams.md`).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request, response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use wire::l402::grpc;

use crate::body::{self, Take};
use crate::call::Arrived;
use crate::config::{Protocol, Route};
use crate::idempotency::Naming;
use crate::identity::Content;
use crate::refusal::{Code, Refusal};
use crate::snapshot::Upstream;
use crate::upstream::{AnswerHead, answer_head, grpc as grpc_head, websocket};

/// How request and answer travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// The request is here before it is priced, then comes the answer.
    Document,
    /// gRPC: messages go up and come down, in whatever order, and trailers end the answer.
    Grpc,
    /// After a handshake bytes go both ways until one side ends.
    WebSocket,
}

/// What of a request is here when it is priced, and what is to come when it is paid for.
pub(crate) struct Received {
    pub(crate) body: Bytes,
    pub(crate) rest: Rest,
}

impl Received {
    /// A request that is not to be served needs no body.
    pub(crate) const fn nothing() -> Self {
        Self { body: Bytes::new(), rest: Rest::Nothing }
    }
}

/// What of a request is still to come.
pub(crate) enum Rest {
    Nothing,
    Body(Incoming),
    Tunnel(OnUpgrade),
}

impl Exchange {
    /// How the calls of a route travel.
    pub(crate) const fn of(route: &Route) -> Self {
        match route.protocol {
            _ if route.websocket => Self::WebSocket,
            Some(Protocol::Grpc) => Self::Grpc,
            Some(Protocol::Http1 | Protocol::H2) | None => Self::Document,
        }
    }

    /// Whether a request is priced before all of it is here.
    pub(crate) const fn streams(self) -> bool {
        match self {
            Self::Document => false,
            Self::Grpc | Self::WebSocket => true,
        }
    }

    /// What an answer with this status counts as: a tunnel that was opened is a success.
    pub(crate) fn counted_as(self, status: StatusCode) -> StatusCode {
        match self {
            Self::WebSocket if status == StatusCode::SWITCHING_PROTOCOLS => StatusCode::OK,
            Self::Document | Self::Grpc | Self::WebSocket => status,
        }
    }

    /// What of an answer's head goes down, with room for so many fields.
    pub(crate) fn answer_head(
        self,
        answer: &response::Parts,
        upstream: &Upstream,
        fields: usize,
    ) -> AnswerHead {
        let key = upstream.key_search.as_ref();
        let usual = || answer_head(answer.status, &answer.headers, key, fields);
        match self {
            Self::Document => usual(),
            Self::Grpc => match usual() {
                AnswerHead::Relay(mut headers) => {
                    grpc_head::add_head(&mut headers, &answer.headers, &upstream.metadata);
                    let told = |value: &HeaderValue| key.is_some_and(|key| key.finds(value.as_bytes()));
                    let trailers =
                        answer.headers.iter().filter(|(name, _)| name.as_str().starts_with("grpc-"));
                    let told = headers.values().chain(trailers.map(|(_, value)| value)).any(told);
                    if told { AnswerHead::Mask } else { AnswerHead::Relay(headers) }
                }
                AnswerHead::Mask => AnswerHead::Mask,
            },
            Self::WebSocket if answer.status == StatusCode::SWITCHING_PROTOCOLS => {
                websocket::opened(&answer.headers, key)
            }
            // A success that opens nothing is none.
            Self::WebSocket if answer.status.is_success() => AnswerHead::Mask,
            Self::WebSocket => usual(),
        }
    }

    /// Takes of a request what has to be here before it is priced.
    ///
    /// # Errors
    /// It is none that travels so: an upstream that takes it for one must not get it.
    pub(crate) async fn receive(
        self,
        body: Incoming,
        arrived: &Arrived,
        route: &Route,
    ) -> Result<Received, Refusal> {
        let rest = match self {
            Self::Document => {
                let take = Take::of(&arrived.snapshot, route, &arrived.path);
                let body = body::read(body, &arrived.head.headers, take).await?;
                return Ok(Received { body, rest: Rest::Nothing });
            }
            Self::Grpc => {
                check_grpc(&arrived.head)?;
                Rest::Body(body)
            }
            Self::WebSocket => Rest::Tunnel(websocket::check(&arrived.head)?),
        };
        Ok(Received { body: Bytes::new(), rest })
    }

    /// What of a request's body is here to be vouched for. A tunnel is opened without one.
    pub(crate) const fn content(self, body: &[u8]) -> Content<'_> {
        match self {
            Self::Document | Self::WebSocket => Content::Here(body),
            Self::Grpc => Content::Streams,
        }
    }

    /// How a request says that it may have been sent before. One that is a stream cannot: its bytes are not known when it
    /// would have to be told from another.
    ///
    /// # Errors
    /// It names itself, and wrongly or in vain.
    pub(crate) fn naming(self, headers: &HeaderMap) -> Result<Naming, Refusal> {
        let naming = Naming::read(headers)?;
        match self {
            Self::Document => Ok(naming),
            Self::Grpc | Self::WebSocket if naming.has_key() => {
                let detail = "An Idempotency-Key cannot stand for a request that is a stream.";
                Err(Refusal::new(Code::BadRequest, detail))
            }
            Self::Grpc | Self::WebSocket => Ok(Naming::default()),
        }
    }
}

fn check_grpc(head: &request::Parts) -> Result<(), Refusal> {
    if head.method == Method::POST && is_grpc(head.version, &head.headers) {
        return Ok(());
    }
    Err(Refusal::new(Code::BadRequest, "This route takes gRPC, over HTTP/2."))
}

/// Whether a client reads the answer as gRPC's: then a refusal is told in its words. Over HTTP/1 nothing is gRPC.
pub(crate) fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    let kind = || headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    version >= Version::HTTP_2 && kind().is_some_and(grpc::is_grpc)
}
