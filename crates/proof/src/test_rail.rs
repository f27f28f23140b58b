//! A transfer on the built-in test rail: real signatures, play money.
//!
//! Signed bytes: `farthing/test-transfer/1`, then network, asset, from, to, value u64, validAfter u64,
//! validBefore u64 and nonce, each behind its length as u16 big-endian.

use ed25519_dalek::{Signer as _, SigningKey};
use wire::x402::network::FARTHING_TEST;

use crate::x402_exact::ExactError;
use crate::{ed25519, mac};

/// The one asset of the rail.
pub const ASSET: &str = "TEST";
/// Decimal places of its atomic unit: that of the ledger.
pub const DECIMALS: u32 = 9;

/// What a payer signs. Parties are Ed25519 public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Payer.
    pub from: [u8; 32],
    /// Payee: the gateway's key.
    pub to: [u8; 32],
    /// Atomic units, 10^-9 TEST.
    pub value: u64,
    /// Unix seconds; valid strictly after.
    pub valid_after: u64,
    /// Unix seconds; valid strictly before.
    pub valid_before: u64,
    /// Chosen by the payer, used once.
    pub nonce: [u8; 32],
}

impl Transfer {
    /// The bytes under the signature.
    #[must_use]
    pub fn signing_bytes(&self) -> Vec<u8> {
        mac::fields(
            "farthing/test-transfer/1",
            &[
                FARTHING_TEST.as_bytes(),
                ASSET.as_bytes(),
                &self.from,
                &self.to,
                &self.value.to_be_bytes(),
                &self.valid_after.to_be_bytes(),
                &self.valid_before.to_be_bytes(),
                &self.nonce,
            ],
        )
    }

    /// Signs as `from`'s owner.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> [u8; 64] {
        key.sign(&self.signing_bytes()).to_bytes()
    }

    /// That `from` signed exactly this.
    ///
    /// # Errors
    /// [`ExactError::Ed25519`]
    pub fn verify(&self, signature: &[u8; 64]) -> Result<(), ExactError> {
        ed25519::verify(&self.from, &self.signing_bytes(), signature).map_err(|_| ExactError::Ed25519)
    }

    /// Narrows the wire's number to the rail's; `None` beyond it.
    #[must_use]
    pub fn from_wire(transfer: &wire::x402::Transfer<[u8; 32]>) -> Option<Self> {
        Some(Self {
            from: transfer.from,
            to: transfer.to,
            value: u64::try_from(transfer.value).ok()?,
            valid_after: transfer.valid_after,
            valid_before: transfer.valid_before,
            nonce: transfer.nonce,
        })
    }

    /// As it goes on the wire.
    #[must_use]
    pub fn to_wire(&self) -> wire::x402::Transfer<[u8; 32]> {
        wire::x402::Transfer {
            from: self.from,
            to: self.to,
            value: u128::from(self.value),
            valid_after: self.valid_after,
            valid_before: self.valid_before,
            nonce: self.nonce,
        }
    }
}
