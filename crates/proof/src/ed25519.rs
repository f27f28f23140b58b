//! Ed25519, strictly (SEC-80).

use ed25519_dalek::{Signature, VerifyingKey};

/// A signature that does not stand, or a key nobody should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Ed25519 signature refused")]
pub struct SignatureRefused;

/// Checks a signature. Keys and nonce points of small order, non-canonical encodings and scalars at or
/// above the group order are refused: one signature has one meaning for every verifier.
///
/// # Errors
/// [`SignatureRefused`]
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureRefused> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureRefused)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| SignatureRefused)
}

/// Whether a public key may be stored or trusted: on the curve and not of small order.
#[must_use]
pub fn is_usable(public: &[u8; 32]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| !key.is_weak())
}
