//! Folders of a run, and the program that is measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of a run, or of one scenario of it.
#[derive(Clone)]
pub(crate) struct Places {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// Where results are kept.
    pub(crate) bench: PathBuf,
    /// `target/bench`: what is kept from run to run.
    pub(crate) kept: PathBuf,
    /// Stores, configurations and logs of this run; those of a scenario in a folder of its own.
    pub(crate) run: PathBuf,
}

impl Places {
    /// Empties the folder of the run.
    pub(crate) fn prepare() -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().unwrap_or(here).to_owned();
        let binary = std::env::current_exe().map_err(|error| error.to_string())?;
        // We run from <target>/<profile>.
        let target = binary.ancestors().nth(2).ok_or("no target folder")?;
        let kept = target.join("bench");
        let run = kept.join("run");
        if run.exists() {
            fs::remove_dir_all(&run).map_err(|error| format!("{}: {error}", run.display()))?;
        }
        fs::create_dir_all(&run).map_err(|error| format!("{}: {error}", run.display()))?;
        Ok(Self { bench: here.to_owned(), root, kept, run })
    }

    /// Those of a scenario: what another has left is not in its way.
    pub(crate) fn of(&self, scenario: &str) -> Result<Self, String> {
        Ok(Self { run: self.folder(scenario)?, ..self.clone() })
    }

    /// Where a server's output goes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.run.join(format!("{}.log", file_name(name)))
    }

    /// A file of this run.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.run.join(file_name(name));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// A folder of this run that is empty.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.run.join(file_name(name));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// The gateway: `FARTHING_BIN`, else what was built beside us.
    pub(crate) fn gateway(&self) -> Result<PathBuf, String> {
        let ours = std::env::current_exe().map_err(|error| error.to_string())?;
        let path = std::env::var_os("FARTHING_BIN").map_or(ours.with_file_name("farthing"), PathBuf::from);
        if path.is_file() {
            Ok(path)
        } else {
            Err(format!("{} is not there: `cargo xtask bench` builds it", path.display()))
        }
    }
}

fn file_name(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let name: String = name.chars().map(|letter| if plain(letter) { letter } else { ' ' }).collect();
    name.split_whitespace().collect::<Vec<_>>().join("-")
}

/// The first line that a program prints; nothing where it does not run.
pub(crate) fn said(program: &Path, arguments: &[&str], folder: &Path) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn names_of_files() {
        for (name, file) in [
            ("@x402/hono", "x402-hono"),
            ("haproxy, http-no-delay.cfg", "haproxy-http-no-delay.cfg"),
            ("ours-all.yaml", "ours-all.yaml"),
        ] {
            assert_eq!(file_name(name), file);
        }
    }
}
