//! What the gateway answers itself: health, its keys, and what belongs to the holder of a credit key.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use ledger::Entry;
use money::{Amount, Asset};
use proof::receipt;
use serde_json::{Value, json};
use store::Outcome;
use tariff::Terms;

use crate::admission;
use crate::body::GateBody;
use crate::call::{Arrived, Worker, only};
use crate::challenge::{Ask, challenge};
use crate::charge::commit_in_background;
use crate::facts;
use crate::heads;
use crate::idempotency;
use crate::payer::Payer;
use crate::payments::{self, Arrival, Delivery, Ending};
use crate::refusal::{Code, Facts, Money, Refusal};
use crate::replays::Worth;

/// Deposit that a top-up asks for when its query names none, and the most it may name.
const TOP_UP_USUAL: Amount = Amount::from_units(1_000_000_000);
const TOP_UP_MAX: Amount = Amount::from_units(1_000_000_000_000);

/// An endpoint of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Health,
    Keys,
    Balance,
    TopUp,
    Receipt(String),
    /// That the entry of a receipt is in the journal.
    Proof(String),
    Models,
    /// Below our prefix, and nothing.
    Nothing,
}

/// The endpoint at a path, if the path is ours (reference item 10).
pub(crate) fn find(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/farthing/health" => Endpoint::Health,
        "/farthing/balance" => Endpoint::Balance,
        "/farthing/topup" => Endpoint::TopUp,
        "/.well-known/farthing-keys.json" => Endpoint::Keys,
        "/v1/models" => Endpoint::Models,
        _ => match path.strip_prefix("/farthing/receipts/") {
            Some(rest) => match rest.strip_suffix("/proof") {
                Some(id) => Endpoint::Proof(id.to_owned()),
                None => Endpoint::Receipt(rest.to_owned()),
            },
            None if path.starts_with("/farthing/") => Endpoint::Nothing,
            None => return None,
        },
    })
}

pub(crate) async fn answer(
    worker: &Worker,
    arrived: &Arrived,
    endpoint: Endpoint,
) -> Result<Response<GateBody>, Refusal> {
    let gate = &worker.gate;
    match endpoint {
        Endpoint::Health => {
            only(arrived, &[Method::GET, Method::HEAD])?;
            let mut response = Response::new(GateBody::whole(Bytes::new()));
            if !gate.is_ready() {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            Ok(response)
        }
        Endpoint::Keys => {
            only(arrived, &[Method::GET])?;
            let keys = serde_json::to_value(gate.keys.jwks()).unwrap_or_default();
            Ok(document(&keys, "public, max-age=300"))
        }
        Endpoint::Models => {
            only(arrived, &[Method::GET])?;
            Ok(document(&models(arrived), "public, max-age=60"))
        }
        Endpoint::Balance => {
            only(arrived, &[Method::GET])?;
            let payer = holder(worker, arrived)?;
            Ok(document(&balance(worker, &payer), "no-store"))
        }
        Endpoint::Receipt(id) => {
            only(arrived, &[Method::GET])?;
            signed_receipt(worker, arrived, &id).await
        }
        Endpoint::Proof(id) => {
            only(arrived, &[Method::GET])?;
            inclusion(worker, arrived, &id).await
        }
        Endpoint::TopUp => {
            only(arrived, &[Method::GET, Method::POST])?;
            top_up(worker, arrived).await
        }
        Endpoint::Nothing => Err(Refusal::new(Code::RouteNotFound, "The gateway has no such endpoint.")),
    }
}

fn document(value: &Value, cache: &'static str) -> Response<GateBody> {
    let mut response = Response::new(GateBody::whole(Bytes::from(value.to_string())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}

/// Whoever shows a good credit key, as often as its account may call.
fn holder(worker: &Worker, arrived: &Arrived) -> Result<Payer, Refusal> {
    let presented = admission::credentials(worker, arrived)?;
    let missing = || Refusal::new(Code::KeyUnknown, "This endpoint needs a credit key.");
    let payer = admission::key_payer(worker, arrived, &presented)?.ok_or_else(missing)?;
    arrived.snapshot.limiters.account(payer.account.id()).admit_read()?;
    Ok(payer)
}

fn balance(worker: &Worker, payer: &Payer) -> Value {
    let balance = worker.gate.book.balance(&payer.account);
    let asset = payer.account.asset();
    json!({
        "account": payer.account.id().to_string(),
        "balance": facts::amount(balance.available, asset),
        "held": facts::amount(balance.held, asset),
    })
}

/// A receipt belongs to whoever holds a key of its account; to everybody else it does not exist.
async fn signed_receipt(worker: &Worker, arrived: &Arrived, id: &str) -> Result<Response<GateBody>, Refusal> {
    let recorded = recorded_call(worker, arrived, id).await?;
    let signed = receipt::sign(&worker.gate.keys.receipt, &recorded.payload)
        .map_err(|_| Refusal::new(Code::Internal, "The receipt could not be signed."))?;
    let mut response = Response::new(GateBody::whole(Bytes::from(signed)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jose"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The entry of a call, and the path from it to a signed tree head (ledger.md 8.3).
async fn inclusion(worker: &Worker, arrived: &Arrived, id: &str) -> Result<Response<GateBody>, Refusal> {
    let gate = &worker.gate;
    let recorded = recorded_call(worker, arrived, id).await?;
    let (entry, _) = recorded.entry.ok_or_else(no_receipt)?;
    let key = &gate.keys.receipt;
    let signed = heads::covering(&gate.store, key, entry.lsn).await.map_err(unreadable)?;
    let path = gate.store.reader().inclusion(entry.lsn, signed.head.size).map_err(unreadable)?;
    let path = path.ok_or_else(no_receipt)?;
    let bytes = entry.bytes();
    let path: Vec<String> = path.iter().map(|node| wire::hex::encode(node)).collect();
    let proof = json!({
        "lsn": entry.lsn, "leaf_index": entry.lsn - 1,
        "leaf": wire::hex::encode(&ledger::merkle::leaf_hash(&bytes)), "entry": wire::hex::encode(&bytes),
        "path": path, "head": heads::shown(&signed, key),
    });
    Ok(document(&proof, "no-store"))
}

/// What is on disk of a call that belongs to the holder.
struct RecordedCall {
    payload: Value,
    /// None where nothing was charged.
    entry: Option<(Entry, [u8; 32])>,
}

async fn recorded_call(worker: &Worker, arrived: &Arrived, id: &str) -> Result<RecordedCall, Refusal> {
    let gate = &worker.gate;
    let payer = holder(worker, arrived)?;
    let call: crate::call_id::CallId = id.parse().map_err(|()| no_receipt())?;
    let mut found = gate.store.reader().facts(&call.0).map_err(unreadable)?;
    if found.is_none() {
        // The call may have ended a moment ago: its record is in the batch that is being written.
        gate.store.commit(store::Op::Flush).await.map_err(unreadable)?;
        found = gate.store.reader().facts(&call.0).map_err(unreadable)?;
    }
    let recorded = found.ok_or_else(no_receipt)?;
    let entry = gate.store.reader().entry_of(&call.0).map_err(unreadable)?;
    let payload = facts::receipt(&arrived.snapshot.public_url, &recorded, entry.as_ref());
    let payload = payload.ok_or_else(no_receipt)?;
    let owner = payload.get("account").and_then(Value::as_str).unwrap_or_default();
    if owner != payer.account.id().to_string() {
        return Err(no_receipt());
    }
    Ok(RecordedCall { payload, entry })
}

fn no_receipt() -> Refusal {
    Refusal::new(Code::ReceiptNotFound, "This account has no such receipt.")
}

fn unreadable(error: store::StoreError) -> Refusal {
    tracing::error!(%error, "receipt cannot be read");
    Refusal::new(Code::StoreUnavailable, "Receipts cannot be read now.").retry_after(5)
}

/// Sells nothing but balance: the same 402, and the whole deposit stays.
async fn top_up(worker: &Worker, arrived: &Arrived) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let slot = admission::slot(gate, snapshot)?;
    let amount = asked_amount(arrived)?;
    let ask = Ask {
        method: &arrived.head.method,
        target: &arrived.target,
        ceiling: amount,
        fits_within: None,
        tariff: "topup",
        description: "balance",
    };
    let unpaid = |refusal| challenge(gate, snapshot, &ask, refusal, arrived.now);
    let presented = admission::credentials(worker, arrived)?;
    let payer = admission::key_payer(worker, arrived, &presented)?;
    let Some(payment) = presented.payment else {
        if presented.malformed {
            let detail = "The payment header cannot be decoded.";
            return Err(unpaid(Refusal::new(Code::MalformedCredential, detail)));
        }
        let asset = snapshot.tills.first().map_or(Asset::Usd, |till| till.asset);
        let facts = Facts { need: Some((amount, asset)), ..Facts::default() };
        let detail = format!("Pay {} {asset} to add it to a balance.", amount.short(asset));
        return Err(unpaid(Refusal::new(Code::PaymentRequired, detail).facts(facts)));
    };
    let protocol = payment.protocol();
    let fingerprint = idempotency::fingerprint(&arrived.head.method, &arrived.target, b"");
    let verified = admission::verify(worker, arrived, payment, &ask, &fingerprint)?;
    let delivery = Delivery { payer, fingerprint, asked: None, now: arrived.now };
    let (in_gate, in_snapshot, call) = (Arc::clone(gate), Arc::clone(snapshot), arrived.call);
    // A client that hangs up must not stop a settlement halfway.
    let task = tokio::task::spawn_local(async move {
        let (gate, snapshot, _slot) = (in_gate, in_snapshot, slot);
        let deposit = match payments::receive(&gate, &snapshot, verified, delivery).await? {
            Arrival::Answered(before) => return before.answer(&gate, "topup"),
            Arrival::Deposited(deposit) => *deposit,
        };
        let account = Arc::clone(&deposit.account);
        let asset = account.asset();
        let body = json!({
            "account": account.id().to_string(),
            "protocol": protocol,
            "deposited": facts::amount(deposit.amount, asset),
            "balance": facts::amount(gate.book.balance(&account).available, asset),
        });
        let mut response = Response::new(Bytes::from(body.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().extend(deposit.headers.clone());
        let mut stored = response.clone();
        stored.headers_mut().remove("farthing-key");
        let headers = idempotency::headers_to_store(stored.headers());
        gate.replays.keep(call, stored, Worth::Named);
        let outcome = Outcome { status: StatusCode::OK.as_u16(), headers, call: call.0 };
        if let (Some(end), claims) = Ending::of(Some(deposit), None, outcome).join(None) {
            commit_in_background(&gate, end, claims)
                .await
                .map_err(|error| payments::store_refusal(&error).money(Money::DepositKept))?;
        }
        Ok(response)
    });
    let cut = |_| Refusal::new(Code::Internal, "The top-up was cut short.").money(Money::Unknown);
    let ended = task.await.map_err(cut)?;
    let ended =
        ended.map_err(|refusal: Refusal| if refusal.is_payable() { unpaid(refusal) } else { refusal });
    ended.map(|response| response.map(GateBody::whole))
}

fn asked_amount(arrived: &Arrived) -> Result<Amount, Refusal> {
    let query = arrived.target.split_once('?').map_or("", |(_, query)| query);
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("amount="));
    let Some(text) = asked else { return Ok(TOP_UP_USUAL) };
    let bad = || Refusal::new(Code::BadRequest, "The amount is a decimal number of dollars, at most 1000.");
    let units = money::Decimal::parse(text).ok().and_then(|decimal| decimal.exact(9)).ok_or_else(bad)?;
    let amount = Amount::from_wide(units).map_err(|_| bad())?;
    if amount <= Amount::ZERO || amount > TOP_UP_MAX { Err(bad()) } else { Ok(amount) }
}

/// The priced models by exact name, in OpenAI's list shape.
fn models(arrived: &Arrived) -> Value {
    let per_token = |rate: money::Rate| {
        let femto = rate.femto();
        format!("0.{femto:015}").trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let at_ms = i64::try_from(arrived.now.millis()).unwrap_or(i64::MAX);
    let data: Vec<Value> = arrived
        .snapshot
        .prices
        .listed(None, at_ms)
        .filter(|found| !found.name.contains('*'))
        .map(|found| {
            let price = found.tariff.rates(&Terms { at_ms, ..Terms::default() }).rates;
            json!({"id": found.name, "object": "model", "owned_by": "farthing",
                   "pricing": {"prompt": per_token(price.input), "completion": per_token(price.output)}})
        })
        .collect();
    json!({"object": "list", "data": data})
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, find};

    #[test]
    fn only_our_own_paths_are_ours() {
        for (path, expected) in [
            ("/farthing/health", Some(Endpoint::Health)),
            ("/farthing/receipts/req_1", Some(Endpoint::Receipt("req_1".into()))),
            ("/farthing/anything", Some(Endpoint::Nothing)),
            ("/v1/models", Some(Endpoint::Models)),
            ("/v1/models/x", None),
            ("/farthingale", None),
        ] {
            assert_eq!(find(path), expected, "{path}");
        }
    }
}
