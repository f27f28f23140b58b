//! The key pair that an agent signs requests with: as the holder of a credit key, or under its own name.
//!
//! A JWK of RFC 8037 with its private part, so that other tools read it too. It pays for nothing: payments are signed
//! with the keys of the wallet.

use std::fmt;
use std::path::Path;

use ed25519_dalek::SigningKey;
use proof::identity::directory::{Published, publish};
use proof::receipt::kid;
use serde::{Deserialize, Serialize};
use wire::base64;
use zeroize::{Zeroize as _, Zeroizing};

use crate::folder::{self, FileError, FileProblem};

/// An Ed25519 key pair. `Debug` prints its name only.
pub struct IdentityKey(SigningKey);

/// Why there is no key pair to use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityKeyError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no file.
    #[error("{0}: no key pair there; make one with `farthing key holder new`")]
    Missing(String),
    /// There is one already, and keys may be bound to it.
    #[error("{0}: a key pair is there already; it was left as it is")]
    Exists(String),
    /// The system gives no randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
}

#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    /// Stands beside the secret so that a damaged file is noticed.
    x: String,
    d: String,
}

impl Drop for Jwk {
    fn drop(&mut self) {
        self.d.zeroize();
    }
}

/// Characters of 32 bytes in unpadded base64url.
const ENCODED: usize = 43;

impl IdentityKey {
    /// Makes a key pair and writes it, mode 0600. Never replaces a file.
    ///
    /// # Errors
    /// [`IdentityKeyError`]
    pub fn create(path: &Path) -> Result<Self, IdentityKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| IdentityKeyError::Randomness)?;
        let key = Self::from_seed(&seed);
        let content = Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: base64::encode_url(&key.public()),
            d: base64::encode_url(&*seed),
        };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&content).map_err(|_| folder::malformed(path))?);
        let file = folder::create(path).map_err(|error| match error.problem {
            FileProblem::Io(ref io) if io.kind() == std::io::ErrorKind::AlreadyExists => {
                IdentityKeyError::Exists(path.display().to_string())
            }
            FileProblem::Io(_) | FileProblem::OpenToOthers | FileProblem::Malformed => error.into(),
        })?;
        folder::write_through(path, &file, &text)?;
        folder::sync_folder(path)?;
        Ok(key)
    }

    /// Reads the file of a key pair.
    ///
    /// # Errors
    /// [`IdentityKeyError`]
    pub fn load(path: &Path) -> Result<Self, IdentityKeyError> {
        let missing = || IdentityKeyError::Missing(path.display().to_string());
        let bytes = folder::read(path)?.ok_or_else(missing)?;
        Self::decode(&bytes).ok_or_else(|| folder::malformed(path).into())
    }

    /// The key pair of a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// What a `holder=` caveat says: `ed25519:` and the public key (IDN-26).
    #[must_use]
    pub fn holder(&self) -> String {
        format!("ed25519:{}", base64::encode_url(&self.public()))
    }

    /// Its name in signatures and directories, by RFC 7638 (IDN-28).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        kid(&self.0.verifying_key())
    }

    /// A directory of this key alone, for `authority` and until `expires_s`: to be served as it is (IDN-16). `None` where the
    /// times are none that can be written.
    #[must_use]
    pub fn directory(&self, authority: &str, created_s: u64, expires_s: u64) -> Option<Published> {
        publish(&[&self.0], authority, created_s, expires_s).ok()
    }

    pub(crate) const fn signing(&self) -> &SigningKey {
        &self.0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let content: Jwk = serde_json::from_slice(bytes).ok()?;
        let seed = Zeroizing::new(base64::decode_url(&content.d, ENCODED).ok()?);
        let key = Self(SigningKey::from_bytes(seed.as_slice().try_into().ok()?));
        let same = content.kty == "OKP"
            && content.crv == "Ed25519"
            && content.x == base64::encode_url(&key.public());
        same.then_some(key)
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({})", self.thumbprint())
    }
}

#[cfg(test)]
mod tests {
    use super::{IdentityKey, IdentityKeyError};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_pair_reads_back_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/identity.json");
        assert!(matches!(IdentityKey::load(&path), Err(IdentityKeyError::Missing(_))));
        let made = IdentityKey::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(IdentityKey::load(&path).unwrap().public(), made.public());
        assert!(matches!(IdentityKey::create(&path), Err(IdentityKeyError::Exists(_))));
        let text = fs::read_to_string(&path).unwrap();
        for (what, changed) in [
            ("another curve", text.replace("Ed25519", "X25519")),
            ("another public half", text.replace("\"x\": \"", "\"x\": \"A")),
            ("no secret half", text.replace("\"d\"", "\"e\"")),
        ] {
            fs::write(&path, changed).unwrap();
            assert!(matches!(IdentityKey::load(&path), Err(IdentityKeyError::File(_))), "{what}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(IdentityKey::load(&path), Err(IdentityKeyError::File(_))));
    }

    /// RFC 9421 appendix B.1.4 names this key, mppx its thumbprint.
    #[test]
    fn names_are_those_of_others() {
        let seed = wire::base64::decode_url("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU", 43).unwrap();
        let key = IdentityKey::from_seed(&seed.try_into().unwrap());
        assert_eq!(key.thumbprint(), "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U");
        assert_eq!(key.holder(), "ed25519:JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs");
        assert!(!format!("{key:?}").contains("n4Ni"));
    }
}
