//! What commands about the books read: a store that nobody writes to. The original is never changed, and a
//! gateway that runs goes on.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gateway::admin::{self, AskError, Command};
use gateway::config::{self, Config};
use store::Reader;

/// Which store.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// A store's file or folder, such as a backup [default: what the gateway has]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Folder of the segments that were rolled out of it [default: segments/ beside it]
    #[arg(long, value_name = "FOLDER")]
    segments: Option<PathBuf>,
    /// Configuration file of the gateway
    #[arg(long, short, default_value = "farthing.yaml")]
    config: PathBuf,
}

impl StoreArgs {
    /// What the gateway of this configuration has.
    pub(crate) fn of(config: &Path) -> Self {
        Self { store: None, segments: None, config: config.to_owned() }
    }
}

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

/// The configuration of a gateway.
pub(crate) fn configuration(path: &Path) -> Result<Config, NoSource> {
    config::load(path).map_err(|findings| NoSource::Config(findings.to_string()))
}

/// Where a store keeps its segments.
pub(crate) fn segments_of(folder: &Path) -> PathBuf {
    folder.join("segments")
}

/// A store to read.
pub(crate) struct Source {
    store: PathBuf,
    segments: Option<PathBuf>,
    /// Holds a gateway's backup, and goes with it.
    _folder: Option<TemporaryFolder>,
}

impl Source {
    /// The store that is named. Without a name: what the gateway of the configuration has, asked of the gateway
    /// if it runs.
    pub(crate) fn find(args: &StoreArgs) -> Result<Self, NoSource> {
        let there = |folder: PathBuf| Some(folder).filter(|folder| folder.is_dir());
        let segments = |beside: &Path| args.segments.clone().or_else(|| there(segments_of(beside)));
        if let Some(store) = &args.store {
            let beside = if store.is_dir() { store } else { store.parent().unwrap_or(Path::new(".")) };
            return Ok(Self { store: store.clone(), segments: segments(beside), _folder: None });
        }
        let config = configuration(&args.config)?;
        let segments = segments(&config.store.path);
        let folder = TemporaryFolder::new()?;
        let backup = folder.0.join("backup.redb");
        let ask = Command::Backup { to: backup.display().to_string() };
        match crate::block_on(admin::ask(&config.admin.socket, &ask)) {
            Ok(_) => Ok(Self { store: backup, segments, _folder: Some(folder) }),
            Err(AskError::NotRunning) => Ok(Self { store: config.store.path, segments, _folder: None }),
            Err(error @ (AskError::Broken(_) | AskError::Refused(_))) => Err(error.to_string().into()),
        }
    }

    /// The file, or its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.store
    }

    /// Where entries are that the file does not have any more.
    pub(crate) fn segments(&self) -> Option<&Path> {
        self.segments.as_deref()
    }

    pub(crate) fn reader(&self) -> Result<Reader, String> {
        store::view(&self.store).map_err(|error| error.to_string())
    }
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
