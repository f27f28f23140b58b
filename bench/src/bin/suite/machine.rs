//! The machine, which is part of every figure.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::metric::median;
use crate::pinning;
use crate::places::{Places, said};

/// Appended and synced this often, to see what a durable write costs at least.
const SYNCS: usize = 200;
/// What a processor can do that matters here.
const FLAGS: [&str; 5] = ["avx2", "avx512ifma", "sha_ni", "aes", "hypervisor"];

/// What was measured on, and with which versions.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) flags: Vec<&'static str>,
    pub(crate) cores: usize,
    pub(crate) pinned: bool,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// Median of an append of 256 bytes and its sync, microseconds.
    pub(crate) sync_micros: f64,
    pub(crate) commit: String,
    pub(crate) versions: Vec<String>,
}

impl Machine {
    /// As it is now. Writes where the stores will be.
    pub(crate) fn look(places: &Places) -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let info = read("/proc/cpuinfo");
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        let flags = field("flags").map_or("", |(_, flags)| flags);
        let has = |flag: &&&str| flags.split_whitespace().any(|known| known == **flag);
        let cores = std::thread::available_parallelism().map_err(|error| error.to_string())?;
        let memory = read("/proc/meminfo");
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: u64 = memory.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
        let version = |program: &str| said(Path::new(program), &["--version"], &places.root);
        let versions = ["rustc", "node", "python3"].iter().filter_map(|program| {
            let version = version(program)?;
            Some(if version.contains(' ') { version } else { format!("{program} {version}") })
        });
        Ok(Self {
            processor: field("model name").map_or("unknown", |(_, name)| name.trim()).to_owned(),
            flags: FLAGS.iter().filter(has).copied().collect(),
            cores: cores.get(),
            pinned: pinning::is_possible(),
            memory_gib: kib >> 20,
            kernel: read("/proc/sys/kernel/osrelease"),
            load_before: load(),
            load_after: String::new(),
            sync_micros: sync_micros(&places.run.join("sync")).map_err(|error| error.to_string())?,
            commit: said(Path::new("git"), &["rev-parse", "--short", "HEAD"], &places.root)
                .unwrap_or_default(),
            versions: versions.collect(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            flags,
            cores,
            pinned,
            memory_gib,
            kernel,
            load_before,
            load_after,
            sync_micros,
            ..
        } = self;
        let pinned = if *pinned {
            "load, upstream and servers on cores of their own"
        } else {
            "all on the same cores"
        };
        write!(
            f,
            "Machine: {processor} ({}), {cores} cores, {pinned}, {memory_gib} GiB, Linux {kernel}, {}. Load average before \
             {load_before}, after {load_after}. An append of 256 bytes with its sync: {sync_micros:.0} us.",
            flags.join(" "),
            self.versions.join(", "),
        )
    }
}

/// The load of the last minute, five and fifteen.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
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
