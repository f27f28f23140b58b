//! hledger, ledger and bean-check, put where the tests of exports look for them: `target/interop/books/bin`.
//!
//! The first two come from their Debian packages, fetched and unpacked below `target` without touching the
//! system; where that cannot be, from the path. The third is in the Python environment of the other scenarios.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::install::{Environment, empty, is_stamped, python, told};
use super::{Places, process, tools};

/// Debian packages: name, version. Of the release whose versions finance.md 9.2 was checked with.
const PACKAGES: [(&str, &str); 2] = [("hledger", "1.25-2+b5"), ("ledger", "3.3.0-3")];
/// Longest download: 7 MB, and the lists of packages.
const FETCH_TIME_MAX: Duration = Duration::from_secs(300);
const STAMP: &str = "installed-from";

/// Makes the programs ready and says of each that it is, or why not.
pub(crate) fn install() -> Vec<(&'static str, Result<(), String>)> {
    let places = Places::find();
    let folder = places.work.join("books");
    let packaged = debian(&folder, &places);
    let mut ready: Vec<_> = PACKAGES
        .into_iter()
        .map(|(name, _)| {
            let found = match &packaged {
                Ok(root) => Ok(unpacked(root, name)),
                Err(why) => tools::program(name).map_err(|missing| format!("{missing}, and {why}")),
            };
            (name, found.and_then(|command| wrap(&folder, name, &command)))
        })
        .collect();
    let sdks = tools::python().and_then(|found| python(&found, Environment::Sdks, &places));
    let bean = sdks.and_then(|program| {
        wrap(&folder, "bean-check", &format!("\"{}\" -m beancount.scripts.check", program.display()))
    });
    ready.push(("bean-check", bean));
    ready
}

/// A program of that name that runs `command` with its own arguments.
fn wrap(folder: &Path, name: &str, command: &str) -> Result<(), String> {
    let bin = folder.join("bin");
    let path = bin.join(name);
    let script = format!("#!/bin/sh\nexec {command} \"$@\"\n");
    fs::create_dir_all(&bin)
        .and_then(|()| fs::write(&path, script))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(|error| told("write", &path, &error))
}

/// The command that runs a program from the unpacked packages, with the libraries beside it.
fn unpacked(root: &Path, name: &str) -> String {
    let libraries: Vec<String> =
        library_folders(root).iter().map(|path| path.display().to_string()).collect();
    let program = root.join("usr/bin").join(name);
    format!("env LD_LIBRARY_PATH=\"{}\" \"{}\"", libraries.join(":"), program.display())
}

/// Folders with shared libraries, at most two deep below `usr/lib`.
fn library_folders(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![(root.join("usr/lib"), 0)];
    while let Some((folder, depth)) = left.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        let is_library = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(".so"))
        };
        if paths.iter().any(is_library) {
            found.push(folder);
        }
        if depth < 2 {
            left.extend(paths.into_iter().filter(|path| path.is_dir()).map(|path| (path, depth + 1)));
        }
    }
    found.sort();
    found
}

/// Fetches the pinned packages with what they need beyond this system, and unpacks them.
fn debian(folder: &Path, places: &Places) -> Result<PathBuf, String> {
    let root = folder.join("root");
    let stamp: String = PACKAGES.iter().map(|(name, version)| format!("{name}={version}\n")).collect();
    if is_stamped(folder, stamp.as_bytes()) {
        return Ok(root);
    }
    tools::program("apt-get")?;
    tools::program("dpkg-deb")?;
    empty(folder)?;
    for part in ["archives/partial", "lists/partial", "root"] {
        let path = folder.join(part);
        fs::create_dir_all(&path).map_err(|error| told("create", &path, &error))?;
    }
    // The system's lists of packages may be missing or old: then lists of our own.
    if fetch(folder, false, places).is_err() {
        fetch(folder, true, places)?;
    }
    for package in packages(folder)? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(&root);
        run(unpack, "dpkg-deb -x", places)?;
    }
    for (name, _) in PACKAGES {
        let program = root.join("usr/bin").join(name);
        if !program.is_file() {
            return Err(format!("its package brought no {name}"));
        }
    }
    fs::write(folder.join(STAMP), stamp).map_err(|error| told("write", folder, &error))?;
    Ok(root)
}

/// Downloads without installing. Nothing outside `folder` is written.
fn fetch(folder: &Path, own_lists: bool, places: &Places) -> Result<(), String> {
    let option = |name: &str, path: &str| format!("{name}={}", folder.join(path).display());
    let mut options = vec!["Debug::NoLocking=1".to_owned(), option("Dir::Cache::archives", "archives")];
    if own_lists {
        options.push(option("Dir::State::lists", "lists"));
        let mut update = Command::new("apt-get");
        update.args(["--quiet", "update"]).args(options.iter().flat_map(|option| ["-o", option]));
        run(update, "apt-get update", places)?;
    }
    let mut install = Command::new("apt-get");
    install.args(["--quiet", "install", "--download-only", "--yes", "--no-install-recommends"]);
    install.args(options.iter().flat_map(|option| ["-o", option]));
    install.args(PACKAGES.iter().map(|(name, version)| format!("{name}={version}")));
    run(install, "apt-get install --download-only", places)
}

fn packages(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let archives = folder.join("archives");
    let entries = fs::read_dir(&archives).map_err(|error| told("read", &archives, &error))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}

fn run(command: Command, what: &str, places: &Places) -> Result<(), String> {
    let log = places.log("books");
    let ended = process::run(command, &log, FETCH_TIME_MAX);
    if ended.succeeded { Ok(()) } else { Err(format!("{what}: {}, see {}", ended.end, log.display())) }
}
