//! Money set aside for one call, given back or captured exactly once.

use money::Amount;

use crate::AccountRef;
use crate::sync::{AtomicU64, Ordering};

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// Something was used and taken.
    Captured,
    /// Nothing was used; everything went back.
    Voided,
    /// Its deadline passed; what was used until then was taken.
    Expired,
}

impl HoldEnd {
    const fn bits(self) -> u64 {
        match self {
            Self::Captured => 1,
            Self::Voided => 2,
            Self::Expired => 3,
        }
    }

    const fn of_bits(bits: u64) -> Option<Self> {
        match bits {
            0 => None,
            1 => Some(Self::Captured),
            2 => Some(Self::Voided),
            _ => Some(Self::Expired),
        }
    }
}

/// Why nothing was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// The account holds too little.
    #[error("balance too small")]
    Balance {
        /// What is there.
        available: Amount,
    },
    /// A budget of the key is used up.
    #[error("budget of the key too small")]
    Budget {
        /// What is left of the tightest budget.
        available: Amount,
    },
    /// The account is frozen.
    #[error("account is frozen")]
    Frozen,
    /// The account is closed.
    #[error("account is closed")]
    Closed,
    /// More budgets under one account than we remember.
    #[error("too many budgets under one account")]
    TooManyBudgets,
    /// The window of a spend limit is over and forgotten: ask for the present one (LED-14).
    #[error("spend window is over")]
    WindowOver,
    /// A negative amount, or a hold that would come to more than [`HOLD_MAX`].
    #[error("amount is negative or beyond what a hold can be")]
    Negative,
    /// The hold has ended; only an extension meets this.
    #[error("hold has ended")]
    Ended,
}

/// What the winner of [`Hold::finish`] has to write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Captured, voided or expired.
    pub end: HoldEnd,
    /// Taken from the payer.
    pub captured: Amount,
    /// Used but beyond what the payer had: the operator's loss, never a negative balance (LED-11).
    pub overrun: Amount,
    /// Available on the money account right after, other calls included.
    pub available: Amount,
}

/// The most one hold can be: 2^62 - 1 ledger units, 4.6 billion dollars.
pub const HOLD_MAX: Amount = Amount::from_units((1 << 62) - 1);

/// Amount and state of a hold in one word, so that an extension and an end never see half of each
/// other: the amount above the two lowest bits, which are 0 while the hold is open.
#[derive(Debug)]
struct Word(AtomicU64);

const STATE_BITS: u32 = 2;
const STATE_MASK: u64 = 0b11;

impl Word {
    fn amount(&self) -> i64 {
        Self::amount_in(self.0.load(Ordering::Acquire))
    }

    /// Bits 2 to 63: never above [`HOLD_MAX`], so always in range.
    fn amount_in(word: u64) -> i64 {
        i64::try_from(word >> STATE_BITS).unwrap_or(i64::MAX)
    }

    fn of(amount: i64) -> Option<u64> {
        let amount = u64::try_from(amount).ok().filter(|_| amount <= HOLD_MAX.units())?;
        Some(amount << STATE_BITS)
    }

    fn grow(&self, more: i64) -> Result<(), ReserveError> {
        let mut refused = ReserveError::Ended;
        let grown = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            if word & STATE_MASK != 0 {
                refused = ReserveError::Ended;
                return None;
            }
            refused = ReserveError::Negative;
            Self::amount_in(word).checked_add(more).and_then(Self::of)
        });
        grown.map(|_| ()).map_err(|_| refused)
    }

    /// The amount the hold ended with, for the one caller that ended it.
    fn end(&self, end: HoldEnd) -> Option<i64> {
        let open = |word: u64| (word & STATE_MASK == 0).then_some(word | end.bits());
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, open).ok().map(Self::amount_in)
    }
}

/// Money reserved on an account and every budget above the key that pays (LED-13).
///
/// Dropping a hold that nobody finished voids it: nothing leaks, whoever disconnects.
#[derive(Debug)]
pub struct Hold {
    payer: AccountRef,
    budgets: Vec<AccountRef>,
    word: Word,
    /// How far below its floor the account that pays may be taken; its budgets never.
    beyond: i64,
}

impl Hold {
    /// Sets `amount` aside on one account.
    ///
    /// # Errors
    /// [`ReserveError`]; nothing is held then.
    pub fn on(account: &AccountRef, amount: Amount) -> Result<Self, ReserveError> {
        Self::beyond(account, amount, Amount::ZERO)
    }

    /// As [`Hold::on`], on an account that a payment is still to come for: it may be taken `beyond` units below
    /// its floor, by this hold, its extensions and its end (X402-21). A negative `beyond` counts as 0.
    ///
    /// # Errors
    /// [`ReserveError`]; nothing is held then.
    pub fn beyond(account: &AccountRef, amount: Amount, beyond: Amount) -> Result<Self, ReserveError> {
        let word = Word::of(amount.units()).ok_or(ReserveError::Negative)?;
        let beyond = beyond.units().max(0);
        account.hold(amount.units(), beyond)?;
        Ok(Self { payer: account.clone(), budgets: Vec::new(), word: Word(AtomicU64::new(word)), beyond })
    }

    /// Sets the same amount aside on a budget too.
    ///
    /// # Errors
    /// [`ReserveError::Budget`]; the hold is gone then and everything went back (LED-13).
    pub fn and_on(mut self, budget: AccountRef) -> Result<Self, ReserveError> {
        budget.hold(self.word.amount(), 0).map_err(of_budget)?;
        self.budgets.push(budget);
        Ok(self)
    }

    /// What is set aside now, extensions included; what it was when the hold ended, once it has.
    #[must_use]
    pub fn amount(&self) -> Amount {
        Amount::from_units(self.word.amount())
    }

    /// How it ended; `None` while it is open.
    #[must_use]
    pub fn ended(&self) -> Option<HoldEnd> {
        HoldEnd::of_bits(self.word.0.load(Ordering::Acquire) & STATE_MASK)
    }

    /// The account that pays.
    #[must_use]
    pub const fn payer(&self) -> &AccountRef {
        &self.payer
    }

    /// The account that pays, then its budgets.
    pub fn chain(&self) -> impl DoubleEndedIterator<Item = &AccountRef> {
        std::iter::once(&self.payer).chain(&self.budgets)
    }

    /// How far below zero the account that pays may be taken: its credit line, and what is still to come for it.
    #[must_use]
    pub fn reach(&self) -> Amount {
        Amount::from_units(self.payer.overdraft().units().saturating_add(self.beyond))
    }

    /// Sets `more` aside on every account of the chain, or on none: the next step of a progressive hold.
    ///
    /// While one that is refused gives back what it took, others may see less available than there is;
    /// never more.
    ///
    /// # Errors
    /// [`ReserveError`]; the hold is what it was. [`ReserveError::Ended`] when it has ended meanwhile.
    pub fn extend(&self, more: Amount) -> Result<(), ReserveError> {
        let more = more.units();
        if more < 0 {
            return Err(ReserveError::Negative);
        }
        let mut held = 0;
        let mut outcome = Ok(());
        for (place, account) in self.chain().enumerate() {
            outcome = account
                .hold(more, self.beyond_at(place))
                .map_err(|refused| if held == 0 { refused } else { of_budget(refused) });
            if outcome.is_err() {
                break;
            }
            held += 1;
        }
        let outcome = outcome.and_then(|()| self.word.grow(more));
        if outcome.is_err() {
            for account in self.chain().take(held) {
                account.release(more, more);
            }
        }
        outcome
    }

    /// Ends the hold: takes `used`, gives the rest back (LED-7).
    ///
    /// Above the held amount the rest is taken from what is still available; what is not there is
    /// reported as `overrun`. `None` when the hold has already ended: the caller writes nothing.
    pub fn finish(&self, used: Amount) -> Option<Ended> {
        self.end(used, if used > Amount::ZERO { HoldEnd::Captured } else { HoldEnd::Voided })
    }

    /// Ends the hold because its deadline has passed; otherwise as [`Hold::finish`].
    pub fn expire(&self, used: Amount) -> Option<Ended> {
        self.end(used, HoldEnd::Expired)
    }

    /// The one way a hold ends.
    fn end(&self, used: Amount, end: HoldEnd) -> Option<Ended> {
        let used = used.units().max(0);
        let held = self.word.end(end)?;
        let captured = if used <= held { used } else { held + self.take_beyond(used - held) };
        let back = (held - captured).max(0);
        let mut available = 0;
        // The payer last, for what it is left with.
        for account in self.chain().rev() {
            available = account.release(held, back);
        }
        Some(Ended {
            end,
            captured: Amount::from_units(captured),
            overrun: Amount::from_units(used - captured),
            available: Amount::from_units(available),
        })
    }

    /// Only the account that pays has money to come.
    const fn beyond_at(&self, place: usize) -> i64 {
        if place == 0 { self.beyond } else { 0 }
    }

    /// Takes up to `extra` more, the same from every account of the chain: the smallest room decides.
    fn take_beyond(&self, extra: i64) -> i64 {
        let mut common = extra;
        for (place, account) in self.chain().enumerate() {
            let taken = account.take_up_to(common, self.beyond_at(place));
            for earlier in self.chain().take(place) {
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

/// What a refusal of an account means when that account is a budget.
fn of_budget(refused: ReserveError) -> ReserveError {
    match refused {
        ReserveError::Balance { available } => ReserveError::Budget { available },
        ReserveError::Budget { .. }
        | ReserveError::Frozen
        | ReserveError::Closed
        | ReserveError::TooManyBudgets
        | ReserveError::WindowOver
        | ReserveError::Negative
        | ReserveError::Ended => refused,
    }
}

#[cfg(test)]
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
mod tests {
    use money::{Amount, Asset};

    use super::{HOLD_MAX, Hold, HoldEnd, ReserveError};
    use crate::{Account, AccountId, AccountRef, AccountState};

    fn account(units: i64) -> AccountRef {
        Account::new(AccountId([1; 16]), Asset::Usd, Amount::from_units(units), Amount::ZERO).into()
    }

    fn units(units: i64) -> Amount {
        Amount::from_units(units)
    }

    fn words(account: &Account) -> (i64, i64) {
        (account.available().units(), account.held().units())
    }

    /// LED-7: each way a hold ends, what it takes, and that it is the last.
    #[test]
    fn ends_table() {
        for (used, expire, end, captured, overrun) in [
            (0, false, HoldEnd::Voided, 0, 0),
            (-1, false, HoldEnd::Voided, 0, 0),
            (1, false, HoldEnd::Captured, 1, 0),
            (60, false, HoldEnd::Captured, 60, 0),
            (70, false, HoldEnd::Captured, 70, 0),
            (100, false, HoldEnd::Captured, 100, 0),
            (101, false, HoldEnd::Captured, 100, 1),
            (0, true, HoldEnd::Expired, 0, 0),
            (25, true, HoldEnd::Expired, 25, 0),
            (130, true, HoldEnd::Expired, 100, 30),
        ] {
            let payer = account(100);
            let hold = Hold::on(&payer, units(60)).unwrap();
            assert_eq!((words(&payer), hold.ended()), ((40, 60), None));
            let ended = if expire { hold.expire(units(used)) } else { hold.finish(units(used)) }.unwrap();
            let came_to = (ended.end, ended.captured.units(), ended.overrun.units());
            assert_eq!(came_to, (end, captured, overrun), "used {used}");
            assert_eq!(ended.available.units(), 100 - captured, "used {used}");
            assert_eq!(hold.ended(), Some(end), "used {used}");
            assert_eq!(words(&payer), (100 - captured, 0), "used {used}");
            assert_eq!((hold.finish(units(5)), hold.expire(units(5))), (None, None));
            assert_eq!(hold.amount().units(), 60, "what it was at its end");
            drop(hold);
            assert_eq!(words(&payer), (100 - captured, 0), "used {used}");
        }
    }

    /// LED-5, LED-13: the same step on every account of the chain, or on none.
    #[test]
    fn an_extension_takes_from_the_whole_chain_or_from_nobody() {
        let (payer, wide, tight) = (account(100), account(50), account(30));
        let hold = Hold::on(&payer, units(10)).unwrap();
        let hold = hold.and_on(wide.clone()).unwrap().and_on(tight.clone()).unwrap();
        assert_eq!(hold.chain().count(), 3);
        assert_eq!(hold.extend(units(15)), Ok(()));
        assert_eq!(hold.amount().units(), 25);
        assert_eq!((words(&payer), words(&wide), words(&tight)), ((75, 25), (25, 25), (5, 25)));
        assert_eq!(hold.extend(units(6)), Err(ReserveError::Budget { available: units(5) }));
        assert_eq!(hold.extend(units(76)), Err(ReserveError::Balance { available: units(75) }));
        assert_eq!(hold.extend(units(-1)), Err(ReserveError::Negative));
        assert_eq!(hold.amount().units(), 25);
        assert_eq!((words(&payer), words(&wide), words(&tight)), ((75, 25), (25, 25), (5, 25)));
        let ended = hold.finish(units(22)).unwrap();
        assert_eq!((ended.captured.units(), ended.overrun.units()), (22, 0));
        assert_eq!((words(&payer), words(&wide), words(&tight)), ((78, 0), (28, 0), (8, 0)));
    }

    /// LED-7: an end beats an extension that comes later, and that one takes nothing.
    #[test]
    fn an_ended_hold_cannot_be_extended() {
        let (payer, budget) = (account(100), account(100));
        let hold = Hold::on(&payer, units(10)).unwrap().and_on(budget.clone()).unwrap();
        hold.finish(units(10)).unwrap();
        assert_eq!(hold.extend(units(5)), Err(ReserveError::Ended));
        assert_eq!(hold.extend(Amount::ZERO), Err(ReserveError::Ended));
        assert_eq!((words(&payer), words(&budget)), ((90, 0), (90, 0)));
    }

    /// LED-8: freezing stops a running stream at its next step, and what ran is still captured.
    #[test]
    fn a_frozen_account_extends_nothing_and_captures_what_is_held() {
        let payer = account(100);
        let hold = Hold::on(&payer, units(10)).unwrap();
        payer.set_state(AccountState::Frozen).unwrap();
        assert_eq!(hold.extend(units(1)), Err(ReserveError::Frozen));
        assert_eq!(hold.finish(units(8)).unwrap().captured.units(), 8);
        assert_eq!(words(&payer), (92, 0));
    }

    /// X402-21: below the floor for a payment that is to come, as far as its hold says; budgets are what they are.
    #[test]
    fn a_hold_beyond_the_floor_grows_and_ends_within_its_reach() {
        let (payer, budget) = (account(5), account(25));
        assert_eq!(
            Hold::beyond(&payer, units(26), units(20)).unwrap_err(),
            ReserveError::Balance { available: units(5) }
        );
        let hold = Hold::beyond(&payer, units(15), units(20)).unwrap().and_on(budget.clone()).unwrap();
        assert_eq!((words(&payer), hold.reach().units()), ((-10, 15), 20));
        assert_eq!(hold.extend(units(5)), Ok(()));
        assert_eq!(hold.extend(units(6)), Err(ReserveError::Balance { available: units(-15) }));
        // A call that nothing is to come for takes nothing of it.
        assert_eq!(Hold::on(&payer, units(1)).unwrap_err(), ReserveError::Balance { available: units(-15) });
        let ended = hold.finish(units(30)).unwrap();
        assert_eq!((ended.captured.units(), ended.overrun.units(), ended.available.units()), (25, 5, -20));
        assert_eq!((words(&payer), words(&budget)), ((-20, 0), (0, 0)));
        payer.give(21);
        assert_eq!(Hold::on(&payer, units(1)).map(|hold| hold.reach()), Ok(Amount::ZERO));
    }

    #[test]
    fn a_budget_that_refuses_undoes_the_hold() {
        let (payer, budget) = (account(100), account(9));
        let hold = Hold::on(&payer, units(10)).unwrap();
        let refused = hold.and_on(budget.clone()).unwrap_err();
        assert_eq!(refused, ReserveError::Budget { available: units(9) });
        assert_eq!((words(&payer), words(&budget)), ((100, 0), (9, 0)));
    }

    #[test]
    fn a_hold_has_a_largest_amount() {
        let payer = account(i64::MAX);
        assert_eq!(HOLD_MAX.units(), 4_611_686_018_427_387_903);
        let too_much = HOLD_MAX.plus(units(1)).unwrap();
        assert_eq!(Hold::on(&payer, too_much).unwrap_err(), ReserveError::Negative);
        assert_eq!(Hold::on(&payer, units(-1)).unwrap_err(), ReserveError::Negative);
        assert_eq!(words(&payer), (i64::MAX, 0));
        let hold = Hold::on(&payer, HOLD_MAX).unwrap();
        assert_eq!(hold.amount(), HOLD_MAX);
        assert_eq!(hold.extend(units(1)), Err(ReserveError::Negative));
        assert_eq!(hold.finish(HOLD_MAX).unwrap().captured, HOLD_MAX);
        assert_eq!(words(&payer), (i64::MAX - HOLD_MAX.units(), 0));
    }
}
