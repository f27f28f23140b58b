//! The machine, which is part of every figure.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::row::median;

/// Appended and synced this often, to see what a durable write costs at least.
const SYNCS: usize = 200;

#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// Median of an append of 256 bytes and its sync, microseconds.
    pub(crate) sync_micros: f64,
    pub(crate) commit: String,
    pub(crate) node: String,
}

impl Machine {
    /// As it is now. Writes into `folder`, where the stores will be.
    pub(crate) fn look(root: &Path, folder: &Path) -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let info = read("/proc/cpuinfo");
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let cores = std::thread::available_parallelism().map_err(|error| error.to_string())?;
        Ok(Self {
            processor: name.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: cores.get(),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_before: load(),
            load_after: String::new(),
            sync_micros: sync_micros(&folder.join("sync")).map_err(|error| error.to_string())?,
            commit: said("git", &["rev-parse", "--short", "HEAD"], root),
            node: said("node", &["--version"], root),
        })
    }
}

/// The load of the last minute, five and fifteen.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn said(program: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn sync_micros(path: &Path) -> std::io::Result<f64> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[7; 256])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(median(times.iter().map(|time| time.as_secs_f64() * 1e6)))
}
