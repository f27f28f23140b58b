//! Is this credential genuine, for this quote, now?
//!
//! Invariant: pure; every comparison of a secret and every check of a signature lives here, in constant
//! time or by the library that made it; `now`, keys and nonces are arguments. RSA's alone stands in `rails::rsa2`, because
//! its library asks the system for randomness.
#![deny(clippy::float_arithmetic)]

pub mod account_id;
pub mod cashu;
pub mod caveat;
pub mod credit_key;
pub mod deposit_key;
pub mod ed25519;
pub mod eip712;
pub mod epoch;
pub mod evm_transaction;
pub mod identity;
pub mod l402;
mod mac;
pub mod mpp;
pub mod payment_identifier;
pub mod quote;
pub mod receipt;
pub mod secp;
pub mod siwx;
pub mod solana;
pub mod test_rail;
#[cfg(test)]
mod third_party_vectors;
pub mod tree_head;
pub mod voucher;
pub mod x402_attest;
pub mod x402_batch;
pub mod x402_echo;
pub mod x402_exact;
pub mod x402_permit2;
pub mod x402_svm;

pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use epoch::{EpochState, MasterKey, MasterKeys};
