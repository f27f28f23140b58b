//! Medians and ratios, for people and as the raw figures.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::subject::Subject;

/// What one row took in each round, nanoseconds for each operation.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) nanos: Vec<f64>,
}

/// What the figures were taken on.
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    has_sha: bool,
    kernel: String,
    load_before: String,
    commit: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let info = read("/proc/cpuinfo");
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Self {
            processor: name.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            has_sha: info.contains(" sha_ni"),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_before: load(),
            commit: commit.unwrap_or_default(),
        }
    }
}

/// Everything that is written.
pub(crate) struct Report {
    text: String,
    raw: Value,
}

impl Report {
    /// `missing`: why the peer was not measured.
    pub(crate) fn new(
        machine: Machine,
        subject: &Subject,
        series: Vec<Series>,
        missing: Option<String>,
    ) -> Self {
        let rounds = series.first().map_or(0, |first| first.nanos.len());
        let unit = series.first().map(|first| first.nanos.clone()).unwrap_or_default();
        let instructions = if machine.has_sha { "with" } else { "without" };
        let mut text = format!(
            "# Checking an L402 credential\n\n`cargo run --release -p farthing-bench --bin l402 -- --peer` at {}\n\n\
             Machine: {}, {} cores, {instructions} instructions for SHA-256, Linux {}. Load average before {}, after {}. {rounds} \
             interleaved rounds of about a tenth of a millisecond for each row; ratios are taken within a round. On a machine that others use \
             too, the quickest round comes nearest to a quiet core.\n\n\
             A token of {} bytes with three caveats, in a header value of {} bytes. Ours also derives the root key, names every \
             point of the chain for revocation and budgets, and names the account; the crate is given the root key, and neither \
             preimage nor header.\n\n\
             | operation | ns, median | quickest round | x SHA-256 of 32 bytes |\n|---|---|---|---|\n",
            machine.commit,
            machine.processor,
            machine.cores,
            machine.kernel,
            machine.load_before,
            load(),
            subject.token_bytes.len(),
            subject.header.len(),
        );
        for row in &series {
            let ratios: Vec<f64> = row.nanos.iter().zip(&unit).map(|(nanos, unit)| nanos / unit).collect();
            let quickest = row.nanos.iter().copied().fold(f64::INFINITY, f64::min);
            let (nanos, ratio) = (median(&row.nanos), median(&ratios));
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {} | {nanos:.0} | {quickest:.0} | {ratio:.1} |", row.name);
        }
        if let Some(why) = missing {
            let _ = writeln!(text, "\nThe crate `macaroon` was not measured: {why}.");
        }
        let tenths =
            |nanos: &[f64]| -> Vec<f64> { nanos.iter().map(|n| (n * 10.0).round() / 10.0).collect() };
        let rows: Vec<Value> =
            series.iter().map(|row| json!({"name": row.name, "nanos": tenths(&row.nanos)})).collect();
        let raw = json!({
            "commit": machine.commit, "processor": machine.processor, "cores": machine.cores,
            "sha_instructions": machine.has_sha, "kernel": machine.kernel, "load_before": machine.load_before,
            "token_bytes": subject.token_bytes.len(), "header_bytes": subject.header.len(), "rows": rows,
        });
        Self { text, raw }
    }

    /// Prints it, and puts it beside the other results.
    pub(crate) fn write(&self) {
        print!("{}", self.text);
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let raw = serde_json::to_string(&self.raw).expect("numbers and text");
        for (name, text) in [("RESULTS-l402.md", &self.text), ("results-l402.json", &format!("{raw}\n"))] {
            fs::write(here.join(name), text).expect("the folder can be written");
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
