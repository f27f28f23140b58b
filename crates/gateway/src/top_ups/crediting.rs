//! A payment becomes balance, once. Whoever says that it came in, the rail's notice or its answer to our question: this is
//! the one way (RAIL-12).

use std::sync::Arc;

use bytes::Bytes;
use ledger::AccountId;
use money::{Amount, Asset};
use store::{Op, Paid, Parked, ParkedWhy, StoreError, TopUp, TopUpState, TopUpStep};

use super::rail::{Notified, RailPayment};
use super::{Open, Rail, entries};
use crate::clock::Now;
use crate::gate::Gate;
use crate::snapshot::Snapshot;

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credited {
    /// It is balance now.
    Now,
    /// It was before, or waits for the operator.
    Before,
    /// It is not what was asked for: it waits for the operator.
    Parked,
    /// No order of ours.
    NoOrder,
}

impl Credited {
    const fn name(self) -> &'static str {
        match self {
            Self::Now => "top_up",
            Self::Before => "top_up_again",
            Self::Parked => "top_up_parked",
            Self::NoOrder => "top_up_unknown",
        }
    }
}

/// Reads a notice of a rail, and credits what it tells of. What to answer; the rail stops sending when it is told that
/// the notice was taken, so it is told after the credit is on disk and not before (FIN-22). None: the rail is not configured.
///
/// It runs in a task of its own: who brings the notice may leave.
pub(crate) async fn take_notice(
    gate: &Arc<Gate>,
    snapshot: &Arc<Snapshot>,
    family: &'static str,
    body: Bytes,
) -> Option<&'static str> {
    let (in_gate, in_snapshot) = (Arc::clone(gate), Arc::clone(snapshot));
    let taking = gate.background.spawn(async move {
        let rail = Rail::named(&in_snapshot, family)?;
        Some(rail.word(is_taken(&in_gate, rail, &body).await))
    });
    taking.await.ok().flatten()
}

/// Whether a notice need not come again.
async fn is_taken(gate: &Gate, rail: Rail<'_>, body: &[u8]) -> bool {
    let count = |state| gate.metrics.settlement(rail.family(), state);
    match rail.notice(body) {
        Notified::Refused { is_final } => {
            count("notice_refused");
            is_final
        }
        Notified::NotPaid => {
            count("notice_of_no_payment");
            true
        }
        // No order of ours is called like this: somebody else's, by the same app.
        Notified::Paid(None, _) => {
            count(Credited::NoOrder.name());
            true
        }
        Notified::Paid(Some(order), payment) => match credit(gate, rail.family(), &order, payment).await {
            Ok(Credited::Now | Credited::Before | Credited::Parked) => true,
            // It may be there when the notice comes again, as after a backup was restored that lacks it.
            Ok(Credited::NoOrder) => false,
            Err(error) => {
                tracing::error!(%error, "a payment cannot be credited now");
                false
            }
        },
    }
}

/// Credits a payment to the account of its order.
///
/// # Errors
/// [`StoreError`]: it is not credited, or not known whether it is. The same again finds out.
///
/// # Cancel safety
/// None: between the write and the balance in memory it must not be dropped.
pub(super) async fn credit(
    gate: &Gate,
    family: &str,
    id: &[u8; 16],
    payment: RailPayment,
) -> Result<Credited, StoreError> {
    let key = proof::deposit_key::rail(family, &payment.reference);
    // Once more where another one was faster.
    for _ in 0..2 {
        match try_credit(gate, family, id, &key, &payment).await {
            Err(StoreError::Conflict) => {}
            done => {
                if let Ok(credited) = done {
                    gate.metrics.settlement(family, credited.name());
                }
                return done;
            }
        }
    }
    Err(StoreError::Conflict)
}

async fn try_credit(
    gate: &Gate,
    family: &str,
    id: &[u8; 16],
    key: &[u8; 32],
    payment: &RailPayment,
) -> Result<Credited, StoreError> {
    let reader = gate.store.reader();
    let known = reader.top_up(id)?;
    let Some(order) = known.filter(|order| order.rail == family) else {
        tracing::error!(order = %wire::hex::encode(id), "ALARM: a payment of no order of ours");
        return Ok(Credited::NoOrder);
    };
    if reader.payment(key)?.is_some() {
        return Ok(Credited::Before);
    }
    let paid = Paid {
        rail: family.to_owned(),
        reference: payment.reference.clone(),
        order: *id,
        currency: payment.currency.code(),
        minor: payment.minor,
    };
    let is_asked_for = (paid.currency, paid.minor) == (order.currency, order.minor);
    match order.state {
        TopUpState::Credited | TopUpState::Parked => park(gate, id, key, paid, ParkedWhy::Excess).await,
        TopUpState::Open | TopUpState::Closed if !is_asked_for => {
            park(gate, id, key, paid, ParkedWhy::OtherAmount).await
        }
        TopUpState::Open | TopUpState::Closed => put(gate, id, key, &order, paid).await,
    }
}

async fn put(
    gate: &Gate,
    id: &[u8; 16],
    key: &[u8; 32],
    order: &TopUp,
    paid: Paid,
) -> Result<Credited, StoreError> {
    let entry = entries::credited(key, order, &paid, Now::read()).ok_or(StoreError::Range)?;
    let step = TopUpStep::Credit { key: *key, paid: Box::new(paid), entry };
    gate.store.commit(Op::TopUp { id: *id, step }).await?;
    gate.top_ups.forget(Open::Order(*id));
    if let Some(asset) = Asset::from_code(order.asset) {
        let units = order.credit.saturating_add(order.bonus);
        gate.deposit(AccountId(order.account), asset, Amount::from_units(units));
    }
    tracing::info!(order = %wire::hex::encode(id), rail = order.rail, "an order was paid and is balance");
    Ok(Credited::Now)
}

async fn park(
    gate: &Gate,
    id: &[u8; 16],
    key: &[u8; 32],
    paid: Paid,
    why: ParkedWhy,
) -> Result<Credited, StoreError> {
    let now = Now::read();
    let entry = entries::parked(key, &paid, now).ok_or(StoreError::Range)?;
    let parked = Box::new(Parked { paid, why, at_ms: now.millis() });
    gate.store.commit(Op::TopUp { id: *id, step: TopUpStep::Park { key: *key, parked, entry } }).await?;
    gate.top_ups.forget(Open::Order(*id));
    tracing::error!(
        order = %wire::hex::encode(id), ?why,
        "ALARM: a payment is not what was asked for and waits for you: farthing topup list"
    );
    Ok(Credited::Parked)
}
