//! An answer on its way down: each piece goes out as it comes in, and the charge for it ends with it. What
//! nobody waits for any more is read on for a while in the background.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use meter::{Counted, End};
use store::StoreError;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::charge::{Charge, Counting, Landing, Stop};
use crate::epilogue::{Bill, Epilogue, end_mark};
use crate::payments::PaymentResult;
use crate::sending::Sending;
use crate::upstream::UpstreamBody;
use crate::upstream::grpc::{self, BrokenBy, GrpcEnd};

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
    /// When the hold expires.
    deadline: Instant,
    /// Who waits for the next piece: what ends the call from aside must tell them.
    waiting: Cell<Option<Waker>>,
}

/// How often seats are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Aftercare {
    /// Starts this thread's tasks. Reading on is bounded by the policy of the route; a client that does not read
    /// for `patience` is taken for gone.
    pub(crate) fn start(patience: impl Fn() -> Duration + 'static) -> Rc<Self> {
        let (abandoned, mut arrivals) = mpsc::unbounded_channel::<Going>();
        tokio::task::spawn_local(async move {
            while let Some((body, charge)) = arrivals.recv().await {
                let drain =
                    if charge.quote.grows_by_reading() { Duration::ZERO } else { charge.policy.drain };
                // Whoever leaves gets no longer a call than whoever stays.
                let left = charge.deadline.saturating_duration_since(Instant::now());
                let drain = charge.client.left_of(drain).min(left);
                tokio::task::spawn_local(read_out(body, charge, drain));
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
            if seat.deadline <= Instant::now() {
                seat.expire();
            } else if seat.unread_since.get().is_some_and(|since| since.elapsed() > patience) {
                seat.give_up(&self.abandoned);
            }
            true
        });
    }
}

impl Seat {
    /// Ends the call where it is: what was metered until now is charged, the rest of its hold goes back.
    fn expire(&self) {
        if let Some((_, mut charge)) = self.going.borrow_mut().take() {
            charge.expire();
            if let Some(waker) = self.waiting.take() {
                waker.wake();
            }
        }
    }

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
    if charge.meter.progress().terminal.is_some() || charge.ended {
        // The whole answer was passed on, and what holds it open now counts for nothing (MTR-13).
        charge.stop(End::Eof, &mut discarded);
        return count_and_finish(charge).await;
    }
    let reading = async {
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(chunk)) => match charge.feed(chunk, &mut discarded) {
                    Ok(()) => {}
                    Err(Stop::KeySeen) => return End::Reset,
                    Err(Stop::Exhausted | Stop::Unpaid) => return End::CutShort,
                },
                Ok(Err(frame)) => {
                    if charge.take_trailers(frame).is_err() {
                        return End::Reset;
                    }
                }
                Err(_) => return charge.broken_end(),
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
    charge.stop(end, &mut discarded);
    // Nothing more is wanted of the upstream while tokens are counted.
    drop(body);
    count_and_finish(charge).await;
}

/// Charges a call whose answer nobody waits for any more.
async fn count_and_finish(mut charge: Box<Charge>) {
    let counted = match charge.begin_count() {
        Some(counting) => counting.await,
        None => Counted::NOTHING,
    };
    charge.finish(counted, &mut Vec::new());
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
    /// The client did not read for too long, or the call lasted too long: it has been ended.
    #[error("the call has been ended")]
    Ended,
    /// The charge cannot be written down; the gateway is about to stop.
    #[error("the charge could not be recorded")]
    Unrecorded,
    /// Nobody pays for the rest, and the answer is none that can be ended in its own words.
    #[error("the balance does not cover the rest of the answer")]
    Unpaid,
    /// The upstream sent back what only it and we may know.
    #[error("the upstream's answer was cut off")]
    Withheld,
    /// The client's own request broke off, or is too large.
    #[error("the request broke off")]
    Request,
}

impl AnswerError {
    /// The same for who reads gRPC's trailers.
    const fn broken_by(&self) -> BrokenBy {
        match self {
            Self::Upstream(_) | Self::Silent => BrokenBy::Upstream,
            Self::Unpaid | Self::Request => BrokenBy::Bound,
            Self::Ended => BrokenBy::Time,
            Self::Unrecorded | Self::Withheld => BrokenBy::Gateway,
        }
    }
}

/// An answer on its way down, and the charge for it.
pub(crate) struct ChargedBody {
    seat: Rc<Seat>,
    ended: bool,
    ready: VecDeque<Bytes>,
    scratch: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Whether it ends with a status in its trailers, whatever happens.
    is_grpc: bool,
    epilogue: Epilogue,
    /// What ends the stream, behind the comment that waits for the bill.
    held_back: Option<Bytes>,
    /// What the call came to, for whoever asked to be told.
    bill: Option<Bill>,
    /// What becomes of the payment, for whoever asked to be told: until then nothing ends (X402-17).
    result: Option<PaymentResult>,
    /// Tokens that are counted because no report came: until then nothing more goes out either.
    counting: Option<Counting>,
    /// The charge on its way to the disk: until it is there nothing more goes out (LED-25).
    landing: Option<Landing>,
    /// Bytes still to come, when the upstream said so and nothing is cut out.
    left: Option<u64>,
    /// How the answer breaks off once what is ready has gone out.
    broken: Option<AnswerError>,
    /// Whether what was held back as the possible beginning of a key proved to be none.
    leftover: bool,
    /// Whether what was paid for had a turn to be written before the break takes the connection.
    flushed: bool,
    idle: Idle,
    aftercare: Rc<Aftercare>,
}

struct Idle {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// A request that still goes up is no silence.
    sending: Option<Sending>,
}

impl Idle {
    fn elapsed(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.waiting {
            self.wait_until(Instant::now() + self.after);
            self.waiting = true;
        }
        while self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
            let moved = self.sending.as_ref().map(|sending| sending.moved() + self.after);
            match moved.filter(|deadline| *deadline > Instant::now()) {
                Some(deadline) => self.wait_until(deadline),
                None => return true,
            }
        }
        false
    }

    fn wait_until(&mut self, deadline: Instant) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }
}

impl ChargedBody {
    pub(crate) fn new(
        upstream: UpstreamBody,
        charge: Charge,
        epilogue: Epilogue,
        stream_idle: Duration,
        aftercare: Rc<Aftercare>,
    ) -> Self {
        // A stream whose hold grows may end before its time, in words of ours.
        let plain = !charge.quote.hides_usage() && !epilogue.is_wanted() && charge.growth.is_none();
        let left = upstream.size_hint().exact().filter(|_| plain);
        let is_empty = upstream.is_end_stream();
        let (deadline, is_grpc, sending) =
            (charge.deadline, charge.grpc.is_some(), charge.quote.sending.clone());
        let going = RefCell::new(Some((upstream, Box::new(charge))));
        let seat = Rc::new(Seat { going, unread_since: Cell::new(None), deadline, waiting: Cell::default() });
        aftercare.seats.borrow_mut().push(Rc::downgrade(&seat));
        let mut body = Self {
            seat,
            ended: false,
            ready: VecDeque::new(),
            scratch: Vec::new(),
            trailers: None,
            is_grpc,
            epilogue,
            held_back: None,
            bill: None,
            result: None,
            counting: None,
            landing: None,
            left,
            broken: None,
            leftover: false,
            flushed: false,
            idle: Idle { after: stream_idle, sleep: None, waiting: false, sending },
            aftercare,
        };
        if is_empty {
            body.end(End::Eof);
        }
        body
    }

    /// Waits until the charge for an answer without a body is on disk, where it has to: nobody would ask such
    /// a body for what holds back its end (LED-25).
    ///
    /// # Errors
    /// The charge was not recorded.
    pub(crate) async fn landed_if_empty(&mut self) -> Result<(), StoreError> {
        if !self.ended {
            return Ok(());
        }
        if let Some(counting) = self.counting.take() {
            let counted = counting.await;
            self.counted(counted);
        }
        match self.landing.take() {
            Some(landing) => landing.await,
            None => Ok(()),
        }
    }

    fn end(&mut self, end: End) {
        self.ended = true;
        let seat = Rc::clone(&self.seat);
        if let Some((_, charge)) = seat.going.borrow_mut().as_mut() {
            self.stop(charge, end);
            self.leftover = end == End::Eof;
        }
        self.leave();
    }

    /// Nothing is left to come and nothing to be counted: the upstream is let go.
    fn leave(&mut self) {
        if self.counting.is_some() || !self.ended {
            return;
        }
        let going = self.seat.going.borrow_mut().take();
        if let Some((_, mut charge)) = going.filter(|_| self.leftover) {
            let waited = charge.waiting();
            self.ready.extend((!waited.is_empty()).then_some(waited));
        }
    }

    /// Ends the metering; then the charge, at once where nothing has to be counted for it.
    fn stop(&mut self, charge: &mut Charge, end: End) {
        charge.stop(end, &mut self.scratch);
        self.ready.extend(self.scratch.drain(..));
        if self.counting.is_none() {
            self.counting = charge.begin_count();
        }
        if self.counting.is_none() {
            self.finish(charge, Counted::NOTHING);
        }
    }

    fn finish(&mut self, charge: &mut Charge, counted: Counted) {
        let Some(sum) = charge.finish(counted, &mut self.scratch) else { return };
        self.ready.extend(self.scratch.drain(..));
        self.trailers = charge.grpc.as_mut().map(GrpcEnd::trailers);
        if let Some(payer) = charge.payer.as_ref().filter(|_| self.epilogue.is_wanted()) {
            let bill = Bill::of(&sum, payer, charge.call);
            if self.epilogue.trailers {
                self.trailers.get_or_insert_default().extend(bill.trailers());
            }
            if self.epilogue.comment {
                self.hold_back();
            }
            self.bill = Some(bill);
            self.result = match (sum.result, charge.notary.take()) {
                (Some(result), Some(notary)) => Some(notary.confirm_late(result)),
                (result, _) => result,
            };
        }
        self.landing = sum.landing;
    }

    /// Keeps back what ends the stream for its reader, if it is among what is ready.
    fn hold_back(&mut self) {
        let ready: Vec<Bytes> = self.ready.drain(..).collect();
        let mut before = Bytes::from(ready.concat());
        let end = before.split_off(end_mark(&before));
        self.ready.extend((!before.is_empty()).then_some(before));
        self.held_back = Some(end);
    }

    /// The settlement is decided, or nobody can tell yet.
    fn told(&mut self, result: Option<(HeaderName, HeaderValue)>) {
        let (Some((name, value)), Some(bill)) = (result, &mut self.bill) else { return };
        bill.settled(value.clone());
        if let Some(trailers) = &mut self.trailers {
            trailers.extend(bill.trailers());
            trailers.insert(name, value);
        }
    }

    /// Tokens were counted.
    fn counted(&mut self, counted: Counted) {
        self.counting = None;
        let seat = Rc::clone(&self.seat);
        if let Some((_, charge)) = seat.going.borrow_mut().as_mut() {
            self.finish(charge, counted);
        }
        self.leave();
    }

    fn next_chunk(&mut self) -> Option<Frame<Bytes>> {
        while let Some(chunk) = self.ready.pop_front() {
            if !chunk.is_empty() {
                self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
                return Some(Frame::data(chunk));
            }
        }
        None
    }

    /// Ends an answer in gRPC's words that breaks off.
    fn break_off(&mut self, error: &AnswerError) -> Frame<Bytes> {
        self.ended = true;
        self.ready.clear();
        (self.counting, self.landing, self.broken) = (None, None, None);
        let mut trailers = self.trailers.take().unwrap_or_default();
        grpc::complete(&mut trailers, error.broken_by());
        Frame::trailers(trailers)
    }

    /// Takes the next frame of the upstream in, to what is ready.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AnswerError>> {
        let seat = Rc::clone(&self.seat);
        let mut going = seat.going.borrow_mut();
        let Some((upstream, charge)) = going.as_mut() else {
            self.ended = true;
            return Poll::Ready(Err(AnswerError::Ended));
        };
        let polled = Pin::new(&mut *upstream).poll_frame(cx);
        let (end, answer) = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.idle.waiting = false;
                let last = upstream.is_end_stream();
                if let Some(sending) = &charge.quote.sending {
                    sending.touch();
                }
                let passed = match frame.into_data() {
                    Ok(chunk) => charge.feed(chunk, &mut self.scratch),
                    Err(frame) => charge.take_trailers(frame),
                };
                self.ready.extend(self.scratch.drain(..));
                // Nothing counts after the end mark (MTR-13): what holds it waits for the charge, if anything does.
                if passed.is_ok() && charge.meter.progress().terminal.is_some() {
                    self.stop(charge, End::Eof);
                }
                match passed {
                    Err(Stop::KeySeen) => (Some(End::Reset), Err(AnswerError::Withheld)),
                    Err(Stop::Exhausted) => (Some(End::CutShort), Ok(())),
                    Err(Stop::Unpaid) => {
                        self.broken = Some(AnswerError::Unpaid);
                        (Some(End::CutShort), Ok(()))
                    }
                    Ok(()) => (last.then_some(End::Eof), Ok(())),
                }
            }
            Poll::Ready(None) => (Some(End::Eof), Ok(())),
            Poll::Ready(Some(Err(error))) => match charge.broken_end() {
                End::CutShort => (Some(End::CutShort), Err(AnswerError::Request)),
                end => (Some(end), Err(AnswerError::Upstream(error))),
            },
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
            if let Some(counting) = &mut self.counting {
                match counting.as_mut().poll(cx) {
                    Poll::Ready(counted) => self.counted(counted),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if let Some(landing) = &mut self.landing {
                match landing.as_mut().poll(cx) {
                    Poll::Ready(Ok(())) => self.landing = None,
                    Poll::Ready(Err(_)) => {
                        self.ready.clear();
                        return Poll::Ready(Some(Err(AnswerError::Unrecorded)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if let Some(frame) = self.next_chunk() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.ended || self.held_back.is_some() {
                match self.result.as_mut().map(|result| result.as_mut().poll(cx)) {
                    Some(Poll::Ready(result)) => {
                        self.result = None;
                        self.told(result);
                    }
                    Some(Poll::Pending) => return Poll::Pending,
                    None => {}
                }
            }
            if let (Some(bill), Some(end)) = (&self.bill, self.held_back.take()) {
                self.ready.extend([bill.comment(), end]);
                continue;
            }
            if let Some(mut trailers) = self.trailers.take_if(|_| self.ended) {
                if self.is_grpc {
                    let broken = self.broken.take();
                    let broken = broken.as_ref().map_or(BrokenBy::Nothing, AnswerError::broken_by);
                    grpc::complete(&mut trailers, broken);
                }
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            if self.ended {
                if self.broken.is_some() && !std::mem::replace(&mut self.flushed, true) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(self.broken.take().map(Err));
            }
            match self.take_in(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Body for ChargedBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let body = self.get_mut();
        let polled = match body.poll_next(cx) {
            Poll::Ready(Some(Err(error))) if body.is_grpc => Poll::Ready(Some(Ok(body.break_off(&error)))),
            polled => polled,
        };
        let out = matches!(polled, Poll::Ready(Some(Ok(_))));
        body.seat.unread_since.set(out.then(Instant::now));
        body.seat.waiting.set(polled.is_pending().then(|| cx.waker().clone()));
        polled
    }

    fn is_end_stream(&self) -> bool {
        let nothing_left = self.ready.is_empty() && self.trailers.is_none() && self.broken.is_none();
        let nobody_waits = self.landing.is_none() && self.counting.is_none() && self.held_back.is_none();
        self.ended && nothing_left && nobody_waits
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
