//! JSON Lines: the whole journal, with the canonical bytes from which anybody can check it.
//!
//! The first line names the store and the range, each following one an entry, the last ones the signed
//! tree heads. What is readable in a line is made from its bytes; `farthing verify` makes it again.

use ledger::{Entry, asset_of_code};
use serde_json::{Value, json};

use super::day::timestamp;
use super::{BooksError, Names, Position};

/// A signed tree head, as it stands in an export.
pub(crate) type Head = Value;

/// An export that is being written.
pub(crate) struct Jsonl {
    names: Names,
    position: Position,
}

impl Jsonl {
    pub(super) const fn new(names: Names, position: Position) -> Self {
        Self { names, position }
    }

    pub(super) fn start(&self, out: &mut String) {
        let Position { store_id, epoch, first, last } = &self.position;
        let store_id = wire::hex::encode(store_id);
        let last = (first <= last).then_some(last);
        line(
            &json!({"journal": "farthing/1", "store_id": store_id, "epoch": epoch, "first_lsn": first, "last_lsn": last}),
            out,
        );
    }

    pub(super) fn entry(&self, entry: &Entry, bytes: &[u8], out: &mut String) -> Result<(), BooksError> {
        line(&readable(entry, bytes, &self.names)?, out);
        Ok(())
    }

    pub(super) fn end(&self, heads: &[Head], out: &mut String) {
        heads.iter().for_each(|head| line(&json!({ "head": head }), out));
    }
}

fn line(value: &Value, out: &mut String) {
    out.push_str(&value.to_string());
    out.push('\n');
}

/// An entry with its bytes, its hash and what they say.
fn readable(entry: &Entry, bytes: &[u8], names: &Names) -> Result<Value, BooksError> {
    let draft = &entry.draft;
    let mut legs = Vec::with_capacity(entry.legs.len());
    for leg in &entry.legs {
        let (asset, memo) = asset_of_code(leg.asset).ok_or(BooksError::Asset { lsn: entry.lsn })?;
        let exported = (!memo).then(|| names.exported(leg.account));
        legs.push(json!({
            "account": leg.account.to_string(), "name": names.get(leg.account), "exported": exported,
            "memo": memo, "asset": asset.name(), "amount": leg.amount.decimal(asset),
            "balance_after": leg.balance_after.decimal(asset),
        }));
    }
    Ok(json!({
        "lsn": entry.lsn, "kind": draft.kind.name(), "time": timestamp(draft.time_ms), "time_ms": draft.time_ms,
        "id": wire::hex::encode(&draft.id), "key": wire::hex::encode(&draft.key), "reference": draft.reference,
        "estimated": draft.flags.estimated, "price_version": draft.price_version,
        "cost_femto_usd": draft.cost_femto.to_string(), "legs": legs,
        "hash": wire::hex::encode(&Entry::hash_of(bytes)), "bytes": wire::hex::encode(bytes),
    }))
}
