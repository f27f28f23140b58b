//! Payments by ecash of Cashu mints (NUT-24): `X-Cashu` in a 402 asks for it, `X-Cashu` in the next try brings it.
//!
//! A token is money to whoever sees it, and only its mint knows whether it still is. So it is swapped for coins of ours
//! before anything is served, and it never opens anything a second time (reference item 5). What we hold is in the store
//! until the operator takes it out.

mod desk;
mod mints;
mod paid;
mod receive;
mod swapping;

pub(crate) use desk::{Desk, offer};
pub(crate) use mints::{Mints, watch};
pub(crate) use paid::{Paid, read, verify};
pub(crate) use receive::receive;
pub(crate) use swapping::again;

/// The name of the protocol in logs, metrics and receipts.
pub(crate) const PROTOCOL: &str = "cashu";

/// What the rails of mints begin with, in journal and metrics: each mint is one.
const RAIL: &str = "cashu:";

/// The mint of a rail; none for rails of other kinds.
pub(crate) fn mint_of(rail: &str) -> Option<&str> {
    rail.strip_prefix(RAIL)
}

fn rail(mint: &str) -> String {
    format!("{RAIL}{mint}")
}
