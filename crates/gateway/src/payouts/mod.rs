//! Balance that goes back over Lightning, to an invoice that its holder hands in (l402.md section 11).
//!
//! The money is set aside and the intent durable before the node is asked; the node is asked to pay once. Whatever it
//! says or does not say, an invoice is paid once or not at all: where nobody told, the money stays set aside and the node
//! is asked what became of it, until it knows. No other node is: where that one is not configured any more, the operator
//! decides. Until then the account hands in no other invoice.

mod begin;
mod entries;
mod invoice;
mod resolver;
mod returning;
mod sending;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use ledger::AccountId;
use money::Amount;
use store::{Payout, PayoutState, StoreError};
use tokio::sync::OwnedMutexGuard;

pub(crate) use begin::{hand_in, short};
pub(crate) use entries::{failed, paid};
pub(crate) use resolver::run;
pub(crate) use returning::{give_back, returned, sats_left, takes_back};
pub(crate) use sending::write;

use crate::clock::Now;
use crate::gate::Gate;

/// The rail, in journal and metrics.
pub(crate) const RAIL: &str = "lightning";
/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;

/// Payouts that are not decided, and what went back today.
#[derive(Debug, Default)]
pub(crate) struct Payouts {
    state: Mutex<State>,
    /// Accounts for which an invoice is looked at: one after the other, so that each finds what the one before has done.
    lanes: DashMap<AccountId, Arc<tokio::sync::Mutex<()>>>,
}

#[derive(Debug, Default)]
struct State {
    /// By payment hash: when to ask what became of it, Unix milliseconds. None while somebody asks.
    open: HashMap<[u8; 32], Option<u64>>,
    /// Those of `open` that were ordered at a node that is not configured now.
    elsewhere: HashSet<[u8; 32]>,
    /// The latest day of which anything went back.
    day: u64,
    /// Ledger units of that day.
    today: i64,
}

/// The right to let so much go back today. Dropped, it is given back.
#[derive(Debug)]
struct Share<'p> {
    of: &'p Payouts,
    day: u64,
    units: i64,
}

impl Share<'_> {
    /// It goes back for good.
    fn keep(mut self) {
        self.units = 0;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.of.give_back(self.day, self.units);
    }
}

impl Payouts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else looks at an invoice for this account.
    async fn lane(&self, account: AccountId) -> OwnedMutexGuard<()> {
        // Those that nobody is in leave with the next.
        self.lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        let lane = Arc::clone(&self.lanes.entry(account).or_default());
        lane.lock_owned().await
    }

    /// A share of what may go back today. None: the day's is gone.
    fn share(&self, units: i64, most: Amount, now: Now) -> Option<Share<'_>> {
        let day = now.seconds() / DAY_S;
        let mut state = self.state();
        // A day that is over does not come again, whatever the clock says: what it says then counts for the latest.
        if day > state.day {
            (state.day, state.today) = (day, 0);
        }
        let sum = state.today.checked_add(units).filter(|sum| *sum <= most.units())?;
        state.today = sum;
        Some(Share { of: self, day: state.day, units })
    }

    fn give_back(&self, day: u64, units: i64) {
        let mut state = self.state();
        if state.day == day {
            state.today = state.today.saturating_sub(units);
        }
    }

    /// Somebody begins it, and asks the node to pay; nobody else decides about it until [`Payouts::watch`]. False:
    /// somebody has begun it before.
    fn is_begun(&self, hash: [u8; 32]) -> bool {
        match self.state().open.entry(hash) {
            Entry::Vacant(place) => {
                place.insert(None);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// It is not decided; the node is to be asked at this time.
    fn watch(&self, hash: [u8; 32], next_ms: u64) {
        self.state().open.insert(hash, Some(next_ms));
    }

    /// Takes the right to decide about it. False while the node is asked.
    pub(crate) fn take(&self, hash: &[u8; 32]) -> bool {
        match self.state().open.get_mut(hash) {
            Some(next) => next.take().is_some(),
            None => true,
        }
    }

    /// As [`Payouts::watch`], at once: it could not be decided after all.
    pub(crate) fn let_go(&self, hash: [u8; 32]) {
        self.watch(hash, Now::read().millis());
    }

    /// It is decided.
    pub(crate) fn forget(&self, hash: &[u8; 32]) {
        let mut state = self.state();
        state.open.remove(hash);
        state.elsewhere.remove(hash);
    }

    /// It was ordered at a node that is not configured. True: that was not known yet.
    fn is_elsewhere(&self, hash: [u8; 32]) -> bool {
        self.state().elsewhere.insert(hash)
    }

    /// It was ordered at the node that is configured.
    fn is_here(&self, hash: &[u8; 32]) {
        self.state().elsewhere.remove(hash);
    }

    /// Whether only the operator can decide about it, as the gateway is configured.
    pub(crate) fn needs_operator(&self, hash: &[u8; 32]) -> bool {
        self.state().elsewhere.contains(hash)
    }

    fn take_due(&self, now_ms: u64, most: usize) -> Vec<[u8; 32]> {
        let mut state = self.state();
        let due = state.open.iter_mut().filter(|(_, next)| next.is_some_and(|next| next <= now_ms));
        due.take(most)
            .map(|(hash, next)| {
                *next = None;
                *hash
            })
            .collect()
    }

    /// How many are not decided.
    fn open(&self) -> usize {
        self.state().open.len()
    }

    /// Takes up what earlier processes have left: what is open, and what went back today.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) fn take_up(&self, gate: &Gate, now: Now) -> Result<(), StoreError> {
        let mut state = self.state();
        state.day = now.seconds() / DAY_S;
        for (hash, payout) in gate.store.reader().payouts()? {
            if payout.state == PayoutState::Open {
                // The process that asked is gone: whatever it was told, it is asked about at once.
                state.open.insert(hash, Some(0));
            }
            // The clock may have been ahead.
            if payout.created_ms / 1000 / DAY_S >= state.day {
                state.today = state.today.saturating_add(went(&payout));
            }
        }
        Ok(())
    }
}

/// What of a payout counts for its day.
fn went(payout: &Payout) -> i64 {
    match payout.state {
        PayoutState::Open => payout.held(),
        PayoutState::Paid => payout.charged,
        PayoutState::Failed => 0,
    }
}

#[cfg(test)]
mod tests {
    use money::Amount;

    use super::{DAY_S, Payouts};
    use crate::clock::Now;

    #[test]
    fn a_day_has_so_much_and_what_was_not_used_is_there_again() {
        let payouts = Payouts::default();
        let at = |seconds: u64| Now::of_millis(seconds * 1000);
        let most = Amount::from_units(100);
        let first = payouts.share(60, most, at(5 * DAY_S)).unwrap();
        assert!(payouts.share(41, most, at(5 * DAY_S)).is_none());
        let second = payouts.share(40, most, at(5 * DAY_S + DAY_S - 1)).unwrap();
        drop(first);
        second.keep();
        payouts.share(60, most, at(5 * DAY_S)).unwrap().keep();
        assert!(payouts.share(1, most, at(5 * DAY_S)).is_none());
        // What begins in one day and fails in the next was of the day before.
        let late = payouts.share(100, most, at(6 * DAY_S)).unwrap();
        let next = payouts.share(100, most, at(7 * DAY_S)).unwrap();
        drop(late);
        assert!(payouts.share(1, most, at(7 * DAY_S)).is_none());
        drop(next);
        assert!(payouts.share(i64::MAX, most, at(7 * DAY_S)).is_none());
    }

    /// Whoever sends an invoice before midnight and its end after it, or whose clock is set back, has no second day.
    #[test]
    fn a_day_that_is_over_does_not_begin_again() {
        let payouts = Payouts::default();
        let at = |day: u64| Now::of_millis(day * DAY_S * 1000);
        let most = Amount::from_units(100);
        payouts.share(60, most, at(6)).unwrap().keep();
        assert!(payouts.share(41, most, at(5)).is_none());
        let late = payouts.share(40, most, at(5)).unwrap();
        assert!(payouts.share(1, most, at(6)).is_none());
        drop(late);
        payouts.share(40, most, at(5)).unwrap().keep();
        assert!(payouts.share(1, most, at(6)).is_none() && payouts.share(1, most, at(5)).is_none());
        payouts.share(100, most, at(7)).unwrap().keep();
    }

    /// The operator is told once of what he has to decide, until the node is there again.
    #[test]
    fn what_is_elsewhere_is_told_once() {
        let payouts = Payouts::default();
        assert!(payouts.is_elsewhere([1; 32]) && !payouts.is_elsewhere([1; 32]));
        assert!(payouts.needs_operator(&[1; 32]) && !payouts.needs_operator(&[2; 32]));
        payouts.is_here(&[1; 32]);
        assert!(!payouts.needs_operator(&[1; 32]) && payouts.is_elsewhere([1; 32]));
        payouts.forget(&[1; 32]);
        assert!(!payouts.needs_operator(&[1; 32]));
    }

    #[test]
    fn each_is_asked_about_by_one() {
        let payouts = Payouts::default();
        assert!(payouts.is_begun([1; 32]) && !payouts.is_begun([1; 32]));
        payouts.watch([2; 32], 10);
        payouts.watch([3; 32], 99);
        assert!(!payouts.is_begun([2; 32]), "it is somebody else's");
        assert_eq!(payouts.take_due(50, 8), [[2; 32]]);
        assert_eq!(payouts.take_due(50, 8), Vec::<[u8; 32]>::new());
        assert!(!payouts.take(&[1; 32]) && !payouts.take(&[2; 32]) && payouts.take(&[3; 32]));
        payouts.let_go([3; 32]);
        payouts.forget(&[1; 32]);
        assert_eq!(payouts.open(), 2);
        assert!(payouts.take(&[1; 32]), "nobody asks about what nobody knows");
    }
}
