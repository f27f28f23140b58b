//! HTTP/2 to upstreams: a connection of a thread carries its calls to a place, as many as leave each other room, and is
//! replaced when it ends.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Mutex;

use super::RequestBody;
use super::pool::{Place, SendError, Way};
use crate::local_executor::LocalExecutor;

/// What an upstream may send of one answer that nobody reads yet ...
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// ... and of all together: more than the calls of a connection can fill, so that clients who do not read leave room for
/// those who do.
const CONNECTION_WINDOW_BYTES: u32 = 128 * STREAM_WINDOW_BYTES;
/// Calls on a connection, beyond which another one is opened ...
const CALLS_MAX: usize = 100;
/// ... up to so many. Beyond that the connection with the fewest calls takes more.
const CONNECTIONS_MAX: usize = 8;
/// Largest head, or trailers, of an answer.
const HEAD_BYTES_MAX: u32 = 32 * 1024;

/// This thread's connections.
#[derive(Default)]
pub(crate) struct Connections(RefCell<BTreeMap<Place, Rc<Shared>>>);

/// The connections to a place. Whoever needs one while it is being opened waits for whoever opens it.
#[derive(Default)]
struct Shared(Mutex<Door>);

#[derive(Default)]
struct Door {
    lines: Vec<Line>,
    /// Why none could be opened last, and when: who has waited for that does not try it again for himself.
    failed: Option<(Instant, io::ErrorKind, String)>,
}

/// One connection.
struct Line {
    sender: SendRequest<RequestBody>,
    calls: Rc<()>,
}

/// A call's place on its connection, until it is dropped.
pub(super) struct OnLine(#[expect(dead_code, reason = "held to be counted")] Rc<()>);

impl Line {
    /// Calls that are on it.
    fn calls(&self) -> usize {
        Rc::strong_count(&self.calls) - 1
    }

    fn take(&self) -> (SendRequest<RequestBody>, OnLine) {
        (self.sender.clone(), OnLine(Rc::clone(&self.calls)))
    }
}

impl Connections {
    /// Sends a request; the answer's head comes back.
    ///
    /// A connection that turns out to be closed before anything of the request was sent is replaced once.
    pub(super) async fn send(
        &self,
        way: &Way,
        request: Request<RequestBody>,
    ) -> Result<Response<(Incoming, OnLine)>, SendError> {
        let shared = self.shared(&way.place);
        let mut request =
            absolute(way, request).map_err(|error| SendError::Connect(io::Error::other(error)))?;
        let mut is_again = false;
        loop {
            let (mut sender, place) = shared.sender(way).await.map_err(SendError::Connect)?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response.map(|body| (body, place))),
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) if !is_again => (request, is_again) = (unsent, true),
                    Some(_) | None => return Err(SendError::Closed(refused.into_error().into())),
                },
            }
        }
    }

    /// The next call gets a new connection: on one of these an answer did not come, and nobody knows why.
    pub(super) fn distrust(&self, way: &Way) {
        if let Ok(mut door) = self.shared(&way.place).0.try_lock() {
            door.lines.clear();
        }
    }

    fn shared(&self, place: &Place) -> Rc<Shared> {
        if let Some(shared) = self.0.borrow().get(place) {
            return Rc::clone(shared);
        }
        Rc::clone(self.0.borrow_mut().entry(place.clone()).or_default())
    }
}

impl Shared {
    async fn sender(&self, way: &Way) -> io::Result<(SendRequest<RequestBody>, OnLine)> {
        let asked = Instant::now();
        let mut door = self.0.lock().await;
        door.lines.retain(|line| !line.sender.is_closed());
        let lightest = door.lines.iter().min_by_key(|line| line.calls());
        let is_enough = |line: &&Line| line.calls() < CALLS_MAX || door.lines.len() >= CONNECTIONS_MAX;
        if let Some(line) = lightest.filter(is_enough) {
            return Ok(line.take());
        }
        let known = door.failed.as_ref().filter(|(at, ..)| *at >= asked);
        let error = match known {
            Some((_, kind, why)) => io::Error::new(*kind, why.clone()),
            None => match Box::pin(connect(way)).await {
                Ok(sender) => {
                    let line = Line { sender, calls: Rc::default() };
                    let taken = line.take();
                    door.lines.push(line);
                    return Ok(taken);
                }
                Err(error) => {
                    door.failed = Some((Instant::now(), error.kind(), error.to_string()));
                    error
                }
            },
        };
        // Where no more are to be had, those that are there are shared by more.
        let lightest = door.lines.iter().min_by_key(|line| line.calls());
        lightest.map(Line::take).ok_or(error)
    }
}

async fn connect(way: &Way) -> io::Result<SendRequest<RequestBody>> {
    let stream = way.dialer.dial(&way.place.origin).await?;
    // No pings of ours: servers of gRPC close on those who ask more often than every few minutes.
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

/// HTTP/2 names the host in the target, and nowhere else.
fn absolute(way: &Way, mut request: Request<RequestBody>) -> Result<Request<RequestBody>, http::Error> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if way.place.origin.tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(way.host.as_bytes())?);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts)?;
    *request.version_mut() = http::Version::HTTP_2;
    request.headers_mut().remove(header::HOST);
    Ok(request)
}
