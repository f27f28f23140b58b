//! Tokens: `cashuB` (V4, CBOR), and `cashuA` (V3, JSON), which old wallets still make (NUT-00).

mod v3;
mod v4;

use std::collections::HashSet;
use std::fmt;

use super::keyset::{KeysetId, Point};
use crate::base64;

/// Longest token that is read, in characters: reference item 7.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Most proofs that a token may hold.
pub const PROOFS_MAX: usize = 64;
/// Longest secret of a proof. A mint's own bound is 512 or 1024.
pub const SECRET_BYTES_MAX: usize = 1024;
/// Longest name of a mint.
const MINT_BYTES_MAX: usize = 512;
/// Longest name of a unit.
const UNIT_BYTES_MAX: usize = 16;

/// Ecash of one mint, decoded and not verified. `Debug` prints sizes: whoever reads the secrets has the money.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// URL of the mint, without slashes at its end.
    pub mint: String,
    /// What it is counted in.
    pub unit: String,
    /// At least one, at most [`PROOFS_MAX`], no secret twice.
    pub proofs: Vec<Proof>,
}

/// One coin.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// In units, not zero.
    pub amount: u64,
    /// Whose keys signed it; perhaps abbreviated.
    pub keyset: KeysetId,
    /// What was signed.
    pub secret: String,
    /// The signature.
    pub signature: Point,
    /// Evidence that the mint made it, if the payer sends some.
    pub dleq: Option<Dleq>,
}

/// Evidence of equal discrete logarithms, for somebody who was not there (NUT-12). The blinding factor is the payer's
/// secret before the mint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dleq {
    /// Challenge.
    pub e: [u8; 32],
    /// Response.
    pub s: [u8; 32],
    /// Blinding factor.
    pub r: [u8; 32],
}

/// Why text is no token that we read. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Neither `cashuA` nor `cashuB`.
    #[error("not a token of version 3 or 4")]
    Version,
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("longer than {TOKEN_BYTES_MAX} characters")]
    TooLong,
    /// Not base64, CBOR or JSON of the shape of its version.
    #[error("malformed token")]
    Malformed,
    /// More proofs than [`PROOFS_MAX`], or none.
    #[error("not between 1 and {PROOFS_MAX} proofs")]
    Proofs,
    /// Of two mints: each would have to be asked.
    #[error("proofs of more than one mint")]
    SeveralMints,
    /// One proof twice.
    #[error("a proof stands twice")]
    Twice,
    /// It is worth more than can be counted.
    #[error("amount out of range")]
    Amount,
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// [`TokenError`]: nothing was asked of anybody.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (version, rest) = text.split_at_checked(6).ok_or(TokenError::Version)?;
        let read = match version {
            "cashuA" => v3::read,
            "cashuB" => v4::read,
            _ => return Err(TokenError::Version),
        };
        let bytes = base64::decode_any(rest, TOKEN_BYTES_MAX).map_err(|_| TokenError::Malformed)?;
        read(&bytes)?.checked()
    }

    /// As wallets read it: version 4.
    #[must_use]
    pub fn encode(&self) -> String {
        format!("cashuB{}", base64::encode_url_padded(&v4::write(self)))
    }

    /// What it is worth, fees of its mint not counted.
    #[must_use]
    pub fn amount(&self) -> u64 {
        self.proofs.iter().fold(0, |sum, proof| sum.saturating_add(proof.amount))
    }

    fn checked(mut self) -> Result<Self, TokenError> {
        if !(1..=PROOFS_MAX).contains(&self.proofs.len()) {
            return Err(TokenError::Proofs);
        }
        self.mint.truncate(self.mint.trim_end_matches('/').len());
        let is_word =
            |text: &str, most| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_word(&self.mint, MINT_BYTES_MAX) || !is_word(&self.unit, UNIT_BYTES_MAX) {
            return Err(TokenError::Malformed);
        }
        let mut secrets = HashSet::new();
        let mut sum: u64 = 0;
        for proof in &self.proofs {
            if proof.amount == 0 || !(1..=SECRET_BYTES_MAX).contains(&proof.secret.len()) {
                return Err(TokenError::Malformed);
            }
            if !secrets.insert(proof.secret.as_str()) {
                return Err(TokenError::Twice);
            }
            sum = sum.checked_add(proof.amount).ok_or(TokenError::Amount)?;
        }
        Ok(self)
    }
}

impl Proof {
    /// Whether its secret states conditions to be met when it is spent (NUT-10): a JSON list, which no plain secret is.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.secret.trim_start().starts_with('[')
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} {} in {} proofs, secrets hidden)", self.amount(), self.unit, self.proofs.len())
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({} of {:?}, secret hidden)", self.amount, self.keyset)
    }
}

impl fmt::Debug for Dleq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dleq(hidden)")
    }
}

#[cfg(test)]
mod tests;
