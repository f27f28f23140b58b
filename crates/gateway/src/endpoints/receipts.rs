//! What is on disk of a call: its receipt, and that its entry is in the signed journal.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use ledger::Entry;
use proof::receipt;
use serde_json::{Value, json};

use super::{document, reader};
use crate::body::GateBody;
use crate::call::{Arrived, Worker};
use crate::facts;
use crate::heads;
use crate::payments::settlement;
use crate::refusal::{Code, Refusal};

/// A receipt belongs to whoever holds a key of its account, or shows a voucher of its channel; to everybody else it does
/// not exist.
pub(super) async fn signed_receipt(
    worker: &Worker,
    arrived: &Arrived,
    id: &str,
) -> Result<Response<GateBody>, Refusal> {
    let recorded = recorded_call(worker, arrived, id).await?;
    let signed = receipt::sign(&worker.gate.keys.receipt, &recorded.payload)
        .map_err(|_| Refusal::new(Code::Internal, "The receipt could not be signed."))?;
    let mut response = Response::new(GateBody::whole(Bytes::from(signed)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jose"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The entry of a call, and the path from it to a signed tree head (ledger.md 8.3).
pub(super) async fn inclusion(
    worker: &Worker,
    arrived: &Arrived,
    id: &str,
) -> Result<Response<GateBody>, Refusal> {
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
    let payer = reader(worker, arrived).await?;
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
    let mut payload = payload.ok_or_else(no_receipt)?;
    let owner = payload.get("account").and_then(Value::as_str).unwrap_or_default();
    if owner != payer.account.id().to_string() {
        return Err(no_receipt());
    }
    // A call that did not wait for its payment: what has become of that by now.
    if let Some(payment) = payload.get_mut("payment").filter(|payment| payment.get("deposit_key").is_some()) {
        payment["settlement"] = settlement(gate, payment, payer.account.asset()).map_err(unreadable)?;
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
