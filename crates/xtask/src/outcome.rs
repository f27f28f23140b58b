//! What a command of this tool counted.

use std::fmt;

/// Checks that passed, failed and were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Ran and held.
    pub(crate) passed: u32,
    /// Ran and did not hold, or could not run though it had to.
    pub(crate) failed: u32,
    /// Left out, with a printed reason.
    pub(crate) skipped: u32,
}

impl Outcome {
    /// Both counts together.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}
