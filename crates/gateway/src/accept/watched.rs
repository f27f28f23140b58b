//! A client connection with the clocks of security.md section 3: a head must arrive in time, an idle
//! connection closes, and a client that stops reading does not keep a call open for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Version;
use rails::dial::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Place;

/// What the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// The next request.
    Idle = 0,
    /// The rest of a head.
    Head = 1,
    /// Our answer, or the body that its reader watches.
    Request = 2,
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
    phase: AtomicU8,
    /// Grows with each change of phase, so that a clock of an earlier one is not taken for this one's.
    turn: AtomicU64,
    underway: AtomicUsize,
    /// Streams share the connection: what arrives between requests is not the head of one.
    multiplexed: AtomicBool,
    /// The connection's task, as it was last seen.
    waits: Mutex<Option<Waker>>,
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
            phase: AtomicU8::new(Phase::Idle as u8),
            turn: AtomicU64::new(0),
            underway: AtomicUsize::new(0),
            multiplexed: AtomicBool::new(false),
            waits: Mutex::new(None),
            place,
        }))
    }

    /// A request has arrived.
    pub(crate) fn begin(&self, version: Version) -> Underway {
        self.0.multiplexed.store(version >= Version::HTTP_2, Relaxed);
        self.0.underway.fetch_add(1, Relaxed);
        self.turn_to(Phase::Request);
        Underway(self.clone())
    }

    /// Remembers whom to wake when the last request goes.
    fn remember(&self, cx: &Context<'_>) {
        let mut waits = self.0.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if !waits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waits = Some(cx.waker().clone());
        }
    }

    fn is_in(&self, phase: Phase) -> bool {
        self.0.phase.load(Relaxed) == phase as u8
    }

    fn turn(&self) -> u64 {
        self.0.turn.load(Relaxed)
    }

    fn turn_to(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Relaxed);
        self.0.turn.fetch_add(1, Relaxed);
    }
}

impl Underway {
    /// Tells the connection from every other of this process.
    pub(crate) fn connection(&self) -> u64 {
        self.0.0.number
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let watch = &self.0;
        if watch.0.underway.fetch_sub(1, Relaxed) == 1 {
            watch.turn_to(Phase::Idle);
            // Its clock starts when the connection looks again, and nothing else may make it look.
            let waits = watch.0.waits.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waits {
                waker.wake();
            }
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

pub(super) struct Watched {
    stream: Stream,
    watch: Watch,
    patience: Patience,
    reading: Alarm,
    writing: Alarm,
}

/// A timer that is only touched when something has to wait.
#[derive(Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<u64>,
}

impl Alarm {
    /// Whether `after` has passed since the alarm was first asked in this turn.
    fn rings(&mut self, turn: u64, after: Duration, cx: &mut Context<'_>) -> bool {
        if self.armed != Some(turn) {
            let deadline = Instant::now() + after;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
            }
            self.armed = Some(turn);
        }
        self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }

    fn disarm(&mut self) {
        self.armed = None;
    }
}

impl Watched {
    pub(super) fn new(stream: Stream, watch: Watch, patience: Patience) -> Self {
        Self { stream, watch, patience, reading: Alarm::default(), writing: Alarm::default() }
    }

    fn stalled(&mut self, pending: bool, cx: &mut Context<'_>) -> io::Result<()> {
        if !pending {
            self.writing.disarm();
            return Ok(());
        }
        if self.writing.rings(0, self.patience.write_stall, cx) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read"));
        }
        Ok(())
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.watch.remember(cx);
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let turn = this.watch.turn();
        if polled.is_ready() {
            let came = buf.filled().len() > before;
            if came && this.watch.is_in(Phase::Idle) && !this.watch.0.multiplexed.load(Relaxed) {
                this.watch.turn_to(Phase::Head);
                // The clock of a head starts with its first byte and is not restarted by the next ones.
                let _ = this.reading.rings(this.watch.turn(), this.patience.head, cx);
            }
            return polled;
        }
        let late = if this.watch.is_in(Phase::Idle) {
            this.reading.rings(turn, this.patience.idle, cx)
        } else {
            this.watch.is_in(Phase::Head) && this.reading.rings(turn, this.patience.head, cx)
        };
        if late {
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
        this.watch.remember(cx);
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.stalled(polled.is_pending(), cx)?;
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.stalled(polled.is_pending(), cx)?;
        polled
    }
}
