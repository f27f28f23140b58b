//! What a rail says about money.

/// The rail's receipt of a settled payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Transaction hash or the like; empty where a rail has none.
    pub reference: String,
}

/// Why nothing moved, for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rail's code, cut before free text (X402-19).
    pub code: String,
}

/// The outcome of a settlement. There is no fourth one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Money is ours.
    Settled(Receipt),
    /// Nothing moved and nothing will.
    Refused(Refused),
    /// The request never left this process: the proof is unharmed.
    NotSent,
    /// The rail did not say: ask again with the same proof, never for a new one.
    Unknown,
}
