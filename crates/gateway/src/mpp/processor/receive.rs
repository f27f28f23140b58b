//! A grant becomes a deposit: claimed once, charged by its processor, durable; then the call draws on it.

use std::sync::Arc;

use rails::{Receipt, Settlement, decline};
use store::{Op, Payment, PaymentState, StoreError};
use wire::mpp::Problem;

use super::asking::{self, ASKED_SECONDS, again};
use super::{ASSET, Granted};
use crate::gate::Gate;
use crate::mpp::refused;
use crate::payments::{
    Arrival, Delivery, Deposit, Incoming, Start, Terms, claimed, free, intent_refusal, replayed_elsewhere,
    unknown_outcome, unsure,
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
    let own = (granted.account(), ASSET);
    let before = known.as_ref().map(|(_, payment)| payment);
    let incoming = match Incoming::begin(gate, snapshot, claim, before, own, delivery)? {
        Start::Goes(incoming) => incoming,
        Start::Ended(before) => return Ok(Arrival::Answered(before)),
    };
    let bringing = Bringing { gate, snapshot, granted, incoming };
    let deposit = match known {
        None => bringing.charge().await,
        Some((key, known)) => match known.state {
            PaymentState::Intent | PaymentState::Unknown => bringing.charge_again(known).await,
            PaymentState::Settled | PaymentState::Served => Ok(bringing.incoming.resumed(key, known)),
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
    incoming: Box<Incoming<'g>>,
}

impl Bringing<'_> {
    /// A grant that nobody has seen.
    async fn charge(self) -> Result<Deposit, Refusal> {
        let (gate, granted) = (self.gate, &self.granted);
        self.incoming.check_asset()?;
        let desk = self.snapshot.mpp.as_ref().ok_or_else(unreachable)?;
        let payment = self.incoming.record(Terms {
            amount: granted.brings().0,
            rail: granted.order.rail().name().to_owned(),
            payer: granted.payer(),
            asked_seconds: ASKED_SECONDS,
        });
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
        let payment = Payment { reference: receipt.reference, ..payment };
        // Whoever shows it again may have seen it on its way.
        Ok(self.incoming.deposited(key, payment, is_first))
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
