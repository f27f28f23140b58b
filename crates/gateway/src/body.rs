//! Bodies: a request's, read whole under a bound and a clock, and ours.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::accept::Underway;
use crate::config::Route;
use crate::passing::{AnswerError, ChargedBody};
use crate::refusal::{Code, Refusal};
use crate::snapshot::Snapshot;
use crate::tunnel::Tunnel;

/// Most that is made room for before it comes.
const ROOM_BYTES_MAX: usize = 16 * 1024;

/// What a route takes of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    /// Most bytes.
    pub(crate) max: usize,
    /// Nobody here reads it: it may be compressed and goes up as it is (SEC-7).
    pub(crate) opaque: bool,
    /// Longest until it is here.
    pub(crate) time_max: Duration,
}

impl Take {
    /// What a route takes.
    pub(crate) fn of(snapshot: &Snapshot, route: &Route, path: &str) -> Self {
        Self {
            max: route.body_bytes,
            opaque: snapshot.wording(route, path) == meter::Dialect::Raw,
            time_max: snapshot.config.server.timeouts.body,
        }
    }
}

/// Reads a request body. A declared length above the most is refused before reading.
pub(crate) async fn read(mut body: Incoming, headers: &HeaderMap, take: Take) -> Result<Bytes, Refusal> {
    let Take { max, opaque, time_max } = take;
    let too_large = || Refusal::new(Code::BodyTooLarge, "The body is larger than this route takes.");
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > max) {
        return Err(too_large());
    }
    if !opaque && headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        return Err(Refusal::new(Code::BadBody, "Compressed request bodies are not taken here."));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let reading = async {
        // Room for what is said to come, as far as saying so may cost.
        let mut whole = BytesMut::with_capacity(declared.unwrap_or_default().min(ROOM_BYTES_MAX));
        while let Some(frame) = body.frame().await {
            let broken = |_| Refusal::new(Code::BadBody, "The body broke off.");
            if let Ok(chunk) = frame.map_err(broken)?.into_data() {
                if whole.len() + chunk.len() > max {
                    return Err(too_large());
                }
                whole.extend_from_slice(&chunk);
            }
        }
        Ok(whole.freeze())
    };
    let mut reading = pin!(reading);
    // No clock is set for what is here.
    if let Poll::Ready(read) = std::future::poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        return read;
    }
    let late = |_| Refusal::new(Code::RequestTimeout, "The body did not arrive in time.");
    tokio::time::timeout(time_max, reading).await.map_err(late)?
}

/// What we answer with.
pub(crate) struct GateBody {
    content: Content,
    /// Goes with the answer, so that the connection's clock starts again.
    underway: Option<Underway>,
    /// What the connection becomes behind an answer without a body.
    tunnel: Option<Box<Tunnel>>,
}

enum Content {
    Whole(Option<Bytes>),
    Charged(Box<ChargedBody>),
}

impl GateBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole((!bytes.is_empty()).then_some(bytes)), underway: None, tunnel: None }
    }

    pub(crate) fn charged(body: Box<ChargedBody>) -> Self {
        Self { content: Content::Charged(body), underway: None, tunnel: None }
    }

    pub(crate) fn tunnel(tunnel: Tunnel) -> Self {
        Self { tunnel: Some(Box::new(tunnel)), ..Self::whole(Bytes::new()) }
    }

    pub(crate) fn with(mut self, underway: Underway) -> Self {
        match self.tunnel.take() {
            // The request is over when the tunnel is.
            Some(tunnel) => tunnel.start(underway),
            None => self.underway = Some(underway),
        }
        self
    }
}

impl Body for GateBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Charged(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Charged(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Charged(body) => body.size_hint(),
        }
    }
}
