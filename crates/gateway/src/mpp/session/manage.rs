//! What is asked of a session and makes no call: a voucher alone, a top-up, its end. It comes to the place that is paid for,
//! with `HEAD` or without a body, and no upstream is asked.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use hyper::body::{Body as _, Incoming};
use money::Amount;
use serde_json::{Value, json};
use wire::mpp::{PAYMENT_RECEIPT, Receipt, SESSION};

use super::presented::{Action, Presented};
use super::receive::For;
use super::{Chain, Slot, told};
use crate::admission::{self, Brings};
use crate::body::GateBody;
use crate::call::{Arrived, Worker};
use crate::challenge::{Ask, Through, challenge};
use crate::clock::Now;
use crate::gate::Gate;
use crate::mpp::{self, Proven};
use crate::refusal::{Code, Money, Refusal};
use crate::snapshot::Snapshot;

/// What a challenge asks for here: it is for whoever has a session, and nothing is charged.
const TOKEN_PRICE: Amount = Amount::from_units(1);
/// The methods that something is sold by, the usual first.
const SOLD_BY: [Method; 3] = [Method::POST, Method::GET, Method::PUT];

/// Whether a request is about a session alone: what it wants is no call, or it has nothing that a call could be made of.
pub(crate) fn is_managed(arrived: &Arrived, body: &Incoming) -> bool {
    let Some(desk) = &arrived.snapshot.mpp else { return false };
    if desk.sessions().next().is_none() {
        return false;
    }
    let head = &arrived.head;
    arrived.mpp.look(&head.headers, |credential| {
        let Some(credential) = credential else {
            // Who asks with HEAD where only calls are sold wants a challenge.
            return head.method == Method::HEAD && is_sold_otherwise(arrived);
        };
        let challenge = &credential.challenge;
        let by = desk.sessions().find(|terms| terms.method().name() == challenge.method);
        let Some(terms) = by.filter(|_| challenge.intent == SESSION) else { return false };
        match (&terms.chain, credential.payload.get("action").and_then(Value::as_str)) {
            // No voucher comes with an `open` of Solana, so no call can.
            (_, Some("topUp" | "close")) | (Chain::Solana(_), Some("open")) => true,
            (Chain::Tempo(_) | Chain::Solana(_), Some(_) | None) => {
                let is_bare =
                    head.method == Method::POST && head.uri.query().is_none() && body.is_end_stream();
                head.method == Method::HEAD || is_bare
            }
        }
    })
}

fn is_sold_otherwise(arrived: &Arrived) -> bool {
    match arrived.snapshot.route(&Method::HEAD, &arrived.path) {
        Ok(_) => false,
        Err(refusal) => refusal.code() == Code::MethodNotAllowed,
    }
}

/// Does what is asked.
///
/// # Errors
/// The refusal says what happened to the money.
pub(crate) async fn manage(worker: &Worker, arrived: &Arrived) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let slot = admission::slot(gate, snapshot)?;
    let sold = |method: &&Method| snapshot.route(method, &arrived.path).is_ok();
    let method = SOLD_BY.iter().find(sold).unwrap_or(&arrived.head.method);
    let ask = Ask::named(method, &arrived.target, TOKEN_PRICE, Through::Sessions, "session");
    let unpaid = async |refusal| challenge(gate, arrived, &ask, refusal).await;
    let presented = admission::credentials(worker, arrived)?;
    let credential = match presented.mpp {
        Some(Ok(credential)) => *credential,
        Some(Err(error)) => return Err(unpaid(mpp::undecodable(error)).await),
        None => {
            let detail = "Send a voucher of a session, or open one.";
            return Err(unpaid(Refusal::new(Code::PaymentRequired, detail)).await);
        }
    };
    let (proven, _) = mpp::verify(worker, arrived, credential, &ask).await?;
    let Proven::Brings(Brings::Session(presented)) = proven else {
        return Err(Refusal::new(Code::Internal, "A session's wish became something else."));
    };
    let (in_gate, in_snapshot) = (Arc::clone(gate), Arc::clone(snapshot));
    // A client that hangs up must not stop it halfway.
    let task = tokio::task::spawn_local(async move {
        let _slot = slot;
        managed(&in_gate, &in_snapshot, *presented).await
    });
    let cut = |_| Refusal::new(Code::Internal, "The session's wish was cut short.").money(Money::Unknown);
    let ended: Result<_, Refusal> = task.await.map_err(cut)?;
    match ended {
        Err(refusal) => {
            admission::count_refused(arrived, &refusal);
            Err(if refusal.lacks_offers() { unpaid(refusal).await } else { refusal })
        }
        Ok(response) => Ok(response.map(GateBody::whole)),
    }
}

async fn managed(
    gate: &Arc<Gate>,
    snapshot: &Snapshot,
    presented: Presented,
) -> Result<Response<Bytes>, Refusal> {
    let place = For::presented(gate, snapshot, &presented)?;
    let slot = place.slot(&presented).await?;
    let session = told::session(&place, &slot, presented.challenge_id.clone());
    // What it is closed by, where that is asked: clients look for their own voucher in the receipt.
    let mut closed_by = None;
    let (status, transaction) = match presented.action {
        Action::Open { voucher: None, .. } => ("open", None),
        Action::Open { voucher: Some(voucher), .. } | Action::Voucher(voucher) => {
            let signed = voucher.checked(place.terms, &slot.id, &slot.config)?;
            place.accept(&slot, signed, None).await?;
            ("open", None)
        }
        Action::TopUp { transaction } => {
            if gate.sessions.top_ups.check_key(&slot.id).is_err() {
                return Err(told::too_many("top_ups"));
            }
            let before = slot.standing.get().deposit;
            let sent = place.passed_on(&transaction).await?;
            place.look(&slot).await?;
            // Nothing was sent, and nothing is there that was not.
            if sent.is_none() && slot.standing.get().deposit <= before {
                return Err(super::opening::not_filled());
            }
            // A stream that waits for room below the deposit may want less by now.
            gate.arrivals.wake(slot.account.id());
            ("open", sent)
        }
        Action::Close(voucher) => {
            let signed = voucher.checked(place.terms, &slot.id, &slot.config)?;
            closed_by = Some(signed.max_claimable.to_string());
            ("closed", Some(place.close(&slot, signed).await?))
        }
    };
    let mut receipt = session.receipt_of_head(&slot.account, Now::read().seconds());
    receipt.tx_hash = transaction;
    receipt.accepted_cumulative = closed_by.or(receipt.accepted_cumulative);
    Ok(answer(&receipt, &slot, status))
}

/// What the payer is told, in the head as the scheme wants it and in the body for whoever reads that.
fn answer(receipt: &Receipt, slot: &Slot, status: &str) -> Response<Bytes> {
    let stands = slot.standing.get();
    let body = json!({
        "status": status, "channelId": receipt.channel_id, "acceptedCumulative": receipt.accepted_cumulative,
        "spent": receipt.spent, "deposit": stands.deposit.to_string(), "txHash": receipt.tx_hash,
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(PAYMENT_RECEIPT));
    if let Ok(value) = HeaderValue::from_str(&receipt.encode()) {
        headers.insert("payment-receipt", value);
    }
    response
}
