//! Instructions that the pure parts of a paid call take: `cargo xtask counts`, and a step of `cargo xtask test`.
//!
//! Time is noisy where machines are shared; what valgrind counts is the same in every run of the same program. So this is
//! what a slower paid path fails by (PERF-45). A count stands for no time: a core that multiplies faster than another
//! still executes one instruction. Figures hold for one compiler, C library and kind of processor; they are committed
//! with these, and written anew with what changes them: `cargo xtask counts --write`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::interop::{Places, tools};
use crate::outcome::Outcome;
use crate::step::{self, cargo};
use crate::valgrind::Valgrind;
use crate::{require_all, root};

/// How far a count may be off the committed one, in hundredths.
const BAND_PERCENT: u64 = 3;
/// Off by so few it is no matter of the code: in what order a map of a new process holds its keys, what the compiler made
/// inline this time. Ten nanoseconds.
const BAND_MIN: u64 = 32;
/// Each part is done so often in two runs: their difference is free of what a process does at its start.
const FEW: u64 = 10;
const MANY: u64 = 110;

const COMMITTED: &str = "bench/counts.json";

/// Counts by part.
type Counts = BTreeMap<String, u64>;

/// Compares with what is committed, or writes it.
pub(crate) fn run(args: &[String]) -> Outcome {
    let is_writing = match args {
        [] => false,
        [flag] if flag == "--write" => true,
        _ => {
            eprintln!("usage: cargo xtask counts [--write]");
            return Outcome { failed: 1, ..Outcome::default() };
        }
    };
    let started = Instant::now();
    println!("== counts");
    let kind = kind_of_machine();
    let committed =
        if is_writing { Ok(Some(Counts::new())) } else { committed(&root().join(COMMITTED), &kind) };
    let committed = match committed {
        Ok(Some(committed)) => committed,
        Ok(None) => {
            // Nothing that could be installed would make these figures comparable.
            println!("skipped counts: {COMMITTED} is of another kind of machine, and here is {kind}");
            return Outcome { skipped: 1, ..Outcome::default() };
        }
        Err(why) => return left_out(&why),
    };
    let valgrind = match Valgrind::find() {
        Ok(valgrind) => valgrind,
        Err(why) => return left_out(&why),
    };
    let counted = build().and_then(|program| count(&valgrind, &program));
    let outcome = match counted {
        Ok(counted) if is_writing => written(&kind, &counted),
        Ok(counted) => compare(&committed, &counted),
        Err(why) => {
            println!("FAILED counts: {why}");
            Outcome { failed: 1, ..Outcome::default() }
        }
    };
    println!("{} s", started.elapsed().as_secs());
    outcome
}

/// Nothing can be compared on this machine.
fn left_out(why: &str) -> Outcome {
    if require_all() {
        println!("FAILED counts: {why} (FARTHING_REQUIRE=all)");
        return Outcome { failed: 1, ..Outcome::default() };
    }
    println!("skipped counts: {why}");
    Outcome { skipped: 1, ..Outcome::default() }
}

/// What a count depends on besides our code: compiler, C library, and which instructions there are.
fn kind_of_machine() -> String {
    let rustc = tools::first_line("rustc", &["--version"]).unwrap_or_default();
    let rustc = rustc.split(" (").next().unwrap_or_default();
    let libc = tools::first_line("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|known| known == flag);
    let wide = if has("avx2") && has("bmi2") { "with AVX2" } else { "without AVX2" };
    format!("{rustc}, {libc}, {} {wide}", std::env::consts::ARCH)
}

/// The committed figures; none where they are for another kind of machine.
fn committed(path: &Path, kind: &str) -> Result<Option<Counts>, String> {
    let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file: Value =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let of = file.get("of").and_then(Value::as_str).unwrap_or_default();
    if of != kind {
        return Ok(None);
    }
    let counts = file.get("instructions").and_then(Value::as_object).into_iter().flatten();
    Ok(Some(counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect()))
}

fn written(kind: &str, counted: &Counts) -> Outcome {
    let path = root().join(COMMITTED);
    let file = json!({"of": kind, "instructions": counted});
    for (name, count) in counted {
        println!("{name} {count}");
    }
    match fs::write(&path, format!("{file:#}\n")) {
        Ok(()) => Outcome { passed: 1, ..Outcome::default() },
        Err(error) => {
            println!("FAILED {}: {error}", path.display());
            Outcome { failed: 1, ..Outcome::default() }
        }
    }
}

/// One line for each part. A count below the band is a failure too: else what was won could be lost again unseen.
fn compare(committed: &Counts, counted: &Counts) -> Outcome {
    let mut outcome = Outcome::default();
    let names = committed.keys().chain(counted.keys().filter(|name| !committed.contains_key(*name)));
    for name in names {
        let verdict = match (committed.get(name), counted.get(name)) {
            (Some(before), Some(now)) if is_same(*before, *now) => Ok(format!("{now} (committed {before})")),
            (Some(before), Some(now)) => {
                let change = if now > before { "more" } else { "fewer" };
                let percent = now.abs_diff(*before) * 100 / (*before).max(1);
                Err(format!(
                    "{now}, {percent} % {change} than {before}; if that is meant: cargo xtask counts --write"
                ))
            }
            (None, Some(now)) => Err(format!("{now}, and nothing is committed: cargo xtask counts --write")),
            (_, None) => Err("is committed, and no longer counted: cargo xtask counts --write".to_owned()),
        };
        match verdict {
            Ok(told) => {
                outcome.passed += 1;
                println!("ok {name} {told}");
            }
            Err(why) => {
                outcome.failed += 1;
                println!("FAILED {name} {why}");
            }
        }
    }
    outcome
}

fn is_same(before: u64, now: u64) -> bool {
    now.abs_diff(before) <= (before * BAND_PERCENT / 100).max(BAND_MIN)
}

fn build() -> Result<PathBuf, String> {
    let mut build =
        cargo(&["build", "--quiet", "--locked", "--profile", "counts", "--package", "farthing-counts"]);
    if step::run("build of what is counted", &mut build).failed > 0 {
        return Err("it does not build".to_owned());
    }
    // Cargo's folder of the profile.
    Ok(Places::of("counts").work.join("farthing-counts"))
}

fn count(valgrind: &Valgrind, program: &Path) -> Result<Counts, String> {
    let named = Command::new(program).output().map_err(|error| format!("{}: {error}", program.display()))?;
    let names = String::from_utf8_lossy(&named.stdout);
    let one = |name: &str| {
        let (few, many) =
            (collected(valgrind, program, name, FEW)?, collected(valgrind, program, name, MANY)?);
        Ok((name.to_owned(), many.saturating_sub(few) / (MANY - FEW)))
    };
    names.lines().map(one).collect()
}

/// Instructions of a whole run.
fn collected(valgrind: &Valgrind, program: &Path, name: &str, times: u64) -> Result<u64, String> {
    let mut callgrind = valgrind.command();
    callgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    let run = callgrind.args([name, &times.to_string()]).stdin(Stdio::null()).output();
    let run = run.map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&run.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match count {
        Some(count) if run.status.success() => Ok(count),
        Some(_) | None => {
            Err(format!("{name} did not run to its end: {}", said.lines().last().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, compare, is_same};
    use crate::outcome::Outcome;

    #[test]
    fn the_band() {
        for (before, now, same) in [
            (10_000, 10_300, true),
            (10_000, 10_301, false),
            (10_000, 9_700, true),
            (10_000, 9_699, false),
            (50, 82, true),
            (50, 83, false),
        ] {
            assert_eq!(is_same(before, now), same, "{before} {now}");
        }
    }

    /// PERF-45: what got slower, what got faster unnoticed, what is new and what is gone all fail.
    #[test]
    fn what_fails() {
        let counts = |list: &[(&str, u64)]| -> Counts {
            list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let committed = counts(&[("a", 2000), ("b", 2000), ("c", 2000), ("gone", 1)]);
        let counted = counts(&[("a", 2001), ("b", 2200), ("c", 1800), ("new", 1)]);
        assert_eq!(compare(&committed, &counted), Outcome { passed: 1, failed: 4, skipped: 0 });
    }
}
