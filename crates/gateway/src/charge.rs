//! The hold travels with the response body and ends with it: whatever the end, there is one settle path
//! (LED-7, MTR-3).

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use ledger::{AccountState, Chart, Draft, Ended, Hold, HoldEnd};
use meter::{Charge as Cost, Counted, End, Meter, Metered};
use money::Amount;
use store::{Durable, Op, Outcome, StoreError, Submitted};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::bill;
use crate::call_id::CallId;
use crate::call_log::{self, Noted};
use crate::clock::Now;
use crate::config::{Charged, Policy, Route};
use crate::extensions::offers::Notary;
use crate::facts::{self, CallFacts};
use crate::gate::Gate;
use crate::growth::{Exhausted, Growth};
use crate::idempotency::{self, Attempt};
use crate::identity::Agent;
use crate::journalled::Journalled;
use crate::limits::{Running, Slot};
use crate::open_hold::OpenHold;
use crate::payer::Payer;
use crate::payments::{Brought, Ending, Joined, PaymentResult, Promise, Waits};
use crate::posting::Posting;
use crate::presence::Presence;
use crate::quote::Quote;
use crate::refusal::Code;
use crate::replays::Worth;
use crate::sending::{Fault, Sending};
use crate::session::{Lack, Look, Need, Pause};
use crate::tape::Tape;
use crate::upstream::grpc::{GrpcEnd, KeyTold};
use crate::upstream::{KeySeen, KeyWatch};

/// Pieces in which a chunk is metered near the end of what is held.
const PIECE_BYTES: usize = 128;

/// Wait between two tries to write to a disk that is full.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_millis(500);

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
    pub(crate) quote: Quote,
    pub(crate) clamp: Option<u64>,
    /// None for a free route.
    pub(crate) hold: Option<OpenHold>,
    /// That the call is open, where that is on disk.
    pub(crate) journalled: Option<Journalled>,
    /// Whether the route gives it away: nobody pays, and it is remembered all the same.
    pub(crate) is_given: bool,
    /// How the hold keeps up with a stream.
    pub(crate) growth: Option<Growth>,
    /// Why no more of the stream can be paid for, once that is so.
    pub(crate) exhausted: Option<Exhausted>,
    /// What of the answer is here and waits for the payer, where it does.
    pub(crate) waits: Option<Rest>,
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
    pub(crate) vain: Option<Cost>,
    /// How the upstream ends it, where that is gRPC's to say.
    pub(crate) grpc: Option<GrpcEnd>,
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
    /// ... and what it came to, until the call is charged ...
    pub(crate) stopped: Option<(End, Metered)>,
    /// ... and its price, once it was looked at whether that has to be counted.
    pub(crate) priced: Option<Cost>,
}

/// What counts while the call lasts.
#[expect(dead_code, reason = "held for what their drop does")]
pub(crate) struct Guards {
    pub(crate) running: Option<Running>,
    pub(crate) slot: Slot,
}

/// What is left of a piece of the answer, when no more of it is paid for.
pub(crate) struct Rest {
    /// The beginning of an event, metered already.
    begun: Bytes,
    /// What comes behind it.
    unread: Bytes,
}

/// Why an answer must not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It holds what only the upstream and we may know.
    KeySeen,
    /// Nobody pays for more of it. What the client has is whole events.
    Exhausted,
    /// Nobody pays for more of it, and no end can be written into it.
    Unpaid,
    /// Nobody pays for more of it yet, and its payer can do something about that: no end, the rest is kept. What the
    /// client has is whole events.
    Waits,
}

/// A charge on its way to the disk.
pub(crate) type Landing = Pin<Box<dyn Future<Output = Result<(), StoreError>>>>;

/// Tokens that are being counted for an estimate.
pub(crate) type Counting = Pin<Box<dyn Future<Output = Counted>>>;

/// What a charge came to, for trailers, and what its answer must wait for.
pub(crate) struct Sum {
    pub(crate) captured: Amount,
    pub(crate) available: Amount,
    pub(crate) usage: String,
    pub(crate) landing: Option<Landing>,
    /// What the payer is told of a settlement that the call did not wait for.
    pub(crate) result: Option<PaymentResult>,
}

impl Charge {
    /// Takes a piece of the answer; what goes on of it is added to `out`.
    ///
    /// # Errors
    /// [`Stop`]: the answer ends here.
    pub(crate) fn feed(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<(), Stop> {
        let mut chunk = match &mut self.key_watch {
            None => chunk,
            Some(watch) => watch.pass(chunk).map_err(|KeySeen| {
                let upstream = &self.quote.upstream.name;
                tracing::error!(call = %self.call, %upstream, "ALARM: the upstream sent its own key back; answer cut off");
                Stop::KeySeen
            })?,
        };
        let mut sold_out = false;
        if let Some(left) = &mut self.bytes_left {
            let most = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
            sold_out = most < chunk.len();
            chunk.truncate(most);
            *left -= most as u64;
        }
        self.pass_on(chunk, out)?;
        // The client has what is held for, to the byte.
        if sold_out { Err(Stop::Unpaid) } else { Ok(()) }
    }

    /// The stream that has waited goes on with what was left; as [`Charge::feed`].
    ///
    /// # Errors
    /// [`Stop`]
    pub(crate) fn go_on(&mut self, out: &mut Vec<Bytes>) -> Result<(), Stop> {
        let Some(Rest { begun, unread }) = self.waits.take() else { return Ok(()) };
        let before = out.len();
        out.extend((!begun.is_empty()).then_some(begun));
        self.keep_on_tape(&out[before..]);
        self.pass_on(unread, out)
    }

    fn pass_on(&mut self, mut chunk: Bytes, out: &mut Vec<Bytes>) -> Result<(), Stop> {
        while !chunk.is_empty() {
            let piece = chunk.split_to(self.piece_bytes(chunk.len()));
            let before = out.len();
            self.meter.feed(piece, out);
            let unpaid = self.is_unpaid();
            let begun = if unpaid && self.may_wait() { self.meter.part(&mut out[before..]) } else { None };
            let cut = unpaid && begun.is_none() && self.meter.cut(&mut out[before..]);
            self.keep_on_tape(&out[before..]);
            if let Some(begun) = begun {
                self.waits = Some(Rest { begun, unread: chunk });
                return Err(Stop::Waits);
            }
            if cut {
                return Err(self.unpaid_for(Stop::Exhausted));
            }
            if unpaid && !self.meter.can_be_ended() {
                return Err(self.unpaid_for(Stop::Unpaid));
            }
        }
        Ok(())
    }

    fn unpaid_for(&self, stop: Stop) -> Stop {
        let exhausted = self.exhausted;
        tracing::info!(call = %self.call, ?exhausted, "the stream ends because nothing is left to pay for it");
        stop
    }

    /// Whether a stream that is used up can wait for its payer: money of a session can still come in, and would help.
    fn may_wait(&self) -> bool {
        let open = |payer: &Payer| {
            payer.session.as_ref().is_some_and(|session| session.is_open())
                && payer.account.state() == AccountState::Open
        };
        self.exhausted == Some(Exhausted::Balance)
            && self.payer.as_ref().is_some_and(open)
            && !self.gate.is_draining()
    }

    /// What the stream lacks. None: no money would help.
    fn lack(&self) -> Option<Lack> {
        self.growth?.lack(&self.quote, self.hold.as_ref()?, self.meter.bytes_to_pay())
    }

    fn need(&self) -> Option<Need> {
        let payer = self.payer.as_ref().filter(|_| self.may_wait())?;
        Some(payer.session.as_ref()?.need(&payer.account, self.lack()?))
    }

    /// Begins to wait. None: the stream cannot, and ends.
    pub(crate) fn begin_pause(&self) -> Option<(Pause, Need)> {
        let need = self.need()?;
        let payer = self.payer.as_ref()?;
        let waiter = self.gate.arrivals.wait(payer.account.id())?;
        tracing::info!(call = %self.call, "the stream waits for its payer");
        Some((Pause::begin(waiter, &need, payer.session.as_ref()?.grace), need))
    }

    /// How a stream that waits stands now; holds for more of it, if that can be.
    pub(crate) fn look(&mut self) -> Look {
        self.exhausted = None;
        if !self.is_unpaid() {
            return Look::Paid;
        }
        self.need().map_or(Look::Hopeless, Look::Lacks)
    }

    /// An event of ours, to be written behind whole events of the answer.
    pub(crate) fn between_events(&self, event: &str) -> Bytes {
        self.meter.between_events(event)
    }

    /// What a stream that has waited for nothing says of that, where its method has a word for it.
    pub(crate) fn timed_out(&self) -> Option<Bytes> {
        let payer = self.payer.as_ref()?;
        let event = payer.session.as_ref()?.timed_out(&payer.account, self.lack()?)?;
        Some(self.between_events(&event))
    }

    /// Takes trailers of the answer. None but gRPC's go on (SEC-10).
    ///
    /// # Errors
    /// [`Stop`]: the answer ends here.
    pub(crate) fn take_trailers(&mut self, frame: Frame<Bytes>) -> Result<(), Stop> {
        let (Some(grpc), Ok(trailers)) = (&mut self.grpc, frame.into_trailers()) else { return Ok(()) };
        let key = self.key_watch.as_ref().map(KeyWatch::search);
        grpc.take(&trailers, key).map_err(|KeyTold| {
            tracing::error!(call = %self.call, upstream = %self.quote.upstream.name, "ALARM: the upstream sent its own key back; answer cut off");
            Stop::KeySeen
        })
    }

    /// How an answer ends that the upstream has broken off. Where that is because the client's request broke off, the
    /// upstream is not to blame.
    pub(crate) fn broken_end(&self) -> End {
        match self.quote.sending.as_ref().and_then(Sending::fault) {
            None => End::Reset,
            Some(Fault::Gone) => End::ClientGone,
            Some(Fault::TooLarge | Fault::Late) => End::CutShort,
        }
    }

    /// Near the end of what is held a chunk is taken in pieces, so that an upstream that is ahead of the client
    /// gets no more through than is paid for.
    fn piece_bytes(&self, chunk_bytes: usize) -> usize {
        let near = self.growth.is_some_and(|growth| {
            let bytes = self.meter.bytes_to_pay().saturating_add(chunk_bytes as u64);
            growth.is_beyond(&self.quote, bytes)
        });
        if near { chunk_bytes.min(PIECE_BYTES) } else { chunk_bytes }
    }

    /// Lets the hold keep up with what was generated; whether that is no longer possible.
    fn is_unpaid(&mut self) -> bool {
        let revoked = self.growth.is_some_and(|growth| growth.is_due(&self.quote, self.meter.bytes_to_pay()))
            && self.is_revoked();
        if let (None, Some(growth), Some(hold)) = (self.exhausted, &mut self.growth, &self.hold)
            && self.meter.progress().terminal.is_none()
        {
            let kept_up = match revoked {
                // What was held before goes on; nothing more is taken in this key's name.
                true => Err(Exhausted::Revoked),
                false => growth.keep_up(&self.quote, hold, self.meter.bytes_to_pay()),
            };
            if let Err(exhausted) = kept_up {
                self.exhausted = Some(exhausted);
            }
        }
        self.exhausted.is_some()
    }

    /// Whether what pays for the call was revoked since it began.
    pub(crate) fn is_revoked(&self) -> bool {
        let is_blocked = |agent: &Rc<Agent>| agent.is_blocked(&self.gate.snapshot.load());
        self.payer.as_ref().is_some_and(|payer| payer.is_revoked(&self.gate))
            || self.agent.as_ref().is_some_and(is_blocked)
    }

    fn keep_on_tape(&mut self, pieces: &[Bytes]) {
        if let Some(tape) = &mut self.tape {
            tape.take(pieces);
        }
    }

    /// What may begin the upstream's key and waits for more. The answer has ended: it was none.
    pub(crate) fn waiting(&mut self) -> Bytes {
        self.key_watch.as_mut().map(KeyWatch::rest).unwrap_or_default()
    }

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
        let took = self.asked.elapsed();
        let took = self.time_max.map_or(took, |most| took.min(most));
        if self.time_max.is_some() {
            self.meter.took(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
        let mut metered = self.meter.end(end, out);
        if let Some(grpc) = &self.grpc {
            grpc.judge(end, &mut metered);
        }
        // Or else whoever can make an upstream fail would use it for nothing.
        if let Some(sent) = self.opened_at.filter(|_| metered.upstream_error && metered.before_output) {
            self.vain = self.quote.used_in_vain(took, sent);
        }
        self.keep_on_tape(&out[before..]);
        if self.growth.is_some() {
            self.gate.unseen.learn(&self.quote.model, &metered);
        }
        self.stopped = Some((end, metered));
    }

    /// Takes nothing for a call of whose answer nothing goes on: whoever waits for it is told so.
    pub(crate) fn abandon(mut self) {
        self.ended = true;
        self.stopped = None;
        // Their drops give the money back, and write down that the call owes nothing.
        drop((self.hold.take(), self.journalled.take()));
    }

    /// Prices a call that was stopped, and begins to count what has to be counted for that: nothing where a report came.
    pub(crate) fn begin_count(&mut self) -> Option<Counting> {
        let (_, metered) = self.stopped.as_ref()?;
        let cost = self.cost(metered, Counted::NOTHING);
        let is_counted = cost.estimated && !cost.lines.is_empty();
        self.priced = Some(cost);
        if !is_counted {
            return None;
        }
        let snapshot = self.gate.snapshot.load();
        let factor = snapshot.config.metering.factor_bp(&self.quote.model);
        let said = self.meter.output_text().cloned();
        Some(Box::pin(self.gate.estimator.count(self.quote.body(), said, factor)))
    }

    /// Ends the call at once: what would have to be counted follows from its bytes.
    pub(crate) fn settle(&mut self, end: End, out: &mut Vec<Bytes>) -> Option<Sum> {
        self.stop(end, out);
        self.finish(Counted::NOTHING, out)
    }

    /// Ends a call that was stopped: captures or voids, writes it down. The second time does nothing.
    pub(crate) fn finish(&mut self, counted: Counted, out: &mut Vec<Bytes>) -> Option<Sum> {
        let (end, metered) = self.stopped.take()?;
        let before = out.len();
        let priced = self.priced.take().filter(|_| counted == Counted::NOTHING);
        let cost = priced.unwrap_or_else(|| self.cost(&metered, counted));
        let (ended, capture) = match self.hold.take().and_then(|hold| self.capture(&hold, &cost, &metered)) {
            Some((ended, capture)) => (Some(ended), capture),
            None => (None, self.gift(&cost, &metered)),
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
            Some(write) => Some(commit_in_background(&self.gate, write, waits)),
            None => None,
        };
        self.report(&metered, captured, cost.estimated);
        let available = ended.map_or(Amount::ZERO, |ended| ended.available);
        Some(Sum { captured, available, usage: facts::usage_line(&metered), landing, result })
    }

    /// What the call costs, by its price and the route's policy.
    fn cost(&self, metered: &Metered, counted: Counted) -> Cost {
        let held = || self.hold.as_ref().map_or(Amount::ZERO, |hold| hold.amount());
        let of_hold = || Cost { femto: money::Femto::ZERO, nano: held(), estimated: true, lines: Vec::new() };
        if let Some(vain) = self.vain.as_ref().filter(|_| self.policy.upstream_error != Charged::Free) {
            return vain.clone();
        }
        let Some(governed) = bill::governed(&self.policy, metered) else {
            return Cost {
                femto: money::Femto::ZERO,
                nano: Amount::ZERO,
                estimated: false,
                lines: Vec::new(),
            };
        };
        match self.quote.charge(&governed, self.clamp, counted) {
            Ok(cost) if bill::takes_hold(&self.policy, &governed, &cost) => of_hold(),
            Ok(cost) if cost.estimated && cost.nano > held() => {
                // An estimate never takes more than was held; what was reported does (MTR-25, MTR-36).
                let reported = bill::reported_only(&governed);
                let floor =
                    reported.and_then(|reported| self.quote.charge(&reported, self.clamp, counted).ok());
                let floor = floor.map_or(Amount::ZERO, |cost| cost.nano);
                Cost { nano: held().max(floor).min(cost.nano), ..cost }
            }
            Ok(cost) if cost.nano <= held() => cost,
            Ok(cost) => {
                // Nor does a report beyond what the request can have used: somebody lies or is broken.
                let most = self.quote.believed(self.clamp, self.meter.progress().output_bytes);
                let most = most.map_or(cost.nano, |most| most.max(held()));
                if most < cost.nano {
                    tracing::warn!(call = %self.call, upstream = %self.quote.upstream.name, "ALARM: the upstream reports more than the request can have used");
                }
                Cost { nano: cost.nano.min(most), ..cost }
            }
            Err(error) => {
                // A report that cannot be priced costs the payer what was held and no more.
                tracing::error!(call = %self.call, %error, "charge from the hold");
                of_hold()
            }
        }
    }

    /// The events that end a stream for which nobody pays any more, with the bill (MTR-35).
    fn last_words(&self, ended: Option<&Ended>, cost: &Cost) -> Option<Bytes> {
        let asset = self.payer.as_ref().map(|payer| payer.account.asset())?;
        let (code, detail) = match self.exhausted? {
            Exhausted::Balance => {
                (Code::InsufficientBalance, "The balance does not cover more of this answer.")
            }
            Exhausted::Budget => (Code::OverTokenBudget, "The budget does not cover more of this answer."),
            Exhausted::Revoked => (Code::KeyRevoked, "What pays for this answer has been revoked."),
        };
        let charged = ended.map_or(Amount::ZERO, |ended| ended.captured);
        let note = serde_json::json!({
            "code": code.name(), "detail": detail, "call": self.call.to_string(),
            "charged": facts::amount(charged, asset), "estimated": cost.estimated,
        });
        let sum = |output: bool| {
            let lines = cost.lines.iter().filter(|line| line.bucket.is_output() == Some(output));
            lines.map(|line| line.quantity).sum()
        };
        self.meter.ending(&meter::Ending {
            created_s: Now::read().seconds(),
            choices: self.quote.choices(),
            usage: self.quote.asked_usage().then(|| (sum(false), sum(true))),
            note: &note.to_string(),
        })
    }

    /// Ends the hold; the write that goes with it, if the call is one to remember.
    fn capture(&self, hold: &OpenHold, cost: &Cost, metered: &Metered) -> Option<(Ended, Option<Op>)> {
        // A promise pays what it says, and nothing beyond that is owed on it.
        let most = self.promise().map_or(Amount::MAX, |promise| promise.credit().most.max(hold.amount()));
        let used = cost.nano.min(most);
        let mut ended = if self.expired { hold.expire(used)? } else { hold.finish(used)? };
        ended.overrun = cost.nano.minus(ended.captured).unwrap_or(ended.overrun);
        if ended.end == HoldEnd::Expired {
            self.gate.metrics.hold_expired();
        }
        let account = hold.payer();
        let asset = account.asset();
        let moved = ended.captured > Amount::ZERO || ended.overrun > Amount::ZERO;
        if moved {
            let units = |amount: Amount| u64::try_from(amount.units()).unwrap_or(0);
            self.gate.metrics.charge(asset.name(), units(ended.captured), units(ended.overrun));
            self.count_estimate(cost.estimated);
        }
        let facts = CallFacts {
            call: self.call,
            account: account.id(),
            asset,
            payer: self.payer.as_ref()?,
            agent: self.agent.as_deref(),
            route: &self.route.name,
            upstream: &self.quote.upstream.name,
            quote: &self.quote,
            held_first: hold.first(),
            held: hold.amount(),
            clamp: self.clamp,
            ended: &ended,
            cost,
            metered,
            status: self.status.as_u16(),
            payment: self.brought.as_ref().map(|brought| brought.facts(ended.captured)),
            started: self.started,
            finished: Now::read(),
        };
        let served = self.status.is_success() && (moved || !metered.upstream_error);
        let write = served.then(|| {
            let entry = moved.then(|| self.entry(hold, &ended, cost));
            let income = moved.then(|| Chart::Usage(self.quote.model.clone()));
            let facts = facts.to_json();
            Op::Capture {
                id: self.call.0,
                entry,
                facts,
                served: None,
                settles: None,
                income,
                idempotent: Vec::new(),
            }
        });
        Some((ended, write))
    }

    /// The payment that is to come for it.
    pub(crate) fn promise(&self) -> Option<&Promise> {
        self.brought.as_ref().and_then(Brought::promise)
    }

    fn count_estimate(&self, estimated: bool) {
        if estimated {
            self.gate.metrics.estimated(&self.route.name, self.quote.priced_as());
        }
        if let Some(estimates) = self.gate.estimates.count(&self.route.name, estimated) {
            let (route, upstream) = (&self.route.name, &self.quote.upstream.name);
            tracing::warn!(%route, %upstream, estimates, "more than 2 of the last 100 charges of a route are estimates");
        }
    }

    fn entry(&self, hold: &Hold, ended: &Ended, cost: &Cost) -> Draft {
        Posting {
            call: self.call,
            chain: &hold.chain().map(|account| account.id()).collect::<Vec<_>>(),
            asset: hold.payer().asset(),
            captured: ended.captured,
            overrun: ended.overrun,
            estimated: cost.estimated,
            promised: self.promise().is_some(),
            cost_femto: cost.femto.units(),
            price_version: self.quote.price_version(),
        }
        .entry(Now::read())
    }

    /// Group-committed behind the answer as long as little enough is on its way (LED-25). A full queue is
    /// waited for, never dropped.
    fn record(&self, op: Op, captured: Amount) -> Option<Landing> {
        let at_risk = self.payer.as_ref().map(|payer| (payer.account.clone(), captured));
        match self.gate.store.submit(op.clone(), at_risk) {
            Ok(Submitted::Behind) => None,
            Ok(Submitted::Wait(durable)) => Some(land(&self.gate, op, Some(durable), Waits::default())),
            Err(StoreError::Full | StoreError::DiskFull) => {
                Some(commit_in_background(&self.gate, op, Waits::default()))
            }
            Err(error) => {
                tracing::error!(%error, "a capture could not be recorded");
                Some(Box::pin(std::future::ready(Err(error))))
            }
        }
    }

    /// What the same request gets from now on. A call that failed before it cost anything leaves nothing: the
    /// same request may try again, and its payment is not settled again.
    fn ending(&mut self, is_whole: bool, cost: Amount, upstream_error: bool) -> Option<Ending> {
        let (brought, attempt, tape) = (self.brought.take(), self.attempt.take(), self.tape.take());
        if (!self.status.is_success() || upstream_error) && cost == Amount::ZERO {
            return None;
        }
        let tape = tape.filter(|_| brought.is_some() || attempt.is_some())?;
        let headers = idempotency::headers_to_store(tape.headers());
        let is_named = brought.is_some() || attempt.as_ref().is_some_and(Attempt::is_named);
        let worth = if is_named { Worth::Named } else { Worth::Unnamed };
        if is_whole && let Some(answer) = tape.answer() {
            self.gate.replays.keep(self.call, answer, worth);
        }
        self.gate.retention.remembered();
        let outcome = Outcome { status: self.status.as_u16(), headers, call: self.call.0 };
        Some(Ending::of(brought, attempt, outcome))
    }

    fn report(&self, metered: &Metered, captured: Amount, estimated: bool) {
        let outcome = if self.status.is_success() { "served" } else { "upstream_error" };
        self.gate.metrics.request(&self.route.name, outcome);
        let asset = self.payer.as_ref().map_or("", |payer| payer.account.asset().name());
        let (status, started) = (self.status, self.started);
        self.noted.ended(&call_log::Ended { status, asset, captured, estimated, metered, started });
    }
}

/// Writes `op` whatever becomes of the answer; `waits` is over when that is done.
pub(crate) fn commit_in_background(gate: &Gate, op: Op, waits: Waits) -> Landing {
    land(gate, op, None, waits)
}

/// As [`commit_in_background`], for an `op` that is perhaps on its way already.
fn land(gate: &Gate, op: Op, under_way: Option<Durable>, waits: Waits) -> Landing {
    let (done, landed) = oneshot::channel();
    let store = gate.store.clone();
    gate.background.spawn(async move {
        let first = match under_way {
            Some(durable) => durable.await,
            None => store.commit(op.clone()).await,
        };
        let outcome = while_full(first, LOOK_FOR_ROOM_EVERY, || store.commit(op.clone())).await;
        if let Err(error) = &outcome {
            tracing::error!(%error, "the end of a call could not be recorded");
        }
        waits.over(outcome.is_ok());
        // The answer may have gone.
        let _ = done.send(outcome.map(drop));
    });
    Box::pin(async move { landed.await.unwrap_or_else(|_| Err(StoreError::Unavailable("closed".into()))) })
}

/// What has happened in memory must come to the disk, or the two would differ for as long as the process
/// lives: while the disk is full it is tried again (LED-27, LED-28). What may begin then is refused elsewhere.
async fn while_full<T, F: Future<Output = Result<T, StoreError>>>(
    first: Result<T, StoreError>,
    wait: Duration,
    mut again: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let mut outcome = first;
    while matches!(outcome, Err(StoreError::DiskFull)) {
        tokio::time::sleep(wait).await;
        outcome = again().await;
    }
    outcome
}

impl Drop for Charge {
    fn drop(&mut self) {
        // A call that was stopped already ends as it was.
        self.settle(End::ClientGone, &mut Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use store::StoreError;

    use super::while_full;

    /// LED-28: nothing of money is dropped while there is no room, and nothing else is tried twice.
    #[tokio::test]
    async fn a_charge_is_written_again_until_there_is_room() {
        let unavailable = || StoreError::Unavailable(String::new());
        for (first, later, tries, end) in [
            (Ok(1), vec![], 0, Ok(1)),
            (Err(StoreError::DiskFull), vec![Err(StoreError::DiskFull), Ok(2)], 2, Ok(2)),
            (Err(StoreError::DiskFull), vec![Err(unavailable())], 1, Err(unavailable())),
            (Err(StoreError::Conflict), vec![Ok(3)], 0, Err(StoreError::Conflict)),
        ] {
            let tried = Cell::new(0);
            let ended = while_full(first, Duration::ZERO, || {
                let outcome = later[tried.get()].clone();
                tried.set(tried.get() + 1);
                std::future::ready(outcome)
            });
            assert_eq!(ended.await, end);
            assert_eq!(tried.get(), tries);
        }
    }
}
