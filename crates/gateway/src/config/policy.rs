//! Who pays for a call that did not end as it should: a default under `metering`, and what a route says instead.

use std::time::Duration;

use super::section::Section;
use super::{section::Keys, value};

/// What is charged at the ends that are nobody's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long the upstream is read on after the client has gone, default 20 s.
    pub drain: Duration,
    /// What is charged when it was cancelled then.
    pub client_gone: Charged,
    /// What is charged when the upstream failed after output had begun.
    pub upstream_error: Charged,
    /// Whether a failure that reports usage is charged by that although it gave no output, default false.
    pub bill_on_upstream_failure: bool,
    /// What is charged where no usage was reported.
    pub missing_usage: MissingUsage,
}

/// What an unfinished answer costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// What was reported, and an estimate of what was not (default).
    ReportedOrEstimate,
    /// What was reported; the rest is the operator's.
    ReportedOnly,
    /// Nothing.
    Free,
}

/// What stands in for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingUsage {
    /// Counted tokens (default).
    Estimate,
    /// All that was held.
    Hold,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(20),
            client_gone: Charged::ReportedOrEstimate,
            upstream_error: Charged::ReportedOrEstimate,
            bill_on_upstream_failure: false,
            missing_usage: MissingUsage::Estimate,
        }
    }
}

/// The keys that make a policy, wherever they stand.
pub(super) const NAMES: [&str; 4] =
    ["on_client_gone", "on_upstream_error", "bill_on_upstream_failure", "on_missing_usage"];
const GONE_KEYS: Keys = Keys::new(&["drain_up_to", "then", "charge"], &[]);
const ERROR_KEYS: Keys = Keys::new(&["before_output", "after_output"], &[]);

/// Reads a policy; what is not written is as in `default`.
pub(super) fn read(section: &Section<'_>, default: Policy) -> Policy {
    let mut policy = default;
    if let Some(gone) = section.section("on_client_gone", GONE_KEYS) {
        policy.drain = gone.value("drain_up_to", value::duration_or_none).unwrap_or(policy.drain);
        gone.only("then", "cancel");
        // Whoever leaves may not do so for free.
        let charge =
            gone.value("charge", |text| charged(text, &[Charged::ReportedOrEstimate, Charged::ReportedOnly]));
        policy.client_gone = charge.unwrap_or(policy.client_gone);
    }
    if let Some(error) = section.section("on_upstream_error", ERROR_KEYS) {
        error.only("before_output", "free");
        let all = [Charged::ReportedOrEstimate, Charged::ReportedOnly, Charged::Free];
        let after = error.value("after_output", |text| charged(text, &all));
        policy.upstream_error = after.unwrap_or(policy.upstream_error);
    }
    let bills = section.value("bill_on_upstream_failure", value::flag);
    policy.bill_on_upstream_failure = bills.unwrap_or(policy.bill_on_upstream_failure);
    policy.missing_usage = section.value("on_missing_usage", missing).unwrap_or(policy.missing_usage);
    policy
}

impl Charged {
    const fn name(self) -> &'static str {
        match self {
            Self::ReportedOrEstimate => "reported_or_estimate",
            Self::ReportedOnly => "reported_only",
            Self::Free => "free",
        }
    }
}

fn charged(text: &str, known: &[Charged]) -> Result<Charged, String> {
    let names: Vec<_> = known.iter().map(|charged| charged.name()).collect();
    let found = known.iter().find(|charged| charged.name() == text);
    found.copied().ok_or_else(|| format!("\"{text}\" is none of {}", names.join(", ")))
}

fn missing(text: &str) -> Result<MissingUsage, String> {
    match text {
        "estimate" => Ok(MissingUsage::Estimate),
        "hold" => Ok(MissingUsage::Hold),
        _ => Err(format!("\"{text}\" is neither estimate nor hold")),
    }
}
