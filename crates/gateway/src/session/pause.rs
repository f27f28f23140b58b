//! A stream that waits for its payer. Nothing is read from its upstream meanwhile, which stops sending when nobody reads; it
//! goes on when its hold can (ENG-8).

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::Need;
use super::arrivals::Waiter;

/// A stream that waits.
pub(crate) struct Pause {
    waiter: Waiter,
    over: Pin<Box<Sleep>>,
    /// What the payer was told last has to have come in, in all.
    told: u128,
}

/// How a stream that waits is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is held for again.
    Paid,
    /// It still lacks this.
    Lacks(Need),
    /// Nothing that comes in would help: the session, its account or the gateway has ended.
    Hopeless,
}

/// What waiting has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The stream goes on.
    GoesOn,
    /// More is wanted by now than the payer knows: he is told so, and the stream waits.
    Tells(Need),
    /// It ends: nothing came in time, or nothing would help.
    Over,
}

impl Pause {
    /// A stream that waits for `need` of which its payer is told now.
    pub(crate) fn begin(waiter: Waiter, need: &Need, grace: Duration) -> Self {
        Self { waiter, over: Box::pin(tokio::time::sleep(grace)), told: need.total }
    }

    /// Waits until the stream goes on or ends.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, look: impl FnOnce() -> Look) -> Poll<Waited> {
        // Before the look: what comes in after it wakes.
        self.waiter.listen(cx.waker());
        match look() {
            Look::Paid => Poll::Ready(Waited::GoesOn),
            Look::Hopeless => Poll::Ready(Waited::Over),
            // Another stream of the account has taken what came in, or it was too little and something else has its price.
            Look::Lacks(need) if need.total > self.told => {
                self.told = need.total;
                Poll::Ready(Waited::Tells(need))
            }
            Look::Lacks(_) => self.over.as_mut().poll(cx).map(|()| Waited::Over),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use ledger::AccountId;

    use super::super::arrivals::Arrivals;
    use super::{Look, Need, Pause, Waited};

    const ACCOUNT: AccountId = AccountId([1; 16]);
    const HOUR: Duration = Duration::from_secs(3600);

    fn lacks(total: u128) -> Look {
        Look::Lacks(need(total))
    }

    fn need(total: u128) -> Need {
        Need { total, event: total.to_string() }
    }

    /// A pause that was begun with a need of 10, and finds in turn what is given.
    async fn waited(grace: Duration, looks: &[Look]) -> (Waited, usize) {
        let arrivals = Arc::new(Arrivals::default());
        let mut pause = Pause::begin(arrivals.wait(ACCOUNT).unwrap(), &need(10), grace);
        let looks = RefCell::new(VecDeque::from(looks.to_vec()));
        let waiting = poll_fn(|cx| {
            let waited = pause.poll(cx, || looks.borrow_mut().pop_front().unwrap_or_else(|| lacks(10)));
            if waited.is_pending() && !looks.borrow().is_empty() {
                arrivals.wake(ACCOUNT);
            }
            waited
        });
        let waited = waiting.await;
        (waited, looks.borrow().len())
    }

    /// ENG-8: what a stream that waits finds, and what becomes of it.
    #[tokio::test]
    async fn eng_8_what_waiting_comes_to() {
        for (looks, expected) in [
            (vec![Look::Paid], Waited::GoesOn),
            (vec![lacks(10), Look::Paid], Waited::GoesOn),
            // What the payer knows is not told again: once for each exhaustion.
            (vec![lacks(10), lacks(9), Look::Paid], Waited::GoesOn),
            (vec![lacks(10), lacks(11)], Waited::Tells(need(11))),
            (vec![lacks(10), Look::Hopeless], Waited::Over),
        ] {
            assert_eq!(waited(HOUR, &looks).await, (expected, 0), "{looks:?}");
        }
        assert_eq!(waited(Duration::ZERO, &[lacks(10)]).await.0, Waited::Over, "the time is over");
        assert_eq!(waited(Duration::ZERO, &[Look::Paid]).await.0, Waited::GoesOn, "money beats the clock");
    }

    /// A deposit of another thread wakes; no time passes.
    #[tokio::test]
    async fn eng_8_a_deposit_of_another_thread_lets_it_go_on() {
        let arrivals = Arc::new(Arrivals::default());
        let mut pause = Pause::begin(arrivals.wait(ACCOUNT).unwrap(), &need(10), HOUR);
        let paid = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut depositor = Some((Arc::clone(&arrivals), Arc::clone(&paid)));
        let waited = poll_fn(|cx| {
            let is_paid = paid.load(std::sync::atomic::Ordering::SeqCst);
            let waited = pause.poll(cx, || if is_paid { Look::Paid } else { lacks(10) });
            // Only now, when nobody looks any more.
            if let Some((arrivals, paid)) = depositor.take() {
                std::thread::spawn(move || {
                    paid.store(true, std::sync::atomic::Ordering::SeqCst);
                    arrivals.wake(ACCOUNT);
                });
            }
            waited
        });
        assert_eq!(waited.await, Waited::GoesOn);
    }
}
