//! The gateway's own keys: read from where the configuration says, or made on first start.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac};
use proof::cashu::OutputSeed;
use proof::mpp::ChallengeKeys;
use proof::quote::QuoteKey;
use proof::{EpochState, MasterKey, MasterKeys, SigningKey, receipt};
use sha2::Sha256;
use wire::credit_key::Mode;
use zeroize::Zeroizing;

use crate::config::{self, Config, KeySource, Secret32};
use crate::random;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key file cannot be read or made.
    #[error("key file {0}: {1}")]
    File(String, #[source] io::Error),
    /// A key file is readable by others, or no key.
    #[error("key file {0}: {1}")]
    Content(String, &'static str),
    /// The epochs do not fit together.
    #[error(transparent)]
    Epochs(#[from] proof::epoch::MasterKeysError),
}

/// All secrets of ours. No `Debug`.
pub struct Keys {
    /// Live or test: the mode of every credit key.
    pub mode: Mode,
    /// What tokens are derived from. A reload swaps it: who rotates keys stops nothing (L402-42).
    pub masters: ArcSwap<Masters>,
    /// Signs receipts; its public half is the payee of the test rail.
    pub receipt: SigningKey,
    /// Binds quotes.
    pub quote: QuoteKey,
    /// Makes our coins at Cashu mints.
    pub cashu: Arc<OutputSeed>,
}

/// The epochs of each kind of token. No `Debug`.
pub struct Masters {
    /// Of credit keys, which name their mode.
    pub credit: MasterKeys,
    /// Of L402 tokens. Their identifier has no room for a mode, so live and test have other keys.
    pub l402: MasterKeys,
    /// Of challenges of the `Payment` scheme, which have no mode either (MPP-9).
    pub mpp: ChallengeKeys,
}

impl Masters {
    /// Reads the master keys of the configuration; makes the one that is to be made and is not there yet.
    ///
    /// # Errors
    /// [`KeysError`]
    pub fn load(config: &Config) -> Result<Self, KeysError> {
        let (of_l402, of_mpp): (&[u8], &[u8]) = match config.mode {
            config::Mode::Live => (b"farthing/l402-master/live/1", b"farthing/mpp-master/live/1"),
            config::Mode::Test => (b"farthing/l402-master/test/1", b"farthing/mpp-master/test/1"),
        };
        let (written, plain) =
            (&config.tokens.master_keys, |secret: &Secret32| Zeroizing::new(*secret.expose()));
        let l402 = match &config.tokens.l402_keys {
            Some(own) => epochs(own, plain)?,
            None => epochs(written, |secret| derived(secret, of_l402))?,
        };
        Ok(Self {
            credit: MasterKeys::new(epochs(written, plain)?)?,
            l402: MasterKeys::new(l402)?,
            mpp: ChallengeKeys::new(epochs(written, |secret| derived(secret, of_mpp))?)?,
        })
    }
}

fn epochs(
    written: &[config::MasterKey],
    secret_of: impl Fn(&Secret32) -> Zeroizing<[u8; 32]>,
) -> Result<Vec<MasterKey>, KeysError> {
    let mut keys = Vec::with_capacity(written.len());
    for master in written {
        let state = if master.verify_only { EpochState::Verify } else { EpochState::Mint };
        keys.push(MasterKey { epoch: master.epoch, state, secret: secret_of(&secret(&master.key)?) });
    }
    Ok(keys)
}

impl Keys {
    /// Reads every key of the configuration; makes those that are to be made and are not there yet.
    ///
    /// # Errors
    /// [`KeysError`]
    pub fn load(config: &Config) -> Result<Self, KeysError> {
        let minting = config.tokens.master_keys.iter().find(|master| !master.verify_only);
        let minting = minting.ok_or(proof::epoch::MasterKeysError::NoMint)?;
        let minting = secret(&minting.key)?;
        let quote_secret = derived(&minting, b"farthing/quote/1");
        Ok(Self {
            mode: mode(config.mode),
            masters: ArcSwap::from_pointee(Masters::load(config)?),
            receipt: SigningKey::from_bytes(secret(&config.receipt_key)?.expose()),
            quote: QuoteKey::new(&quote_secret),
            cashu: Arc::new(OutputSeed::new(&derived(&minting, b"farthing/cashu/1"))),
        })
    }

    /// The gateway's public key: verifies receipts, and is paid on the test rail.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.receipt.verifying_key().to_bytes()
    }

    /// The key set at `/.well-known/farthing-keys.json`.
    #[must_use]
    pub fn jwks(&self) -> wire::jws::Jwks {
        receipt::jwks([&self.receipt.verifying_key()])
    }
}

/// The mode of tokens in a gateway of this mode.
#[must_use]
pub fn mode(mode: config::Mode) -> Mode {
    match mode {
        config::Mode::Live => Mode::Live,
        config::Mode::Test => Mode::Test,
    }
}

fn derived(secret: &Secret32, label: &[u8]) -> Zeroizing<[u8; 32]> {
    // HMAC takes a key of any length, so this cannot fail; a zero key would still be unguessable to nobody.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose()) else { std::process::abort() };
    mac.update(label);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn secret(source: &KeySource) -> Result<Secret32, KeysError> {
    match source {
        KeySource::Given(secret) => Ok(secret.clone()),
        KeySource::Generated(path) => read_or_make(path),
    }
}

fn read_or_make(path: &Path) -> Result<Secret32, KeysError> {
    let name = || path.display().to_string();
    let failed = |error| KeysError::File(name(), error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = Secret32::new(random::bytes());
            file.write_all(secret.encode().as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            Ok(secret)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut file = std::fs::File::open(path).map_err(failed)?;
            if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
                return Err(KeysError::Content(name(), "others can read it: set its mode to 0600"));
            }
            let mut content = Zeroizing::new(Vec::new());
            file.read_to_end(&mut content).map_err(failed)?;
            Secret32::decode(&content).ok_or(KeysError::Content(name(), "is not 32 bytes or 64 hex digits"))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{KeysError, read_or_make};

    #[test]
    fn a_key_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/master.key");
        let first = read_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_make(&path).unwrap().expose(), first.expose());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        read_or_make(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_or_make(&path), Err(KeysError::Content(..))));
    }
}
