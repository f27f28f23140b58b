//! One L402 token: a macaroon whose identifier names a payment hash.

use std::fmt;

use super::identifier::Identifier;
use crate::base64;
use crate::macaroon::{self, Macaroon, MacaroonError};

/// Longest base64 text of a token (L402-13).
pub const TEXT_BYTES_MAX: usize = macaroon::BYTES_MAX.div_ceil(3) * 4;

/// A decoded token, not verified. `Debug` hides the signature.
///
/// Its bytes are no key of anything: an empty and an absent location are two byte strings of one token
/// (L402-21). Money follows the payment hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    identifier: Identifier,
    macaroon: Macaroon,
}

/// Why text or bytes are no L402 token. Holds sizes, never the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Both alphabets mixed, partial padding, trailing bits, or too long (L402-12, L402-13).
    #[error("not canonical base64")]
    Base64,
    /// Not a macaroon we take (L402-20..22).
    #[error(transparent)]
    Macaroon(#[from] MacaroonError),
    /// Of another kind (a credit key's, say), version or length (L402-30).
    #[error("the identifier is not an L402 token's")]
    Identifier,
}

impl Token {
    /// Reads either base64 alphabet, padded or not.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn from_base64(text: &str) -> Result<Self, TokenError> {
        let bytes = base64::decode_any(text, TEXT_BYTES_MAX).map_err(|_| TokenError::Base64)?;
        Self::decode(&bytes)
    }

    /// Reads the macaroon's bytes.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        Self::from_macaroon(Macaroon::decode(bytes)?).ok_or(TokenError::Identifier)
    }

    /// Takes a macaroon whose identifier is an L402 token's, else `None`.
    #[must_use]
    pub fn from_macaroon(macaroon: Macaroon) -> Option<Self> {
        Some(Self { identifier: Identifier::decode(&macaroon.identifier)?, macaroon })
    }

    /// What the identifier says.
    #[must_use]
    pub const fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// The token itself.
    #[must_use]
    pub const fn macaroon(&self) -> &Macaroon {
        &self.macaroon
    }

    /// Narrows the token, offline.
    ///
    /// # Errors
    /// [`MacaroonError`] when a limit would be passed; nothing was changed.
    pub fn add_caveat(&mut self, caveat: &[u8]) -> Result<(), MacaroonError> {
        self.macaroon.add_caveat(caveat)
    }

    /// Standard alphabet with padding: the one form every known client takes (L402-1).
    #[must_use]
    pub fn to_base64(&self) -> String {
        base64::encode_std(&self.macaroon.encode())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?}, {} caveats, signature hidden)", self.identifier, self.macaroon.caveats.len())
    }
}
