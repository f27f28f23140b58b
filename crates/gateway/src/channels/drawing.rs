//! A voucher that may be charged, from when its call is held for until its answer's head: there it is charged, whole,
//! and on disk before anything of the answer goes out (X402-25, X402-28). If no head comes, nothing was charged.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use ledger::{AccountRef, Chart, Draft, Kind, LegDraft, leg_asset};
use money::Amount;
use proof::x402_batch::{Acceptance, BatchError};
use store::Payment;

use super::BatchSlot as Slot;
use super::answer::{self, Escrowed};
use super::rail;
use super::slot::Beside;
use crate::clock::Now;
use crate::gate::Gate;
use crate::idempotency::Attempt;
use crate::refusal::Refusal;

/// What is drawn from a channel for one call.
pub(crate) struct Drawing {
    pub(super) gate: Arc<Gate>,
    pub(super) slot: Arc<Slot>,
    /// The payment's key.
    pub(crate) key: [u8; 32],
    pub(super) network: String,
    pub(crate) payer: String,
    pub(super) step: Step,
    pub(super) escrowed: Option<Escrowed>,
    pub(super) provisional: Provisional,
    pub(crate) attempt: Option<Attempt>,
}

pub(super) enum Step {
    /// The head charges it.
    Charge {
        acceptance: Acceptance,
        /// What was charged in all when it was accepted.
        from: u128,
        payment: Box<Payment>,
    },
    /// It is charged.
    Charged {
        /// Atomic units.
        charge: u128,
    },
}

/// A credit that is in memory only; dropped before it is kept, it was never there. To be dropped after the hold
/// that was taken from it.
pub(super) struct Provisional {
    gate: Arc<Gate>,
    account: AccountRef,
    amount: Amount,
}

impl Provisional {
    pub(super) fn new(gate: &Arc<Gate>, account: &AccountRef, amount: Amount) -> Self {
        let account = gate.deposit(account.id(), account.asset(), amount);
        Self { gate: Arc::clone(gate), account, amount }
    }

    /// It is on disk by now.
    const fn keep(&mut self) {
        self.amount = Amount::ZERO;
    }
}

impl Drop for Provisional {
    fn drop(&mut self) {
        let taken = self.gate.book.withdraw(&self.account, self.amount);
        if taken != self.amount {
            tracing::error!(account = %self.account.id(), missing = self.amount.units() - taken.units(),
                "ALARM: a voucher was not charged and something was drawn on it");
        }
    }
}

impl Drawing {
    /// The account that the call draws on.
    pub(crate) fn account(&self) -> AccountRef {
        self.slot.account.clone()
    }

    /// What the voucher adds to the account.
    pub(crate) fn amount(&self) -> Amount {
        match &self.step {
            Step::Charge { payment, .. } => Amount::from_units(payment.amount),
            Step::Charged { charge } => self.slot.unit.ledger(*charge).unwrap_or_default(),
        }
    }

    pub(crate) fn rail(&self) -> String {
        rail(&self.network)
    }

    /// Names the channel.
    pub(crate) fn reference(&self) -> String {
        wire::hex::encode_0x(&self.slot.id)
    }

    /// The upstream has answered: charges the voucher where it answered well, and says what the payer is told in the
    /// head. An answer that is none costs nothing, and the same voucher may be sent again.
    ///
    /// # Errors
    /// It could not be written down: nothing was charged, and nothing of the answer may go on.
    ///
    /// # Cancel safety
    /// None.
    pub(crate) async fn at_head(&mut self, status: StatusCode) -> Result<HeaderMap, Refusal> {
        if !status.is_success() {
            return Ok(self.told_of_escrow().await);
        }
        let mut kept = self.slot.lock().await;
        let charge = match &self.step {
            Step::Charged { charge } => *charge,
            Step::Charge { acceptance, from, payment } => {
                if kept.record.charged != *from {
                    // The chain has been claimed beyond what we knew: nobody but us should be able to.
                    tracing::error!(channel = %wire::hex::encode(&self.slot.id), "ALARM: a channel was claimed by somebody else");
                    return Err(answer::refusal(BatchError::CumulativeMismatch {
                        charged: kept.record.charged,
                    }));
                }
                let charged = kept.channel(acceptance.from_carry).charge_at_head(acceptance);
                let now = Now::read();
                let record = store::Channel { used_ms: now.millis(), ..kept.moved(&charged) };
                let entry = (payment.amount > 0).then(|| entry(self.key, payment, charged.charged, now));
                let payment = Some((self.key, Payment::clone(payment)));
                let beside = Beside { payment, entry, is_result: false };
                let written = self.slot.write(&self.gate.store, &mut kept, record, beside).await;
                written.map_err(|error| answer::unwritten(&error))?;
                self.gate.metrics.settlement(&rail(&self.network), "charged");
                acceptance.charge
            }
        };
        let state = kept.channel(0).state(self.slot.id);
        drop(kept);
        self.provisional.keep();
        self.step = Step::Charged { charge };
        Ok(answer::charged(&self.network, &self.payer, charge, state, self.escrowed.as_ref()))
    }

    /// What a payer is told whose call was not made, but whose money is in the channel now.
    pub(crate) async fn told_of_escrow(&self) -> HeaderMap {
        let Some(escrowed) = &self.escrowed else { return HeaderMap::new() };
        let state = self.slot.lock().await.channel(0).state(self.slot.id);
        answer::charged(&self.network, &self.payer, 0, state, Some(escrowed))
    }
}

/// The increment of a voucher is a deposit (reference item 15). Its id is the beginning of the payment's key.
fn entry(key: [u8; 32], payment: &Payment, charged: u128, now: Now) -> Draft {
    let asset = money::Asset::from_code(payment.asset).map_or(0, leg_asset);
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    let legs = vec![
        LegDraft::of(asset, Chart::RailClearing(payment.rail.clone()).id(), -payment.amount),
        LegDraft::of(asset, ledger::AccountId(payment.account), payment.amount),
    ];
    let reference = format!("{}:{charged}", payment.reference);
    Draft { key, reference, ..Draft::of(Kind::Deposit, id, now.millis(), legs) }
}
