//! That part of LND's REST interface which a gateway and those who pay it use, with its shapes: 64-bit integers are
//! strings, bytes are base64 and only in paths and preimages of payments hex, streams are lines.

mod invoices;
mod payments;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use ldk_node::bitcoin::hex::FromHex as _;
use serde_json::{Value, json};

use crate::book::Hash;
use crate::nodes::Lightning;

/// What a caller has to show, in hex. Public: what it opens is worth nothing.
const MACAROON: &str = "0201036c6e64";

type Node = State<Arc<Lightning>>;

/// An answer, or LND's way to refuse.
type Answer = Result<Response, Refusal>;

pub fn router(node: Arc<Lightning>) -> Router {
    Router::new()
        .route("/v1/getinfo", get(about))
        .route("/v1/balance/channels", get(balance))
        .route("/v1/invoices", post(invoices::add).get(invoices::list))
        .route("/v1/invoices/subscribe", get(invoices::subscribe))
        .route("/v1/invoice/{hash}", get(invoices::look_up))
        .route("/v2/invoices/lookup", get(invoices::look_up_v2))
        .route("/v2/invoices/hodl", post(invoices::add_held))
        .route("/v2/invoices/settle", post(invoices::settle))
        .route("/v2/invoices/cancel", post(invoices::cancel))
        .route("/v1/payreq/{invoice}", get(payments::decode))
        .route("/v2/router/send", post(payments::send))
        .route("/v2/router/track/{hash}", get(payments::track))
        .layer(middleware::from_fn(with_macaroon))
        .with_state(node)
}

/// LND's error object.
struct Refusal {
    status: StatusCode,
    code: u8,
    message: String,
}

impl Refusal {
    fn unknown(message: impl ToString) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: 2, message: message.to_string() }
    }

    fn invalid(message: impl ToString) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: 3, message: message.to_string() }
    }

    fn not_found(message: impl ToString) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: 5, message: message.to_string() }
    }

    fn already(message: impl ToString) -> Self {
        Self { status: StatusCode::CONFLICT, code: 6, message: message.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"code": self.code, "message": self.message, "details": []});
        (self.status, Json(body)).into_response()
    }
}

async fn with_macaroon(request: Request, next: Next) -> Response {
    let shown = request.headers().get("grpc-metadata-macaroon").map(|value| value.as_bytes());
    match shown {
        Some(shown) if shown.eq_ignore_ascii_case(MACAROON.as_bytes()) => next.run(request).await,
        Some(_) => Refusal::unknown("verification failed: signature mismatch").into_response(),
        None => Refusal::unknown("expected 1 macaroon, got 0").into_response(),
    }
}

async fn about(State(lightning): Node) -> Json<Value> {
    let status = lightning.node.status();
    let channels = lightning.node.list_channels();
    let active = channels.iter().filter(|channel| channel.is_usable).count();
    Json(json!({
        "version": "0.0.0 ldk-node 0.7.1",
        "identity_pubkey": lightning.node.node_id().to_string(),
        "alias": "",
        "num_active_channels": active,
        "num_inactive_channels": channels.len() - active,
        "block_height": status.current_best_block.height,
        "block_hash": status.current_best_block.block_hash.to_string(),
        "synced_to_chain": true,
        "testnet": false,
        "chains": [{"chain": "bitcoin", "network": "regtest"}],
    }))
}

/// What may still be sent and received: unlike LND's figures without the reserves, to the millisatoshi.
async fn balance(State(lightning): Node) -> Json<Value> {
    let (local, remote) = lightning
        .channel()
        .map_or((0, 0), |channel| (channel.outbound_capacity_msat, channel.inbound_capacity_msat));
    let amount = |msat: u64| json!({"sat": (msat / 1000).to_string(), "msat": msat.to_string()});
    Json(json!({
        "balance": (local / 1000).to_string(),
        "local_balance": amount(local),
        "remote_balance": amount(remote),
    }))
}

fn hash_of_hex(text: &str) -> Result<Hash, Refusal> {
    Hash::from_hex(text).map_err(|_| Refusal::invalid("not 32 bytes of hex"))
}

/// JSON has bytes in base64 of either alphabet.
fn hash_of_base64(text: &str) -> Result<Hash, Refusal> {
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    let bytes = bytes.ok().and_then(|bytes| Hash::try_from(bytes).ok());
    bytes.ok_or_else(|| Refusal::invalid("not 32 bytes of base64"))
}

/// A 64-bit integer, as a string or as a number.
fn integer(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
