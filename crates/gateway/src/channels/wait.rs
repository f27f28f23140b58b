//! When something on a chain may be tried again.

/// Wait after a look or a claim that came to nothing, doubled each time, and the longest.
const WAIT_MS: u64 = 2_000;
const WAIT_MS_MAX: u64 = 300_000;

/// Of one channel, or of what is claimed together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wait {
    tries: u32,
    next_ms: u64,
    /// When the operator was told of it last.
    pub(crate) alarmed_ms: u64,
}

impl Wait {
    pub(crate) fn failed(&mut self, now_ms: u64) {
        let wait_ms = (WAIT_MS << self.tries.min(10)).min(WAIT_MS_MAX);
        self.tries = self.tries.saturating_add(1);
        self.next_ms = now_ms.saturating_add(wait_ms);
    }

    pub(crate) const fn went_well(&mut self) {
        (self.tries, self.next_ms) = (0, 0);
    }

    pub(crate) const fn is_over(&self, now_ms: u64) -> bool {
        self.next_ms <= now_ms
    }
}
