//! How fast strangers can make us ask others: one bound for all of them together (IDN-15).

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::random;

/// A few questions at once, then one in a while.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Questions that need not wait, after a quiet time.
    pub burst: u32,
    /// Between two questions otherwise.
    pub every: Duration,
    /// Up to so much more, at random, so that gateways that start together do not ask together.
    pub jitter: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { burst: 8, every: Duration::from_millis(500), jitter: Duration::from_millis(250) }
    }
}

/// Where a [`Pace`] stands.
#[derive(Debug)]
pub(super) struct Pacing {
    pace: Pace,
    /// When the next question would be asked if none could be asked at once.
    next: Instant,
}

impl Pacing {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, next: Instant::now() }
    }

    /// Waits for the turn of one question.
    pub(super) async fn turn(&mut self) {
        let now = Instant::now();
        self.next = self.next.max(now) + self.pace.every;
        let burst = self.pace.every * self.pace.burst;
        let share = part(random::spread(), self.pace.jitter);
        sleep_until(self.next.checked_sub(burst).unwrap_or(now).max(now) + share).await;
    }
}

/// A part of `whole`, by a random number.
fn part(random: u16, whole: Duration) -> Duration {
    whole * u32::from(random) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Pace, Pacing};

    #[tokio::test(start_paused = true)]
    async fn idn_15_a_few_at_once_then_one_in_a_while() {
        let every = Duration::from_millis(500);
        let mut pacing = Pacing::new(Pace { burst: 3, every, jitter: Duration::ZERO });
        let start = Instant::now();
        let mut waited = Vec::new();
        for _ in 0..6 {
            pacing.turn().await;
            waited.push(start.elapsed().as_millis());
        }
        assert_eq!(waited, [0, 0, 0, 500, 1000, 1500]);
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..3 {
            pacing.turn().await;
        }
        assert_eq!(start.elapsed().as_millis(), 0, "a quiet time gives the burst back");
        let mut pacing = Pacing::new(Pace { burst: 1, every, jitter: every });
        let start = Instant::now();
        pacing.turn().await;
        assert!(start.elapsed() <= every);
    }
}
