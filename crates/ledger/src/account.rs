//! One balance: an atomic word that refuses to go below its floor.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, Ordering};

use money::{Amount, Asset};

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
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
    /// Captures and deposits, no new reserve.
    Frozen,
}

/// A balance in one asset (LED-4). One cache line, so that two accounts never share one.
#[derive(Debug)]
#[repr(align(64))]
pub struct Account {
    id: AccountId,
    asset: Asset,
    available: AtomicI64,
    held: AtomicI64,
    floor: i64,
    budgets: AtomicU32,
    state: AtomicU8,
}

impl Account {
    /// An account with `available` ledger units that may be drawn down to `floor` (0, or below it
    /// for an explicit credit line).
    #[must_use]
    pub fn new(id: AccountId, asset: Asset, available: Amount, floor: Amount) -> Self {
        Self {
            id,
            asset,
            available: AtomicI64::new(available.units()),
            held: AtomicI64::new(0),
            floor: floor.units(),
            budgets: AtomicU32::new(0),
            state: AtomicU8::new(0),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> AccountId {
        self.id
    }

    /// What it is denominated in.
    #[must_use]
    pub const fn asset(&self) -> Asset {
        self.asset
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

    /// Freezes or opens the account.
    pub fn set_state(&self, state: AccountState) {
        self.state.store(u8::from(state == AccountState::Frozen), Ordering::Release);
    }

    /// Whether reserves are accepted.
    #[must_use]
    pub fn state(&self) -> AccountState {
        if self.state.load(Ordering::Acquire) == 0 { AccountState::Open } else { AccountState::Frozen }
    }

    /// Takes `amount` out, or nothing at all (LED-5). False when the floor would be crossed.
    pub(crate) fn try_take(&self, amount: i64) -> bool {
        self.available
            .try_update(Ordering::AcqRel, Ordering::Acquire, |available| {
                available.checked_sub(amount).filter(|left| *left >= self.floor)
            })
            .is_ok()
    }

    /// Takes as much of `wanted` as the floor allows and says how much that was (LED-11).
    pub(crate) fn take_up_to(&self, wanted: i64) -> i64 {
        let mut taken = 0;
        let _ = self.available.try_update(Ordering::AcqRel, Ordering::Acquire, |available| {
            taken = wanted.min(available.saturating_sub(self.floor)).max(0);
            available.checked_sub(taken)
        });
        taken
    }

    /// Gives back or deposits. Saturates at the top of the range, which no checked deposit reaches.
    pub(crate) fn give(&self, amount: i64) {
        let _ = self.available.try_update(Ordering::AcqRel, Ordering::Acquire, |available| {
            Some(available.saturating_add(amount))
        });
    }

    pub(crate) fn note_held(&self, delta: i64) {
        self.held.fetch_add(delta, Ordering::AcqRel);
    }

    /// Counts one more budget under this account; false above `max`.
    pub(crate) fn count_budget(&self, max: u32) -> bool {
        self.budgets
            .try_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < max).then_some(count + 1))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::AccountId;

    #[test]
    fn hex_round_trips_and_refuses_the_rest() {
        let id = AccountId(*b"0123456789abcdef");
        assert_eq!(AccountId::from_hex(&id.to_string()), Some(id));
        assert_eq!(AccountId::from_hex("00"), None);
        assert_eq!(AccountId::from_hex(&"zz".repeat(16)), None);
        assert_eq!(AccountId::from_hex(&"é".repeat(16)), None);
    }
}
