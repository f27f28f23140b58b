//! Money that goes back over Lightning: each step and its entry are one write, an account has one open at a time, and
//! the check of a store finds what does not fit.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "shared with the tests of power cuts")]
#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use ledger::{AccountId, Chart, Kind};
use redb::{Database, ReadableTable, TableDefinition};
use store::{
    CheckOptions, Committed, Finding, Lot, Op, Options, Payment, Payout, PayoutProblem, PayoutState, Store,
    StoreError, Taken, check,
};
use support::business::{NOW_MS, draft, payment};
use support::payouts::{begins, failed, paid, payout};

const PAYER: AccountId = AccountId([1; 16]);
const KEY: [u8; 32] = [5; 32];
const HASH: [u8; 32] = [0xaa; 32];
const PAYOUTS: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("payouts");
const OPEN_PAYOUTS: TableDefinition<'static, &[u8; 16], &[u8; 32]> = TableDefinition::new("open_payouts");
const LOTS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("lots");

fn opened(folder: &Path) -> Store {
    Store::open(folder, Options { reserve_bytes: 4096, ..Options::new([7; 16]) }).unwrap()
}

fn commit(store: &Store, op: Op) -> Result<Committed, StoreError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.commit(op))
}

/// 1000 units for 20 000 msat.
fn deposit(key: [u8; 32]) -> Op {
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    let rail = Chart::RailClearing("lightning".into());
    let entry = draft(Kind::Deposit, id, key, &[(rail.id(), -1000), (PAYER, 1000)]);
    let payment = Payment { rail: "lightning".into(), received_msat: Some(20_000), ..payment(PAYER, 1000) };
    Op::Deposit { key, payment, entry }
}

fn balance(store: &Store, account: AccountId) -> i64 {
    let rows = store.reader().balances().unwrap();
    rows.iter().find(|row| row.account == account).map_or(0, |row| row.amount.units())
}

fn half() -> Vec<Taken> {
    vec![Taken { key: KEY, msat: 10_000, credit: 500 }]
}

fn findings(folder: &Path, now_ms: u64) -> Vec<Finding> {
    check(folder, &CheckOptions::new(now_ms)).unwrap().findings
}

#[test]
fn what_is_paid_is_gone_and_what_was_not_needed_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    commit(&store, deposit(KEY)).unwrap();
    assert_eq!(store.reader().lots(PAYER).unwrap(), [Lot::new(KEY, 1000, 20_000)]);
    let wanted = payout(PAYER, half());
    commit(&store, begins(HASH, wanted.clone())).unwrap();
    assert_eq!((balance(&store, PAYER), balance(&store, Chart::RefundPayable.id())), (500, 500));
    // The same invoice, and another one of the same account.
    for hash in [HASH, [0xbb; 32]] {
        assert_eq!(commit(&store, begins(hash, wanted.clone())), Err(StoreError::Conflict));
    }
    drop(store);
    let store = opened(folder.path());
    let open = store.reader().open_payouts().unwrap();
    assert_eq!((open.len(), open[0].0, open[0].1.held()), (1, HASH, 500));
    assert_eq!(store.reader().open_payout(PAYER).unwrap(), Some(HASH));
    let spent = vec![Taken { key: KEY, msat: 9_000, credit: 450 }];
    commit(&store, paid(HASH, &wanted, spent.clone())).unwrap();
    assert_eq!((balance(&store, PAYER), balance(&store, Chart::RefundPayable.id())), (550, 0));
    let ended = store.reader().payout(&HASH).unwrap().unwrap();
    assert_eq!((ended.state, ended.charged, ended.invoice.as_str()), (PayoutState::Paid, 450, ""));
    let lot = Lot { back_credit: 450, back_msat: 9_000, ..Lot::new(KEY, 1000, 20_000) };
    assert_eq!(store.reader().lots(PAYER).unwrap(), [lot]);
    for again in [paid(HASH, &wanted, spent), failed(HASH, &wanted), begins(HASH, wanted)] {
        assert_eq!(commit(&store, again), Err(StoreError::Conflict), "it has ended");
    }
    assert_eq!(store.reader().open_payout(PAYER).unwrap(), None);
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
}

#[test]
fn what_failed_is_back_and_another_may_begin() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    commit(&store, deposit(KEY)).unwrap();
    let wanted = payout(PAYER, half());
    commit(&store, begins(HASH, wanted.clone())).unwrap();
    commit(&store, failed(HASH, &wanted)).unwrap();
    assert_eq!((balance(&store, PAYER), balance(&store, Chart::RefundPayable.id())), (1000, 0));
    assert_eq!(store.reader().lots(PAYER).unwrap(), [Lot::new(KEY, 1000, 20_000)]);
    commit(&store, begins([0xbb; 32], wanted)).unwrap();
    // What is decided is forgotten when its invoice is long over, and what is not decided never.
    commit(&store, Op::Sweep { now_ms: NOW_MS + 30 * 24 * 3_600_000 }).unwrap();
    let left: Vec<_> = store.reader().payouts().unwrap().into_iter().map(|(hash, _)| hash).collect();
    assert_eq!(left, [[0xbb; 32]]);
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
    let created_ms = NOW_MS;
    let stale = Finding::Payout { hash: [0xbb; 32], problem: PayoutProblem::Stale { created_ms } };
    let late = findings(folder.path(), NOW_MS + 3_600_001);
    assert!(late == [stale] && late[0].is_open_question(), "{late:?}");
}

#[test]
fn the_newest_deposits_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    for key in 1..=66 {
        commit(&store, deposit([key; 32])).unwrap();
    }
    let keys: Vec<u8> = store.reader().lots(PAYER).unwrap().iter().map(|lot| lot.key[0]).collect();
    assert_eq!(keys, (3..=66).collect::<Vec<u8>>());
}

/// Each kind of damage is found.
#[test]
fn a_check_finds_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    commit(&store, deposit(KEY)).unwrap();
    commit(&store, begins(HASH, payout(PAYER, half()))).unwrap();
    drop(store);
    let file = folder.path().join("farthing.redb");
    let sound = std::fs::read(&file).unwrap();
    let damaged = |change: &dyn Fn(&redb::WriteTransaction)| {
        let db = Database::open(&file).unwrap();
        let writing = db.begin_write().unwrap();
        change(&writing);
        writing.commit().unwrap();
        drop(db);
        let found = findings(folder.path(), NOW_MS);
        std::fs::write(&file, &sound).unwrap();
        found
    };
    let row = |change: &dyn Fn(&mut Payout), hash: [u8; 32]| {
        damaged(&|writing| {
            let mut table = writing.open_table(PAYOUTS).unwrap();
            let mut payout: Payout =
                serde_json::from_slice(table.get(&HASH).unwrap().unwrap().value()).unwrap();
            change(&mut payout);
            table.remove(&HASH).unwrap();
            table.insert(&hash, serde_json::to_vec(&payout).unwrap().as_slice()).unwrap();
        })
    };
    let about = |hash, problem| Finding::Payout { hash, problem };
    let open = PayoutState::Open;
    let nobody = row(&|_| {}, [0xcc; 32]);
    assert!(nobody.contains(&about([0xcc; 32], PayoutProblem::NoBegin)), "{nobody:?}");
    let ended = row(&|payout| payout.state = PayoutState::Failed, HASH);
    assert!(ended.contains(&about(HASH, PayoutProblem::End(PayoutState::Failed))), "{ended:?}");
    let less = row(&|payout| payout.taken[0].credit = 499, HASH);
    assert_eq!(less, [Finding::Payable { asset: 1, held: 499, kept: 500 }]);
    let unknown = damaged(&|writing| {
        writing.open_table(OPEN_PAYOUTS).unwrap().remove(&PAYER.0).unwrap();
    });
    assert_eq!(unknown, [about(HASH, PayoutProblem::Account(open))]);
    let lots = damaged(&|writing| {
        let lot = Lot { back_msat: 20_001, ..Lot::new(KEY, 1000, 20_000) };
        let rows = serde_json::to_vec(&[lot]).unwrap();
        writing.open_table(LOTS).unwrap().insert(&PAYER.0, rows.as_slice()).unwrap();
    });
    assert_eq!(lots, [Finding::Lots { account: PAYER }]);
}

#[test]
fn an_invoice_is_not_printed() {
    let text = format!("{:?}", begins(HASH, payout(PAYER, half())));
    assert!(text.contains("invoice hidden") && !text.contains("lnbcrt1"), "{text}");
}
