//! Programs out of Debian packages, fetched and unpacked below `target` without touching the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::install::{STAMP, empty, is_stamped, told};
use super::{Places, process, tools};

/// Longest download: some 30 MB, and the lists of packages.
const FETCH_TIME_MAX: Duration = Duration::from_secs(300);

/// Packages that are unpacked together.
pub(crate) struct Packages {
    /// Their folder, and the name of the log.
    pub(crate) name: &'static str,
    /// Names and versions; what they need beyond this system comes with them.
    pub(crate) pinned: &'static [(&'static str, &'static str)],
    /// What they have to bring, from the root on.
    pub(crate) programs: &'static [&'static str],
}

/// Where packages have been unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked(PathBuf);

impl Unpacked {
    /// A file of them, from the root on.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Folders with shared libraries, at most two deep below `usr/lib`, as `LD_LIBRARY_PATH` wants them.
    pub(crate) fn libraries(&self) -> String {
        let mut found = Vec::new();
        let mut left = vec![(self.0.join("usr/lib"), 0)];
        while let Some((folder, depth)) = left.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            let is_library = |path: &PathBuf| {
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains(".so"))
            };
            if paths.iter().any(is_library) {
                found.push(folder.display().to_string());
            }
            if depth < 2 {
                left.extend(paths.into_iter().filter(|path| path.is_dir()).map(|path| (path, depth + 1)));
            }
        }
        found.sort();
        found.join(":")
    }
}

impl Packages {
    /// Fetches and unpacks them, unless that was done before.
    pub(crate) fn unpack(&self, places: &Places) -> Result<Unpacked, String> {
        let folder = places.work.join(self.name);
        let root = folder.join("root");
        let stamp: String = self.pinned.iter().map(|(name, version)| format!("{name}={version}\n")).collect();
        if is_stamped(&folder, stamp.as_bytes()) {
            return Ok(Unpacked(root));
        }
        tools::program("apt-get")?;
        tools::program("dpkg-deb")?;
        empty(&folder)?;
        for part in ["archives/partial", "lists/partial", "root"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).map_err(|error| told("create", &path, &error))?;
        }
        // The system's lists of packages may be missing or old: then lists of our own.
        if self.fetch(&folder, false, places).is_err() {
            self.fetch(&folder, true, places)?;
        }
        for package in archives(&folder)? {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&package).arg(&root);
            self.run(unpack, "dpkg-deb -x", places)?;
        }
        for program in self.programs {
            if !root.join(program).is_file() {
                return Err(format!("the packages brought no {program}"));
            }
        }
        fs::write(folder.join(STAMP), stamp).map_err(|error| told("write", &folder, &error))?;
        Ok(Unpacked(root))
    }

    /// Downloads without installing. Nothing outside `folder` is written.
    fn fetch(&self, folder: &Path, own_lists: bool, places: &Places) -> Result<(), String> {
        let option = |name: &str, path: &str| format!("{name}={}", folder.join(path).display());
        let mut options = vec!["Debug::NoLocking=1".to_owned(), "Acquire::Retries=5".to_owned()];
        options.push(option("Dir::Cache::archives", "archives"));
        if own_lists {
            options.push(option("Dir::State::lists", "lists"));
            let mut update = Command::new("apt-get");
            update.args(["--quiet", "update"]).args(options.iter().flat_map(|option| ["-o", option]));
            self.run(update, "apt-get update", places)?;
        }
        let mut install = Command::new("apt-get");
        install.args(["--quiet", "install", "--download-only", "--yes", "--no-install-recommends"]);
        install.args(options.iter().flat_map(|option| ["-o", option]));
        install.args(self.pinned.iter().map(|(name, version)| format!("{name}={version}")));
        self.run(install, "apt-get install --download-only", places)
    }

    fn run(&self, command: Command, what: &str, places: &Places) -> Result<(), String> {
        let log = places.log(self.name);
        let ended = process::run(command, &log, FETCH_TIME_MAX);
        if ended.succeeded { Ok(()) } else { Err(format!("{what}: {}, see {}", ended.end, log.display())) }
    }
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let archives = folder.join("archives");
    let entries = fs::read_dir(&archives).map_err(|error| told("read", &archives, &error))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}
