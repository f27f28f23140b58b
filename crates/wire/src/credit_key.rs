//! The credit key, `fk_live_...` or `fk_test_...`: a macaroon that names an account.
//!
//! ```text
//! key         = ("fk_live_" / "fk_test_") base64url-nopad(macaroon V2)
//! identifier  = 46 4B | layout 01 | mode 00 live, 01 test | epoch u16 | account [16] | key id [16]
//! ```
//! Possession of the signature is the proof, so the whole text is a secret.

use std::fmt;

use crate::base64;
use crate::macaroon::{self, Macaroon, MacaroonError};

/// Longest key text: a prefix and the base64 of the longest macaroon.
pub const TEXT_BYTES_MAX: usize = 8 + macaroon::BYTES_MAX.div_ceil(3) * 4;
/// Length of the identifier.
pub const IDENTIFIER_BYTES: usize = 38;

const KIND: [u8; 2] = *b"FK";
const LAYOUT: u8 = 1;

/// Whether a key spends real money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Real money.
    Live,
    /// Play money and test networks.
    Test,
}

/// What the identifier of a credit key says.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId {
    /// Signed, unlike the prefix of the text.
    pub mode: Mode,
    /// Which master key the root key comes from.
    pub epoch: u16,
    /// The account the key draws on.
    pub account: [u8; 16],
    /// The key's own name: revoking it kills the key with all that was derived from it.
    pub key_id: [u8; 16],
}

/// A decoded key, not verified. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct CreditKey {
    id: KeyId,
    macaroon: Macaroon,
}

/// Why text is no credit key. Holds sizes, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditKeyError {
    /// Another kind of credential: not ours to judge.
    #[error("no `fk_live_` or `fk_test_` in front")]
    OtherPrefix,
    /// Longer than [`TEXT_BYTES_MAX`].
    #[error("{0} characters, limit {TEXT_BYTES_MAX}")]
    TooLong(usize),
    /// Not unpadded base64url.
    #[error("not unpadded base64url")]
    Base64,
    /// Not a macaroon.
    #[error(transparent)]
    Macaroon(#[from] MacaroonError),
    /// The identifier is of another kind, layout or length (L402-30).
    #[error("the identifier is not a credit key's")]
    Identifier,
    /// The prefix says one mode and the signed identifier the other.
    #[error("prefix and identifier disagree on live or test")]
    Mode,
}

impl Mode {
    /// What a key of this mode begins with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Live => "fk_live_",
            Self::Test => "fk_test_",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Live => 0,
            Self::Test => 1,
        }
    }
}

impl KeyId {
    /// The signed bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; IDENTIFIER_BYTES] {
        let mut bytes = [0; IDENTIFIER_BYTES];
        bytes[..2].copy_from_slice(&KIND);
        bytes[2] = LAYOUT;
        bytes[3] = self.mode.code();
        bytes[4..6].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[6..22].copy_from_slice(&self.account);
        bytes[22..].copy_from_slice(&self.key_id);
        bytes
    }

    /// Reads an identifier; `None` when it is of another kind, layout or length.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&KIND)?;
        let (head, rest) = rest.split_first_chunk::<4>()?;
        let (account, rest) = rest.split_first_chunk::<16>()?;
        let key_id = rest.try_into().ok()?;
        let [LAYOUT, mode, high, low] = *head else { return None };
        let mode = match mode {
            0 => Mode::Live,
            1 => Mode::Test,
            _ => return None,
        };
        Some(Self { mode, epoch: u16::from_be_bytes([high, low]), account: *account, key_id })
    }
}

/// Account and key id are names, not secrets, and are what a log needs.
impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyId")
            .field("mode", &self.mode)
            .field("epoch", &self.epoch)
            .field("account", &crate::hex::encode(&self.account))
            .field("key_id", &crate::hex::encode(&self.key_id))
            .finish()
    }
}

impl CreditKey {
    /// Reads a key as it stands in a header. Caveats are not read: nobody has proven yet that we wrote them.
    ///
    /// # Errors
    /// [`CreditKeyError`]. `OtherPrefix` sends the request on to the next kind of credential.
    pub fn parse(text: &str) -> Result<Self, CreditKeyError> {
        use CreditKeyError as E;
        let (mode, token) = [Mode::Live, Mode::Test]
            .into_iter()
            .find_map(|mode| Some((mode, text.strip_prefix(mode.prefix())?)))
            .ok_or(E::OtherPrefix)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(E::TooLong(text.len()));
        }
        let bytes = base64::decode_url(token, TEXT_BYTES_MAX).map_err(|_| E::Base64)?;
        let key = Self::from_macaroon(Macaroon::decode(&bytes)?).ok_or(E::Identifier)?;
        if key.id.mode != mode {
            return Err(E::Mode);
        }
        Ok(key)
    }

    /// Takes a macaroon whose identifier is a credit key's, else `None`.
    #[must_use]
    pub fn from_macaroon(macaroon: Macaroon) -> Option<Self> {
        Some(Self { id: KeyId::decode(&macaroon.identifier)?, macaroon })
    }

    /// What the identifier says.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// Live or test.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.id.mode
    }

    /// The token itself: a secret.
    #[must_use]
    pub const fn macaroon(&self) -> &Macaroon {
        &self.macaroon
    }

    /// Narrows the key, offline.
    ///
    /// # Errors
    /// [`MacaroonError`] when a limit would be passed; nothing was changed.
    pub fn add_caveat(&mut self, caveat: &[u8]) -> Result<(), MacaroonError> {
        self.macaroon.add_caveat(caveat)
    }

    /// The text to hand out: a secret. Not `Display`, so that it never ends in a log by accident.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}{}", self.mode().prefix(), base64::encode_url(&self.macaroon.encode()))
    }
}

impl fmt::Debug for CreditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreditKey({:?}, {} caveats, signature hidden)", self.id, self.macaroon.caveats.len())
    }
}

#[cfg(test)]
mod tests;
