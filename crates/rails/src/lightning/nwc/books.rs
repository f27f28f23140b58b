//! Payments that the wallet has told of, the newest of them: for accounting, which may miss some and asks then.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::lightning::port::Settled;

/// Most payments that are remembered. The oldest are forgotten.
const PAYMENTS_MAX: usize = 1024;

/// The newest payments, each with a cursor of its own that grows, also over a restart.
#[derive(Debug)]
pub(super) struct Books {
    payments: Mutex<VecDeque<Settled>>,
    newest: watch::Sender<u64>,
}

impl Default for Books {
    fn default() -> Self {
        Self { payments: Mutex::default(), newest: watch::Sender::new(0) }
    }
}

impl Books {
    /// Writes a payment down, once. `now_us` is the clock.
    pub(super) fn note(&self, payment_hash: [u8; 32], msat: u64, now_us: u64) {
        let mut payments = self.payments.lock().unwrap_or_else(PoisonError::into_inner);
        if payments.iter().any(|known| known.payment_hash == payment_hash) {
            return;
        }
        let last = payments.back().map_or(0, |last| last.cursor);
        let cursor = now_us.max(last.saturating_add(1));
        if payments.len() == PAYMENTS_MAX {
            payments.pop_front();
        }
        payments.push_back(Settled { payment_hash, msat, cursor });
        drop(payments);
        self.newest.send_replace(cursor);
    }

    /// What came after `cursor`.
    pub(super) fn after(&self, cursor: u64) -> Vec<Settled> {
        let payments = self.payments.lock().unwrap_or_else(PoisonError::into_inner);
        payments.iter().filter(|payment| payment.cursor > cursor).copied().collect()
    }

    /// The same, as soon as there is something.
    pub(super) async fn wait_after(&self, cursor: u64) -> Vec<Settled> {
        let mut newest = self.newest.subscribe();
        // The sender lives in the same value: it cannot be gone.
        let _ = newest.wait_for(|newest| *newest > cursor).await;
        self.after(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::{Books, PAYMENTS_MAX};

    #[test]
    fn each_payment_once_and_cursors_grow() {
        let books = Books::default();
        for (hash, now_us) in [(1, 100), (1, 200), (2, 100), (3, 50), (4, 300)] {
            books.note([hash; 32], 1000, now_us);
        }
        let told = |cursor| books.after(cursor).iter().map(|paid| paid.payment_hash[0]).collect::<Vec<_>>();
        let cursors: Vec<_> = books.after(0).iter().map(|paid| paid.cursor).collect();
        assert_eq!(cursors, [100, 101, 102, 300]);
        assert_eq!((told(0), told(101), told(300)), (vec![1, 2, 3, 4], vec![3, 4], vec![]));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let books = Books::default();
        for number in 0..=PAYMENTS_MAX {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            books.note(hash, 1000, 1);
        }
        let kept = books.after(0);
        assert_eq!((kept.len(), kept[0].cursor), (PAYMENTS_MAX, 2));
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let books = Books::default();
        books.note([1; 32], 1000, 10);
        let (told, ()) = tokio::join!(books.wait_after(10), async { books.note([2; 32], 2000, 20) });
        assert_eq!((told.len(), told[0].msat), (1, 2000));
    }
}
