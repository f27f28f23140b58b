//! Rates per source and per account, before any costly work (SEC-45..48).

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ledger::{AccountId, AccountRef, Book, Pace, Rate};

use crate::config::RateLimits;
use crate::refusal::{Code, Refusal};

/// Sources remembered at most; beyond it the quiet ones are forgotten.
const SOURCES_MAX: usize = 100_000;
/// Accounts remembered at most beside the book: anybody can sign for as many as he likes. Beyond it those are forgotten that
/// make no call just now.
const ACCOUNTS_MAX: usize = 100_000;
/// Questions for a price that payments of one source have made up for, at most: what it may ask at once.
const ASKS_MAX: u32 = 100;
/// Notices of rails from one source, each of which costs a signature check (RAIL-7).
const NOTICES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
const NOTICES_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// Looks of one account at its balance and receipts.
const READS: Rate = Rate::per_minute(NonZeroU32::MIN.saturating_add(5999));

/// Who a request comes from: an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl Source {
    /// The same for the same source; an IPv4 address as it stands within IPv6.
    pub(crate) fn bytes(self) -> [u8; 16] {
        match self.0 {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }

    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(v4),
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
        }
    }
}

/// Invoices, orders and codes that one account may hand in, or ask after.
const REFUNDS: Rate = Rate::per_minute(NonZeroU32::MIN.saturating_add(59));

/// How many calls there may be, in a minute and at once.
#[derive(Clone, Copy, Debug)]
struct Calls {
    rate: Rate,
    at_once: u32,
}

/// What was counted of somebody that is not in the record of an account: calls of an agent, or of an account that nobody has
/// paid in for, and what else an account does beside calling.
#[derive(Debug)]
pub(crate) struct AccountLimits {
    calls: Calls,
    pace: Pace,
    running: AtomicU32,
    reads: Pace,
    refunds: Pace,
}

/// The limiters of one configuration. A reload starts fresh ones; what an account of the book has called counts on.
#[derive(Debug)]
pub(crate) struct Limiters {
    unpaid: DefaultKeyedRateLimiter<Source>,
    notices: DefaultKeyedRateLimiter<Source>,
    /// Questions for a price that payments have made up for.
    asks: DashMap<Source, u32>,
    invalid: DefaultKeyedRateLimiter<Source>,
    /// Sources whose budget of bad proofs is spent, and until when.
    blocked: DashMap<Source, Instant>,
    accounts: DashMap<AccountId, Arc<AccountLimits>>,
    /// By thumbprint: only keys that we know get so far.
    agents: DashMap<String, Arc<AccountLimits>>,
    calls: Calls,
    rules: RateLimits,
    clock: DefaultClock,
}

impl Limiters {
    pub(crate) fn new(rules: &RateLimits) -> Self {
        let invalid = Quota::per_minute(rules.invalid_per_minute).allow_burst(rules.invalid_burst);
        Self {
            unpaid: RateLimiter::keyed(Quota::per_minute(rules.unpaid_per_minute)),
            notices: RateLimiter::keyed(Quota::per_second(NOTICES_PER_SECOND).allow_burst(NOTICES_BURST)),
            asks: DashMap::new(),
            invalid: RateLimiter::keyed(invalid),
            blocked: DashMap::new(),
            accounts: DashMap::new(),
            agents: DashMap::new(),
            calls: Calls::new(rules.account_per_minute, rules.account_concurrent),
            rules: rules.clone(),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a payment. A stock client asks for the price before each one, so who pays may ask again: else its calls
    /// would be as few as those of who never pays.
    pub(crate) fn paid(&self, source: Source) {
        if self.asks.len() > SOURCES_MAX {
            self.asks.retain(|_, asks| *asks > 0);
        }
        if self.asks.len() > SOURCES_MAX {
            return;
        }
        let mut asks = self.asks.entry(source).or_default();
        *asks = asks.saturating_add(1).min(ASKS_MAX);
    }

    /// Counts a request without a credential.
    pub(crate) fn admit_unpaid(&self, source: Source) -> Result<(), Refusal> {
        if let Some(mut asks) = self.asks.get_mut(&source)
            && let Some(left) = asks.checked_sub(1)
        {
            *asks = left;
            return Ok(());
        }
        if self.unpaid.len() > SOURCES_MAX {
            self.unpaid.retain_recent();
        }
        self.unpaid.check_key(&source).map_err(|until| {
            too_many("Too many unpaid requests from this address.", until.wait_time_from(self.clock.now()))
        })
    }

    /// Counts a notice of a rail. What is turned away here comes again, or is found when the rail is asked.
    pub(crate) fn admit_notice(&self, source: Source) -> Result<(), Refusal> {
        if self.notices.len() > SOURCES_MAX {
            self.notices.retain_recent();
        }
        self.notices.check_key(&source).map_err(|until| {
            too_many("Too many notices from this address.", until.wait_time_from(self.clock.now()))
        })
    }

    /// Refuses a source whose budget of bad proofs is spent, before anything is verified (SEC-47).
    pub(crate) fn admit_proof(&self, source: Source) -> Result<(), Refusal> {
        let Some(until) = self.blocked.get(&source).map(|until| *until) else { return Ok(()) };
        let wait = until.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return Err(too_many("Too many credentials that do not verify from this address.", wait));
        }
        self.blocked.remove(&source);
        Ok(())
    }

    /// Counts a proof that did not verify.
    pub(crate) fn count_invalid(&self, source: Source) {
        if self.invalid.len() > SOURCES_MAX {
            self.invalid.retain_recent();
        }
        if let Err(until) = self.invalid.check_key(&source) {
            if self.blocked.len() > SOURCES_MAX {
                let now = Instant::now();
                self.blocked.retain(|_, until| *until > now);
            }
            self.blocked.insert(source, Instant::now() + until.wait_time_from(self.clock.now()));
        }
    }

    /// Counts a call of an account in, until the guard goes. One of the book has its limits in its record, beside the balance
    /// that the call is about to draw on; the others are looked for by name.
    pub(crate) fn call(&self, account: &AccountRef) -> Result<Running, Refusal> {
        if !account.is_in_book() {
            return self.account(account.id()).admit();
        }
        if account.pace().is_new()
            && let Some(before) = self.accounts.get(&account.id())
        {
            // Its first payment was a call too.
            account.pace().follow(&before.pace);
        }
        self.calls.admit(account.pace(), |at_once| account.begin_call(at_once))?;
        Ok(Running(Counted::Account(account.clone())))
    }

    /// The same by the account's name.
    pub(crate) fn call_of(&self, book: &Book, id: AccountId) -> Result<Running, Refusal> {
        match book.find_any(id) {
            Some(account) => self.call(&account),
            None => self.account(id).admit(),
        }
    }

    /// What an account may do beside calling, shared by all its keys; and its calls, before it is in the book.
    pub(crate) fn account(&self, id: AccountId) -> Arc<AccountLimits> {
        if let Some(found) = self.accounts.get(&id) {
            return Arc::clone(&found);
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            self.accounts.retain(|_, limits| Arc::strong_count(limits) > 1);
        }
        Arc::clone(&self.accounts.entry(id).or_insert_with(|| AccountLimits::new(self.calls)))
    }

    /// The limits of an agent, whatever it pays with: its own, else those of any account (IDN-34).
    pub(crate) fn agent(
        &self,
        thumbprint: &str,
        per_minute: Option<NonZeroU32>,
        concurrent: Option<NonZeroU32>,
    ) -> Arc<AccountLimits> {
        if let Some(found) = self.agents.get(thumbprint) {
            return Arc::clone(&found);
        }
        if self.agents.len() >= ACCOUNTS_MAX {
            self.agents.retain(|_, limits| Arc::strong_count(limits) > 1);
        }
        let per_minute = per_minute.unwrap_or(self.rules.account_per_minute);
        let concurrent = concurrent.unwrap_or(self.rules.account_concurrent);
        let fresh = || AccountLimits::new(Calls::new(per_minute, concurrent));
        Arc::clone(&self.agents.entry(thumbprint.to_owned()).or_insert_with(fresh))
    }
}

impl Calls {
    const fn new(per_minute: NonZeroU32, at_once: NonZeroU32) -> Self {
        Self { rate: Rate::per_minute(per_minute), at_once: at_once.get() }
    }

    /// Counts one call, which `begin` finds room for.
    fn admit(self, pace: &Pace, begin: impl FnOnce(u32) -> bool) -> Result<(), Refusal> {
        admit(pace, self.rate)?;
        if !begin(self.at_once) {
            return Err(too_many("This account has too many calls at once.", Duration::from_secs(1)));
        }
        Ok(())
    }
}

impl AccountLimits {
    fn new(calls: Calls) -> Arc<Self> {
        Arc::new(Self {
            calls,
            pace: Pace::default(),
            running: AtomicU32::new(0),
            reads: Pace::default(),
            refunds: Pace::default(),
        })
    }

    /// Counts a look at balance or receipts, apart from the calls.
    pub(crate) fn admit_read(&self) -> Result<(), Refusal> {
        admit(&self.reads, READS)
    }

    /// Counts an invoice, an order or a code that is handed in.
    pub(crate) fn admit_refund(&self) -> Result<(), Refusal> {
        admit(&self.refunds, REFUNDS)
    }

    /// Counts one call in, until the returned guard goes.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Running, Refusal> {
        let begin = |at_once: u32| {
            let room = |count: u32| (count < at_once).then_some(count + 1);
            self.running.try_update(Ordering::AcqRel, Ordering::Acquire, room).is_ok()
        };
        self.calls.admit(&self.pace, begin)?;
        Ok(Running(Counted::Apart(Arc::clone(self))))
    }
}

/// One call of an account in flight.
#[derive(Debug)]
pub(crate) struct Running(Counted);

/// Where it is counted.
#[derive(Debug)]
enum Counted {
    Account(AccountRef),
    Apart(Arc<AccountLimits>),
}

impl Drop for Running {
    fn drop(&mut self) {
        match &self.0 {
            Counted::Account(account) => account.end_call(),
            Counted::Apart(limits) => {
                limits.running.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

/// A bound on things in flight, shared by all threads.
#[derive(Debug)]
pub(crate) struct Slots {
    taken: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Slots>);

impl Slots {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0) })
    }

    pub(crate) fn take(self: &Arc<Self>, max: usize) -> Option<Slot> {
        let room = |taken: usize| (taken < max).then_some(taken + 1);
        self.taken.try_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        Some(Slot(Arc::clone(self)))
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts one thing that an account does.
fn admit(pace: &Pace, rate: Rate) -> Result<(), Refusal> {
    pace.admit(rate, now_ns())
        .map_err(|early| too_many("This account calls more often than it may.", early.wait))
}

/// What paces are told: nanoseconds since this was first asked, the same for every configuration.
fn now_ns() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn too_many(detail: &'static str, wait: Duration) -> Refusal {
    let seconds = u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(60).min(60);
    Refusal::new(Code::RateLimited, detail).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use ledger::{AccountId, Book};
    use money::Asset;

    use super::{ACCOUNTS_MAX, Limiters};
    use crate::config::RateLimits;

    #[test]
    fn accounts_that_call_are_remembered_and_strangers_are_bounded() {
        let limiters = Limiters::new(&RateLimits::default());
        let id = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            AccountId(id)
        };
        let caller = limiters.account(id(0)).admit();
        for number in 1..=ACCOUNTS_MAX {
            limiters.account(id(number));
        }
        assert_eq!(limiters.accounts.len(), 2);
        assert!(limiters.accounts.contains_key(&id(0)) && caller.is_ok());
    }

    fn rules(per_minute: u32, at_once: u32) -> RateLimits {
        let [account_per_minute, account_concurrent] =
            [per_minute, at_once].map(|count| NonZeroU32::new(count).unwrap());
        RateLimits { account_per_minute, account_concurrent, ..RateLimits::default() }
    }

    /// Whoever is in the book takes no room here, however he is named, and keeps his limits over a reload.
    #[test]
    fn an_account_of_the_book_is_counted_in_its_record() {
        let (limiters, book, id) = (Limiters::new(&rules(4, 2)), Book::default(), AccountId([1; 16]));
        let account = book.account(id, Asset::Usd);
        let calls = [limiters.call(&account), limiters.call_of(&book, id)];
        assert!(calls.iter().all(Result::is_ok));
        assert!(limiters.call(&account).is_err(), "two at once; it counts as the third of this minute");
        drop(calls);
        assert!(limiters.call_of(&book, id).is_ok());
        assert!(limiters.call(&account).is_err() && limiters.accounts.is_empty(), "four a minute");
        assert!(Limiters::new(&rules(4, 2)).call(&account).is_err(), "a reload forgives nothing");
    }

    /// The first call of a payer comes before he is in the book, and counts.
    #[test]
    fn what_was_counted_before_the_book_knew_an_account_counts() {
        let (limiters, book, id) = (Limiters::new(&rules(2, 9)), Book::default(), AccountId([1; 16]));
        assert!(limiters.call_of(&book, id).is_ok());
        let account = book.account(id, Asset::Usd);
        assert!(limiters.call_of(&book, id).is_ok());
        assert!(limiters.call(&account).is_err() && limiters.call_of(&book, id).is_err());
    }
}
