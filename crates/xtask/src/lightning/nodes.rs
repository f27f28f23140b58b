//! Scenarios without a gateway: that the nodes do what a gateway and its payers rely on, so that what passes through the
//! gateway proves something.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::PAYMENTS;
use super::stage::{Node, Nodes, Sent};
use super::timing::Timing;

/// 32 bytes 5a, public, as a preimage: hex, base64; and its SHA-256: hex, base64.
const PREIMAGE: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";
const PREIMAGE_BASE64: &str = "WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=";
const HASH: &str = "60bf07c488aad18fda339df07e4fbc47b4f00be71711936f18d04d352ad01890";
const HASH_BASE64: &str = "YL8HxIiq0Y/aM53wfk+8R7TwC+cXEZNvGNBNNSrQGJA=";
/// The hash of 32 bytes 5b.
const OTHER_HASH: &str = "376843d772b728925e075770336b0e9db028b1e2c22b0a2078709a5c6990ef8f";
const OTHER_HASH_BASE64: &str = "N2hD13K3KJJeB1dwM2sOnbAoseLCKwogeHCaXGmQ748=";
const HELD_MSAT: u64 = 50_000;
const HELD_TIME_MAX: Duration = Duration::from_secs(30);

/// Invoices of 10 to 29 sat, each paid and settled with its amount, and once only; then the balances.
pub(super) fn pay_directly(nodes: &Nodes) -> Result<String, String> {
    let before = nodes.balances()?;
    let (mut making, mut paying) = (Timing::default(), Timing::default());
    let mut sum = 0;
    let mut preimages = Vec::new();
    for number in 0..PAYMENTS {
        let msat = 10_000 + 1000 * number;
        let asked = json!({"value_msat": msat.to_string(), "memo": "direct", "expiry": "300"});
        let made = making.of(|| nodes.payee.post("/v1/invoices", &asked))?.json()?;
        let invoice = text(&made, "payment_request")?;
        let decoded = nodes.payer.get(&format!("/v1/payreq/{invoice}"))?.json()?;
        if text(&decoded, "num_msat")? != msat.to_string() || decoded["description"] != "direct" {
            return Err(format!("the invoice is not what was asked for: {decoded}"));
        }
        let Sent::Paid(preimage) = paying.of(|| nodes.payer.pay(invoice))? else {
            return Err(format!("payment {number} failed"));
        };
        if preimages.contains(&preimage) {
            return Err("two payments have one preimage".to_owned());
        }
        preimages.push(preimage);
        settled(nodes.payee, text(&decoded, "payment_hash")?, msat)?;
        match nodes.payer.pay(invoice) {
            Err(refused) if refused.starts_with("409") => {}
            other => return Err(format!("an invoice that is paid is paid again: {other:?}")),
        }
        sum += msat;
    }
    let (after, expected) = (nodes.balances()?, before.after(sum));
    if Some(after) != expected {
        return Err(format!("after {sum} msat the balances are {after:?}, not {expected:?}"));
    }
    Ok(format!("{PAYMENTS} payments, {sum} msat; invoice {making}; payment {paying}"))
}

/// An invoice over a hash of ours: what is paid is held, and is the payee's when the preimage is shown.
pub(super) fn held_invoice_settles(nodes: &Nodes) -> Result<String, String> {
    let before = nodes.balances()?;
    let (sent, moment) = held(nodes, HASH, HASH_BASE64, || {
        nodes.payee.post("/v2/invoices/settle", &json!({"preimage": PREIMAGE_BASE64}))?.json()
    })?;
    if sent != Sent::Paid(PREIMAGE.to_owned()) {
        return Err(format!("{sent:?} instead of our preimage"));
    }
    settled(nodes.payee, HASH, HELD_MSAT)?;
    let (after, expected) = (nodes.balances()?, before.after(HELD_MSAT));
    if Some(after) != expected {
        return Err(format!("the balances are {after:?}, not {expected:?}"));
    }
    Ok(format!("{HELD_MSAT} msat, released {} ms after they were settled", moment.as_millis()))
}

/// The same, given up: the payer has everything back.
pub(super) fn held_invoice_is_cancelled(nodes: &Nodes) -> Result<String, String> {
    let before = nodes.balances()?;
    let (sent, moment) = held(nodes, OTHER_HASH, OTHER_HASH_BASE64, || {
        nodes.payee.post("/v2/invoices/cancel", &json!({"payment_hash": OTHER_HASH_BASE64}))?.json()
    })?;
    if sent != Sent::Failed("FAILURE_REASON_INCORRECT_PAYMENT_DETAILS".to_owned()) {
        return Err(format!("{sent:?} instead of a failure"));
    }
    let state = state(nodes.payee, OTHER_HASH)?;
    if state != "CANCELED" {
        return Err(format!("the invoice is {state}"));
    }
    let after = nodes.balances()?;
    if after != before {
        return Err(format!("the balances are {after:?}, not {before:?}"));
    }
    Ok(format!("{HELD_MSAT} msat, back {} ms after they were given up", moment.as_millis()))
}

/// Has a held invoice paid, and when the payment has come in does `then`. Tells how the payment ended, and how long
/// after `then`.
fn held(
    nodes: &Nodes,
    hash: &str,
    hash_base64: &str,
    then: impl FnOnce() -> Result<Value, String>,
) -> Result<(Sent, Duration), String> {
    let asked = json!({
        "hash": hash_base64, "value_msat": HELD_MSAT.to_string(), "memo": "held", "expiry": "300",
    });
    let made = nodes.payee.post("/v2/invoices/hodl", &asked)?.json()?;
    let invoice = text(&made, "payment_request")?;
    let payer = nodes.payer;
    thread::scope(|scope| {
        let payment = scope.spawn(|| payer.pay(invoice));
        until_accepted(nodes.payee, hash)?;
        if payment.is_finished() {
            return Err("the payment ended while it was held".to_owned());
        }
        let began = Instant::now();
        then()?;
        let sent = payment.join().map_err(|_| "the payer died".to_owned())??;
        Ok((sent, began.elapsed()))
    })
}

pub(super) fn until_accepted(payee: Node, hash: &str) -> Result<(), String> {
    let deadline = Instant::now() + HELD_TIME_MAX;
    loop {
        let state = state(payee, hash)?;
        match state.as_str() {
            "ACCEPTED" => return Ok(()),
            "OPEN" if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            _ => return Err(format!("the held invoice is {state}")),
        }
    }
}

/// Whether the payee's node says that it has been paid this much.
fn settled(payee: Node, hash: &str, msat: u64) -> Result<(), String> {
    let found = payee.get(&format!("/v1/invoice/{hash}"))?.json()?;
    if found["state"] == "SETTLED" && text(&found, "amt_paid_msat")? == msat.to_string() {
        return Ok(());
    }
    Err(format!("paid {msat} msat, but the payee says {} and {}", found["state"], found["amt_paid_msat"]))
}

fn state(payee: Node, hash: &str) -> Result<String, String> {
    let found = payee.get(&format!("/v1/invoice/{hash}"))?.json()?;
    text(&found, "state").map(str::to_owned)
}

/// A text of an answer.
pub(super) fn text<'a>(answer: &'a Value, name: &str) -> Result<&'a str, String> {
    answer[name].as_str().ok_or_else(|| format!("no {name} in {answer}"))
}
