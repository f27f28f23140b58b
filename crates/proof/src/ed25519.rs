//! Ed25519, strictly (SEC-80).

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};
use wire::base64;

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

/// Whether a public key may be stored or trusted: on the curve, not of small order, in its one encoding.
#[must_use]
pub fn is_usable(public: &[u8; 32]) -> bool {
    usable(public).is_some()
}

/// The key, where it may be stored or trusted.
pub(crate) fn usable(public: &[u8; 32]) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(public).ok()?;
    let is_canonical = key.to_edwards().compress().to_bytes() == *public;
    (is_canonical && !key.is_weak()).then_some(key)
}

/// The name of a key: its RFC 7638 thumbprint.
#[must_use]
pub fn thumbprint(public: &[u8; 32]) -> String {
    let x = base64::encode_url(public);
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    base64::encode_url(&Sha256::digest(canonical))
}
