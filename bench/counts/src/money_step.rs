//! The money step in memory, and how a charge is written down.

use std::hint::black_box;
use std::num::NonZeroU32;

use ledger::merkle::{Frontier, leaf_hash};
use ledger::{
    AccountId, AccountRef, Book, Budget, Chart, Draft, Entry, Flags, Kind, Leg, Rate, Reserve, leg_asset,
};
use money::{Amount, Asset};

use crate::NOW_S;

/// A hold and its end.
pub(crate) fn reserve_capture() -> Box<dyn FnMut()> {
    let (book, account) = rich();
    Box::new(move || call(&book, &account, &[]))
}

/// The same under the budget of a key and that of a day, and the hold grows once.
pub(crate) fn reserve_capture_budgets() -> Box<dyn FnMut()> {
    let (book, account) = rich();
    let limit = Amount::from_units(i64::MAX);
    let key = Budget { link: AccountId([9; 16]), limit, ends_s: None };
    let budgets = [key, Budget::window(account.id(), "day", 86_400, NOW_S, limit)];
    Box::new(move || call(&book, &account, &budgets))
}

/// A call is counted in its account, in and out: a millisecond after the one before.
pub(crate) fn call_counted() -> Box<dyn FnMut()> {
    let (_book, account) = rich();
    let rate = Rate::per_minute(NonZeroU32::MAX);
    let mut now_ns = 0;
    Box::new(move || {
        now_ns += 1_000_000;
        black_box(account.pace().admit(rate, now_ns)).expect("within its rate");
        assert!(account.begin_call(100), "it has room");
        black_box(&account).end_call();
    })
}

fn rich() -> (Book, AccountRef) {
    let book = Book::default();
    let account = book.deposit(AccountId([1; 16]), Asset::Usd, Amount::MAX);
    (book, account)
}

fn call(book: &Book, account: &AccountRef, budgets: &[Budget]) {
    let wanted = Reserve { account, budgets, amount: Amount::from_units(1000), beyond: Amount::ZERO };
    let hold = book.reserve(wanted).expect("covered");
    if !budgets.is_empty() {
        hold.extend(Amount::from_units(500)).expect("covered");
    }
    black_box(hold.finish(Amount::from_units(1)));
}

/// The entry of a charge: its bytes, its place in the chain and in the tree.
pub(crate) fn journal_entry() -> Box<dyn FnMut()> {
    let draft = Draft {
        kind: Kind::Capture,
        flags: Flags::default(),
        time_ms: NOW_S * 1000,
        id: [3; 16],
        key: [0; 32],
        reference: String::new(),
        corrects: [0; 16],
        price_version: 7,
        cost_femto: 2_100_000_000_000,
        legs: Vec::new(),
    };
    let leg = |account, units| Leg {
        asset: leg_asset(Asset::Usd),
        account,
        amount: Amount::from_units(units),
        balance_after: Amount::from_units(units),
    };
    let legs = vec![leg(AccountId([1; 16]), -2_100_000), leg(Chart::UsageClearing.id(), 2_100_000)];
    let mut entry = Entry { draft, lsn: 1, legs, previous: [0; 32] };
    Box::new(move || {
        let bytes = black_box(&entry).bytes();
        entry.previous = Entry::hash_of(&bytes);
        // Each time the same place in the tree: where it is decides how many nodes are closed.
        let mut frontier = Frontier::default();
        frontier.append_noting(leaf_hash(&bytes), |node, hash| {
            black_box((node, hash));
        });
    })
}
