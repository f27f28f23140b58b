//! The sample journal as JSON: `specs/vectors/ledger/entries.json`.

use ledger::merkle::{Hash, Node, consistency_path, inclusion_path, leaf_hash};
use ledger::{Entry, Leg, TreeHead};
use serde_json::{Value, json};

use super::{Journal, accounts, audit, capture, draft, sample};

/// Everything, as it stands in the file.
pub(crate) fn golden() -> String {
    let journal = sample();
    let accounts = accounts();
    let internal: std::collections::BTreeSet<String> =
        accounts.internal.iter().map(ToString::to_string).collect();
    let overdrafts: std::collections::BTreeMap<String, String> =
        accounts.overdrafts.iter().map(|(id, line)| (id.to_string(), line.units().to_string())).collect();
    let value = json!({
        "readme": [
            "Journal entries, their Merkle tree, and tampered copies. Rules and layout: specs/ledger.md.",
            "Made by `cargo run -p ledger --example golden > specs/vectors/ledger/entries.json`; review the diff.",
            "Amounts and femto costs are decimal text, ids and bytes hex. `hash` is SHA-256(\"farthing.entry.v1\" NUL, bytes), `leaf` SHA-256(00, bytes).",
            "A tampered journal lists what stands at LSN 1, 2, ...: a number is that entry as it was, text is other bytes. Both heads are known to the checker."
        ],
        "internal_accounts": internal,
        "overdrafts": overdrafts,
        "entries": journal.records.iter().map(|bytes| entry(bytes)).collect::<Vec<_>>(),
        "heads": [head(&journal.head(12)), head(&journal.head(16))],
        "inclusion": (0..16).map(|index| inclusion(&journal, index)).collect::<Vec<_>>(),
        "consistency": (1..=16).map(|old| consistency(&journal, old)).collect::<Vec<_>>(),
        "tampered": tampered(&journal),
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap();
    text.push('\n');
    text
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(bytes: &[u8]) -> Value {
    let entry = Entry::parse(bytes).unwrap();
    let draft = &entry.draft;
    json!({
        "lsn": entry.lsn,
        "kind": draft.kind.name(),
        "estimated": draft.flags.estimated,
        "time_ms": draft.time_ms,
        "id": hex(&draft.id),
        "key": hex(&draft.key),
        "reference": draft.reference,
        "corrects": hex(&draft.corrects),
        "price_version": draft.price_version,
        "cost_femto": draft.cost_femto.to_string(),
        "legs": entry.legs.iter().map(leg).collect::<Vec<_>>(),
        "previous": hex(&entry.previous),
        "bytes": hex(bytes),
        "hash": hex(&Entry::hash_of(bytes)),
        "leaf": hex(&leaf_hash(bytes)),
    })
}

fn leg(leg: &Leg) -> Value {
    json!({
        "asset": leg.asset,
        "account": leg.account.to_string(),
        "amount": leg.amount.units().to_string(),
        "balance_after": leg.balance_after.units().to_string(),
    })
}

fn head(head: &TreeHead) -> Value {
    json!({
        "store_id": hex(&head.store_id),
        "epoch": head.epoch,
        "size": head.size,
        "root": hex(&head.root),
        "last_hash": hex(&head.last_hash),
        "time_ms": head.time_ms,
        "signing_bytes": hex(&head.signing_bytes()),
    })
}

/// The root over a full subtree, from its leaves.
fn node(journal: &Journal, node: Node) -> Result<Hash, ()> {
    let width = 1 << node.level;
    let start = usize::try_from(node.index).unwrap() * width;
    let part = Journal { records: journal.records[start..start + width].to_vec(), ..Journal::default() };
    Ok(part.head(width).root)
}

fn hexes(path: &[Hash]) -> Vec<String> {
    path.iter().map(|hash| hex(hash)).collect()
}

fn inclusion(journal: &Journal, index: u64) -> Value {
    let path = inclusion_path(index, 16, |at| node(journal, at)).unwrap();
    json!({ "lsn": index + 1, "size": 16, "path": hexes(&path) })
}

fn consistency(journal: &Journal, old: u64) -> Value {
    let path = consistency_path(old, 16, |at| node(journal, at)).unwrap();
    let old_root = journal.head(usize::try_from(old).unwrap()).root;
    json!({ "old": old, "new": 16, "old_root": hex(&old_root), "path": hexes(&path) })
}

/// What stands at a place of a tampered journal.
#[derive(Clone)]
enum At {
    Entry(usize),
    Bytes(Vec<u8>),
}

fn tampered(journal: &Journal) -> Vec<Value> {
    let whole: Vec<At> = (1..=16).map(At::Entry).collect();
    let mut copies = Vec::new();
    let mut add = |name: &str, places: Vec<At>, bad_lsn: u64| {
        copies.push(copy(journal, name, &places, bad_lsn));
    };
    // None is the last byte.
    let flip = |lsn: usize, at: Option<usize>| {
        let mut bytes = journal.records[lsn - 1].clone();
        let at = at.unwrap_or(bytes.len() - 1);
        bytes[at] ^= 1;
        let mut places = whole.clone();
        places[lsn - 1] = At::Bytes(bytes);
        places
    };
    // Offsets of the layout; those behind the reference are for an entry without one.
    for (name, lsn, at) in [
        ("version", 1, Some(0)),
        ("kind", 3, Some(1)),
        ("flags", 4, Some(3)),
        ("lsn", 5, Some(11)),
        ("time", 7, Some(19)),
        ("id", 8, Some(20)),
        ("key", 2, Some(36)),
        ("reference length", 6, Some(69)),
        ("reference", 7, Some(70)),
        ("corrects", 9, Some(70)),
        ("price version", 10, Some(89)),
        ("cost", 14, Some(105)),
        ("leg count", 13, Some(107)),
        ("leg account", 1, Some(108)),
        ("leg asset", 3, Some(125)),
        ("leg amount", 9, Some(133)),
        ("leg balance", 10, Some(141)),
        ("previous hash", 12, None),
        ("last entry", 16, Some(19)),
        ("last entry's previous hash", 16, None),
    ] {
        add(&format!("one bit of the {name}"), flip(lsn, at), u64::try_from(lsn).unwrap());
    }
    add("entry dropped", [&whole[..6], &whole[7..]].concat(), 7);
    let mut swapped = whole.clone();
    swapped.swap(3, 10);
    add("two entries swapped", swapped, 4);
    add("entry repeated", [&whole[..9], &whole[8..]].concat(), 10);
    add("end cut off", whole[..14].to_vec(), 15);
    let forged = |keep: usize, number: u8| {
        let mut forged = Journal::default();
        journal.records[..keep].iter().for_each(|bytes| forged.adopt(bytes));
        forged.post(draft(
            number,
            ledger::Kind::Adjust,
            money::Asset::Test,
            &[(super::DAVE, 5), (super::ALICE, -5)],
        ));
        forged
    };
    let inserted = At::Bytes(forged(9, 99).records[9].clone());
    add("entry put in, hashed into the chain", [&whole[..9], &[inserted], &whole[9..]].concat(), 10);
    let mut rewritten = forged(13, 14);
    rewritten.post(capture(15, money::Asset::Usdc, super::BOB, 1, 0));
    rewritten.post(super::income(16, 15, 15, &[(money::Asset::Usdc, "gpt-x", 1)]));
    let other_end = rewritten.records[13..].iter().cloned().map(At::Bytes);
    add(
        "end rewritten, hashed anew; only the head over 16 tells",
        [whole[..13].to_vec(), other_end.collect()].concat(),
        16,
    );
    copies
}

fn copy(journal: &Journal, name: &str, places: &[At], bad_lsn: u64) -> Value {
    let mut audit = audit();
    let mut listed = Vec::new();
    for (lsn, at) in (1..).zip(places) {
        let (bytes, value) = match at {
            At::Entry(number) => (journal.records[*number - 1].clone(), json!(number)),
            At::Bytes(bytes) => (bytes.clone(), json!(hex(bytes))),
        };
        audit.feed(lsn, &bytes);
        listed.push(value);
    }
    let finding = audit.finish().first_bad().unwrap();
    assert_eq!(finding.lsn, bad_lsn, "{name}: {finding}");
    json!({ "name": name, "journal": listed, "bad_lsn": bad_lsn, "problem": finding.problem.to_string() })
}
