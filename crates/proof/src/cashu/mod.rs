//! Blind signatures of a Cashu mint: what a coin's owner does with them (NUT-00, NUT-02, NUT-12), and coins of ours that
//! can be made again (as NUT-13).
//!
//! A mint alone knows whether a coin is genuine and unspent. What can be known here is that a signature was made with
//! the key that the mint has published for its amount, and that a keyset's name is the hash of its keys.

mod blinding;
mod dleq;
mod keyset;
mod output;

pub use blinding::{PointError, blind, hash_to_curve, unblind};
pub use dleq::{verify_blind, verify_proof};
pub use keyset::{Terms, is_named};
pub use output::{Output, OutputSeed, split};

#[cfg(test)]
mod tests;
