//! Numbers on the page of metrics.

use crate::gateway::Gateway;
use crate::http;

impl Gateway {
    /// The value of a line: `farthing_holds_open`, or with its labels `farthing_charge_nano_total{asset="TEST"}`.
    pub fn metric(&self, line: &str) -> i64 {
        let page = http::get(self.admin, "/metrics", &[]).text();
        value_of(&page, line).unwrap_or_else(|| panic!("no {line}: {page}"))
    }

    /// The same for what may never have happened: such a counter is not shown.
    pub fn counted(&self, line: &str) -> i64 {
        let page = http::get(self.admin, "/metrics", &[]).text();
        value_of(&page, line).unwrap_or(0)
    }

    /// Bytes of memory that the process has.
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }
}

fn value_of(page: &str, line: &str) -> Option<i64> {
    let value = page.lines().find_map(|shown| shown.strip_prefix(line)?.strip_prefix(' '));
    value.map(|value| value.parse().unwrap())
}
