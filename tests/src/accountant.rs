//! Programs of accountants that judge an export: hledger, ledger and bean-check, as they are published.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One program, and how it is told to be strict.
#[derive(Clone, Copy, Debug)]
pub struct Accountant {
    /// Its name.
    pub name: &'static str,
    /// The format that is for it.
    pub format: &'static str,
    before: &'static [&'static str],
    after: &'static [&'static str],
}

/// The three commands that finance.md 9.2 names.
pub const ACCOUNTANTS: [Accountant; 3] = [
    Accountant {
        name: "hledger",
        format: "hledger",
        before: &["-f"],
        after: &["check", "--strict", "ordereddates", "payees"],
    },
    Accountant {
        name: "ledger",
        format: "ledger",
        before: &["--pedantic", "--check-payees", "-f"],
        after: &["bal"],
    },
    Accountant { name: "bean-check", format: "beancount", before: &["--no-cache"], after: &[] },
];

impl Accountant {
    /// The program, where `cargo xtask tools` has put it, else on the path. Where it is missing the test says
    /// so and goes on without it; with `FARTHING_REQUIRE=all` it fails.
    pub fn find(self) -> Option<PathBuf> {
        // This test runs from <target>/<profile>/deps.
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap();
        let ours = target.join("interop/books/bin").join(self.name);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::iter::once(ours)
            .chain(std::env::split_paths(&path).map(|folder| folder.join(self.name)))
            .find(|program| program.is_file());
        if found.is_none() {
            println!("skipped: {} is not here: cargo xtask tools", self.name);
            assert!(
                std::env::var("FARTHING_REQUIRE").as_deref() != Ok("all"),
                "{} is not here: cargo xtask tools",
                self.name
            );
        }
        found
    }

    /// What it says of a journal.
    pub fn judge(self, program: &Path, journal: &Path) -> Output {
        Command::new(program)
            .args(self.before)
            .arg(journal)
            .args(self.after)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap()
    }
}
