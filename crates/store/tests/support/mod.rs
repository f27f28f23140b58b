//! A medium that fails on purpose, a business that uses the store on it, and what must be true afterwards.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

pub(crate) mod business;
pub(crate) mod dice;
pub(crate) mod payouts;
pub(crate) mod platter;
pub(crate) mod top_ups;
pub(crate) mod verdict;
