//! How long a call waits before it asks again what became of it.

use std::time::Duration;

use crate::Patience;

/// The pauses between replays.
pub(crate) struct Pauses {
    patience: Patience,
    left: u32,
}

impl Pauses {
    pub(crate) const fn new(patience: Patience) -> Self {
        Self { patience, left: patience.replays }
    }

    /// How long to wait, or `None` when it is enough. `after` is what the seller asks for.
    pub(crate) fn next(&mut self, after: Option<Duration>) -> Option<Duration> {
        let made = self.patience.replays.saturating_sub(self.left);
        self.left = self.left.checked_sub(1)?;
        let Some(asked) = after else {
            let doubled = self.patience.wait_min.saturating_mul(2u32.saturating_pow(made));
            return Some(doubled.min(self.patience.wait_max));
        };
        (asked <= self.patience.wait_max).then(|| asked.max(self.patience.wait_min))
    }
}
