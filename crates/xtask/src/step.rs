//! One child program, its output passed on while it runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::outcome::Outcome;
use crate::root;

/// `cargo` with these arguments, at the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    // What cargo told this tool about its own package would make it build others anew: some build scripts ask
    // for these variables, and tests that build the binary do not have them.
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"];
        if own.iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a child to its end; it passes when it exits with 0.
pub(crate) fn run(name: &str, command: &mut Command) -> Outcome {
    let started = Instant::now();
    println!("== {name}");
    let held = command.status().map(|status| status.success());
    report(name, &held, started)
}

/// Says how a step ended and counts it.
pub(crate) fn report(name: &str, held: &std::io::Result<bool>, started: Instant) -> Outcome {
    let seconds = started.elapsed().as_secs();
    match held {
        Ok(true) => {
            println!("ok {name} ({seconds} s)");
            Outcome { passed: 1, ..Outcome::default() }
        }
        Ok(false) => {
            println!("FAILED {name} ({seconds} s)");
            Outcome { failed: 1, ..Outcome::default() }
        }
        Err(error) => {
            println!("FAILED {name}: cannot start it: {error}");
            Outcome { failed: 1, ..Outcome::default() }
        }
    }
}

/// Runs a child and shows those lines of its standard output for which `each` says yes, at once.
///
/// # Errors
/// When the child cannot be started or its output cannot be read.
pub(crate) fn lines(command: &mut Command, mut each: impl FnMut(&str) -> bool) -> std::io::Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    if let Some(output) = child.stdout.take() {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            let line = String::from_utf8_lossy(&bytes);
            if each(line.trim_end()) {
                let mut out = std::io::stdout().lock();
                out.write_all(line.as_bytes())?;
                out.flush()?;
            }
            bytes.clear();
        }
    }
    Ok(child.wait()?.success())
}
