//! The one place that reads the clock; everything below takes `now`.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(u64);

impl Now {
    /// Reads the system clock. A clock before 1970 reads as 1970: every expiry check then fails closed
    /// on the payer's `validAfter`.
    #[must_use]
    pub fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// A moment that a test has chosen.
    #[cfg(test)]
    pub(crate) const fn of_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Unix seconds, rounded down.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }
}
