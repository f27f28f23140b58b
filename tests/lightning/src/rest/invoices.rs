//! Invoices: plain ones, which are settled as soon as they are paid, and held ones.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use ldk_node::bitcoin::hashes::{Hash as _, sha256};
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning_invoice::{Bolt11InvoiceDescription, Description};
use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};
use ldk_node::payment::PaymentKind;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Answer, Node, Refusal, hash_of_base64, hash_of_hex, integer};
use crate::book::{Entry, Hash, Invoice, InvoiceState};
use crate::nodes::Lightning;

const EXPIRY_S_DEFAULT: u64 = 86_400;

pub async fn add(State(lightning): Node, Json(asked): Json<Value>) -> Answer {
    new_invoice(&lightning, &asked, None)
}

pub async fn add_held(State(lightning): Node, Json(asked): Json<Value>) -> Answer {
    let hash = hash_of_base64(asked["hash"].as_str().unwrap_or_default())?;
    if lightning.book.invoice(&hash).is_some() {
        return Err(Refusal::already("invoice with payment hash already exists"));
    }
    new_invoice(&lightning, &asked, Some(hash))
}

fn new_invoice(lightning: &Lightning, asked: &Value, hash: Option<Hash>) -> Answer {
    let sat = integer(&asked["value"]).filter(|sat| *sat > 0).map(|sat| sat.saturating_mul(1000));
    let msat = integer(&asked["value_msat"]).filter(|msat| *msat > 0);
    let msat = match (sat, msat) {
        (Some(_), Some(_)) => return Err(Refusal::unknown("mutually exclusive amounts")),
        (sat, msat) => {
            sat.or(msat).ok_or_else(|| Refusal::unknown("invoices without amount are not for us"))?
        }
    };
    let expiry_s = integer(&asked["expiry"]).filter(|expiry| *expiry > 0).unwrap_or(EXPIRY_S_DEFAULT);
    let expiry_s = u32::try_from(expiry_s).map_err(|_| Refusal::unknown("expiry too large"))?;
    let memo = asked["memo"].as_str().unwrap_or_default().to_owned();
    let text = Description::new(memo.clone()).map_err(|_| Refusal::unknown("memo too large"))?;
    let text = Bolt11InvoiceDescription::Direct(text);
    let node = lightning.node.bolt11_payment();
    let invoice = match hash {
        None => node.receive(msat, &text, expiry_s),
        Some(hash) => node.receive_for_hash(msat, &text, expiry_s, PaymentHash(hash)),
    };
    let invoice = invoice.map_err(Refusal::unknown)?;
    let hash = invoice.payment_hash().to_byte_array();
    let add_index = lightning.book.add(invoice.to_string(), hash, memo, msat, expiry_s);
    let mut answer = json!({
        "payment_request": invoice.to_string(),
        "add_index": add_index.to_string(),
        "payment_addr": STANDARD.encode(invoice.payment_secret().0),
    });
    if asked["hash"].is_null() {
        answer["r_hash"] = json!(STANDARD.encode(hash));
    }
    Ok(Json(answer).into_response())
}

pub async fn look_up(State(lightning): Node, Path(hash): Path<String>) -> Answer {
    found(&lightning, &hash_of_hex(&hash)?)
}

#[derive(Deserialize)]
pub struct LookUp {
    payment_hash: String,
}

pub async fn look_up_v2(State(lightning): Node, Query(asked): Query<LookUp>) -> Answer {
    found(&lightning, &hash_of_base64(&asked.payment_hash)?)
}

fn found(lightning: &Lightning, hash: &Hash) -> Answer {
    let invoice =
        lightning.book.invoice(hash).ok_or_else(|| Refusal::not_found("unable to locate invoice"))?;
    Ok(Json(told(lightning, &invoice)).into_response())
}

#[derive(Deserialize)]
pub struct Listing {
    #[serde(default)]
    reversed: bool,
    num_max_invoices: Option<usize>,
}

/// In the order they were made; `reversed` asks for the last ones.
pub async fn list(State(lightning): Node, Query(asked): Query<Listing>) -> Json<Value> {
    let mut invoices = lightning.book.invoices();
    let most = asked.num_max_invoices.unwrap_or(100);
    if asked.reversed {
        invoices.drain(..invoices.len().saturating_sub(most));
    }
    invoices.truncate(most);
    let index = |invoice: Option<&Invoice>| invoice.map_or(0, |invoice| invoice.add_index).to_string();
    Json(json!({
        "invoices": invoices.iter().map(|invoice| told(&lightning, invoice)).collect::<Vec<_>>(),
        "first_index_offset": index(invoices.first()),
        "last_index_offset": index(invoices.last()),
    }))
}

pub async fn settle(State(lightning): Node, Json(asked): Json<Value>) -> Answer {
    let preimage = hash_of_base64(asked["preimage"].as_str().unwrap_or_default())?;
    let hash = sha256::Hash::hash(&preimage).to_byte_array();
    let invoice =
        lightning.book.invoice(&hash).ok_or_else(|| Refusal::not_found("unable to locate invoice"))?;
    let InvoiceState::Accepted { msat } = invoice.state else {
        return Err(Refusal::unknown("invoice still open or done"));
    };
    let node = lightning.node.bolt11_payment();
    node.claim_for_hash(PaymentHash(hash), msat, PaymentPreimage(preimage)).map_err(Refusal::unknown)?;
    Ok(Json(json!({})).into_response())
}

pub async fn cancel(State(lightning): Node, Json(asked): Json<Value>) -> Answer {
    let hash = hash_of_base64(asked["payment_hash"].as_str().unwrap_or_default())?;
    let invoice =
        lightning.book.invoice(&hash).ok_or_else(|| Refusal::not_found("unable to locate invoice"))?;
    if let InvoiceState::Settled { .. } = invoice.state {
        return Err(Refusal::unknown("invoice already settled"));
    }
    lightning.node.bolt11_payment().fail_for_hash(PaymentHash(hash)).map_err(Refusal::unknown)?;
    lightning.book.cancel(&hash);
    Ok(Json(json!({})).into_response())
}

/// An invoice in LND's words, with the preimage where the node knows it: so does LND.
fn told(lightning: &Lightning, invoice: &Invoice) -> Value {
    let (state, settled_at_s, settle_index, paid_msat) = match invoice.state {
        InvoiceState::Open => ("OPEN", 0, 0, 0),
        InvoiceState::Accepted { .. } => ("ACCEPTED", 0, 0, 0),
        InvoiceState::Settled { at_s, msat, index } => ("SETTLED", at_s, index, msat),
        InvoiceState::Cancelled => ("CANCELED", 0, 0, 0),
    };
    let preimage = lightning.node.payment(&PaymentId(invoice.hash)).and_then(|payment| match payment.kind {
        PaymentKind::Bolt11 { preimage, .. } => preimage,
        _ => None,
    });
    json!({
        "memo": invoice.memo,
        "r_preimage": preimage.map_or_else(String::new, |preimage| STANDARD.encode(preimage.0)),
        "r_hash": STANDARD.encode(invoice.hash),
        "value": (invoice.msat / 1000).to_string(),
        "value_msat": invoice.msat.to_string(),
        "settled": state == "SETTLED",
        "creation_date": invoice.created_s.to_string(),
        "settle_date": settled_at_s.to_string(),
        "payment_request": invoice.bolt11,
        "expiry": invoice.expiry_s.to_string(),
        "add_index": invoice.add_index.to_string(),
        "settle_index": settle_index.to_string(),
        "amt_paid_sat": (paid_msat / 1000).to_string(),
        "amt_paid_msat": paid_msat.to_string(),
        "state": state,
    })
}

#[derive(Deserialize)]
pub struct Since {
    add_index: Option<u64>,
    settle_index: Option<u64>,
}

/// New and settled invoices, a line each. An index asks for what came after it; without one only what comes from now on
/// is told.
pub async fn subscribe(State(lightning): Node, Query(since): Query<Since>) -> Response {
    let changes = lightning.book.changes();
    let live = lightning.book.entries();
    let reader = Reader { lightning, since, live, next: 0, changes };
    let lines = stream::unfold(reader, |mut reader| async {
        let line = reader.line().await?;
        Some((Ok::<_, std::convert::Infallible>(line), reader))
    });
    Body::from_stream(lines).into_response()
}

struct Reader {
    lightning: Arc<Lightning>,
    since: Since,
    /// The first entry that is told in any case.
    live: usize,
    next: usize,
    changes: watch::Receiver<u64>,
}

impl Reader {
    async fn line(&mut self) -> Option<String> {
        loop {
            while let Some(entry) = self.lightning.book.entry(self.next) {
                self.next += 1;
                if self.is_wanted(entry)
                    && let Some(invoice) = self.lightning.book.invoice(entry.hash())
                {
                    return Some(format!("{}\n", json!({"result": told(&self.lightning, &invoice)})));
                }
            }
            self.changes.changed().await.ok()?;
        }
    }

    fn is_wanted(&self, entry: Entry) -> bool {
        let after = |since: Option<u64>, index| since.is_some_and(|since| since > 0 && index > since);
        let missed = match entry {
            Entry::Added { index, .. } => after(self.since.add_index, index),
            Entry::Settled { index, .. } => after(self.since.settle_index, index),
        };
        self.next > self.live || missed
    }
}

impl Entry {
    fn hash(&self) -> &Hash {
        match self {
            Entry::Added { hash, .. } | Entry::Settled { hash, .. } => hash,
        }
    }
}
