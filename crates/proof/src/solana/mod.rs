//! What is the same for all that is done on Solana: addresses that nobody has a key of, and transactions of our own.

pub mod address;
pub mod transaction;
