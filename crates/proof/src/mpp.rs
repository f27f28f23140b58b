//! Is this MPP challenge one of ours? The id is an HMAC over the other parameters as text (MPP-7, MPP-8, MPP-9).
//!
//! The key of an epoch is `HMAC(master, "mpp-challenge-v1")`. The challenge names its epoch in `opaque`, together with
//! the epoch of the store, so nothing is stored per challenge and a restore from backup ends them all.

use std::fmt;

use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;
use wire::base64;
use wire::mpp::{Challenge, ChallengeError, Opaque, Parts};
use zeroize::Zeroizing;

use crate::epoch::{EpochKeys, MasterKey, MasterKeysError};
use crate::mac::{self, KeyedMac};

mod did;
pub mod evm;
pub mod permit;
pub mod wallet;

const LABEL: &[u8] = b"mpp-challenge-v1";
/// Shortest secret that two servers may share.
pub const SECRET_BYTES_MIN: usize = 32;
/// Text of an id: 32 bytes in base64url.
const ID_BYTES: usize = 43;

/// The key of one epoch, as a state that is cloned per message. Wiped on drop, never printed.
pub struct ChallengeKey(KeyedMac);

/// A secret of less than [`SECRET_BYTES_MIN`] bytes (MPP-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a challenge secret has at least {SECRET_BYTES_MIN} bytes")]
pub struct SecretTooShort;

impl ChallengeKey {
    /// Derives the key from a master key.
    #[must_use]
    pub fn new(master: &[u8; 32]) -> Self {
        Self(mac::keyed(&Zeroizing::new(mac::sum(&mac::keyed(master), LABEL))))
    }

    /// Takes a secret as it is: what several servers of other software share.
    ///
    /// # Errors
    /// [`SecretTooShort`]
    pub fn shared(secret: &[u8]) -> Result<Self, SecretTooShort> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(SecretTooShort);
        }
        Hmac::<Sha256>::new_from_slice(secret).map(Self).map_err(|_| SecretTooShort)
    }

    /// The id of a challenge.
    #[must_use]
    pub fn id(&self, challenge: Parts<'_>) -> String {
        base64::encode_url(&mac::sum(&self.0, challenge.slots().as_bytes()))
    }

    /// Whether a challenge's id is the one this key makes, compared in constant time.
    #[must_use]
    pub fn verify(&self, challenge: &Challenge) -> bool {
        let id = base64::decode_url(&challenge.id, ID_BYTES);
        let id: Option<[u8; 32]> = id.ok().and_then(|bytes| bytes.try_into().ok());
        id.is_some_and(|id| mac::is_same(&id, &mac::sum(&self.0, challenge.slots().as_bytes())))
    }
}

impl fmt::Debug for ChallengeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChallengeKey(hidden)")
    }
}

/// The keys of every epoch: new challenges are bound under one, old ones verify under theirs until it is retired.
pub struct ChallengeKeys(EpochKeys<ChallengeKey>);

/// A challenge that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its id.
    pub id: String,
    /// The value of its line.
    pub line: String,
}

/// Why an echoed challenge is none of ours. Nothing was claimed; a fresh challenge is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Another realm: another server, or none (MPP-10).
    #[error("challenge of another realm")]
    Realm,
    /// Without `opaque` or `expires`, or with an `opaque` that we never write: we send both always (MPP-3).
    #[error("challenge was not issued by this server")]
    Foreign,
    /// Its key is retired, or the store was restored since.
    #[error("challenge of an epoch that has ended")]
    Epoch,
    /// The id does not belong to the other parameters.
    #[error("challenge was altered, or not issued by this server")]
    Id,
}

impl ChallengeKeys {
    /// Derives the key of each epoch, once.
    ///
    /// # Errors
    /// [`MasterKeysError`]: the configuration is wrong, serve nothing.
    pub fn new(keys: impl IntoIterator<Item = MasterKey>) -> Result<Self, MasterKeysError> {
        EpochKeys::new(keys, ChallengeKey::new).map(Self)
    }

    /// The epoch that new challenges are bound under.
    #[must_use]
    pub const fn mint_epoch(&self) -> u16 {
        self.0.mint_epoch()
    }

    /// Binds a challenge: writes its `opaque`, whose key epoch is set here, and its id.
    ///
    /// # Errors
    /// [`ChallengeError`]: leave this offer out.
    pub fn bind(&self, unbound: Parts<'_>, opaque: Opaque) -> Result<Bound, ChallengeError> {
        let opaque = Opaque { key_epoch: self.mint_epoch(), ..opaque }.encode();
        let unbound = Parts { opaque: Some(&opaque), ..unbound };
        let id = self.0.minting().id(unbound);
        let line = Parts { id: &id, ..unbound }.to_value()?;
        Ok(Bound { id, line })
    }

    /// Checks that an echoed challenge is ours and of this store, and returns what it carries (MPP-13.3).
    ///
    /// # Errors
    /// [`BindingError`]
    pub fn verify(
        &self,
        challenge: &Challenge,
        realm: &str,
        store_epoch: u64,
    ) -> Result<Opaque, BindingError> {
        if challenge.realm != realm {
            return Err(BindingError::Realm);
        }
        let text = challenge.opaque.as_deref().ok_or(BindingError::Foreign)?;
        if challenge.expires.is_none() {
            return Err(BindingError::Foreign);
        }
        // Not believed yet: it says which key to check with.
        let opaque = Opaque::decode(text).map_err(|_| BindingError::Foreign)?;
        let key = self.0.get(opaque.key_epoch).ok_or(BindingError::Epoch)?;
        if !key.verify(challenge) {
            return Err(BindingError::Id);
        }
        if opaque.store_epoch != store_epoch {
            return Err(BindingError::Epoch);
        }
        Ok(opaque)
    }
}

impl fmt::Debug for ChallengeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChallengeKeys({:?})", self.0)
    }
}

#[cfg(test)]
mod tests;
