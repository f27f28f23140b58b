//! Invoices that can still be paid: how many there may be, and which client asked for which (L402-61, L402-64).
//!
//! Two clients never get the same payment hash: every hop on a payment's way learns its preimage, and then the token is the
//! only secret left.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use money::Amount;
use tokio::sync::watch;

/// What must be left of an invoice's time for it to be shown again.
const TIME_LEFT_MIN_S: u64 = 30;

/// A client that asked for an invoice of this amount on this route: a hash over the three.
pub(crate) type Asker = [u8; 32];

/// An invoice, and what it sells, whichever way its payment is shown.
#[derive(Debug)]
pub(crate) struct Made {
    /// The lines of L402, with a token over its payment hash.
    pub(crate) lines: Vec<HeaderValue>,
    pub(crate) bolt11: String,
    pub(crate) payment_hash: [u8; 32],
    pub(crate) amount_msat: u64,
    /// What paying it is credited with.
    pub(crate) credit: Amount,
    pub(crate) expires_at_s: u64,
}

/// Why a challenge has no invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoInvoice {
    /// Nobody asked for one, or this cannot be sold over Lightning.
    NotWanted,
    /// The budget is spent for so long (L402-62).
    Spent(Duration),
    /// The node gives none, or nobody knows what a bitcoin costs.
    Out,
}

/// What came of asking the node; none yet while it is asked.
type Outcome = Option<Result<Arc<Made>, NoInvoice>>;

/// An invoice that is being made, or was.
#[derive(Clone)]
pub(crate) struct Slot(watch::Receiver<Outcome>);

impl Slot {
    /// Waits until the node has been asked.
    pub(crate) async fn made(mut self) -> Result<Arc<Made>, NoInvoice> {
        let outcome = self.0.wait_for(Option::is_some).await.map_err(|_| NoInvoice::Out)?;
        outcome.clone().unwrap_or(Err(NoInvoice::Out))
    }

    fn look(&self) -> Outcome {
        self.0.borrow().clone()
    }
}

/// The right to ask the node for one invoice, once. Dropped without one, its place is free.
pub(crate) struct Place {
    invoices: Arc<Invoices>,
    asker: Asker,
    number: u64,
    tell: watch::Sender<Outcome>,
    is_used: bool,
}

impl Place {
    /// Whoever waits is told.
    pub(crate) fn fill(mut self, made: Result<Made, NoInvoice>) {
        self.is_used = made.is_ok();
        self.tell.send_replace(Some(made.map(Arc::new)));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_used {
            self.invoices.give_back(&self.asker, self.number);
        }
    }
}

/// Invoices that can still be paid.
#[derive(Default)]
pub(crate) struct Invoices(Mutex<Open>);

/// How far a node has told what it got.
#[derive(Clone, Copy, Default)]
pub(crate) struct Heard {
    pub(crate) cursor: u64,
    /// Whether what it tells happens now.
    pub(crate) is_live: bool,
}

#[derive(Default)]
struct Open {
    /// Of the node with this name; another one begins anew.
    heard: Option<(String, Heard)>,
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
    /// The invoice of this client, if it has one that can be paid for a while, or is about to.
    pub(crate) fn find(&self, asker: &Asker, now_s: u64) -> Option<Slot> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &open.by_asker.get(asker)?.slot;
        let is_good = match slot.look() {
            Some(Ok(made)) => made.expires_at_s > now_s.saturating_add(TIME_LEFT_MIN_S),
            Some(Err(_)) => false,
            None => true,
        };
        is_good.then(|| slot.clone())
    }

    /// A place for one more invoice, which ends at `expires_at_s`.
    ///
    /// # Errors
    /// [`TooMany`]
    pub(crate) fn place(
        self: &Arc<Self>,
        asker: Asker,
        expires_at_s: u64,
        now_s: u64,
        open_max: usize,
    ) -> Result<(Place, Slot), TooMany> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.sweep(now_s);
        if open.ends.len() >= open_max {
            return Err(TooMany);
        }
        let number = open.next;
        open.next += 1;
        let (tell, told) = watch::channel(None);
        let slot = Slot(told);
        open.by_asker.insert(asker, Entry { slot: slot.clone(), number });
        open.ends.push_back((expires_at_s, asker, number));
        Ok((Place { invoices: Arc::clone(self), asker, number, tell, is_used: false }, slot))
    }

    /// No invoice came of it: the place is free.
    fn give_back(&self, asker: &Asker, number: u64) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.by_asker.get(asker).is_some_and(|entry| entry.number == number) {
            open.by_asker.remove(asker);
        }
        open.ends.retain(|(_, _, other)| *other != number);
    }

    /// The invoice has been paid: its client gets another one next time.
    pub(crate) fn paid(&self, payment_hash: &[u8; 32]) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |entry: &Entry| {
            entry.slot.look().and_then(Result::ok).is_some_and(|made| made.payment_hash == *payment_hash)
        };
        open.by_asker.retain(|_, entry| !is_it(entry));
    }

    /// How far this node has told.
    pub(crate) fn heard(&self, node: &str) -> Heard {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.heard.as_ref().filter(|(name, _)| name == node).map(|(_, heard)| *heard).unwrap_or_default()
    }

    pub(crate) fn hear(&self, node: &str, heard: Heard) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.heard = Some((node.to_owned(), heard));
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
    use std::sync::Arc;

    use money::Amount;

    use super::{Invoices, Made, NoInvoice, TooMany};

    fn made(payment_hash: u8, expires_at_s: u64) -> Made {
        Made {
            lines: Vec::new(),
            bolt11: String::new(),
            payment_hash: [payment_hash; 32],
            amount_msat: 0,
            credit: Amount::ZERO,
            expires_at_s,
        }
    }

    #[test]
    fn l402_64_one_client_has_one_invoice_until_it_is_paid_or_nearly_over() {
        let invoices = Arc::new(Invoices::default());
        assert!(invoices.find(&[1; 32], 1000).is_none());
        let (place, _) = invoices.place([1; 32], 1300, 1000, 9).unwrap();
        assert!(invoices.find(&[1; 32], 1000).is_some(), "who asks meanwhile waits for the same");
        place.fill(Ok(made(7, 1300)));
        let again = |now_s| {
            let slot = invoices.find(&[1; 32], now_s)?;
            slot.look()?.ok().map(|made| made.payment_hash)
        };
        assert_eq!((again(1000), again(1269), again(1270)), (Some([7; 32]), Some([7; 32]), None));
        assert!(invoices.find(&[2; 32], 1000).is_none(), "nobody gets another's");
        invoices.paid(&[7; 32]);
        assert_eq!(again(1000), None);
        assert_eq!(invoices.open(1000), 1, "the node still has it");
        assert_eq!(invoices.open(1300), 0);
    }

    #[test]
    fn l402_61_no_more_are_open_than_may_be() {
        let invoices = Arc::new(Invoices::default());
        let (first, _) = invoices.place([1; 32], 1300, 1000, 2).unwrap();
        let (second, _) = invoices.place([2; 32], 1300, 1000, 2).unwrap();
        assert_eq!(invoices.place([3; 32], 1300, 1000, 2).err(), Some(TooMany));
        // One of which nothing came takes no place, one that is over neither.
        drop(first);
        let (third, _) = invoices.place([3; 32], 1310, 1000, 2).unwrap();
        assert_eq!(invoices.place([4; 32], 1300, 1000, 2).err(), Some(TooMany));
        third.fill(Err(NoInvoice::Out));
        let (fourth, _) = invoices.place([4; 32], 1310, 1000, 2).unwrap();
        second.fill(Ok(made(2, 1300)));
        fourth.fill(Ok(made(4, 1310)));
        assert!(invoices.place([5; 32], 1600, 1300, 2).is_ok());
    }

    /// Whoever waits for an invoice that is being made is told the same as who asked for it, and asks nobody.
    #[tokio::test]
    async fn l402_61_who_waits_is_told_the_same() {
        let invoices = Arc::new(Invoices::default());
        let (place, slot) = invoices.place([1; 32], 1300, 1000, 9).unwrap();
        let other = invoices.find(&[1; 32], 1000).unwrap();
        place.fill(Err(NoInvoice::Out));
        assert_eq!(slot.made().await.unwrap_err(), NoInvoice::Out);
        assert_eq!(other.made().await.unwrap_err(), NoInvoice::Out);
        let (place, slot) = invoices.place([1; 32], 1300, 1000, 9).unwrap();
        drop(place);
        assert_eq!(slot.made().await.unwrap_err(), NoInvoice::Out, "nobody waits for ever");
    }
}
