//! `cargo xtask bench [--quick] [--peers]`: builds gateway and benchmark, makes ready what the benchmark cannot by itself, and runs
//! it within its time.

use std::path::PathBuf;
use std::time::Duration;

use crate::interop::debian::Packages;
use crate::interop::{Places, process};
use crate::outcome::Outcome;
use crate::require_all;
use crate::step::{self, cargo};
use crate::valgrind::Valgrind;

/// Beyond the minutes that the benchmark gives itself: what it has begun is ended.
const GRACE: Duration = Duration::from_secs(300);
/// When it begins nothing more, unless told.
const MINUTES: u64 = 45;

/// Proxies to measure beside ours, of Debian 12.
const PROXIES: Packages = Packages {
    name: "proxies",
    pinned: &[("nginx", "1.22.1-9+deb12u7"), ("haproxy", "2.6.12-1+deb12u3")],
    programs: &["usr/sbin/nginx", "usr/sbin/haproxy"],
};

/// The release, with the lines of its code. It is Cargo's name of the folder as well.
const PROFILE: &str = "measured";

/// An option of the build, and not of the benchmark.
const NO_DEFAULTS: &str = "--no-default-features";

const USAGE: &str = "\
usage: cargo xtask bench [--quick] [--peers] [--build-o402] [--only SCENARIO]... [--minutes N] [--no-default-features]

  without options   ours alone, five rounds of two seconds; writes bench/RESULTS.md, bench/results.json, bench/plots
  --quick           three rounds of 0.4 s; writes to target/bench/run
  --peers           also other projects' servers, which it installs below target/bench
  --build-o402      builds the peer o402 first, once, which takes many minutes
  --only SCENARIO   one scenario, or several; writes to target/bench/run
                    cost, profile, latency, streams, transport, sellers, llm-proxies, pressure, memory, disk
  --minutes N       begins nothing more after so long; 45 unless told
  --no-default-features
                    builds the gateway without mimalloc

FARTHING_BIN names the gateway that is measured, unless it is the one that is built. More: bench/README.md
";

/// Arguments are those of the benchmark; see `bench/README.md`.
pub(crate) fn run(args: &[String]) -> Outcome {
    if args.iter().any(|arg| ["--help", "-h"].contains(&arg.as_str())) {
        print!("{USAGE}");
        return Outcome::default();
    }
    let (of_build, args): (Vec<_>, Vec<_>) = args.iter().cloned().partition(|arg| arg == NO_DEFAULTS);
    let build =
        ["build", "--profile", PROFILE, "--locked", "--package", "farthing", "--package", "farthing-bench"];
    let mut build = cargo(&[build.as_slice(), &["--bin", "farthing", "--bin", "suite"]].concat());
    let built = step::run("build", build.args(of_build));
    if built.failed > 0 {
        return built;
    }
    let places = Places::of("bench");
    let mut suite = std::process::Command::new(built_into(&places).join("suite"));
    suite.args(&args).arg("--leash");
    if args.iter().any(|arg| arg == "--peers") {
        match PROXIES.unpack(&places) {
            Ok(unpacked) => {
                suite.env("FARTHING_BENCH_DEBIAN", unpacked.path(""));
                suite.env("FARTHING_BENCH_LIBRARIES", unpacked.libraries());
            }
            Err(why) if require_all() => {
                println!("FAILED {why} (FARTHING_REQUIRE=all)");
                return Outcome { failed: 1, ..built };
            }
            Err(why) => println!("nginx and haproxy only if this system has them: {why}"),
        }
    }
    match Valgrind::find() {
        Ok(valgrind) => valgrind.lend(&mut suite),
        Err(why) if require_all() => {
            println!("FAILED {why} (FARTHING_REQUIRE=all)");
            return Outcome { failed: 1, ..built };
        }
        Err(why) => println!("no profile: {why}"),
    }
    let minutes = args.windows(2).find_map(|pair| (pair[0] == "--minutes").then(|| pair[1].parse().ok())?);
    let time_max = Duration::from_secs(60 * minutes.unwrap_or(MINUTES)) + GRACE;
    built.plus(process::watch(suite, "bench", time_max))
}

fn built_into(places: &Places) -> PathBuf {
    places.work.parent().unwrap_or(&places.work).join(PROFILE)
}
