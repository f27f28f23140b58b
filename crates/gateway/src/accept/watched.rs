//! A client connection with the clocks of security.md section 3: a head must arrive in time, an idle
//! connection closes, and a client that stops reading does not keep a call open for ever.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use rails::dial::Stream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Place;
use crate::alarm::Alarm;

/// What the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next request.
    Idle,
    /// The rest of a head.
    Head,
    /// Our answer, or the body that its reader watches.
    Request,
    /// The end of what the connection has become.
    Tunnel,
}

/// Shared between a connection and the requests on it. All of it is one thread's: that it could go to another is what
/// hyper asks of a connection that may become a tunnel.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<State>);

/// Connections so far: each has a number that no other has.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct State {
    number: u64,
    /// What is waited for, and since when; a request since its first byte.
    phase: Mutex<(Phase, Instant)>,
    underway: AtomicUsize,
    /// Streams share the connection: what arrives between requests is not the head of one.
    multiplexed: AtomicBool,
    /// That it is open counts for as long as anything of it lasts.
    #[expect(dead_code, reason = "held for what its drop does")]
    place: Place,
}

/// A request that has not been answered to the end. The last one to go makes the connection idle.
#[derive(Debug)]
pub(crate) struct Underway(Watch);

impl Watch {
    /// Of a connection that has just been opened.
    pub(super) fn new(place: Place) -> Self {
        Self(Arc::new(State {
            number: CONNECTIONS.fetch_add(1, Relaxed),
            phase: Mutex::new((Phase::Idle, Instant::now())),
            underway: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
            place,
        }))
    }

    /// A request has arrived.
    pub(crate) fn begin(&self, version: Version) -> Underway {
        self.0.multiplexed.store(version >= Version::HTTP_2, Relaxed);
        self.0.underway.fetch_add(1, Relaxed);
        self.phase().0 = Phase::Request;
        Underway(self.clone())
    }

    fn phase(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.0.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come. The clock of a head starts with its first byte and is not restarted by the next ones.
    fn received(&self) {
        let mut phase = self.phase();
        if phase.0 == Phase::Idle && !self.0.multiplexed.load(Relaxed) {
            *phase = (Phase::Head, Instant::now());
        }
    }
}

impl Underway {
    /// Its connection is no longer HTTP's, until this goes.
    pub(crate) fn begin_tunnel(&self) {
        self.0.phase().0 = Phase::Tunnel;
    }

    /// Tells the connection from every other of this process.
    pub(crate) fn connection(&self) -> u64 {
        self.0.0.number
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let watch = &self.0;
        if watch.0.underway.fetch_sub(1, Relaxed) == 1 {
            *watch.phase() = (Phase::Idle, Instant::now());
        }
    }
}

/// How long each phase may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) idle: Duration,
    pub(super) head: Duration,
    pub(super) write_stall: Duration,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

/// How a client of HTTP/2 begins (RFC 9113 section 3.4); no request of HTTP/1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct Watched {
    stream: Stream,
    /// What was read to know the protocol, and stands before what is read next.
    begun: Bytes,
    watch: Watch,
    patience: Patience,
    reading: Alarm,
    writing: Alarm,
    /// Since when the client takes nothing of what is to be written.
    stalls: Option<Instant>,
    /// Whether who reads has found nothing, and is told when more comes.
    is_awaited: bool,
}

impl Watched {
    pub(super) fn new(stream: Stream, watch: Watch, patience: Patience) -> Self {
        let (reading, writing) = (Alarm::default(), Alarm::default());
        let (stalls, is_awaited) = (None, false);
        Self { stream, begun: Bytes::new(), watch, patience, reading, writing, stalls, is_awaited }
    }

    /// What the client speaks. Waits until that is clear, and reads no more than is needed for it.
    pub(super) async fn protocol(&mut self) -> io::Result<Http> {
        let mut begun = [0; PREFACE.len()];
        let mut count = 0;
        let speaks = loop {
            let read = self.read(&mut begun[count..]).await?;
            count += read;
            match PREFACE.strip_prefix(&begun[..count]) {
                Some([]) => break Http::Two,
                Some(_) if read > 0 => {}
                Some(_) | None => break Http::One,
            }
        };
        self.begun = Bytes::copy_from_slice(&begun[..count]);
        Ok(speaks)
    }

    /// Gives what was read before, and with it what else is there: who reads a head in pieces makes room for more each time.
    fn give_begun(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) {
        let begun = self.begun.split_to(self.begun.len().min(buf.remaining()));
        buf.put_slice(&begun);
        // An error, or the end, comes with the next read.
        let _ = Pin::new(&mut self.stream).poll_read(cx, buf);
    }

    /// Whether what is waited for has been waited for too long. Nothing but this alarm makes an idle connection look, so it
    /// is set while a request is answered too, for when that is over.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let (phase, since) = *self.watch.phase();
        match phase {
            Phase::Idle => self.reading.rings(since + self.patience.idle, cx),
            Phase::Head => self.reading.rings(since + self.patience.head, cx),
            Phase::Request | Phase::Tunnel => {
                let _ = self.reading.rings(since + self.patience.idle, cx)
                    && self.reading.rings(Instant::now() + self.patience.idle, cx);
                false
            }
        }
    }

    /// Looks whether the client has left while it is answered, where nobody reads: hyper would, into a buffer of its own for
    /// each answer (`half_close` stops it). What comes of the next request meanwhile stands before what is read next.
    fn look_for_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let is_answered = self.watch.phase().0 == Phase::Request && !self.watch.0.multiplexed.load(Relaxed);
        if self.is_awaited || !self.begun.is_empty() || !is_answered {
            return Ok(());
        }
        let mut begun = [0; PREFACE.len()];
        let mut buf = ReadBuf::new(&mut begun);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
            Poll::Pending => {
                let _ = self.is_late(cx);
                Ok(())
            }
            Poll::Ready(read) => {
                read?;
                if buf.filled().is_empty() {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "client has left"));
                }
                self.begun = Bytes::copy_from_slice(buf.filled());
                // Whoever is to read it may have looked before it came.
                cx.waker().wake_by_ref();
                Ok(())
            }
        }
    }

    fn stalled(&mut self, pending: bool, cx: &mut Context<'_>) -> io::Result<()> {
        if !pending {
            self.stalls = None;
            return Ok(());
        }
        let since = *self.stalls.get_or_insert_with(Instant::now);
        if self.writing.rings(since + self.patience.write_stall, cx) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read"));
        }
        Ok(())
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_awaited = false;
        if !this.begun.is_empty() {
            this.give_begun(cx, buf);
            this.watch.received();
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() {
            if buf.filled().len() > before {
                this.watch.received();
            }
            return polled;
        }
        this.is_awaited = true;
        if this.is_late(cx) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client is silent")));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.stalled(polled.is_pending(), cx)?;
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.stalled(polled.is_pending(), cx)?;
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.stalled(polled.is_pending(), cx)?;
        this.look_for_end(cx)?;
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.stalled(polled.is_pending(), cx)?;
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write as _};
    use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::Duration;

    use http::Version;
    use rails::dial::Stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::Place;
    use super::{Patience, Watch, Watched};
    use crate::limits::{Slots, Source};

    /// A connection, and the client of it.
    async fn connected() -> (Watched, Watch, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (served, _) = listener.accept().unwrap();
        served.set_nonblocking(true).unwrap();
        let slots = (Slots::new().take(1).unwrap(), Slots::new().take(1).unwrap());
        let source = Source::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let watch = Watch::new(Place::take(source, slots, &Arc::default(), &Arc::default()));
        let hour = Duration::from_secs(3600);
        let patience = Patience { idle: hour, head: hour, write_stall: hour };
        let stream = Stream::Plain(tokio::net::TcpStream::from_std(served).unwrap());
        (Watched::new(stream, watch.clone(), patience), watch, client)
    }

    /// Flushes until that fails, as who waits for an answer does whenever he is woken.
    async fn left(io: &mut Watched) -> ErrorKind {
        loop {
            if let Err(error) = io.flush().await {
                return error.kind();
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_while_it_is_answered_is_missed() {
        let (mut io, watch, client) = connected().await;
        let underway = watch.begin(Version::HTTP_11);
        io.flush().await.unwrap();
        drop(client);
        assert_eq!(left(&mut io).await, ErrorKind::UnexpectedEof);
        drop(underway);
    }

    #[tokio::test]
    async fn who_reads_finds_the_end_himself() {
        for is_http2 in [true, false] {
            let (mut io, watch, client) = connected().await;
            let underway = watch.begin(if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 });
            if !is_http2 {
                underway.begin_tunnel();
            }
            drop(client);
            io.flush().await.unwrap();
            assert_eq!(io.read(&mut [0]).await.unwrap(), 0);
            io.flush().await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_comes_of_the_next_request_is_read_next() {
        let (mut io, watch, mut client) = connected().await;
        let underway = watch.begin(Version::HTTP_11);
        let next = b"GET /the-next-one-of-them HTTP/1.1\r\n\r\n";
        client.write_all(next).unwrap();
        while io.begun.is_empty() {
            io.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(client);
        // Whether the client has left is seen when that has been read.
        io.flush().await.unwrap();
        drop(underway);
        let mut read = Vec::new();
        io.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, next);
    }
}
