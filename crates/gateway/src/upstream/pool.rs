//! Connections to upstreams, one pool per thread: no lock is shared between cores (PERF-21).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rails::dial::{Dialer, Origin};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::h1::{self, Broken, Unwritable};
use super::h2;
use super::{Outgoing, RequestBody};
use crate::config::Protocol;

/// Idle connections kept per origin and thread.
const IDLE_MAX: usize = 128;
/// An idle connection older than this may have been closed by the upstream.
const IDLE_AGE_MAX: Duration = Duration::from_secs(30);
/// Largest head of an answer to a handshake.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection: the upstream got nothing.
    #[error("cannot connect to the upstream")]
    Connect(#[source] io::Error),
    /// The connection broke before the head of an answer.
    #[error("the upstream closed without an answer")]
    Closed(#[source] BodyError),
}

/// Why the body of an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// On a connection of its own.
    #[error(transparent)]
    Alone(#[from] Broken),
    /// On one that calls share, or that is a tunnel.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
}

/// Why a request cannot be passed on at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    /// For HTTP/1.1.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// For what has a map of fields.
    #[error(transparent)]
    Http(#[from] http::Error),
}

/// A request in the words of its upstream's protocol.
pub(crate) enum Ready {
    /// HTTP/1.1: its very bytes.
    Written(h1::Written),
    /// HTTP/2.
    Mapped(Box<Request<RequestBody>>),
}

struct Idle {
    line: h1::Line,
    since: Instant,
}

impl Idle {
    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= IDLE_AGE_MAX
    }
}

/// Idle connections to a place, the last used last.
type Shelf = Rc<RefCell<VecDeque<Idle>>>;

/// How an upstream is reached.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(super) place: Place,
    /// The value of `Host` there.
    pub(crate) host: HeaderValue,
    pub(super) dialer: Dialer,
    protocol: Protocol,
}

/// What connections must have in common to stand for each other: where they go, and whom they trust there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) origin: Origin,
    trust: [u8; 32],
}

impl Way {
    /// `roots` are those that `dialer` trusts besides the public ones.
    ///
    /// # Errors
    /// The origin has a name that no header may have.
    pub(crate) fn new(
        origin: Origin,
        roots: &[CertificateDer<'_>],
        dialer: Dialer,
        protocol: Protocol,
    ) -> io::Result<Self> {
        let trust = roots.iter().fold(Sha256::new(), |hash, root| hash.chain_update(Sha256::digest(root)));
        let dialer = match protocol {
            Protocol::Http1 => dialer,
            Protocol::H2 | Protocol::Grpc => dialer.speaking(b"h2"),
        };
        let host = HeaderValue::try_from(origin.authority()).map_err(io::Error::other)?;
        Ok(Self { place: Place { origin, trust: trust.finalize().into() }, host, dialer, protocol })
    }

    /// Writes a request as it goes there.
    ///
    /// # Errors
    /// [`NotReady`]
    pub(crate) fn ready(&self, request: Outgoing<'_>) -> Result<Ready, NotReady> {
        Ok(match self.protocol {
            Protocol::Http1 => Ready::Written(h1::Written::new(request)?),
            Protocol::H2 | Protocol::Grpc => Ready::Mapped(Box::new(request.into_request()?)),
        })
    }
}

/// This thread's connections.
#[derive(Default)]
pub(crate) struct Pool {
    shelves: RefCell<BTreeMap<Place, Shelf>>,
    shared: h2::Connections,
    room: h1::Room,
}

impl Pool {
    /// Sends a request and returns the answer's head; the body brings the connection back when it ends.
    ///
    /// A connection that turns out stale before anything of the request was sent is replaced once. It is `now`.
    pub(crate) async fn send(
        &self,
        way: &Way,
        request: Ready,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, SendError> {
        match request {
            Ready::Written(mut request) => self.send_alone(way, &mut request, now).await,
            Ready::Mapped(request) => {
                // Boxed, so that calls over HTTP/1.1 have no room for it.
                let response = Box::pin(self.shared.send(way, *request)).await?;
                Ok(response.map(|(body, line)| UpstreamBody::new(Source::Shared(body, line))))
            }
        }
    }

    /// Sends a handshake on a connection of its own; what it becomes is in the answer's extensions.
    pub(crate) async fn open(
        &self,
        way: &Way,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let stream = way.dialer.dial(&way.place.origin).await.map_err(SendError::Connect)?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HANDSHAKE_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendError::Connect(io::Error::other(error)))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| SendError::Closed(error.into()))?;
        Ok(response.map(|body| UpstreamBody::new(Source::Handshake(body))))
    }

    /// An answer did not come in time: where calls share a connection, the next one gets another.
    pub(crate) fn distrust(&self, way: &Way) {
        match way.protocol {
            Protocol::Http1 => {}
            Protocol::H2 | Protocol::Grpc => self.shared.distrust(way),
        }
    }

    /// Closes idle connections that no call would be given any more.
    pub(crate) fn tidy(&self) {
        let now = Instant::now();
        self.shelves.borrow_mut().retain(|_, shelf| {
            let mut lines = shelf.borrow_mut();
            lines.retain_mut(|idle| !idle.is_old(now) && idle.line.is_quiet());
            // An answer on its way keeps its shelf.
            !lines.is_empty() || Rc::strong_count(shelf) > 1
        });
    }

    /// One call at a time on each connection.
    async fn send_alone(
        &self,
        way: &Way,
        request: &mut h1::Written,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let shelf = self.shelf(&way.place);
        while let Some(line) = take_live(&shelf, now) {
            match line.ask(request).await {
                Err(Broken::Unsent(_)) => {}
                answered => return attach(answered, shelf),
            }
        }
        // Boxed, so that calls that find a connection have no room for making one.
        let dialing = Box::pin(way.dialer.dial(&way.place.origin));
        let stream = dialing.await.map_err(SendError::Connect)?;
        attach(h1::Line::new(stream, &self.room).ask(request).await, shelf)
    }

    fn shelf(&self, place: &Place) -> Shelf {
        if let Some(shelf) = self.shelves.borrow().get(place) {
            return Rc::clone(shelf);
        }
        Rc::clone(self.shelves.borrow_mut().entry(place.clone()).or_default())
    }
}

fn take_live(shelf: &Shelf, now: Instant) -> Option<h1::Line> {
    let mut shelf = shelf.borrow_mut();
    while let Some(mut idle) = shelf.pop_back() {
        if !idle.is_old(now) && idle.line.is_quiet() {
            return Some(idle.line);
        }
    }
    None
}

fn attach(
    answered: Result<Response<h1::Answer>, Broken>,
    shelf: Shelf,
) -> Result<Response<UpstreamBody>, SendError> {
    let response = answered.map_err(|error| SendError::Closed(error.into()))?;
    Ok(response.map(|answer| {
        let mut body = UpstreamBody::new(Source::Alone(answer, shelf));
        body.bring_home();
        body
    }))
}

/// Where a body comes from.
enum Source {
    /// A connection of its own, and where that goes when all has come. Dropped earlier, the connection closes.
    Alone(h1::Answer, Shelf),
    /// One that calls share.
    Shared(Incoming, #[expect(dead_code, reason = "held to be counted")] h2::OnLine),
    /// One that is a tunnel, if the answer opened it.
    Handshake(Incoming),
}

/// The body of an answer.
pub(crate) struct UpstreamBody {
    /// Frames that were looked at before they go on.
    seen: VecDeque<Result<Frame<Bytes>, BodyError>>,
    source: Source,
}

impl UpstreamBody {
    const fn new(source: Source) -> Self {
        Self { seen: VecDeque::new(), source }
    }

    /// The beginning of the body, which stays there to be read: as much as is enough, or all there is.
    pub(crate) async fn peek(&mut self, is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut beginning = Vec::new();
        while !is_enough(&beginning) {
            let Some(frame) = std::future::poll_fn(|cx| self.poll_source(cx)).await else { break };
            let more = frame.as_ref().ok().and_then(|frame| frame.data_ref().cloned());
            let is_over = frame.is_err();
            self.seen.push_back(frame);
            beginning.extend_from_slice(&more.unwrap_or_default());
            if is_over {
                break;
            }
        }
        beginning
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            Source::Alone(answer, _) => {
                let polled = answer.poll_piece(cx).map_ok(Frame::data).map_err(BodyError::Alone);
                self.bring_home();
                polled
            }
            Source::Shared(incoming, _) | Source::Handshake(incoming) => {
                Pin::new(incoming).poll_frame(cx).map_err(BodyError::Hyper)
            }
        }
    }

    /// Puts the connection where the next call finds it, if all of the answer has come.
    fn bring_home(&mut self) {
        let Source::Alone(answer, shelf) = &mut self.source else { return };
        let Some(line) = answer.free() else { return };
        let mut shelf = shelf.borrow_mut();
        if shelf.len() < IDLE_MAX {
            shelf.push_back(Idle { line, since: Instant::now() });
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        match body.seen.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => body.poll_source(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_over = match &self.source {
            Source::Alone(answer, _) => answer.is_over(),
            Source::Shared(incoming, _) | Source::Handshake(incoming) => incoming.is_end_stream(),
        };
        self.seen.is_empty() && is_over
    }

    fn size_hint(&self) -> SizeHint {
        let seen: usize = self.seen.iter().flatten().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let left = match &self.source {
            Source::Alone(answer, _) => answer.left(),
            Source::Shared(incoming, _) | Source::Handshake(incoming) => incoming.size_hint().exact(),
        };
        left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + seen as u64))
    }
}
