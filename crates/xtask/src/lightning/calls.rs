//! Scenarios through the gateway: what is paid over the channel is credited, once, and buys calls.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PAYMENTS;
use super::gateway::{FIXED, FIXED_MSAT, Gateway, METERED, Offer, unexpected};
use super::stage::{MACAROON, Nodes, Sent};
use super::timing::Timing;

/// Far more calls than one payment is good for.
const CALLS_MAX: u32 = 20;
/// How often one token is shown at the same time.
const AT_ONCE: usize = 64;
/// Prices of the configuration, in nano-dollars for a token.
const INPUT_NANO: u64 = 1000;
const OUTPUT_NANO: u64 = 4000;
/// A charge is in the books a moment after its answer.
const SETTLED_TIME_MAX: Duration = Duration::from_secs(10);

/// What the scenarios share: the stage, and every secret that was seen on it.
pub(super) struct Scene<'a> {
    pub(super) nodes: &'a Nodes,
    pub(super) usual: Gateway,
    pub(super) strict: Gateway,
    secrets: Vec<String>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(nodes: &'a Nodes, usual: Gateway, strict: Gateway) -> Self {
        Self { nodes, usual, strict, secrets: vec![MACAROON.to_owned()] }
    }

    /// Pays an offer over the channel; its preimage in hex.
    pub(super) fn pay(&mut self, offer: &Offer) -> Result<String, String> {
        match self.nodes.payer.pay(&offer.invoice)? {
            Sent::Paid(preimage) => {
                self.secrets.extend([preimage.clone(), offer.token.clone()]);
                Ok(preimage)
            }
            Sent::Failed(why) => Err(format!("the payment failed: {why}")),
        }
    }
}

/// 402, payment, 200, as often as is measured; each payment buys one call, and both books agree to the last unit.
pub(super) fn payments_buy_calls(scene: &mut Scene<'_>) -> Result<String, String> {
    let (before, hits) = (scene.nodes.balances()?, scene.usual.hits()?);
    let (mut asking, mut paying, mut calling) = (Timing::default(), Timing::default(), Timing::default());
    let mut sum = 0;
    for number in 0..PAYMENTS {
        let offer = asking.of(|| scene.usual.offer(scene.nodes, FIXED))?;
        if offer.msat != FIXED_MSAT {
            return Err(format!("the invoice asks for {} msat, not {FIXED_MSAT}", offer.msat));
        }
        let preimage = paying.of(|| scene.pay(&offer))?;
        let answer = calling.of(|| scene.usual.call(FIXED, &offer, &preimage))?;
        if answer.status != 200 {
            return Err(unexpected(&format!("paid call {number}"), &answer));
        }
        let key = answer.all("farthing-key").next().ok_or("a deposit without its key")?;
        settles_at(&scene.usual, key, 0)?;
        sum += offer.msat;
    }
    let (after, expected) = (scene.nodes.balances()?, before.after(sum));
    if Some(after) != expected {
        return Err(format!("after {sum} msat the balances are {after:?}, not {expected:?}"));
    }
    expect("calls of the upstream", scene.usual.hits()? - hits, PAYMENTS)?;
    Ok(format!(
        "{PAYMENTS} payments, {sum} msat; challenge with invoice {asking}; payment {paying}; paid call {calling}"
    ))
}

/// A metered route: one payment, calls by their tokens, the balance exact after each, until it is used up.
pub(super) fn one_payment_is_drawn_on(scene: &mut Scene<'_>) -> Result<String, String> {
    let before = scene.nodes.balances()?;
    let offer = scene.usual.offer(scene.nodes, METERED)?;
    let preimage = scene.pay(&offer)?;
    let mut key = None;
    let (mut spent, mut calls) = (0, 0);
    loop {
        let answer = scene.usual.call(METERED, &offer, &preimage)?;
        if answer.status == 402 && calls > 0 && answer.json()?["error"]["code"] == "insufficient_balance" {
            break;
        }
        if answer.status != 200 || calls == CALLS_MAX {
            return Err(unexpected("a metered call", &answer));
        }
        calls += 1;
        spent += cost(&answer.json()?)?;
        key = key.or_else(|| answer.all("farthing-key").next().map(str::to_owned));
        let key = key.as_deref().ok_or("a deposit without its key")?;
        settles_at(&scene.usual, key, offer.credit.checked_sub(spent).ok_or("more spent than paid")?)?;
    }
    let (after, expected) = (scene.nodes.balances()?, before.after(offer.msat));
    if Some(after) != expected {
        return Err(format!("the balances are {after:?}, not {expected:?}"));
    }
    Ok(format!("{} msat for {} nano-dollars, {calls} calls for {spent}", offer.msat, offer.credit))
}

/// One payment for one call, shown many times at once: one call.
pub(super) fn one_token_at_once(scene: &mut Scene<'_>) -> Result<String, String> {
    let hits = scene.usual.hits()?;
    let offer = scene.usual.offer(scene.nodes, FIXED)?;
    let preimage = scene.pay(&offer)?;
    let (gateway, offer) = (&scene.usual, &offer);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let calls: Vec<_> =
            (0..AT_ONCE).map(|_| scope.spawn(|| gateway.call(FIXED, offer, &preimage))).collect();
        let joined = calls.into_iter().map(|call| call.join().map_err(|_| "a call died".to_owned())?);
        joined.map(|answer| answer.map(|answer| answer.status)).collect::<Result<_, String>>()
    })?;
    let served = statuses.iter().filter(|status| **status == 200).count();
    if served != 1 || statuses.iter().any(|status| !matches!(status, 200 | 402 | 403 | 409)) {
        return Err(format!("statuses {statuses:?}"));
    }
    expect("calls of the upstream", scene.usual.hits()? - hits, 1)?;
    Ok(format!("shown {AT_ONCE} times, {served} served"))
}

/// The preimage of one payment does not open another, and nothing is called.
pub(super) fn another_preimage_opens_nothing(scene: &mut Scene<'_>) -> Result<String, String> {
    let paid = scene.usual.offer(scene.nodes, FIXED)?;
    let preimage = scene.pay(&paid)?;
    let unpaid = scene.usual.offer(scene.nodes, FIXED)?;
    let hits = scene.usual.hits()?;
    let answer = scene.usual.call(FIXED, &unpaid, &preimage)?;
    let reason = answer.json()?["error"]["reason"].clone();
    if answer.status != 402 || reason != "preimage_mismatch" {
        return Err(unexpected("a foreign preimage", &answer));
    }
    expect("calls of the upstream", scene.usual.hits()?, hits)?;
    let served = scene.usual.call(FIXED, &paid, &preimage)?;
    if served.status != 200 {
        return Err(unexpected("the payment itself", &served));
    }
    Ok("402 preimage_mismatch".to_owned())
}

/// A preimage that leaked from the payee's node pays nothing where payments count once the node tells of them.
pub(super) fn strict_waits_for_the_node(scene: &mut Scene<'_>) -> Result<String, String> {
    let offer = scene.strict.offer(scene.nodes, FIXED)?;
    let leaked = scene.nodes.payee.preimage(&offer.hash)?;
    let hits = scene.strict.hits()?;
    let early = scene.strict.call(FIXED, &offer, &leaked)?;
    if early.status == 200 || early.json()?["error"]["reason"] != "not_settled" {
        return Err(unexpected("a leaked preimage", &early));
    }
    expect("calls of the upstream", scene.strict.hits()?, hits)?;
    let preimage = scene.pay(&offer)?;
    if preimage != leaked {
        return Err("the node had another preimage".to_owned());
    }
    let served = scene.strict.call(FIXED, &offer, &preimage)?;
    if served.status != 200 {
        return Err(unexpected("the same, paid", &served));
    }
    Ok(format!("{} not_settled, then paid and 200", early.status))
}

/// Nothing that anything here wrote to disk holds a secret of a payment, as text or as bytes.
pub(super) fn secrets_are_written_nowhere(scene: &mut Scene<'_>) -> Result<String, String> {
    let mut files = 0;
    for path in scene.usual.written.iter().chain(&scene.strict.written) {
        search(path, &scene.secrets, &mut files)?;
    }
    Ok(format!("{} secrets, {files} files", scene.secrets.len()))
}

fn search(path: &Path, secrets: &[String], files: &mut u32) -> Result<(), String> {
    let failed = |error| format!("cannot read {}: {error}", path.display());
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            search(&entry.map_err(failed)?.path(), secrets, files)?;
        }
        return Ok(());
    }
    if !path.is_file() {
        return Ok(());
    }
    let bytes = fs::read(path).map_err(failed)?;
    *files += 1;
    let holds = |what: &[u8]| !what.is_empty() && memchr::memmem::find(&bytes, what).is_some();
    for secret in secrets {
        if holds(secret.as_bytes()) || holds(&raw(secret)) {
            return Err(format!("a secret of {} characters stands in {}", secret.len(), path.display()));
        }
    }
    Ok(())
}

/// The bytes of hexadecimal text of some length; nothing for anything else.
fn raw(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect::<Option<Vec<u8>>>().filter(|bytes| bytes.len() >= 16).unwrap_or_default()
}

/// What a call costs by the usage that its answer tells.
fn cost(answer: &Value) -> Result<u64, String> {
    let tokens = |name: &str| answer["usage"][name].as_u64().ok_or_else(|| format!("no usage: {answer}"));
    Ok(tokens("input_tokens")? * INPUT_NANO + tokens("output_tokens")? * OUTPUT_NANO)
}

pub(super) fn expect(what: &str, found: u64, expected: u64) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found} {what}, not {expected}")) }
}

/// The balance comes to `nano`.
fn settles_at(gateway: &Gateway, key: &str, nano: u64) -> Result<(), String> {
    let deadline = Instant::now() + SETTLED_TIME_MAX;
    loop {
        let found = gateway.balance(key)?;
        if found == nano || Instant::now() > deadline {
            return expect("nano-dollars left", found, nano);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
