//! hledger, ledger and bean-check, put where the tests of exports look for them: `target/interop/books/bin`.
//!
//! The first two come from their Debian packages, fetched and unpacked below `target` without touching the
//! system; where that cannot be, from the path. The third is in the Python environment of the other scenarios.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::debian::Packages;
use super::install::{Environment, python, told};
use super::{Places, tools};

/// Of the release whose versions finance.md 9.2 was checked with.
const PACKAGES: Packages = Packages {
    name: "books",
    pinned: &[("hledger", "1.25-2+b5"), ("ledger", "3.3.0-3")],
    programs: &["usr/bin/hledger", "usr/bin/ledger"],
};

/// Makes the programs ready and says of each that it is, or why not.
pub(crate) fn install() -> Vec<(&'static str, Result<(), String>)> {
    let places = Places::find();
    let folder = places.work.join("books");
    let packaged = PACKAGES.unpack(&places);
    let mut ready: Vec<_> = PACKAGES
        .pinned
        .iter()
        .map(|&(name, _)| {
            let found = match &packaged {
                Ok(root) => Ok(format!(
                    "env LD_LIBRARY_PATH=\"{}\" \"{}\"",
                    root.libraries(),
                    root.path(&format!("usr/bin/{name}")).display()
                )),
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
