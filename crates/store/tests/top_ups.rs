//! Balance that is bought over a rail: one payment is one credit, a code is called up once, what goes back is what is left,
//! and the check of a store finds what does not fit.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "shared with the tests of power cuts")]
#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use ledger::{AccountId, Chart, Kind};
use redb::{Database, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use store::{
    Asking, CheckOptions, CodeStep, Committed, Finding, LotKind, NotRefundable, Op, Options, Parked,
    ParkedWhy, Payment, PaymentState, Redeemed, RedemptionCode, RefundState, Store, StoreError, TopUpProblem,
    TopUpRefund, TopUpState, TopUpStep, check,
};
use support::business::{ASSET, NOW_MS, draft, payment};
use support::top_ups::{
    FEN, approves, begins, credits, fails, id_of, moves, order, paid, refund, rejects, requests,
};

const PAYER: AccountId = AccountId([1; 16]);
const ORDER: [u8; 16] = [3; 16];
const KEY: [u8; 32] = [5; 32];
const OTHER: [u8; 32] = [6; 32];

fn opened(folder: &Path) -> Store {
    Store::open(folder, Options { reserve_bytes: 4096, ..Options::new([7; 16]) }).unwrap()
}

fn commit(store: &Store, op: Op) -> Result<Committed, StoreError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.commit(op))
}

fn balance(store: &Store, account: AccountId) -> i64 {
    let rows = store.reader().balances().unwrap();
    rows.iter().find(|row| row.account == account).map_or(0, |row| row.amount.units())
}

/// What is left of each lot, and of what has none.
fn left(store: &Store) -> (Vec<(LotKind, i64)>, i64) {
    let book = store.reader().credit_lots(PAYER, ASSET).unwrap().unwrap();
    (book.lots.iter().map(|lot| (lot.kind, lot.left)).collect(), book.other)
}

fn findings(folder: &Path, now_ms: u64) -> Vec<Finding> {
    check(folder, &CheckOptions::new(now_ms)).unwrap().findings
}

/// A call of the payer.
fn charges(id: u8, units: i64) -> Op {
    let legs = [(PAYER, -units), (Chart::UsageClearing.id(), units)];
    Op::Capture {
        id: [id; 16],
        entry: Some(draft(Kind::Capture, [id; 16], [0; 32], &legs)),
        facts: b"{}".to_vec(),
        served: None,
        settles: None,
        income: Some(Chart::Usage("m".into())),
        idempotent: vec![],
    }
}

fn bought(store: &Store) {
    let order = order(PAYER, 1000, 100);
    commit(store, begins(ORDER, order.clone())).unwrap();
    commit(store, credits(ORDER, KEY, &order)).unwrap();
}

/// FIN-20, FIN-21, FIN-25, RAIL-10: key, lots, entry and order are one write, and none of them happens twice.
#[test]
fn one_payment_is_one_credit() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let order = order(PAYER, 1000, 100);
    assert_eq!(commit(&store, credits(ORDER, KEY, &order)), Err(StoreError::Conflict), "no such order");
    commit(&store, begins(ORDER, order.clone())).unwrap();
    assert_eq!(commit(&store, begins(ORDER, order.clone())), Err(StoreError::Conflict));
    let shown = TopUpStep::Shown { qr: "https://qr.example/1".into() };
    commit(&store, Op::TopUp { id: ORDER, step: shown.clone() }).unwrap();
    commit(&store, credits(ORDER, KEY, &order)).unwrap();
    for again in [credits(ORDER, KEY, &order), credits(ORDER, OTHER, &order), begins(ORDER, order.clone())] {
        assert_eq!(commit(&store, again), Err(StoreError::Conflict));
    }
    let late = Op::TopUp { id: ORDER, step: TopUpStep::Asked(Asking::default()) };
    for step in [late, Op::TopUp { id: ORDER, step: shown }, Op::TopUp { id: ORDER, step: TopUpStep::Close }]
    {
        assert_eq!(commit(&store, step), Err(StoreError::Conflict), "it has ended");
    }
    let known = store.reader().top_up(&ORDER).unwrap().unwrap();
    assert_eq!((known.state, known.key, known.qr.as_str()), (TopUpState::Credited, Some(KEY), ""));
    assert_eq!(store.reader().payment(&KEY).unwrap().unwrap().state, PaymentState::Served);
    assert_eq!(balance(&store, PAYER), 1100);
    let fen = i64::try_from(FEN).unwrap() * 10_000_000;
    assert_eq!(balance(&store, Chart::RailClearing("alipay".into()).id()), -fen);
    assert_eq!(balance(&store, Chart::Promo.id()), -100);
    assert_eq!(left(&store), (vec![(LotKind::Purchased, 1000), (LotKind::Bonus, 100)], 0));
    // The same payment cannot come in another way (RAIL-10).
    let rail = Chart::RailClearing("alipay".into());
    let entry = draft(Kind::Deposit, [9; 16], KEY, &[(rail.id(), -7), (PAYER, 7)]);
    let payment = Payment { rail: "alipay".into(), ..payment(PAYER, 7) };
    assert_eq!(commit(&store, Op::Deposit { key: KEY, payment, entry }), Err(StoreError::Conflict));
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
}

/// Whoever pays after the order's end is credited all the same; what nobody pays is forgotten.
#[test]
fn an_order_that_is_closed_may_still_be_paid() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let order = order(PAYER, 1000, 0);
    for id in [ORDER, [4; 16]] {
        commit(&store, begins(id, order.clone())).unwrap();
        commit(&store, Op::TopUp { id, step: TopUpStep::Close }).unwrap();
        assert_eq!(store.reader().top_up(&id).unwrap().unwrap().state, TopUpState::Closed);
    }
    commit(&store, credits(ORDER, KEY, &order)).unwrap();
    commit(&store, Op::Sweep { now_ms: NOW_MS + 40 * 24 * 3_600_000 }).unwrap();
    let orders = store.reader().top_ups().unwrap();
    assert_eq!(
        orders.iter().map(|(id, order)| (*id, order.state)).collect::<Vec<_>>(),
        [(ORDER, TopUpState::Credited)]
    );
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
}

/// FIN-10: nobody is credited for another sum, or twice; the money is in suspense.
#[test]
fn what_was_not_asked_for_waits_for_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let parks = |key: [u8; 32], why| {
        let parked = Box::new(Parked { paid: paid(ORDER, 1), why, at_ms: NOW_MS });
        let rail = Chart::RailClearing("alipay".into());
        let entry =
            draft(Kind::Adjust, id_of(&key), [0; 32], &[(rail.id(), -10), (Chart::Suspense.id(), 10)]);
        Op::TopUp { id: ORDER, step: TopUpStep::Park { key, parked, entry } }
    };
    let order = order(PAYER, 1000, 0);
    commit(&store, begins(ORDER, order.clone())).unwrap();
    commit(&store, parks(KEY, ParkedWhy::OtherAmount)).unwrap();
    assert_eq!(commit(&store, parks(KEY, ParkedWhy::OtherAmount)), Err(StoreError::Conflict));
    for again in [credits(ORDER, KEY, &order), credits(ORDER, OTHER, &order)] {
        assert_eq!(commit(&store, again), Err(StoreError::Conflict));
    }
    assert_eq!(store.reader().top_up(&ORDER).unwrap().unwrap().state, TopUpState::Parked);
    assert_eq!((balance(&store, PAYER), balance(&store, Chart::Suspense.id())), (0, 10));
    // Of an order that was credited nothing changes.
    commit(&store, begins([4; 16], order.clone())).unwrap();
    commit(&store, credits([4; 16], OTHER, &order)).unwrap();
    let mut excess = parks([8; 32], ParkedWhy::Excess);
    if let Op::TopUp { id, .. } = &mut excess {
        *id = [4; 16];
    }
    commit(&store, excess).unwrap();
    let credited = store.reader().top_up(&[4; 16]).unwrap().unwrap();
    assert_eq!((credited.state, credited.key), (TopUpState::Credited, Some(OTHER)));
    assert_eq!(store.reader().parked().unwrap().len(), 2);
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
}

/// FIN-31, 32: charges are taken from the lots before anything else happens to them, in the order of the journal.
#[test]
fn lots_follow_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    let rail = Chart::RailClearing("operator".into());
    let credit = |id: u8, units: i64| {
        let legs = [(rail.id(), -units), (PAYER, units)];
        let entry = draft(Kind::Deposit, [id; 16], [0; 32], &legs);
        Op::Post { entry, names: vec![rail.clone()] }
    };
    commit(&store, credit(20, 50)).unwrap();
    bought(&store);
    assert_eq!(left(&store).1, 50, "what was there before");
    commit(&store, charges(30, 1000)).unwrap();
    commit(&store, credit(21, 500)).unwrap();
    commit(&store, charges(31, 40)).unwrap();
    commit(&store, Op::Flush).unwrap();
    assert_eq!(left(&store), (vec![(LotKind::Purchased, 0), (LotKind::Bonus, 100)], 510));
    drop(store);
    let store = opened(folder.path());
    commit(&store, credit(22, 1)).unwrap();
    assert_eq!(left(&store).1, 511, "also after a restart");
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
}

fn refundable(store: &Store) -> Result<TopUpRefund, NotRefundable> {
    let lots = store.reader().credit_lots(PAYER, ASSET).unwrap().unwrap();
    lots.refundable(&KEY, NOW_MS)?;
    Ok(refund(&lots, &order(PAYER, 1000, 100), KEY).unwrap())
}

/// FIN-34, 35: what is left in proportion, asked for, agreed to and moved once each; the bonus goes with it.
#[test]
fn what_is_left_goes_back_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    bought(&store);
    let stale = refundable(&store).unwrap();
    commit(&store, charges(30, 250)).unwrap();
    let id = TopUpRefund::id(&KEY, 0);
    assert_eq!(commit(&store, requests(id, stale)), Err(StoreError::Conflict), "a call was faster");
    commit(&store, Op::Flush).unwrap();
    let wanted = refundable(&store).unwrap();
    assert_eq!((wanted.credit, wanted.bonus, wanted.minor), (750, 100, 2700));
    commit(&store, requests(id, wanted.clone())).unwrap();
    for again in [
        requests(id, wanted.clone()),
        requests([9; 16], wanted.clone()),
        moves(id, &wanted),
        fails(id, &wanted),
    ] {
        assert_eq!(commit(&store, again), Err(StoreError::Conflict), "requested once, and not agreed to");
    }
    assert_eq!((balance(&store, PAYER), balance(&store, Chart::RefundPayable.id())), (0, 850));
    commit(&store, approves(id)).unwrap();
    for again in [approves(id), rejects(id, &wanted)] {
        assert_eq!(commit(&store, again), Err(StoreError::Conflict), "agreed to");
    }
    drop(store);
    let late = findings(folder.path(), NOW_MS + 3_600_001);
    assert!(matches!(&late[..], [one] if one.is_open_question()), "{late:?}");
    let store = opened(folder.path());
    commit(&store, moves(id, &wanted)).unwrap();
    for again in [moves(id, &wanted), fails(id, &wanted), requests(id, wanted.clone())] {
        assert_eq!(commit(&store, again), Err(StoreError::Conflict), "moved");
    }
    assert_eq!(store.reader().top_up_refund(&id).unwrap().unwrap().state, RefundState::Moved);
    assert_eq!((balance(&store, PAYER), balance(&store, Chart::RefundPayable.id())), (0, 0));
    assert_eq!(balance(&store, Chart::RailClearing("alipay".into()).id()), -900 * 10_000_000);
    assert_eq!((balance(&store, Chart::Promo.id()), left(&store).1), (0, 0));
    assert_eq!(refundable(&store), Err(NotRefundable::NothingLeft));
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
}

#[test]
fn what_did_not_go_back_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    bought(&store);
    let wanted = refundable(&store).unwrap();
    let first = TopUpRefund::id(&KEY, 0);
    commit(&store, requests(first, wanted.clone())).unwrap();
    commit(&store, rejects(first, &wanted)).unwrap();
    assert_eq!((balance(&store, PAYER), refundable(&store)), (1100, Ok(wanted.clone())));
    assert_eq!(commit(&store, requests(first, wanted.clone())), Err(StoreError::Conflict), "its id is taken");
    let second = TopUpRefund::id(&KEY, 1);
    commit(&store, requests(second, wanted.clone())).unwrap();
    commit(&store, approves(second)).unwrap();
    commit(&store, fails(second, &wanted)).unwrap();
    let known = store.reader().top_up_refund(&second).unwrap().unwrap();
    assert_eq!((known.state, known.reason.as_str()), (RefundState::Failed, "no"));
    assert_eq!(left(&store), (vec![(LotKind::Purchased, 1000), (LotKind::Bonus, 100)], 0));
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
}

fn redeems(hash: [u8; 32], by: AccountId, at_ms: u64) -> Op {
    let entry = draft(Kind::Deposit, id_of(&hash), [0; 32], &[(Chart::Promo.id(), -70), (by, 70)]);
    Op::Codes(CodeStep::Redeem { hash, by: Redeemed { account: by.0, at_ms }, entry })
}

fn code(expires_s: Option<u64>) -> RedemptionCode {
    RedemptionCode {
        asset: ASSET.code(),
        credit: 70,
        label: "spring".into(),
        created_ms: NOW_MS,
        expires_s,
        redeemed: None,
    }
}

/// FIN-33: a bonus, for whoever is first, and in time.
#[test]
fn a_code_is_called_up_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    assert_eq!(commit(&store, redeems(KEY, PAYER, NOW_MS)), Err(StoreError::Conflict), "nobody made it");
    let made = || Op::Codes(CodeStep::Make(vec![(KEY, code(None)), (OTHER, code(Some(NOW_MS / 1000)))]));
    commit(&store, made()).unwrap();
    assert_eq!(commit(&store, made()), Err(StoreError::Conflict));
    assert_eq!(commit(&store, redeems(OTHER, PAYER, NOW_MS + 1000)), Err(StoreError::Conflict), "it is over");
    commit(&store, redeems(KEY, PAYER, NOW_MS)).unwrap();
    for by in [PAYER, AccountId([2; 16])] {
        assert_eq!(commit(&store, redeems(KEY, by, NOW_MS)), Err(StoreError::Conflict), "it was called up");
    }
    assert_eq!((balance(&store, PAYER), balance(&store, Chart::Promo.id())), (70, -70));
    assert_eq!(left(&store), (vec![(LotKind::Bonus, 70)], 0));
    let lots = store.reader().credit_lots(PAYER, ASSET).unwrap().unwrap();
    assert_eq!(lots.refundable(&KEY, NOW_MS), Err(NotRefundable::Given));
    drop(store);
    assert_eq!(findings(folder.path(), NOW_MS), vec![]);
}

/// Each kind of damage is found.
#[test]
fn a_check_finds_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path());
    bought(&store);
    let id = TopUpRefund::id(&KEY, 0);
    commit(&store, requests(id, refundable(&store).unwrap())).unwrap();
    commit(&store, Op::Codes(CodeStep::Make(vec![(OTHER, code(None))]))).unwrap();
    drop(store);
    let file = folder.path().join("farthing.redb");
    let sound = std::fs::read(&file).unwrap();
    let found = |table: &'static str, key: &[u8], change: &dyn Fn(&mut Value)| {
        let db = Database::open(&file).unwrap();
        let writing = db.begin_write().unwrap();
        match key.len() {
            16 => rewrite::<16>(&writing, table, key, change),
            _ => rewrite::<32>(&writing, table, key, change),
        }
        writing.commit().unwrap();
        drop(db);
        let found = findings(folder.path(), NOW_MS);
        std::fs::write(&file, &sound).unwrap();
        found
    };
    let lots = Finding::Lots { account: PAYER };
    let top_up = |id, problem| Finding::TopUp { id, problem };
    let of_order = top_up(ORDER, TopUpProblem::Order(TopUpState::Credited));
    let of_refund = |state| top_up(id, TopUpProblem::Refund(state));
    assert_eq!(found("top_ups", &ORDER, &|row| row["credit"] = json!(999)), [of_order]);
    let reopened = found("top_ups", &ORDER, &|row| (row["state"], row["key"]) = (json!("open"), Value::Null));
    assert_eq!(reopened, std::slice::from_ref(&lots), "a lot without an order");
    let moved = found("top_up_refunds", &id, &|row| row["state"] = json!("moved"));
    assert!(moved.contains(&of_refund(RefundState::Moved)), "{moved:?}");
    let forgotten = found("credit_lots", &PAYER.0, &|row| row["lots"][0]["refund"] = Value::Null);
    assert_eq!(forgotten, [of_refund(RefundState::Requested)]);
    let more = found("credit_lots", &PAYER.0, &|row| row["lots"][0]["left"] = json!(1001));
    assert_eq!(more, std::slice::from_ref(&lots));
    let less = found("credit_lots", &PAYER.0, &|row| row["other"] = json!(-1));
    assert_eq!(less, [lots], "less than the balance");
    let by = json!({"account": PAYER.0, "at_ms": NOW_MS});
    let called_up = found("codes", &OTHER, &|row| row["redeemed"] = by.clone());
    assert_eq!(called_up, [top_up(id_of(&OTHER), TopUpProblem::Code)]);
    let held = found("top_up_refunds", &id, &|row| row["credit"] = json!(1));
    assert!(matches!(held[..], [Finding::Payable { held: 101, kept: 1100, .. }]), "{held:?}");
}

fn rewrite<const N: usize>(
    writing: &redb::WriteTransaction,
    table: &'static str,
    key: &[u8],
    change: &dyn Fn(&mut Value),
) where
    for<'k> &'static [u8; N]: redb::Key<SelfType<'k> = &'k [u8; N]>,
{
    let table: TableDefinition<'static, &'static [u8; N], &'static [u8]> = TableDefinition::new(table);
    let mut table = writing.open_table(table).unwrap();
    let key: &[u8; N] = key.try_into().unwrap();
    let mut row: Value = serde_json::from_slice(table.get(key).unwrap().unwrap().value()).unwrap();
    change(&mut row);
    table.insert(key, row.to_string().as_bytes()).unwrap();
}
