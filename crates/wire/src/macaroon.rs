//! Macaroon V2 bytes and the signature chain of first-party caveats (L402-20..24).
//!
//! ```text
//! 02 [01 len location] 02 len identifier 00 *([01 len location] 02 len caveat 00) 00 06 20 signature
//! ```
//! `len` is a minimal unsigned LEB128 varint. The chain covers the root key, the identifier and the
//! caveats; the location is not covered and means nothing here. Comparing a signature is `proof`'s work.

use std::fmt;
use std::sync::LazyLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Longest macaroon we read or write (L402-13).
pub const BYTES_MAX: usize = 2 * 1024;
/// Most caveats (L402-13).
pub const CAVEATS_MAX: usize = 16;
/// Longest caveat (L402-13).
pub const CAVEAT_BYTES_MAX: usize = 512;

const VERSION: u8 = 2;
const END: u8 = 0;
const LOCATION: u8 = 1;
const IDENTIFIER: u8 = 2;
const SIGNATURE: u8 = 6;
/// What every macaroon library derives the first HMAC key with.
const KEY_GENERATOR: &[u8; 23] = b"macaroons-key-generator";
/// Its state: the same for every macaroon there is, so it is computed once.
static GENERATOR: LazyLock<Hmac<Sha256>> = LazyLock::new(|| keyed(KEY_GENERATOR));

/// A decoded macaroon, not verified. `Debug` prints sizes only: who holds the signature holds the money.
///
/// Two byte strings can be one macaroon (a location may be empty, absent or changed), so its bytes
/// never serve as a replay, ledger or revocation key (L402-21).
#[derive(Clone, PartialEq, Eq)]
pub struct Macaroon {
    /// A hint by whoever minted it; not signed. `Some(empty)` and `None` differ in bytes only.
    pub location: Option<Vec<u8>>,
    /// What the root key is derived from.
    pub identifier: Vec<u8>,
    /// First-party caveats in signing order.
    pub caveats: Vec<Vec<u8>>,
    /// The end of the chain.
    pub signature: [u8; 32],
}

/// Why bytes are no macaroon we take. Holds sizes, never the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacaroonError {
    /// Longer than [`BYTES_MAX`].
    #[error("{0} bytes, limit {BYTES_MAX}")]
    TooLong(usize),
    /// Not version 2 in binary form.
    #[error("not a version 2 macaroon")]
    Version,
    /// A field is missing, unexpected, out of order, or longer than what is left.
    #[error("malformed fields")]
    Malformed,
    /// A length is not written in its shortest form.
    #[error("a length is not minimal")]
    NotMinimal,
    /// A third-party caveat, or a first-party one with an (even empty) verification id (L402-22).
    #[error("third-party caveats are not supported")]
    ThirdParty,
    /// More than [`CAVEATS_MAX`].
    #[error("more than {CAVEATS_MAX} caveats")]
    TooManyCaveats,
    /// Longer than [`CAVEAT_BYTES_MAX`].
    #[error("a caveat of {0} bytes, limit {CAVEAT_BYTES_MAX}")]
    CaveatTooLong(usize),
}

impl Macaroon {
    /// A macaroon without caveats over `identifier`.
    #[must_use]
    pub fn mint(root_key: &[u8; 32], identifier: &[u8], location: Option<&[u8]>) -> Self {
        Self {
            location: location.map(<[u8]>::to_vec),
            identifier: identifier.to_vec(),
            caveats: Vec::new(),
            signature: first_signature(root_key, identifier),
        }
    }

    /// Narrows the macaroon. Needs no key: whoever holds it can hand out a weaker one, offline.
    ///
    /// # Errors
    /// [`MacaroonError`] when a limit would be passed; nothing was changed.
    pub fn add_caveat(&mut self, caveat: &[u8]) -> Result<(), MacaroonError> {
        if caveat.len() > CAVEAT_BYTES_MAX {
            return Err(MacaroonError::CaveatTooLong(caveat.len()));
        }
        if self.caveats.len() >= CAVEATS_MAX {
            return Err(MacaroonError::TooManyCaveats);
        }
        // Tag, two length bytes at most and the end mark.
        let length = self.encode().len() + caveat.len() + 4;
        if length > BYTES_MAX {
            return Err(MacaroonError::TooLong(length));
        }
        self.signature = next_signature(&self.signature, caveat);
        self.caveats.push(caveat.to_vec());
        Ok(())
    }

    /// The signatures that `root_key` gives along this macaroon: one over the identifier, then one
    /// per caveat. The macaroon is genuine when the last equals its signature.
    #[must_use]
    pub fn chain(&self, root_key: &[u8; 32]) -> Vec<[u8; 32]> {
        let mut signature = first_signature(root_key, &self.identifier);
        let mut chain = Vec::with_capacity(self.caveats.len() + 1);
        chain.push(signature);
        for caveat in &self.caveats {
            signature = next_signature(&signature, caveat);
            chain.push(signature);
        }
        chain
    }

    /// Reads the binary V2 form, strictly: every byte is accounted for.
    ///
    /// # Errors
    /// [`MacaroonError`]
    pub fn decode(bytes: &[u8]) -> Result<Self, MacaroonError> {
        if bytes.len() > BYTES_MAX {
            return Err(MacaroonError::TooLong(bytes.len()));
        }
        let (&version, rest) = bytes.split_first().ok_or(MacaroonError::Version)?;
        if version != VERSION {
            return Err(MacaroonError::Version);
        }
        let mut fields = Fields { rest };
        let location = fields.optional(LOCATION)?.map(<[u8]>::to_vec);
        let identifier = fields.required(IDENTIFIER)?.to_vec();
        fields.end()?;
        let caveats = fields.caveats()?;
        let signature = fields.required(SIGNATURE)?.try_into().map_err(|_| MacaroonError::Malformed)?;
        if !fields.rest.is_empty() {
            return Err(MacaroonError::Malformed);
        }
        Ok(Self { location, identifier, caveats, signature })
    }

    /// The binary V2 form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        if let Some(location) = &self.location {
            put(&mut bytes, LOCATION, location);
        }
        put(&mut bytes, IDENTIFIER, &self.identifier);
        bytes.push(END);
        for caveat in &self.caveats {
            put(&mut bytes, IDENTIFIER, caveat);
            bytes.push(END);
        }
        bytes.push(END);
        put(&mut bytes, SIGNATURE, &self.signature);
        bytes
    }
}

impl fmt::Debug for Macaroon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Macaroon({} identifier bytes, {} caveats)", self.identifier.len(), self.caveats.len())
    }
}

/// What is not read yet.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn caveats(&mut self) -> Result<Vec<Vec<u8>>, MacaroonError> {
        let mut caveats = Vec::new();
        while self.rest.first() != Some(&END) {
            if caveats.len() == CAVEATS_MAX {
                return Err(MacaroonError::TooManyCaveats);
            }
            // A caveat's location is as meaningless as the macaroon's, and not kept.
            self.optional(LOCATION)?;
            let caveat = self.required(IDENTIFIER)?;
            if self.rest.first() != Some(&END) {
                return Err(MacaroonError::ThirdParty);
            }
            self.end()?;
            if caveat.len() > CAVEAT_BYTES_MAX {
                return Err(MacaroonError::CaveatTooLong(caveat.len()));
            }
            caveats.push(caveat.to_vec());
        }
        self.end()?;
        Ok(caveats)
    }

    fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, MacaroonError> {
        if self.rest.first() == Some(&tag) { self.required(tag).map(Some) } else { Ok(None) }
    }

    fn required(&mut self, tag: u8) -> Result<&'a [u8], MacaroonError> {
        if self.byte()? != tag {
            return Err(MacaroonError::Malformed);
        }
        let length = self.length()?;
        let (field, rest) = self.rest.split_at_checked(length).ok_or(MacaroonError::Malformed)?;
        self.rest = rest;
        Ok(field)
    }

    fn end(&mut self) -> Result<(), MacaroonError> {
        if self.byte()? == END { Ok(()) } else { Err(MacaroonError::Malformed) }
    }

    /// Two bytes hold every length below [`BYTES_MAX`]; a third is either padding or too much.
    fn length(&mut self) -> Result<usize, MacaroonError> {
        let low = self.byte()?;
        if low < 0x80 {
            return Ok(usize::from(low));
        }
        let high = self.byte()?;
        match high {
            0 => Err(MacaroonError::NotMinimal),
            1..0x80 => Ok(usize::from(low & 0x7f) | usize::from(high) << 7),
            0x80.. => Err(MacaroonError::Malformed),
        }
    }

    fn byte(&mut self) -> Result<u8, MacaroonError> {
        let (&byte, rest) = self.rest.split_first().ok_or(MacaroonError::Malformed)?;
        self.rest = rest;
        Ok(byte)
    }
}

fn put(bytes: &mut Vec<u8>, tag: u8, field: &[u8]) {
    bytes.push(tag);
    let mut length = field.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap_or(0));
    bytes.extend_from_slice(field);
}

fn first_signature(root_key: &[u8; 32], identifier: &[u8]) -> [u8; 32] {
    let key: [u8; 32] = GENERATOR.clone().chain_update(root_key).finalize().into_bytes().into();
    next_signature(&key, identifier)
}

fn next_signature(signature: &[u8; 32], caveat: &[u8]) -> [u8; 32] {
    keyed(signature).chain_update(caveat).finalize().into_bytes().into()
}

fn keyed<const N: usize>(key: &[u8; N]) -> Hmac<Sha256> {
    const { assert!(N <= 64) };
    let mut block = [0; 64]; // a key below the block size is padded with zeros, so this is the same key
    block[..N].copy_from_slice(key);
    Hmac::new(&block.into())
}

#[cfg(test)]
mod tests;
