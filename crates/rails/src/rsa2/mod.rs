//! RSA2, as Alipay calls SHA256withRSA: PKCS#1 v1.5 over SHA-256, keys of at least 2048 bits (RAIL-3, RAIL-19).
//!
//! It stands here and not in `proof`, where the other signatures are checked, because the library that can do it asks the
//! operating system for randomness when it signs, and the core never sees anything that does.

mod der;

use std::fmt;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use wire::base64;
use zeroize::Zeroizing;

/// Longest key that is read, in letters.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Shorter keys are refused (RAIL-19), and longer ones by the library.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Our half: what signs. `Debug` says its size.
#[derive(Clone)]
pub struct SigningKey(Arc<KeyPair>);

/// Somebody's public half: what verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey(Vec<u8>);

/// Why a text is no key that we use. Holds no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither base64 nor base64 between the lines of a PEM file.
    #[error("is neither base64 nor a PEM file")]
    Text,
    /// PKCS#8 and PKCS#1 are read for a private key, X.509 and PKCS#1 for a public one.
    #[error("is no RSA key in a form that we read")]
    Form,
    /// RAIL-19.
    #[error("has {0} bits; 2048 to 8192 are allowed")]
    Bits(usize),
    /// The private half, where the public one belongs.
    #[error("is a private key; the public one belongs here")]
    Private,
    /// The public half, where the private one belongs.
    #[error("is a public key; the private one belongs here")]
    Public,
}

impl SigningKey {
    /// Reads PKCS#8 or PKCS#1, as PEM or as the bare base64 that Alipay's tools write.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let der = decoded(text)?;
        let key = match der::private(&der) {
            Some(key) => key,
            None if der::public(&der).is_some() => return Err(KeyError::Public),
            None => return Err(KeyError::Form),
        };
        fits(key.bits)?;
        KeyPair::from_der(key.der).map(|pair| Self(Arc::new(pair))).map_err(|_| KeyError::Form)
    }

    /// The signature of a text, base64; none where the system has no randomness.
    #[must_use]
    pub fn sign(&self, text: &str) -> Option<String> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).ok()?;
        Some(base64::encode_std(&signature))
    }

    /// The other half.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey(self.0.public().as_ref().to_vec())
    }
}

impl VerifyingKey {
    /// Reads X.509 (`SubjectPublicKeyInfo`) or PKCS#1, as PEM or as the bare base64 that Alipay's console shows.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let der = decoded(text)?;
        let key = match der::public(&der) {
            Some(key) => key,
            None if der::private(&der).is_some() => return Err(KeyError::Private),
            None => return Err(KeyError::Form),
        };
        fits(key.bits)?;
        Ok(Self(key.der.to_vec()))
    }

    /// Whether a base64 signature is of this text and by this key.
    #[must_use]
    pub fn verifies(&self, text: &str, sign: &str) -> bool {
        let Ok(signature) = base64::decode_std(sign) else { return false };
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.0);
        key.verify(text.as_bytes(), &signature).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(RSA, {} bytes, hidden)", self.0.public().modulus_len())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey(RSA, {} bytes of PKCS#1)", self.0.len())
    }
}

fn fits(bits: usize) -> Result<(), KeyError> {
    if BITS.contains(&bits) { Ok(()) } else { Err(KeyError::Bits(bits)) }
}

/// The bytes behind PEM or bare base64, wiped when they are dropped: they may be a private key's.
fn decoded(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = text.trim_ascii();
    if text.len() > TEXT_BYTES_MAX {
        return Err(KeyError::Text);
    }
    let body = match text.strip_prefix("-----BEGIN ") {
        None => text,
        Some(rest) => {
            let (_, rest) = rest.split_once("-----").ok_or(KeyError::Text)?;
            rest.split_once("-----END ").ok_or(KeyError::Text)?.0
        }
    };
    let mut letters = Zeroizing::new(String::with_capacity(body.len()));
    letters.extend(body.chars().filter(|letter| !letter.is_ascii_whitespace()));
    base64::decode_std(&letters).map(Zeroizing::new).map_err(|_| KeyError::Text)
}

#[cfg(test)]
mod tests;
