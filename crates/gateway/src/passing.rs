//! An answer on its way down: each piece goes out as it comes in, and the charge for it ends with it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use meter::{Counted, End};
use store::StoreError;

use crate::aftercare::{Aftercare, Seat};
use crate::charge::{Charge, Counting, Stop};
use crate::epilogue::{Bill, Epilogue, end_mark};
use crate::landing::Landing;
use crate::payments::PaymentResult;
use crate::session::{Pause, Waited};
use crate::silence::Silence;
use crate::upstream::grpc::{self, BrokenBy};
use crate::upstream::{BodyError, UpstreamBody};

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The upstream's connection broke.
    #[error("the upstream broke off")]
    Upstream(#[source] BodyError),
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
    /// What ends the stream, behind what stands before it and waits for the bill.
    held_back: Option<Bytes>,
    /// What the call came to, for whoever asked to be told. Boxed: while the answer lasts there is no room for it.
    bill: Option<Box<Bill>>,
    /// What becomes of the payment, for whoever asked to be told: until then nothing ends (X402-17).
    result: Option<PaymentResult>,
    /// Tokens that are counted because no report came: until then nothing more goes out either.
    counting: Option<Counting>,
    /// The stream waits for its payer: until it goes on nothing is read.
    pause: Option<Pause>,
    /// The charge on its way to the disk: until it is there nothing more goes out (LED-25).
    landing: Option<Landing>,
    /// Bytes still to come, when the upstream said so and nothing is cut out.
    left: Option<u64>,
    /// Why it broke off before it began.
    failed: Option<AnswerError>,
    /// How the answer breaks off once what is ready has gone out.
    broken: Option<AnswerError>,
    /// Whether what was held back as the possible beginning of a key proved to be none.
    leftover: bool,
    /// Whether what was paid for had a turn to be written before the break takes the connection.
    flushed: bool,
    silence: Silence,
    aftercare: Rc<Aftercare>,
}

impl ChargedBody {
    pub(crate) fn new(
        upstream: UpstreamBody,
        charge: Box<Charge>,
        epilogue: Epilogue,
        stream_idle: Duration,
        aftercare: Rc<Aftercare>,
    ) -> Self {
        // A stream whose hold grows may end before its time, in words of ours.
        let plain = !charge.quote.hides_usage() && !epilogue.is_wanted() && charge.growth.is_none();
        let left = upstream.size_hint().exact().filter(|_| plain);
        let is_empty = upstream.is_end_stream();
        let (is_grpc, sending) = (charge.grpc.is_some(), charge.quote.sending.clone());
        let seat = aftercare.seat(upstream, charge);
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
            pause: None,
            landing: None,
            left,
            failed: None,
            broken: None,
            leftover: false,
            flushed: false,
            silence: Silence::after(stream_idle, sending),
            aftercare,
        };
        if is_empty {
            body.end(End::Eof);
        }
        body
    }

    /// Takes in what came with the head. An answer that is whole by then goes out in one piece with it, when its charge is on
    /// disk, where it has to be: nobody would ask one without a body for what holds back its end (LED-25).
    ///
    /// # Errors
    /// The charge was not recorded.
    pub(crate) async fn begun(&mut self) -> Result<(), StoreError> {
        if !self.ended
            && let Poll::Ready(Err(error)) = poll_fn(|cx| Poll::Ready(self.take_in(cx))).await
        {
            self.failed = Some(error);
        }
        if !self.ended || self.failed.is_some() {
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
        self.trailers = charge.grpc.as_mut().map(|grpc| grpc.trailers());
        if let Some(payer) = charge.payer.as_ref().filter(|_| self.epilogue.is_wanted()) {
            let bill = Bill::of(&sum, payer, charge.call);
            if self.epilogue.trailers {
                self.trailers.get_or_insert_default().extend(bill.trailers());
            }
            if self.epilogue.is_within() {
                self.hold_back();
            }
            self.bill = Some(Box::new(bill));
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

    /// A piece of the answer was fed. How the answer ends, if it does.
    fn passed(
        &mut self,
        charge: &mut Charge,
        passed: Result<(), Stop>,
    ) -> (Option<End>, Result<(), AnswerError>) {
        self.ready.extend(self.scratch.drain(..));
        // Nothing counts after the end mark (MTR-13): what holds it waits for the charge, if anything does.
        if passed.is_ok() && charge.meter.progress().terminal.is_some() {
            self.stop(charge, End::Eof);
        }
        match passed {
            Ok(()) => (None, Ok(())),
            Err(Stop::Waits) => (self.pause(charge), Ok(())),
            Err(Stop::KeySeen) => (Some(End::Reset), Err(AnswerError::Withheld)),
            Err(Stop::Exhausted) => (Some(End::CutShort), Ok(())),
            Err(Stop::Unpaid) => {
                self.broken = Some(AnswerError::Unpaid);
                (Some(End::CutShort), Ok(()))
            }
        }
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
                self.silence.is_broken();
                let last = upstream.is_end_stream();
                let passed = match frame.into_data() {
                    Ok(chunk) => charge.feed(chunk, &mut self.scratch),
                    Err(frame) => charge.take_trailers(frame),
                };
                let (end, answer) = self.passed(charge, passed);
                (end.or(last.then_some(End::Eof).filter(|_| self.pause.is_none())), answer)
            }
            Poll::Ready(None) => (Some(End::Eof), Ok(())),
            Poll::Ready(Some(Err(error))) => {
                let end = charge.broken_end();
                let is_cut = end == End::CutShort;
                let error = if is_cut { AnswerError::Request } else { AnswerError::Upstream(error) };
                (Some(end), Err(error))
            }
            Poll::Pending if self.silence.elapsed(cx) => (Some(End::Reset), Err(AnswerError::Silent)),
            Poll::Pending => return Poll::Pending,
        };
        drop(going);
        if let Some(end) = end {
            self.end(end);
        }
        Poll::Ready(answer)
    }

    /// The stream is used up, and waits for its payer. How it ends, where it cannot.
    fn pause(&mut self, charge: &Charge) -> Option<End> {
        let Some((pause, need)) = charge.begin_pause() else { return Some(End::CutShort) };
        self.ready.push_back(charge.between_events(&need.event));
        self.pause = Some(pause);
        None
    }

    /// Waits for money; then the stream goes on, or ends.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AnswerError>> {
        let seat = Rc::clone(&self.seat);
        let mut going = seat.going.borrow_mut();
        let (Some(mut pause), Some((_, charge))) = (self.pause.take(), going.as_mut()) else {
            // It has been ended from aside.
            self.ended = true;
            return Poll::Ready(Err(AnswerError::Ended));
        };
        let waited = match pause.poll(cx, || charge.look()) {
            Poll::Ready(waited) => waited,
            Poll::Pending => {
                self.pause = Some(pause);
                return Poll::Pending;
            }
        };
        let (end, answer) = match waited {
            Waited::Tells(need) => {
                self.ready.push_back(charge.between_events(&need.event));
                self.pause = Some(pause);
                (None, Ok(()))
            }
            Waited::GoesOn => {
                // The upstream was not asked meanwhile.
                self.silence.is_broken();
                let passed = charge.go_on(&mut self.scratch);
                self.passed(charge, passed)
            }
            Waited::Over => {
                self.ready.extend(charge.timed_out());
                (Some(End::CutShort), Ok(()))
            }
        };
        drop(going);
        if let Some(end) = end {
            self.end(end);
        }
        Poll::Ready(answer)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            if let Some(counting) = &mut self.counting {
                match counting.as_mut().poll(cx) {
                    Poll::Ready(counted) => self.counted(counted),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if let Some(landing) = &mut self.landing {
                match Pin::new(landing).poll(cx) {
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
                self.ready.extend(bill.within(self.epilogue));
                self.ready.push_back(end);
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
            let came = if self.pause.is_some() { self.wait(cx) } else { self.take_in(cx) };
            match came {
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
            polled @ (Poll::Ready(_) | Poll::Pending) => polled,
        };
        let out = matches!(polled, Poll::Ready(Some(Ok(_))));
        body.seat.asked(out, polled.is_pending().then(|| cx.waker().clone()));
        polled
    }

    fn is_end_stream(&self) -> bool {
        let nothing_left = self.ready.is_empty()
            && self.trailers.is_none()
            && self.broken.is_none()
            && self.failed.is_none();
        let nobody_waits = self.landing.is_none() && self.counting.is_none() && self.held_back.is_none();
        self.ended && nothing_left && nobody_waits
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ChargedBody {
    fn drop(&mut self) {
        self.aftercare.take_over(&self.seat);
    }
}

#[cfg(test)]
mod tests {
    use super::ChargedBody;
    use crate::charge::Charge;
    use crate::quote::Quote;

    /// PERF-10: each open stream has one of these; what hardly any needs is apart.
    #[test]
    fn what_lasts_as_long_as_an_answer_is_small() {
        for (name, bytes, bytes_max) in [
            ("body", size_of::<ChargedBody>(), 448),
            ("charge", size_of::<Charge>(), 896),
            ("quote", size_of::<Quote>(), 768),
        ] {
            assert!(bytes <= bytes_max, "{name}: {bytes} bytes");
        }
    }
}
