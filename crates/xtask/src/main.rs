//! Work on the repository itself: `cargo xtask <command>`.

mod bench;
mod check;
mod counts;
mod interop;
mod lightning;
mod outcome;
mod proofs;
mod specs;
mod step;
mod test;
mod valgrind;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use outcome::Outcome;

const USAGE: &str = "\
usage: cargo xtask <command>

  test    every check and every test; the last line is the total
  check   format, clippy, docs, dependency direction, spec map: the quick part, for every save
  interop [--only NAME] [--write]
          foreign clients against the gateway, one line per scenario; with --write, the table in README.md
  lightning
          real payments over a channel on a test chain; minutes the first time, no part of `test`
  tools   hledger, ledger and bean-check for the tests of exports, below target/
  bench [--quick] [--peers] [--build-o402] [--only SCENARIO] [--minutes N]
          what a paid call costs beside a plain one and beside other software; writes bench/RESULTS.md; --help tells more
  counts [--write]
          instructions of the pure parts of a paid call, against the committed figures
  specs   which rules of specs/ stand in which test
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else { return usage() };
    let outcome = match command.as_str() {
        "check" => check::run(),
        "test" => test::run(),
        "interop" => interop::run(rest),
        "lightning" => lightning::run(rest),
        "tools" => tools(),
        "bench" => bench::run(rest),
        "counts" => counts::run(rest),
        "specs" => specs::run(),
        _ => match proofs::find(command).and_then(|proof| proof.run(rest)) {
            Some(outcome) => outcome,
            None => return usage(),
        },
    };
    finish(outcome)
}

/// What the tests of exports run. Without it they say that they were skipped.
fn tools() -> Outcome {
    let mut outcome = Outcome::default();
    for (name, ready) in interop::books::install() {
        match ready {
            Ok(()) => {
                outcome.passed += 1;
                println!("ready {name}");
            }
            Err(why) if require_all() => {
                outcome.failed += 1;
                println!("fail {name} {why} (FARTHING_REQUIRE=all)");
            }
            Err(why) => {
                outcome.skipped += 1;
                println!("skip {name} {why}");
            }
        }
    }
    outcome
}

/// The last line is the total, whatever happened before.
fn finish(outcome: Outcome) -> ExitCode {
    println!("{outcome}");
    if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprint!("{USAGE}{}", proofs::usage());
    ExitCode::from(2)
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Whether nothing may be left out: a tool or a file that is missing is then a failure.
fn require_all() -> bool {
    std::env::var("FARTHING_REQUIRE").is_ok_and(|value| value == "all")
}
