//! Connections to upstreams, one pool per thread: no lock is shared between cores (PERF-21).

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rails::dial::{Dialer, Origin, Stream};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::RequestBody;
use super::h2;
use crate::config::Protocol;

/// Idle connections kept per origin and thread.
const IDLE_MAX: usize = 128;
/// An idle connection older than this may have been closed by the upstream.
const IDLE_AGE_MAX: Duration = Duration::from_secs(30);
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection: the upstream got nothing.
    #[error("cannot connect to the upstream")]
    Connect(#[source] io::Error),
    /// The connection broke before the head of an answer.
    #[error("the upstream closed without an answer")]
    Closed(#[source] hyper::Error),
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

type Shelf = Rc<RefCell<Vec<Idle>>>;

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
}

/// This thread's connections.
#[derive(Default)]
pub(crate) struct Pool {
    shelves: RefCell<HashMap<Place, Shelf>>,
    shared: h2::Connections,
}

impl Pool {
    /// Sends a request and returns the answer's head; the body brings the connection back when it ends.
    ///
    /// A connection that turns out stale before anything of the request was sent is replaced once.
    pub(crate) async fn send(
        &self,
        way: &Way,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        match way.protocol {
            Protocol::Http1 => self.send_alone(way, request).await,
            Protocol::H2 | Protocol::Grpc => {
                let response = self.shared.send(way, request).await?;
                Ok(response.map(|(body, line)| UpstreamBody {
                    line: Some(line),
                    ..UpstreamBody::without_home(body)
                }))
            }
        }
    }

    /// Sends a handshake on a connection of its own; what it becomes is in the answer's extensions.
    pub(crate) async fn open(
        &self,
        way: &Way,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let (mut sender, connection) = Box::pin(handshake(way)).await?;
        keep(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(SendError::Closed)?;
        Ok(response.map(UpstreamBody::without_home))
    }

    /// An answer did not come in time: where calls share a connection, the next one gets another.
    pub(crate) fn distrust(&self, way: &Way) {
        match way.protocol {
            Protocol::Http1 => {}
            Protocol::H2 | Protocol::Grpc => self.shared.distrust(way),
        }
    }

    /// One call at a time on each connection.
    async fn send_alone(
        &self,
        way: &Way,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let shelf = self.shelf(&way.place);
        while let Some(mut sender) = take_live(&shelf) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(attach(response, sender, shelf)),
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Closed(refused.into_error())),
                },
            }
        }
        let (mut sender, connection) = Box::pin(handshake(way)).await?;
        keep(connection);
        let response = sender.send_request(request).await.map_err(SendError::Closed)?;
        Ok(attach(response, sender, shelf))
    }

    fn shelf(&self, place: &Place) -> Shelf {
        if let Some(shelf) = self.shelves.borrow().get(place) {
            return Rc::clone(shelf);
        }
        Rc::clone(self.shelves.borrow_mut().entry(place.clone()).or_default())
    }
}

type Connection = http1::Connection<TokioIo<Stream>, RequestBody>;

async fn handshake(way: &Way) -> Result<(SendRequest<RequestBody>, Connection), SendError> {
    let stream = way.dialer.dial(&way.place.origin).await.map_err(SendError::Connect)?;
    http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| SendError::Connect(io::Error::other(error)))
}

/// Moves a connection's bytes until it ends.
fn keep(connection: impl Future<Output = hyper::Result<()>> + 'static) {
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
}

fn take_live(shelf: &Shelf) -> Option<SendRequest<RequestBody>> {
    let mut shelf = shelf.borrow_mut();
    while let Some(idle) = shelf.pop() {
        if !idle.sender.is_closed() && idle.since.elapsed() < IDLE_AGE_MAX {
            return Some(idle.sender);
        }
    }
    None
}

/// A response framed twice may be read differently by the next hop: its connection is not used again
/// (security.md 1.3, 2.2).
fn attach(
    response: Response<Incoming>,
    sender: SendRequest<RequestBody>,
    shelf: Shelf,
) -> Response<UpstreamBody> {
    let twice = response.headers().contains_key(http::header::CONTENT_LENGTH)
        && response.headers().contains_key(http::header::TRANSFER_ENCODING);
    let home = (!twice).then_some(Home { sender, shelf });
    response.map(|incoming| {
        let mut body = UpstreamBody { home, ..UpstreamBody::without_home(incoming) };
        if body.incoming.is_end_stream() {
            body.bring_home();
        }
        body
    })
}

struct Home {
    sender: SendRequest<RequestBody>,
    shelf: Shelf,
}

/// The body of an answer. Read to its end, its connection goes back to the pool; dropped earlier, the
/// connection closes.
pub(crate) struct UpstreamBody {
    /// Frames that were looked at before they go on.
    seen: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    incoming: Incoming,
    home: Option<Home>,
    /// On a connection that calls share.
    #[expect(dead_code, reason = "held to be counted")]
    line: Option<h2::OnLine>,
}

impl UpstreamBody {
    /// Of a connection that nobody has to bring back.
    fn without_home(incoming: Incoming) -> Self {
        Self { seen: VecDeque::new(), incoming, home: None, line: None }
    }

    /// The beginning of the body, which stays there to be read: as much as is enough, or all there is.
    pub(crate) async fn peek(&mut self, is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let mut beginning = Vec::new();
        while !is_enough(&beginning) {
            let Some(frame) = std::future::poll_fn(|cx| self.poll_incoming(cx)).await else { break };
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

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.bring_home(),
            Poll::Ready(Some(Err(_))) => self.home = None,
            Poll::Ready(Some(Ok(_))) if self.incoming.is_end_stream() => self.bring_home(),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn bring_home(&mut self) {
        if let Some(Home { sender, shelf }) = self.home.take() {
            let mut shelf = shelf.borrow_mut();
            if !sender.is_closed() && shelf.len() < IDLE_MAX {
                shelf.push(Idle { sender, since: Instant::now() });
            }
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        match body.seen.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => body.poll_incoming(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.seen.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let seen: usize = self.seen.iter().flatten().filter_map(Frame::data_ref).map(Bytes::len).sum();
        let mut hint = self.incoming.size_hint();
        if let Some(left) = hint.exact() {
            hint.set_exact(left + seen as u64);
        }
        hint
    }
}
