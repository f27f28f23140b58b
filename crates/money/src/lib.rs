//! Assets, amounts, rates and rounding.
//!
//! Invariant: integers only; every operation is checked; rounding names its direction.
#![deny(clippy::float_arithmetic)]

mod amount;
mod asset;
mod bitcoin;
mod decimal;
mod rate;
mod units;

pub use amount::{Amount, AmountError, Digits};
pub use asset::Asset;
pub use bitcoin::BitcoinPrice;
pub use decimal::{Decimal, DecimalError, parse_money, parse_rate};
pub use rate::{FEMTO_PER_NANO, Femto, Rate};
pub use units::{atomic_from_ledger_up, ledger_from_atomic_down};
