//! Streams that wait for money on an account. Whatever may let them go on wakes them, on whichever thread: a deposit, a
//! hold that has ended, another state of the account, the end of the gateway. Nobody polls (ENG-8).

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::task::{Poll, Waker};

use dashmap::DashMap;
use ledger::AccountId;

/// Streams of one account that may wait at a time: each keeps an answer of an upstream open that nobody pays for.
const PER_ACCOUNT_MAX: usize = 64;

/// Everybody who waits.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    waiting: DashMap<AccountId, Vec<Place>>,
    /// How many they are: that nobody waits is seen without a lock.
    count: AtomicUsize,
    next: AtomicU64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    /// None from when it was woken until it listens again.
    waker: Option<Waker>,
}

/// One who waits; dropped, he does not.
#[derive(Debug)]
pub(crate) struct Waiter {
    arrivals: Arc<Arrivals>,
    account: AccountId,
    number: u64,
}

impl Arrivals {
    /// A place among those who wait for an account. None: too many do.
    pub(crate) fn wait(self: &Arc<Self>, account: AccountId) -> Option<Waiter> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut places = self.waiting.entry(account).or_default();
        if places.len() >= PER_ACCOUNT_MAX {
            return None;
        }
        places.push(Place { number, waker: None });
        drop(places);
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(Waiter { arrivals: Arc::clone(self), account, number })
    }

    /// Waits until something is so of an account; not at all where too many wait.
    pub(crate) async fn until(self: &Arc<Self>, account: AccountId, is_so: impl Fn() -> bool) {
        let Some(waiter) = self.wait(account) else { return };
        poll_fn(|cx| {
            waiter.listen(cx.waker());
            if is_so() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Something about an account has changed for the better, or for good. Comes after the change.
    pub(crate) fn wake(&self, account: AccountId) {
        if self.is_empty() {
            return;
        }
        // Woken outside the lock: whoever is woken may want it.
        let wakers: Vec<Waker> = match self.waiting.get_mut(&account) {
            Some(mut places) => places.iter_mut().filter_map(|place| place.waker.take()).collect(),
            None => return,
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// As [`Arrivals::wake`], for every account.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> = self
            .waiting
            .iter_mut()
            .flat_map(|mut places| {
                places.iter_mut().filter_map(|place| place.waker.take()).collect::<Vec<_>>()
            })
            .collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether nobody waits. Whoever has changed a balance before he asks this, and whoever listens before he looks at
    /// it, do not miss each other: of two that each write and then read, one at least sees what the other wrote.
    fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst);
        self.count.load(Ordering::Relaxed) == 0
    }
}

impl Waiter {
    /// Wants to be woken from now on. Comes before the look at what is waited for: what happens after that look wakes.
    pub(crate) fn listen(&self, waker: &Waker) {
        if let Some(mut places) = self.arrivals.waiting.get_mut(&self.account)
            && let Some(place) = places.iter_mut().find(|place| place.number == self.number)
        {
            match &mut place.waker {
                Some(known) => known.clone_from(waker),
                none @ None => *none = Some(waker.clone()),
            }
        }
        fence(Ordering::SeqCst);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.arrivals.waiting.remove_if_mut(&self.account, |_, places| {
            places.retain(|place| place.number != self.number);
            places.is_empty()
        });
        self.arrivals.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use std::thread;

    use ledger::AccountId;

    use super::{Arrivals, PER_ACCOUNT_MAX};

    const ONE: AccountId = AccountId([1; 16]);
    const OTHER: AccountId = AccountId([2; 16]);

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn eng_8_who_waits_is_woken_once_for_his_own_account() {
        let arrivals = Arc::new(Arrivals::default());
        let (mine, others) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let (first, second) = (arrivals.wait(ONE).unwrap(), arrivals.wait(OTHER).unwrap());
        arrivals.wake(ONE);
        assert_eq!(mine.times(), 0, "nobody listens yet");
        first.listen(&Waker::from(Arc::clone(&mine)));
        second.listen(&Waker::from(Arc::clone(&others)));
        arrivals.wake(ONE);
        arrivals.wake(ONE);
        assert_eq!((mine.times(), others.times()), (1, 0));
        first.listen(&Waker::from(Arc::clone(&mine)));
        arrivals.wake_all();
        assert_eq!((mine.times(), others.times()), (2, 1));
        drop((first, second));
        assert!(arrivals.is_empty() && arrivals.waiting.is_empty(), "nothing is left of who has gone");
    }

    #[test]
    fn an_account_has_only_so_many_who_wait() {
        let arrivals = Arc::new(Arrivals::default());
        let mut all: Vec<_> = (0..PER_ACCOUNT_MAX).map(|_| arrivals.wait(ONE).unwrap()).collect();
        assert!(arrivals.wait(ONE).is_none());
        assert!(arrivals.wait(OTHER).is_some(), "another account has its own");
        all.pop();
        assert!(arrivals.wait(ONE).is_some());
    }

    /// Whoever listens and then finds nothing is woken by what comes after that, whatever thread it comes from.
    #[test]
    fn eng_8_no_deposit_is_missed() {
        for _ in 0..2000 {
            let (arrivals, balance) = (Arc::new(Arrivals::default()), Arc::new(AtomicI64::new(0)));
            let depositor = {
                let (arrivals, balance) = (Arc::clone(&arrivals), Arc::clone(&balance));
                thread::spawn(move || {
                    balance.fetch_add(1, Ordering::AcqRel);
                    arrivals.wake(ONE);
                })
            };
            let woken = Arc::new(Woken::default());
            let waiter = arrivals.wait(ONE).unwrap();
            waiter.listen(&Waker::from(Arc::clone(&woken)));
            let found = balance.load(Ordering::Acquire) > 0;
            depositor.join().unwrap();
            assert!(found || woken.times() == 1, "a deposit came, and nobody was told");
        }
    }
}
