//! Every interleaving of three threads on accounts and a hold, with the memory orders the code asks for.
//!
//! `cargo test -p ledger --features loom --test loom --release`
//!
//! Exhaustive, but for two extensions beside an end, which has too many orders: there at most five
//! preemptions are tried. About 40 s. After each run the same three things must hold: no unit came from
//! nowhere or went nowhere, no account is below its floor, and the hold ended once.

use std::num::NonZeroU32;
use std::time::Duration;

use ledger::{Account, AccountId, AccountRef, AccountState, Ended, Hold, Rate, ReserveError, TooEarly};
use loom::sync::Arc;
use loom::thread;
use money::{Amount, Asset};

fn units(units: i64) -> Amount {
    Amount::from_units(units)
}

fn account(available: i64) -> AccountRef {
    Account::new(AccountId([1; 16]), Asset::Usd, units(available), Amount::ZERO).into()
}

fn captured(ended: Option<Ended>) -> i64 {
    ended.map_or(0, |ended| ended.captured.units())
}

/// Nothing is held any more, and what was there is what is left and what was captured.
fn settled(account: &Account, before: i64, captured: i64) {
    assert_eq!(account.held(), Amount::ZERO);
    assert_eq!(account.available().units(), before - captured);
    assert!(account.available() >= Amount::ZERO);
}

/// The same after `holds` have captured all they hold.
fn settled_by(holds: impl IntoIterator<Item = Hold>, account: &Account, before: i64) {
    let taken = holds.into_iter().map(|hold| captured(hold.finish(hold.amount()))).sum();
    settled(account, before, taken);
}

/// LED-5: three reserves on money for two.
#[test]
fn three_reserves_on_money_for_two() {
    loom::model(|| {
        let payer = account(5);
        let call = |payer: AccountRef| move || Hold::on(&payer, units(2));
        let first = thread::spawn(call(payer.clone()));
        let second = thread::spawn(call(payer.clone()));
        let third = call(payer.clone())();
        let holds = [first.join().unwrap(), second.join().unwrap(), third];
        assert_eq!(holds.iter().filter(|hold| hold.is_ok()).count(), 2, "in every order");
        assert_eq!((payer.available().units(), payer.held().units()), (1, 4));
        settled_by(holds.into_iter().flatten(), &payer, 5);
    });
}

/// X402-21: two promises on an empty account that is good for one, beside a call that promises nothing.
#[test]
fn promises_share_the_limit_of_their_account() {
    loom::model(|| {
        let payer = account(0);
        let promise = |payer: AccountRef| move || Hold::beyond(&payer, units(3), units(5));
        let first = thread::spawn(promise(payer.clone()));
        let second = thread::spawn({
            let payer = payer.clone();
            move || Hold::on(&payer, units(1)).map(drop)
        });
        let third = promise(payer.clone())();
        let holds = [first.join().unwrap(), third];
        assert!(matches!(second.join().unwrap(), Err(ReserveError::Balance { .. })));
        assert_eq!(holds.iter().filter(|hold| hold.is_ok()).count(), 1, "in every order");
        assert_eq!((payer.available().units(), payer.held().units()), (-3, 3));
        let taken: i64 = holds.into_iter().flatten().map(|hold| captured(hold.finish(units(9)))).sum();
        assert_eq!((taken, payer.available().units(), payer.held().units()), (5, -5, 0));
    });
}

/// LED-7: capture, void and expiry race for one hold; one wins.
#[test]
fn capture_void_and_expire_race() {
    loom::model(|| {
        let payer = account(10);
        let hold = Arc::new(Hold::on(&payer, units(6)).unwrap());
        let capture = thread::spawn({
            let hold = Arc::clone(&hold);
            move || hold.finish(units(4))
        });
        let expire = thread::spawn({
            let hold = Arc::clone(&hold);
            move || hold.expire(units(3))
        });
        let void = hold.finish(Amount::ZERO);
        let ends = [capture.join().unwrap(), expire.join().unwrap(), void];
        assert_eq!(ends.iter().flatten().count(), 1);
        settled(&payer, 10, ends.into_iter().map(captured).sum());
    });
}

/// LED-7: two extensions and an end; what was added before the end is in it, what came after went back.
#[test]
fn extensions_race_with_an_end() {
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(5);
    bounded.check(|| {
        let payer = account(10);
        let hold = Arc::new(Hold::on(&payer, units(2)).unwrap());
        let extend = |hold: Arc<Hold>| move || hold.extend(units(3));
        let first = thread::spawn(extend(Arc::clone(&hold)));
        let second = thread::spawn(extend(Arc::clone(&hold)));
        let ended = hold.finish(units(2)).unwrap();
        let grown = [first.join().unwrap(), second.join().unwrap()];
        for refused in grown.iter().filter_map(|grown| grown.err()) {
            assert_eq!(refused, ReserveError::Ended);
        }
        let steps = i64::try_from(grown.iter().filter(|grown| grown.is_ok()).count()).unwrap();
        assert_eq!(hold.amount().units(), 2 + 3 * steps);
        assert_eq!((ended.captured.units(), ended.overrun.units()), (2, 0));
        settled(&payer, 10, 2);
    });
}

/// LED-13: an extension and an end of a hold with a budget; the two accounts stay in step.
#[test]
fn an_extension_along_a_chain_races_with_an_end() {
    loom::model(|| {
        let (payer, budget) = (account(10), account(4));
        let hold = Hold::on(&payer, units(2)).unwrap().and_on(budget.clone()).unwrap();
        let hold = Arc::new(hold);
        let extend = thread::spawn({
            let hold = Arc::clone(&hold);
            move || hold.extend(units(2))
        });
        let ended = hold.finish(units(1)).unwrap();
        let grown = extend.join().unwrap();
        assert!(matches!(grown, Ok(()) | Err(ReserveError::Ended)));
        assert_eq!((ended.captured.units(), ended.overrun.units()), (1, 0));
        settled(&payer, 10, 1);
        settled(&budget, 4, 1);
    });
}

/// LED-11: an extension and an end beyond the hold, on money for both.
#[test]
fn an_extension_races_with_an_overrun() {
    loom::model(|| {
        let payer = account(7);
        let hold = Arc::new(Hold::on(&payer, units(2)).unwrap());
        let extend = thread::spawn({
            let hold = Arc::clone(&hold);
            move || hold.extend(units(3))
        });
        let ended = hold.expire(units(4)).unwrap();
        let grown = extend.join().unwrap();
        assert!(matches!(grown, Ok(()) | Err(ReserveError::Ended)));
        // With or without the step the four are there: held, or still available.
        assert_eq!((ended.captured.units(), ended.overrun.units()), (4, 0));
        settled(&payer, 7, 4);
    });
}

/// LED-5: an extension, a reserve of another call and an end on money for one of the two.
#[test]
fn an_extension_and_a_reserve_want_the_same_money() {
    loom::model(|| {
        let payer = account(6);
        let hold = Arc::new(Hold::on(&payer, units(2)).unwrap());
        let extend = thread::spawn({
            let hold = Arc::clone(&hold);
            move || hold.extend(units(3))
        });
        let other = thread::spawn({
            let payer = payer.clone();
            move || captured(Hold::on(&payer, units(3)).ok().and_then(|other| other.finish(units(3))))
        });
        let extended = extend.join().unwrap();
        let mine = captured(hold.finish(units(5)));
        let theirs = other.join().unwrap();
        assert!(mine + theirs <= 6);
        // The end takes what is there: all five, or what the other call left.
        assert!(mine >= if extended.is_ok() { 5 } else { 2 });
        settled(&payer, 6, mine + theirs);
    });
}

/// LED-11: two ends beyond their holds and a deposit; never below zero.
#[test]
fn overruns_share_what_is_left() {
    loom::model(|| {
        let payer = account(7);
        let over = |payer: &AccountRef| {
            let hold = Hold::on(payer, units(2)).unwrap();
            move || captured(hold.finish(units(5)))
        };
        let (first, second) = (over(&payer), over(&payer));
        let first = thread::spawn(first);
        let second = thread::spawn(second);
        let all = first.join().unwrap() + second.join().unwrap();
        assert_eq!(all, 7, "all there was, by one or the other");
        settled(&payer, 7, all);
    });
}

/// LED-8: an account is closed while a call reserves and another one voids: never closed over money.
#[test]
fn closing_races_with_a_reserve_and_a_void() {
    loom::model(|| {
        let payer = account(2);
        let open = Hold::on(&payer, units(2)).unwrap();
        let void = thread::spawn(move || drop(open));
        let reserve = thread::spawn({
            let payer = payer.clone();
            move || Hold::on(&payer, units(2))
        });
        let closed = payer.set_state(AccountState::Closed);
        void.join().unwrap();
        let reserved = reserve.join().unwrap();
        // There are two units in every order, free or held, and so nothing to close.
        let found = closed.unwrap_err();
        assert!(found.available > Amount::ZERO || found.held > Amount::ZERO);
        assert_eq!(payer.state(), AccountState::Open);
        settled_by(reserved, &payer, 2);
    });
}

/// LED-8: the last call captures what is left, the account is closed, a new call comes.
#[test]
fn closing_races_with_the_last_capture() {
    loom::model(|| {
        let payer = account(2);
        let last = Hold::on(&payer, units(2)).unwrap();
        let capture = thread::spawn(move || captured(last.finish(units(2))));
        let reserve = thread::spawn({
            let payer = payer.clone();
            move || Hold::on(&payer, units(1)).map(drop)
        });
        let closed = payer.set_state(AccountState::Closed);
        assert_eq!(capture.join().unwrap(), 2);
        assert!(matches!(reserve.join().unwrap(), Err(ReserveError::Balance { .. } | ReserveError::Closed)));
        match closed {
            Ok(()) => assert_eq!(payer.state(), AccountState::Closed),
            Err(found) => {
                assert!(found.held > Amount::ZERO);
                assert_eq!(payer.state(), AccountState::Open);
            }
        }
        settled(&payer, 2, 2);
    });
}

/// LED-8: nobody takes from an empty account that is closed, not even nothing; two may close it.
#[test]
fn a_reserve_of_a_closed_account() {
    loom::model(|| {
        let payer = account(0);
        let reserve = thread::spawn({
            let payer = payer.clone();
            move || Hold::on(&payer, units(1)).map(drop)
        });
        let close = thread::spawn({
            let payer = payer.clone();
            move || payer.set_state(AccountState::Closed)
        });
        let refused = reserve.join().unwrap().unwrap_err();
        let closed = close.join().unwrap();
        assert!(matches!(refused, ReserveError::Balance { .. } | ReserveError::Closed));
        assert_eq!(closed.is_ok(), payer.state() == AccountState::Closed);
        settled(&payer, 0, 0);
    });
}

/// LED-8: freezing lets what runs finish.
#[test]
fn freezing_races_with_an_extension_and_an_end() {
    loom::model(|| {
        let payer = account(9);
        let hold = Arc::new(Hold::on(&payer, units(2)).unwrap());
        let extend = thread::spawn({
            let hold = Arc::clone(&hold);
            move || hold.extend(units(3))
        });
        let freeze = thread::spawn({
            let payer = payer.clone();
            move || payer.set_state(AccountState::Frozen)
        });
        let taken = captured(hold.finish(units(2)));
        let extended = extend.join().unwrap();
        assert!(matches!(extended, Ok(()) | Err(ReserveError::Ended | ReserveError::Frozen)));
        assert_eq!(freeze.join().unwrap(), Ok(()));
        assert_eq!(taken, 2);
        settled(&payer, 9, 2);
        assert_eq!(Hold::on(&payer, units(1)).unwrap_err(), ReserveError::Frozen);
    });
}

/// PERF-27: three calls at once where one is let in a minute.
#[test]
fn calls_race_for_their_rate() {
    loom::model(|| {
        let payer = account(0);
        let rate = Rate::per_minute(NonZeroU32::MIN);
        let call = |payer: AccountRef| move || payer.pace().admit(rate, 7);
        let first = thread::spawn(call(payer.clone()));
        let second = thread::spawn(call(payer.clone()));
        let third = call(payer.clone())();
        let calls = [first.join().unwrap(), second.join().unwrap(), third];
        let early = Err(TooEarly { wait: Duration::from_secs(60) });
        assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 1, "in every order");
        assert_eq!(calls.iter().filter(|call| **call == early).count(), 2, "and each is told its wait");
    });
}

/// Two calls where one may run, and one that ends meanwhile.
#[test]
fn calls_race_for_their_room() {
    loom::model(|| {
        let payer = account(0);
        assert!(payer.begin_call(1));
        let begin = |payer: AccountRef| move || payer.begin_call(1);
        let first = thread::spawn(begin(payer.clone()));
        let end = thread::spawn({
            let payer = payer.clone();
            move || payer.end_call()
        });
        let runs = [begin(payer.clone())(), first.join().unwrap()];
        end.join().unwrap();
        let running = runs.iter().filter(|runs| **runs).count();
        assert!(running <= 1);
        assert_eq!(payer.begin_call(1), running == 0);
    });
}
