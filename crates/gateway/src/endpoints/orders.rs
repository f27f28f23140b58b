//! Balance by order: start one, look at it, have it back; and balance for a code (FIN-14).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use ledger::{Account, AccountRef};
use money::{Amount, Asset};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use store::{RefundState, TopUp, TopUpRefund, TopUpState};
use wire::hex;

use super::{document, holder, nothing, payout, told};
use crate::admission;
use crate::body::{self, GateBody, Take};
use crate::call::{Arrived, Worker};
use crate::facts;
use crate::payments::store_refusal;
use crate::refusal::{Code, Money, Refusal};
use crate::top_ups::{self, Wish};

/// An order or a code, and what stands around it.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// Largest notice of a rail (RAIL-7).
const NOTICE_BYTES_MAX: usize = wire::alipay::NOTICE_BYTES_MAX;
/// Longest name that a holder gives an order.
const NAME_BYTES_MAX: usize = 255;
/// Seconds after which to look again.
const AGAIN_S: u32 = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    rail: String,
    amount: String,
    currency: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedCode {
    code: String,
}

/// What is below `/farthing/topup/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Starts one.
    New,
    /// Its id.
    One(String),
    /// What is left of it goes back.
    Refund(String),
    /// Balance for a code.
    Code,
}

impl Order {
    pub(super) fn find(rest: &str) -> Option<Self> {
        match rest {
            "orders" => Some(Self::New),
            "codes" => Some(Self::Code),
            _ => {
                let rest = rest.strip_prefix("orders/")?;
                Some(match rest.strip_suffix("/refund") {
                    Some(id) => Self::Refund(id.to_owned()),
                    None => Self::One(rest.to_owned()),
                })
            }
        }
    }

    pub(super) const fn methods(&self) -> &'static [Method] {
        match self {
            Self::New | Self::Code => &[Method::POST],
            Self::One(_) => &[Method::GET],
            Self::Refund(_) => &[Method::GET, Method::POST],
        }
    }
}

pub(super) async fn answer(
    worker: &Worker,
    arrived: &Arrived,
    order: &Order,
    body: Incoming,
) -> Result<Response<GateBody>, Refusal> {
    match order {
        Order::New => start(worker, arrived, body).await,
        Order::Code => code(worker, arrived, body).await,
        Order::One(id) => {
            let account = holder(worker, arrived)?.account;
            let (id, order) = of_account(worker, &account, id)?;
            Ok(document(&order_told(&id, &order), "no-store"))
        }
        Order::Refund(id) => refund(worker, arrived, id).await,
    }
}

async fn start(worker: &Worker, arrived: &Arrived, body: Incoming) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let slot = admission::slot(gate, snapshot)?;
    let account = holder(worker, arrived)?.account;
    snapshot.limiters.account(account.id()).admit_refund()?;
    let Asked { rail, amount, currency } =
        read(arrived, body, "{\"rail\", \"amount\", \"currency\"}").await?;
    let wish = Wish { rail, amount, currency, name: name(arrived)? };
    let (in_gate, in_snapshot) = (Arc::clone(gate), Arc::clone(snapshot));
    // A client that hangs up must not stop it halfway.
    let task = tokio::task::spawn_local(async move {
        let _slot = slot;
        top_ups::start(&in_gate, &in_snapshot, &account, &wish).await
    });
    let (id, order) = task.await.map_err(cut)??;
    let mut response = document(&order_told(&id, &order), "no-store");
    if order.state == TopUpState::Open {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

/// What the holder calls the order, so that it can be asked for again.
fn name(arrived: &Arrived) -> Result<Option<String>, Refusal> {
    let Some(value) = arrived.head.headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=NAME_BYTES_MAX).contains(&text.len()));
    let bad = || Refusal::new(Code::BadRequest, "An Idempotency-Key is 1 to 255 letters.");
    text.map(|text| Some(text.to_owned())).ok_or_else(bad)
}

async fn code(worker: &Worker, arrived: &Arrived, body: Incoming) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let slot = admission::slot(gate, snapshot)?;
    let account = holder(worker, arrived)?.account;
    snapshot.limiters.account(account.id()).admit_refund()?;
    let AskedCode { code } = read(arrived, body, "{\"code\": \"fc-...\"}").await?;
    let (in_gate, in_account) = (Arc::clone(gate), account.clone());
    let task = tokio::task::spawn_local(async move {
        let _slot = slot;
        top_ups::call_up(&in_gate, &in_account, &code).await
    });
    let credited = task.await.map_err(cut)??;
    let balance = gate.book.balance(&account).available;
    let answer = json!({
        "kind": "bonus", "credit": facts::amount(credited, account.asset()),
        "balance": facts::amount(balance, account.asset()),
    });
    Ok(document(&answer, "no-store"))
}

async fn refund(worker: &Worker, arrived: &Arrived, id: &str) -> Result<Response<GateBody>, Refusal> {
    let (gate, snapshot) = (&worker.gate, &arrived.snapshot);
    let slot = admission::slot(gate, snapshot)?;
    let account = payout::whole_holder(worker, arrived)?;
    let (_, order) = of_account(worker, &account, id)?;
    if arrived.head.method == Method::GET {
        let (refund_id, refund) = last_refund(worker, &account, &order)?.ok_or_else(no_order)?;
        return refund_told(&refund_id, &refund);
    }
    snapshot.limiters.account(account.id()).admit_refund()?;
    let (in_gate, in_account) = (Arc::clone(gate), account.clone());
    let task = tokio::task::spawn_local(async move {
        let _slot = slot;
        top_ups::request(&in_gate, &in_account, &order).await
    });
    let (refund_id, refund) = task.await.map_err(cut)??;
    refund_told(&refund_id, &refund)
}

/// The refund of an order that was asked for last.
fn last_refund(
    worker: &Worker,
    account: &Account,
    order: &TopUp,
) -> Result<Option<([u8; 16], TopUpRefund)>, Refusal> {
    let reader = worker.gate.store.reader();
    let lots = reader.credit_lots(account.id(), account.asset()).map_err(|error| store_refusal(&error))?;
    let lot = lots.into_iter().flat_map(|book| book.lots).find(|lot| Some(lot.key) == order.key);
    let last = lot.and_then(|lot| Some(TopUpRefund::id(&lot.key, lot.refunds.checked_sub(1)?)));
    let Some(id) = last else { return Ok(None) };
    let refund = reader.top_up_refund(&id).map_err(|error| store_refusal(&error))?;
    Ok(refund.map(|refund| (id, refund)))
}

/// Takes a notice of a rail. What is answered is the rail's own word.
pub(super) async fn notice(
    worker: &Worker,
    arrived: &Arrived,
    family: &'static str,
    body: Incoming,
) -> Result<Response<GateBody>, Refusal> {
    let snapshot = &arrived.snapshot;
    if top_ups::Rail::named(snapshot, family).is_none() {
        return Err(nothing());
    }
    snapshot.limiters.admit_notice(arrived.source)?;
    let time_max = snapshot.config.server.timeouts.body;
    let take = Take { max: NOTICE_BYTES_MAX, opaque: false, time_max };
    let body = body::read(body, &arrived.head.headers, take).await?;
    let word = top_ups::take_notice(&worker.gate, snapshot, family, body).await;
    let word =
        word.ok_or_else(|| Refusal::new(Code::Internal, "The notice was cut short.").retry_after(60))?;
    Ok(told(Bytes::from_static(word.as_bytes()), "text/plain", "no-store"))
}

async fn read<T: DeserializeOwned>(arrived: &Arrived, body: Incoming, shape: &str) -> Result<T, Refusal> {
    let time_max = arrived.snapshot.config.server.timeouts.body;
    let take = Take { max: BODY_BYTES_MAX, opaque: false, time_max };
    let body = body::read(body, &arrived.head.headers, take).await?;
    serde_json::from_slice(&body)
        .map_err(|_| Refusal::new(Code::BadBody, format!("The body is not {shape} and nothing else.")))
}

/// An order of this account; of another one's there is none.
fn of_account(worker: &Worker, account: &AccountRef, id: &str) -> Result<([u8; 16], TopUp), Refusal> {
    let id = hex::decode_array(id).map_err(|_| no_order())?;
    let known = worker.gate.store.reader().top_up(&id).map_err(|error| store_refusal(&error))?;
    let own = known.filter(|order| order.account == account.id().0);
    own.map(|order| (id, order)).ok_or_else(no_order)
}

fn no_order() -> Refusal {
    Refusal::new(Code::ReceiptNotFound, "This account has no such order.")
}

fn cut(_: tokio::task::JoinError) -> Refusal {
    Refusal::new(Code::Internal, "The request was cut short.").money(Money::Unknown)
}

fn order_told(id: &[u8; 16], order: &TopUp) -> Value {
    let asset = Asset::from_code(order.asset).unwrap_or(Asset::Usd);
    let money = |units| facts::amount(Amount::from_units(units), asset);
    let action = match order.state {
        TopUpState::Open if !order.qr.is_empty() => json!({"type": "qr", "code": order.qr}),
        TopUpState::Open | TopUpState::Credited | TopUpState::Closed | TopUpState::Parked => {
            json!({"type": "none"})
        }
    };
    // Why a payment waits is for the operator to know (RAIL-20).
    let state = match order.state {
        TopUpState::Open => "open",
        TopUpState::Credited => "credited",
        TopUpState::Closed => "closed",
        TopUpState::Parked => "payment_under_review",
    };
    json!({
        "order": hex::encode(id), "state": state, "rail": order.rail,
        "amount": paid_amount(order.currency, order.minor), "credit": money(order.credit),
        "bonus": (order.bonus > 0).then(|| money(order.bonus)), "action": action,
        "created_ms": order.created_ms, "expires_ms": order.expires_ms,
        "refund_policy": {"window_s": order.policy.window_s, "unused_only": order.policy.unused_only},
    })
}

fn refund_told(id: &[u8; 16], refund: &TopUpRefund) -> Result<Response<GateBody>, Refusal> {
    let asset = Asset::from_code(refund.asset).unwrap_or(Asset::Usd);
    let money = |units| facts::amount(Amount::from_units(units), asset);
    let (state, status) = match refund.state {
        RefundState::Requested => ("requested", StatusCode::ACCEPTED),
        RefundState::Sent => ("approved", StatusCode::ACCEPTED),
        RefundState::Moved => ("moved", StatusCode::OK),
        RefundState::Rejected => ("rejected", StatusCode::OK),
        RefundState::Failed => ("failed", StatusCode::OK),
    };
    let answer = json!({
        "refund": hex::encode(id), "order": hex::encode(&refund.paid.order), "state": state,
        "amount": paid_amount(refund.paid.currency, refund.minor), "credit": money(refund.credit),
        "bonus_revoked": (refund.bonus > 0).then(|| money(refund.bonus)), "created_ms": refund.created_ms,
    });
    let mut response = document(&answer, "no-store");
    *response.status_mut() = status;
    if refund.state.is_open() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(AGAIN_S));
    }
    Ok(response)
}

/// What was paid, in its own currency.
pub(crate) fn paid_amount(currency: u8, minor: u64) -> Value {
    let currency = Asset::from_code(currency).unwrap_or(Asset::Cny);
    json!({"amount": format!("{}.{:02}", minor / 100, minor % 100), "currency": currency.name()})
}
