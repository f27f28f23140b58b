//! The client's private files: wallet, keys, pins, pending payments. Mode 0600, replaced as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wire::hex;
use zeroize::Zeroizing;

/// Largest private file we read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    config: PathBuf,
    state: PathBuf,
}

/// A private file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}", path = path.display())]
pub struct FileError {
    /// Which file or folder.
    pub path: PathBuf,
    /// Why.
    pub problem: FileProblem,
}

/// What is wrong with a private file.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// The operating system refuses.
    #[error("{0}")]
    Io(io::Error),
    /// Somebody else may read our secrets.
    #[error("others may read it: chmod 600 it first")]
    OpenToOthers,
    /// Not what we wrote.
    #[error("cannot be read as what it should be")]
    Malformed,
}

impl Folder {
    /// The user's own: `$XDG_CONFIG_HOME/farthing` (else `~/.config/farthing`) and
    /// `$XDG_STATE_HOME/farthing` (else `~/.local/state/farthing`). `None` without a home.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        Some(Self {
            config: absolute("XDG_CONFIG_HOME").or_else(|| below_home(".config"))?.join("farthing"),
            state: absolute("XDG_STATE_HOME").or_else(|| below_home(".local/state"))?.join("farthing"),
        })
    }

    /// Everything beside a wallet file that was named.
    #[must_use]
    pub fn beside(wallet: &Path) -> Self {
        let folder = wallet.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { config: folder.to_owned(), state: folder.to_owned() }
    }

    /// `wallet.json`
    #[must_use]
    pub fn wallet_file(&self) -> PathBuf {
        self.config.join("wallet.json")
    }

    /// `keys.json`: credit keys by origin.
    #[must_use]
    pub fn keys_file(&self) -> PathBuf {
        self.config.join("keys.json")
    }

    /// `identity.json`: the key pair that requests are signed with.
    #[must_use]
    pub fn identity_file(&self) -> PathBuf {
        self.config.join("identity.json")
    }

    /// `lightning.json`: the node that pays invoices, with the key to it.
    #[must_use]
    pub fn lightning_file(&self) -> PathBuf {
        self.config.join("lightning.json")
    }

    /// `tokens.json`: L402 tokens that were paid for, by origin.
    #[must_use]
    pub fn tokens_file(&self) -> PathBuf {
        self.config.join("tokens.json")
    }

    /// `trust.json`: receipt keys by origin.
    #[must_use]
    pub fn trust_file(&self) -> PathBuf {
        self.config.join("trust.json")
    }

    /// `heads.json`: the newest tree head of each origin.
    #[must_use]
    pub fn heads_file(&self) -> PathBuf {
        self.config.join("heads.json")
    }

    /// `budget.json`: caps, and what was spent. Beside the wallet: whoever names the wallet has its budget.
    #[must_use]
    pub fn budget_file(&self) -> PathBuf {
        self.config.join("budget.json")
    }

    /// `receipts/`: what was paid, one file per call.
    #[must_use]
    pub fn receipts_folder(&self) -> PathBuf {
        self.state.join("receipts")
    }

    /// `channels/`: payment channels, one file each. Beside the wallet: without them their money cannot be withdrawn.
    #[must_use]
    pub fn channels_folder(&self) -> PathBuf {
        self.config.join("channels")
    }

    /// `attested/`: offers and receipts under a seller's signature, one file a payment.
    #[must_use]
    pub fn attested_folder(&self) -> PathBuf {
        self.state.join("attested")
    }

    /// `pending/`: payments whose end is not known.
    #[must_use]
    pub fn pending_folder(&self) -> PathBuf {
        self.state.join("pending")
    }
}

/// Reads a private file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    match File::open(path) {
        Ok(file) => read_open(path, &file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Reads a private file that is open.
pub(crate) fn read_open(path: &Path, file: &File) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let metadata = file.metadata().map_err(failed(path))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(FileError { path: path.to_owned(), problem: FileProblem::OpenToOthers });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(malformed(path));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed(path))?;
    Ok(bytes)
}

/// A new private file, open for writing; `AlreadyExists` if there is one.
pub(crate) fn create(path: &Path) -> Result<File, FileError> {
    make_folder(path)?;
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed(path))
}

/// Writes a whole private file: it is there entirely or, after a crash, as it was before.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|_| failed(path)(io::Error::other("no random bytes")))?;
    let draft = path.with_extension(format!("{}.draft", hex::encode(&suffix)));
    let written = create(&draft).and_then(|file| {
        write_through(&draft, &file, bytes)?;
        fs::rename(&draft, path).map_err(failed(path))?;
        sync_folder(path)
    });
    if written.is_err() {
        // Best effort: a draft left behind is private too.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Writes to an open file and waits until it is on the disk.
pub(crate) fn write_through(path: &Path, mut file: &File, bytes: &[u8]) -> Result<(), FileError> {
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed(path))
}

/// Makes a new or removed name durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
}

/// Changes a JSON file under a lock, so that two commands at once lose nothing of each other.
pub(crate) fn update<T, R>(path: &Path, change: impl FnOnce(&mut T) -> R) -> Result<R, FileError>
where
    T: serde::Serialize + serde::de::DeserializeOwned + Default,
{
    let lock_path = path.with_extension("lock");
    make_folder(&lock_path)?;
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let lock = options.open(&lock_path).map_err(failed(&lock_path))?;
    lock.lock().map_err(failed(&lock_path))?;
    let mut content: T = load(path)?;
    let result = change(&mut content);
    let bytes = Zeroizing::new(serde_json::to_vec_pretty(&content).map_err(|_| malformed(path))?);
    replace(path, &bytes)?;
    Ok(result)
}

/// Reads a JSON file; the default if there is none.
pub(crate) fn load<T: serde::de::DeserializeOwned + Default>(path: &Path) -> Result<T, FileError> {
    match read(path)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|_| malformed(path)),
        None => Ok(T::default()),
    }
}

/// The file is not what we wrote.
pub(crate) fn malformed(path: &Path) -> FileError {
    FileError { path: path.to_owned(), problem: FileProblem::Malformed }
}

/// The operating system refused.
pub(crate) fn failed(path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |error| FileError { path, problem: FileProblem::Io(error) }
}

pub(crate) fn make_folder(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))
}

#[cfg(test)]
mod tests {
    use super::{FileProblem, Folder, read, replace};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn files_are_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/keys.json");
        assert!(read(&path).unwrap().is_none());
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap().as_slice(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.json");
        replace(&path, b"{}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path).unwrap_err().problem, FileProblem::OpenToOthers));
    }

    #[test]
    fn files_of_a_named_wallet_stand_beside_it() {
        let folder = Folder::beside(std::path::Path::new("/a/b/w.json"));
        assert_eq!(folder.keys_file(), std::path::Path::new("/a/b/keys.json"));
        assert_eq!(folder.pending_folder(), std::path::Path::new("/a/b/pending"));
    }
}
