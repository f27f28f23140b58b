//! Balance on its way back over Lightning: the operator's list, and his word where the node cannot tell.

use money::{Amount, Asset};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::{Op, Payout, PayoutState, Store, StoreError};

use super::office::{Office, OfficeError, usage};
use crate::clock::Now;
use crate::facts;
use crate::payouts;

/// Every payout that is remembered, those that are not decided first, and of each the oldest first.
pub(super) fn list(office: &Office<'_>) -> Result<Value, OfficeError> {
    let now_ms = Now::read().millis();
    let mut found = office.store().reader().payouts()?;
    found.sort_by_key(|(_, payout)| (payout.state != PayoutState::Open, payout.created_ms));
    let rows: Vec<Value> =
        found.iter().filter_map(|(hash, payout)| row(office, hash, payout, now_ms)).collect();
    Ok(json!({ "payouts": rows }))
}

fn row(office: &Office<'_>, hash: &[u8; 32], payout: &Payout, now_ms: u64) -> Option<Value> {
    let asset = Asset::from_code(payout.asset)?;
    let money = |units| facts::amount(Amount::from_units(units), asset);
    let is_open = payout.state == PayoutState::Open;
    // Only a gateway that runs has a node to compare with.
    let needs_operator = match office {
        Office::Running(gate) => Some(is_open && gate.payouts.needs_operator(hash)),
        Office::Alone { .. } => None,
    };
    Some(json!({
        "payment_hash": wire::hex::encode(hash), "state": payout.state,
        "account": wire::hex::encode(&payout.account), "amount_msat": payout.amount_msat,
        "fee_msat": (payout.state == PayoutState::Paid).then_some(payout.fee_msat),
        "fee_max_msat": payout.fee_max_msat, "held": money(payout.held()), "charged": money(payout.charged),
        "created_ms": payout.created_ms, "age_s": now_ms.saturating_sub(payout.created_ms) / 1000,
        "expires_s": payout.expires_s, "attempts": payout.asking.count,
        "needs_operator": needs_operator, "next_poll_ms": is_open.then_some(payout.asking.next_ms),
        "reason": Some(&payout.reason).filter(|reason| !reason.is_empty()),
    }))
}

/// Whether a key that the operator names is the payment hash of a payout.
pub(super) fn is_one(store: &Store, key: &[u8; 32]) -> Result<bool, StoreError> {
    Ok(store.reader().payout(key)?.is_some())
}

/// Carries the operator's word out: the preimage that his node paid for, or that it paid nothing. The same word again
/// changes nothing.
pub(super) async fn decide(
    office: &Office<'_>,
    hash: [u8; 32],
    preimage: Option<String>,
) -> Result<&'static str, OfficeError> {
    let is_free = match office {
        Office::Alone { .. } => true,
        Office::Running(gate) => gate.payouts.take(&hash),
    };
    if !is_free {
        return Err(usage("the node is being asked about this payout right now: try again in a moment"));
    }
    let done = end(office, &hash, preimage.as_deref()).await;
    if let Office::Running(gate) = office {
        match &done {
            Ok(_) => gate.payouts.forget(&hash),
            Err(_) => gate.payouts.let_go(hash),
        }
    }
    done
}

async fn end(
    office: &Office<'_>,
    hash: &[u8; 32],
    preimage: Option<&str>,
) -> Result<&'static str, OfficeError> {
    let payout = office.store().reader().payout(hash)?.ok_or_else(|| usage("there is no such payout"))?;
    match (payout.state, preimage) {
        (PayoutState::Paid, Some(_)) => return Ok("already paid"),
        (PayoutState::Failed, None) => return Ok("already refused"),
        (PayoutState::Paid, None) => return Err(usage("this invoice was paid")),
        (PayoutState::Failed, Some(_)) => return Err(usage("this payout has failed, and was given back")),
        (PayoutState::Open, _) => {}
    }
    let now = Now::read();
    let (step, done) = match preimage {
        Some(text) => {
            check_preimage(hash, text)?;
            // What it cost only the node knows: the most that it may have.
            (payouts::paid(hash, &payout, payout.fee_max_msat, now), "paid")
        }
        None => (payouts::failed(hash, &payout, "by the operator".to_owned(), now), "refused"),
    };
    let step = step.ok_or_else(|| usage("its asset is not known here"))?;
    let written = match office {
        Office::Running(gate) => payouts::write(gate, *hash, &payout, step).await,
        Office::Alone { store, .. } => store.commit(Op::Payout { hash: *hash, step }).await.map(drop),
    };
    match written {
        Ok(()) => Ok(done),
        Err(StoreError::Conflict) => Err(usage("this payout has just been decided")),
        Err(error) => Err(error.into()),
    }
}

/// Whoever was paid knows it, and nobody else can.
fn check_preimage(hash: &[u8; 32], text: &str) -> Result<(), OfficeError> {
    let preimage = wire::hex::decode_array::<32>(text).map_err(|_| usage("a preimage is 64 hex digits"))?;
    if <[u8; 32]>::from(Sha256::digest(preimage)) == *hash {
        return Ok(());
    }
    Err(usage("this is not the preimage of that invoice"))
}
