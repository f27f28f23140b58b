//! The hold travels with the response body and ends with it: whatever the end, there is one settle path
//! (LED-7, MTR-3).

mod capture;
mod cost;
mod stream;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use meter::{Charge as Cost, Counted, End, Meter, Metered};
use money::Amount;
use tokio::time::Instant;

use crate::call_id::CallId;
use crate::call_log::{self, Noted};
use crate::clock::Now;
use crate::config::{Policy, Route};
use crate::extensions::offers::Notary;
use crate::gate::Gate;
use crate::growth::{Exhausted, Growth};
use crate::idempotency::Attempt;
use crate::identity::Agent;
use crate::journalled::Journalled;
use crate::landing::{Landing, write_in_background};
use crate::limits::{Running, Slot};
use crate::open_hold::OpenHold;
use crate::payer::Payer;
use crate::payments::{Brought, Joined, PaymentResult, Promise};
use crate::presence::Presence;
use crate::quote::Quote;
use crate::tape::Tape;
use crate::upstream::KeyWatch;
use crate::upstream::grpc::GrpcEnd;

pub(crate) use cost::Counting;
use stream::Rest;
pub(crate) use stream::Stop;

/// Everything that is decided when a call ends.
pub(crate) struct Charge {
    pub(crate) gate: Arc<Gate>,
    pub(crate) call: CallId,
    /// Whoever waits for the answer.
    pub(crate) client: Rc<Presence>,
    pub(crate) route: Arc<Route>,
    pub(crate) payer: Option<Payer>,
    /// Who signed the request.
    pub(crate) agent: Option<Rc<Agent>>,
    pub(crate) quote: Box<Quote>,
    pub(crate) clamp: Option<u64>,
    /// None for a free route.
    pub(crate) hold: Option<OpenHold>,
    /// That the call is open, where that is on disk.
    pub(crate) journalled: Option<Box<Journalled>>,
    /// Whether the route gives it away: nobody pays, and it is remembered all the same.
    pub(crate) is_given: bool,
    /// How the hold keeps up with a stream.
    pub(crate) growth: Option<Growth>,
    /// Why no more of the stream can be paid for, once that is so.
    pub(crate) exhausted: Option<Exhausted>,
    /// What of the answer is here and waits for the payer, where it does.
    pub(crate) waits: Option<Box<Rest>>,
    /// What it was paid with, where it brought a payment.
    pub(crate) brought: Option<Brought>,
    /// What the call may be asked for again by; none for a free route.
    pub(crate) attempt: Option<Attempt>,
    /// Confirms what is delivered; none where nothing is signed.
    pub(crate) notary: Option<Notary>,
    /// Keeps the upstream's own key out of the answer.
    pub(crate) key_watch: Option<KeyWatch>,
    pub(crate) meter: Meter,
    /// Bytes that had gone up when the upstream opened what is a stream; none where it did not.
    pub(crate) opened_at: Option<u64>,
    /// What such a stream has used before the upstream failed without a byte.
    pub(crate) vain: Option<Box<Cost>>,
    /// How the upstream ends it, where that is gRPC's to say.
    pub(crate) grpc: Option<Box<GrpcEnd>>,
    /// Who pays if it does not end as it should.
    pub(crate) policy: Policy,
    /// When the upstream was asked.
    pub(crate) asked: Instant,
    /// Bytes of the answer that are still held for, where bytes are sold.
    pub(crate) bytes_left: Option<u64>,
    /// The time that is held for, where that is sold.
    pub(crate) time_max: Option<Duration>,
    pub(crate) status: StatusCode,
    /// When the hold expires.
    pub(crate) deadline: Instant,
    pub(crate) expired: bool,
    pub(crate) started: Now,
    /// What the log is to say of it.
    pub(crate) noted: Rc<Noted>,
    /// The answer for whoever asks again.
    pub(crate) tape: Option<Tape>,
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(crate) guards: Guards,
    /// Whether the metering has ended ...
    pub(crate) ended: bool,
    /// ... and what it came to, until the call is charged. Boxed: while the answer lasts there is no room for it.
    pub(crate) stopped: Option<Box<Stopped>>,
}

/// A call that has ended and is not charged yet.
pub(crate) struct Stopped {
    end: End,
    metered: Metered,
    /// Its price, once it was looked at whether that has to be counted.
    priced: Option<Cost>,
}

/// What counts while the call lasts.
#[expect(dead_code, reason = "held for what their drop does")]
pub(crate) struct Guards {
    pub(crate) running: Option<Running>,
    pub(crate) slot: Slot,
}

/// What a charge came to, for trailers, and what its answer must wait for.
pub(crate) struct Sum {
    pub(crate) captured: Amount,
    pub(crate) available: Amount,
    /// What was metered.
    stopped: Box<Stopped>,
    pub(crate) landing: Option<Landing>,
    /// What the payer is told of a settlement that the call did not wait for.
    pub(crate) result: Option<PaymentResult>,
}

impl Sum {
    pub(crate) fn metered(&self) -> &Metered {
        &self.stopped.metered
    }
}

impl Charge {
    /// Ends the call because its time is over (LED 4.3); where it is sold by time, because what is held for is.
    pub(crate) fn expire(&mut self) {
        if !self.ended {
            if self.time_max.is_none_or(|most| self.asked.elapsed() < most) {
                tracing::warn!(call = %self.call, "the hold of a call expired");
                self.expired = true;
            }
            self.settle(End::CutShort, &mut Vec::new());
        }
    }

    /// Ends the metering, in whatever way the answer ended. What it came to waits for [`Charge::finish`]. The
    /// second time does nothing.
    pub(crate) fn stop(&mut self, end: End, out: &mut Vec<Bytes>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let before = out.len();
        // Behind a cut nothing goes on, and behind the end mark more of a key may come.
        let goes_on = self.waits.take().is_none() && end != End::CutShort;
        if goes_on && self.meter.progress().terminal.is_none() {
            let rest = self.waiting();
            if !rest.is_empty() {
                self.meter.feed(rest, out);
            }
        }
        let took = || {
            let took = self.asked.elapsed();
            self.time_max.map_or(took, |most| took.min(most))
        };
        // The clock is read for whom time makes a difference.
        let took = (self.time_max.is_some() || self.opened_at.is_some()).then(took).unwrap_or_default();
        if self.time_max.is_some() {
            self.meter.took(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
        let mut metered = self.meter.end(end, out);
        if let Some(grpc) = &self.grpc {
            grpc.judge(end, &mut metered);
        }
        // Or else whoever can make an upstream fail would use it for nothing.
        if let Some(sent) = self.opened_at.filter(|_| metered.upstream_error && metered.before_output) {
            self.vain = self.quote.used_in_vain(took, sent).map(Box::new);
        }
        self.keep_on_tape(&out[before..]);
        if self.growth.is_some() {
            self.gate.unseen.learn(self.quote.model(), &metered);
        }
        self.stopped = Some(Box::new(Stopped { end, metered, priced: None }));
    }

    /// Takes nothing for a call of whose answer nothing goes on: whoever waits for it is told so.
    pub(crate) fn abandon(mut self) {
        self.ended = true;
        self.stopped = None;
        // Their drops give the money back, and write down that the call owes nothing.
        drop((self.hold.take(), self.journalled.take()));
    }

    /// Ends the call at once: what would have to be counted follows from its bytes.
    pub(crate) fn settle(&mut self, end: End, out: &mut Vec<Bytes>) -> Option<Sum> {
        self.stop(end, out);
        self.finish(Counted::NOTHING, out)
    }

    /// Ends a call that was stopped: captures or voids, writes it down. The second time does nothing.
    pub(crate) fn finish(&mut self, counted: Counted, out: &mut Vec<Bytes>) -> Option<Sum> {
        let mut stopped = self.stopped.take()?;
        let before = out.len();
        let priced = stopped.priced.take().filter(|_| counted == Counted::NOTHING);
        let (end, metered) = (stopped.end, &stopped.metered);
        let cost = priced.unwrap_or_else(|| self.cost(metered, counted));
        let (ended, capture) = match self.hold.take().and_then(|hold| self.capture(&hold, &cost, metered)) {
            Some((ended, capture)) => (Some(ended), capture),
            None => (None, self.gift(&cost, metered)),
        };
        let last_words = if end == End::CutShort { self.last_words(ended.as_ref(), &cost) } else { None };
        // What is broken off is nobody's answer.
        let is_whole = end == End::Eof || last_words.is_some();
        out.extend(last_words);
        self.keep_on_tape(&out[before..]);
        let captured = ended.map_or(Amount::ZERO, |ended| ended.captured);
        let Joined { write, waits, result } = match self.ending(is_whole, cost.nano, metered.upstream_error) {
            Some(ending) => ending.join(&self.gate, capture, captured),
            None => Joined { write: capture, ..Joined::default() },
        };
        let write = match self.journalled.take() {
            Some(journalled) => journalled.end(write),
            None => write,
        };
        let landing = match write {
            Some(write) if waits.is_empty() => self.record(write, captured),
            Some(write) => Some(write_in_background(&self.gate, write, waits)),
            None => None,
        };
        self.report(metered, captured, cost.estimated);
        let available = ended.map_or(Amount::ZERO, |ended| ended.available);
        Some(Sum { captured, available, stopped, landing, result })
    }

    /// The payment that is to come for it.
    pub(crate) fn promise(&self) -> Option<&Promise> {
        self.brought.as_ref().and_then(Brought::promise)
    }

    fn report(&self, metered: &Metered, captured: Amount, estimated: bool) {
        match self.status.is_success() {
            true => self.gate.metrics.served(&self.route),
            false => self.gate.metrics.request(&self.route.name, "upstream_error"),
        }
        let asset = self.payer.as_ref().map_or("", |payer| payer.account.asset().name());
        let (status, started) = (self.status, self.started);
        self.noted.ended(&call_log::Ended { status, asset, captured, estimated, metered, started });
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // A call that was stopped already ends as it was.
        self.settle(End::ClientGone, &mut Vec::new());
    }
}
