//! Rates per source and per account, before any costly work (SEC-45..48).

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use ledger::AccountId;

use crate::config::RateLimits;
use crate::refusal::{Code, Refusal};

/// Sources remembered at most; beyond it the quiet ones are forgotten.
const SOURCES_MAX: usize = 100_000;
/// Accounts remembered at most: anybody can sign for as many as he likes. Beyond it those are forgotten that make no
/// call just now.
const ACCOUNTS_MAX: usize = 100_000;
/// Questions for a price that payments of one source have made up for, at most: what it may ask at once.
const ASKS_MAX: u32 = 100;
/// Notices of rails from one source, each of which costs a signature check (RAIL-7).
const NOTICES_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
const NOTICES_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// Looks of one account at its balance and receipts.
const READS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(5999);

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
const REFUNDS_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);

/// What an account may do beside spending.
#[derive(Debug)]
pub(crate) struct AccountLimits {
    rate: DefaultDirectRateLimiter,
    reads: DefaultDirectRateLimiter,
    refunds: DefaultDirectRateLimiter,
    concurrent: AtomicU32,
    concurrent_max: u32,
}

/// The limiters of one configuration. A reload starts fresh ones.
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

    /// The limits of an account, shared by all its keys.
    pub(crate) fn account(&self, id: AccountId) -> Arc<AccountLimits> {
        if let Some(found) = self.accounts.get(&id) {
            return Arc::clone(&found);
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            self.accounts.retain(|_, limits| Arc::strong_count(limits) > 1);
        }
        let fresh = || AccountLimits::new(self.rules.account_per_minute, self.rules.account_concurrent);
        Arc::clone(&self.accounts.entry(id).or_insert_with(fresh))
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
        let fresh = || AccountLimits::new(per_minute, concurrent);
        Arc::clone(&self.agents.entry(thumbprint.to_owned()).or_insert_with(fresh))
    }
}

impl AccountLimits {
    fn new(per_minute: NonZeroU32, concurrent: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            rate: RateLimiter::direct(Quota::per_minute(per_minute)),
            reads: RateLimiter::direct(Quota::per_minute(READS_PER_MINUTE)),
            refunds: RateLimiter::direct(Quota::per_minute(REFUNDS_PER_MINUTE)),
            concurrent: AtomicU32::new(0),
            concurrent_max: concurrent.get(),
        })
    }

    /// Counts a look at balance or receipts, apart from the calls.
    pub(crate) fn admit_read(&self) -> Result<(), Refusal> {
        check(&self.reads)
    }

    /// Counts an invoice, an order or a code that is handed in.
    pub(crate) fn admit_refund(&self) -> Result<(), Refusal> {
        check(&self.refunds)
    }

    /// Counts one call in, until the returned guard goes.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Running, Refusal> {
        check(&self.rate)?;
        let room = |count: u32| (count < self.concurrent_max).then_some(count + 1);
        if self.concurrent.try_update(Ordering::AcqRel, Ordering::Acquire, room).is_err() {
            return Err(too_many("This account has too many calls at once.", Duration::from_secs(1)));
        }
        Ok(Running(Arc::clone(self)))
    }
}

/// One call of an account in flight.
#[derive(Debug)]
pub(crate) struct Running(Arc<AccountLimits>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.concurrent.fetch_sub(1, Ordering::AcqRel);
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

fn check(limiter: &DefaultDirectRateLimiter) -> Result<(), Refusal> {
    limiter.check().map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        too_many("This account calls more often than it may.", wait)
    })
}

fn too_many(detail: &'static str, wait: Duration) -> Refusal {
    let seconds = u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(60).min(60);
    Refusal::new(Code::RateLimited, detail).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use ledger::AccountId;

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
}
