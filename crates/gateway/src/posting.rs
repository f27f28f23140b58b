//! The journal entry of a charge.

use ledger::{AccountId, Chart, Draft, Flags, Kind, LegDraft, leg_asset, memo_asset};
use money::{Amount, Asset, FEMTO_PER_NANO};

use crate::call_id::CallId;
use crate::clock::Now;

/// A charge as it goes into the journal: payer and budgets down, income up; what the payer did not have is the
/// operator's loss.
pub(crate) struct Posting<'a> {
    pub(crate) call: CallId,
    /// The account that pays, then its budgets.
    pub(crate) chain: &'a [AccountId],
    pub(crate) asset: Asset,
    pub(crate) captured: Amount,
    pub(crate) overrun: Amount,
    pub(crate) estimated: bool,
    /// Its payment settles after it.
    pub(crate) promised: bool,
    /// Exact, before its rounding.
    pub(crate) cost_femto: u128,
    pub(crate) price_version: u32,
}

impl Posting<'_> {
    pub(crate) fn entry(&self, now: Now) -> Draft {
        let (captured, overrun) = (self.captured.units(), self.overrun.units());
        let charged = u128::try_from(captured.saturating_add(overrun)).unwrap_or(0);
        let cut = charged > 0 && charged.saturating_mul(FEMTO_PER_NANO) < self.cost_femto;
        let mut legs = Vec::with_capacity(4 + self.chain.len());
        let mut money = |account, units: i64| {
            if units != 0 {
                let asset = leg_asset(self.asset);
                legs.push(LegDraft { asset, account, amount: Amount::from_units(units) });
            }
        };
        if let Some(account) = self.chain.first() {
            money(*account, -captured);
        }
        money(Chart::OverrunLoss.id(), -overrun);
        // The writer passes it on to the model's income, one sum per batch (LED-40).
        money(Chart::UsageClearing.id(), captured.saturating_add(overrun));
        let budgets = self.chain.get(1..).unwrap_or_default();
        let mut memo = |account, units| {
            let asset = memo_asset(self.asset);
            legs.push(LegDraft { asset, account, amount: Amount::from_units(units) });
        };
        for budget in budgets {
            memo(*budget, -captured);
        }
        if !budgets.is_empty() {
            memo(Chart::Memo.id(), captured.saturating_mul(i64::try_from(budgets.len()).unwrap_or(i64::MAX)));
        }
        Draft {
            kind: Kind::Capture,
            flags: Flags { estimated: self.estimated, promised: self.promised, cut },
            time_ms: now.millis(),
            id: self.call.0,
            key: [0; 32],
            reference: String::new(),
            corrects: [0; 16],
            price_version: self.price_version,
            cost_femto: self.cost_femto,
            legs,
        }
    }
}
