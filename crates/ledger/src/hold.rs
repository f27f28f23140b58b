//! A hold: money set aside for one call, given back or captured exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use money::Amount;

use crate::Account;

const RESERVED: u8 = 0;
const CAPTURED: u8 = 1;
const VOIDED: u8 = 2;

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// Something was used and taken.
    Captured,
    /// Nothing was used; everything went back.
    Voided,
}

/// What the winner of [`Hold::finish`] has to write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Captured or voided.
    pub end: HoldEnd,
    /// Taken from the payer.
    pub captured: Amount,
    /// Used but beyond what the payer had: the operator's loss, never a negative balance (LED-11).
    pub overrun: Amount,
    /// Available on the money account right after, other calls included.
    pub available: Amount,
}

/// Money reserved on an account and every budget above the key that pays (LED-13).
///
/// Dropping a hold that nobody finished voids it: nothing leaks, whoever disconnects.
#[derive(Debug)]
pub struct Hold {
    chain: Box<[Arc<Account>]>,
    amount: i64,
    state: AtomicU8,
}

impl Hold {
    pub(crate) fn reserved(chain: Box<[Arc<Account>]>, amount: i64) -> Self {
        if let Some(account) = chain.first() {
            account.note_held(amount);
        }
        Self { chain, amount, state: AtomicU8::new(RESERVED) }
    }

    /// What was set aside.
    #[must_use]
    pub fn amount(&self) -> Amount {
        Amount::from_units(self.amount)
    }

    /// The account that pays, then its budgets.
    #[must_use]
    pub fn chain(&self) -> &[Arc<Account>] {
        &self.chain
    }

    /// Ends the hold: takes `used`, gives the rest back. The one way a hold ends (LED-7).
    ///
    /// Above the held amount the rest is taken from what is still available; what is not there is
    /// reported as `overrun`. `None` when the hold has already ended: the caller writes nothing.
    pub fn finish(&self, used: Amount) -> Option<Ended> {
        let used = used.units().max(0);
        let (next, end) = if used > 0 { (CAPTURED, HoldEnd::Captured) } else { (VOIDED, HoldEnd::Voided) };
        self.state.compare_exchange(RESERVED, next, Ordering::AcqRel, Ordering::Acquire).ok()?;
        let captured =
            if used <= self.amount { used } else { self.amount + self.take_beyond(used - self.amount) };
        for account in &self.chain {
            account.give((self.amount - captured).max(0));
        }
        if let Some(account) = self.chain.first() {
            account.note_held(-self.amount);
        }
        let available = self.chain.first().map_or(Amount::ZERO, |account| account.available());
        Some(Ended {
            end,
            captured: Amount::from_units(captured),
            overrun: Amount::from_units(used - captured),
            available,
        })
    }

    /// Takes up to `extra` more, the same from every account of the chain: the smallest room decides.
    fn take_beyond(&self, extra: i64) -> i64 {
        let mut common = extra;
        for (place, account) in self.chain.iter().enumerate() {
            let taken = account.take_up_to(common);
            for earlier in &self.chain[..place] {
                earlier.give(common - taken);
            }
            common = taken;
        }
        common
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.finish(Amount::ZERO);
    }
}
