//! A payout and the money that is set aside for it: one write each time.

use ledger::{Chart, Draft};
use redb::ReadableTable;

use super::batch::{Answer, Batch, NO_ENTRY, get_json, put_json};
use crate::lot::LOTS_MAX;
use crate::read::unavailable;
use crate::tables::{EXPIRY_PAYOUT, expiry_key};
use crate::{Lot, Payment, Payout, PayoutState, PayoutStep, StoreError, Taken};

/// The rail that payouts go by.
const RAIL: &str = "lightning";
/// Seconds after its invoice's end that a decided payout is kept, for late questions.
const KEPT_SECONDS: u64 = 7 * 24 * 3600;

impl Batch<'_> {
    pub(super) fn payout(&mut self, hash: &[u8; 32], step: &PayoutStep) -> Answer {
        match step {
            PayoutStep::Begin { payout, entry } => self.begin_payout(hash, payout, entry),
            PayoutStep::Asked(asking) => {
                let payout = self.open_payout(hash)?;
                put_json(&mut self.payouts, hash, &Payout { asking: *asking, ..payout })
            }
            PayoutStep::Paid { fee_msat, spent, entry } => {
                let payout = self.open_payout(hash)?;
                let charged = Taken::credit_of(spent);
                let (state, fee_msat) = (PayoutState::Paid, *fee_msat);
                let committed =
                    self.end_payout(hash, Payout { state, fee_msat, charged, ..payout.clone() }, entry)?;
                let mut lots = self.lots(&payout.account)?;
                Lot::give(&mut lots, spent);
                put_json(&mut self.lots, &payout.account, &lots)?;
                Ok(committed)
            }
            PayoutStep::Failed { reason, entry } => {
                let payout = self.open_payout(hash)?;
                let (state, reason) = (PayoutState::Failed, reason.clone());
                self.end_payout(hash, Payout { state, reason, ..payout }, entry)
            }
        }
    }

    fn begin_payout(&mut self, hash: &[u8; 32], payout: &Payout, entry: &Draft) -> Answer {
        let known: Option<Payout> = get_json(&self.payouts, hash)?;
        let is_busy = self.open_payouts.get(&payout.account).map_err(unavailable)?.is_some();
        if known.is_some() || is_busy || !Lot::have(&self.lots(&payout.account)?, &payout.taken) {
            return Err(StoreError::Conflict);
        }
        let posting = self.prepare(entry, None)?;
        self.name(Chart::RefundPayable.id(), &Chart::RefundPayable)?;
        self.open_payouts.insert(&payout.account, hash).map_err(unavailable)?;
        put_json(&mut self.payouts, hash, &Payout { state: PayoutState::Open, ..payout.clone() })?;
        self.post(posting)
    }

    fn open_payout(&self, hash: &[u8; 32]) -> Result<Payout, StoreError> {
        let known: Option<Payout> = get_json(&self.payouts, hash)?;
        known.filter(|payout| payout.state == PayoutState::Open).ok_or(StoreError::Conflict)
    }

    /// Nothing is left of it to be asked about; the account may have another one.
    fn end_payout(&mut self, hash: &[u8; 32], payout: Payout, entry: &Draft) -> Answer {
        let posting = self.prepare(entry, None)?;
        for chart in [Chart::RailClearing(RAIL.into()), Chart::RailFee(RAIL.into()), Chart::FeesPassedOn] {
            if entry.legs.iter().any(|leg| leg.account == chart.id()) {
                self.name(chart.id(), &chart)?;
            }
        }
        self.open_payouts.remove(&payout.account).map_err(unavailable)?;
        let ended_s = (entry.time_ms / 1000).max(payout.expires_s);
        let expiry = expiry_key(ended_s.saturating_add(KEPT_SECONDS), EXPIRY_PAYOUT, hash);
        self.expiries.insert(&expiry, ()).map_err(unavailable)?;
        put_json(&mut self.payouts, hash, &Payout { invoice: String::new(), ..payout })?;
        self.post(posting)
    }

    /// A deposit over Lightning may go back that way.
    pub(super) fn note_lot(&mut self, key: &[u8; 32], payment: &Payment) -> Answer {
        let Some(msat) = payment.received_msat.filter(|msat| *msat > 0 && payment.amount > 0) else {
            return Ok(NO_ENTRY);
        };
        let mut lots = self.lots(&payment.account)?;
        lots.retain(|lot| lot.back_msat < lot.msat);
        lots.push(Lot::new(*key, payment.amount, msat));
        let beyond = lots.len().saturating_sub(LOTS_MAX);
        lots.drain(..beyond);
        put_json(&mut self.lots, &payment.account, &lots)
    }

    fn lots(&self, account: &[u8; 16]) -> Result<Vec<Lot>, StoreError> {
        Ok(get_json(&self.lots, account)?.unwrap_or_default())
    }

    pub(super) fn sweep_payout(&mut self, hash: &[u8; 32]) -> Result<(), StoreError> {
        let known: Option<Payout> = get_json(&self.payouts, hash)?;
        if known.is_some_and(|payout| payout.state != PayoutState::Open) {
            self.payouts.remove(hash).map_err(unavailable)?;
        }
        Ok(())
    }
}
