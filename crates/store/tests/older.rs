//! A store that the version before wrote: schema 1, without names, tree, expiries and facts by entry.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "shared with the tests of power cuts")]
#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use ledger::{AccountId, Chart, Draft, Entry, Kind, Leg, merkle};
use money::Amount;
use redb::{Database, TableDefinition};
use store::{CheckOptions, Op, Options, PaymentState, Store, check};
use support::business::{NOW_MS, draft, payment};
use support::verdict::books_in_order;

const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
const JOURNAL: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("journal");
const BY_ID: TableDefinition<'static, &[u8; 16], u64> = TableDefinition::new("by_id");
const FACTS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("facts");
const BALANCES: TableDefinition<'static, &[u8; 18], i64> = TableDefinition::new("balances");
const PAYMENTS: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("payments");
const KEYS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("keys");
const REVOKED: TableDefinition<'static, &[u8; 16], u64> = TableDefinition::new("revoked");

const PAYER: AccountId = AccountId([1; 16]);
const KEY: [u8; 32] = [5; 32];
/// As the version before wrote a payment: without the asking of a facilitator.
const PAYMENT: &str = r#"{"state":"served","fingerprint":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],
"account":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"asset":1,"amount":100,"rail":"x402:eip155:84532","payer":"0x","reference":"0xabc",
"created_ms":1,"valid_before_s":1795000060,"outcome":{"status":200,"headers":[],"call":[2,2,2,2,2,2,2,2,2,2,2,2,2,2,2,2]}}"#;

/// Writes a store as the version before did: a payment and a call, whose income had a leg of its own.
fn write_schema_1(folder: &Path) {
    let rail = Chart::RailClearing("x402:eip155:84532".into());
    let mut deposit = draft(Kind::Deposit, [5; 16], KEY, &[(rail.id(), -100), (PAYER, 100)]);
    let mut call =
        draft(Kind::Capture, [2; 16], [0; 32], &[(PAYER, -30), (Chart::Usage("m".into()).id(), 30)]);
    let db = Database::create(folder.join("farthing.redb")).unwrap();
    let writing = db.begin_write().unwrap();
    {
        let mut journal = writing.open_table(JOURNAL).unwrap();
        let mut by_id = writing.open_table(BY_ID).unwrap();
        let mut balances = writing.open_table(BALANCES).unwrap();
        let mut previous = [0; 32];
        for (lsn, draft) in [(1, &mut deposit), (2, &mut call)] {
            let entry = placed(draft, lsn, previous);
            for leg in &entry.legs {
                let mut key = [0; 18];
                key[..2].copy_from_slice(&leg.asset.to_be_bytes());
                key[2..].copy_from_slice(&leg.account.0);
                balances.insert(&key, leg.balance_after.units()).unwrap();
            }
            previous = Entry::hash_of(&entry.bytes());
            journal.insert(lsn, entry.bytes().as_slice()).unwrap();
            by_id.insert(&entry.draft.id, lsn).unwrap();
        }
        let mut meta = writing.open_table(META).unwrap();
        meta.insert("store_id", [9; 16].as_slice()).unwrap();
        meta.insert("epoch", 1u64.to_be_bytes().as_slice()).unwrap();
        meta.insert("next_lsn", 3u64.to_be_bytes().as_slice()).unwrap();
        meta.insert("last_hash", previous.as_slice()).unwrap();
        let facts = br#"{"model":"m"}"#.as_slice();
        writing.open_table(FACTS).unwrap().insert(&[2; 16], facts).unwrap();
        writing.open_table(PAYMENTS).unwrap().insert(&KEY, PAYMENT.as_bytes()).unwrap();
        let key =
            br#"{"account":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"label":"k","created_ms":1,"expires_s":null}"#;
        writing.open_table(KEYS).unwrap().insert(&[3; 16], key.as_slice()).unwrap();
        writing.open_table(REVOKED).unwrap().insert(&[4; 16], 7).unwrap();
    }
    writing.commit().unwrap();
}

/// Of the two entries here the payer's balance is 100, then 70; every other account is used once.
fn placed(draft: &mut Draft, lsn: u64, previous: [u8; 32]) -> Entry {
    let draft = draft.clone().checked().unwrap();
    let after =
        |account, amount: Amount| if account == PAYER && lsn == 2 { Amount::from_units(70) } else { amount };
    let legs = draft.legs.iter().map(|leg| Leg {
        asset: leg.asset,
        account: leg.account,
        amount: leg.amount,
        balance_after: after(leg.account, leg.amount),
    });
    let legs = legs.collect();
    Entry { draft: Draft { legs: Vec::new(), ..draft }, lsn, legs, previous }
}

#[test]
fn a_store_of_the_version_before_opens_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    write_schema_1(folder.path());
    let file = folder.path().join("farthing.redb");
    let before = std::fs::read(&file).unwrap();
    let options = CheckOptions::new(NOW_MS);
    assert_eq!(check(folder.path(), &options).unwrap().findings, vec![]);
    assert!(before == std::fs::read(&file).unwrap(), "a check upgrades nothing");
    let store = Store::open(folder.path(), Options::new([7; 16])).unwrap();
    let reader = store.reader();
    assert_eq!((reader.store_id().unwrap(), reader.epoch().unwrap()), ([9; 16], 1));
    let mut names: Vec<String> = reader.names().unwrap().into_iter().map(|(_, name)| name).collect();
    names.sort();
    assert_eq!(names, ["rail_clearing:x402:eip155:84532", "usage:m"]);
    assert_eq!(reader.payment(&KEY).unwrap().unwrap().state, PaymentState::Served);
    assert_eq!(reader.facts(&[2; 16]).unwrap().unwrap(), br#"{"model":"m"}"#);
    assert_eq!((reader.keys().unwrap().len(), reader.revoked().unwrap()), (1, vec![([4; 16], 7)]));
    let entries = books_in_order(reader);
    let leaves: Vec<_> = entries.iter().map(|entry| merkle::leaf_hash(&entry.bytes())).collect();
    assert_eq!(reader.unsigned_head(0).unwrap().root, merkle::node_hash(&leaves[0], &leaves[1]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let intent = Op::Intent { key: KEY, payment: payment(PAYER, 1) };
    assert!(runtime.block_on(store.commit(intent)).is_err(), "a payment of before is known");
    let rail = Chart::RailClearing("operator".into());
    let entry = draft(Kind::Deposit, [6; 16], [0; 32], &[(rail.id(), -1), (PAYER, 1)]);
    let lsn = runtime.block_on(store.commit(Op::Post { entry, names: vec![rail] })).unwrap().lsn;
    assert_eq!(lsn, 3);
    // What it had planned to forget is forgotten in time.
    let week_ms = 7 * 24 * 3_600_000;
    let over_ms = 1_795_000_060_000 + week_ms + 1000;
    runtime.block_on(store.commit(Op::Sweep { now_ms: over_ms })).unwrap();
    assert_eq!(reader.payment(&KEY).unwrap(), None);
    drop(store);
    assert_eq!(check(folder.path(), &options).unwrap().findings, vec![]);
}

/// Schema 2 had everything but the table of open calls; what it had is left as it is.
#[test]
fn a_store_of_schema_2_gets_the_table_it_lacks() {
    const OPEN_CALLS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("open_calls");
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rail = Chart::RailClearing("operator".into());
    let post = |id: u8| {
        let entry = draft(Kind::Deposit, [id; 16], [0; 32], &[(rail.id(), -1), (PAYER, 1)]);
        Op::Post { entry, names: vec![rail.clone()] }
    };
    let store = Store::open(folder.path(), Options::new([7; 16])).unwrap();
    for id in 1..=3 {
        runtime.block_on(store.commit(post(id))).unwrap();
    }
    // Its journal does not begin at the first entry: the tree must not be made anew from what is left.
    store.roll(2, &folder.path().join("segments")).unwrap();
    let head = store.reader().unsigned_head(0).unwrap();
    drop(store);
    let db = Database::open(folder.path().join("farthing.redb")).unwrap();
    let writing = db.begin_write().unwrap();
    assert!(writing.delete_table(OPEN_CALLS).unwrap());
    writing.open_table(META).unwrap().insert("schema", 2u32.to_be_bytes().as_slice()).unwrap();
    writing.commit().unwrap();
    drop(db);
    let store = Store::open(folder.path(), Options::new([7; 16])).unwrap();
    assert_eq!(store.reader().open_calls().unwrap(), vec![]);
    assert_eq!(store.reader().unsigned_head(0).unwrap(), head);
    assert_eq!(runtime.block_on(store.commit(post(4))).unwrap().lsn, 4);
    drop(store);
    assert_eq!(check(folder.path(), &CheckOptions::new(NOW_MS)).unwrap().findings, vec![]);
}
