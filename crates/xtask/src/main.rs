//! Work on the repository itself: `cargo xtask <command>`.

mod interop;
mod outcome;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else { return usage() };
    let outcome = match command.as_str() {
        "interop" => interop::run(rest),
        _ => return usage(),
    };
    println!("{outcome}");
    if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: cargo xtask interop [--only NAME]");
    ExitCode::from(2)
}
