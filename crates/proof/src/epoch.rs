//! Master keys by epoch, and the root key of one token (L402-40..42).
//!
//! `root = HMAC(HMAC(master, "farthing/macaroon-root/1"), identifier)`: checking a token reads nothing
//! and minting one writes nothing.

use std::fmt;

use zeroize::Zeroizing;

use crate::mac::{self, KeyedMac};

/// The master key serves no other purpose except through another label.
const LABEL: &[u8] = b"farthing/macaroon-root/1";

/// What an epoch may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochState {
    /// New tokens are minted under it, and old ones verify. Exactly one epoch.
    Mint,
    /// Old tokens verify.
    Verify,
    /// Every token minted under it is dead.
    Retired,
}

/// One epoch as configured. The secret is wiped on drop and never printed.
pub struct MasterKey {
    /// Number of the epoch, part of each identifier.
    pub epoch: u16,
    /// What it may still do.
    pub state: EpochState,
    /// 32 random bytes.
    pub secret: Zeroizing<[u8; 32]>,
}

/// Every epoch of macaroons. Holds derived keys only.
pub struct MasterKeys(EpochKeys<KeyedMac>);

/// What is derived from the master key of each epoch, for one purpose.
pub(crate) struct EpochKeys<K> {
    /// New things are made under it.
    minting: (u16, K),
    /// The others; `None` when retired.
    older: Vec<(u16, Option<K>)>,
}

/// A set of epochs that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeysError {
    /// New keys could not be minted.
    #[error("no epoch is in state mint")]
    NoMint,
    /// It would be unclear under which epoch to mint.
    #[error("epochs {0} and {1} are both in state mint")]
    TwoMint(u16, u16),
    /// It would be unclear which secret is meant.
    #[error("epoch {0} is named twice")]
    Twice(u16),
}

impl MasterKeys {
    /// Derives the sub-keys, once.
    ///
    /// # Errors
    /// [`MasterKeysError`]: the configuration is wrong, serve nothing.
    pub fn new(keys: impl IntoIterator<Item = MasterKey>) -> Result<Self, MasterKeysError> {
        EpochKeys::new(keys, sub_key).map(Self)
    }

    /// The epoch new tokens are minted under.
    #[must_use]
    pub const fn mint_epoch(&self) -> u16 {
        self.0.mint_epoch()
    }

    /// The root key of a token; `None` when its epoch is unknown or retired.
    #[must_use]
    pub fn root(&self, epoch: u16, identifier: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        Some(Zeroizing::new(mac::sum(self.0.get(epoch)?, identifier)))
    }
}

impl<K> EpochKeys<K> {
    /// Derives a key for each epoch that is not retired.
    ///
    /// # Errors
    /// [`MasterKeysError`]
    pub(crate) fn new(
        keys: impl IntoIterator<Item = MasterKey>,
        derive: impl Fn(&[u8; 32]) -> K,
    ) -> Result<Self, MasterKeysError> {
        let mut older: Vec<(u16, Option<K>)> = Vec::new();
        let mut minting: Option<(u16, K)> = None;
        for key in keys {
            let is_minting = minting.as_ref().is_some_and(|(epoch, _)| *epoch == key.epoch);
            if is_minting || older.iter().any(|(epoch, _)| *epoch == key.epoch) {
                return Err(MasterKeysError::Twice(key.epoch));
            }
            match (key.state, &minting) {
                (EpochState::Mint, Some((other, _))) => {
                    return Err(MasterKeysError::TwoMint(*other, key.epoch));
                }
                (EpochState::Mint, None) => minting = Some((key.epoch, derive(&key.secret))),
                (EpochState::Verify, _) => older.push((key.epoch, Some(derive(&key.secret)))),
                (EpochState::Retired, _) => older.push((key.epoch, None)),
            }
        }
        Ok(Self { minting: minting.ok_or(MasterKeysError::NoMint)?, older })
    }

    /// The epoch that new things are made under.
    pub(crate) const fn mint_epoch(&self) -> u16 {
        self.minting.0
    }

    /// The key of that epoch.
    pub(crate) const fn minting(&self) -> &K {
        &self.minting.1
    }

    /// The key of an epoch; `None` when it is unknown or retired.
    pub(crate) fn get(&self, epoch: u16) -> Option<&K> {
        if epoch == self.minting.0 {
            return Some(&self.minting.1);
        }
        self.older.iter().find(|(number, _)| *number == epoch)?.1.as_ref()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey(epoch {}, {:?}, secret hidden)", self.epoch, self.state)
    }
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeys({:?})", self.0)
    }
}

impl<K> fmt::Debug for EpochKeys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} epochs, minting under {}", self.older.len() + 1, self.minting.0)
    }
}

fn sub_key(master: &[u8; 32]) -> KeyedMac {
    mac::keyed(&Zeroizing::new(mac::sum(&mac::keyed(master), LABEL)))
}

#[cfg(test)]
mod tests {
    use super::{EpochState as S, LABEL, MasterKey, MasterKeys, MasterKeysError as E};
    use crate::mac;
    use wire::hex;
    use zeroize::Zeroizing;

    fn key(epoch: u16, state: S) -> MasterKey {
        MasterKey { epoch, state, secret: Zeroizing::new([0x42; 32]) }
    }

    /// The worked example of specs/credit-keys.md.
    #[test]
    fn l402_40_worked_example() {
        let sub = mac::sum(&mac::keyed(&[0x42; 32]), LABEL);
        assert_eq!(hex::encode(&sub), "758e9291beed4cebe40f882a8862b2897481e912de7e1d777a8b3c4da033b2e0");
        let identifier =
            hex::decode("464b01010007a0a1a2a3a4a5a6a7a8a9aaabacadaeafc0c1c2c3c4c5c6c7c8c9cacbcccdcecf")
                .unwrap();
        let keys = MasterKeys::new([key(7, S::Mint)]).unwrap();
        assert_eq!(
            hex::encode(&*keys.root(7, &identifier).unwrap()),
            "fb9910577b0846901a3b48d199dba0e292905044b9d621071fcedbcfc9bf62dd"
        );
    }

    #[test]
    fn l402_42_states() {
        let keys = MasterKeys::new([key(1, S::Retired), key(2, S::Verify), key(3, S::Mint)]).unwrap();
        assert_eq!(keys.mint_epoch(), 3);
        for (epoch, usable) in [(0, false), (1, false), (2, true), (3, true), (4, false)] {
            assert_eq!(keys.root(epoch, b"id").is_some(), usable, "epoch {epoch}");
        }
        assert_eq!(MasterKeys::new([key(1, S::Verify)]).unwrap_err(), E::NoMint);
        assert_eq!(MasterKeys::new([key(1, S::Mint), key(2, S::Mint)]).unwrap_err(), E::TwoMint(1, 2));
        assert_eq!(MasterKeys::new([key(1, S::Mint), key(1, S::Retired)]).unwrap_err(), E::Twice(1));
    }

    /// L402-41.
    #[test]
    fn nothing_secret_is_printed() {
        assert!(!format!("{:?}", key(1, S::Mint)).contains("66"));
        let keys = MasterKeys::new([key(1, S::Mint)]).unwrap();
        assert_eq!(format!("{keys:?}"), "MasterKeys(1 epochs, minting under 1)");
    }
}
