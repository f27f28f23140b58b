//! The hold travels with the response body and ends with it: whatever the end, there is one settle path
//! (LED-7, MTR-3).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use ledger::{Chart, Draft, Ended, Flags, Hold, HoldEnd, Kind, LegDraft, leg_asset, memo_asset};
use meter::{Charge as Cost, End, Meter, Metered};
use money::Amount;
use store::{Op, StoreError};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::call_id::CallId;
use crate::clock::Now;
use crate::facts::{self, CallFacts};
use crate::gate::Gate;
use crate::limits::{Running, Slot};
use crate::payer::Payer;
use crate::payments::{Deposit, Served};
use crate::quote::Quote;
use crate::replays::REPLAY_BODY_BYTES_MAX;
use crate::upstream::{KeySeen, KeyWatch, UpstreamBody};

/// Everything that is decided when a call ends.
pub(crate) struct Charge {
    pub(crate) gate: Arc<Gate>,
    pub(crate) call: CallId,
    pub(crate) route: String,
    pub(crate) upstream: String,
    pub(crate) payer: Option<Payer>,
    pub(crate) quote: Quote,
    pub(crate) clamp: Option<u64>,
    /// None for a free route.
    pub(crate) hold: Option<Hold>,
    pub(crate) deposit: Option<Deposit>,
    /// Keeps the upstream's own key out of the answer.
    pub(crate) key_watch: Option<KeyWatch>,
    pub(crate) meter: Meter,
    pub(crate) status: StatusCode,
    pub(crate) started: Now,
    pub(crate) span: tracing::Span,
    /// Head and body for a replay of a paid answer, while it is small enough.
    pub(crate) tape: Option<Tape>,
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(crate) guards: Guards,
    pub(crate) ended: bool,
}

/// What counts while the call lasts.
#[expect(dead_code, reason = "held for what their drop does")]
pub(crate) struct Guards {
    pub(crate) running: Option<Running>,
    pub(crate) slot: Slot,
}

/// A copy of a paid answer, by reference to the same bytes.
pub(crate) struct Tape {
    pub(crate) head: Response<()>,
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Tape {
    pub(crate) const fn new(head: Response<()>) -> Self {
        Self { head, chunks: Vec::new(), bytes: 0 }
    }

    fn answer(self) -> Response<Bytes> {
        self.head.map(|()| Bytes::from(self.chunks.concat()))
    }
}

/// What a charge came to, for trailers.
struct Sum {
    captured: Amount,
    available: Amount,
    usage: String,
}

impl Charge {
    /// Takes a piece of the answer; what goes on of it is added to `out`.
    ///
    /// # Errors
    /// [`KeySeen`]: the answer ends here.
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<(), KeySeen> {
        let chunk = match &mut self.key_watch {
            None => chunk,
            Some(watch) => watch.pass(chunk).inspect_err(|KeySeen| {
                let upstream = &self.upstream;
                tracing::error!(parent: &self.span, %upstream, "ALARM: the upstream sent its own key back; answer cut off");
            })?,
        };
        self.meter_in(chunk, out);
        Ok(())
    }

    fn meter_in(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        let before = out.len();
        self.meter.feed(chunk, out);
        let added: usize = out[before..].iter().map(Bytes::len).sum();
        if let Some(tape) = &mut self.tape {
            tape.bytes += added;
            tape.chunks.extend_from_slice(&out[before..]);
            if tape.bytes > REPLAY_BODY_BYTES_MAX {
                self.tape = None;
            }
        }
    }

    /// Ends the call: meters, captures or voids, writes it down. The second time does nothing.
    fn settle(&mut self, end: End, out: &mut Vec<Bytes>) -> Option<Sum> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let rest = self.key_watch.as_mut().map(KeyWatch::rest).unwrap_or_default();
        if !rest.is_empty() {
            self.meter_in(rest, out);
        }
        let before = out.len();
        let metered = self.meter.end(end, out);
        if let Some(tape) = &mut self.tape {
            tape.chunks.extend_from_slice(&out[before..]);
        }
        let cost = self.quote.charge(&metered, self.clamp).unwrap_or_else(|error| {
            // A report that cannot be priced costs the payer what was held and no more.
            tracing::error!(parent: &self.span, %error, "charge from the hold");
            let nano = self.hold.as_ref().map_or(Amount::ZERO, Hold::amount);
            Cost { femto: money::Femto::ZERO, nano, estimated: true, lines: Vec::new() }
        });
        let (ended, capture) = match self.hold.take().and_then(|hold| self.capture(&hold, &cost, &metered)) {
            Some((ended, capture)) => (Some(ended), capture),
            None => (None, None),
        };
        match (self.used_payment(end, cost.nano, metered.upstream_error), capture) {
            (Some(served), capture) => served.write(&self.gate, capture),
            (None, Some(capture)) => self.record(capture),
            (None, None) => {}
        }
        let captured = ended.map_or(Amount::ZERO, |ended| ended.captured);
        self.report(&metered, captured, cost.estimated);
        let available = ended.map_or(Amount::ZERO, |ended| ended.available);
        Some(Sum { captured, available, usage: facts::usage_line(&metered) })
    }

    /// Ends the hold; the write that goes with it, if the call is one to remember.
    fn capture(&self, hold: &Hold, cost: &Cost, metered: &Metered) -> Option<(Ended, Option<Op>)> {
        let ended = hold.finish(cost.nano)?;
        self.gate.metrics.hold_ended();
        let account = hold.chain().first()?;
        let asset = account.asset();
        if ended.end == HoldEnd::Captured {
            let units = |amount: Amount| u64::try_from(amount.units()).unwrap_or(0);
            self.gate.metrics.charge(asset.name(), units(ended.captured), units(ended.overrun));
            if cost.estimated {
                self.gate.metrics.estimated(&self.route);
            }
        }
        let facts = CallFacts {
            call: self.call,
            account: account.id(),
            asset,
            payer: self.payer.as_ref()?,
            route: &self.route,
            upstream: &self.upstream,
            quote: &self.quote,
            held: hold.amount(),
            ended: &ended,
            cost,
            metered,
            status: self.status.as_u16(),
            deposit: self.deposit.as_ref(),
            started: self.started,
            finished: Now::read(),
        };
        let served = self.status.is_success() && (ended.end == HoldEnd::Captured || !metered.upstream_error);
        let write = served.then(|| {
            let moved = ended.captured > Amount::ZERO || ended.overrun > Amount::ZERO;
            let entry = moved.then(|| self.entry(hold, &ended, cost));
            Op::Capture { id: self.call.0, entry, facts: facts.to_json(), served: None }
        });
        Some((ended, write))
    }

    /// Payer and budgets down, income up; what the payer did not have is the operator's loss.
    fn entry(&self, hold: &Hold, ended: &Ended, cost: &Cost) -> Draft {
        let chain = hold.chain();
        let asset = chain.first().map_or(money::Asset::Usd, |account| account.asset());
        let (captured, overrun) = (ended.captured.units(), ended.overrun.units());
        let mut legs = Vec::with_capacity(4 + chain.len());
        let mut money = |account, units: i64| {
            if units != 0 {
                legs.push(LegDraft { asset: leg_asset(asset), account, amount: Amount::from_units(units) });
            }
        };
        if let Some(account) = chain.first() {
            money(account.id(), -captured);
        }
        money(Chart::OverrunLoss.id(), -overrun);
        money(Chart::Usage(self.quote.model.clone()).id(), captured.saturating_add(overrun));
        let budgets = chain.get(1..).unwrap_or_default();
        for budget in budgets {
            legs.push(LegDraft {
                asset: memo_asset(asset),
                account: budget.id(),
                amount: Amount::from_units(-captured),
            });
        }
        if !budgets.is_empty() {
            let all = captured.saturating_mul(i64::try_from(budgets.len()).unwrap_or(i64::MAX));
            let amount = Amount::from_units(all);
            legs.push(LegDraft { asset: memo_asset(asset), account: Chart::Memo.id(), amount });
        }
        let version = self.quote.tariff.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        Draft {
            kind: Kind::Capture,
            flags: Flags { estimated: cost.estimated },
            time_ms: Now::read().millis(),
            id: self.call.0,
            key: [0; 32],
            reference: String::new(),
            price_version: version.unwrap_or(0),
            cost_femto: cost.femto.units(),
            legs,
        }
    }

    /// Group-committed behind the answer; a full queue means it is waited for elsewhere, never dropped.
    fn record(&self, op: Op) {
        match self.gate.store.submit(op.clone()) {
            Ok(()) => {}
            Err(StoreError::Full) => {
                let store = self.gate.store.clone();
                self.gate.background.spawn(async move {
                    if let Err(error) = store.commit(op).await {
                        tracing::error!(%error, "a capture could not be recorded");
                    }
                });
            }
            Err(error) => tracing::error!(%error, "a capture could not be recorded"),
        }
    }

    /// A call that failed before it cost anything leaves its payment unserved: the same request may try
    /// again and is not settled again.
    fn used_payment(&mut self, end: End, cost: Amount, upstream_error: bool) -> Option<Served> {
        let deposit = self.deposit.take()?;
        if (!self.status.is_success() || upstream_error) && cost == Amount::ZERO {
            return None;
        }
        if end == End::Eof
            && let Some(tape) = self.tape.take()
        {
            self.gate.replays.keep(deposit.key, tape.answer());
        }
        Some(deposit.served(self.status, self.call))
    }

    fn report(&self, metered: &Metered, captured: Amount, estimated: bool) {
        let outcome = if self.status.is_success() { "served" } else { "upstream_error" };
        self.gate.metrics.request(&self.route, outcome);
        let asset = self.payer.as_ref().map_or("", |payer| payer.account.asset().name());
        self.span.record("captured", tracing::field::display(captured.units()));
        tracing::info!(
            parent: &self.span,
            status = self.status.as_u16(),
            asset,
            estimated,
            basis = facts::basis_name(metered.basis),
            terminal = facts::terminal_name(metered.terminal),
            took_ms = Now::read().millis().saturating_sub(self.started.millis()),
            "call"
        );
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.settle(End::ClientGone, &mut Vec::new());
    }
}

/// Calls whose client has gone, or does not read, on their way to the task that reads the rest (section 7
/// of metering.md).
pub(crate) struct Aftercare {
    abandoned: mpsc::UnboundedSender<Going>,
    seats: RefCell<Vec<Weak<Seat>>>,
}

/// An answer that is being passed on, and its charge.
type Going = (UpstreamBody, Box<Charge>);

/// Where an answer waits for its client. HTTP/2 lets a client close its window and keep the connection
/// alive for ever; then nothing asks for the next piece, and only this shows it.
struct Seat {
    going: RefCell<Option<Going>>,
    /// Since when a piece has been out and the next was not asked for.
    unread_since: Cell<Option<Instant>>,
}

/// How often seats are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Aftercare {
    /// Starts this thread's tasks. Reading on is bounded by `drain`; a client that does not read for
    /// `patience` is taken for gone.
    pub(crate) fn start(
        drain: impl Fn() -> Duration + 'static,
        patience: impl Fn() -> Duration + 'static,
    ) -> Rc<Self> {
        let (abandoned, mut arrivals) = mpsc::unbounded_channel::<Going>();
        tokio::task::spawn_local(async move {
            while let Some((body, charge)) = arrivals.recv().await {
                tokio::task::spawn_local(read_out(body, charge, drain()));
            }
        });
        let aftercare = Rc::new(Self { abandoned, seats: RefCell::default() });
        let watched = Rc::downgrade(&aftercare);
        tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(LOOK_EVERY);
            loop {
                tick.tick().await;
                let Some(aftercare) = watched.upgrade() else { return };
                aftercare.look(patience());
            }
        });
        aftercare
    }

    fn look(&self, patience: Duration) {
        self.seats.borrow_mut().retain(|seat| {
            let Some(seat) = seat.upgrade() else { return false };
            if seat.unread_since.get().is_some_and(|since| since.elapsed() > patience) {
                seat.give_up(&self.abandoned);
            }
            true
        });
    }
}

impl Seat {
    fn give_up(&self, abandoned: &mpsc::UnboundedSender<Going>) {
        if let Some(going) = self.going.borrow_mut().take() {
            // If the task is gone, so is the process: dropping the charge settles it.
            let _ = abandoned.send(going);
        }
    }
}

/// Reads the rest of an answer nobody waits for, so that the provider's own report decides.
async fn read_out(mut body: UpstreamBody, mut charge: Box<Charge>, drain: Duration) {
    let mut discarded = Vec::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(chunk)) => {
                    if let Err(KeySeen) = charge.feed(chunk, &mut discarded) {
                        return End::Reset;
                    }
                }
                Ok(Err(_)) => {}
                Err(_) => return End::Reset,
            }
            discarded.clear();
            // Nothing counts after the end mark (MTR-13), and an upstream may keep the connection open.
            if charge.meter.progress().terminal.is_some() {
                break;
            }
        }
        End::Eof
    };
    let end = tokio::time::timeout(drain, reading).await.unwrap_or(End::ClientGone);
    charge.settle(end, &mut discarded);
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The upstream's connection broke.
    #[error("the upstream broke off")]
    Upstream(#[source] hyper::Error),
    /// The upstream sent nothing for too long.
    #[error("the upstream fell silent")]
    Silent,
    /// The client did not read for too long; its call has been ended.
    #[error("the client does not read")]
    Unread,
    /// The upstream sent back what only it and we may know.
    #[error("the upstream's answer was cut off")]
    Withheld,
}

/// An answer on its way down, and the charge for it.
pub(crate) struct ChargedBody {
    seat: Rc<Seat>,
    ended: bool,
    ready: std::collections::VecDeque<Bytes>,
    scratch: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    wants_trailers: bool,
    /// Bytes still to come, when the upstream said so and nothing is cut out.
    left: Option<u64>,
    idle: Idle,
    aftercare: Rc<Aftercare>,
}

struct Idle {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Idle {
    fn elapsed(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.waiting {
            let deadline = Instant::now() + self.after;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(deadline),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
            }
            self.waiting = true;
        }
        self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }
}

/// Names of our trailers, for the `Trailer` field of the head.
pub(crate) const TRAILERS: &str = "farthing-charge, farthing-balance, farthing-usage";

impl ChargedBody {
    pub(crate) fn new(
        upstream: UpstreamBody,
        charge: Charge,
        wants_trailers: bool,
        stream_idle: Duration,
        aftercare: Rc<Aftercare>,
    ) -> Self {
        let plain = !charge.quote.hides_usage() && !wants_trailers;
        let left = upstream.size_hint().exact().filter(|_| plain);
        let is_empty = upstream.is_end_stream();
        let going = RefCell::new(Some((upstream, Box::new(charge))));
        let seat = Rc::new(Seat { going, unread_since: Cell::new(None) });
        aftercare.seats.borrow_mut().push(Rc::downgrade(&seat));
        let mut body = Self {
            seat,
            ended: false,
            ready: std::collections::VecDeque::new(),
            scratch: Vec::new(),
            trailers: None,
            wants_trailers,
            left,
            idle: Idle { after: stream_idle, sleep: None, waiting: false },
            aftercare,
        };
        if is_empty {
            body.end(End::Eof);
        }
        body
    }

    fn end(&mut self, end: End) {
        self.ended = true;
        let Some((_, mut charge)) = self.seat.going.borrow_mut().take() else { return };
        let sum = charge.settle(end, &mut self.scratch);
        self.ready.extend(self.scratch.drain(..));
        if self.wants_trailers
            && let (Some(sum), Some(payer)) = (sum, &charge.payer)
        {
            self.trailers = Some(trailers(&sum, payer));
        }
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        while let Some(chunk) = self.ready.pop_front() {
            if !chunk.is_empty() {
                self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
                return Some(Frame::data(chunk));
            }
        }
        if self.ended { self.trailers.take().map(Frame::trailers) } else { None }
    }

    /// Takes the next frame of the upstream in, to what is ready.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AnswerError>> {
        let seat = Rc::clone(&self.seat);
        let mut going = seat.going.borrow_mut();
        let Some((upstream, charge)) = going.as_mut() else {
            self.ended = true;
            return Poll::Ready(Err(AnswerError::Unread));
        };
        let polled = Pin::new(&mut *upstream).poll_frame(cx);
        let (end, answer) = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.waiting = false;
                let last = upstream.is_end_stream();
                // Trailers of the upstream are dropped (SEC-10).
                let passed = match frame.into_data() {
                    Ok(chunk) => charge.feed(chunk, &mut self.scratch),
                    Err(_) => Ok(()),
                };
                self.ready.extend(self.scratch.drain(..));
                match passed {
                    Err(KeySeen) => (Some(End::Reset), Err(AnswerError::Withheld)),
                    Ok(()) => (last.then_some(End::Eof), Ok(())),
                }
            }
            Poll::Ready(None) => (Some(End::Eof), Ok(())),
            Poll::Ready(Some(Err(error))) => (Some(End::Reset), Err(AnswerError::Upstream(error))),
            Poll::Pending if self.idle.elapsed(cx) => (Some(End::Reset), Err(AnswerError::Silent)),
            Poll::Pending => return Poll::Pending,
        };
        drop(going);
        if let Some(end) = end {
            self.end(end);
        }
        Poll::Ready(answer)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        loop {
            if let Some(frame) = self.next() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.take_in(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn trailers(sum: &Sum, payer: &Payer) -> HeaderMap {
    let asset = payer.account.asset();
    let mut trailers = HeaderMap::with_capacity(3);
    for (name, value) in [
        ("farthing-charge", format!("{} {asset}", sum.captured.decimal(asset))),
        ("farthing-balance", format!("{} {asset}", sum.available.decimal(asset))),
        ("farthing-usage", sum.usage.clone()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            trailers.insert(name, value);
        }
    }
    trailers
}

impl Body for ChargedBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let body = self.get_mut();
        let polled = body.poll_next(cx);
        let out = matches!(polled, Poll::Ready(Some(Ok(_))));
        body.seat.unread_since.set(out.then(Instant::now));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ready.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ChargedBody {
    fn drop(&mut self) {
        self.seat.give_up(&self.aftercare.abandoned);
    }
}
