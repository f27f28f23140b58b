//! The crate `macaroon`, in a program of its own: it needs libsodium, and is no part of our workspace.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::subject::Subject;

/// The running program. It ends with its input.
pub(crate) struct Peer {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Builds and starts it. `Err`: why it is not there.
    pub(crate) fn start(subject: &Subject) -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = here.join("../target/bench/macaroon");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
            .arg(here.join("peers/macaroon/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status();
        if !built.is_ok_and(|status| status.success()) {
            return Err("it does not build here".to_owned());
        }
        let mut child = Command::new(target.join("release/farthing-bench-macaroon"))
            .args([&subject.token_text, &subject.root])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Self { child, answers })
    }

    /// How long so many checks took, nanoseconds.
    pub(crate) fn run(&mut self, calls: u32) -> u128 {
        let input = self.child.stdin.as_mut().expect("it is piped");
        writeln!(input, "{calls}").expect("the peer lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the peer lives");
        line.trim().parse().expect("the peer takes our token")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
