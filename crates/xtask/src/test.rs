//! `cargo xtask test`: every check and every test, counted.

use std::process::Command;
use std::time::Instant;

use crate::outcome::Outcome;
use crate::step::{self, cargo};
use crate::{check, counts, interop, proofs, require_all};

/// Everything. A failure does not stop the rest: one run shows them all.
pub(crate) fn run() -> Outcome {
    println!("== tools");
    // Not counted here: a test that finds its tool missing says so and is.
    let _ = crate::tools();
    let checked = check::run_static();
    // What a passing test prints is shown only on demand, and `skipped:` is printed by such tests.
    let args = ["test", "--workspace", "--locked", "--no-fail-fast", "--", "--show-output"];
    let tests = counted("tests", &mut cargo(&args));
    // The model checker's atomics are a feature of their own, which the workspace is not tested with.
    let interleavings = proofs::tests("loom", proofs::LOOM, None);
    let peers = counted("mpp-peer", &mut cargo(&MPP_PEER));
    let counts = counts::run(&[]);
    println!("== interop");
    checked.plus(tests).plus(interleavings).plus(peers).plus(counts).plus(interop::run(&[]))
}

/// The codec of MPP against somebody else's. A workspace of its own: that crate would change how the JSON of every test
/// here is ordered.
const MPP_PEER: [&str; 8] = [
    "test",
    "--locked",
    "--manifest-path",
    "tests/mpp-peer/Cargo.toml",
    "--target-dir",
    "target/mpp-peer",
    "--",
    "--show-output",
];

/// `cargo test`, counted test by test.
pub(crate) fn counted(name: &str, command: &mut Command) -> Outcome {
    let started = Instant::now();
    println!("== {name}");
    let mut tally = Tally::default();
    let held = step::lines(command, |line| tally.take(line));
    for reason in &tally.reasons {
        println!("{reason}");
    }
    let outcome = tally.outcome(matches!(held, Ok(true)), require_all());
    let all_held = held.map(|held| held && outcome.failed == 0);
    let _ = step::report(name, &all_held, started);
    outcome
}

/// Reads what libtest prints.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    ignored: u32,
    /// Passing tests that said they left something out.
    skipped: u32,
    reasons: Vec<String>,
    part: Part,
    /// The test whose output is being read has been counted.
    counted: bool,
}

/// Which part of a test binary's output a line stands in.
#[derive(Default, PartialEq)]
enum Part {
    #[default]
    Progress,
    Successes,
    Failures,
}

impl Tally {
    /// Counts a line and says whether it is worth showing.
    fn take(&mut self, line: &str) -> bool {
        match line {
            "successes:" => self.part = Part::Successes,
            "failures:" => self.part = Part::Failures,
            _ if line.starts_with("test result: ") => {
                self.part = Part::Progress;
                self.passed += count(line, "passed");
                self.failed += count(line, "failed");
                self.ignored += count(line, "ignored");
                return true;
            }
            _ if line.starts_with("---- ") => self.counted = false,
            _ if line.starts_with("skipped:") && self.part == Part::Successes => {
                if !self.counted {
                    self.skipped += 1;
                    self.counted = true;
                }
                if !self.reasons.iter().any(|reason| reason == line) {
                    self.reasons.push(line.to_owned());
                }
            }
            _ => {}
        }
        self.part != Part::Successes && !line.ends_with("... ok")
    }

    /// A test that left something out did not pass. When nothing may be left out it failed.
    fn outcome(&self, held: bool, require_all: bool) -> Outcome {
        let passed = self.passed.saturating_sub(self.skipped);
        let (more_failed, skipped) = if require_all { (self.skipped, 0) } else { (0, self.skipped) };
        let mut failed = self.failed + more_failed;
        if !held && self.failed == 0 {
            // Nothing was counted: it did not build, or a test binary died.
            failed += 1;
        }
        Outcome { passed, failed, skipped: skipped + self.ignored }
    }
}

/// The number before a word: `23 passed;`.
fn count(line: &str, word: &str) -> u32 {
    let mut words = line.split([' ', ';', '.']).filter(|part| !part.is_empty());
    let mut before = "";
    for part in words.by_ref() {
        if part == word {
            return before.parse().unwrap_or(0);
        }
        before = part;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Tally};

    const RUN: &str = "\
running 3 tests
test a ... ok
test b ... ok
test c ... ok

successes:

---- a stdout ----
skipped: no vectors
skipped: no vectors either

---- b stdout ----
skipped: no vectors

---- c stdout ----
not skipped: by us

successes:
    a
    b
    c

test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 2 tests
test d ... FAILED
failures:

---- d stdout ----
skipped: this test failed, and so it counts

failures:
    d

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        for line in text.lines() {
            tally.take(line);
        }
        tally
    }

    #[test]
    fn totals_of_libtest() {
        let run = tally(RUN);
        assert_eq!(run.reasons, ["skipped: no vectors", "skipped: no vectors either"]);
        assert_eq!(run.outcome(false, false), Outcome { passed: 2, failed: 1, skipped: 3 });
        assert_eq!(run.outcome(false, true), Outcome { passed: 2, failed: 3, skipped: 1 });
    }

    #[test]
    fn a_broken_build_is_a_failure() {
        assert_eq!(tally("").outcome(false, false), Outcome { passed: 0, failed: 1, skipped: 0 });
        assert_eq!(tally("").outcome(true, false), Outcome::default());
    }

    #[test]
    fn only_what_matters_is_shown() {
        let mut run = Tally::default();
        let shown: Vec<&str> = RUN.lines().filter(|line| run.take(line)).collect();
        assert!(shown.contains(&"test d ... FAILED") && shown.contains(&"---- d stdout ----"));
        assert!(!shown.contains(&"test a ... ok") && !shown.contains(&"---- a stdout ----"));
    }
}
