//! Receipts we keep, each with what it takes to check it again without the network: the signed receipt,
//! the keys its seller published, and, once there is one, the proof that the seller's journal has it.

use std::path::{Path, PathBuf};

use proof::receipt as signed;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wire::jws::{self, Jwk, Jwks};

use crate::folder::{self, FileError};
use crate::heads::{self, Progress};
use crate::inclusion::Inclusion;
use crate::receipt::{Receipt, ReceiptError, check_known, is_plain_id, signer};

/// Most receipts kept; the oldest go first.
const KEPT_MAX: usize = 10_000;
const VERSION: u8 = 1;

/// A receipt as it is kept, not checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptReceipt {
    version: u8,
    /// Whose it is.
    pub origin: String,
    /// The call.
    pub id: String,
    /// Compact JWS.
    pub receipt: String,
    /// What the seller had published when it was fetched.
    pub keys: Jwks,
    /// That the journal has the charge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Inclusion>,
}

/// Which keys may have signed.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'t> {
    /// Those that this origin had when we first paid it, and no head that contradicts the newest known one.
    Remembered {
        /// `trust.json`
        keys: &'t Path,
        /// `heads.json`
        heads: &'t Path,
    },
    /// This public key and no other.
    Key(&'t [u8; 32]),
}

/// A receipt that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The receipt.
    pub receipt: Receipt,
    /// The journal has it; `None` while there is no proof, or nothing was charged.
    pub booked: Option<Booked>,
}

/// Where the journal has the charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The entry.
    pub lsn: u64,
    /// Entries under the signed head.
    pub size: u64,
    /// The head beside the one we knew; `None` where none is remembered.
    pub progress: Option<Progress>,
}

impl KeptReceipt {
    pub(crate) const fn new(origin: String, id: String, receipt: String, keys: Jwks) -> Self {
        Self { version: VERSION, origin, id, receipt, keys, proof: None }
    }

    pub(crate) fn with_proof(self, proof: Inclusion) -> Self {
        Self { proof: Some(proof), ..self }
    }

    /// Reads one that somebody handed us.
    ///
    /// # Errors
    /// No receipt as we keep them.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Finds one of ours by the call's id.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn find(folder: &Path, id: &str) -> Result<Option<Self>, FileError> {
        if !is_plain_id(id) {
            return Ok(None);
        }
        let path = path_of(folder, id);
        let bytes = folder::read(&path)?;
        bytes.map(|bytes| Self::parse(&bytes).map_err(|_| folder::malformed(&path))).transpose()
    }

    /// Ids of all that are kept, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn ids(folder: &Path) -> Result<Vec<String>, FileError> {
        Ok(files(folder)?.into_iter().map(|(_, id)| id).collect())
    }

    /// Keeps it, in place of what was kept under its id.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), FileError> {
        let path = path_of(folder, &self.id);
        let bytes = serde_json::to_vec_pretty(self).map_err(|_| folder::malformed(&path))?;
        folder::replace(&path, &bytes)?;
        let kept = files(folder)?;
        for (_, id) in kept.iter().take(kept.len().saturating_sub(KEPT_MAX)) {
            let path = path_of(folder, id);
            std::fs::remove_file(&path).map_err(folder::failed(&path))?;
        }
        Ok(())
    }

    /// What the receipt says, whoever signed it. For listings.
    #[must_use]
    pub fn unverified(&self) -> Value {
        let payload = jws::split(&self.receipt).ok().map(|jws| jws.payload);
        payload.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Whether the proof stands under the keys that were kept with the receipt.
    #[must_use]
    pub fn proof_stands(&self) -> bool {
        let payload = signed::verify::<Value>(&self.receipt, &self.keys);
        payload.is_ok_and(|payload| {
            self.proof.as_ref().is_some_and(|proof| proof.verify(&payload, &self.keys).is_ok())
        })
    }

    /// Checks everything that is there, from what is there.
    ///
    /// # Errors
    /// [`ReceiptError`]: what does not stand. A proof that does not stand is an error although the
    /// receipt alone would.
    pub fn verify(&self, trust: Trust<'_>) -> Result<Checked, ReceiptError> {
        let keys = match trust {
            Trust::Remembered { .. } => self.keys.clone(),
            Trust::Key(public) => self.only(public)?,
        };
        let payload = signed::verify(&self.receipt, &keys)?;
        if let Trust::Remembered { keys: pins, .. } = trust {
            check_known(&signer(&self.receipt)?, &keys, pins, &self.origin)?;
        }
        let receipt = Receipt::new(&self.id, self.receipt.clone(), payload)?;
        let Some(proof) = &self.proof else { return Ok(Checked { receipt, booked: None }) };
        if let Trust::Remembered { keys: pins, .. } = trust {
            check_known(&proof.head.kid, &keys, pins, &self.origin)?;
        }
        let head = proof.verify(&receipt.payload, &keys)?;
        let progress = match trust {
            Trust::Remembered { heads, .. } => Some(heads::note(heads, &self.origin, &proof.head)??),
            Trust::Key(_) => None,
        };
        let booked = Some(Booked { lsn: proof.lsn, size: head.size, progress });
        Ok(Checked { receipt, booked })
    }

    /// The key under the name that the receipt gives it.
    fn only(&self, public: &[u8; 32]) -> Result<Jwks, ReceiptError> {
        let unknown = signed::ReceiptError::UnknownKey;
        let key = ed25519_dalek::VerifyingKey::from_bytes(public).map_err(|_| unknown)?;
        Ok(Jwks { keys: vec![Jwk::ed25519(public, signed::kid(&key))] })
    }
}

fn path_of(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

/// Time of each file and the id in its name, oldest first.
fn files(folder: &Path) -> Result<Vec<(std::time::SystemTime, String)>, FileError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(folder::failed(folder))?,
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let id = entry.file_name().to_str()?.strip_suffix(".json")?.to_owned();
            Some((entry.metadata().ok()?.modified().ok()?, id))
        })
        .filter(|(_, id)| is_plain_id(id))
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proof::{SigningKey, receipt as signed};
    use serde_json::json;

    use super::{KeptReceipt, Trust};
    use crate::heads::Progress;
    use crate::inclusion::tests::Books;
    use crate::receipt::ReceiptError;

    struct Desk {
        folder: tempfile::TempDir,
        books: Books,
    }

    impl Desk {
        /// Its owner has paid https://x before.
        fn new() -> Self {
            let desk = Self { folder: tempfile::tempdir().unwrap(), books: Books::of(9) };
            let kid = signed::kid(&desk.books.key.verifying_key());
            crate::pins::check(&desk.file("trust.json"), "https://x", &kid, std::slice::from_ref(&kid))
                .unwrap();
            desk
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn kept(&self, lsn: u8) -> KeptReceipt {
            let payload = self.books.receipt(lsn);
            let id = payload["call"].as_str().unwrap().to_owned();
            let jws = signed::sign(&self.books.key, &payload).unwrap();
            KeptReceipt::new("https://x".to_owned(), id, jws, self.books.keys())
        }

        fn verify(&self, kept: &KeptReceipt) -> Result<super::Checked, ReceiptError> {
            kept.verify(Trust::Remembered { keys: &self.file("trust.json"), heads: &self.file("heads.json") })
        }
    }

    #[test]
    fn a_receipt_is_checked_from_its_file_alone() {
        let desk = Desk::new();
        let mut kept = desk.kept(3);
        assert_eq!(desk.verify(&kept).unwrap().booked, None);
        kept.proof = Some(desk.books.inclusion(3, 7));
        let receipts = desk.file("receipts");
        kept.save(&receipts).unwrap();
        let read = KeptReceipt::find(&receipts, &kept.id).unwrap().unwrap();
        assert_eq!(read, kept);
        let booked = desk.verify(&read).unwrap().booked.unwrap();
        assert_eq!((booked.lsn, booked.size, booked.progress), (3, 7, Some(Progress::First)));
        assert_eq!(KeptReceipt::ids(&receipts).unwrap(), [kept.id]);
        assert_eq!(KeptReceipt::find(&receipts, "../trust").unwrap(), None);
        // With nothing but a public key, by anybody.
        let public = desk.books.key.verifying_key().to_bytes();
        let booked = read.verify(Trust::Key(&public)).unwrap().booked.unwrap();
        assert_eq!((booked.lsn, booked.progress), (3, None));
        let stranger = SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes();
        assert!(read.verify(Trust::Key(&stranger)).unwrap_err().is_refused());
    }

    /// LED-41.
    #[test]
    fn a_gateway_that_takes_a_charge_back_is_caught() {
        let desk = Desk::new();
        let mut kept = desk.kept(3);
        kept.proof = Some(desk.books.inclusion(3, 7));
        desk.verify(&kept).unwrap();
        let mut later = desk.kept(2);
        later.proof = Some(desk.books.inclusion(2, 5));
        // An old proof is no alarm; the same small tree signed after the large one is.
        assert_eq!(desk.verify(&later).unwrap().booked.unwrap().progress, Some(Progress::Older));
        later.proof.as_mut().unwrap().head = desk.books.head(5, 9999);
        let alarm = desk.verify(&later).unwrap_err();
        assert!(alarm.is_refused() && alarm.to_string().starts_with("ALARM"), "{alarm}");
    }

    #[test]
    fn neither_half_stands_for_the_other() {
        let desk = Desk::new();
        let mut kept = desk.kept(3);
        // A genuine proof of another entry, and a genuine receipt under another id.
        kept.proof = Some(desk.books.inclusion(4, 7));
        assert!(matches!(desk.verify(&kept), Err(ReceiptError::Inclusion(_))));
        kept.proof = None;
        kept.id = "req_00".to_owned();
        assert!(matches!(desk.verify(&kept), Err(ReceiptError::OtherCall)));
        // Signed by a key that another origin published.
        let thief = SigningKey::from_bytes(&[9; 32]);
        desk.verify(&desk.kept(1)).unwrap();
        let payload = json!({"call": "req_1", "charged": {"amount": "0.1", "currency": "USD"}});
        let jws = signed::sign(&thief, &payload).unwrap();
        let keys = signed::jwks([&thief.verifying_key()]);
        let forged = KeptReceipt::new("https://x".to_owned(), "req_1".to_owned(), jws, keys);
        assert!(matches!(desk.verify(&forged), Err(ReceiptError::Untrusted { .. })));
        // Of an origin nobody here has paid: a file that was sent teaches us no key.
        let before = std::fs::read(desk.file("trust.json")).unwrap();
        let stranger = KeptReceipt { origin: "https://y".to_owned(), ..forged };
        assert!(matches!(desk.verify(&stranger), Err(ReceiptError::Stranger { .. })));
        assert_eq!(std::fs::read(desk.file("trust.json")).unwrap(), before);
    }
}
