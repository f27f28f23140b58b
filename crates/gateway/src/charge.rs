//! The hold travels with the response body and ends with it: whatever the end, there is one settle path
//! (LED-7, MTR-3).

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use ledger::{Chart, Draft, Ended, Flags, Hold, HoldEnd, Kind, LegDraft, leg_asset, memo_asset};
use meter::{Charge as Cost, End, Meter, Metered};
use money::Amount;
use store::{Op, StoreError, Submitted};

use crate::call_id::CallId;
use crate::clock::Now;
use crate::facts::{self, CallFacts};
use crate::gate::Gate;
use crate::limits::{Running, Slot};
use crate::payer::Payer;
use crate::payments::{Deposit, Served};
use crate::quote::Quote;
use crate::replays::REPLAY_BODY_BYTES_MAX;
use crate::upstream::{KeySeen, KeyWatch};

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
pub(crate) struct Sum {
    pub(crate) captured: Amount,
    pub(crate) available: Amount,
    pub(crate) usage: String,
}

impl Charge {
    /// Takes a piece of the answer; what goes on of it is added to `out`.
    ///
    /// # Errors
    /// [`KeySeen`]: the answer ends here.
    pub(crate) fn feed(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<(), KeySeen> {
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
    pub(crate) fn settle(&mut self, end: End, out: &mut Vec<Bytes>) -> Option<Sum> {
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
            (None, Some(capture)) => self.record(capture, ended),
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
            let income = moved.then(|| Chart::Usage(self.quote.model.clone()));
            let facts = facts.to_json();
            Op::Capture { id: self.call.0, entry, facts, served: None, income, idempotent: None }
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
        // The writer passes it on to the model's income, one sum per batch (LED-40).
        money(Chart::UsageClearing.id(), captured.saturating_add(overrun));
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
            corrects: [0; 16],
            price_version: version.unwrap_or(0),
            cost_femto: cost.femto.units(),
            legs,
        }
    }

    /// Group-committed behind the answer; a full queue means it is waited for elsewhere, never dropped.
    fn record(&self, op: Op, ended: Option<Ended>) {
        let account = self.payer.as_ref().map(|payer| Arc::clone(&payer.account));
        let at_risk = account.zip(ended.map(|ended| ended.captured));
        match self.gate.store.submit(op.clone(), at_risk) {
            Ok(Submitted::Behind | Submitted::Wait(_)) => {}
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
