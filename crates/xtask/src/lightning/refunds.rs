//! What is left of a payment, back over the channel: the payer's node makes the invoice, the payee's pays it.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::calls::{Deposit, Scene, expect, settles_at};
use super::gateway::{NANO_PER_MSAT, unexpected};
use super::http::Answer;
use super::nodes::{text, until_accepted};

const BACK_MSAT: u64 = 30_000;
const BACK_NANO: u64 = BACK_MSAT * NANO_PER_MSAT;
/// The hash of 32 bytes 5c: whoever pays an invoice over it waits until the payer's node gives up.
const HASH: &str = "3ef9448397ae2f99365c876d7eeecbde510d1f91bb58cf9a82ee7346daa87b4e";
const HASH_BASE64: &str = "PvlEg5euL5k2XIdtfu7L3lENH5G7WM+agu5zRtqoe04=";
const DECIDED_TIME_MAX: Duration = Duration::from_secs(60);

/// Part of a balance goes back, once, however often its invoice is handed in.
pub(super) fn goes_back(scene: &mut Scene<'_>) -> Result<String, String> {
    let Deposit { key, left, .. } = scene.deposit()?;
    let before = scene.nodes.balances()?;
    let asked = json!({"value_msat": BACK_MSAT.to_string(), "memo": "what is left", "expiry": "300"});
    let made = scene.nodes.payer.post("/v1/invoices", &asked)?.json()?;
    let invoice = text(&made, "payment_request")?;
    for what in ["a refund", "the same again"] {
        let answer = decided(scene, &key, invoice)?;
        let told = answer.json()?;
        if answer.status != 200 || told["state"] != "paid" || told["fee_msat"] != 0 {
            return Err(unexpected(what, &answer));
        }
    }
    settles_at(&scene.usual, &key, left - BACK_NANO)?;
    let (after, expected) = (scene.nodes.balances()?, before.back(BACK_MSAT));
    if Some(after) != expected {
        return Err(format!("the balances are {after:?}, not {expected:?}"));
    }
    Ok(format!("{BACK_MSAT} msat, {} nano-dollars left", left - BACK_NANO))
}

/// A refund is held while nobody knows how it ends; when it fails, it is a balance again.
pub(super) fn that_fails_stays(scene: &mut Scene<'_>) -> Result<String, String> {
    let Deposit { key, left, .. } = scene.deposit()?;
    let before = scene.nodes.balances()?;
    let (nodes, gateway) = (scene.nodes, &scene.usual);
    let asked = json!({
        "hash": HASH_BASE64, "value_msat": BACK_MSAT.to_string(), "memo": "never", "expiry": "300",
    });
    let made = nodes.payer.post("/v2/invoices/hodl", &asked)?.json()?;
    let invoice = text(&made, "payment_request")?;
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.hand_in(&key, invoice));
        until_accepted(nodes.payer, HASH)?;
        // With the most that moving it may cost.
        let held = BACK_NANO + BACK_NANO / 100;
        settles_at(gateway, &key, left - held)?;
        nodes.payer.post("/v2/invoices/cancel", &json!({"payment_hash": HASH_BASE64}))?.json()?;
        first.join().map_err(|_| "the refund died".to_owned())?
    })?;
    let answer = decided(scene, &key, invoice)?;
    if answer.status != 503 || answer.json()?["error"]["reason"] != "not_paid" {
        return Err(unexpected("a refund that failed", &answer));
    }
    settles_at(&scene.usual, &key, left)?;
    let after = scene.nodes.balances()?;
    if after != before {
        return Err(format!("the balances are {after:?}, not {before:?}"));
    }
    expect("nano-dollars back", scene.usual.balance(&key)?, left)?;
    Ok(format!("{BACK_MSAT} msat held, then all {left} nano-dollars there again"))
}

/// Hands in until it is known how it ended.
fn decided(scene: &Scene<'_>, key: &str, invoice: &str) -> Result<Answer, String> {
    let deadline = Instant::now() + DECIDED_TIME_MAX;
    loop {
        let answer = scene.usual.hand_in(key, invoice)?;
        if answer.status != 202 || Instant::now() > deadline {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(100));
    }
}
