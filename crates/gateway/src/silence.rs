//! The clock of an answer of which nothing comes.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::sending::Sending;

/// Rings when nothing has come for so long. What comes moves no timer: that is looked at when it rings, which is once for
/// each such time and not for each event.
pub(crate) struct Silence {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Since when nothing has come; none until that is asked.
    since: Option<Instant>,
    /// A request that still goes up is no silence.
    sending: Option<Sending>,
}

impl Silence {
    pub(crate) const fn after(after: Duration, sending: Option<Sending>) -> Self {
        Self { after, sleep: None, since: None, sending }
    }

    /// Something has come, or has gone up.
    pub(crate) fn is_broken(&mut self) {
        self.since = None;
        if let Some(sending) = &self.sending {
            sending.touch();
        }
    }

    pub(crate) fn elapsed(&mut self, cx: &mut Context<'_>) -> bool {
        let (after, since) = (self.after, *self.since.get_or_insert_with(Instant::now));
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(since + after)));
        while sleep.as_mut().poll(cx).is_ready() {
            let moved = self.sending.as_ref().map_or(since, |sending| since.max(sending.moved()));
            let deadline = moved + after;
            if deadline <= Instant::now() {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
        false
    }
}
