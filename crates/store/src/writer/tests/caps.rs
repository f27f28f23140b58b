//! What may run behind the disk.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ledger::{Account, AccountId, AccountRef};
use money::{Amount, Asset};

use super::{capture, held_up};
use crate::{Durability, Exposure, Op, Store, Submitted};

/// One account's available units do not matter here, only what is at risk.
fn account(id: u8, asset: Asset) -> AccountRef {
    AccountRef::from(Account::new(AccountId([id; 16]), asset, Amount::ZERO, Amount::ZERO))
}

fn units(units: i64) -> Amount {
    Amount::from_units(units)
}

fn exposure(per_account: i64, total: i64) -> Exposure {
    Exposure { per_account: units(per_account), total: units(total), delay: Duration::from_secs(3600) }
}

/// LED-25: while the disk stands still charges go on until a cap is reached, exactly, and never past it.
#[tokio::test]
async fn r14_no_db_in_request_path() {
    let (store, gate) = held_up(Durability::Capped(exposure(100, 150)));
    let (one, other) = (account(1, Asset::Usd), account(2, Asset::Usd));
    let closed = gate.write().unwrap();
    let mut waiting = Vec::new();
    for (number, (account, amount, goes_on)) in [
        (&one, 60, true),
        (&one, 41, false),
        (&one, 40, true),
        (&one, 1, false),
        (&other, 51, false),
        (&other, 50, true),
        (&other, 1, false),
        (&other, 0, true),
    ]
    .into_iter()
    .enumerate()
    {
        let id = u8::try_from(number).unwrap() + 10;
        match store.submit(capture(id, amount.max(1)), Some((account.clone(), units(amount)))).unwrap() {
            Submitted::Behind => assert!(goes_on, "charge {number}"),
            Submitted::Wait(durable) => {
                assert!(!goes_on, "charge {number}");
                waiting.push(durable);
            }
        }
    }
    assert_eq!((store.at_risk(), one.at_risk(), other.at_risk()), (units(150), 100, 50));
    drop(closed);
    for durable in waiting {
        assert!(durable.await.unwrap().lsn > 0);
    }
    store.commit(Op::Flush).await.unwrap();
    assert_eq!((store.at_risk(), one.at_risk(), other.at_risk()), (Amount::ZERO, 0, 0));
}

/// LED-25: with many at once no cap is passed at any moment.
#[test]
fn racing_charges_never_pass_a_cap() {
    let (store, gate) = held_up(Durability::Capped(exposure(100, 250)));
    let closed = gate.write().unwrap();
    let let_through = AtomicI64::new(0);
    thread::scope(|scope| {
        for thread in 0..8u8 {
            let (store, let_through) = (&store, &let_through);
            scope.spawn(move || {
                let account = account(thread % 4, Asset::Usd);
                for number in 0..50 {
                    let op = capture(thread * 30 + number % 30, 1);
                    let submitted = store.submit(op, Some((account.clone(), units(7)))).unwrap();
                    if matches!(submitted, Submitted::Behind) {
                        let_through.fetch_add(7, Ordering::SeqCst);
                    }
                    assert!(account.at_risk() <= 107, "more than one attempt beyond the cap");
                }
            });
        }
    });
    assert!(let_through.load(Ordering::SeqCst) <= 250);
    assert_eq!(store.at_risk(), units(let_through.load(Ordering::SeqCst)));
    drop(closed);
}

/// LED-25, LED-26: other reasons to wait.
#[tokio::test]
async fn charges_wait_in_sync_mode_in_other_units_and_behind_an_old_write() {
    let waits = |store: &Store, asset| {
        let id = u8::try_from(store.reader().unsigned_head(0).unwrap().size).unwrap() + 20;
        let submitted = store.submit(capture(id, 1), Some((account(1, asset), units(1)))).unwrap();
        matches!(submitted, Submitted::Wait(_))
    };
    let (store, _gate) = held_up(Durability::Sync);
    assert!(waits(&store, Asset::Usd));
    assert!(matches!(store.submit(Op::Flush, None).unwrap(), Submitted::Wait(_)));
    let (store, _gate) = held_up(Durability::default());
    // A nano of a cap is no millisatoshi.
    assert!(waits(&store, Asset::Btc) && waits(&store, Asset::Jpy));
    assert!(matches!(store.submit(Op::Flush, None).unwrap(), Submitted::Behind));
    let late = Exposure { delay: Duration::ZERO, ..exposure(100, 100) };
    let (store, gate) = held_up(Durability::Capped(late));
    let closed = gate.write().unwrap();
    assert!(!waits(&store, Asset::Usd), "nothing is old yet");
    let start = Instant::now();
    while !waits(&store, Asset::Usd) {
        assert!(start.elapsed() < Duration::from_secs(20), "the writer takes what is handed over");
        thread::sleep(Duration::from_millis(1));
    }
    drop(closed);
    store.commit(Op::Flush).await.unwrap();
    assert_eq!(store.at_risk(), Amount::ZERO);
}
