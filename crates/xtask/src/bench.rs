//! `cargo xtask bench [--quick] [--peers]`: builds gateway and benchmark, makes ready what the benchmark cannot by itself, and runs
//! it within its time.

use std::path::PathBuf;
use std::time::Duration;

use crate::interop::debian::Packages;
use crate::interop::{Places, process};
use crate::outcome::Outcome;
use crate::require_all;
use crate::step::{self, cargo};

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

/// Arguments are those of the benchmark; see `bench/README.md`.
pub(crate) fn run(args: &[String]) -> Outcome {
    let build = ["build", "--release", "--locked", "--package", "farthing", "--package", "farthing-bench"];
    let built = step::run(
        "build",
        &mut cargo(&[build.as_slice(), &["--bin", "farthing", "--bin", "suite"]].concat()),
    );
    if built.failed > 0 {
        return built;
    }
    let places = Places::of("bench");
    let mut suite = std::process::Command::new(release(&places).join("suite"));
    suite.args(args).arg("--leash");
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
    let minutes = args.windows(2).find_map(|pair| (pair[0] == "--minutes").then(|| pair[1].parse().ok())?);
    let time_max = Duration::from_secs(60 * minutes.unwrap_or(MINUTES)) + GRACE;
    built.plus(process::watch(suite, "bench", time_max))
}

fn release(places: &Places) -> PathBuf {
    places.work.parent().unwrap_or(&places.work).join("release")
}
