//! Connections that wait for the next question: a payment need not wait for a handshake (X402-40).
//!
//! A service may close one just when it is asked over, and nobody knows then whether it has acted. So none waits for
//! as long as any usual server lets it, and one that is found closed is not asked over. Where it happens all the same the
//! question is lost, and never sent again: what becomes of that is decided by whoever asks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;
use crate::dial::Origin;

/// Longest wait for the next question. Usual servers close after two seconds at the earliest, most after five.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(1500);
/// Waiting connections, to all services together.
const WAITING_MAX: usize = 256;

/// The connections of one [`crate::dial::Dialer`]: to hosts that it has looked at, with the roots that it trusts.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    links: Vec<WaitingLink>,
    /// Whether somebody comes to close those that have waited for too long.
    is_swept: bool,
}

struct WaitingLink {
    origin: Origin,
    /// Whose runtime moves it.
    thread: ThreadId,
    until: Instant,
    link: Link,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} connections)", self.waiting().links.len())
    }
}

impl Kept {
    /// One to this service that still stands. The last that was put: the others may be closed meanwhile.
    pub(super) async fn take(&self, origin: &Origin) -> Option<Link> {
        loop {
            let mut link = self.pop(origin, Instant::now())?;
            if link.is_ready().await {
                return Some(link);
            }
        }
    }

    pub(super) fn pop(&self, origin: &Origin, now: Instant) -> Option<Link> {
        let mut waiting = self.waiting();
        waiting.links.retain(|waiting| waiting.until > now);
        let here = thread::current().id();
        let is_ours = |waiting: &WaitingLink| waiting.thread == here && waiting.origin == *origin;
        let place = waiting.links.iter().rposition(is_ours)?;
        Some(waiting.links.remove(place).link)
    }

    /// Lets it wait. Called within the runtime that it was made in.
    pub(super) fn put(self: &Arc<Self>, origin: &Origin, link: Link) {
        let mut waiting = self.waiting();
        if waiting.links.len() == WAITING_MAX {
            return;
        }
        let (thread, until) = (thread::current().id(), Instant::now() + WAIT_MAX);
        waiting.links.push(WaitingLink { origin: origin.clone(), thread, until, link });
        if !std::mem::replace(&mut waiting.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what has waited for too long, until nothing waits.
async fn sweep(kept: Weak<Kept>) {
    loop {
        tokio::time::sleep(WAIT_MAX).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut waiting = kept.waiting();
        let now = Instant::now();
        waiting.links.retain(|waiting| waiting.until > now);
        if waiting.links.is_empty() {
            waiting.is_swept = false;
            return;
        }
    }
}
