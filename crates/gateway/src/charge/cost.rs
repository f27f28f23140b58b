//! What a call costs that has ended: by its price, its policy and what was held.

use std::pin::Pin;

use bytes::Bytes;
use ledger::Ended;
use meter::{Charge as Cost, Counted, Metered};
use money::Amount;

use super::Charge;
use crate::bill;
use crate::clock::Now;
use crate::config::{Charged, RoutePrice};
use crate::facts;
use crate::growth::Exhausted;
use crate::refusal::Code;

/// Tokens that are being counted for an estimate.
pub(crate) type Counting = Pin<Box<dyn Future<Output = Counted>>>;

impl Charge {
    /// Prices a call that was stopped, and begins to count what has to be counted for that: nothing where a report came.
    pub(crate) fn begin_count(&mut self) -> Option<Counting> {
        let cost = self.cost(&self.stopped.as_ref()?.metered, Counted::NOTHING);
        let is_counted = cost.estimated && !cost.lines.is_empty();
        self.stopped.as_mut()?.priced = Some(cost);
        if !is_counted {
            return None;
        }
        let snapshot = self.gate.snapshot.load();
        let factor = snapshot.config.metering.factor_bp(self.quote.model());
        let said = self.meter.output_text().cloned();
        Some(Box::pin(self.gate.estimator.count(self.quote.body(), said, factor)))
    }

    /// What the call costs, by its price and the route's policy.
    pub(super) fn cost(&self, metered: &Metered, counted: Counted) -> Cost {
        let nothing =
            || Cost { femto: money::Femto::ZERO, nano: Amount::ZERO, estimated: false, lines: Vec::new() };
        if let RoutePrice::Free = self.quote.route.price {
            return nothing();
        }
        let held = || self.hold.as_ref().map_or(Amount::ZERO, |hold| hold.amount());
        let of_hold = || Cost { femto: money::Femto::ZERO, nano: held(), estimated: true, lines: Vec::new() };
        if let Some(vain) = self.vain.as_ref().filter(|_| self.policy.upstream_error != Charged::Free) {
            return Cost::clone(vain);
        }
        let Some(governed) = bill::governed(&self.policy, metered) else { return nothing() };
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
    pub(super) fn last_words(&self, ended: Option<&Ended>, cost: &Cost) -> Option<Bytes> {
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
}
