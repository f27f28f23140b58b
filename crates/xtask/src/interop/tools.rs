//! Programs of this machine that the clients run on. `Err` is the reason a person reads in a `skip` line.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Oldest major version of Node that the pinned packages and our scripts run on.
const NODE_MAJOR_MIN: u32 = 20;
/// Oldest Python 3 for which `requirements.txt` is complete: older ones need back-ports that it does not list.
const PYTHON_MINOR_MIN: u32 = 11;

/// Node and its package installer.
pub(super) struct Node {
    pub(super) program: PathBuf,
    pub(super) version: String,
}

/// Python with the standard `venv`.
pub(super) struct Python {
    pub(super) program: PathBuf,
    pub(super) version: String,
    /// Of Python 3.
    pub(super) minor: u32,
}

/// Finds Node 20 or newer.
pub(super) fn node() -> Result<Node, String> {
    unix()?;
    let version = first_line("node", &["--version"]).ok_or("node not found")?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|n| n.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR_MIN) {
        return Err(format!("node {version} is older than {NODE_MAJOR_MIN}"));
    }
    first_line("npm", &["--version"]).ok_or("npm not found")?;
    Ok(Node { program: PathBuf::from("node"), version })
}

/// Finds Python 3.11 or newer.
pub(super) fn python() -> Result<Python, String> {
    unix()?;
    let version = first_line("python3", &["--version"]).ok_or("python3 not found")?;
    let minor = version
        .strip_prefix("Python 3.")
        .and_then(|v| v.split('.').next())
        .and_then(|n| n.parse::<u32>().ok());
    let minor = minor.filter(|minor| *minor >= PYTHON_MINOR_MIN);
    let minor = minor.ok_or_else(|| format!("{version} is older than 3.{PYTHON_MINOR_MIN}"))?;
    // Some distributions ship Python without the means to make an environment with pip in it.
    first_line("python3", &["-c", "import ensurepip, venv; print('ok')"])
        .ok_or("python3 has no venv module")?;
    Ok(Python { program: PathBuf::from("python3"), version, minor })
}

/// Finds a development chain installed by the user.
pub(super) fn anvil() -> Result<PathBuf, String> {
    first_line("anvil", &["--version"])
        .ok_or("anvil not found, and not packaged for this kind of machine")?;
    Ok(PathBuf::from("anvil"))
}

/// Finds a program that tells its version.
pub(crate) fn program(name: &str) -> Result<String, String> {
    first_line(name, &["--version"]).map(|_| name.to_owned()).ok_or_else(|| format!("{name} not found"))
}

/// Process groups and a shell are what ends the servers of a run.
fn unix() -> Result<(), String> {
    if cfg!(unix) { Ok(()) } else { Err("needs a Unix system".to_owned()) }
}

/// The first line a program prints, or nothing if it does not exist or fails.
pub(crate) fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}
