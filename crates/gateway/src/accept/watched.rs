//! A client connection with the clocks of security.md section 3: a head must arrive in time, an idle
//! connection closes, and a client that stops reading does not keep a call open for ever.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rails::dial::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The next request.
    Idle,
    /// The rest of a head.
    Head,
    /// Our answer, or the body that its reader watches.
    Request,
}

/// Shared between a connection and the service on it.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Rc<Cell<Phase>>);

impl Watch {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(Phase::Idle)))
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.0.set(phase);
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
    armed: Option<Phase>,
}

impl Alarm {
    /// Whether `after` has passed since the alarm was first asked in this phase.
    fn rings(&mut self, phase: Phase, after: Duration, cx: &mut Context<'_>) -> bool {
        if self.armed != Some(phase) {
            let deadline = Instant::now() + after;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
            }
            self.armed = Some(phase);
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
        if self.writing.rings(Phase::Request, self.patience.write_stall, cx) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read"));
        }
        Ok(())
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let phase = this.watch.0.get();
        if polled.is_ready() {
            if buf.filled().len() > before && phase == Phase::Idle {
                this.watch.set(Phase::Head);
                // The clock of a head starts with its first byte and is not restarted by the next ones.
                let _ = this.reading.rings(Phase::Head, this.patience.head, cx);
            }
            return polled;
        }
        let late = match phase {
            Phase::Idle => this.reading.rings(phase, this.patience.idle, cx),
            Phase::Head => this.reading.rings(phase, this.patience.head, cx),
            Phase::Request => {
                this.reading.disarm();
                false
            }
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
