//! How long something took, for people. Nothing is decided by it.

use std::fmt;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Timing {
    took: Vec<Duration>,
}

impl Timing {
    /// Takes in what was measured elsewhere.
    pub(super) fn add(&mut self, took: Duration) {
        self.took.push(took);
    }

    /// Does it, and keeps how long it took.
    pub(super) fn of<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = what();
        self.took.push(began.elapsed());
        done
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let micros = |at: Option<&Duration>| at.map_or(0, Duration::as_micros);
        let (median, max) = (micros(sorted.get(sorted.len() / 2)), micros(sorted.last()));
        let ms = |micros: u128| format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
        write!(f, "p50 {} max {}", ms(median), ms(max))
    }
}
