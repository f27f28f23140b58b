//! What a rail says about money.

use serde_json::{Map, Value};

/// The rail's receipt of a settled payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Transaction hash or the like; empty where a rail has none, or where nothing had to move.
    pub reference: String,
    /// What the rail says has moved, in atomic units; none where it does not say.
    pub amount: Option<u128>,
    /// Members of the scheme, as the rail sent them: the state of a channel.
    pub extra: Option<Map<String, Value>>,
}

/// Why nothing moved, for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rail's code, cut before free text (X402-19).
    pub code: String,
}

/// What is known where a rail did not say what became of a payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unclear {
    /// A transaction that the answer names: where to look on the chain. Empty if it names none.
    pub transaction: String,
    /// The rail is at it: the same request again, once, may find it done (`settlement_pending`).
    pub pending: bool,
    /// The rail did not do its part: no answer in time, no sense in it, or a contradiction.
    pub is_fault: bool,
}

/// The outcome of a settlement. There is no fifth one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Money is ours.
    Settled(Receipt),
    /// Nothing moved and nothing will.
    Refused(Refused),
    /// The request never left this process: the proof is unharmed.
    NotSent,
    /// The rail did not say: ask again with the same proof, never for a new one.
    Unknown(Unclear),
}

/// Nobody knows what became of it, by whoever's fault.
pub(crate) fn unclear(is_fault: bool) -> Settlement {
    Settlement::Unknown(Unclear { is_fault, ..Unclear::default() })
}
