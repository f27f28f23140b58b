//! What commands about the books read: a copy that nobody writes to. The original is never changed, and a
//! gateway that runs goes on.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gateway::admin::{self, AskError, Command};
use gateway::config;
use store::{Options, Reader, Store};

/// The name of the store's file in its folder.
const STORE_FILE: &str = "farthing.redb";

/// Why there is nothing to read.
pub(crate) enum NoSource {
    /// The configuration is not valid; its findings.
    Config(String),
    /// Anything else, for a person.
    Other(String),
}

impl NoSource {
    pub(crate) fn complain(&self) -> ExitCode {
        match self {
            Self::Config(findings) => {
                eprintln!("{findings}");
                ExitCode::from(crate::CONFIG_INVALID)
            }
            Self::Other(text) => crate::complain(text),
        }
    }
}

impl From<String> for NoSource {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

/// A copy of a store, removed when dropped.
pub(crate) struct StoreCopy {
    folder: TemporaryFolder,
}

impl StoreCopy {
    /// Copies `store`, a store's file or folder. Without it: what the gateway of this configuration has, asked
    /// of the gateway if it runs.
    pub(crate) fn take(store: Option<&Path>, config: &Path) -> Result<Self, NoSource> {
        let folder = TemporaryFolder::new()?;
        let file = folder.0.join(STORE_FILE);
        match store {
            Some(path) => copy(path, &file)?,
            None => {
                let config = config::load(config).map_err(|found| NoSource::Config(found.to_string()))?;
                let ask = Command::Backup { to: file.display().to_string() };
                match crate::block_on(admin::ask(&config.admin.socket, &ask)) {
                    Ok(_) => {}
                    Err(AskError::NotRunning) => copy(&config.store.path, &file)?,
                    Err(error @ (AskError::Broken(_) | AskError::Refused(_))) => {
                        return Err(error.to_string().into());
                    }
                }
            }
        }
        Ok(Self { folder })
    }

    /// The copied file.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.0.join(STORE_FILE)
    }

    /// Opens the copy.
    pub(crate) fn open(self) -> Result<OpenCopy, String> {
        let options = Options { reserve_bytes: 0, ..Options::new([0; 16]) };
        let store = Store::open(&self.folder.0, options).map_err(|error| error.to_string())?;
        Ok(OpenCopy { store, _folder: self.folder })
    }
}

/// A copy, open for reading.
pub(crate) struct OpenCopy {
    // First: the file is closed before its folder goes.
    store: Store,
    _folder: TemporaryFolder,
}

impl OpenCopy {
    pub(crate) fn reader(&self) -> &Reader {
        self.store.reader()
    }
}

/// Copies the file while nobody can open it for writing.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let from = if from.is_dir() { from.join(STORE_FILE) } else { from.to_owned() };
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    let file = std::fs::File::open(&from).map_err(failed)?;
    // A store that is open has its lock. The lock ends with the file.
    file.try_lock_shared().map_err(|_| {
        format!("{}: a process has it open; stop it, or give me a copy or a backup", from.display())
    })?;
    std::fs::copy(&from, to).map_err(failed)?;
    Ok(())
}

/// A folder that only we can read.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<Self, String> {
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|error| error.to_string())?;
        let path = std::env::temp_dir().join(format!("farthing-{}", wire::hex::encode(&name)));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // A copy of the books must not stay behind; where it does, only its owner can read it.
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("farthing: {}: {error}", self.0.display());
        }
    }
}
