//! All accounts in memory, and the reserve that decides whether a call may run.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use money::{Amount, Asset};

use crate::slab::Slab;
use crate::{Account, AccountId, AccountRef, Hold, IdHashes, ReserveError, window_link};

/// Budgets that may live under one account (L402-55): bounds what a holder can make us remember.
pub const BUDGETS_PER_ACCOUNT_MAX: u16 = 10_000;

/// A spend limit, written into a key or set for a time window: every one on the chain is charged
/// (LED-13, LED-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The link of the caveat in its chain, so that nobody can spend on a foreign budget; for a window
    /// [`window_link`].
    pub link: AccountId,
    /// Most that may ever be captured under it.
    pub limit: Amount,
    /// When a window is over, in Unix seconds: from then on it may be forgotten. None for a budget that
    /// counts for as long as its key.
    pub ends_s: Option<u64>,
}

impl Budget {
    /// The window of `length_s` seconds that `now_s` falls in, filled with `limit` on first touch. There
    /// is no reset, and so no race at its edge (LED-14). Windows start at multiples of their length.
    ///
    /// `name` tells the limits of one account apart, such as `day`. A length of 0 counts as 1.
    #[must_use]
    pub fn window(account: AccountId, name: &str, length_s: u64, now_s: u64, limit: Amount) -> Self {
        let length_s = length_s.max(1);
        let start_s = now_s - now_s % length_s;
        let link = window_link(account, name, start_s);
        Self { link, limit, ends_s: Some(start_s.saturating_add(length_s)) }
    }

    /// Whether it is a window of that length which `now_s` falls in: the one that [`Budget::window`] would make, without its
    /// hash.
    #[must_use]
    pub fn is_on(&self, now_s: u64, length_s: u64) -> bool {
        self.ends_s.is_some_and(|end_s| now_s < end_s && end_s - now_s <= length_s.max(1))
    }
}

/// What to set aside, and where.
#[derive(Clone, Copy, Debug)]
pub struct Reserve<'a> {
    /// The account that pays.
    pub account: &'a AccountRef,
    /// The budgets of the key that pays, outermost first.
    pub budgets: &'a [Budget],
    /// Ledger units of the account's asset, not negative.
    pub amount: Amount,
    /// How far below its floor the account may be taken, for a payment that settles after the call (X402-21): as
    /// a rule 0. Bounds the account, not the call: of what is open on it for such payments, this one included.
    pub beyond: Amount,
}

/// What an account shows its owner, both words read together as closely as two loads allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// May be reserved.
    pub available: Amount,
    /// Set aside for calls in flight.
    pub held: Amount,
}

/// Every account of this gateway.
#[derive(Debug, Default)]
pub struct Book {
    /// What payers have. The account of a payer that was opened first says what it holds (LED-4).
    money: Slab,
    budgets: DashMap<(AccountId, Asset), Limit, IdHashes>,
    /// Spent under a budget before this process started; the limit comes with the key.
    spent_before: DashMap<(AccountId, Asset), Amount, IdHashes>,
    /// Windows that ended up to then are gone and are not opened again, in Unix seconds.
    forgotten_s: AtomicU64,
}

/// A budget in use.
#[derive(Debug)]
struct Limit {
    account: AccountRef,
    /// Whose count of budgets it is in.
    payer: AccountRef,
    ends_s: Option<u64>,
    /// What the account was filled with, in ledger units. A key's budget never changes; the operator may set
    /// another limit for a window that runs.
    limit: AtomicI64,
}

impl Limit {
    /// The account, filled up or drained by what its limit has changed by: below zero nothing more is held.
    fn under(&self, limit: Amount) -> AccountRef {
        let before = self.limit.swap(limit.units(), Ordering::AcqRel);
        if before != limit.units() {
            self.account.give(limit.units().saturating_sub(before));
        }
        self.account.clone()
    }
}

impl Book {
    /// The account, opened empty on first sight.
    #[must_use]
    pub fn account(&self, id: AccountId, asset: Asset) -> AccountRef {
        AccountRef::of_book(self.money.open(id, asset))
    }

    /// Settles for good what an account holds, before the first money comes in (LED-4): it is opened empty unless
    /// it is there. False when it holds something else.
    #[must_use]
    pub fn fix_asset(&self, id: AccountId, asset: Asset) -> bool {
        self.money.open_first(id, asset).asset() == asset
    }

    /// The account, if it exists in this asset.
    #[must_use]
    pub fn find(&self, id: AccountId, asset: Asset) -> Option<AccountRef> {
        self.money.find(id, asset).map(AccountRef::of_book)
    }

    /// The account of a payer, in the one asset it holds.
    #[must_use]
    pub fn find_any(&self, id: AccountId) -> Option<AccountRef> {
        self.money.first(id).map(AccountRef::of_book)
    }

    /// Puts a balance read from the store in place, before the first request.
    pub fn restore(&self, id: AccountId, asset: Asset, available: Amount) {
        self.money.open(id, asset).give(available.units());
    }

    /// Notes what was spent under a budget, before the first request.
    pub fn restore_spent(&self, link: AccountId, asset: Asset, spent: Amount) {
        self.spent_before.insert((link, asset), spent);
    }

    /// Adds a deposit that is already durable.
    pub fn deposit(&self, id: AccountId, asset: Asset, amount: Amount) -> AccountRef {
        let account = self.account(id, asset);
        account.give(amount.units());
        account
    }

    /// Takes back a credit that came to nothing, or out what went back to its owner; never below the account's
    /// floor. How much that was.
    #[must_use]
    pub fn withdraw(&self, account: &Account, amount: Amount) -> Amount {
        Amount::from_units(account.take_up_to(amount.units(), 0))
    }

    /// What the account shows its owner.
    #[must_use]
    pub fn balance(&self, account: &Account) -> Balance {
        let held = account.held();
        Balance { available: account.available(), held }
    }

    /// Number of accounts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.money.len()
    }

    /// Whether there is no account at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.money.len() == 0
    }

    /// What is left of a budget, its full limit when it was never drawn on.
    #[must_use]
    pub fn budget_left(&self, budget: Budget, asset: Asset) -> Amount {
        let key = (budget.link, asset);
        let found = self.budgets.get(&key).map(|limit| limit.under(budget.limit).available());
        found.unwrap_or_else(|| self.unspent(budget, asset)).max(Amount::ZERO)
    }

    /// Below zero where the limit has been lowered since.
    fn unspent(&self, budget: Budget, asset: Asset) -> Amount {
        let spent = self.spent_before.get(&(budget.link, asset)).map_or(Amount::ZERO, |spent| *spent);
        Amount::from_units(budget.limit.units().saturating_sub(spent.units()))
    }

    /// Sets `amount` aside on the account and on every budget, or nowhere (LED-5, LED-13).
    ///
    /// # Errors
    /// [`ReserveError`]; nothing is held then.
    pub fn reserve(&self, wanted: Reserve<'_>) -> Result<Hold, ReserveError> {
        let hold = Hold::beyond(wanted.account, wanted.amount, wanted.beyond)?;
        // An error drops what is held so far, and that gives it back.
        wanted.budgets.iter().try_fold(hold, |hold, budget| {
            let account = self.budget_account(wanted.account, *budget)?;
            hold.and_on(account)
        })
    }

    /// The account of a budget, opened with its limit beside the first reserve that got this far.
    fn budget_account(&self, payer: &AccountRef, budget: Budget) -> Result<AccountRef, ReserveError> {
        let key = (budget.link, payer.asset());
        if let Some(found) = self.budgets.get(&key) {
            return Ok(found.under(budget.limit));
        }
        match self.budgets.entry(key) {
            Entry::Occupied(found) => Ok(found.get().under(budget.limit)),
            Entry::Vacant(place) => {
                // Asked while the place is locked: a window that is being forgotten right now is either
                // still there or refused here, never opened afresh with its whole limit.
                if budget.ends_s.is_some_and(|end| end <= self.forgotten_s.load(Ordering::Acquire)) {
                    return Err(ReserveError::WindowOver);
                }
                if !payer.count_budget(BUDGETS_PER_ACCOUNT_MAX) {
                    return Err(ReserveError::TooManyBudgets);
                }
                let left = self.unspent(budget, payer.asset());
                let account = AccountRef::from(Account::new(budget.link, payer.asset(), left, Amount::ZERO));
                place.insert(Limit {
                    account: account.clone(),
                    payer: payer.clone(),
                    ends_s: budget.ends_s,
                    limit: AtomicI64::new(budget.limit.units()),
                });
                Ok(account)
            }
        }
    }

    /// Lets go of every window that was over by `before_s`, so that memory is bounded by the windows
    /// that count now. Holds in such a window end as they would have; new ones are refused with
    /// [`ReserveError::WindowOver`]. Give a time well in the past, an hour say: if the clock is set back
    /// below it, windows are refused until it has caught up. How many were let go.
    pub fn forget_windows(&self, before_s: u64) -> usize {
        // First: whoever finds its window gone must also find that it is over.
        self.forgotten_s.fetch_max(before_s, Ordering::AcqRel);
        let mut forgotten = 0;
        self.budgets.retain(|key, limit| {
            let over = limit.ends_s.is_some_and(|end| end <= before_s);
            if over {
                limit.payer.forget_budget();
                self.spent_before.remove(key);
                forgotten += 1;
            }
            !over
        });
        forgotten
    }
}

#[cfg(test)]
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
#[expect(clippy::disallowed_methods, reason = "races need threads")]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use money::{Amount, Asset};
    use proptest::prelude::*;

    use super::{BUDGETS_PER_ACCOUNT_MAX, Book, Budget, Reserve, ReserveError};
    use crate::{AccountId, HoldEnd, window_link};

    const ID: AccountId = AccountId([7; 16]);

    fn funded(units: i64) -> Book {
        let book = Book::default();
        book.deposit(ID, Asset::Usd, Amount::from_units(units));
        book
    }

    fn reserve(book: &Book, units: i64, budgets: &[Budget]) -> Result<crate::Hold, ReserveError> {
        let account = book.account(ID, Asset::Usd);
        let (amount, beyond) = (Amount::from_units(units), Amount::ZERO);
        book.reserve(Reserve { account: &account, budgets, amount, beyond })
    }

    fn available(book: &Book) -> i64 {
        book.account(ID, Asset::Usd).available().units()
    }

    /// Two holds of 7 on 10: the second is refused, because holds count against what is available.
    #[test]
    fn blnk_181() {
        let book = funded(10);
        let first = reserve(&book, 7, &[]).unwrap();
        let refused = reserve(&book, 7, &[]).unwrap_err();
        assert_eq!(refused, ReserveError::Balance { available: Amount::from_units(3) });
        drop(first);
        assert_eq!(available(&book), 10);
    }

    /// What is held, or not there, is not taken back.
    #[test]
    fn no_more_is_taken_back_than_there_is() {
        let book = funded(10);
        let account = book.account(ID, Asset::Usd);
        let hold = reserve(&book, 7, &[]).unwrap();
        for (wanted, taken) in [(2, 2), (2, 1), (1, 0), (-5, 0)] {
            assert_eq!(book.withdraw(&account, Amount::from_units(wanted)).units(), taken, "{wanted}");
        }
        drop(hold);
        assert_eq!(available(&book), 7);
    }

    /// 64 racing captures of one hold: one wins, the others write nothing.
    #[test]
    fn blnk_171() {
        let book = funded(100);
        let hold = Arc::new(reserve(&book, 50, &[]).unwrap());
        let racers: Vec<_> = (0..64)
            .map(|_| {
                let hold = Arc::clone(&hold);
                thread::spawn(move || hold.finish(Amount::from_units(30)).is_some())
            })
            .collect();
        let winners = racers.into_iter().map(|racer| racer.join().unwrap());
        assert_eq!(winners.filter(|won| *won).count(), 1);
        assert_eq!(available(&book), 70);
    }

    /// LED-5.
    #[test]
    fn balance_for_exactly_k_calls_serves_exactly_k() {
        let book = Arc::new(funded(100 * 7));
        let served: usize = (0..16)
            .map(|_| {
                let book = Arc::clone(&book);
                thread::spawn(move || {
                    (0..100)
                        .filter(|_| reserve(&book, 7, &[]).is_ok_and(|h| h.finish(h.amount()).is_some()))
                        .count()
                })
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum();
        assert_eq!((served, available(&book)), (100, 0));
    }

    /// LED-7.
    #[test]
    fn a_hold_ends_once_and_gives_the_rest_back() {
        let book = funded(100);
        let hold = reserve(&book, 60, &[]).unwrap();
        assert_eq!(book.account(ID, Asset::Usd).held(), Amount::from_units(60));
        let ended = hold.finish(Amount::from_units(25)).unwrap();
        assert_eq!((ended.end, ended.captured.units(), ended.overrun.units()), (HoldEnd::Captured, 25, 0));
        assert_eq!(hold.finish(Amount::from_units(25)), None);
        drop(hold);
        assert_eq!((available(&book), book.account(ID, Asset::Usd).held().units()), (75, 0));
    }

    /// LED-11.
    #[test]
    fn an_overrun_takes_what_is_there_and_never_more() {
        let book = funded(100);
        let hold = reserve(&book, 60, &[]).unwrap();
        let ended = hold.finish(Amount::from_units(130)).unwrap();
        assert_eq!((ended.captured.units(), ended.overrun.units(), available(&book)), (100, 30, 0));
    }

    /// LED-13, LED-15.
    #[test]
    fn every_budget_on_the_chain_is_charged_or_none() {
        let book = funded(100);
        let wide = Budget { link: AccountId([1; 16]), limit: Amount::from_units(50), ends_s: None };
        let tight = Budget { link: AccountId([2; 16]), limit: Amount::from_units(10), ends_s: None };
        let refused = reserve(&book, 20, &[wide, tight]).unwrap_err();
        assert_eq!(refused, ReserveError::Budget { available: Amount::from_units(10) });
        assert_eq!((available(&book), book.budget_left(wide, Asset::Usd).units()), (100, 50));
        let hold = reserve(&book, 10, &[wide, tight]).unwrap();
        hold.finish(Amount::from_units(4)).unwrap();
        assert_eq!(book.budget_left(wide, Asset::Usd).units(), 46);
        assert_eq!(book.budget_left(tight, Asset::Usd).units(), 6);
        assert_eq!(available(&book), 96);
    }

    #[test]
    fn a_budget_remembers_what_was_spent_before_a_restart() {
        let book = funded(100);
        let budget = Budget { link: AccountId([2; 16]), limit: Amount::from_units(20), ends_s: None };
        book.restore_spent(budget.link, Asset::Usd, Amount::from_units(15));
        assert_eq!(book.budget_left(budget, Asset::Usd).units(), 5);
        assert!(reserve(&book, 6, &[budget]).is_err());
        assert!(reserve(&book, 5, &[budget]).is_ok());
    }

    /// LED-14: what the operator changes of a window's limit counts for what is left of it.
    #[test]
    fn a_window_takes_on_another_limit() {
        let window = |limit| Budget::window(ID, "day", 100, 7, Amount::from_units(limit));
        for spent_before in [false, true] {
            let book = funded(1000);
            if spent_before {
                book.restore_spent(window(0).link, Asset::Usd, Amount::from_units(60));
            } else {
                reserve(&book, 60, &[window(100)]).unwrap().finish(Amount::from_units(60)).unwrap();
            }
            for (limit, left) in [(100, 40), (50, 0), (70, 10), (50, 0), (200, 140), (100, 40)] {
                assert_eq!(book.budget_left(window(limit), Asset::Usd).units(), left, "{limit}");
                assert!(reserve(&book, left + 1, &[window(limit)]).is_err());
                assert!(left == 0 || reserve(&book, left, &[window(limit)]).is_ok());
            }
        }
    }

    /// LED-4.
    #[test]
    fn an_account_holds_one_asset() {
        let book = Book::default();
        assert!(book.find_any(ID).is_none());
        assert!(book.fix_asset(ID, Asset::Usdc) && book.fix_asset(ID, Asset::Usdc));
        assert!(!book.fix_asset(ID, Asset::Usdt));
        book.deposit(ID, Asset::Usdc, Amount::from_units(5));
        assert_eq!(book.find_any(ID).unwrap().asset(), Asset::Usdc);
        // Money that came in all the same is not lost, and changes nothing about what the account holds.
        book.deposit(ID, Asset::Test, Amount::from_units(7));
        assert_eq!(book.find(ID, Asset::Test).unwrap().available().units(), 7);
        assert_eq!(book.find_any(ID).unwrap().available().units(), 5);
        assert!(!book.fix_asset(ID, Asset::Test));
    }

    #[test]
    fn an_overrun_stops_at_the_tightest_budget() {
        let book = funded(100);
        let tight = Budget { link: AccountId([2; 16]), limit: Amount::from_units(20), ends_s: None };
        let ended = reserve(&book, 10, &[tight]).unwrap().finish(Amount::from_units(50)).unwrap();
        assert_eq!((ended.captured.units(), ended.overrun.units()), (20, 30));
        assert_eq!((available(&book), book.budget_left(tight, Asset::Usd).units()), (80, 0));
    }

    /// LED-14: a hold taken in one window finishes in it, the next window is full from the start.
    #[test]
    fn a_window_is_filled_on_first_touch_and_never_reset() {
        let book = funded(100);
        let at = |now_s| Budget::window(ID, "hour", 3600, now_s, Amount::from_units(30));
        let (first, second) = (at(7199), at(7200));
        assert_eq!((first.link, first.ends_s), (window_link(ID, "hour", 3600), Some(7200)));
        assert_eq!((second.link, second.ends_s), (window_link(ID, "hour", 7200), Some(10_800)));
        assert_eq!(Budget::window(ID, "x", 0, 5, Amount::ZERO).ends_s, Some(6));
        let hold = reserve(&book, 20, &[first]).unwrap();
        assert!(reserve(&book, 11, &[first]).is_err());
        // The edge: the same limit, a new account.
        let next = reserve(&book, 30, &[second]).unwrap();
        hold.extend(Amount::from_units(10)).unwrap();
        assert_eq!(
            hold.extend(Amount::from_units(1)).unwrap_err(),
            ReserveError::Budget { available: Amount::ZERO }
        );
        hold.finish(Amount::from_units(25)).unwrap();
        next.finish(Amount::from_units(30)).unwrap();
        assert_eq!(book.budget_left(first, Asset::Usd).units(), 5);
        assert_eq!(book.budget_left(second, Asset::Usd).units(), 0);
        assert_eq!(available(&book), 45);
    }

    /// LED-14: memory is bounded, and a forgotten window can never be spent twice.
    #[test]
    fn a_window_that_is_over_is_forgotten_and_stays_closed() {
        let book = funded(100);
        let key = Budget { link: AccountId([2; 16]), limit: Amount::from_units(50), ends_s: None };
        let at = |now_s| Budget::window(ID, "minute", 60, now_s, Amount::from_units(10));
        book.restore_spent(at(0).link, Asset::Usd, Amount::from_units(3));
        let open = reserve(&book, 7, &[key, at(0)]).unwrap();
        reserve(&book, 1, &[key, at(60)]).unwrap().finish(Amount::from_units(1)).unwrap();
        assert_eq!(book.forget_windows(59), 0);
        assert_eq!(book.forget_windows(60), 1);
        assert_eq!(reserve(&book, 1, &[key, at(0)]).unwrap_err(), ReserveError::WindowOver);
        // The hold of the old window ends as it would have, and the other limits stand.
        open.finish(Amount::from_units(5)).unwrap();
        assert_eq!(available(&book), 94);
        assert_eq!(book.budget_left(key, Asset::Usd).units(), 44);
        assert_eq!(book.budget_left(at(60), Asset::Usd).units(), 9);
        assert_eq!(book.forget_windows(u64::MAX), 1);
        // A clock set back does not open it again.
        assert_eq!(book.forget_windows(0), 0);
        assert_eq!(reserve(&book, 1, &[at(60)]).unwrap_err(), ReserveError::WindowOver);
        assert!(reserve(&book, 1, &[key]).is_ok());
    }

    /// L402-55: what a holder can make us remember has a bound, and a forgotten window makes room.
    #[test]
    fn budgets_of_an_account_are_counted() {
        let book = funded(100);
        let max = u64::from(BUDGETS_PER_ACCOUNT_MAX);
        let at = |start_s| Budget::window(ID, "second", 1, start_s, Amount::from_units(1));
        for start_s in 0..max {
            // The second time it is known already and not counted again.
            for _ in 0..2 {
                reserve(&book, 1, &[at(start_s)]).unwrap();
            }
        }
        assert_eq!(reserve(&book, 1, &[at(max)]).unwrap_err(), ReserveError::TooManyBudgets);
        assert_eq!(available(&book), 100);
        assert_eq!(book.forget_windows(2), 2);
        assert!(reserve(&book, 1, &[at(max)]).is_ok() && reserve(&book, 1, &[at(max + 1)]).is_ok());
        assert_eq!(reserve(&book, 1, &[at(max + 2)]).unwrap_err(), ReserveError::TooManyBudgets);
    }

    #[test]
    fn accounts_are_opened_found_and_restored() {
        let book = Book::default();
        assert!((book.len(), book.is_empty()) == (0, true) && book.find(ID, Asset::Usd).is_none());
        book.restore(ID, Asset::Usd, Amount::from_units(12));
        assert!((book.len(), book.is_empty()) == (1, false) && book.find(ID, Asset::Usdc).is_none());
        let account = book.find_any(ID).unwrap();
        let hold = reserve(&book, 5, &[]).unwrap();
        let shown = book.balance(&account);
        assert_eq!((shown.available.units(), shown.held.units()), (7, 5));
        drop(hold);
        assert!(std::ptr::eq(&*account, &*book.account(ID, Asset::Usd)));
    }

    /// Two threads, one at the end of a window's life: its limit is spent once at most.
    #[test]
    fn forgetting_races_with_spending() {
        for round in 0..200 {
            let book = Arc::new(funded(1000));
            let window = Budget::window(ID, "w", 10, 5, Amount::from_units(10));
            let spender = {
                let book = Arc::clone(&book);
                thread::spawn(move || {
                    let spend = || reserve(&book, 3, &[window]).ok()?.finish(Amount::from_units(3));
                    (0..8).filter(|_| spend().is_some()).count()
                })
            };
            if round % 2 == 0 {
                thread::yield_now();
            }
            book.forget_windows(10);
            let served = spender.join().unwrap();
            assert!(served <= 3, "{served} times 3 of 10");
            assert_eq!(available(&book), 1000 - 3 * i64::try_from(served).unwrap());
        }
    }

    /// LED-8.
    #[test]
    fn a_frozen_account_refuses_reserves_and_takes_deposits() {
        let book = funded(10);
        book.account(ID, Asset::Usd).set_state(crate::AccountState::Frozen).unwrap();
        assert_eq!(reserve(&book, 1, &[]).unwrap_err(), ReserveError::Frozen);
        book.deposit(ID, Asset::Usd, Amount::from_units(5));
        assert_eq!(available(&book), 15);
    }

    proptest! {
        /// Any sequence of deposits, holds and ends agrees with a naive model and never overspends.
        #[test]
        fn random_histories_agree_with_a_naive_model(
            steps in proptest::collection::vec((0u8..4, 0i64..50), 1..200)
        ) {
            let book = funded(0);
            let (mut free, mut open) = (0i64, Vec::new());
            for (step, units) in steps {
                match step {
                    0 => {
                        book.deposit(ID, Asset::Usd, Amount::from_units(units));
                        free += units;
                    }
                    1 => match reserve(&book, units, &[]) {
                        Ok(hold) => {
                            prop_assert!(units <= free);
                            free -= units;
                            open.push(hold);
                        }
                        Err(_) => prop_assert!(units > free),
                    },
                    2 => if let Some(hold) = open.pop() {
                        let ended = hold.finish(Amount::from_units(units)).unwrap();
                        let held = hold.amount().units();
                        prop_assert_eq!(ended.captured.units() + ended.overrun.units(), units);
                        free += held - ended.captured.units();
                    },
                    _ => if let Some(hold) = open.pop() {
                        free += hold.amount().units();
                    },
                }
                prop_assert_eq!(available(&book), free);
                prop_assert!(free >= 0);
            }
        }
    }
}
