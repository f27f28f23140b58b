//! A credit key for what a payer did not use.

use http::{HeaderName, HeaderValue};
use ledger::AccountId;
use store::{KeyRecord, Op};

use super::Waits;
use crate::clock::Now;
use crate::gate::Gate;
use crate::landing::write_in_background;
use crate::random;

/// How long it is valid: 90 days.
const CHANGE_KEY_SECONDS: u64 = 90 * 24 * 3600;

/// A key that opens what the payer did not use. It is in one answer and nowhere else (item 38).
pub(crate) fn change_key(gate: &Gate, account: AccountId, now: Now) -> Option<String> {
    let key_id = random::bytes();
    let expires = now.seconds() + CHANGE_KEY_SECONDS;
    let caveats = [format!("expires={expires}")];
    let text = proof::credit_key::mint(
        &gate.keys.masters.load().credit,
        gate.keys.mode,
        account.0,
        key_id,
        &caveats,
    )
    .ok()?;
    let record = KeyRecord {
        account: account.0,
        label: "change".to_owned(),
        created_ms: now.millis(),
        expires_s: Some(expires),
    };
    let op = Op::Key { id: key_id, record };
    if let Err(refused) = gate.store.submit(op, None) {
        // The payer has paid for it: it opens his change whether it is on our list or not.
        tracing::warn!(error = %refused.why, "a key for change is recorded later");
        drop(write_in_background(gate, *refused.op, Waits::default()));
    }
    Some(text)
}

/// The header that hands a key out.
pub(crate) fn key_header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::from_static("farthing-key"), value))
}
