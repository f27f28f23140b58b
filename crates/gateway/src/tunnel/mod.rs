//! A WebSocket on its way: bytes go both ways as they come, through buffers of a fixed size, until one side ends, nothing moves,
//! or nobody pays for more. The charge for it ends with it (`specs/upstreams.md`).

mod coverage;
mod frames;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use meter::{Counted, End};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, timeout};

use crate::accept::Underway;
use crate::charge::Charge;
use crate::growth::Exhausted;
use crate::random;

use coverage::Measure;
use frames::{Frames, close};

pub(crate) use coverage::Coverage;

/// Bytes that wait for the other side, each way.
const BUFFER_BYTES: usize = 16 * 1024;
/// Until both sides are ours after the 101.
const OPENING_MAX: Duration = Duration::from_secs(10);
/// For a side to take our last words and to leave.
const CLOSING_MAX: Duration = Duration::from_secs(2);
/// How often the clocks are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Codes of close frames (RFC 6455 section 7.4.1).
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;
const INTERNAL: u16 = 1011;

type Reading = ReadHalf<TokioIo<Upgraded>>;
type Writing = WriteHalf<TokioIo<Upgraded>>;

/// Both sides of an open WebSocket, and the charge for it.
pub(crate) struct Tunnel {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: OnUpgrade,
    pub(crate) charge: Box<Charge>,
    /// None where neither time nor bytes have a price.
    pub(crate) coverage: Option<Coverage>,
    /// Longest without a byte either way.
    pub(crate) idle: Duration,
}

/// Why a tunnel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    ClientLeft,
    /// The upstream has ended it, as its protocol wants or not.
    UpstreamLeft,
    UpstreamBroke,
    /// What came down must not go on.
    Withheld,
    Unpaid(Exhausted),
    Idle,
    TimeOver,
    Draining,
}

impl Cause {
    const fn end(self) -> End {
        match self {
            Self::ClientLeft => End::ClientGone,
            Self::UpstreamLeft => End::Eof,
            Self::UpstreamBroke | Self::Withheld => End::Reset,
            Self::Unpaid(_) | Self::Idle | Self::TimeOver | Self::Draining => End::CutShort,
        }
    }

    /// What the client is told; nothing where the upstream has had the last word, or nobody listens.
    const fn to_client(self) -> Option<u16> {
        match self {
            Self::ClientLeft | Self::UpstreamLeft => None,
            Self::Unpaid(_) => Some(POLICY),
            Self::Idle | Self::TimeOver | Self::Draining => Some(GOING_AWAY),
            Self::UpstreamBroke | Self::Withheld => Some(INTERNAL),
        }
    }

    const fn to_upstream(self) -> Option<u16> {
        match self {
            Self::UpstreamLeft | Self::UpstreamBroke => None,
            Self::ClientLeft
            | Self::Withheld
            | Self::Unpaid(_)
            | Self::Idle
            | Self::TimeOver
            | Self::Draining => Some(GOING_AWAY),
        }
    }
}

impl Tunnel {
    /// Carries bytes from the moment at which the 101 has gone out. `underway` says that the client's connection is in use.
    pub(crate) fn start(self, underway: Underway) {
        underway.begin_tunnel();
        tokio::task::spawn_local(async move {
            self.run().await;
            drop(underway);
        });
    }

    async fn run(self) {
        let Self { client, upstream, charge, coverage, idle } = self;
        let both = timeout(OPENING_MAX, async { (client.await, upstream.await) }).await;
        let line = Line::new(charge, coverage, idle);
        match both {
            Ok((Ok(client), Ok(upstream))) => line.carry(client, upstream).await,
            Ok((Ok(_), Err(_))) => line.settle(Cause::UpstreamBroke),
            Ok((Err(_), _)) | Err(_) => line.settle(Cause::ClientLeft),
        }
    }
}

/// What the two directions and the clock share.
struct Line {
    charge: RefCell<Box<Charge>>,
    coverage: RefCell<Option<Coverage>>,
    idle: Duration,
    down: RefCell<Frames>,
    up: RefCell<Frames>,
    /// Bytes that went down, and whether some are half out; likewise up.
    down_bytes: Cell<u64>,
    down_writes: Cell<bool>,
    up_writes: Cell<bool>,
}

impl Line {
    fn new(charge: Box<Charge>, coverage: Option<Coverage>, idle: Duration) -> Self {
        Self {
            charge: RefCell::new(charge),
            coverage: RefCell::new(coverage),
            idle,
            down: RefCell::default(),
            up: RefCell::default(),
            down_bytes: Cell::new(0),
            down_writes: Cell::new(false),
            up_writes: Cell::new(false),
        }
    }

    async fn carry(self, client: Upgraded, upstream: Upgraded) {
        let (mut from_client, mut to_client) = split(TokioIo::new(client));
        let (mut from_upstream, mut to_upstream) = split(TokioIo::new(upstream));
        let cause = tokio::select! {
            cause = self.carry_down(&mut from_upstream, &mut to_client) => cause,
            cause = self.carry_up(&mut from_client, &mut to_upstream) => cause,
            cause = self.watch() => cause,
        };
        // Nothing is sold any more; what follows is courtesy.
        self.settle(cause);
        let may_close =
            |frames: &RefCell<Frames>, writes: &Cell<bool>| frames.borrow().may_close() && !writes.get();
        let code = cause.to_client().filter(|_| may_close(&self.down, &self.down_writes));
        let last_to_client = code.map(|code| close(code, None)).unwrap_or_default();
        let code = cause.to_upstream().filter(|_| may_close(&self.up, &self.up_writes));
        let last_to_upstream = code.map(|code| close(code, Some(random::bytes()))).unwrap_or_default();
        tokio::join!(
            leave(&mut from_client, &mut to_client, &last_to_client),
            leave(&mut from_upstream, &mut to_upstream, &last_to_upstream),
        );
    }

    async fn carry_down(&self, from: &mut Reading, to: &mut Writing) -> Cause {
        let mut buffer = BytesMut::new();
        let mut ready = Vec::new();
        loop {
            let chunk = match read(from, &mut buffer).await {
                Ok(Some(chunk)) => chunk,
                // Whoever ends a WebSocket says so.
                Ok(None) if self.down.borrow().is_closed() || self.up.borrow().is_closed() => {
                    return Cause::UpstreamLeft;
                }
                Ok(None) | Err(_) => return Cause::UpstreamBroke,
            };
            let (most, why) = self.allow(Measure::Down, self.down_bytes.get(), chunk.len());
            self.down_bytes.set(self.down_bytes.get().saturating_add(most as u64));
            let fed = self.charge.borrow_mut().feed(chunk.slice(..most), &mut ready);
            for piece in ready.drain(..) {
                self.down_writes.set(true);
                if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
                    return Cause::ClientLeft;
                }
                self.down_writes.set(false);
                self.down.borrow_mut().follow(&piece);
                self.touch();
            }
            if fed.is_err() {
                return Cause::Withheld;
            }
            if let Some(why) = why {
                return Cause::Unpaid(why);
            }
        }
    }

    async fn carry_up(&self, from: &mut Reading, to: &mut Writing) -> Cause {
        let mut buffer = BytesMut::new();
        loop {
            let Ok(Some(chunk)) = read(from, &mut buffer).await else { return Cause::ClientLeft };
            let sent = self.charge.borrow().quote.sending.as_ref().map_or(0, |sending| sending.bytes());
            let (most, why) = self.allow(Measure::Up, sent, chunk.len());
            let piece = chunk.slice(..most);
            self.up_writes.set(true);
            if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
                return Cause::UpstreamBroke;
            }
            self.up_writes.set(false);
            // What an upstream that has gone did not take has not gone up.
            if let Some(sending) = &self.charge.borrow().quote.sending {
                sending.sent(piece.len());
            }
            self.up.borrow_mut().follow(&piece);
            if let Some(why) = why {
                return Cause::Unpaid(why);
            }
        }
    }

    /// How much of so many bytes may go on.
    fn allow(&self, measure: Measure, used: u64, bytes: usize) -> (usize, Option<Exhausted>) {
        let (most, why) = self.allow_wide(measure, used, bytes as u64);
        (usize::try_from(most).unwrap_or(bytes).min(bytes), why)
    }

    fn allow_wide(&self, measure: Measure, used: u64, wanted: u64) -> (u64, Option<Exhausted>) {
        let mut charge = self.charge.borrow_mut();
        let mut coverage = self.coverage.borrow_mut();
        let (Some(coverage), Some(hold)) = (coverage.as_mut(), &charge.hold) else { return (wanted, None) };
        let allowed = coverage.allow(hold, measure, used, wanted);
        charge.time_max = coverage.time();
        allowed
    }

    fn touch(&self) {
        if let Some(sending) = &self.charge.borrow().quote.sending {
            sending.touch();
        }
    }

    /// Ends when the time of the tunnel is over: that of the call, that without a byte, or that which is paid.
    async fn watch(&self) -> Cause {
        loop {
            let now = Instant::now();
            let (deadline, open, quiet) = {
                let charge = self.charge.borrow();
                let moved = charge.quote.sending.as_ref().map_or(now, |sending| sending.moved());
                if charge.gate.is_draining() {
                    return Cause::Draining;
                }
                (charge.deadline, charge.asked.elapsed(), moved + self.idle)
            };
            if self.charge.borrow().is_revoked() {
                return Cause::Unpaid(Exhausted::Revoked);
            }
            if now >= deadline {
                return Cause::TimeOver;
            }
            if now >= quiet {
                return Cause::Idle;
            }
            let used = u64::try_from(open.as_millis()).unwrap_or(u64::MAX);
            // The millisecond that has begun is one that is held for.
            if let (_, Some(why)) = self.allow_wide(Measure::Milliseconds, used, 1) {
                return Cause::Unpaid(why);
            }
            let paid = self.coverage.borrow().as_ref().and_then(Coverage::time);
            let paid = paid.map_or(deadline, |paid| now + paid.saturating_sub(open));
            let next =
                (now + LOOK_EVERY).min(deadline).min(quiet).min(paid.max(now + Duration::from_millis(1)));
            tokio::time::sleep_until(next).await;
        }
    }

    /// Charges what was used until now, and gives the rest back.
    fn settle(&self, cause: Cause) {
        let mut charge = self.charge.borrow_mut();
        if cause == Cause::TimeOver {
            return charge.expire();
        }
        if let Cause::Unpaid(why) = cause {
            charge.exhausted = Some(why);
            tracing::info!(call = %charge.call, ?why, "the tunnel ends because nothing is left to pay for it");
        }
        charge.stop(cause.end(), &mut Vec::new());
        // The write that it may want to be waited for goes on in the background: nothing is answered any more.
        drop(charge.finish(Counted::NOTHING, &mut Vec::new()));
    }
}

/// The next piece; none at the end.
async fn read(from: &mut Reading, buffer: &mut BytesMut) -> std::io::Result<Option<Bytes>> {
    buffer.reserve(BUFFER_BYTES);
    let read = from.take(BUFFER_BYTES as u64).read_buf(buffer).await?;
    Ok((read > 0).then(|| buffer.split().freeze()))
}

/// Says the last words to a side, and listens for a while: a connection that is closed with bytes unread may take our words
/// with it.
async fn leave(from: &mut Reading, to: &mut Writing, last: &[u8]) {
    let leaving = async {
        to.write_all(last).await?;
        to.shutdown().await?;
        let mut unread = BytesMut::new();
        while read(from, &mut unread).await?.is_some() {}
        Ok::<_, std::io::Error>(())
    };
    // Whoever does not take them has gone.
    let _ = timeout(CLOSING_MAX, leaving).await;
}
