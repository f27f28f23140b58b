//! Asking a processor for a payment: written down before it is sent, the same order each time until it is decided, and never
//! once the processor may have forgotten it (RAIL-15).

use ledger::AccountId;
use money::{Amount, Asset};
use rails::{Settlement, Unclear};
use store::{Attempt, Op, Payment, StoreError};

use super::{Order, Rail};
use crate::clock::Now;
use crate::gate::Gate;
use crate::mpp::Desk;
use crate::settling;
use crate::snapshot::Snapshot;

/// Seconds in which a payment is asked about: less than its processor remembers the key that makes each asking the same
/// payment. Past that only the operator can tell.
pub(super) const ASKED_SECONDS: u64 = rails::stripe::REMEMBERED.as_secs() - 3600;

/// Asks for the first time. From here on the grant is taken.
///
/// # Errors
/// The intent could not be written, or the grant is known already; nothing was sent.
///
/// # Cancel safety
/// None: dropped midway, the payment may have been made.
pub(super) async fn first(
    gate: &Gate,
    desk: &Desk,
    grant: [u8; 32],
    order: &Order,
    payment: Payment,
) -> Result<Settlement, StoreError> {
    // It has text keys and no floats, so writing it cannot fail.
    let request = serde_json::to_string(order).unwrap_or_default();
    let attempt = settling::attempt(payment.rail.clone(), &request, 1, Now::read());
    let next_ms = attempt.next_ms;
    let payment = Payment { attempt: Some(attempt), ..payment };
    gate.store.commit(Op::Intent { key: grant, payment }).await?;
    gate.unsettled.watch(grant, next_ms);
    Ok(asked(gate, desk, order).await)
}

/// Asks again about a payment whose end nobody knows.
///
/// # Errors
/// The attempt could not be written down; nothing was sent.
///
/// # Cancel safety
/// As for [`first`].
pub(crate) async fn again(
    gate: &Gate,
    snapshot: &Snapshot,
    grant: [u8; 32],
    payment: &Payment,
) -> Result<Settlement, StoreError> {
    let now = Now::read();
    let Some(last) = payment.attempt.as_ref().filter(|_| now.seconds() < payment.valid_before_s) else {
        return Ok(unclear());
    };
    let (Some(desk), Ok(order)) = (&snapshot.mpp, serde_json::from_str::<Order>(&last.request)) else {
        return Ok(unclear());
    };
    let count = last.count.saturating_add(1);
    let attempt: Attempt = settling::attempt(last.facilitator.clone(), &last.request, count, now);
    let next_ms = attempt.next_ms;
    gate.store.commit(Op::Attempt { key: grant, attempt }).await?;
    let outcome = asked(gate, desk, &order).await;
    gate.unsettled.watch(grant, next_ms);
    Ok(outcome)
}

async fn asked(gate: &Gate, desk: &Desk, order: &Order) -> Settlement {
    let outcome = desk.charge(order).await;
    let state = match &outcome {
        Settlement::Settled(_) => "settled",
        Settlement::Refused(_) => "refused",
        Settlement::NotSent => "not_sent",
        Settlement::Unknown(_) => "unknown",
    };
    gate.metrics.settlement(order.rail().name(), state);
    outcome
}

/// Writes down that a payment was made, under the name that its processor gave it.
///
/// # Errors
/// A conflict where a payment of that name is in already; nothing is deposited twice.
pub(super) async fn deposit(
    gate: &Gate,
    rail: Rail,
    grant: [u8; 32],
    payment: Payment,
    reference: &str,
) -> Result<[u8; 32], StoreError> {
    let key = rail.deposit_key(reference);
    settling::charged(&gate.store, grant, key, payment.clone(), reference.to_owned()).await?;
    gate.unsettled.forget(&grant);
    if let Some(asset) = Asset::from_code(payment.asset) {
        gate.deposit(AccountId(payment.account), asset, Amount::from_units(payment.amount));
    }
    Ok(key)
}

/// A payment that no call waits for any more was made.
///
/// # Errors
/// As [`deposit`].
pub(crate) async fn settled_later(
    gate: &Gate,
    rail: Rail,
    grant: [u8; 32],
    payment: Payment,
    reference: &str,
) -> Result<(), StoreError> {
    deposit(gate, rail, grant, payment, reference).await.map(drop)
}

fn unclear() -> Settlement {
    Settlement::Unknown(Unclear::default())
}
