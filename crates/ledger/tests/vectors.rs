//! `specs/vectors/ledger/entries.json`, read as a foreign implementation would read it.
#![expect(clippy::unwrap_used, reason = "helpers of a test fail by panicking")]

mod journal;

use ledger::audit::Accounts;
use ledger::merkle::{Hash, leaf_hash, verify_consistency, verify_inclusion};
use ledger::{AccountId, Audit, Checkpoint, Draft, Entry, Flags, Kind, Leg, TreeHead};
use money::Amount;
use serde_json::Value;

const FILE: &str = include_str!("../../../specs/vectors/ledger/entries.json");

fn file() -> Value {
    serde_json::from_str(FILE).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(value: &Value) -> T {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned).parse().unwrap()
}

fn amount(value: &Value) -> Amount {
    Amount::from_units(number(value))
}

/// An entry from its fields, not from its bytes.
fn entry(value: &Value) -> Entry {
    let legs = list(&value["legs"]).iter().map(|leg| Leg {
        asset: number(&leg["asset"]),
        account: AccountId(array(&leg["account"])),
        amount: amount(&leg["amount"]),
        balance_after: amount(&leg["balance_after"]),
    });
    let draft = Draft {
        kind: Kind::ALL.into_iter().find(|kind| kind.name() == value["kind"]).unwrap(),
        flags: Flags { estimated: value["estimated"].as_bool().unwrap(), ..Flags::default() },
        time_ms: number(&value["time_ms"]),
        id: array(&value["id"]),
        key: array(&value["key"]),
        reference: value["reference"].as_str().unwrap().to_owned(),
        corrects: array(&value["corrects"]),
        price_version: number(&value["price_version"]),
        cost_femto: number(&value["cost_femto"]),
        legs: Vec::new(),
    };
    Entry { draft, lsn: number(&value["lsn"]), legs: legs.collect(), previous: array(&value["previous"]) }
}

fn head(value: &Value) -> TreeHead {
    TreeHead {
        store_id: array(&value["store_id"]),
        epoch: number(&value["epoch"]),
        size: number(&value["size"]),
        root: array(&value["root"]),
        last_hash: array(&value["last_hash"]),
        time_ms: number(&value["time_ms"]),
    }
}

fn audit(file: &Value) -> Audit {
    let overdrafts = file["overdrafts"].as_object().unwrap();
    let overdrafts = overdrafts.iter().map(|(id, line)| (AccountId::from_hex(id).unwrap(), amount(line)));
    let accounts = Accounts {
        internal: list(&file["internal_accounts"]).iter().map(|id| AccountId(array(id))).collect(),
        overdrafts: overdrafts.collect(),
    };
    let mut audit = Audit::new(Checkpoint::default(), accounts);
    list(&file["heads"]).iter().for_each(|value| audit.expect(head(value)));
    audit
}

/// The file is what the code makes; see its readme for how.
#[test]
fn the_file_is_current() {
    let made: Value = serde_json::from_str(&journal::golden::golden()).unwrap();
    assert!(made == file(), "run the command in the readme and review the diff");
}

/// LED-39: fields make these bytes, bytes these fields, and every kind is there.
#[test]
fn entries_have_these_bytes_and_hashes() {
    let file = file();
    let mut kinds = Vec::new();
    for value in list(&file["entries"]) {
        let (entry, written) = (entry(value), bytes(&value["bytes"]));
        assert_eq!(entry.bytes(), written, "lsn {}", entry.lsn);
        assert_eq!(Entry::parse(&written).as_ref(), Ok(&entry));
        assert_eq!(Entry::hash_of(&written), array::<32>(&value["hash"]));
        assert_eq!(leaf_hash(&written), array::<32>(&value["leaf"]));
        kinds.push(entry.draft.kind);
    }
    assert!(kinds.len() >= 12 && Kind::ALL.into_iter().all(|kind| kinds.contains(&kind)));
}

/// LED-41.
#[test]
fn every_entry_is_in_the_tree_and_every_beginning_is_one() {
    let file = file();
    let entries = list(&file["entries"]);
    let head = head(list(&file["heads"]).last().unwrap());
    assert_eq!(head.signing_bytes(), bytes(&list(&file["heads"])[1]["signing_bytes"]));
    let path = |value: &Value| list(&value["path"]).iter().map(array).collect::<Vec<Hash>>();
    assert_eq!((list(&file["inclusion"]).len(), list(&file["consistency"]).len()), (16, 16));
    for (index, proof) in list(&file["inclusion"]).iter().enumerate() {
        let leaf = array(&entries[index]["leaf"]);
        let index = number::<u64>(&proof["lsn"]) - 1;
        assert!(verify_inclusion(&leaf, index, number(&proof["size"]), &path(proof), &head.root));
    }
    for proof in list(&file["consistency"]) {
        let (old, new) = (number(&proof["old"]), number(&proof["new"]));
        assert!(verify_consistency(old, new, &path(proof), &array(&proof["old_root"]), &head.root));
    }
}

/// LED-41, T11.
#[test]
fn the_first_bad_entry_of_each_tampered_journal_is_named() {
    let file = file();
    let entries = list(&file["entries"]);
    let read = |places: &[Value]| {
        let mut audit = audit(&file);
        for (lsn, place) in (1..).zip(places) {
            let at = place.as_u64().map(|number| usize::try_from(number).unwrap() - 1);
            audit.feed(lsn, &at.map_or_else(|| bytes(place), |at| bytes(&entries[at]["bytes"])));
        }
        audit.finish()
    };
    let whole: Vec<Value> = (1..=entries.len()).map(Value::from).collect();
    assert_eq!(read(&whole).findings, []);
    let tampered = list(&file["tampered"]);
    assert!(tampered.len() >= 20);
    for copy in tampered {
        let finding = read(list(&copy["journal"])).first_bad().unwrap();
        assert_eq!(finding.lsn, number::<u64>(&copy["bad_lsn"]), "{}", copy["name"]);
        assert_eq!(finding.problem.to_string(), copy["problem"], "{}", copy["name"]);
    }
}
