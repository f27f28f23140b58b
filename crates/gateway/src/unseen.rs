//! Models whose output is not all seen: what they think is in the provider's report only, at the end. A hold
//! cannot follow it, so their calls are held for whole (MTR-35).
//!
//! Learned from reports, for as long as the process lives. `metering.hold.step: whole` does not wait for that.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use meter::Metered;

/// Models remembered at most; the prices bound how many there can be, unless a pattern sells any name.
const MODELS_MAX: usize = 1024;

/// Names of models, as requests spell them.
#[derive(Debug, Default)]
pub(crate) struct Unseen(ArcSwap<HashSet<String>>);

impl Unseen {
    /// Whether this model was seen to generate more than it shows.
    pub(crate) fn has(&self, model: &str) -> bool {
        self.0.load().contains(model)
    }

    /// Learns from the end of a call.
    pub(crate) fn learn(&self, model: &str, metered: &Metered) {
        if !is_unseen(metered) || self.has(model) {
            return;
        }
        tracing::info!(model, "this model generates more than it shows: its streams are held for whole");
        self.0.rcu(|known| {
            let mut next = HashSet::clone(known);
            if next.len() < MODELS_MAX {
                next.insert(model.to_owned());
            }
            Arc::new(next)
        });
    }
}

/// A token has a byte at least: more tokens than bytes were not shown.
fn is_unseen(metered: &Metered) -> bool {
    let Some(usage) = &metered.usage else { return false };
    let thought = usage.reasoning.is_some_and(|tokens| tokens > metered.reasoning_bytes);
    let generated = usage.output_total.is_some_and(|tokens| tokens > metered.output_bytes());
    !metered.opaque && (thought || generated)
}
