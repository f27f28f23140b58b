//! Pinned packages, installed from the committed lock files into `target/interop`.
//!
//! An installation ends with a stamp: the exact lock file and the version of the tool. The next
//! run with an equal stamp installs nothing; any other starts from an empty folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::tools::{self, Node, Python};
use super::{Places, process};

/// Longest installation: some 150 MB over a slow line.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(600);

/// Installs the npm packages and puts our scripts beside them, where Node looks for packages.
pub(super) fn node(node: &Node, places: &Places) -> Result<PathBuf, String> {
    let folder = places.work.join("npm");
    let source = |name: &str| places.sources.join(name);
    let stamp = stamp(&[&source("package-lock.json"), &source("package.json")], &node.version)?;
    if !is_stamped(&folder, &stamp) {
        empty(&folder)?;
        for name in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(source(name), folder.join(name)).map_err(|e| told("copy", &source(name), &e))?;
        }
        let mut npm = Command::new("npm");
        // The packages bring their programs ready-made: nothing of theirs needs to run to install them.
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=5"])
            .current_dir(&folder);
        finish(npm, "npm ci", places, "npm")?;
        fs::write(folder.join(STAMP), stamp).map_err(|e| told("write", &folder, &e))?;
    }
    for part in ["alipay", "chain", "lightning", "node", "tempo"] {
        copy_flat(&source(part), &folder.join(part))?;
    }
    Ok(node.program.clone())
}

/// The development chain: from its package, which exists for one kind of machine in our lock file, else this machine's own.
pub(super) fn anvil(places: &Places) -> Result<PathBuf, String> {
    let packaged = places.work.join("npm/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    if packaged.is_file() { Ok(packaged) } else { tools::anvil() }
}

/// Python packages that are installed together, apart from those of the other environments: two of them may bring the
/// same module, or want different versions of a third.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Environment {
    /// The SDKs of the providers and of x402, a chain of Solana, bean-check.
    Sdks,
    /// Clients that pay by L402, and second opinions on macaroons and invoices.
    L402,
    /// LNbits.
    LnBits,
    /// Nutshell, a Cashu mint and its wallet.
    Cashu,
    /// gRPC.
    Grpc,
    /// The SDK of the Payment scheme.
    Mpp,
}

impl Environment {
    #[cfg(test)]
    const ALL: [Self; 6] = [Self::Sdks, Self::L402, Self::LnBits, Self::Cashu, Self::Grpc, Self::Mpp];

    /// Where it is installed.
    fn folder(self) -> &'static str {
        match self {
            Environment::Sdks => "python",
            Environment::L402 => "python-l402",
            Environment::LnBits => "python-lnbits",
            Environment::Cashu => "python-cashu",
            Environment::Grpc => "python-grpc",
            Environment::Mpp => "python-mpp",
        }
    }

    /// What is installed.
    fn lock(self) -> &'static str {
        match self {
            Environment::Sdks => "requirements.txt",
            Environment::L402 => "requirements-l402.txt",
            Environment::LnBits => "requirements-lnbits.txt",
            Environment::Cashu => "requirements-cashu.txt",
            Environment::Grpc => "requirements-grpc.txt",
            Environment::Mpp => "requirements-mpp.txt",
        }
    }

    /// The newest Python 3 that its packages are for.
    fn minor_max(self) -> u32 {
        match self {
            Environment::Sdks | Environment::Cashu | Environment::Grpc | Environment::Mpp => u32::MAX,
            // bolt11 and LNbits say so of themselves.
            Environment::L402 | Environment::LnBits => 12,
        }
    }

    /// Whether some of what its packages ask for is left out: `lightning/lnbits_server.py` says what, and why.
    fn leaves_out(self) -> bool {
        match self {
            Environment::Sdks
            | Environment::L402
            | Environment::Cashu
            | Environment::Grpc
            | Environment::Mpp => false,
            Environment::LnBits => true,
        }
    }

    /// Whether its packages are for this Python, and why not if they are not.
    pub(super) fn suits(self, python: &Python) -> Result<(), String> {
        if python.minor <= self.minor_max() {
            return Ok(());
        }
        Err(format!("{} is newer than 3.{}", python.version, self.minor_max()))
    }
}

/// Makes an environment with its PyPI packages and returns its interpreter.
pub(super) fn python(python: &Python, environment: Environment, places: &Places) -> Result<PathBuf, String> {
    let folder = places.work.join(environment.folder());
    let program = folder.join("bin/python");
    let requirements = places.sources.join(environment.lock());
    let stamp = stamp(&[&requirements], &python.version)?;
    if is_stamped(&folder, &stamp) {
        return Ok(program);
    }
    empty(&folder)?;
    let mut venv = Command::new(&python.program);
    venv.args(["-m", "venv"]).arg(&folder);
    finish(venv, "python3 -m venv", places, &format!("venv-{}", environment.folder()))?;
    let mut pip = Command::new(&program);
    pip.args([
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--retries=10",
    ]);
    // Every file is pinned by its hash, and none may run code to build itself.
    pip.args(["--require-hashes", "--only-binary=:all:", "-r"]).arg(&requirements);
    if environment.leaves_out() {
        pip.arg("--no-deps");
    }
    finish(pip, "pip install", places, &format!("pip-{}", environment.folder()))?;
    fs::write(folder.join(STAMP), stamp).map_err(|e| told("write", &folder, &e))?;
    Ok(program)
}

pub(crate) const STAMP: &str = "installed-from";

fn stamp(files: &[&Path], version: &str) -> Result<Vec<u8>, String> {
    let mut stamp = format!("{version}\n").into_bytes();
    for file in files {
        stamp.extend(fs::read(file).map_err(|e| told("read", file, &e))?);
    }
    Ok(stamp)
}

pub(crate) fn is_stamped(folder: &Path, stamp: &[u8]) -> bool {
    fs::read(folder.join(STAMP)).is_ok_and(|found| found == stamp)
}

fn finish(command: Command, what: &str, places: &Places, log: &str) -> Result<(), String> {
    eprintln!("interop: {what} ...");
    let log = places.log(log);
    let ended = process::run(command, &log, INSTALL_TIME_MAX);
    if ended.succeeded { Ok(()) } else { Err(format!("{what}: {}, see {}", ended.end, log.display())) }
}

/// Leaves an empty folder, whatever was there.
pub(crate) fn empty(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(told("remove", folder, &e)),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(folder).map_err(|e| told("create", folder, &e))
}

/// Copies the files of one folder, without its folders.
fn copy_flat(from: &Path, to: &Path) -> Result<(), String> {
    empty(to)?;
    for entry in fs::read_dir(from).map_err(|e| told("read", from, &e))? {
        let path = entry.map_err(|e| told("read", from, &e))?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            fs::copy(&path, to.join(name)).map_err(|e| told("copy", &path, &e))?;
        }
    }
    Ok(())
}

/// An input/output error with what we were about.
pub(crate) fn told(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Environment, Places};

    /// Where packages come from is the machine's business; what they are is pinned by hash.
    #[test]
    fn lock_files_pin_by_hash_and_name_no_source() {
        let sources = Places::find().sources;
        let npm = fs::read_to_string(sources.join("package-lock.json")).unwrap();
        assert!(!npm.contains("\"resolved\""), "install with the .npmrc beside the lock file");
        assert!(npm.matches("\"integrity\": \"sha512-").count() > 20);
        for environment in Environment::ALL {
            let pypi = fs::read_to_string(sources.join(environment.lock())).unwrap();
            assert!(!pypi.contains("://") && !pypi.contains("index-url"));
            for line in pypi.lines().filter(|line| line.contains("==")) {
                assert!(line.ends_with(" \\"), "no hash follows {line}");
            }
        }
    }
}
