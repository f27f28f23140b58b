//! Ecash: a payer's coins are taken once, and nothing is deposited before ours are here.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "shared with the tests of power cuts")]
#[path = "support/mod.rs"]
mod support;

use std::path::Path;

use ledger::{AccountId, Chart, Kind};
use store::{
    Attempt, CashuCoin, CashuSignature, CashuState, CashuSwap, CashuWrite, CheckOptions, Committed, Op,
    Options, Payment, PaymentState, Store, StoreError, check,
};
use support::business::{NOW_MS, draft, outcome, payment};

const PAYER: AccountId = AccountId([1; 16]);
const RAIL: &str = "cashu:https://mint.example";
/// Two coins of a payer; the first names the payment.
const KEY: [u8; 32] = [5; 32];
const SECOND: [u8; 32] = [6; 32];

fn commit(store: &Store, write: CashuWrite) -> Result<Committed, StoreError> {
    commit_op(store, Op::Cashu(Box::new(write)))
}

fn commit_op(store: &Store, op: Op) -> Result<Committed, StoreError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.commit(op))
}

fn paid() -> Payment {
    Payment { rail: RAIL.into(), ..payment(PAYER, 100) }
}

fn coin(amount: u64, signed: bool) -> CashuCoin {
    let signature = CashuSignature { point: "02".repeat(33), e: "01".repeat(32), s: "02".repeat(32) };
    CashuCoin {
        keyset: "009a1f293253e41e".into(),
        amount,
        secret: format!("hush {amount}"),
        blinding: "03".repeat(32),
        signature: signed.then_some(signature),
    }
}

fn ask(key: [u8; 32], spent: &[[u8; 32]]) -> CashuWrite {
    let coins = vec![coin(2, false), coin(8, false)];
    let (mint, unit) = ("https://mint.example".to_owned(), "sat".to_owned());
    let swap = CashuSwap { mint, unit, spent: spent.to_vec(), coins, state: CashuState::Asked };
    CashuWrite::Ask { key, payment: paid(), swap }
}

fn hold(key: [u8; 32]) -> CashuWrite {
    CashuWrite::Hold { key, coins: vec![coin(2, true), coin(8, true)] }
}

fn deposit() -> Op {
    let rail = Chart::RailClearing(RAIL.into());
    let entry = draft(Kind::Deposit, [5; 16], KEY, &[(rail.id(), -100), (PAYER, 100)]);
    Op::Deposit { key: KEY, payment: paid(), entry }
}

fn options() -> Options {
    Options { reserve_bytes: 4096, ..Options::new([7; 16]) }
}

fn in_order(folder: &Path, what: &str) {
    assert_eq!(check(folder, &CheckOptions::new(NOW_MS)).unwrap().findings, vec![], "{what}");
}

#[test]
fn cashu_12_no_coin_is_taken_twice_and_none_credited_before_ours_are_here() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    assert_eq!(commit(&store, ask(KEY, &[SECOND])), Err(StoreError::Conflict), "named by a coin of another");
    commit(&store, ask(KEY, &[KEY, SECOND])).unwrap();
    for (what, again) in [
        ("the same", ask(KEY, &[KEY, SECOND])),
        ("a part", ask(SECOND, &[SECOND])),
        ("a part with another", ask([9; 32], &[[9; 32], SECOND])),
    ] {
        assert_eq!(commit(&store, again), Err(StoreError::Conflict), "{what}");
    }
    assert_eq!(store.reader().cashu_payment(&[[9; 32]]), Ok(None), "nothing of a refused one is left");
    assert_eq!(store.reader().cashu_payment(&[[9; 32], SECOND]), Ok(Some(KEY)));
    assert_eq!(store.reader().payment(&KEY).unwrap().unwrap().state, PaymentState::Intent);
    assert_eq!(commit_op(&store, deposit()), Err(StoreError::Conflict), "our coins are not here");
    // Others than those that were asked for, or without a signature.
    for coins in [
        vec![coin(2, true)],
        vec![coin(2, true), coin(8, false)],
        vec![coin(8, true), coin(2, true)],
        vec![coin(2, true), coin(16, true)],
    ] {
        assert_eq!(commit(&store, CashuWrite::Hold { key: KEY, coins }), Err(StoreError::Conflict));
    }
    commit(&store, hold(KEY)).unwrap();
    commit(&store, hold(KEY)).unwrap();
    assert_eq!(
        commit_op(&store, Op::Refused { key: KEY }),
        Err(StoreError::Conflict),
        "what is ours is not refused"
    );
    drop(store);
    in_order(folder.path(), "held, and not yet deposited");

    let store = Store::open(folder.path(), options()).unwrap();
    commit_op(&store, deposit()).unwrap();
    commit_op(&store, Op::Served { key: KEY, outcome: outcome([7; 16]) }).unwrap();
    commit_op(&store, Op::Sweep { now_ms: u64::MAX }).unwrap();
    assert!(store.reader().payment(&KEY).unwrap().is_some(), "a coin has no end, so it is never forgotten");
    assert_eq!(commit(&store, ask(SECOND, &[SECOND])), Err(StoreError::Conflict));
    drop(store);
    in_order(folder.path(), "deposited and served");
}

#[test]
fn cashu_12_what_a_mint_refuses_is_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    commit(&store, ask(KEY, &[KEY, SECOND])).unwrap();
    commit_op(&store, Op::Unknown { key: KEY }).unwrap();
    commit_op(&store, Op::Refused { key: KEY }).unwrap();
    assert_eq!(store.reader().cashu_payment(&[KEY, SECOND]), Ok(None));
    assert_eq!(store.reader().cashu_swaps().unwrap(), vec![]);
    commit(&store, ask(SECOND, &[SECOND])).unwrap();
    drop(store);
    in_order(folder.path(), "free again");
}

#[test]
fn cashu_14_coins_are_taken_out_once_and_can_be_shown_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    commit(&store, ask(KEY, &[KEY])).unwrap();
    commit(&store, ask(SECOND, &[SECOND])).unwrap();
    commit(&store, hold(KEY)).unwrap();
    let take = |export, keys: &[[u8; 32]]| CashuWrite::Take { export, keys: keys.to_vec(), at_ms: 3 };
    assert_eq!(commit(&store, take([1; 16], &[KEY, SECOND])), Err(StoreError::Conflict), "one is not here");
    let state = |key| store.reader().cashu(&key).unwrap().unwrap().state;
    assert_eq!(state(KEY), CashuState::Held, "then none is taken");
    commit(&store, take([1; 16], &[KEY])).unwrap();
    assert_eq!(state(KEY), CashuState::Taken { export: [1; 16], at_ms: 3 });
    assert_eq!(commit(&store, take([2; 16], &[KEY])), Err(StoreError::Conflict));
    let swap = store.reader().cashu(&KEY).unwrap().unwrap();
    assert_eq!((swap.amount(), swap.coins), (10, vec![coin(2, true), coin(8, true)]));
    // Taken before it was deposited: it is ours all the same.
    commit_op(&store, deposit()).unwrap();
    drop(store);
    in_order(folder.path(), "taken");
}

#[test]
fn a_coin_is_not_printed() {
    let attempt = Attempt {
        facilitator: "https://mint.example".into(),
        request: "hush".into(),
        count: 1,
        in_vain: 0,
        last_ms: 0,
        next_ms: 0,
        transaction: String::new(),
    };
    let asked = Op::Intent { key: KEY, payment: Payment { attempt: Some(attempt), ..paid() } };
    let text = format!("{:?} {:?} {asked:?}", hold(KEY), ask(KEY, &[KEY]));
    assert!(text.contains("secret hidden") && text.contains("request hidden"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}
