//! JSON Lines: the whole journal, with the canonical bytes from which anybody can check it.
//!
//! The first line names the store and the range, each following one an entry, the last ones the signed
//! tree heads. What is readable in a line is made from its bytes; `farthing verify` makes it again.

use client::SignedHead;
use ledger::merkle::Frontier;
use ledger::{AccountId, Entry, asset_of_code};
use serde_json::{Value, json};

use super::accounts::chart_of;
use super::day::timestamp;
use super::{BooksError, Names, Position};

/// A line of an export, read again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line {
    /// The first one.
    Start(Position),
    /// An entry, and whether what is readable in the line is what its bytes say.
    Entry { lsn: u64, bytes: Vec<u8>, faithful: bool },
    /// A head, whose signature was not looked at.
    Head(SignedHead),
}

impl Line {
    /// Reads a line. `None` for one that no export has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        if let Some(head) = value.get("head") {
            return serde_json::from_value(head.clone()).ok().map(Self::Head);
        }
        if value["journal"] == FORM {
            return Self::start(&value);
        }
        let bytes = wire::hex::decode(value["bytes"].as_str()?).ok()?;
        let faithful = Entry::parse(&bytes).is_ok_and(|entry| {
            let names = Names::new(said_names(&value));
            readable(&entry, &bytes, &names).is_ok_and(|made| made == value)
        });
        Some(Self::Entry { lsn: value["lsn"].as_u64()?, bytes, faithful })
    }
}

impl Line {
    fn start(value: &Value) -> Option<Self> {
        let first = value["first_lsn"].as_u64()?;
        let before = first.checked_sub(1)?;
        let nodes = value["frontier"].as_array().map(Vec::as_slice).unwrap_or_default();
        let nodes = nodes.iter().map(|node| wire::hex::decode_array(node.as_str()?).ok());
        let position = Position {
            store_id: wire::hex::decode_array(value["store_id"].as_str()?).ok()?,
            epoch: value["epoch"].as_u64()?,
            first,
            last: value["last_lsn"].as_u64().unwrap_or(before),
            frontier: Frontier::from_nodes(before, nodes.collect::<Option<_>>()?)?,
        };
        Some(Self::Start(position))
    }
}

/// Names in a line that belong to the account they stand beside: an id is the hash of its name.
fn said_names(line: &Value) -> Vec<(AccountId, String)> {
    let legs = line["legs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = legs.iter().filter_map(|leg| {
        let (account, name) = (AccountId::from_hex(leg["account"].as_str()?)?, leg["name"].as_str()?);
        (chart_of(name)?.id() == account).then(|| (account, name.to_owned()))
    });
    named.collect()
}

/// Version of the form.
const FORM: &str = "farthing/1";

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
        let Position { store_id, epoch, first, last, frontier } = &self.position;
        let frontier: Vec<String> = frontier.nodes().iter().map(|node| wire::hex::encode(node)).collect();
        let start = json!({
            "journal": FORM, "store_id": wire::hex::encode(store_id), "epoch": epoch, "first_lsn": first,
            "last_lsn": (first <= last).then_some(last), "frontier": frontier,
        });
        line(&start, out);
    }

    pub(super) fn entry(&self, entry: &Entry, bytes: &[u8], out: &mut String) -> Result<(), BooksError> {
        line(&readable(entry, bytes, &self.names)?, out);
        Ok(())
    }

    pub(super) fn end(&self, heads: &[SignedHead], out: &mut String) {
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
        "corrects": (draft.corrects != [0; 16]).then(|| wire::hex::encode(&draft.corrects)),
        "estimated": draft.flags.estimated, "price_version": draft.price_version,
        "cost_femto_usd": draft.cost_femto.to_string(), "legs": legs,
        "hash": wire::hex::encode(&Entry::hash_of(bytes)), "bytes": wire::hex::encode(bytes),
    }))
}
