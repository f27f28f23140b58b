//! What counts while a connection is open: among all of them, and among those of its source.

use std::sync::Arc;

use dashmap::DashMap;

use crate::limits::{Slot, Slots, Source};
use crate::telemetry::Metrics;

/// Connections of each source.
pub(crate) type PerSource = Arc<DashMap<Source, Arc<Slots>>>;

/// An open connection, whatever became of it: a tunnel is one after its last request, too.
#[derive(Debug)]
pub(crate) struct Place {
    source: Source,
    per_source: PerSource,
    metrics: Arc<Metrics>,
    slots: Option<(Slot, Slot)>,
}

impl Place {
    pub(super) fn take(
        source: Source,
        slots: (Slot, Slot),
        per_source: &PerSource,
        metrics: &Arc<Metrics>,
    ) -> Self {
        metrics.connection_opened();
        Self { source, per_source: Arc::clone(per_source), metrics: Arc::clone(metrics), slots: Some(slots) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.connection_closed();
        drop(self.slots.take());
        self.per_source.remove_if(&self.source, |_, slots| slots.taken() == 0);
    }
}
