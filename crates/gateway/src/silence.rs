//! The clock of an answer of which nothing comes.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::sending::Sending;

/// Rings when nothing has come for so long.
pub(crate) struct Silence {
    after: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// A request that still goes up is no silence.
    sending: Option<Sending>,
}

impl Silence {
    pub(crate) const fn after(after: Duration, sending: Option<Sending>) -> Self {
        Self { after, sleep: None, waiting: false, sending }
    }

    /// Something has come, or has gone up.
    pub(crate) fn is_broken(&mut self) {
        self.waiting = false;
        if let Some(sending) = &self.sending {
            sending.touch();
        }
    }

    pub(crate) fn elapsed(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.waiting {
            self.wait_until(Instant::now() + self.after);
            self.waiting = true;
        }
        while self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
            let moved = self.sending.as_ref().map(|sending| sending.moved() + self.after);
            match moved.filter(|deadline| *deadline > Instant::now()) {
                Some(deadline) => self.wait_until(deadline),
                None => return true,
            }
        }
        false
    }

    fn wait_until(&mut self, deadline: Instant) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }
}
