//! Payments that no rail has decided: the operator's list, and his word where no rail can tell (LED-23).

use ledger::{AccountId, REFERENCE_BYTES_MAX};
use money::{Amount, Asset};
use rails::Receipt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::{Op, Payment, PaymentState, Store, StoreError};

use super::office::{Office, OfficeError, usage};
use super::payouts;
use crate::cashu;
use crate::channels;
use crate::clock::Now;
use crate::facts;
use crate::promises::Decision;
use crate::resolver::RESOLVING;
use crate::settling::{self, is_over, needs_operator};

/// Every open payment, and every one that was refused after its call was served, oldest first.
pub(super) async fn list(store: &Store) -> Result<Value, OfficeError> {
    store.commit(Op::Flush).await?;
    let now_ms = Now::read().millis();
    let rows = |mut found: Vec<([u8; 32], Payment)>| -> Vec<Value> {
        found.sort_by_key(|(_, payment)| payment.created_ms);
        found.iter().filter_map(|(key, payment)| row(key, payment, now_ms)).collect()
    };
    Ok(json!({ "intents": rows(store.reader().unsettled()?), "owed": rows(store.reader().owed()?) }))
}

fn row(key: &[u8; 32], payment: &Payment, now_ms: u64) -> Option<Value> {
    let asset = Asset::from_code(payment.asset)?;
    let stuck = payment.state.is_open() && needs_operator(payment, now_ms);
    let attempt = payment.attempt.as_ref();
    Some(json!({
        "deposit_key": wire::hex::encode(key), "state": payment.state, "rail": payment.rail,
        "payer": payment.payer, "account": wire::hex::encode(&payment.account),
        "amount": facts::amount(Amount::from_units(payment.amount), asset),
        "created_ms": payment.created_ms, "age_s": now_ms.saturating_sub(payment.created_ms) / 1000,
        "valid_before_s": payment.valid_before_s,
        "facilitator": attempt.map(|attempt| attempt.facilitator.as_str()),
        "transaction": attempt.map(|attempt| attempt.transaction.as_str()).filter(|text| !text.is_empty()),
        "attempts": attempt.map_or(0, |attempt| attempt.count),
        "last_poll_ms": attempt.map(|attempt| attempt.last_ms),
        "next_poll_ms": attempt.filter(|_| !stuck && payment.state.is_open()).map(|attempt| attempt.next_ms),
        "needs_operator": stuck, "promised": payment.promised,
    }))
}

/// Carries the operator's word out. The same word again changes nothing.
pub(super) async fn decide(
    office: &Office<'_>,
    key: &str,
    settled: Option<String>,
    refused: bool,
) -> Result<Value, OfficeError> {
    let key = wire::hex::decode_array(key).map_err(|_| usage("a deposit key is 64 hex digits"))?;
    if payouts::is_one(office.store(), &key)? {
        if settled.is_some() == refused {
            return Err(usage("say either what was paid, or that nothing was"));
        }
        let done = payouts::decide(office, key, settled).await?;
        tracing::info!(payout = %wire::hex::encode(&key), done, "operator's decision about a refund");
        return Ok(json!({"payment_hash": wire::hex::encode(&key), "done": done}));
    }
    // While a request with the payment is served, or a facilitator is asked about it, they decide.
    let _claim = match office {
        Office::Alone { .. } => None,
        Office::Running(gate) => {
            let busy = |_| usage("this payment is being asked about right now: try again in a moment");
            Some(gate.claims.take(key, RESOLVING).map_err(busy)?)
        }
    };
    let payment = office.store().reader().payment(&key)?;
    let done = match (settled, refused) {
        (Some(transaction), false) => settle(office, key, payment, transaction).await?,
        (None, true) => refuse(office, key, payment).await?,
        (Some(_), true) | (None, false) => {
            return Err(usage("say either what settled it, or that nothing did"));
        }
    };
    tracing::info!(payment = %wire::hex::encode(&key), done, "operator's decision about a payment");
    Ok(json!({"deposit_key": wire::hex::encode(&key), "done": done}))
}

async fn settle(
    office: &Office<'_>,
    key: [u8; 32],
    payment: Option<Payment>,
    transaction: String,
) -> Result<&'static str, OfficeError> {
    let payment = payment.ok_or_else(|| usage("there is no payment with this key"))?;
    check_transaction(&payment, &transaction)?;
    if payment.state.is_deposited() {
        if payment.reference == transaction {
            return Ok("already settled");
        }
        return Err(usage(format!("this payment is settled by {}", payment.reference)));
    }
    if cashu::mint_of(&payment.rail).is_some()
        && office.store().reader().cashu(&key)?.is_some_and(|swap| !swap.is_held())
    {
        return Err(usage(
            "its mint has not given us coins for it, and without them there is nothing to credit",
        ));
    }
    if channels::network_of(&payment.rail).is_some() {
        let Office::Running(gate) = office else {
            return Err(usage("this payment went into a channel, which the gateway counts: start it first"));
        };
        let receipt = Receipt { reference: transaction, ..Receipt::default() };
        channels::settled_later(gate, key, payment, &receipt).await?;
        return Ok("settled");
    }
    let (account, amount) = (AccountId(payment.account), Amount::from_units(payment.amount));
    let asset = Asset::from_code(payment.asset).ok_or_else(|| usage("its asset is not known here"))?;
    settling::deposit(office.store(), key, payment, transaction.clone()).await?;
    if let Office::Running(gate) = office {
        gate.deposit(account, asset, amount);
        gate.unsettled.forget(&key);
        gate.promises.decided(&key, &Decision::Settled { transaction });
    }
    Ok("settled")
}

fn check_transaction(payment: &Payment, transaction: &str) -> Result<(), OfficeError> {
    let hash = transaction.strip_prefix("0x").is_some_and(|hex| wire::hex::decode_array::<32>(hex).is_ok());
    if facts::network_of(&payment.rail).starts_with("eip155:") && !hash {
        return Err(usage("a transaction of this rail is 0x and 64 hex digits"));
    }
    let short = (1..=REFERENCE_BYTES_MAX).contains(&transaction.len());
    if short && transaction.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(usage("a transaction is named by at most 256 visible characters"))
    }
}

/// Frees the key, or leaves what was served for it as a debt. What was decided stays on record, under an id made of
/// the key.
async fn refuse(
    office: &Office<'_>,
    key: [u8; 32],
    payment: Option<Payment>,
) -> Result<&'static str, OfficeError> {
    let now = Now::read();
    let mut id = [0; 16];
    let digest = Sha256::new_with_prefix(b"farthing/refused/1").chain_update(key).finalize();
    id.copy_from_slice(&digest[..16]);
    let Some(payment) = payment else {
        return match office.store().reader().facts(&id)? {
            Some(_) => Ok("already refused"),
            None => Err(usage("there is no payment with this key")),
        };
    };
    if payment.state.is_deposited() {
        return Err(usage(format!("this payment is settled by {}", payment.reference)));
    }
    if payment.state == PaymentState::Owed {
        return Ok("already refused");
    }
    if !is_over(&payment, now.millis()) {
        let end = payment.valid_before_s;
        return Err(usage(format!(
            "this proof can still settle; come back a minute after {end} (Unix seconds)"
        )));
    }
    let facts = json!({"decision": "refused", "by": "operator", "deposit_key": wire::hex::encode(&key),
                       "decided_ms": now.millis(), "payment": row(&key, &payment, now.millis())});
    let facts = facts.to_string().into_bytes();
    let record = Op::Capture {
        id,
        entry: None,
        facts,
        served: None,
        settles: None,
        income: None,
        idempotent: Vec::new(),
    };
    office.store().commit(record).await?;
    match office.store().commit(Op::Refused { key }).await {
        Ok(_) => {}
        Err(StoreError::Conflict) => return Err(usage("this payment has just been settled")),
        Err(error) => return Err(error.into()),
    }
    if let Office::Running(gate) = office {
        gate.unsettled.forget(&key);
        gate.promises.decided(&key, &Decision::Refused { code: "operator".to_owned() });
    }
    Ok("refused")
}
