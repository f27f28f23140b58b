//! A facilitator that answers at once, in the process of the benchmark. What it is asked to settle is settled. A stand-in for a
//! chain's node is beside it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};

use crate::payments::NETWORK;
use crate::pinning;
use crate::serve::{Answer, Speaks, read, serve};
use crate::session;

/// Starts it on a thread that ends with the process.
pub(crate) fn start(address: SocketAddr) {
    let chain = Arc::new(Mutex::new(HashMap::new()));
    thread::spawn(move || {
        pinning::upstream();
        serve(address, Speaks::default(), move |request| {
            let chain = Arc::clone(&chain);
            async move { facilitator(&chain, request).await }
        });
    });
}

/// How often the facilitator was asked to verify or to settle.
pub(crate) fn calls() -> usize {
    CALLS.load(Ordering::Relaxed)
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Deposited and not claimed, by channel.
type Chain = Mutex<HashMap<String, u128>>;

async fn facilitator(chain: &Chain, request: Request<Incoming>) -> Response<Answer> {
    let path = request.uri().path().to_owned();
    let body = read(request).await;
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !["/supported", "/chain"].contains(&path.as_str()) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
    let answer = match path.as_str() {
        "/chain" => session::chain(&asked),
        "/supported" => supported(),
        "/verify" => verified(chain, &asked),
        _ => settled(chain, &asked),
    };
    Answer::whole("application/json", answer.to_string())
}

fn supported() -> Value {
    let kind = |scheme| json!({"x402Version": 2, "scheme": scheme, "network": NETWORK});
    let signer = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";
    json!({
        "kinds": [kind("exact"), kind("upto"), kind("batch-settlement")],
        "extensions": [],
        "signers": {"eip155:*": [signer]},
    })
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn payer(asked: &Value) -> &str {
    let payload =
        ["/paymentPayload/payload/authorization/from", "/paymentPayload/payload/channelConfig/payer"];
    payload.iter().map(|path| text(asked, path)).find(|payer| !payer.is_empty()).unwrap_or_default()
}

/// What a channel holds, with the deposit that is asked about.
fn channel(asked: &Value, balance: u128) -> Value {
    json!({
        "channelId": text(asked, "/paymentPayload/payload/voucher/channelId"),
        "balance": balance.to_string(),
        "totalClaimed": "0",
        "withdrawRequestedAt": 0,
        "refundNonce": "0",
    })
}

fn balance(chain: &Chain, asked: &Value, settles: bool) -> u128 {
    let id = text(asked, "/paymentPayload/payload/voucher/channelId").to_ascii_lowercase();
    let deposit = text(asked, "/paymentPayload/payload/deposit/amount").parse().unwrap_or(0);
    let mut chain = chain.lock().unwrap_or_else(PoisonError::into_inner);
    let balance = chain.get(&id).copied().unwrap_or(0) + deposit;
    if settles {
        chain.insert(id, balance);
    }
    balance
}

fn is_channel(asked: &Value) -> bool {
    asked.pointer("/paymentPayload/payload/channelConfig").is_some()
}

fn verified(chain: &Chain, asked: &Value) -> Value {
    let mut answer = json!({"isValid": true, "payer": payer(asked)});
    if is_channel(asked)
        && let Some(answer) = answer.as_object_mut()
    {
        answer.insert("extra".to_owned(), channel(asked, balance(chain, asked, false)));
    }
    answer
}

fn settled(chain: &Chain, asked: &Value) -> Value {
    // The hash of a transfer is made from what nobody else has: its nonce, or its salt.
    let payload = "/paymentPayload/payload";
    let unique = ["/authorization/nonce", "/deposit/authorization/erc3009Authorization/salt"]
        .map(|path| text(asked, &format!("{payload}{path}")));
    let transaction = unique.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let mut answer = json!({
        "success": true,
        "transaction": transaction,
        "network": text(asked, "/paymentRequirements/network"),
        "payer": payer(asked),
        "amount": text(asked, "/paymentRequirements/amount"),
    });
    if is_channel(asked)
        && let Some(answer) = answer.as_object_mut()
    {
        let state = channel(asked, balance(chain, asked, true));
        answer.insert(
            "amount".to_owned(),
            asked.pointer("/paymentPayload/payload/deposit/amount").cloned().unwrap_or_default(),
        );
        answer.insert("extra".to_owned(), json!({ "channelState": state }));
    }
    answer
}
