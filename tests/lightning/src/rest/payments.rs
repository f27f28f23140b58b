//! Payments: each invoice at most once, with every step as a line.

use std::str::FromStr as _;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use ldk_node::NodeError;
use ldk_node::bitcoin::hashes::Hash as _;
use ldk_node::bitcoin::hex::DisplayHex as _;
use ldk_node::lightning::routing::router::RouteParametersConfig;
use ldk_node::lightning_invoice::Bolt11Invoice;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Answer, Node, Refusal, hash_of_base64, integer};
use crate::book::{Hash, Payment};
use crate::nodes::Lightning;

pub async fn decode(Path(invoice): Path<String>) -> Answer {
    let invoice = Bolt11Invoice::from_str(&invoice).map_err(Refusal::unknown)?;
    let msat = invoice.amount_milli_satoshis().unwrap_or(0);
    Ok(Json(json!({
        "destination": invoice.get_payee_pub_key().to_string(),
        "payment_hash": invoice.payment_hash().to_string(),
        "num_satoshis": (msat / 1000).to_string(),
        "num_msat": msat.to_string(),
        "timestamp": invoice.duration_since_epoch().as_secs().to_string(),
        "expiry": invoice.expiry_time().as_secs().to_string(),
        "description": invoice.description().to_string(),
    }))
    .into_response())
}

pub async fn send(State(lightning): Node, Json(asked): Json<Value>) -> Answer {
    let invoice = asked["payment_request"].as_str().unwrap_or_default();
    let invoice = Bolt11Invoice::from_str(invoice).map_err(Refusal::unknown)?;
    let hash = invoice.payment_hash().to_byte_array();
    let fee_msat = integer(&asked["fee_limit_msat"])
        .or_else(|| integer(&asked["fee_limit_sat"]).map(|sat| sat.saturating_mul(1000)));
    let limits =
        RouteParametersConfig { max_total_routing_fee_msat: fee_msat, ..RouteParametersConfig::default() };
    // Before it is sent: else the node's word on how it ended could come first and be written over.
    if !lightning.book.begin(hash) {
        return Err(Refusal::already(match lightning.book.payment(&hash) {
            Some(Payment::Paid { .. }) => "invoice is already paid",
            _ => "payment is in transition",
        }));
    }
    match lightning.node.bolt11_payment().send(&invoice, Some(limits)) {
        Ok(_) => {}
        Err(NodeError::PaymentSendingFailed) => lightning.book.fail(hash, "FAILURE_REASON_NO_ROUTE"),
        Err(error) => {
            lightning.book.fail(hash, "FAILURE_REASON_ERROR");
            return Err(Refusal::unknown(error));
        }
    }
    let silent = asked["no_inflight_updates"].as_bool().unwrap_or(false);
    Ok(steps(lightning, hash, silent))
}

pub async fn track(State(lightning): Node, Path(hash): Path<String>) -> Answer {
    let hash = hash_of_base64(&hash)?;
    if lightning.book.payment(&hash).is_none() {
        return Err(Refusal::not_found("payment isn't initiated"));
    }
    Ok(steps(lightning, hash, false))
}

/// A line now, if wanted, and one when it has ended.
fn steps(lightning: Arc<Lightning>, hash: Hash, silent: bool) -> Response {
    let changes = lightning.book.changes();
    let watcher = Watcher { lightning, hash, changes, silent, ended: false };
    let lines = stream::unfold(watcher, |mut watcher| async {
        let line = watcher.line().await?;
        Some((Ok::<_, std::convert::Infallible>(line), watcher))
    });
    Body::from_stream(lines).into_response()
}

struct Watcher {
    lightning: Arc<Lightning>,
    hash: Hash,
    changes: watch::Receiver<u64>,
    silent: bool,
    ended: bool,
}

impl Watcher {
    async fn line(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        loop {
            let payment = self.lightning.book.payment(&self.hash)?;
            self.ended = !matches!(payment, Payment::InFlight);
            if self.ended || !self.silent {
                self.silent = true;
                return Some(format!("{}\n", json!({"result": told(&self.hash, &payment)})));
            }
            self.changes.changed().await.ok()?;
        }
    }
}

/// A payment in LND's words.
fn told(hash: &Hash, payment: &Payment) -> Value {
    let (status, preimage, fee_msat, reason) = match payment {
        Payment::InFlight => ("IN_FLIGHT", [0; 32], 0, "FAILURE_REASON_NONE"),
        Payment::Paid { preimage, fee_msat } => ("SUCCEEDED", *preimage, *fee_msat, "FAILURE_REASON_NONE"),
        Payment::Failed(reason) => ("FAILED", [0; 32], 0, *reason),
    };
    json!({
        "payment_hash": hash.to_lower_hex_string(),
        "payment_preimage": preimage.to_lower_hex_string(),
        "status": status,
        "fee_sat": (fee_msat / 1000).to_string(),
        "fee_msat": fee_msat.to_string(),
        "failure_reason": reason,
    })
}
