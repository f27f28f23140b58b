//! The table in README.md of clients that pay before one route, each in its own way: written by a run, and held against
//! every later one.

use std::fs;
use std::path::Path;

use super::clients::Client;

/// What the names of those clients begin with.
pub(super) const NAME: &str = "composition";

const BEGINS: &str =
    "<!-- what `cargo xtask interop --only composition` saw; with `--write` it writes this -->";
const ENDS: &str = "<!-- until here -->";
const HEAD: &str = "| client | version | pays by | requests | result |\n|---|---|---|---|---|\n";

/// What clients have told, in the order of the list of clients.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<String>,
    /// Not all of them did what they should.
    is_broken: bool,
}

impl Table {
    /// Takes the lines `row ...` of a script, which was `good` or was not.
    pub(super) fn take(&mut self, client: &Client, stdout: &str, good: bool) {
        if client.name.starts_with(NAME) {
            self.rows.extend(stdout.lines().filter_map(|line| line.strip_prefix("row ")).map(str::to_owned));
            self.is_broken |= !good;
        }
    }

    /// Whether the README says what was seen; with `write` it does afterwards.
    pub(super) fn hold(&self, readme: &Path, write: bool) -> Result<(), String> {
        let read = || fs::read_to_string(readme);
        let text = read().map_err(|e| format!("cannot read {}: {e}", readme.display()))?;
        if self.is_broken {
            return Err("not every client has paid".to_owned());
        }
        let seen = self.put_into(&text)?;
        if seen == text {
            return Ok(());
        }
        if !write {
            return Err("the table in README.md is not what was seen: --only composition --write".to_owned());
        }
        fs::write(readme, seen).map_err(|e| format!("cannot write {}: {e}", readme.display()))
    }

    /// The README with these rows between its markers.
    fn put_into(&self, readme: &str) -> Result<String, String> {
        let missing = || "README.md has no place for the table".to_owned();
        let (before, rest) = readme.split_once(BEGINS).ok_or_else(missing)?;
        let (_, after) = rest.split_once(ENDS).ok_or_else(missing)?;
        let rows: String = self.rows.iter().map(|row| format!("| {row} |\n")).collect();
        Ok(format!("{before}{BEGINS}\n{HEAD}{rows}{ENDS}{after}"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::clients::CLIENTS;
    use super::{BEGINS, ENDS, HEAD, NAME, Table};

    #[test]
    fn rows_stand_between_the_markers() {
        let ours = CLIENTS.iter().find(|client| client.name.starts_with(NAME)).unwrap();
        let other = CLIENTS.iter().find(|client| !client.name.starts_with(NAME)).unwrap();
        let mut table = Table::default();
        table.take(ours, "noise\nrow a | 1 | x | 2 | 200\npass b\n", true);
        table.take(other, "row c | 1 | x | 2 | 200\n", false);
        assert!(!table.is_broken, "what is not ours breaks nothing");
        let readme = |inner: &str| format!("above\n{BEGINS}\n{HEAD}{inner}{ENDS}\nbelow\n");
        let seen = readme("| a | 1 | x | 2 | 200 |\n");
        for before in [readme(""), readme("| z |\n"), seen.clone()] {
            assert_eq!(table.put_into(&before).as_deref(), Ok(seen.as_str()));
        }
        assert!(table.put_into("no markers").is_err());
        table.take(ours, "", false);
        assert!(table.hold(Path::new("README.md"), false).is_err());
    }
}
