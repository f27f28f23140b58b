//! One balance: an atomic word that refuses to go below its floor.

use std::fmt;
// Of the standard library everywhere: a name is written before anybody else has the account.
use std::sync::atomic::{AtomicU8, AtomicU64};

use money::{Amount, Asset};

use crate::sync::{AtomicI64, AtomicU16, AtomicU32, Ordering};
use crate::{Pace, ReserveError};

/// Names an account, 16 bytes. Where it comes from is decided elsewhere (payer, payment hash, operator).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub [u8; 16]);

impl AccountId {
    /// Reads 32 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            *byte = digit(pair[0])? * 16 + digit(pair[1])?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        let pairs = self.0.map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        f.write_str(std::str::from_utf8(pairs.as_flattened()).unwrap_or_default())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whether an account may be drawn on (LED-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// Reserves, captures and deposits.
    Open,
    /// Captures and deposits, no new reserve and no extension of a hold.
    Frozen,
    /// Empty for good; as frozen. A deposit that comes in all the same is not lost: it counts, and the
    /// operator opens the account again.
    Closed,
}

/// What a reserve has to respect, in one word so that it is one look: the floor above the two lowest
/// bits, which are the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    floor: i64,
    state: AccountState,
}

impl Terms {
    const STATE_BITS: u32 = 2;

    const fn word(self) -> i64 {
        let state = match self.state {
            AccountState::Open => 0,
            AccountState::Frozen => 1,
            AccountState::Closed => 2,
        };
        self.floor << Self::STATE_BITS | state
    }

    const fn of(word: i64) -> Self {
        let state = match word & 0b11 {
            0 => AccountState::Open,
            1 => AccountState::Frozen,
            _ => AccountState::Closed,
        };
        Self { floor: word >> Self::STATE_BITS, state }
    }

    /// Zero or below; as far down as the word has room for.
    fn floor_of(overdraft: i64) -> i64 {
        -overdraft.clamp(0, i64::MAX >> Self::STATE_BITS)
    }
}

/// Why an account cannot be closed now (LED-8). Its state is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("account is not empty")]
pub struct NotEmpty {
    /// Still there to be spent or refunded; below zero what the payer owes.
    pub available: Amount,
    /// Set aside for calls in flight.
    pub held: Amount,
    /// The credit line, which has to be taken back first.
    pub overdraft: Amount,
}

/// A balance in one asset (LED-4). One cache line, so that two accounts never share one.
#[derive(Debug)]
#[repr(align(64))]
pub struct Account {
    /// The bytes of the id, in two words. Written once, see [`Account::name`].
    id: [AtomicU64; 2],
    /// Place in [`Asset::ALL`], which has them as they are declared.
    asset: AtomicU8,
    available: AtomicI64,
    held: AtomicI64,
    at_risk: AtomicI64,
    terms: AtomicI64,
    budgets: AtomicU16,
    /// Calls in flight.
    running: AtomicU32,
    /// How often it calls: beside the balance, in the line that a call reads anyway (PERF-27).
    pace: Pace,
}

impl Account {
    /// An account with `available` ledger units that may be drawn down to `floor` (0, or below it
    /// for an explicit credit line).
    #[must_use]
    pub fn new(id: AccountId, asset: Asset, available: Amount, floor: Amount) -> Self {
        let floor = Terms::floor_of(floor.units().saturating_neg());
        let terms = Terms { floor, state: AccountState::Open };
        let (available, terms) = (AtomicI64::new(available.units()), AtomicI64::new(terms.word()));
        let account = Self { available, terms, ..Self::blank() };
        account.name(id, asset);
        account
    }

    /// An empty account that is nobody's yet, a place for one to come.
    pub(crate) fn blank() -> Self {
        let terms = Terms { floor: 0, state: AccountState::Open };
        Self {
            id: [AtomicU64::new(0), AtomicU64::new(0)],
            asset: AtomicU8::new(0),
            available: AtomicI64::new(0),
            held: AtomicI64::new(0),
            at_risk: AtomicI64::new(0),
            terms: AtomicI64::new(terms.word()),
            budgets: AtomicU16::new(0),
            running: AtomicU32::new(0),
            pace: Pace::default(),
        }
    }

    /// Says whose it is, once, before any other thread is given it: whatever hands the account over brings the name
    /// with it.
    pub(crate) fn name(&self, id: AccountId, asset: Asset) {
        let id = u128::from_ne_bytes(id.0);
        self.id[0].store(id as u64, Ordering::Relaxed);
        self.id[1].store((id >> 64) as u64, Ordering::Relaxed);
        self.asset.store(asset as u8, Ordering::Relaxed);
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> AccountId {
        let [low, high] = self.id.each_ref().map(|word| u128::from(word.load(Ordering::Relaxed)));
        AccountId((high << 64 | low).to_ne_bytes())
    }

    /// What it is denominated in.
    #[must_use]
    pub fn asset(&self) -> Asset {
        Asset::ALL[usize::from(self.asset.load(Ordering::Relaxed)) % Asset::ALL.len()]
    }

    /// What may still be reserved, holds already taken out.
    #[must_use]
    pub fn available(&self) -> Amount {
        Amount::from_units(self.available.load(Ordering::Acquire))
    }

    /// What open holds have taken out. For people and metrics only (LED-6).
    #[must_use]
    pub fn held(&self) -> Amount {
        Amount::from_units(self.held.load(Ordering::Acquire))
    }

    /// How far below zero the account may be drawn: the credit line, 0 unless the operator gave one.
    #[must_use]
    pub fn overdraft(&self) -> Amount {
        Amount::from_units(-self.terms().floor)
    }

    /// Sets the credit line; a negative amount counts as 0. An account already below its new floor owes
    /// that much, and nothing more can be taken from it until deposits have made it good.
    pub fn set_overdraft(&self, overdraft: Amount) {
        let floor = Terms::floor_of(overdraft.units());
        self.change_terms(|terms| Terms { floor, ..terms });
    }

    /// Whether reserves are accepted.
    #[must_use]
    pub fn state(&self) -> AccountState {
        self.terms().state
    }

    /// Opens, freezes or closes the account.
    ///
    /// # Errors
    /// [`NotEmpty`]: only an account with nothing available, nothing held and no credit line can be closed.
    /// A reserve that runs at the same moment may be refused together with the closing.
    pub fn set_state(&self, state: AccountState) -> Result<(), NotEmpty> {
        let before = self.change_terms(|terms| Terms { state, ..terms });
        if state != AccountState::Closed {
            return Ok(());
        }
        // The state is in place before the counters are read, and a reserve notes what it holds before it
        // reads the state: one of the two sees the other. For that this read must be of the newest value.
        let held = Amount::from_units(self.held.fetch_add(0, Ordering::AcqRel));
        let found = NotEmpty { available: self.available(), held, overdraft: self.overdraft() };
        if (found.available, found.held, found.overdraft) == (Amount::ZERO, Amount::ZERO, Amount::ZERO) {
            return Ok(());
        }
        // Unless someone else has decided meanwhile.
        self.change_terms(|terms| match terms.state {
            AccountState::Closed => Terms { state: before.state, ..terms },
            AccountState::Open | AccountState::Frozen => terms,
        });
        Err(found)
    }

    fn terms(&self) -> Terms {
        Terms::of(self.terms.load(Ordering::Acquire))
    }

    /// Changes the terms and says what they were.
    fn change_terms(&self, change: impl Fn(Terms) -> Terms) -> Terms {
        let changed = self
            .terms
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(change(Terms::of(word)).word()));
        Terms::of(changed.unwrap_or_else(|word| word))
    }

    /// Notes `units` that were captured and are not on disk yet; the new total (LED-25).
    pub fn add_at_risk(&self, units: i64) -> i64 {
        self.at_risk.fetch_add(units, Ordering::AcqRel).wrapping_add(units)
    }

    /// Notes that `units` of those are on disk now.
    pub fn sub_at_risk(&self, units: i64) {
        self.at_risk.fetch_sub(units, Ordering::AcqRel);
    }

    /// Captured and not on disk yet, in ledger units.
    #[must_use]
    pub fn at_risk(&self) -> i64 {
        self.at_risk.load(Ordering::Acquire)
    }

    /// How often it calls.
    #[must_use]
    pub const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Counts one more call in flight; false where there are `max` already. Each that was counted ends with
    /// [`Account::end_call`].
    #[must_use]
    pub fn begin_call(&self, max: u32) -> bool {
        self.running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < max).then_some(count + 1))
            .is_ok()
    }

    /// Counts one call in flight less.
    pub fn end_call(&self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
    }

    /// Sets `amount` aside, or nothing (LED-5), going at most `beyond` units below the floor.
    pub(crate) fn hold(&self, amount: i64, beyond: i64) -> Result<(), ReserveError> {
        // First, so that the account cannot be closed between the taking and the noting.
        self.held.fetch_add(amount, Ordering::AcqRel);
        let terms = self.terms();
        let outcome = match terms.state {
            AccountState::Open => self.try_take(amount, terms.floor.saturating_sub(beyond)),
            AccountState::Frozen => Err(ReserveError::Frozen),
            AccountState::Closed => Err(ReserveError::Closed),
        };
        if outcome.is_err() {
            self.held.fetch_sub(amount, Ordering::AcqRel);
        }
        outcome
    }

    /// Ends a hold of `amount`: `back` of it is available again. What is available then.
    pub(crate) fn release(&self, amount: i64, back: i64) -> i64 {
        // In this order, so that nobody sees an account with neither held nor available units.
        let available = self.give(back);
        self.held.fetch_sub(amount, Ordering::AcqRel);
        available
    }

    /// Takes `amount` out, or nothing at all when the floor would be crossed.
    fn try_take(&self, amount: i64, floor: i64) -> Result<(), ReserveError> {
        let taken = self.available.fetch_update(Ordering::AcqRel, Ordering::Acquire, |available| {
            available.checked_sub(amount).filter(|left| *left >= floor)
        });
        let refused = |available| ReserveError::Balance { available: Amount::from_units(available) };
        taken.map(|_| ()).map_err(refused)
    }

    /// Takes as much of `wanted` as the floor, lowered by `beyond`, allows and says how much that was (LED-11).
    pub(crate) fn take_up_to(&self, wanted: i64, beyond: i64) -> i64 {
        let floor = self.terms().floor.saturating_sub(beyond);
        let mut taken = 0;
        let _ = self.available.fetch_update(Ordering::AcqRel, Ordering::Acquire, |available| {
            taken = wanted.min(available.saturating_sub(floor)).max(0);
            available.checked_sub(taken)
        });
        taken
    }

    /// Gives back or deposits; what is available then. Saturates at the top of the range, which no
    /// checked deposit reaches.
    pub(crate) fn give(&self, amount: i64) -> i64 {
        if amount == 0 {
            return self.available.load(Ordering::Acquire);
        }
        let before = self.available.fetch_update(Ordering::AcqRel, Ordering::Acquire, |available| {
            Some(available.saturating_add(amount))
        });
        before.unwrap_or_else(|available| available).saturating_add(amount)
    }

    /// Counts one more budget under this account; false above `max`.
    pub(crate) fn count_budget(&self, max: u16) -> bool {
        self.budgets
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < max).then_some(count + 1))
            .is_ok()
    }

    /// Counts one budget less.
    pub(crate) fn forget_budget(&self) {
        let _ = self
            .budgets
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| Some(count.saturating_sub(1)));
    }
}

#[cfg(test)]
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
mod tests {
    use money::{Amount, Asset};

    use super::{Account, AccountId, AccountState, NotEmpty};
    use crate::ReserveError;

    fn account(available: i64, overdraft: i64) -> Account {
        let units = Amount::from_units;
        Account::new(AccountId([1; 16]), Asset::Usd, units(available), units(-overdraft))
    }

    #[test]
    fn hex_round_trips_and_refuses_the_rest() {
        let id = AccountId(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233343536373839616263646566");
        assert_eq!(format!("{id:?}"), id.to_string());
        assert_eq!(AccountId::from_hex(&id.to_string()), Some(id));
        assert_eq!(AccountId::from_hex("0f0F0f0F0f0f0f0f0f0f0f0f0f0f0f0f"), Some(AccountId([15; 16])));
        assert_eq!(AccountId::from_hex("00"), None);
        assert_eq!(AccountId::from_hex(&"zz".repeat(16)), None);
        assert_eq!(AccountId::from_hex(&"é".repeat(16)), None);
    }

    #[test]
    fn a_name_is_read_as_it_was_given() {
        for (asset, id) in
            Asset::ALL.into_iter().zip([*b"0123456789abcdef", [0; 16], [255; 16]].into_iter().cycle())
        {
            let account = Account::new(AccountId(id), asset, Amount::from_units(-3), Amount::ZERO);
            assert_eq!((account.id(), account.asset()), (AccountId(id), asset));
            assert_eq!((account.available().units(), account.state()), (-3, AccountState::Open));
        }
    }

    /// LED-5: one cache line, so that two accounts never share one.
    #[test]
    fn an_account_is_one_cache_line() {
        assert_eq!((size_of::<Account>(), align_of::<Account>()), (64, 64));
    }

    /// LED-5.
    #[test]
    fn a_credit_line_is_explicit_and_is_the_floor() {
        let account = account(10, 0);
        assert_eq!(account.overdraft(), Amount::ZERO);
        assert_eq!(account.hold(11, 0), Err(ReserveError::Balance { available: Amount::from_units(10) }));
        account.set_overdraft(Amount::from_units(5));
        assert_eq!(account.overdraft(), Amount::from_units(5));
        assert_eq!(account.hold(15, 0), Ok(()));
        assert_eq!((account.available().units(), account.held().units()), (-5, 15));
        assert_eq!(account.hold(1, 0), Err(ReserveError::Balance { available: Amount::from_units(-5) }));
        assert_eq!(account.take_up_to(3, 0), 0);
        assert_eq!(account.held().units(), 15);
    }

    #[test]
    fn a_credit_line_taken_back_leaves_a_debt_and_nothing_more_is_taken() {
        let account = account(-5, 5);
        account.set_overdraft(Amount::from_units(-7));
        assert_eq!(account.overdraft(), Amount::ZERO);
        assert!(account.hold(1, 0).is_err());
        assert_eq!(account.take_up_to(1, 0), 0);
        account.give(6);
        assert_eq!((account.take_up_to(9, 0), account.available().units()), (1, 0));
    }

    /// X402-21: what a promise is good for is below the floor, wherever that is, and nobody else's.
    #[test]
    fn a_promise_reaches_below_the_floor() {
        let account = account(3, 2);
        assert_eq!(account.hold(12, 6), Err(ReserveError::Balance { available: Amount::from_units(3) }));
        assert_eq!(account.hold(10, 6), Ok(()));
        assert_eq!(account.hold(1, 0), Err(ReserveError::Balance { available: Amount::from_units(-7) }));
        assert_eq!((account.take_up_to(9, 0), account.take_up_to(9, 6)), (0, 1));
        assert_eq!(account.hold(1, i64::MAX), Ok(()));
    }

    /// LED-8.
    #[test]
    fn only_an_empty_account_can_be_closed() {
        let units = Amount::from_units;
        let refused = |available, held, overdraft| {
            Err(NotEmpty { available: units(available), held: units(held), overdraft: units(overdraft) })
        };
        let account = account(10, 0);
        assert_eq!(account.set_state(AccountState::Closed), refused(10, 0, 0));
        assert_eq!(account.state(), AccountState::Open);
        account.hold(10, 0).unwrap();
        account.set_state(AccountState::Frozen).unwrap();
        assert_eq!(account.set_state(AccountState::Closed), refused(0, 10, 0));
        assert_eq!(account.state(), AccountState::Frozen);
        account.release(10, 0);
        account.set_overdraft(units(1));
        assert_eq!(account.set_state(AccountState::Closed), refused(0, 0, 1));
        account.set_overdraft(Amount::ZERO);
        assert_eq!(account.set_state(AccountState::Closed), Ok(()));
        assert_eq!(account.state(), AccountState::Closed);
        assert_eq!(account.hold(0, 0), Err(ReserveError::Closed));
        // Money that arrives is never lost, and is spent once the operator has opened the account.
        account.give(7);
        assert_eq!(account.hold(7, 0), Err(ReserveError::Closed));
        assert_eq!((account.available().units(), account.held().units()), (7, 0));
        account.set_state(AccountState::Open).unwrap();
        assert_eq!(account.hold(7, 0), Ok(()));
    }

    #[test]
    fn a_credit_line_survives_freezing_and_has_a_largest_amount() {
        let account = account(0, 9);
        account.set_state(AccountState::Frozen).unwrap();
        assert_eq!((account.overdraft().units(), account.state()), (9, AccountState::Frozen));
        account.set_overdraft(Amount::MAX);
        assert_eq!(account.overdraft().units(), (1 << 61) - 1);
        assert_eq!(account.state(), AccountState::Frozen);
        account.set_state(AccountState::Open).unwrap();
        assert_eq!(account.hold((1 << 61) - 1, 0), Ok(()));
        assert!(account.hold(1, 0).is_err());
    }

    #[test]
    fn calls_in_flight_are_bounded() {
        let account = account(0, 0);
        assert!(account.begin_call(2) && account.begin_call(2) && !account.begin_call(2));
        account.end_call();
        assert!(!account.begin_call(1) && account.begin_call(2));
        account.end_call();
        account.end_call();
        assert!(account.begin_call(1));
    }

    /// LED-25.
    #[test]
    fn what_is_not_on_disk_yet_is_counted() {
        let account = account(0, 0);
        assert_eq!(account.add_at_risk(30), 30);
        assert_eq!(account.add_at_risk(12), 42);
        account.sub_at_risk(30);
        assert_eq!(account.at_risk(), 12);
        account.sub_at_risk(12);
        assert_eq!(account.at_risk(), 0);
    }
}
