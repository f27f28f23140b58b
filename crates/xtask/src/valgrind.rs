//! Valgrind: of the system, else unpacked from its package.

use std::env;
use std::process::Command;

use crate::interop::debian::{Packages, Unpacked};
use crate::interop::{Places, tools};

/// Where the system has none.
const PACKAGE: Packages = Packages {
    name: "valgrind",
    pinned: &[("valgrind", "1:3.19.0-1")],
    programs: &["usr/bin/valgrind", "usr/bin/vgdb"],
};

/// Programs of valgrind that can be run.
pub(crate) struct Valgrind(Option<Unpacked>);

impl Valgrind {
    /// Finds it, or unpacks it.
    pub(crate) fn find() -> Result<Self, String> {
        let Err(missing) = tools::program("valgrind") else { return Ok(Self(None)) };
        let unpacked = PACKAGE.unpack(&Places::of("interop"));
        unpacked.map(|unpacked| Self(Some(unpacked))).map_err(|why| format!("{missing}, and {why}"))
    }

    /// Makes a program find it, and by that whatever this one starts.
    pub(crate) fn lend(&self, command: &mut Command) {
        let Some(root) = &self.0 else { return };
        let others = env::var_os("PATH").unwrap_or_default();
        let folders = [root.path("usr/bin")].into_iter().chain(env::split_paths(&others));
        // None of them has a separator in its name: they came out of such a list, or are below our target folder.
        if let Ok(path) = env::join_paths(folders) {
            command.env("PATH", path);
        }
        command.env("VALGRIND_LIB", root.path("usr/libexec/valgrind"));
    }

    /// `valgrind` itself.
    pub(crate) fn command(&self) -> Command {
        let program = self.0.as_ref().map(|root| root.path("usr/bin/valgrind"));
        let mut command = Command::new(program.unwrap_or_else(|| "valgrind".into()));
        self.lend(&mut command);
        command
    }
}
