//! Money on its way into a channel: it moves once, whatever answer comes, and none of it is ours yet (X402-22). What
//! becomes ours is what vouchers are charged for.

use std::sync::Arc;

use proof::x402_batch::{BatchError, Channel, Mirror, Verdict, deposit};
use proof::x402_exact::SETTLE_MARGIN_S;
use rails::{Receipt, Settlement};
use store::{Payment, PaymentState, StoreError};
use wire::x402::batch::{BatchPayload, ChannelConfig, Deposit, DepositAuthorization};
use wire::x402::facilitator::SettleRequest;
use wire::x402::v2;

use super::BatchKept as Kept;
use super::answer::{self, Escrowed};
use super::kept::Unit;
use super::mirror::{self, Unseen};
use super::presented::Presented;
use super::slot::{self, Beside};
use super::{account_of, network_of, rail};
use crate::clock::Now;
use crate::config::Config;
use crate::gate::Gate;
use crate::payments::{Delivery, store_refusal, unknown_outcome, unsure};
use crate::refusal::{Code, Facts, Refusal};
use crate::settling::Asking;
use crate::snapshot::Snapshot;

/// A moment at which a deposit could be settled, if ever.
pub(super) fn valid_at(deposit: &Deposit) -> Option<u64> {
    let end = match &deposit.authorization {
        DepositAuthorization::Erc3009(sent) => sent.valid_before,
        DepositAuthorization::Permit2(sent) => sent.deadline,
    };
    end.checked_sub(SETTLE_MARGIN_S)
}

/// Brings the money of a payment into its channel, if it is not there yet. The channel's claim is the caller's.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: dropped midway, money may have moved.
pub(super) async fn bring(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    presented: &Presented,
    deposit: &Deposit,
    delivery: &Delivery,
) -> Result<Escrowed, Refusal> {
    let bringing = Bringing { gate, snapshot, presented, deposit };
    let Some(key) = presented.escrow_key() else {
        let checked = deposit::verify(&presented.offer, &presented.voucher, deposit, delivery.now.seconds());
        return Err(answer::refusal(checked.err().unwrap_or(BatchError::DepositElsewhere)));
    };
    // Who asks a facilitator about it just now decides.
    let _claim = gate.claims.take(key, delivery.fingerprint).map_err(|_| unknown_outcome())?;
    let known = gate.store.reader().payment(&key).map_err(|error| store_refusal(&error))?;
    let asking = Asking { gate, facilitators: snapshot.facilitators.as_ref(), key };
    match known {
        None => {
            let before = bringing.check(delivery.now).await?;
            let (payment, request) = (bringing.payment(delivery), bringing.request());
            let Some(request) = request else { return Err(answer::refusal(BatchError::PayloadType)) };
            let asked = asking.first(payment.clone(), &request).await;
            let outcome = asked.map_err(|error| crate::payments::intent_refusal(&error))?;
            bringing.end(key, payment, Some(before), outcome).await
        }
        Some(known) => match known.state {
            PaymentState::Intent | PaymentState::Unknown => {
                let outcome = asking.again(&known).await.map_err(|error| unsure(&error))?;
                bringing.end(key, known, None, outcome).await
            }
            PaymentState::Settled | PaymentState::Served => {
                Ok(Escrowed { transaction: known.reference, amount: deposit.amount })
            }
            // Nothing is served before it is in the channel.
            PaymentState::Owed => Err(unknown_outcome()),
        },
    }
}

struct Bringing<'g> {
    gate: &'g Arc<Gate>,
    snapshot: &'g Snapshot,
    presented: &'g Presented,
    deposit: &'g Deposit,
}

impl Bringing<'_> {
    /// Before anything moves: the deposit is genuine and would settle, and the voucher beside it would be taken then.
    async fn check(&self, now: Now) -> Result<Mirror, Refusal> {
        let Self { gate, snapshot, presented, deposit } = self;
        deposit::verify(&presented.offer, &presented.voucher, deposit, now.seconds())
            .map_err(answer::refusal)?;
        let all = snapshot.facilitators.as_ref().ok_or_else(answer::unseen)?;
        let request = self.request().ok_or_else(|| answer::refusal(BatchError::PayloadType))?;
        let (id, config) = (presented.voucher.channel_id, &presented.voucher.config);
        let seen = mirror::ask(gate, all, &request, config, id, now.seconds()).await;
        let mirror = seen.map_err(|unseen| match unseen {
            Unseen::NoAnswer => answer::unseen(),
            Unseen::Invalid(code) => {
                let facts = Facts { reason: Some(code), ..Facts::default() };
                Refusal::new(Code::ProofInvalid, "The deposit would not settle.").facts(facts)
            }
        })?;
        let channel = match gate.channels.find(&id) {
            None => Channel::opened(mirror),
            Some(slot) => {
                let kept = slot.lock().await;
                if kept.record.refunding.is_some() {
                    return Err(answer::busy());
                }
                kept.channel(slot.carry()).refreshed(mirror)
            }
        };
        let after = channel.with_deposit(deposit.amount);
        match after.accept(&presented.voucher, presented.offer.amount, now.seconds()) {
            Verdict::Accepted(_) => Ok(mirror),
            Verdict::Corrective { error, voucher } => {
                let newest = channel.voucher_state().filter(|_| voucher);
                Err(answer::corrective(presented, error, Some(&channel.state(id)), newest.as_ref()))
            }
            Verdict::Refused(error) => Err(answer::refusal(error)),
        }
    }

    /// Our values in the payer's form, and nothing private (X402-11).
    fn request(&self) -> Option<SettleRequest> {
        let mut offer = self.presented.offer.clone();
        offer.quote = None;
        let accepted = offer.requirements_v2();
        let requirements = serde_json::to_value(&accepted).ok()?;
        let payment = v2::PaymentPayload {
            x402_version: v2::VERSION,
            resource: None,
            accepted,
            payload: serde_json::to_value(&self.presented.payload).ok()?,
            extensions: None,
        };
        Some(SettleRequest {
            x402_version: v2::VERSION,
            payment_payload: serde_json::to_value(payment).ok()?,
            payment_requirements: requirements,
        })
    }

    /// Nothing of it becomes balance: its amount here is zero.
    fn payment(&self, delivery: &Delivery) -> Payment {
        let Self { presented, deposit, .. } = self;
        Payment {
            state: PaymentState::Intent,
            fingerprint: delivery.fingerprint,
            account: account_of(&presented.voucher.channel_id).0,
            asset: presented.unit.asset.code(),
            amount: 0,
            rail: rail(presented.network()),
            payer: presented.payer(),
            reference: String::new(),
            created_ms: delivery.now.millis(),
            valid_before_s: valid_at(deposit).unwrap_or(0).saturating_add(SETTLE_MARGIN_S),
            outcome: None,
            received_msat: None,
            promised: false,
            attempt: None,
        }
    }

    async fn end(
        &self,
        key: [u8; 32],
        payment: Payment,
        before: Option<Mirror>,
        outcome: Settlement,
    ) -> Result<Escrowed, Refusal> {
        let gate = self.gate;
        match outcome {
            Settlement::Settled(receipt) => {
                let transaction = receipt.reference.clone();
                let into = Into {
                    network: self.presented.network().to_owned(),
                    id: self.presented.voucher.channel_id,
                    config: self.presented.voucher.config,
                    unit: self.presented.unit,
                    amount: self.deposit.amount,
                };
                let written = into.put(gate, key, payment, before, &receipt).await;
                written.map_err(|error| unsure(&error))?;
                Ok(Escrowed { transaction, amount: self.deposit.amount })
            }
            Settlement::Refused(refused) => {
                crate::payments::free(gate, key).await?;
                let facts = Facts { reason: Some(refused.code), ..Facts::default() };
                let detail = "The deposit was refused when it was to be settled.";
                Err(Refusal::new(Code::SettlementFailed, detail).facts(facts))
            }
            Settlement::NotSent => {
                crate::payments::free(gate, key).await?;
                let detail = "No facilitator could be reached to settle the deposit.";
                Err(Refusal::new(Code::FacilitatorFailed, detail).retry_after(5))
            }
            Settlement::Unknown(_) => {
                let op = store::Op::Unknown { key };
                gate.store.commit(op).await.map_err(|error| unsure(&error))?;
                tracing::warn!(rail = %rail(self.presented.network()), "the outcome of a deposit is unknown");
                Err(unknown_outcome())
            }
        }
    }
}

/// What has arrived in a channel.
struct Into {
    network: String,
    id: [u8; 32],
    config: ChannelConfig,
    unit: Unit,
    /// Atomic units.
    amount: u128,
}

impl Into {
    /// Writes down that the money is in the channel: the channel's record and the payment in one write.
    async fn put(
        self,
        gate: &Gate,
        key: [u8; 32],
        payment: Payment,
        before: Option<Mirror>,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        let now_s = Now::read().seconds();
        let payment =
            Payment { state: PaymentState::Served, reference: receipt.reference.clone(), ..payment };
        let beside = Beside { payment: Some((key, payment)), entry: None, is_result: true };
        let told = receipt.extra.as_ref().and_then(|extra| mirror::told(extra, self.id, now_s));
        let range = || StoreError::Unavailable("a channel cannot be written".into());
        match gate.channels.find(&self.id) {
            Some(slot) => {
                let mut kept = slot.lock().await;
                let channel = kept.channel(0);
                let seen = before.unwrap_or(Mirror { synced_at_s: 0, ..channel.mirror });
                let record = kept.moved(&channel.refreshed(self.after(seen, told)));
                slot.write(&gate.store, &mut kept, record, beside).await?;
            }
            None => {
                let nothing = Mirror {
                    balance: 0,
                    total_claimed: 0,
                    withdrawing: 0,
                    withdraw_requested_at: 0,
                    refund_nonce: [0; 32],
                    synced_at_s: 0,
                };
                let mirror = self.after(before.unwrap_or(nothing), told);
                let opened = Kept::opened(self.id, self.config, &self.network, self.unit, mirror);
                let mut kept = opened.ok_or_else(range)?;
                let record = kept.record.clone();
                slot::write(&gate.store, &mut kept, record, beside).await?;
                gate.channels.add(kept, &gate.book).ok_or_else(range)?;
            }
        }
        gate.unsettled.forget(&key);
        Ok(())
    }

    /// The channel on the chain afterwards. A facilitator that tells of more than was there and came is not
    /// believed; where nothing was seen before, the next call looks.
    fn after(&self, before: Mirror, told: Option<Mirror>) -> Mirror {
        let sum = before.balance.saturating_add(self.amount);
        match told {
            Some(told) if before.synced_at_s == 0 || told.balance <= sum => told,
            Some(_) | None => Mirror { balance: sum, ..before },
        }
    }
}

/// A deposit into a channel turned out settled after all, on the word of a facilitator or of the operator.
///
/// # Errors
/// [`StoreError`]; a range error when its channel cannot be told from what was asked, or its network has left the
/// configuration.
pub(crate) async fn settled_later(
    gate: &Gate,
    key: [u8; 32],
    payment: Payment,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    let into = asked(&gate.snapshot.load().config, &payment).ok_or(StoreError::Range)?;
    into.put(gate, key, payment, None, receipt).await
}

/// What a payment was to bring where, as we asked for it.
fn asked(config: &Config, payment: &Payment) -> Option<Into> {
    let network = network_of(&payment.rail)?;
    let request: SettleRequest = serde_json::from_str(&payment.attempt.as_ref()?.request).ok()?;
    let payload = BatchPayload::from_value(request.payment_payload.get("payload")?)?;
    let BatchPayload::Deposit { channel_config, voucher, deposit } = payload else { return None };
    Some(Into {
        network: network.to_owned(),
        id: voucher.channel_id,
        config: channel_config,
        unit: super::unit_of(config, network, &channel_config.token)?,
        amount: deposit.amount,
    })
}
