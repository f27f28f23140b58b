//! A grant becomes a deposit: claimed once, charged by its processor, durable; then the call draws on it.

use std::sync::Arc;

use http::HeaderMap;
use ledger::AccountId;
use money::Amount;
use rails::{Receipt, Settlement, decline};
use store::{Op, Payment, PaymentState, StoreError};
use wire::mpp::Problem;

use super::asking::{self, ASKED_SECONDS, again};
use super::{ASSET, Granted};
use crate::claims::Claim;
use crate::gate::Gate;
use crate::idempotency::{self, Attempt, Begun};
use crate::mpp::refused;
use crate::payments::{
    Arrival, Delivery, Deposit, Spends, change_key, claimed, free, in_progress, intent_refusal, key_header,
    replayed_elsewhere, unknown_outcome, unsure,
};
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;

/// Brings a grant in.
///
/// # Errors
/// The refusal says what happened to the money.
///
/// # Cancel safety
/// None: run it in a task that a lost connection does not end.
pub(crate) async fn receive(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    granted: Granted,
    delivery: Delivery,
) -> Result<Arrival, Refusal> {
    let claim = gate.claims.take(granted.grant, delivery.fingerprint).map_err(claimed)?;
    let known = granted.known(gate)?;
    let account = match &known {
        None => delivery.payer.as_ref().map_or_else(|| granted.account(), |payer| payer.account.id()),
        Some((_, known)) if known.fingerprint != delivery.fingerprint => return Err(replayed_elsewhere()),
        Some((_, known)) => AccountId(known.account),
    };
    // Whose the money was when it first came, it stays.
    if delivery.payer.as_ref().is_some_and(|payer| payer.account.id() != account) {
        return Err(replayed_elsewhere());
    }
    if let Some((_, known)) = &known
        && known.state == PaymentState::Served
    {
        let outcome = known.outcome.clone().ok_or_else(in_progress)?;
        return Ok(Arrival::Answered(outcome.into()));
    }
    let attempt = match delivery.asked {
        None => None,
        Some(asked) => match idempotency::begin(gate, snapshot.dedupe(), account, asked, delivery.now)? {
            Begun::Runs(attempt) => Some(attempt),
            // It was served for another payment: this one is not taken.
            Begun::Ended(before) => return Ok(Arrival::Answered(before)),
        },
    };
    let bringing = Bringing { gate, snapshot, granted, delivery, account, claim, attempt };
    let deposit = match known {
        None => bringing.charge().await,
        Some((key, known)) => match known.state {
            PaymentState::Intent | PaymentState::Unknown => bringing.charge_again(known).await,
            PaymentState::Settled | PaymentState::Served => {
                Ok(bringing.into_deposit(key, &known, HeaderMap::new(), false))
            }
            // Nothing is served on the promise of a card.
            PaymentState::Owed => Err(replayed_elsewhere()),
        },
    };
    deposit.map(|deposit| Arrival::Deposited(Box::new(deposit)))
}

struct Bringing<'g> {
    gate: &'g Gate,
    snapshot: &'g Snapshot,
    granted: Granted,
    delivery: Delivery,
    /// Where it is credited.
    account: AccountId,
    claim: Claim,
    attempt: Option<Attempt>,
}

impl Bringing<'_> {
    /// A grant that nobody has seen.
    async fn charge(self) -> Result<Deposit, Refusal> {
        let (gate, granted) = (self.gate, &self.granted);
        if !self.delivery.may_bring(gate, ASSET) {
            let detail = format!("This key's account does not hold {ASSET}.");
            return Err(Refusal::new(Code::WrongAsset, detail));
        }
        let desk = self.snapshot.mpp.as_ref().ok_or_else(unreachable)?;
        let payment = self.record();
        let outcome = asking::first(gate, desk, granted.grant, &granted.order, payment.clone()).await;
        match outcome.map_err(|error| intent_refusal(&error))? {
            Settlement::Settled(receipt) => self.deposited(payment, receipt, true).await,
            Settlement::Refused(said) => {
                free(gate, granted.grant).await?;
                Err(declined(&said.code))
            }
            Settlement::NotSent => {
                free(gate, granted.grant).await?;
                Err(unreachable())
            }
            Settlement::Unknown(_) => self.unknown().await,
        }
    }

    /// A grant whose processor was asked before, and whose end nobody knows.
    async fn charge_again(self, known: Payment) -> Result<Deposit, Refusal> {
        let grant = self.granted.grant;
        let outcome = again(self.gate, self.snapshot, grant, &known).await;
        match outcome.map_err(|error| unsure(&error))? {
            Settlement::Settled(receipt) => self.deposited(known, receipt, false).await,
            Settlement::Refused(said) => {
                free(self.gate, grant).await?;
                Err(declined(&said.code))
            }
            Settlement::NotSent | Settlement::Unknown(_) => self.unknown().await,
        }
    }

    async fn unknown(self) -> Result<Deposit, Refusal> {
        let key = self.granted.grant;
        self.gate.store.commit(Op::Unknown { key }).await.map_err(|error| unsure(&error))?;
        tracing::warn!(rail = self.granted.order.rail().name(), "settlement outcome unknown");
        Err(unknown_outcome())
    }

    async fn deposited(self, payment: Payment, receipt: Receipt, is_first: bool) -> Result<Deposit, Refusal> {
        let (gate, rail, grant) = (self.gate, self.granted.order.rail(), self.granted.grant);
        let written = asking::deposit(gate, rail, grant, payment.clone(), &receipt.reference).await;
        let key = match written {
            Ok(key) => key,
            // The processor has named a payment that is in already: this grant has brought nothing.
            Err(StoreError::Conflict) => {
                free(gate, grant).await?;
                return Err(replayed_elsewhere());
            }
            Err(error) => return Err(unsure(&error)),
        };
        let mut headers = HeaderMap::new();
        // Whoever shows it again may have seen it on its way.
        if is_first
            && self.delivery.payer.is_none()
            && let Some(text) = change_key(gate, self.account, self.delivery.now)
        {
            headers.extend(key_header(&text));
        }
        Ok(self.into_deposit(key, &Payment { reference: receipt.reference, ..payment }, headers, true))
    }

    fn into_deposit(self, key: [u8; 32], payment: &Payment, headers: HeaderMap, is_new: bool) -> Deposit {
        Deposit {
            account: self.gate.book.account(self.account, ASSET),
            key,
            headers,
            amount: Amount::from_units(payment.amount),
            is_new,
            rail: payment.rail.clone(),
            reference: payment.reference.clone(),
            payer: payment.payer.clone(),
            claim: Some(self.claim),
            spends: Spends::Once,
            attempt: self.attempt,
            drawing: None,
            session: None,
        }
    }

    fn record(&self) -> Payment {
        let (granted, now) = (&self.granted, self.delivery.now);
        Payment {
            state: PaymentState::Intent,
            fingerprint: self.delivery.fingerprint,
            account: self.account.0,
            asset: ASSET.code(),
            amount: granted.brings().0.units(),
            rail: granted.order.rail().name().to_owned(),
            payer: granted.payer(),
            reference: String::new(),
            created_ms: now.millis(),
            valid_before_s: now.seconds().saturating_add(ASKED_SECONDS),
            outcome: None,
            promised: false,
            attempt: None,
            received_msat: None,
        }
    }
}

/// A verdict: nothing was taken, and another grant may pay.
fn declined(reason: &str) -> Refusal {
    if reason == decline::AUTHENTICATION {
        let detail = "The payer has to confirm the payment first, and nothing was taken.";
        return refused(Problem::PaymentActionRequired, decline::AUTHENTICATION, detail);
    }
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    Refusal::new(Code::SettlementFailed, "The processor has declined the payment.").facts(facts)
}

fn unreachable() -> Refusal {
    Refusal::new(Code::FacilitatorFailed, "The processor cannot be asked now.").retry_after(5)
}
