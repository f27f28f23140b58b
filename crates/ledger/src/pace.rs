//! How often something may happen: the generic cell rate algorithm in one atomic word, so that a limit fits into the
//! record of what it limits (PERF-27).

use std::num::NonZeroU32;
use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

const NANOS_PER_MINUTE: u64 = 60_000_000_000;

/// So many at once, and from then on one at a time, evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What one of them takes up.
    every_ns: u64,
    /// How far the next may be ahead of its time.
    ahead_ns: u64,
}

impl Rate {
    /// This many a minute, which may all come at once.
    #[must_use]
    pub const fn per_minute(count: NonZeroU32) -> Self {
        // From 13 nanoseconds to a minute; the product is within a minute.
        let every_ns = NANOS_PER_MINUTE / count.get() as u64;
        Self { every_ns, ahead_ns: every_ns * (count.get() as u64 - 1) }
    }

    /// When the one after this is due, if this one was due at `due_ns` and comes at `now_ns`; else how much too early
    /// it is.
    const fn after(self, due_ns: u64, now_ns: u64) -> Result<u64, u64> {
        let earliest = due_ns.saturating_sub(self.ahead_ns);
        if now_ns < earliest {
            return Err(earliest - now_ns);
        }
        // Who comes late has saved nothing up.
        let from = if now_ns > due_ns { now_ns } else { due_ns };
        Ok(from.saturating_add(self.every_ns))
    }
}

/// One that came too early. It counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too early by {wait:?}")]
pub struct TooEarly {
    /// It is in time after that, unless another takes its place.
    pub wait: Duration,
}

/// What has happened so far, in one word: when the next is due. A new one has seen nothing.
///
/// Its rate may change from one time to the next: what has happened counts, for a minute at most.
#[derive(Debug)]
pub struct Pace {
    /// Nanoseconds of the caller's clock.
    due_ns: AtomicU64,
}

impl Pace {
    /// Counts one more at `now_ns`: nanoseconds since any moment, as long as it is the same moment each time and the
    /// clock never goes back.
    ///
    /// # Errors
    /// [`TooEarly`]: come again after its time.
    pub fn admit(&self, rate: Rate, now_ns: u64) -> Result<(), TooEarly> {
        // The word is all there is to agree on: nothing else is read or written by its order.
        let counted = self
            .due_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| rate.after(due, now_ns).ok());
        counted.map(|_| ()).map_err(|due| {
            let early_ns = rate.after(due, now_ns).err().unwrap_or_default();
            TooEarly { wait: Duration::from_nanos(early_ns) }
        })
    }

    /// Whether nothing has been counted yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.due_ns.load(Ordering::Relaxed) == 0
    }

    /// Takes over what another has counted, of the same clock.
    pub fn follow(&self, other: &Self) {
        self.due_ns.fetch_max(other.due_ns.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { due_ns: AtomicU64::new(0) }
    }
}

#[cfg(test)]
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::{Pace, Rate, TooEarly};

    const SECOND: u64 = 1_000_000_000;

    fn per_minute(count: u32) -> Rate {
        Rate::per_minute(NonZeroU32::new(count).unwrap())
    }

    fn early(nanos: u64) -> Result<(), TooEarly> {
        Err(TooEarly { wait: Duration::from_nanos(nanos) })
    }

    /// Three at once, then one every twenty seconds; who was refused has taken nobody's place.
    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let (pace, rate) = (Pace::default(), per_minute(3));
        for (second, expected) in [
            (5, Ok(())),
            (5, Ok(())),
            (6, Ok(())),
            (6, early(19 * SECOND)),
            (24, early(SECOND)),
            (25, Ok(())),
            (44, early(SECOND)),
            // All three again: more is not saved up.
            (500, Ok(())),
            (500, Ok(())),
            (500, Ok(())),
            (500, early(20 * SECOND)),
        ] {
            assert_eq!(pace.admit(rate, second * SECOND), expected, "at {second} s");
        }
    }

    #[test]
    fn one_that_follows_another_is_where_that_is() {
        let ([pace, new], rate) = ([Pace::default(), Pace::default()], per_minute(2));
        assert_eq!((pace.admit(rate, 7), pace.is_new(), new.is_new()), (Ok(()), false, true));
        new.follow(&pace);
        assert_eq!((new.admit(rate, 7), new.is_new()), (Ok(()), false));
        assert_eq!(new.admit(rate, 7), early(30 * SECOND));
        new.follow(&pace);
        assert_eq!(new.admit(rate, 7), early(30 * SECOND), "nothing is taken back");
    }

    /// What was admitted under one rate counts under the next, and is over within a minute.
    #[test]
    fn a_rate_that_changes() {
        let pace = Pace::default();
        assert_eq!(pace.admit(per_minute(1), 0), Ok(()));
        assert_eq!(pace.admit(per_minute(2), 0), early(30 * SECOND));
        assert_eq!(pace.admit(per_minute(60), 0), early(SECOND));
        assert_eq!(pace.admit(per_minute(1), 59 * SECOND), early(SECOND));
        assert_eq!(pace.admit(per_minute(1), 60 * SECOND), Ok(()));
    }

    #[test]
    fn the_ends_of_the_range() {
        let pace = Pace::default();
        assert_eq!(pace.admit(per_minute(u32::MAX), u64::MAX), Ok(()));
        assert_eq!(pace.admit(per_minute(1), u64::MAX), Ok(()));
        let earlier = pace.admit(per_minute(1), 0);
        assert_eq!(earlier, early(u64::MAX));
    }
}
