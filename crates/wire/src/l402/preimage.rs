//! The secret that only a payer learns, with its hash that names the payment.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::hex::{self, HexError};

/// 32 bytes whose SHA-256 is the payment hash: whoever shows them has paid, or was on the route of the
/// payment. Hidden in `Debug`; not comparable here, because comparing secrets is `proof`'s work.
#[derive(Clone)]
pub struct Preimage([u8; 32]);

/// SHA-256 of a preimage. Stands in every invoice, so it is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PaymentHash(pub [u8; 32]);

impl Preimage {
    /// Takes what a node or a payer gave.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads exactly 64 hexadecimal digits of either case (L402-11).
    ///
    /// # Errors
    /// [`HexError`] for 63, 65 or 66 digits, and for any other byte.
    pub fn parse(text: &str) -> Result<Self, HexError> {
        hex::decode_array(text).map(Self)
    }

    /// The payment it opens.
    #[must_use]
    pub fn payment_hash(&self) -> PaymentHash {
        PaymentHash(Sha256::digest(self.0).into())
    }

    /// The secret itself.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Preimage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Preimage(hidden)")
    }
}

impl PaymentHash {
    /// Reads exactly 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`HexError`]
    pub fn parse(text: &str) -> Result<Self, HexError> {
        hex::decode_array(text).map(Self)
    }
}

/// Lower-case hexadecimal, as nodes and ledgers print it.
impl fmt::Display for PaymentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for PaymentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PaymentHash({self})")
    }
}
