//! The wallet file: one secp256k1 key for EVM networks, one Ed25519 key for the test rail, one for Solana.

use std::fmt;
use std::path::Path;

use ed25519_dalek::SigningKey;
use proof::secp::SecretKey;
use serde::{Deserialize, Serialize};
use wire::hex;
use wire::x402::network::FARTHING_TEST;
use wire::x402::{Address, base58};
use zeroize::{Zeroize as _, Zeroizing};

use crate::folder::{self, FileError, FileProblem};

/// The keys that payments are signed with. `Debug` prints addresses only.
pub struct Wallet {
    pub(crate) evm: SecretKey,
    pub(crate) test: SigningKey,
    /// Wallets of before have none.
    pub(crate) solana: Option<SigningKey>,
}

/// Why there is no wallet to use.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no file.
    #[error("{0}: no wallet there; make one with `farthing wallet new`")]
    Missing(String),
    /// There is one already, and it may hold money.
    #[error("{0}: a wallet is there already; it was left as it is")]
    Exists(String),
    /// The system gives no randomness, or none that is random.
    #[error("the operating system gives no random bytes")]
    Randomness,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u8,
    evm: Pair,
    test: Pair,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    solana: Option<Pair>,
}

/// The public half stands beside the secret one so that a person sees what the file is, and a damaged
/// file is noticed.
#[derive(Serialize, Deserialize)]
struct Pair {
    public: String,
    secret: String,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

const VERSION: u8 = 1;

impl Wallet {
    /// A wallet with new keys, in memory only.
    ///
    /// # Errors
    /// [`WalletError::Randomness`]
    pub fn generate() -> Result<Self, WalletError> {
        let evm = SecretKey::from_bytes(&*random()?).map_err(|_| WalletError::Randomness)?;
        let test = SigningKey::from_bytes(&*random()?);
        Ok(Self { evm, test, solana: Some(SigningKey::from_bytes(&*random()?)) })
    }

    /// A wallet of these keys.
    #[must_use]
    pub const fn from_keys(evm: SecretKey, test: SigningKey) -> Self {
        Self { evm, test, solana: None }
    }

    /// The same with a key for Solana.
    #[must_use]
    pub fn with_solana(mut self, key: SigningKey) -> Self {
        self.solana = Some(key);
        self
    }

    /// Makes new keys and writes them, mode 0600. Never replaces a file.
    ///
    /// # Errors
    /// [`WalletError`]
    pub fn create(path: &Path) -> Result<Self, WalletError> {
        let (evm, test, solana) = (random()?, random()?, random()?);
        // One draw in 2^128 is no key, and then the source of randomness is broken.
        let key = SecretKey::from_bytes(&evm).map_err(|_| WalletError::Randomness)?;
        let on_solana = SigningKey::from_bytes(&solana);
        let address = base58::encode(on_solana.verifying_key().as_bytes());
        let wallet = Self { evm: key, test: SigningKey::from_bytes(&test), solana: Some(on_solana) };
        let content = Content {
            version: VERSION,
            evm: Pair { public: wallet.evm_address().to_string(), secret: hex::encode(&*evm) },
            test: Pair { public: wallet.test_address(), secret: hex::encode(&*test) },
            solana: Some(Pair { public: address, secret: hex::encode(&*solana) }),
        };
        let text = serde_json::to_vec_pretty(&content).map_err(|_| folder::malformed(path))?;
        let text = Zeroizing::new(text);
        let file = folder::create(path).map_err(|error| match error.problem {
            FileProblem::Io(ref io) if io.kind() == std::io::ErrorKind::AlreadyExists => {
                WalletError::Exists(path.display().to_string())
            }
            FileProblem::Io(_) | FileProblem::OpenToOthers | FileProblem::Malformed => error.into(),
        })?;
        folder::write_through(path, &file, &text)?;
        folder::sync_folder(path)?;
        Ok(wallet)
    }

    /// Reads a wallet file.
    ///
    /// # Errors
    /// [`WalletError`]
    pub fn load(path: &Path) -> Result<Self, WalletError> {
        let bytes = folder::read(path)?.ok_or_else(|| WalletError::Missing(path.display().to_string()))?;
        Self::decode(&bytes).ok_or_else(|| folder::malformed(path).into())
    }

    /// The account on EVM networks.
    #[must_use]
    pub fn evm_address(&self) -> Address {
        self.evm.address()
    }

    /// The account on the test rail: an Ed25519 public key in hexadecimal.
    #[must_use]
    pub fn test_address(&self) -> String {
        hex::encode(self.test.verifying_key().as_bytes())
    }

    /// The account on Solana, if there is one: a public key in base58.
    #[must_use]
    pub fn solana_address(&self) -> Option<String> {
        self.solana.as_ref().map(|key| base58::encode(key.verifying_key().as_bytes()))
    }

    /// The account on a network, as results name it.
    pub(crate) fn address_on(&self, network: &str) -> String {
        if network == FARTHING_TEST {
            return self.test_address();
        }
        let solana = self.solana_address().filter(|_| network.starts_with("solana:"));
        solana.unwrap_or_else(|| self.evm_address().to_string())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let content: Content = serde_json::from_slice(bytes).ok()?;
        let evm = SecretKey::parse(&content.evm.secret).ok()?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(hex::decode_array(&content.test.secret).ok()?);
        let solana = match &content.solana {
            Some(pair) => {
                let seed: Zeroizing<[u8; 32]> = Zeroizing::new(hex::decode_array(&pair.secret).ok()?);
                Some(SigningKey::from_bytes(&seed))
            }
            None => None,
        };
        let wallet = Self { evm, test: SigningKey::from_bytes(&seed), solana };
        let same = content.evm.public.parse() == Ok(wallet.evm_address())
            && content.test.public == wallet.test_address()
            && content.solana.as_ref().map(|pair| pair.public.clone()) == wallet.solana_address()
            && content.version == VERSION;
        same.then_some(wallet)
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet(evm {}, test {})", self.evm_address(), self.test_address())
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, WalletError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|_| WalletError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Wallet, WalletError};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_wallet_reads_back_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/wallet.json");
        assert!(matches!(Wallet::load(&path), Err(WalletError::Missing(_))));
        let made = Wallet::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Wallet::load(&path).unwrap();
        assert_eq!(read.evm_address(), made.evm_address());
        assert_eq!(read.test_address(), made.test_address());
        let before = fs::read(&path).unwrap();
        assert!(matches!(Wallet::create(&path), Err(WalletError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    /// A file of before has no key for Solana, and pays nothing there.
    #[test]
    fn a_wallet_of_before_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.json");
        let wallet = Wallet::create(&path).unwrap();
        assert!(wallet.solana_address().is_some());
        let mut content: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        content.as_object_mut().unwrap().remove("solana");
        fs::write(&path, content.to_string()).unwrap();
        let old = Wallet::load(&path).unwrap();
        assert_eq!((old.solana_address(), old.evm_address()), (None, wallet.evm_address()));
    }

    #[test]
    fn debug_shows_no_secret_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.json");
        let wallet = Wallet::create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let content: serde_json::Value = serde_json::from_str(&text).unwrap();
        for secret in [&content["evm"]["secret"], &content["test"]["secret"], &content["solana"]["secret"]] {
            let secret = secret.as_str().unwrap();
            assert!(!format!("{wallet:?}").contains(secret));
            let flipped = if secret.starts_with('1') { "2" } else { "1" };
            let damaged = text.replace(secret, &format!("{flipped}{}", &secret[1..]));
            fs::write(&path, damaged).unwrap();
            assert!(matches!(Wallet::load(&path), Err(WalletError::File(_))));
        }
    }
}
