//! `cargo xtask check`: what needs no running program, for every save.

use crate::outcome::Outcome;
use crate::specs;
use crate::step::{self, cargo};

/// Format, lints, docs, dependency direction, spec map.
pub(crate) fn run_static() -> Outcome {
    let format = step::run("format", &mut cargo(&["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    let clippy = step::run("clippy", &mut cargo(&clippy));
    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    let docs = step::run("docs", docs.env("RUSTDOCFLAGS", "-D warnings"));
    format.plus(clippy).plus(docs).plus(specs::run())
}

/// All of it. `test` leaves the dependency direction to the test run, which has the same test.
pub(crate) fn run() -> Outcome {
    let direction = ["test", "--package", "farthing-tests", "--test", "workspace", "--locked", "--quiet"];
    let direction = step::run("dependency direction", &mut cargo(&direction));
    direction.plus(run_static())
}
