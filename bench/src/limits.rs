//! A call is counted, then money is set aside and captured: where the count stands decides what it costs (PERF-27). The
//! gateway has it in the account's record.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Instant;

use dashmap::DashMap;
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use ledger::{AccountId, AccountRef, Book, Rate};
use money::{Amount, Asset};

use crate::money_step::{call, id};
use crate::{Row, resident_bytes, row};

/// Accounts that call.
const ACCOUNTS: u32 = 100_000;
/// Calls of one thread in a round.
const CALLS: u32 = 10_000;
/// Nobody is refused: a refusal is another path.
const PER_MINUTE: NonZeroU32 = NonZeroU32::MAX;
const AT_ONCE: u32 = 100;

/// Every way, by one thread and by two, of one account and of many. Each but the first reads the clock once.
pub(crate) fn rows() -> Vec<Row> {
    let book = Arc::new(Book::default());
    let accounts =
        (0..ACCOUNTS).map(|number| book.deposit(id(number), Asset::Usd, Amount::from_units(1 << 40)));
    let accounts: Arc<[AccountRef]> = accounts.collect();
    let by_name = Arc::clone(&book);
    let keyed: DefaultKeyedRateLimiter<AccountId> = RateLimiter::keyed(Quota::per_minute(PER_MINUTE));
    let mapped = Mapped::default();
    let rows = |name, count: Count| rows_of(name, &book, &accounts, count);
    [
        rows("not counted", Box::new(|_| {})),
        rows("rate and room in the record", Box::new(in_record)),
        rows(
            "rate and room in the record, found by name",
            Box::new(move |account| in_record(&by_name.find_any(account.id()).expect("in the book"))),
        ),
        rows(
            "governor keyed by name, rate alone",
            Box::new(move |account| black_box(keyed.check_key(&account.id())).expect("within its rate")),
        ),
        rows(
            "a map with a governor for each account, rate and room",
            Box::new(move |account| mapped.call(account.id())),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A way to count a call in and out.
type Count = Box<dyn Fn(&AccountRef) + Send + Sync>;

/// What the map weighs for each account that has called.
pub(crate) fn memory() -> String {
    let before = resident_bytes();
    let mapped = Mapped::default();
    for number in 0..ACCOUNTS {
        mapped.call(id(number));
    }
    let grown = resident_bytes().saturating_sub(before);
    assert_eq!(mapped.accounts.len(), ACCOUNTS as usize);
    format!(
        "memory of one governor for each account in a map, {ACCOUNTS} accounts: {} bytes each",
        grown / u64::from(ACCOUNTS)
    )
}

fn rows_of(name: &str, book: &Arc<Book>, accounts: &Arc<[AccountRef]>, count: Count) -> Vec<Row> {
    let count = Arc::new(count);
    let cases = [
        (1, 1, "1 thread, 1 account"),
        (1, ACCOUNTS, "1 thread, 100,000 accounts"),
        (2, 1, "2 threads, 1 account"),
        (2, ACCOUNTS, "2 threads, 100,000 accounts"),
    ];
    let of = |(threads, of, case)| {
        let (book, accounts, count) = (Arc::clone(book), Arc::clone(accounts), Arc::clone(&count));
        // Other accounts in every round.
        let begun = AtomicU32::new(0);
        let calls = move || {
            let mut number = begun.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
            for _ in 0..CALLS {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let account = &accounts[((number >> 8) % of) as usize];
                count(account);
                call(&book, account, &[], false);
            }
        };
        let all = row(format!("{name}; {case}"), 1, move || {
            thread::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(&calls);
                }
                calls();
            });
        });
        Row { operations: threads * CALLS, ..all }
    };
    cases.into_iter().map(of).collect()
}

fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn in_record(account: &AccountRef) {
    black_box(account.pace().admit(Rate::per_minute(PER_MINUTE), now_ns())).expect("within its rate");
    // What ends with the call refers to the account.
    let counted = account.clone();
    assert!(counted.begin_call(AT_ONCE), "it has room");
    black_box(&counted).end_call();
}

/// One entry for each account, with what else is limited of it.
#[derive(Default)]
struct Mapped {
    accounts: DashMap<AccountId, Arc<Limits>>,
}

struct Limits {
    rate: DefaultDirectRateLimiter,
    _others: [DefaultDirectRateLimiter; 2],
    running: AtomicU32,
}

impl Mapped {
    fn call(&self, id: AccountId) {
        let found = self.accounts.get(&id).map(|found| Arc::clone(&found));
        let limits = found.unwrap_or_else(|| {
            let quota = Quota::per_minute(PER_MINUTE);
            let limits = Limits {
                rate: RateLimiter::direct(quota),
                _others: [RateLimiter::direct(quota), RateLimiter::direct(quota)],
                running: AtomicU32::new(0),
            };
            Arc::clone(&self.accounts.entry(id).or_insert_with(|| Arc::new(limits)))
        });
        black_box(limits.rate.check()).expect("within its rate");
        let room = |count: u32| (count < AT_ONCE).then_some(count + 1);
        assert!(limits.running.try_update(Ordering::AcqRel, Ordering::Acquire, room).is_ok(), "it has room");
        black_box(&limits).running.fetch_sub(1, Ordering::AcqRel);
    }
}
