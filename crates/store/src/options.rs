//! What an operator chooses about durability.

use std::time::Duration;

use money::Amount;

/// 1 USD in nano.
const ONE_DOLLAR: Amount = Amount::from_units(1_000_000_000);

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Names a store that is created; an existing one keeps its name.
    pub fresh_id: [u8; 16],
    /// When a charge may run behind the disk.
    pub durability: Durability,
    /// Bytes kept in `farthing.reserve`, let go when the disk is full, so that money in flight can still be
    /// recorded (LED-27). 0 keeps none.
    pub reserve_bytes: u64,
}

impl Options {
    /// The defaults: 1 USD per account and in all, 5 ms, 64 MiB.
    #[must_use]
    pub fn new(fresh_id: [u8; 16]) -> Self {
        Self { fresh_id, durability: Durability::default(), reserve_bytes: 64 << 20 }
    }
}

/// Whether an answer may be complete before its charge is on disk (LED-25, LED-26).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Yes, up to a limit: a crash loses at most so much, to the payer's favour.
    Capped(Exposure),
    /// Never: every charge waits for the disk.
    Sync,
}

impl Default for Durability {
    fn default() -> Self {
        Self::Capped(Exposure::default())
    }
}

/// The most that a crash may cost the operator. Amounts are nano of a dollar-like asset (exponent 9), counted
/// one to one; a charge in an asset of another exponent always waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Of one account.
    pub per_account: Amount,
    /// Of all accounts together.
    pub total: Amount,
    /// Charges wait while a write is older than this and not on disk yet.
    pub delay: Duration,
}

impl Default for Exposure {
    fn default() -> Self {
        Self { per_account: ONE_DOLLAR, total: ONE_DOLLAR, delay: Duration::from_millis(5) }
    }
}
