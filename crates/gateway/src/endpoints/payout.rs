//! What is left of a balance, back over Lightning: the holder hands in an invoice, our node pays it (l402.md section 11).

use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use ledger::{Account, AccountRef};
use money::{Amount, Asset};
use proof::credit_key::VerifiedKey;
use serde::Deserialize;
use serde_json::json;
use store::{Payout, PayoutState};
use wire::hex;

use super::document;
use crate::admission;
use crate::body::{self, GateBody, Take};
use crate::call::{Arrived, Worker};
use crate::facts;
use crate::gate::Gate;
use crate::payer::Payer;
use crate::payments::store_refusal;
use crate::payouts;
use crate::refusal::{Code, Facts, Money, Refusal};

/// An invoice, and what stands around it.
const BODY_BYTES_MAX: usize = 8 * 1024;
/// Seconds after which to ask what became of it.
const AGAIN_S: u32 = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// BOLT11, of a fixed amount.
    invoice: String,
}

/// Whether a request to the refunds is for one over Lightning: it brings a document. What is left in a channel is asked
/// for without one.
pub(super) fn is_asked(arrived: &Arrived) -> bool {
    let l402 = arrived.snapshot.config.rails.l402.as_ref();
    let kind = arrived.head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = kind.is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    l402.is_some_and(|l402| l402.refunds.is_some()) && arrived.head.method == Method::POST && is_json
}

/// Pays the invoice in the body out of the account of the key or token, once.
pub(super) async fn payout(
    worker: &Worker,
    arrived: &Arrived,
    body: Incoming,
) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let slot = admission::slot(gate, snapshot)?;
    // Before anything of the body is looked at: whoever has no balance makes us read no invoice.
    let account = whole_holder(worker, arrived)?;
    snapshot.limiters.account(account.id()).admit_refund()?;
    let take = Take { max: BODY_BYTES_MAX, opaque: false, time_max: snapshot.config.server.timeouts.body };
    let body = body::read(body, &arrived.head.headers, take).await?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|_| {
        Refusal::new(Code::BadBody, "The body is not {\"invoice\": \"lnbc...\"} and nothing else.")
    })?;
    let (in_gate, in_snapshot, in_account) = (Arc::clone(gate), Arc::clone(snapshot), account.clone());
    // A client that hangs up must not stop it halfway.
    let task = tokio::task::spawn_local(async move {
        let _slot = slot;
        payouts::hand_in(&in_gate, &in_snapshot, &in_account, &asked.invoice).await
    });
    let cut = |_| Refusal::new(Code::Internal, "The refund was cut short.").money(Money::Unknown);
    let (hash, payout) = task.await.map_err(cut)??;
    told(gate, &account, &hash, &payout)
}

fn told(
    gate: &Gate,
    account: &Account,
    hash: &[u8; 32],
    payout: &Payout,
) -> Result<Response<GateBody>, Refusal> {
    let asset = Asset::from_code(payout.asset).unwrap_or(account.asset());
    let (state, status, fee_msat) = match payout.state {
        PayoutState::Open => ("open", StatusCode::ACCEPTED, None),
        PayoutState::Paid => ("paid", StatusCode::OK, Some(payout.fee_msat)),
        PayoutState::Failed => return Err(failed(payout)),
    };
    let money = |units| facts::amount(Amount::from_units(units), asset);
    let answer = json!({
        "state": state, "payment_hash": hex::encode(hash), "amount_msat": payout.amount_msat,
        "fee_msat": fee_msat, "fee_max_msat": payout.fee_max_msat, "held": money(payout.held()),
        "charged": (payout.state == PayoutState::Paid).then(|| money(payout.charged)),
        "balance": facts::amount(gate.book.balance(account).available, account.asset()),
    });
    let mut response = document(&answer, "no-store");
    *response.status_mut() = status;
    if payout.state == PayoutState::Open {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(AGAIN_S));
    }
    Ok(response)
}

fn failed(payout: &Payout) -> Refusal {
    let facts = Facts { reason: Some("not_paid".to_owned()), ..Facts::default() };
    let why = &payout.reason;
    let detail = format!(
        "Our node could not pay this invoice, and will not: {why}. Hand in another one to try again."
    );
    Refusal::new(Code::FacilitatorFailed, detail).facts(facts)
}

/// Whose balance it is. A key or token that was narrowed spends for its giver, and takes nothing out.
pub(super) fn whole_holder(worker: &Worker, arrived: &Arrived) -> Result<AccountRef, Refusal> {
    let Payer { account, key, token, .. } = super::holder(worker, arrived)?;
    let is_whole = match (&key, &token) {
        (Some(key), _) => is_whole(&worker.gate, key)?,
        (None, Some(token)) => token.is_whole(),
        (None, None) => false,
    };
    if is_whole {
        return Ok(account);
    }
    let facts = Facts { reason: Some("key_narrowed".to_owned()), ..Facts::default() };
    let detail = "This credential was narrowed: what is left goes back to who holds the whole one.";
    Err(Refusal::new(Code::KeyForbidden, detail).facts(facts))
}

/// Whether a key is as it was handed out, and limits nothing but time.
fn is_whole(gate: &Gate, key: &VerifiedKey) -> Result<bool, Refusal> {
    let VerifiedKey {
        account: _,
        key_id,
        epoch: _,
        expires,
        not_before,
        per_call,
        budgets,
        models,
        routes,
        holder,
        links,
    } = key;
    let limits_time_only = not_before.is_none()
        && per_call.is_none()
        && budgets.is_empty()
        && models.is_empty()
        && routes.is_empty()
        && holder.is_none();
    if !limits_time_only {
        return Ok(false);
    }
    match (links.len(), expires) {
        (1, None) => Ok(true),
        // One caveat, which is its end: as handed out, or added since?
        (2, Some(_)) => {
            let record = gate.store.reader().key(key_id).map_err(|error| store_refusal(&error))?;
            Ok(record.is_some_and(|record| record.expires_s == *expires))
        }
        _ => Ok(false),
    }
}
