//! The clock of an answer of which nothing comes.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::sending::Sending;

/// Rings when nothing has come for so long.
pub(crate) struct Silence {
    after: Duration,
    alarm: Alarm,
    /// Since when nothing has come; none until that is asked.
    since: Option<Instant>,
    /// A request that still goes up is no silence.
    sending: Option<Sending>,
}

impl Silence {
    pub(crate) fn after(after: Duration, sending: Option<Sending>) -> Self {
        Self { after, alarm: Alarm::default(), since: None, sending }
    }

    /// Something has come, or has gone up.
    pub(crate) fn is_broken(&mut self) {
        self.since = None;
        if let Some(sending) = &self.sending {
            sending.touch();
        }
    }

    pub(crate) fn elapsed(&mut self, cx: &mut Context<'_>) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let moved = self.sending.as_ref().map_or(since, |sending| since.max(sending.moved()));
        self.alarm.rings(moved + self.after, cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::Silence;

    const AFTER: Duration = Duration::from_secs(10);

    async fn rings(silence: &mut Silence) -> bool {
        poll_fn(|cx| Poll::Ready(silence.elapsed(cx))).await
    }

    /// The timer was set for the first silence: of the next one it knows only when it rings.
    #[tokio::test(start_paused = true)]
    async fn only_what_lasts_is_silence() {
        let mut silence = Silence::after(AFTER, None);
        assert!(!rings(&mut silence).await);
        for _ in 0..5 {
            advance(AFTER - Duration::from_secs(1)).await;
            assert!(!rings(&mut silence).await);
            silence.is_broken();
            assert!(!rings(&mut silence).await);
        }
        advance(AFTER - Duration::from_secs(1)).await;
        assert!(!rings(&mut silence).await);
        advance(Duration::from_secs(1)).await;
        assert!(rings(&mut silence).await);
    }

    /// Whoever waits is woken when it is over, also where it began behind the timer's first time.
    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_in_time() {
        let mut silence = Silence::after(AFTER, None);
        assert!(!rings(&mut silence).await);
        advance(AFTER / 2).await;
        silence.is_broken();
        let since = Instant::now();
        poll_fn(|cx| if silence.elapsed(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        assert!((AFTER..AFTER + Duration::from_millis(10)).contains(&since.elapsed()));
    }
}
