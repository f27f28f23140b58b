//! Vouchers: each is a promise of a sum in all, so that the newest is worth everything that was ever promised.
//!
//! One engine for every kind of them (ENG-1 to ENG-7): x402 `batch-settlement` and the sessions of MPP. [`Channel`]
//! is where a channel stands and what becomes of a voucher, a deposit, a claim, an end; a kind brings its [`Rules`].
//! Whether a voucher is genuine is said by its kind: [`evm`] and [`solana`] here, [`crate::x402_batch`] for x402.

mod channel;
pub mod evm;
pub mod solana;
pub mod solana_channel;

pub use channel::{Acceptance, Channel, Closing, Lower, Mirror, NotTaken, Rules, Signed, Step, Withdrawal};

#[cfg(test)]
mod tests;
