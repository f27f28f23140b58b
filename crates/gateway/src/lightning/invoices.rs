//! Invoices that can still be paid: how many there may be, and which client asked for which (L402-61, L402-64).
//!
//! Two clients never get the same payment hash: every hop on a payment's way learns its preimage, and then the token is the
//! only secret left.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use tokio::sync::OnceCell;

/// What must be left of an invoice's time for it to be shown again.
const TIME_LEFT_MIN_S: u64 = 30;

/// A client that asked for an invoice of this amount on this route: a hash over the three.
pub(crate) type Asker = [u8; 32];

/// The lines of a challenge, and what they sell.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) lines: Vec<HeaderValue>,
    pub(crate) payment_hash: [u8; 32],
    pub(crate) expires_at_s: u64,
}

/// An invoice that is being made, or was.
pub(crate) type Slot = Arc<OnceCell<Made>>;

/// Invoices that can still be paid.
#[derive(Default)]
pub(crate) struct Invoices(Mutex<Open>);

#[derive(Default)]
struct Open {
    by_asker: HashMap<Asker, Entry>,
    /// In the order of their ends, as all have the same time but for a reload.
    ends: VecDeque<(u64, Asker, u64)>,
    next: u64,
}

struct Entry {
    slot: Slot,
    number: u64,
}

/// As many invoices can be paid as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Invoices {
    /// The invoice of this client, if it has one that can be paid for a while.
    pub(crate) fn find(&self, asker: &Asker, now_s: u64) -> Option<Slot> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &open.by_asker.get(asker)?.slot;
        let is_good = match slot.get() {
            Some(made) => made.expires_at_s > now_s.saturating_add(TIME_LEFT_MIN_S),
            // Somebody is asking the node for it just now.
            None => true,
        };
        is_good.then(|| Arc::clone(slot))
    }

    /// A place for one more invoice, which ends at `expires_at_s`.
    ///
    /// # Errors
    /// [`TooMany`]
    pub(crate) fn place(
        &self,
        asker: Asker,
        expires_at_s: u64,
        now_s: u64,
        open_max: usize,
    ) -> Result<Slot, TooMany> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.sweep(now_s);
        if open.ends.len() >= open_max {
            return Err(TooMany);
        }
        let number = open.next;
        open.next += 1;
        let slot = Slot::default();
        open.by_asker.insert(asker, Entry { slot: Arc::clone(&slot), number });
        open.ends.push_back((expires_at_s, asker, number));
        Ok(slot)
    }

    /// No invoice came of it: the place is free.
    pub(crate) fn give_back(&self, asker: &Asker, slot: &Slot) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = open.by_asker.get(asker).filter(|entry| Arc::ptr_eq(&entry.slot, slot)) else {
            return;
        };
        let number = entry.number;
        open.by_asker.remove(asker);
        open.ends.retain(|(_, _, other)| *other != number);
    }

    /// The invoice has been paid: its client gets another one next time.
    pub(crate) fn paid(&self, payment_hash: &[u8; 32]) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |entry: &Entry| entry.slot.get().is_some_and(|made| made.payment_hash == *payment_hash);
        open.by_asker.retain(|_, entry| !is_it(entry));
    }

    /// How many can be paid now.
    pub(crate) fn open(&self, now_s: u64) -> usize {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.sweep(now_s);
        open.ends.len()
    }
}

impl Open {
    fn sweep(&mut self, now_s: u64) {
        while let Some((_, asker, number)) = self.ends.front().filter(|(end, ..)| *end <= now_s) {
            if self.by_asker.get(asker).is_some_and(|entry| entry.number == *number) {
                self.by_asker.remove(asker);
            }
            self.ends.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Invoices, Made, TooMany};

    fn made(payment_hash: u8, expires_at_s: u64) -> Made {
        Made { lines: Vec::new(), payment_hash: [payment_hash; 32], expires_at_s }
    }

    #[test]
    fn l402_64_one_client_has_one_invoice_until_it_is_paid_or_nearly_over() {
        let invoices = Invoices::default();
        assert!(invoices.find(&[1; 32], 1000).is_none());
        let slot = invoices.place([1; 32], 1300, 1000, 9).unwrap();
        slot.set(made(7, 1300)).unwrap();
        let again =
            |now_s| invoices.find(&[1; 32], now_s).and_then(|slot| slot.get().map(|made| made.payment_hash));
        assert_eq!((again(1000), again(1269), again(1270)), (Some([7; 32]), Some([7; 32]), None));
        assert!(invoices.find(&[2; 32], 1000).is_none(), "nobody gets another's");
        invoices.paid(&[7; 32]);
        assert_eq!(again(1000), None);
        assert_eq!(invoices.open(1000), 1, "the node still has it");
        assert_eq!(invoices.open(1300), 0);
    }

    #[test]
    fn l402_61_no_more_are_open_than_may_be() {
        let invoices = Invoices::default();
        let first = invoices.place([1; 32], 1300, 1000, 2).unwrap();
        invoices.place([2; 32], 1300, 1000, 2).unwrap();
        assert_eq!(invoices.place([3; 32], 1300, 1000, 2).err(), Some(TooMany));
        // One of which nothing came takes no place, one that is over neither.
        invoices.give_back(&[1; 32], &first);
        assert!(invoices.place([3; 32], 1310, 1000, 2).is_ok());
        assert!(invoices.place([4; 32], 1600, 1300, 2).is_ok());
        assert_eq!(invoices.open(1300), 2);
    }
}
