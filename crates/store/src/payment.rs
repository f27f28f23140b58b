//! What is remembered of a payment.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a payment stands (X402-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// Handed to the rail; the process may have ended before the answer.
    Intent,
    /// The rail did not say.
    Unknown,
    /// Deposited, and the call it was made for has not ended yet.
    Settled,
    /// Deposited, and the call has ended.
    Served,
    /// Promised, and refused for certain once the call was let through: what was charged is owed. Its key stays
    /// taken for good.
    Owed,
}

impl PaymentState {
    /// Whether the money is ours.
    #[must_use]
    pub const fn is_deposited(self) -> bool {
        match self {
            Self::Settled | Self::Served => true,
            Self::Intent | Self::Unknown | Self::Owed => false,
        }
    }

    /// Whether the rail has yet to say what became of it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        match self {
            Self::Intent | Self::Unknown => true,
            Self::Settled | Self::Served | Self::Owed => false,
        }
    }
}

/// A payment, its deposit and its outcome. Holds no key, and no signature once it is decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Where it stands.
    pub state: PaymentState,
    /// Of the request that brought it: SHA-256 over method, target and body.
    pub fingerprint: [u8; 32],
    /// Account it is deposited into.
    pub account: [u8; 16],
    /// Asset code.
    pub asset: u8,
    /// Ledger units.
    pub amount: i64,
    /// `x402:eip155:84532`, `test`.
    pub rail: String,
    /// Who paid, as the rail names it.
    pub payer: String,
    /// Transaction hash or the like, once known.
    pub reference: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Unix seconds after which the proof cannot settle any more.
    pub valid_before_s: u64,
    /// What the same request gets once the call has ended.
    pub outcome: Option<Outcome>,
    /// What came in over Lightning, in millisatoshi: with it the deposit may go back that way (FIN-34). None for every
    /// other rail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_msat: Option<u64>,
    /// The call does not wait for it: it settles while the call runs, or after.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promised: bool,
    /// The asking of a facilitator, once there was one.
    #[serde(default)]
    pub attempt: Option<Attempt>,
}

impl Attempt {
    /// Whether something may have come of what was asked so far.
    #[must_use]
    pub const fn is_unclear(&self) -> bool {
        self.count > self.in_vain
    }
}

/// A payment that is settled once it is known for how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// Deposit key.
    pub key: [u8; 32],
    /// As it is to be settled; its state is set by the store.
    pub payment: Payment,
}

/// What a facilitator or a mint was asked, so that it can be asked again after a restart (LED-23).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Name of the facilitator in the configuration.
    pub facilitator: String,
    /// JSON body of its `/settle`, with the payer's signature, or of a swap, with the payer's coins; empty once the payment
    /// is decided.
    pub request: String,
    /// How often it was asked, or was about to be.
    pub count: u32,
    /// How many of those have certainly done nothing. Where that is all of them, what is said next of a failure is
    /// said of the payment.
    #[serde(default)]
    pub in_vain: u32,
    /// Unix milliseconds of the last time.
    pub last_ms: u64,
    /// Unix milliseconds of the next time.
    pub next_ms: u64,
    /// A transaction that an unclear answer named: where to look on the chain (X402-15). Empty if none did.
    #[serde(default)]
    pub transaction: String,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt({} of {}, request hidden)", self.count, self.facilitator)
    }
}

/// How the call ended that a payment was made for (reference item 39). Never holds a body or a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// HTTP status.
    pub status: u16,
    /// Headers of ours.
    pub headers: Vec<(String, String)>,
    /// Call id, which names the receipt.
    pub call: [u8; 16],
}
