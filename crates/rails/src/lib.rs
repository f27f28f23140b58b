//! Ways money really moves: one adapter per rail.
//!
//! Invariant: a settlement is idempotent by its proof, bounded in time, and its outcome is settled,
//! refused or unknown: never a guess.

pub mod dial;
pub mod facilitator;
mod http;
mod settlement;

pub use http::{Answer, Exchange, ExchangeError};
pub use settlement::{Receipt, Refused, Settlement, Unclear};
