//! A channel, the payment that is in by it and its entry: one write, and books that are in order afterwards.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[expect(dead_code, reason = "shared with the tests of power cuts")]
#[path = "support/mod.rs"]
mod support;

use ledger::{AccountId, Chart, Draft, Kind};
use store::{
    ChannelClose, ChannelWrite, CheckOptions, Committed, Op, Options, Payment, PaymentState, Store,
    StoreError, check,
};
use support::business::{NOW_MS, channel, draft, outcome, payment};

const PAYER: AccountId = AccountId([1; 16]);
const CHANNEL: [u8; 32] = [0xc1; 32];
const RAIL: &str = "x402-batch:eip155:84532";

fn commit(store: &Store, op: Op) -> Result<Committed, StoreError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.commit(op))
}

fn voucher(key: u8, units: i64) -> (Option<([u8; 32], Payment)>, Option<Draft>) {
    let rail = Chart::RailClearing(RAIL.into());
    let paid = Payment { state: PaymentState::Settled, rail: RAIL.into(), ..payment(PAYER, units) };
    let legs = [(rail.id(), -units), (PAYER, units)];
    let entry = (units != 0).then(|| draft(Kind::Deposit, [key; 16], [key; 32], &legs));
    (Some(([key; 32], paid)), entry)
}

fn write(charged: u128, (payment, entry): (Option<([u8; 32], Payment)>, Option<Draft>)) -> Op {
    let begins = true;
    Op::Channel(Box::new(ChannelWrite { id: CHANNEL, channel: channel(charged), payment, entry, begins }))
}

/// X402-25: what a voucher brings and where its channel stands are both there, or neither.
#[test]
fn x402_25_a_channel_and_its_entry_are_one_write() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { reserve_bytes: 4096, ..Options::new([7; 16]) };
    let store = Store::open(folder.path(), options()).unwrap();
    commit(&store, write(20_000, voucher(5, 100))).unwrap();
    // The same voucher again, and another one whose entry is refused: the channel stands where it stood.
    assert_eq!(commit(&store, write(1, voucher(5, 100))), Err(StoreError::Conflict));
    let (other, _) = voucher(6, 100);
    let (_, taken) = voucher(5, 100);
    assert_eq!(commit(&store, write(2, (other, taken))), Err(StoreError::Conflict));
    let reader = store.reader();
    assert_eq!(reader.channels().unwrap(), vec![(CHANNEL, channel(20_000))]);
    assert_eq!(reader.payment(&[6; 32]).unwrap(), None);
    // A voucher that draws on what is left, and money into the channel that no call follows: nothing is posted.
    commit(&store, write(20_000, voucher(7, 0))).unwrap();
    commit(&store, Op::Served { key: [7; 32], outcome: outcome([7; 16]) }).unwrap();
    let (Some((key, paid)), None) = voucher(8, 0) else { unreachable!() };
    let escrow = Payment { state: PaymentState::Served, ..paid };
    commit(&store, write(u128::MAX, (Some((key, escrow)), None))).unwrap();
    // One whose channel was used up: no call is ever made for it.
    commit(&store, write(u128::MAX, voucher(9, 0))).unwrap();
    drop(store);

    let store = Store::open(folder.path(), options()).unwrap();
    assert_eq!(store.reader().channels().unwrap(), vec![(CHANNEL, channel(u128::MAX))], "sums of any size");
    let names = store.reader().names().unwrap();
    assert!(names.iter().any(|(_, name)| name == &format!("rail_clearing:{RAIL}")), "{names:?}");
    drop(store);
    let found = |what| {
        assert_eq!(check(folder.path(), &CheckOptions::new(NOW_MS)).unwrap().findings, vec![], "{what}")
    };
    found("with every row");
    let store = Store::open(folder.path(), options()).unwrap();
    commit(&store, Op::Sweep { now_ms: NOW_MS + 30 * 24 * 3_600_000 }).unwrap();
    let left: Vec<bool> =
        [5, 7, 8, 9].map(|key| store.reader().payment(&[key; 32]).unwrap().is_some()).into();
    assert_eq!(left, [true, false, false, false], "what is served is forgotten, and what brought nothing");
    drop(store);
    found("after a sweep");
}

/// The end of a session, which its chain knows of or not.
fn closing(is_done: bool) -> ChannelClose {
    let (promise, reference) = (None, String::new());
    ChannelClose { capture: 1, refund: 1, promise, is_done, asked_ms: NOW_MS, reference }
}

/// A session is kept for a week after it has ended on its chain, and not a moment while it may still owe something.
#[test]
fn eng_6_a_session_that_has_ended_is_forgotten() {
    const WEEK_MS: u64 = 7 * 24 * 3_600_000;
    let standing = channel(20_000);
    let ends = store::Channel { closing: Some(closing(false)), ..standing.clone() };
    let ended = store::Channel { closing: Some(closing(true)), ..standing.clone() };
    for (what, channel, after_ms, is_forgotten) in [
        ("open", &standing, u64::MAX, false),
        ("closing", &ends, u64::MAX, false),
        ("closed", &ended, NOW_MS + WEEK_MS, false),
        ("long closed", &ended, NOW_MS + WEEK_MS + 1, true),
    ] {
        assert_eq!(channel.is_forgotten(after_ms), is_forgotten, "{what}");
    }
    let folder = tempfile::tempdir().unwrap();
    let options = Options { reserve_bytes: 4096, ..Options::new([7; 16]) };
    let store = Store::open(folder.path(), options).unwrap();
    let forget = || commit(&store, Op::ForgetChannel { id: CHANNEL });
    assert_eq!(forget(), Err(StoreError::Conflict), "there is none");
    for channel in [standing, ends] {
        let write = ChannelWrite { id: CHANNEL, channel, payment: None, entry: None, begins: false };
        commit(&store, Op::Channel(Box::new(write))).unwrap();
        assert_eq!(forget(), Err(StoreError::Conflict), "it may still owe something");
    }
    let write = ChannelWrite { id: CHANNEL, channel: ended, payment: None, entry: None, begins: false };
    commit(&store, Op::Channel(Box::new(write))).unwrap();
    forget().unwrap();
    assert_eq!(store.reader().channels().unwrap(), vec![]);
}

#[test]
fn a_promise_is_not_printed() {
    let text = format!("{:?}", write(1, (None, None)));
    assert!(text.contains("signature hidden") && !text.contains("0xaa"), "{text}");
}
