//! Whether the client of a call is still there while its answer has not begun. A call outlives its connection, so that
//! the loss of that stops no settlement; this is how the call learns of the loss.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The client of a call, as the call sees it.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    left: Cell<Option<Instant>>,
    leaving: Notify,
}

/// Kept by what the connection waits with. Dropped before the answer is there, the client has left.
pub(crate) struct Waiting(Option<Rc<Presence>>);

impl Presence {
    /// A client that waits from now on.
    pub(crate) fn waiting(self: &Rc<Self>) -> Waiting {
        Waiting(Some(Rc::clone(self)))
    }

    /// What is left of the time for which an answer is read on after its client has gone. All of it for a
    /// client that waited for the head.
    pub(crate) fn left_of(&self, drain: Duration) -> Duration {
        drain.saturating_sub(self.left.get().map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// Ends when the client left before the head of its answer came, and `drain` has passed since.
    pub(crate) async fn given_up(&self, drain: Duration) {
        // A permit is kept for whoever asks later, so that no leaving is missed.
        self.leaving.notified().await;
        tokio::time::sleep(self.left_of(drain)).await;
    }
}

impl Waiting {
    /// The answer begins: from here on its body shows whether the client stays.
    pub(crate) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(presence) = self.0.take() {
            presence.left.set(Some(Instant::now()));
            presence.leaving.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::Presence;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn is_given_up(presence: &Presence, drain: Duration) -> bool {
        let wait = if drain == Duration::ZERO { HOUR } else { Duration::ZERO };
        tokio::time::timeout(wait, presence.given_up(drain)).await.is_ok()
    }

    #[tokio::test]
    async fn a_client_that_left_is_waited_for_as_long_as_the_drain() {
        let presence = Rc::new(Presence::default());
        let waiting = presence.waiting();
        assert!(!is_given_up(&presence, HOUR).await, "nobody left");
        assert_eq!(presence.left_of(HOUR), HOUR);
        drop(waiting);
        assert!((HOUR / 2..HOUR).contains(&presence.left_of(HOUR)));
        assert!(is_given_up(&presence, Duration::ZERO).await);

        let presence = Rc::new(Presence::default());
        drop(presence.waiting());
        assert!(!is_given_up(&presence, HOUR).await, "the drain has just begun");
    }

    #[tokio::test]
    async fn a_client_that_was_answered_has_not_left() {
        let presence = Rc::new(Presence::default());
        presence.waiting().answered();
        assert!(!is_given_up(&presence, HOUR).await);
        assert_eq!(presence.left_of(HOUR), HOUR);
    }
}
