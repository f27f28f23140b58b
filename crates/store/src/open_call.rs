//! A call that has not ended.

use serde::{Deserialize, Serialize};

use crate::Promised;

/// What is on disk of a call from before it goes up until it has ended (LED-26): only where every charge is
/// waited for, because it costs a sync per call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCall {
    /// Whose money is set aside.
    pub account: [u8; 16],
    /// Asset code.
    pub asset: u8,
    /// How much of it, in ledger units.
    pub held: i64,
    /// Unix milliseconds.
    pub begun_ms: u64,
    /// What the payer owes if nothing more is ever heard of the call; none before the upstream has accepted it.
    pub owed: Option<OwedInput>,
}

/// The input of a call that the upstream has accepted (MTR-27), as its charge would be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedInput {
    /// Ledger units, at most what is held.
    pub amount: i64,
    /// The exact cost it is rounded up from, femto-USD in decimal.
    pub cost_femto: String,
    /// The account, then its budgets.
    pub chain: Vec<[u8; 16]>,
    /// Model whose income it is.
    pub model: String,
    /// As in the entry.
    pub price_version: u32,
    /// Facts of its receipt, JSON.
    pub facts: String,
    /// The payment that was promised for it, as it is to be settled for this much. With the payer's signature, until
    /// the call has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settles: Option<Box<Promised>>,
}
