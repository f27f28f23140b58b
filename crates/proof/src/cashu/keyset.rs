//! The name of a keyset is the hash of its keys (NUT-02): a mint cannot show one payer other keys than another.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use wire::cashu::{KeysetId, Point};

/// What belongs to a keyset beside its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms<'a> {
    /// What its coins are counted in.
    pub unit: &'a str,
    /// Thousandths of a unit for each coin spent.
    pub fee_ppk: u64,
    /// Unix seconds, if it ends.
    pub final_expiry: Option<u64>,
}

/// Whether `id` is the name of these keys on these terms; version 0 covers the keys only.
#[must_use]
pub fn is_named(id: &KeysetId, keys: &BTreeMap<u64, Point>, terms: Terms<'_>) -> bool {
    let hash: [u8; 32] = match id.version() {
        0 => keys.values().fold(Sha256::new(), |hash, key| hash.chain_update(key.0)).finalize().into(),
        _ => Sha256::digest(told(keys, terms)).into(),
    };
    let name = id.as_bytes();
    id.is_whole() && name.get(1..).is_some_and(|name| hash.starts_with(name))
}

fn told(keys: &BTreeMap<u64, Point>, terms: Terms<'_>) -> String {
    let pairs: Vec<String> = keys.iter().map(|(amount, key)| format!("{amount}:{}", key.to_text())).collect();
    let mut text = format!("{}|unit:{}", pairs.join(","), terms.unit.to_lowercase());
    // Writing to a string cannot fail.
    if terms.fee_ppk != 0 {
        let _ = write!(text, "|input_fee_ppk:{}", terms.fee_ppk);
    }
    if let Some(end) = terms.final_expiry.filter(|end| *end != 0) {
        let _ = write!(text, "|final_expiry:{end}");
    }
    text
}
