//! Who computes where, on machines with room for it (PERF-44): the load on the first core, the upstream and the
//! facilitator on the second, what is measured on the third and fourth. With fewer than four everybody shares.

use std::ffi::OsStr;
use std::process::Command;
use std::thread::available_parallelism;

use rustix::thread::{CpuSet, sched_setaffinity};

const CORES_MIN: usize = 4;

/// Whether there are cores for each.
pub(crate) fn is_possible() -> bool {
    available_parallelism().is_ok_and(|cores| cores.get() >= CORES_MIN)
}

/// The thread that calls makes the load.
pub(crate) fn load() {
    this_thread(0);
}

/// The thread that calls is an upstream.
pub(crate) fn upstream() {
    this_thread(1);
}

fn this_thread(core: usize) {
    if !is_possible() {
        return;
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(None, &cores) {
        eprintln!("not pinned: {error}");
    }
}

/// What stands before the program that is measured, to keep it on its cores.
pub(crate) fn measured(command: &Command) -> Vec<&OsStr> {
    let pinned: &[&str] = if is_possible() { &["taskset", "-c", "2,3"] } else { &[] };
    pinned.iter().map(OsStr::new).chain([command.get_program()]).chain(command.get_args()).collect()
}
