//! Payments whose end is not known yet, one file each, written before the payment is sent.
//!
//! The same request again finds the file and sends the same payment, so a seller can take it once at
//! most. A file is removed when the end is known, or when nobody can settle the payment any more.

use std::fs::{self, File, TryLockError};
use std::io::Seek as _;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wire::hex;
use wire::l402::Preimage;
use wire::x402::offer_receipt::{Offer, Signed};
use zeroize::{Zeroize as _, Zeroizing};

use crate::Request;
use crate::folder::{self, FileError, FileProblem};
use crate::lightning::Intent;

/// Calls with the same bytes that run at once, each with a payment of its own.
const TWINS_MAX: u32 = 64;
/// Files looked at while clearing up.
const SWEEP_MAX: usize = 1000;
/// For how long after its last second a payment may still come to light.
const SETTLE_GRACE_S: u64 = 60;
/// For how long the proof of a paid invoice is shown again to a seller that refused it, and no other invoice is paid.
pub(crate) const PROOF_S: u64 = 3_600;

/// A pending payment. The file is locked while this lives: no other process sends it at the same time.
pub(crate) struct Pending {
    path: PathBuf,
    file: Locked,
    content: Content,
    /// An earlier process may have sent it.
    pub(crate) sent: bool,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u8,
    /// For a person who looks at the file.
    url: String,
    method: String,
    paid: String,
    /// The credential headers exactly as they are sent.
    headers: Vec<(String, String)>,
    network: String,
    asset: Option<String>,
    /// What the answer to it can say.
    #[serde(default)]
    kind: Kind,
    /// What was signed for this call; absent in files of before.
    #[serde(default)]
    sum: Option<Sum>,
    /// What the seller had signed about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promise: Option<Signed<Offer>>,
    /// The invoice that is paid for it, and its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intent: Option<Intent>,
    /// Tells it from other payments of the same request.
    #[serde(default)]
    ticket: String,
    valid_before: u64,
    /// Its reservation in the budget.
    #[serde(default)]
    reserved: Option<String>,
    end: End,
}

/// What was signed, as far as the answer is judged by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The whole amount moves, or nothing.
    #[default]
    Exact,
    /// The same, if the token lets Permit2 move it.
    Permit2,
    /// As much as the call costs moves, if the token lets Permit2 move it.
    Upto,
    /// A voucher of a channel.
    Batch {
        /// Name of the channel.
        channel: String,
        /// Atomic units that go into the channel with it.
        #[serde(with = "crate::atomic")]
        deposit: u128,
    },
    /// An L402 token, whose invoice a wallet pays before it is sent.
    Invoice,
}

/// An amount of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sum {
    #[serde(with = "crate::atomic")]
    pub(crate) atomic: u128,
    pub(crate) decimals: u32,
    /// The contract; empty on the test rail.
    pub(crate) token: String,
    /// Who is paid, as the seller wrote it.
    pub(crate) pay_to: String,
}

/// What is known about the end. The two words are of one length: the file is overwritten in place.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    /// Nothing.
    Unknown,
    /// The seller said no. What was signed can be taken nevertheless until `valid_before`.
    Refused,
}

impl Drop for Content {
    fn drop(&mut self) {
        for (_, value) in &mut self.headers {
            value.zeroize();
        }
    }
}

/// What is written down about a payment.
pub(crate) struct Facts<'a> {
    pub(crate) headers: &'a [(HeaderName, HeaderValue)],
    /// `0.02 TEST to abcd`
    pub(crate) paid: String,
    pub(crate) network: &'a str,
    pub(crate) asset: Option<money::Asset>,
    pub(crate) kind: Kind,
    pub(crate) sum: Option<Sum>,
    pub(crate) promise: Option<Signed<Offer>>,
    pub(crate) intent: Option<Intent>,
    pub(crate) ticket: &'a str,
    pub(crate) valid_before: u64,
    /// Name of its reservation in the budget.
    pub(crate) reserved: Option<&'a str>,
}

impl Pending {
    /// The payment that an earlier process left for this very request, if there is one.
    pub(crate) fn find(folder: &Path, request: &Request, now_unix_s: u64) -> Result<Option<Self>, FileError> {
        for path in paths(folder, request) {
            let file = match File::options().read(true).write(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(folder::failed(&path)(error)),
            };
            let Some(file) = lock(&path, file)? else { continue };
            let bytes = folder::read_open(&path, &file)?;
            // Made and not written: then nothing was sent.
            if bytes.is_empty() {
                remove(&path)?;
                continue;
            }
            let content: Content = serde_json::from_slice(&bytes).map_err(|_| folder::malformed(&path))?;
            if content.is_over(now_unix_s) {
                remove(&path)?;
                continue;
            }
            return Ok(Some(Self { path, file, content, sent: true }));
        }
        Ok(None)
    }

    /// Writes a payment down, durably. Only then may it be sent.
    pub(crate) fn create(folder: &Path, request: &Request, facts: &Facts<'_>) -> Result<Self, FileError> {
        let text = |(name, value): &(HeaderName, HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
        };
        let content = Content {
            version: 1,
            url: request.target.url(),
            method: request.method.to_string(),
            paid: facts.paid.clone(),
            headers: facts.headers.iter().map(text).collect(),
            network: facts.network.to_owned(),
            asset: facts.asset.map(|asset| asset.name().to_owned()),
            kind: facts.kind.clone(),
            sum: facts.sum.clone(),
            promise: facts.promise.clone(),
            intent: facts.intent.clone(),
            ticket: facts.ticket.to_owned(),
            valid_before: facts.valid_before,
            reserved: facts.reserved.map(str::to_owned),
            end: End::Unknown,
        };
        let mut last = folder.to_owned();
        for path in paths(folder, request) {
            let file = match folder::create(&path) {
                Ok(file) => file,
                Err(FileError { problem: FileProblem::Io(error), .. })
                    if error.kind() == std::io::ErrorKind::AlreadyExists =>
                {
                    last = path;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(file) = lock(&path, file)? else { continue };
            folder::write_through(&path, &file, &content.encode(&path)?)?;
            folder::sync_folder(&path)?;
            return Ok(Self { path, file, content, sent: false });
        }
        Err(folder::failed(&last)(std::io::Error::other("too many calls with the same bytes at once")))
    }

    /// What is sent. The proof that an invoice was paid comes last.
    pub(crate) fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let header = |(name, value): &(String, String)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((name.parse().ok()?, value))
        };
        let proof = self.content.intent.as_ref().and_then(Intent::credential);
        self.content.headers.iter().filter_map(header).chain(proof).collect()
    }

    /// Until when the proof of a paid invoice is shown to a seller that refuses it now. What was paid does not end by
    /// itself: this long after it was first refused no other invoice is paid.
    pub(crate) const fn shown_until(&self, now_unix_s: u64) -> u64 {
        match self.content.end {
            End::Unknown => now_unix_s.saturating_add(PROOF_S),
            End::Refused => self.content.valid_before,
        }
    }

    /// What of it opens the receipt: the key beside it, else the payment itself.
    pub(crate) fn opener(&self) -> Option<(HeaderName, HeaderValue)> {
        let mut headers = self.headers();
        if self.intent().is_some_and(Intent::tops_up) {
            headers.truncate(1);
        }
        headers.pop()
    }

    /// The invoice that is paid for it.
    pub(crate) const fn intent(&self) -> Option<&Intent> {
        self.content.intent.as_ref()
    }

    /// Its invoice was paid: from here on the proof is sent. A file that cannot be changed still names the invoice,
    /// whose preimage the wallet gives again.
    pub(crate) fn open(&mut self, preimage: &Preimage) -> Result<(), FileError> {
        if let Some(intent) = &mut self.content.intent {
            intent.open(preimage);
        }
        self.rewrite()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn network(&self) -> &str {
        &self.content.network
    }

    pub(crate) fn asset(&self) -> Option<money::Asset> {
        self.content.asset.as_deref().and_then(money::Asset::from_name)
    }

    pub(crate) const fn kind(&self) -> &Kind {
        &self.content.kind
    }

    /// What the seller had signed about it.
    pub(crate) const fn promise(&self) -> Option<&Signed<Offer>> {
        self.content.promise.as_ref()
    }

    /// What was signed for this call: the price, or the most that it can cost.
    pub(crate) const fn sum(&self) -> Option<&Sum> {
        self.content.sum.as_ref()
    }

    /// Name of its reservation in the budget.
    pub(crate) fn reserved(&self) -> Option<&str> {
        self.content.reserved.as_deref()
    }

    /// What it pays, for people.
    pub(crate) fn paid(&self) -> &str {
        &self.content.paid
    }

    /// From when on nobody can settle it.
    pub(crate) const fn valid_before(&self) -> u64 {
        self.content.valid_before
    }

    /// The end is known.
    pub(crate) fn discard(self) -> Result<(), FileError> {
        remove(&self.path)
    }

    /// The seller refused it. What was signed can still be taken until its time is over: until then the
    /// same request sends the same payment, and no other.
    pub(crate) fn refuse(mut self, now_unix_s: u64) -> Result<(), FileError> {
        if self.content.intent.is_some() {
            self.content.valid_before = self.shown_until(now_unix_s);
        }
        self.content.end = End::Refused;
        if self.content.is_over(now_unix_s) {
            return remove(&self.path);
        }
        self.rewrite()
    }

    fn rewrite(&mut self) -> Result<(), FileError> {
        // In place and of the same length: another name would come without the lock, and whoever waits for
        // the lock must find the payment and not an empty file.
        let bytes = self.content.encode(&self.path)?;
        self.file.rewind().map_err(folder::failed(&self.path))?;
        folder::write_through(&self.path, &self.file, &bytes)
    }
}

/// Removes refused payments of any request whose time is over.
pub(crate) fn sweep(folder: &Path, now_unix_s: u64) {
    // Clearing up is a courtesy: what fails today is tried again at the next payment.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.take(SWEEP_MAX).filter_map(|entry| Some(entry.ok()?.path())) {
        let Ok(file) = File::open(&path) else { continue };
        let Ok(Some(file)) = lock(&path, file) else { continue };
        let content = folder::read_open(&path, &file).ok();
        let content = content.and_then(|bytes| serde_json::from_slice::<Content>(&bytes).ok());
        if content.is_some_and(|content| content.is_over(now_unix_s)) {
            let _ = remove(&path);
        }
    }
}

impl Content {
    /// Refused, and nobody can settle it any more. One that was not refused is kept for ever: whether it
    /// was taken is for the seller to say.
    fn is_over(&self, now_unix_s: u64) -> bool {
        self.end == End::Refused && now_unix_s > self.valid_before.saturating_add(SETTLE_GRACE_S)
    }

    fn encode(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
        serde_json::to_vec_pretty(self).map(Zeroizing::new).map_err(|_| folder::malformed(path))
    }
}

/// Whether a payment of this request may still be sent or taken. One that is being written counts.
pub(crate) fn is_left(folder: &Path, name: &str, ticket: &str) -> Result<bool, FileError> {
    for path in twins(folder, name) {
        let Some(bytes) = folder::read(&path)? else { continue };
        if bytes.is_empty() {
            return Ok(true);
        }
        let content: Content = serde_json::from_slice(&bytes).map_err(|_| folder::malformed(&path))?;
        if content.ticket == ticket && !content.is_over(crate::now_unix_s()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The names for one request.
fn paths(folder: &Path, request: &Request) -> impl Iterator<Item = PathBuf> + use<> {
    twins(folder, &name_of(request))
}

fn twins(folder: &Path, name: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let (folder, name) = (folder.to_owned(), name.to_owned());
    (0..TWINS_MAX).map(move |twin| folder.join(format!("{name}.{twin}.json")))
}

/// What a request is filed under: origin, method, path, body.
pub(crate) fn name_of(request: &Request) -> String {
    let origin = request.target.origin_text();
    let fields = [origin.as_bytes(), request.method.as_str().as_bytes(), request.target.path().as_bytes()];
    let mut hasher = Sha256::new();
    for field in fields {
        hasher.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(field);
    }
    hasher.update(Sha256::digest(&request.body));
    hex::encode(&hasher.finalize())
}

/// A file that nobody else has locked. Let go in words when it is dropped: closing would not do where a child of this process, which
/// is about to become another program, still has its copy.
struct Locked(File);

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Takes the lock; `None` if a living process has it, or removed the file in the meantime.
fn lock(path: &Path, file: File) -> Result<Option<Locked>, FileError> {
    match file.try_lock() {
        Ok(()) => {
            let locked = Locked(file);
            let is_there = locked.metadata().map_err(folder::failed(path))?.nlink() > 0;
            Ok(is_there.then_some(locked))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(folder::failed(path)(error)),
    }
}

fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(folder::failed(path))?;
    folder::sync_folder(path)
}

#[cfg(test)]
mod tests {
    use super::{Facts, Kind, Pending, SETTLE_GRACE_S, sweep};
    use crate::Request;
    use http::{HeaderName, HeaderValue, Method};
    use std::fs;
    use std::path::Path;

    fn request(method: Method, url: &str, body: &'static str) -> Request {
        Request::new(method, url).unwrap().body(body)
    }

    fn create(folder: &Path, request: &Request, value: &'static str) -> Pending {
        let headers = [(HeaderName::from_static("payment-signature"), HeaderValue::from_static(value))];
        let facts = Facts {
            headers: &headers,
            paid: "1 TEST".into(),
            network: "farthing:test",
            asset: None,
            kind: Kind::Exact,
            sum: None,
            promise: None,
            intent: None,
            ticket: "t",
            valid_before: 100,
            reserved: None,
        };
        Pending::create(folder, request, &facts).unwrap()
    }

    fn found(folder: &Path, request: &Request, now: u64) -> Option<String> {
        let pending = Pending::find(folder, request, now).unwrap()?;
        Some(pending.headers()[0].1.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_payment_is_found_by_its_request_alone() {
        let home = tempfile::tempdir().unwrap();
        let one = request(Method::POST, "http://127.0.0.1:1/a?b", "x");
        drop(create(home.path(), &one, "first"));
        assert_eq!(found(home.path(), &one, 1_000).as_deref(), Some("first"), "kept however long it takes");
        for other in [
            request(Method::PUT, "http://127.0.0.1:1/a?b", "x"),
            request(Method::POST, "https://127.0.0.1:1/a?b", "x"),
            request(Method::POST, "http://127.0.0.1:2/a?b", "x"),
            request(Method::POST, "http://127.0.0.1:1/a", "x"),
            request(Method::POST, "http://127.0.0.1:1/a?b", "y"),
        ] {
            assert_eq!(found(home.path(), &other, 0), None, "{other:?}");
        }
    }

    #[test]
    fn calls_at_the_same_time_do_not_share_a_payment() {
        let home = tempfile::tempdir().unwrap();
        let same = request(Method::POST, "http://127.0.0.1:1/", "x");
        let first = create(home.path(), &same, "first");
        assert_eq!(found(home.path(), &same, 0), None, "a living call holds it");
        let second = create(home.path(), &same, "second");
        first.discard().unwrap();
        drop(second);
        assert_eq!(found(home.path(), &same, 0).as_deref(), Some("second"), "found behind a gap");
    }

    #[test]
    fn a_refused_payment_is_kept_as_long_as_it_can_be_taken() {
        let home = tempfile::tempdir().unwrap();
        let one = request(Method::POST, "http://127.0.0.1:1/", "x");
        create(home.path(), &one, "first").refuse(10).unwrap();
        let last = 100 + SETTLE_GRACE_S;
        assert_eq!(found(home.path(), &one, last).as_deref(), Some("first"));
        sweep(home.path(), last);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        sweep(home.path(), last + 1);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);

        drop(create(home.path(), &one, "unknown"));
        sweep(home.path(), u64::MAX);
        assert!(found(home.path(), &one, u64::MAX).is_some(), "an unknown end never expires by itself");
    }

    #[test]
    fn a_damaged_file_stops_everything() {
        let home = tempfile::tempdir().unwrap();
        let one = request(Method::POST, "http://127.0.0.1:1/", "x");
        let path = create(home.path(), &one, "first").path().to_owned();
        fs::write(&path, b"{\"version\":").unwrap();
        assert!(Pending::find(home.path(), &one, 0).is_err());
        fs::write(&path, b"").unwrap();
        assert_eq!(found(home.path(), &one, 0), None, "an empty one was never sent");
        assert!(!path.exists());
    }

    /// Another thread of this process starts a program: until that runs, it has a copy of every open file.
    #[test]
    fn a_copy_of_the_file_does_not_keep_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let same = request(Method::POST, "http://127.0.0.1:1/", "x");
        let pending = create(home.path(), &same, "one");
        let copy = pending.file.try_clone().unwrap();
        assert_eq!(found(home.path(), &same, 0), None, "a living call holds it");
        drop(pending);
        assert_eq!(
            found(home.path(), &same, 0).as_deref(),
            Some("one"),
            "else another would be made in its place"
        );
        drop(copy);
    }
}
