//! The end of a hold, and what is written down of it.

use ledger::{Chart, Draft, Ended, Hold, HoldEnd};
use meter::{Charge as Cost, Metered};
use money::Amount;
use store::{NotTaken, Op, Outcome, StoreError, Submitted};

use super::Charge;
use crate::clock::Now;
use crate::facts::CallFacts;
use crate::idempotency::{self, Attempt};
use crate::landing::{self, Landing, write_in_background};
use crate::open_hold::OpenHold;
use crate::payments::{Ending, Waits};
use crate::posting::Posting;
use crate::replays::Worth;

impl Charge {
    /// Ends the hold; the write that goes with it, if the call is one to remember.
    pub(super) fn capture(
        &self,
        hold: &OpenHold,
        cost: &Cost,
        metered: &Metered,
    ) -> Option<(Ended, Option<Op>)> {
        // A promise pays what it says, and nothing beyond that is owed on it.
        let most = self.promise().map_or(Amount::MAX, |promise| promise.credit().most.max(hold.amount()));
        let used = cost.nano.min(most);
        let mut ended = if self.expired { hold.expire(used)? } else { hold.finish(used)? };
        ended.overrun = cost.nano.minus(ended.captured).unwrap_or(ended.overrun);
        if ended.end == HoldEnd::Expired {
            self.gate.metrics.hold_expired();
        }
        let asset = hold.payer().asset();
        let moved = ended.captured > Amount::ZERO || ended.overrun > Amount::ZERO;
        if moved {
            let units = |amount: Amount| u64::try_from(amount.units()).unwrap_or(0);
            self.gate.metrics.charge(asset.name(), units(ended.captured), units(ended.overrun));
            self.count_estimate(cost.estimated);
        }
        let now = Now::read();
        let facts = CallFacts {
            charge: self,
            payer: self.payer.as_ref()?,
            held_first: hold.first(),
            held: hold.amount(),
            ended: &ended,
            cost,
            metered,
            finished: now,
        };
        let served = self.status.is_success() && (moved || !metered.upstream_error);
        let write = served.then(|| {
            let entry = moved.then(|| self.entry(hold, &ended, cost, now));
            let income = moved.then(|| Chart::Usage(self.quote.model().to_owned()));
            let facts = facts.packed();
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

    fn count_estimate(&self, estimated: bool) {
        if estimated {
            self.gate.metrics.estimated(&self.route.name, self.quote.priced_as());
        }
        if let Some(estimates) = self.gate.estimates.count(&self.route.name, estimated) {
            let (route, upstream) = (&self.route.name, &self.quote.upstream.name);
            tracing::warn!(%route, %upstream, estimates, "more than 2 of the last 100 charges of a route are estimates");
        }
    }

    fn entry(&self, hold: &Hold, ended: &Ended, cost: &Cost, now: Now) -> Draft {
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
        .entry(now)
    }

    /// Group-committed behind the answer as long as little enough is on its way (LED-25). A full queue is
    /// waited for, never dropped.
    pub(super) fn record(&self, op: Op, captured: Amount) -> Option<Landing> {
        let at_risk = self.payer.as_ref().map(|payer| (payer.account.clone(), captured));
        match self.gate.store.submit(op, at_risk) {
            Ok(Submitted::Behind) => None,
            Ok(Submitted::Wait(durable)) => Some(landing::follow(&self.gate, durable)),
            Err(NotTaken { op, why: StoreError::Full | StoreError::DiskFull }) => {
                Some(write_in_background(&self.gate, *op, Waits::default()))
            }
            Err(NotTaken { why: error, .. }) => {
                tracing::error!(%error, "a capture could not be recorded");
                Some(landing::refused(&self.gate, error))
            }
        }
    }

    /// What the same request gets from now on. A call that failed before it cost anything leaves nothing: the
    /// same request may try again, and its payment is not settled again.
    pub(super) fn ending(&mut self, is_whole: bool, cost: Amount, upstream_error: bool) -> Option<Ending> {
        let (brought, attempt, tape) = (self.brought.take(), self.attempt.take(), self.tape.take());
        if (!self.status.is_success() || upstream_error) && cost == Amount::ZERO {
            return None;
        }
        let tape = tape.filter(|_| brought.is_some() || attempt.is_some())?;
        let is_stored = brought.is_some() || attempt.as_ref().is_some_and(Attempt::is_stored);
        let headers = if is_stored { idempotency::headers_to_store(tape.head()) } else { Vec::new() };
        let is_named = brought.is_some() || attempt.as_ref().is_some_and(Attempt::is_named);
        let worth = if is_named { Worth::Named } else { Worth::Unnamed };
        if is_whole && let Some(answer) = tape.answer() {
            self.gate.replays.keep(self.call, answer, worth);
        }
        self.gate.retention.remembered();
        let outcome = Outcome { status: self.status.as_u16(), headers, call: self.call.0 };
        Some(Ending::of(brought, attempt, outcome))
    }
}
