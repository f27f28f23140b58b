//! Forgetting in time: what is remembered of calls for whoever repeats them (LED-20).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use store::Op;

use crate::clock::Now;
use crate::gate::Gate;

const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How much there will be to forget: what is written has an end, and as much ends as is written.
#[derive(Debug, Default)]
pub(crate) struct Retention(AtomicU64);

impl Retention {
    /// A call has been remembered on disk.
    pub(crate) fn remembered(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Sweeps to make now. The first one is for what earlier processes have written.
    fn sweeps(&self) -> u64 {
        let rows = self.0.swap(0, Ordering::Relaxed);
        1 + rows.div_ceil(store::SWEEP_ROWS_MAX as u64)
    }
}

/// Looks once a minute, for as long as the process lives.
pub(crate) async fn run(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    loop {
        tick.tick().await;
        gate.replays.forget_old();
        for _ in 0..gate.retention.sweeps() {
            if let Err(error) = gate.store.commit(Op::Sweep { now_ms: Now::read().millis() }).await {
                tracing::warn!(%error, "nothing could be forgotten");
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Retention;

    #[test]
    fn as_much_is_swept_as_was_written_and_a_little_more() {
        let retention = Retention::default();
        assert_eq!(retention.sweeps(), 1);
        for _ in 0..=store::SWEEP_ROWS_MAX {
            retention.remembered();
        }
        assert_eq!((retention.sweeps(), retention.sweeps()), (3, 1));
    }
}
