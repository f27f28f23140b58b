//! The identifier of an L402 token: what its root key is derived from (L402-30).
//!
//! ```text
//! identifier = 00 00 | payment hash [32] | token id [32]
//! token id   = 01 | epoch u16 | asset u8 | credit i64 | amount msat u64 | issued at u32 | random [8]
//! ```
//! Big-endian. What was sold stands here and not in a caveat, because anyone can append a caveat and
//! nobody but the minter can change this. Other payees put 32 random bytes where our token id is.

use std::fmt;

use money::{Amount, Asset};

use super::preimage::PaymentHash;
use crate::hex;

/// Length of the identifier; any other length is refused.
pub const IDENTIFIER_BYTES: usize = 66;

const KIND: [u8; 2] = [0, 0];
const LAYOUT: u8 = 1;

/// What stands in the identifier field.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identifier {
    /// The payment that opens the token.
    pub payment_hash: PaymentHash,
    /// Ours is [`Terms`]; anybody else's is random.
    pub token_id: [u8; 32],
}

/// What a token of ours was sold as. Fixed when the challenge was made, exchange rate included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which master key the root key comes from.
    pub epoch: u16,
    /// What the deposit is in.
    pub asset: Asset,
    /// The deposit, in ledger units of `asset`; above zero.
    pub credit: Amount,
    /// What the invoice asks for, in millisatoshi; above zero.
    pub amount_msat: u64,
    /// Unix seconds; the window for the first claim counts from here.
    pub issued_at_s: u32,
    /// Makes two tokens over one hash distinct.
    pub random: [u8; 8],
}

impl Identifier {
    /// The signed bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; IDENTIFIER_BYTES] {
        let mut bytes = [0; IDENTIFIER_BYTES];
        bytes[..2].copy_from_slice(&KIND);
        bytes[2..34].copy_from_slice(&self.payment_hash.0);
        bytes[34..].copy_from_slice(&self.token_id);
        bytes
    }

    /// Reads an identifier; `None` when it is of another kind or length.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (payment_hash, rest) = bytes.strip_prefix(&KIND)?.split_first_chunk::<32>()?;
        Some(Self { payment_hash: PaymentHash(*payment_hash), token_id: rest.try_into().ok()? })
    }
}

/// The payment hash is what a log needs; neither part is secret.
impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({}, token {})", self.payment_hash, hex::encode(&self.token_id))
    }
}

impl Terms {
    /// The token id that says so.
    #[must_use]
    pub fn encode(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[0] = LAYOUT;
        bytes[1..3].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[3] = self.asset.code();
        bytes[4..12].copy_from_slice(&self.credit.units().to_be_bytes());
        bytes[12..20].copy_from_slice(&self.amount_msat.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.issued_at_s.to_be_bytes());
        bytes[24..].copy_from_slice(&self.random);
        bytes
    }

    /// Reads a token id; `None` when it is of another layout or sells nothing.
    #[must_use]
    pub fn decode(token_id: &[u8; 32]) -> Option<Self> {
        let (&[LAYOUT, high, low, asset], rest) = token_id.split_first_chunk::<4>()? else { return None };
        let (credit, rest) = rest.split_first_chunk::<8>()?;
        let (amount_msat, rest) = rest.split_first_chunk::<8>()?;
        let (issued_at_s, rest) = rest.split_first_chunk::<4>()?;
        let terms = Self {
            epoch: u16::from_be_bytes([high, low]),
            asset: Asset::from_code(asset)?,
            credit: Amount::from_units(i64::from_be_bytes(*credit)),
            amount_msat: u64::from_be_bytes(*amount_msat),
            issued_at_s: u32::from_be_bytes(*issued_at_s),
            random: rest.try_into().ok()?,
        };
        terms.sells_something().then_some(terms)
    }

    /// Whether both amounts are above zero: an invoice without an amount could be paid with one millisatoshi.
    #[must_use]
    pub fn sells_something(&self) -> bool {
        self.credit > Amount::ZERO && self.amount_msat > 0
    }
}
