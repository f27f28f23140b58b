//! The money step in memory: accounts, holds, entries, the tree over them.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use ledger::merkle::{Frontier, leaf_hash};
use ledger::{
    AccountId, AccountRef, Book, Budget, Chart, Draft, Entry, Flags, Kind, Leg, Reserve, leg_asset,
};
use money::{Amount, Asset};

use crate::{Row, resident_bytes, row};

const NOW_S: u64 = 1_795_000_000;
const ACCOUNTS: u32 = 1_000_000;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        reserve_row("reserve + capture", &[], false),
        reserve_row("reserve + extend + capture", &[], true),
        reserve_row("the same under a key's budget and a day's", &limits(), true),
        threads_row("reserve + capture, 2 threads, 2 accounts", false),
        threads_row("reserve + capture, 2 threads, 1 account", true),
        lookup_row(),
        entry_row(),
        append_row(),
    ]
}

fn rich(book: &Book, id: u8) -> AccountRef {
    book.deposit(AccountId([id; 16]), Asset::Usd, Amount::MAX)
}

fn limits() -> Vec<Budget> {
    let limit = Amount::from_units(i64::MAX);
    let key = Budget { link: AccountId([9; 16]), limit, ends_s: None };
    vec![key, Budget::window(AccountId([1; 16]), "day", 86_400, NOW_S, limit)]
}

pub(crate) fn call(book: &Book, account: &AccountRef, budgets: &[Budget], extends: bool) {
    let wanted = Reserve { account, budgets, amount: Amount::from_units(1000), beyond: Amount::ZERO };
    let hold = book.reserve(wanted).expect("covered");
    if extends {
        hold.extend(Amount::from_units(500)).expect("covered");
    }
    black_box(hold.finish(Amount::from_units(1)));
}

fn reserve_row(name: &'static str, budgets: &[Budget], extends: bool) -> Row {
    let book = Book::default();
    let account = rich(&book, 1);
    let budgets = budgets.to_vec();
    row(name, 50_000, move || call(&book, &account, &budgets, extends))
}

/// Per call of either thread: as the first row if they do not disturb each other.
fn threads_row(name: &'static str, shared: bool) -> Row {
    const CALLS: u32 = 25_000;
    let book = Book::default();
    let accounts = [rich(&book, 1), rich(&book, if shared { 1 } else { 2 })];
    let both = row(name, 1, move || {
        thread::scope(|scope| {
            for account in &accounts {
                scope.spawn(|| (0..CALLS).for_each(|_| call(&book, account, &[], false)));
            }
        });
    });
    Row { operations: 2 * CALLS, ..both }
}

/// What a cached account saves (LED-9).
fn lookup_row() -> Row {
    let book = Book::default();
    for number in 0..100_000u32 {
        drop(book.deposit(id(number), Asset::Usd, Amount::from_units(1)));
    }
    let mut number = 0u32;
    row("account looked up among 100,000", 50_000, move || {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        black_box(book.find(id(number % 100_000), Asset::Usd));
    })
}

pub(crate) fn id(number: u32) -> AccountId {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    AccountId(id)
}

fn entry() -> Entry {
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
    Entry { draft, lsn: 1, legs, previous: [0; 32] }
}

fn entry_row() -> Row {
    let mut entry = entry();
    row("entry of two legs: bytes + chain hash", 20_000, move || {
        let bytes = black_box(&entry).bytes();
        entry.previous = Entry::hash_of(&bytes);
    })
}

fn append_row() -> Row {
    let bytes = entry().bytes();
    let mut frontier = Frontier::default();
    row("entry into the Merkle tree, leaf hash included", 20_000, move || {
        frontier.append_noting(leaf_hash(black_box(&bytes)), |node, hash| {
            black_box((node, hash));
        });
    })
}

/// How long single calls take, the clock's own reading included.
pub(crate) fn tail() -> String {
    const CALLS: usize = 200_000;
    let book = Book::default();
    let account = rich(&book, 1);
    let mut nanos: Vec<u128> = (0..CALLS)
        .map(|_| {
            let start = Instant::now();
            call(&book, &account, &[], false);
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let at = |per_mille: usize| nanos.get(CALLS * per_mille / 1000).copied().unwrap_or_default();
    format!(
        "reserve + capture, one at a time with the clock read around each: p50 {} ns, p99 {} ns, p99.9 {} ns",
        at(500),
        at(990),
        at(999)
    )
}

/// What the process grows by when a million payers hold a balance. Before anything else ran.
pub(crate) fn memory() -> String {
    let before = resident_bytes();
    let book = Book::default();
    for number in 0..ACCOUNTS {
        drop(book.deposit(id(number), Asset::Usd, Amount::from_units(1)));
    }
    let grown = resident_bytes().saturating_sub(before);
    assert_eq!(book.len(), ACCOUNTS as usize);
    format!("memory of 1,000,000 accounts: {} MiB, {} bytes each", grown >> 20, grown / u64::from(ACCOUNTS))
}
