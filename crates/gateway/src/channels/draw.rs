//! Whether a voucher continues where its channel stands (X402-22, X402-28), and what becomes of it before the call.

use std::sync::Arc;

use http::HeaderMap;
use proof::x402_batch::{Acceptance, BatchError, Verdict};
use store::{Payment, PaymentState};
use wire::hex;
use wire::x402::batch::BatchPayload;

use super::BatchSlot as Slot;
use super::answer;
use super::drawing::{Drawing, Provisional, Step};
use super::looking::Looking;
use super::presented::Presented;
use super::slot::Beside;
use super::{account_of, escrow, rail, refund};
use crate::claims::{Claim, InFlight};
use crate::gate::Gate;
use crate::idempotency::{self, Before, Begun};
use crate::payments::{Delivery, store_refusal};
use crate::refusal::{Code, Money, Refusal};
use crate::snapshot::Snapshot;

/// How long an outcome is remembered beyond a week: a voucher has no end of its own.
const REMEMBERED_S: u64 = 600;
/// A view of the chain that is older is looked at anew before a payer is told that his channel does not hold enough:
/// he may have put more into it by himself.
const TOP_UP_SEEN_S: u64 = 30;

/// What a payment from a channel leads to.
pub(crate) enum Drawn {
    /// A call may be made.
    Call(Box<Drawing>, Claim),
    /// The call was made before.
    Answered(Before),
    /// It asked for its money back and got it; no call is made.
    Refunded(HeaderMap),
}

/// Takes a payment from a channel.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn receive(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    presented: Presented,
    delivery: Delivery,
) -> Result<Drawn, Refusal> {
    if delivery.payer.is_some() {
        // What is left of a charge is the channel's, and only its payer may have it back.
        let detail = "A channel pays for a call by itself: send it without a credit key.";
        return Err(Refusal::new(Code::AmbiguousCredentials, detail));
    }
    let id = presented.voucher.channel_id;
    let claim = gate.claims.take(id, delivery.fingerprint).map_err(|running| claimed(running, &delivery))?;
    match &presented.payload {
        BatchPayload::Refund { amount, .. } => {
            let headers = refund::give_back(gate, snapshot, &presented, *amount, delivery.now).await?;
            Ok(Drawn::Refunded(headers))
        }
        BatchPayload::Deposit { .. } | BatchPayload::Voucher { .. } => {
            Calling { gate, snapshot, presented, delivery }.begin(claim).await
        }
    }
}

/// Somebody has the channel's claim: this very request, or another call.
fn claimed(running: InFlight, delivery: &Delivery) -> Refusal {
    if running.fingerprint == delivery.fingerprint {
        return Refusal::new(Code::InProgress, "A request with this voucher is being served.")
            .money(Money::FirstAttemptDecides)
            .retry_after(1);
    }
    answer::busy()
}

struct Calling<'g> {
    gate: &'g Arc<Gate>,
    snapshot: &'g Snapshot,
    presented: Presented,
    delivery: Delivery,
}

impl Calling<'_> {
    async fn begin(self, claim: Claim) -> Result<Drawn, Refusal> {
        let Self { gate, snapshot, presented, delivery } = &self;
        let known = self.known().await?;
        if let Some(known) = &known
            && let Some(outcome) = &known.outcome
        {
            return Ok(Drawn::Answered(outcome.clone().into()));
        }
        let account = account_of(&presented.voucher.channel_id);
        let attempt = match delivery.asked {
            None => None,
            Some(asked) => match idempotency::begin(gate, snapshot.dedupe(), account, asked, delivery.now)? {
                Begun::Runs(attempt) => Some(attempt),
                Begun::Ended(before) => return Ok(Drawn::Answered(before)),
            },
        };
        let escrowed = match presented.deposit() {
            None => None,
            Some(deposit) => Some(escrow::bring(gate, snapshot, presented, deposit, delivery).await?),
        };
        let slot = match gate.channels.find(&presented.voucher.channel_id) {
            Some(slot) => slot,
            None => self.looking().open().await?,
        };
        let step = match known {
            // Charged, and the call it was charged for never ended: it is made from what is there.
            Some(known) => Step::Charged { charge: slot.unit.whole(money::Amount::from_units(known.amount)) },
            None => self.accept(&slot).await?,
        };
        let credit = match &step {
            Step::Charge { payment, .. } => money::Amount::from_units(payment.amount),
            Step::Charged { .. } => money::Amount::ZERO,
        };
        // In memory only, until the head: the call is held for from it, and it is gone if no head comes.
        let provisional = Provisional::new(gate, &slot.account, credit);
        let key = presented.key(slot.era(), &delivery.fingerprint);
        let (network, payer) = (presented.network().to_owned(), presented.payer());
        Ok(Drawn::Call(
            Box::new(Drawing {
                gate: Arc::clone(gate),
                slot,
                key,
                network,
                payer,
                step,
                escrowed,
                provisional,
                attempt,
            }),
            claim,
        ))
    }

    const fn looking(&self) -> Looking<'_> {
        let Self { gate, snapshot, presented, delivery } = self;
        Looking { gate, snapshot, presented, now: delivery.now }
    }

    /// What this voucher was charged for this request, if it was.
    async fn known(&self) -> Result<Option<Payment>, Refusal> {
        let Self { gate, presented, delivery, .. } = self;
        let Some(slot) = gate.channels.find(&presented.voucher.channel_id) else { return Ok(None) };
        let max = presented.voucher.signed.max_claimable;
        let (key, is_last) = {
            let kept = slot.lock().await;
            (presented.key(kept.record.era, &delivery.fingerprint), kept.record.accepted == max)
        };
        let found = gate.store.reader().payment(&key).map_err(|error| store_refusal(&error))?;
        // A call that was drawn on the carry alone accepted nothing, so its voucher may be the next one as well.
        Ok(found.filter(|known| known.outcome.is_some() || is_last || known.amount == 0))
    }

    /// Holds the voucher against the channel, with a fresh view of the chain: the call may cost the whole amount of
    /// the offer.
    async fn accept(&self, slot: &Arc<Slot>) -> Result<Step, Refusal> {
        let (presented, now) = (&self.presented, self.delivery.now);
        let amount = presented.offer.amount;
        let mut has_looked = false;
        loop {
            let kept = slot.lock().await;
            if kept.record.refunding.is_some() {
                // How much is left is not known before it is known whether that went out.
                return Err(answer::busy());
            }
            let channel = kept.channel(slot.carry());
            let age_s = now.seconds().saturating_sub(channel.mirror.synced_at_s);
            match channel.accept(&presented.voucher, amount, now.seconds()) {
                Verdict::Accepted(acceptance) => {
                    let payment = Box::new(self.payment(slot, &acceptance)?);
                    return Ok(Step::Charge { acceptance, from: channel.charged, payment });
                }
                Verdict::Corrective { error, voucher } => {
                    let newest = channel.voucher_state().filter(|_| voucher);
                    let state = channel.state(slot.id);
                    return Err(answer::corrective(presented, error, Some(&state), newest.as_ref()));
                }
                Verdict::Refused(error) => {
                    let looks_again = error == BatchError::StaleMirror
                        || error == BatchError::ExceedsBalance && age_s >= TOP_UP_SEEN_S;
                    if has_looked || !looks_again {
                        return Err(answer::refusal(error));
                    }
                }
            }
            drop(kept);
            has_looked = true;
            let mirror = self.looking().look().await?;
            let mut kept = slot.lock().await;
            let record = kept.moved(&kept.channel(0).refreshed(mirror));
            let written = slot.write(&self.gate.store, &mut kept, record, Beside::default()).await;
            written.map_err(|error| answer::unwritten(&error))?;
        }
    }

    /// The payment that the voucher becomes when it is charged.
    fn payment(&self, slot: &Slot, acceptance: &Acceptance) -> Result<Payment, Refusal> {
        let Self { presented, delivery, .. } = self;
        let too_big = || Refusal::new(Code::ProofInvalid, "The payment is larger than an account can hold.");
        let credit = slot.unit.ledger(acceptance.charge).ok_or_else(too_big)?;
        Ok(Payment {
            state: PaymentState::Settled,
            fingerprint: delivery.fingerprint,
            account: slot.account.id().0,
            asset: slot.unit.asset.code(),
            amount: credit.units(),
            rail: rail(presented.network()),
            payer: presented.payer(),
            reference: hex::encode_0x(&slot.id),
            created_ms: delivery.now.millis(),
            valid_before_s: delivery.now.seconds().saturating_add(REMEMBERED_S),
            outcome: None,
            received_msat: None,
            promised: false,
            attempt: None,
        })
    }
}
