//! What of an answer goes on: what is paid for, and nothing that only the upstream and we may know.

use std::rc::Rc;

use bytes::Bytes;
use http_body::Frame;
use ledger::AccountState;
use meter::End;

use super::Charge;
use crate::growth::Exhausted;
use crate::identity::Agent;
use crate::payer::Payer;
use crate::sending::{Fault, Sending};
use crate::session::{Lack, Look, Need, Pause};
use crate::upstream::grpc::KeyTold;
use crate::upstream::{KeySeen, KeyWatch};

/// Pieces in which a chunk is metered near the end of what is held.
const PIECE_BYTES: usize = 128;

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
        let Some(rest) = self.waits.take() else { return Ok(()) };
        let Rest { begun, unread } = *rest;
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
                self.waits = Some(Box::new(Rest { begun, unread: chunk }));
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

    /// What may begin the upstream's key and waits for more. The answer has ended: it was none.
    pub(crate) fn waiting(&mut self) -> Bytes {
        self.key_watch.as_mut().map(KeyWatch::rest).unwrap_or_default()
    }

    pub(super) fn keep_on_tape(&mut self, pieces: &[Bytes]) {
        if let Some(tape) = &mut self.tape {
            tape.take(pieces);
        }
    }
}
