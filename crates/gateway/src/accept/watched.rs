//! A client connection with the clocks of security.md section 3: a head must arrive in time, an idle
//! connection closes, and a client that stops reading does not keep a call open for ever.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Version;
use rails::dial::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What the connection waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The next request.
    #[default]
    Idle,
    /// The rest of a head.
    Head,
    /// Our answer, or the body that its reader watches.
    Request,
}

/// Shared between a connection and the requests on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(Rc<State>);

/// Connections so far: each has a number that no other has.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct State {
    number: u64,
    phase: Cell<Phase>,
    /// Grows with each change of phase, so that a clock of an earlier one is not taken for this one's.
    turn: Cell<u64>,
    underway: Cell<usize>,
    /// Streams share the connection: what arrives between requests is not the head of one.
    multiplexed: Cell<bool>,
    /// The connection's task, as it was last seen.
    waits: RefCell<Option<Waker>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            number: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
            phase: Cell::default(),
            turn: Cell::default(),
            underway: Cell::default(),
            multiplexed: Cell::default(),
            waits: RefCell::default(),
        }
    }
}

/// A request that has not been answered to the end. The last one to go makes the connection idle.
#[derive(Debug)]
pub(crate) struct Underway(Watch);

impl Watch {
    /// A request has arrived.
    pub(crate) fn begin(&self, version: Version) -> Underway {
        self.0.multiplexed.set(version >= Version::HTTP_2);
        self.0.underway.set(self.0.underway.get() + 1);
        self.turn_to(Phase::Request);
        Underway(self.clone())
    }

    /// Remembers whom to wake when the last request goes.
    fn remember(&self, cx: &Context<'_>) {
        let mut waits = self.0.waits.borrow_mut();
        if !waits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waits = Some(cx.waker().clone());
        }
    }

    fn turn_to(&self, phase: Phase) {
        self.0.phase.set(phase);
        self.0.turn.set(self.0.turn.get() + 1);
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
        let state = &self.0.0;
        state.underway.set(state.underway.get().saturating_sub(1));
        if state.underway.get() == 0 {
            self.0.turn_to(Phase::Idle);
            // Its clock starts when the connection looks again, and nothing else may make it look.
            if let Some(waker) = state.waits.take() {
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
        let state = Rc::clone(&this.watch.0);
        if polled.is_ready() {
            let came = buf.filled().len() > before;
            if came && state.phase.get() == Phase::Idle && !state.multiplexed.get() {
                this.watch.turn_to(Phase::Head);
                // The clock of a head starts with its first byte and is not restarted by the next ones.
                let _ = this.reading.rings(state.turn.get(), this.patience.head, cx);
            }
            return polled;
        }
        let late = match state.phase.get() {
            Phase::Idle => this.reading.rings(state.turn.get(), this.patience.idle, cx),
            Phase::Head => this.reading.rings(state.turn.get(), this.patience.head, cx),
            Phase::Request => false,
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
