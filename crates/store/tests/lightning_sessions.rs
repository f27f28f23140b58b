//! A session over Lightning and the payment that comes into it: one write, and nothing begins on one that has ended.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "shared with the tests of power cuts")]
#[path = "support/mod.rs"]
mod support;

use ledger::{AccountId, Chart, Kind};
use store::{
    CheckOptions, Committed, LightningSession, Op, Options, PaymentState, SessionClose, SessionDeposit,
    SessionRefund, SessionWrite, Store, StoreError, check,
};
use support::business::{NOW_MS, draft, outcome, payment};

const PAYER: AccountId = AccountId([1; 16]);
const SESSION: [u8; 32] = [0xc1; 32];
const RAIL: &str = "lightning";
const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;

fn commit(store: &Store, op: Op) -> Result<Committed, StoreError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.commit(op))
}

fn options() -> Options {
    Options { reserve_bytes: 4096, ..Options::new([7; 16]) }
}

fn session(credit: i64, refund: Option<SessionRefund>) -> LightningSession {
    let closing = refund.map(|refund| SessionClose { challenge: "c".into(), at_ms: NOW_MS, sats: 1, refund });
    LightningSession {
        account: PAYER.0,
        asset: money::Asset::Test.code(),
        msat: credit.unsigned_abs() * 10,
        credit,
        return_invoice: "lnbcrt1".into(),
        opened_ms: NOW_MS,
        closing,
    }
}

fn deposit(key: u8, units: i64) -> Option<SessionDeposit> {
    let rail = Chart::RailClearing(RAIL.into());
    let entry = draft(Kind::Deposit, [key; 16], [key; 32], &[(rail.id(), -units), (PAYER, units)]);
    let mut payment = payment(PAYER, units);
    (payment.rail, payment.received_msat) = (RAIL.into(), Some(units.unsigned_abs() * 10));
    payment.outcome = Some(outcome([key; 16]));
    Some(SessionDeposit { key: [key; 32], payment, entry })
}

fn write(session: LightningSession, deposit: Option<SessionDeposit>) -> Op {
    Op::LightningSession(Box::new(SessionWrite { id: SESSION, session, deposit }))
}

/// MPP-28: what a payment brings and what its session has are both there, or neither; no payment brings anything twice.
#[test]
fn mpp_28_a_session_and_its_deposit_are_one_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    commit(&store, write(session(100, None), deposit(5, 100))).unwrap();
    commit(&store, write(session(150, None), deposit(6, 50))).unwrap();
    // The same payment again, and another one whose entry is taken: the session stands where it stood.
    assert_eq!(commit(&store, write(session(900, None), deposit(5, 100))), Err(StoreError::Conflict));
    let taken = deposit(7, 10).map(|other| SessionDeposit { entry: deposit(6, 50).unwrap().entry, ..other });
    assert_eq!(commit(&store, write(session(901, None), taken)), Err(StoreError::Conflict));
    let reader = store.reader();
    assert_eq!(reader.lightning_sessions().unwrap(), vec![(SESSION, session(150, None))]);
    assert_eq!(reader.payment(&[7; 32]).unwrap(), None);
    assert_eq!(reader.payment(&[6; 32]).unwrap().unwrap().state, PaymentState::Served);
    assert_eq!(reader.lots(PAYER).unwrap().len(), 2, "both can go back");
    drop(store);

    let store = Store::open(folder.path(), options()).unwrap();
    assert_eq!(store.reader().lightning_sessions().unwrap(), vec![(SESSION, session(150, None))]);
    drop(store);
    assert_eq!(check(folder.path(), &CheckOptions::new(NOW_MS)).unwrap().findings, vec![]);
}

/// MPP-29: its end is written first, and from then on nothing comes in; it is forgotten a week after it is decided.
#[test]
fn mpp_29_nothing_comes_into_a_session_that_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    commit(&store, write(session(100, None), deposit(5, 100))).unwrap();
    let pending = session(100, Some(SessionRefund::Pending));
    commit(&store, write(pending.clone(), None)).unwrap();
    assert_eq!(commit(&store, write(session(150, None), deposit(6, 50))), Err(StoreError::Conflict));
    assert_eq!(store.reader().payment(&[6; 32]).unwrap(), None);
    let sweep = |after_ms: u64| commit(&store, Op::Sweep { now_ms: NOW_MS + after_ms }).unwrap();
    sweep(9 * WEEK_MS);
    assert_eq!(
        store.reader().lightning_sessions().unwrap(),
        vec![(SESSION, pending)],
        "not while it is not known"
    );
    let ended = session(100, Some(SessionRefund::Succeeded));
    commit(&store, write(ended.clone(), None)).unwrap();
    sweep(WEEK_MS);
    assert_eq!(store.reader().lightning_sessions().unwrap(), vec![(SESSION, ended)]);
    sweep(WEEK_MS + 2_000);
    assert_eq!(store.reader().lightning_sessions().unwrap(), vec![]);
}
