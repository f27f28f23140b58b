//! A bitcoind for a test chain: Debian's `bitcoin-knots` with the libraries it needs, fetched and unpacked below `target`.
//!
//! Only Debian's unstable release has it, for libraries that are newer than most systems', so it runs under the loader
//! that is unpacked beside it. apt works on folders of its own: nothing is installed and nothing of the system is read but
//! which mirror it uses and Debian's keys, by which every file is checked.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::interop::install::{STAMP, empty, is_stamped, told};
use crate::interop::{Places, process, tools};

const PACKAGE: &str = "bitcoin-knots";
/// The first has it; the second has what the first may lack for a while.
const SUITES: [&str; 2] = ["sid", "trixie"];
/// The kind of machine whose loader and library folder are known here.
const TRIPLET: &str = "x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Longest download: 40 MB, most of it lists of packages.
const FETCH_TIME_MAX: Duration = Duration::from_secs(300);
/// What is unpacked, in a form of this module's own.
const LAYOUT: &str = "bitcoin-knots 1\n";

/// An unpacked bitcoind.
pub(super) struct Bitcoind {
    root: PathBuf,
}

/// Unpacks it, unless that was done before. `Err`: this machine cannot, and why.
pub(super) fn install(places: &Places) -> Result<Bitcoind, String> {
    let folder = places.work.join("bitcoind");
    let found = Bitcoind { root: folder.join("root") };
    if is_stamped(&folder, LAYOUT.as_bytes()) {
        return Ok(found);
    }
    for name in ["apt-get", "apt-cache", "dpkg-deb"] {
        tools::program(name)?;
    }
    empty(&folder)?;
    let apt = Apt::new(&folder, places)?;
    apt.run("apt-get", &["--quiet", "update"])?;
    let packages = apt.with_libraries(PACKAGE)?;
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    apt.run("apt-get", &[&["--quiet", "download"], names.as_slice()].concat())?;
    for package in archives(&apt.archives())? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&package).arg(&found.root);
        run(unpack, "dpkg-deb -x", places)?;
    }
    found.version(places)?;
    fs::write(folder.join(STAMP), LAYOUT).map_err(|error| told("write", &folder, &error))?;
    Ok(found)
}

impl Bitcoind {
    /// A command that runs it.
    pub(super) fn command(&self) -> Command {
        let libraries = self.root.join("usr/lib").join(TRIPLET);
        let mut command = Command::new(libraries.join(LOADER));
        command.arg("--library-path").arg(&libraries).arg(self.root.join("usr/bin/bitcoind"));
        command
    }

    /// What it says of itself.
    pub(super) fn version(&self, places: &Places) -> Result<String, String> {
        let mut command = self.command();
        command.arg("--version");
        let said = run(command, "bitcoind --version", places)?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }
}

/// apt on folders of its own.
struct Apt<'a> {
    folder: &'a Path,
    places: &'a Places,
}

impl<'a> Apt<'a> {
    fn new(folder: &'a Path, places: &'a Places) -> Result<Self, String> {
        let apt = Self { folder, places };
        for part in ["state/lists/partial", "cache/archives/partial", "etc", "debs", "root"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).map_err(|error| told("create", &path, &error))?;
        }
        let mirror = mirror(places)?;
        let sources: String =
            SUITES.iter().map(|suite| format!("deb [signed-by={KEYS}] {mirror} {suite} main\n")).collect();
        for (name, text) in [("etc/sources.list", sources.as_str()), ("state/status", "")] {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| told("write", &path, &error))?;
        }
        Ok(apt)
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("debs")
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program);
        command.current_dir(self.archives());
        let folders =
            [("Dir::State", "state"), ("Dir::State::status", "state/status"), ("Dir::Cache", "cache")];
        for (name, path) in folders.into_iter().chain([("Dir::Etc", "etc")]) {
            command.arg("-o").arg(format!("{name}={}", self.folder.join(path).display()));
        }
        for option in [
            "Debug::NoLocking=1",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            // Folders of ours are not open to the user that apt would download as.
            "APT::Sandbox::User=root",
        ] {
            command.args(["-o", option]);
        }
        command.args(args);
        run(command, program, self.places)
    }

    /// The package and every library that it needs, and those need. What else it wants is for an installed system.
    fn with_libraries(&self, package: &str) -> Result<BTreeSet<String>, String> {
        let mut wanted = BTreeSet::from([package.to_owned()]);
        let mut open = VecDeque::from([package.to_owned()]);
        while let Some(next) = open.pop_front() {
            let only = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
            let without: Vec<String> = only.iter().map(|kind| format!("--no-{kind}")).collect();
            let mut args: Vec<&str> = without.iter().map(String::as_str).collect();
            args.extend(["depends", next.as_str()]);
            for library in libraries(&self.run("apt-cache", &args)?) {
                if wanted.insert(library.to_owned()) {
                    open.push_back(library.to_owned());
                }
            }
        }
        Ok(wanted)
    }
}

/// Libraries among what `apt-cache depends` prints.
fn libraries(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches('|');
        let name = line.strip_prefix("Depends: ").or_else(|| line.strip_prefix("PreDepends: "))?;
        name.starts_with("lib").then_some(name)
    })
}

/// Where this system gets Debian's packages.
fn mirror(places: &Places) -> Result<String, String> {
    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", "$(SITE)", "Created-By: Packages"]);
    let sites = run(ask, "apt-get indextargets", places)?;
    let site = sites.lines().find(|site| site.trim_end_matches('/').ends_with("/debian"));
    site.map(str::to_owned).ok_or_else(|| "this system gets no packages from Debian".to_owned())
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| told("read", folder, &error))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}

fn run(command: Command, what: &str, places: &Places) -> Result<String, String> {
    let log = places.log("bitcoind-packages");
    let ended = process::run(command, &log, FETCH_TIME_MAX);
    if ended.succeeded {
        Ok(ended.stdout)
    } else {
        Err(format!("{what}: {}, see {}", ended.end, log.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::libraries;

    #[test]
    fn libraries_are_what_is_needed_to_run() {
        let printed = "bitcoin-knots\n |Depends: debconf\n  Depends: <debconf-2.0>\n |Depends: systemd\n  \
                       Depends: libc6\n  PreDepends: libgcc-s1\n  Suggests: libdoc\n |Depends: libzmq5\n";
        assert_eq!(libraries(printed).collect::<Vec<_>>(), ["libc6", "libgcc-s1", "libzmq5"]);
    }
}
