//! Listening sockets, one per thread and address, and the connections on them.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rails::dial::Stream;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::watched::{Http, Patience, Watched};
use super::{PerSource, Place, Underway, Watch};
use crate::config::{Limits, Net, Timeouts};
use crate::limits::{Slots, Source};
use crate::local_executor::LocalExecutor;
use crate::telemetry::Metrics;

const BACKLOG: i32 = 4096;
const H2_STREAMS_MAX: u32 = 128;
const H2_HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// A socket that shares its address with those of the other threads.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What every connection shares.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) limits: Limits,
    /// Many clients come on connections of theirs: those are not counted for one source.
    pub(crate) trusted_proxies: Vec<Net>,
    pub(crate) timeouts: Timeouts,
    pub(crate) connections: Arc<Slots>,
    pub(crate) per_source: PerSource,
    pub(crate) metrics: Arc<Metrics>,
    /// Turns true once: no new connection, no further request on the old ones.
    pub(crate) closing: watch::Receiver<bool>,
}

/// Accepts until `door.closing`. `answer` gets each request with its peer and a mark that it is underway.
///
/// Connections that are open when the door closes end after the request they are in.
pub(crate) async fn serve<A, F, B>(door: Door, listener: TcpListener, answer: Rc<A>)
where
    A: Fn(SocketAddr, Request<Incoming>, Underway) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = bytes::Bytes> + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    // Each connection holds on to it for as long as it lasts.
    let door = Rc::new(door);
    let mut closing = door.closing.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or the like: give those who hold them time to finish.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Some(slot) = door.connections.take(door.limits.connections) else { continue };
        let source = Source::of(peer.ip());
        let here = Arc::clone(&door.per_source.entry(source).or_insert_with(Slots::new));
        let is_proxy = door.trusted_proxies.iter().any(|net| net.contains(peer.ip()));
        let per_source = if is_proxy { door.limits.connections } else { door.limits.per_ip };
        let Some(among_its_own) = here.take(per_source) else { continue };
        let place = Place::take(source, (slot, among_its_own), &door.per_source, &door.metrics);
        let (door, answer) = (Rc::clone(&door), Rc::clone(&answer));
        tokio::task::spawn_local(async move {
            if let Err(error) = connection(&door, tcp, peer, place, answer).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

async fn connection<A, F, B>(
    door: &Door,
    tcp: TcpStream,
    peer: SocketAddr,
    place: Place,
    answer: Rc<A>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    A: Fn(SocketAddr, Request<Incoming>, Underway) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = bytes::Bytes> + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let mut closing = door.closing.clone();
    let (io, watch, protocol) = tokio::select! {
        // Boxed, so that the connection has no room for it while it is served.
        begun = Box::pin(begin(door, tcp, place)) => begun?,
        _ = closing.wait_for(|closing| *closing) => return Ok(()),
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let underway = watch.begin(request.version());
        // Boxed: it goes with the answer's head. The connection keeps room for what it is given here, for as long as it lasts.
        let answered = Box::pin(answer(peer, request, underway));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let io = TokioIo::new(io);
    match protocol {
        Http::One => {
            let mut served = pin!(http1(door).serve_connection(io, service).with_upgrades());
            tokio::select! {
                done = served.as_mut() => return Ok(done?),
                _ = closing.wait_for(|closing| *closing) => served.as_mut().graceful_shutdown(),
            }
            served.await?;
        }
        Http::Two => {
            let mut served = Box::pin(http2().serve_connection(io, service));
            tokio::select! {
                done = served.as_mut() => return Ok(done?),
                _ = closing.wait_for(|closing| *closing) => served.as_mut().graceful_shutdown(),
            }
            served.await?;
        }
    }
    Ok(())
}

/// Handshakes, where there is TLS, and finds out what is spoken.
async fn begin(
    door: &Door,
    tcp: TcpStream,
    place: Place,
) -> Result<(Watched, Watch, Http), Box<dyn std::error::Error + Send + Sync>> {
    tcp.set_nodelay(true)?;
    let times = &door.timeouts;
    let stream = match &door.tls {
        None => Stream::Plain(tcp),
        Some(tls) => {
            let tls = tokio::time::timeout(times.header, tls.accept(tcp)).await??;
            Stream::Tls(Box::new(tls.into()))
        }
    };
    let patience = Patience { idle: times.idle, head: times.header, write_stall: times.write_stall };
    let watch = Watch::new(place);
    let mut io = Watched::new(stream, watch.clone(), patience);
    let protocol = io.protocol().await?;
    Ok((io, watch, protocol))
}

fn http1(door: &Door) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The watch on the connection has the clocks of head and idle time; hyper's one knows only both together.
        .header_read_timeout(None)
        // So has it the end of a client that is answered: hyper would hold 8 KiB for that as long as the answer lasts.
        .half_close(true)
        .max_headers(door.limits.fields)
        // A head is counted; a buffer only bounds what is read of one at a time.
        .max_header_size(door.limits.header_bytes)
        .max_buf_size(door.limits.header_bytes.max(8192));
    builder
}

fn http2() -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(H2_HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}
