//! What became of each invoice and of each payment, as the node's events tell it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ldk_node::Event;
use ldk_node::lightning::events::PaymentFailureReason;
use tokio::sync::watch;

pub type Hash = [u8; 32];

#[derive(Clone, Copy)]
pub enum InvoiceState {
    Open,
    /// Paid, and held until somebody shows the preimage or gives up.
    Accepted {
        msat: u64,
    },
    Settled {
        at_s: u64,
        msat: u64,
        index: u64,
    },
    Cancelled,
}

#[derive(Clone)]
pub struct Invoice {
    pub bolt11: String,
    pub hash: Hash,
    pub memo: String,
    pub msat: u64,
    pub created_s: u64,
    pub expiry_s: u32,
    pub add_index: u64,
    pub state: InvoiceState,
}

#[derive(Clone)]
pub enum Payment {
    InFlight,
    Paid {
        preimage: Hash,
        fee_msat: u64,
    },
    /// In LND's words.
    Failed(&'static str),
}

/// What a subscriber is told.
#[derive(Clone, Copy)]
pub enum Entry {
    Added { index: u64, hash: Hash },
    Settled { index: u64, hash: Hash },
}

#[derive(Default)]
struct Pages {
    invoices: HashMap<Hash, Invoice>,
    payments: HashMap<Hash, Payment>,
    entries: Vec<Entry>,
    added: u64,
    settled: u64,
}

pub struct Book {
    pages: Mutex<Pages>,
    /// Goes up with every change.
    changes: watch::Sender<u64>,
}

impl Book {
    pub fn new() -> Self {
        Self { pages: Mutex::default(), changes: watch::Sender::new(0) }
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub fn add(&self, bolt11: String, hash: Hash, memo: String, msat: u64, expiry_s: u32) -> u64 {
        self.change(|pages| {
            pages.added += 1;
            let add_index = pages.added;
            pages.entries.push(Entry::Added { index: add_index, hash });
            let state = InvoiceState::Open;
            let invoice =
                Invoice { bolt11, hash, memo, msat, created_s: now_s(), expiry_s, add_index, state };
            pages.invoices.insert(hash, invoice);
            add_index
        })
    }

    /// An invoice as it stands now.
    pub fn invoice(&self, hash: &Hash) -> Option<Invoice> {
        self.pages().invoices.get(hash).cloned().map(Invoice::now)
    }

    /// All of them, in the order they were made.
    pub fn invoices(&self) -> Vec<Invoice> {
        let mut invoices: Vec<_> = self.pages().invoices.values().cloned().map(Invoice::now).collect();
        invoices.sort_unstable_by_key(|invoice| invoice.add_index);
        invoices
    }

    pub fn cancel(&self, hash: &Hash) {
        self.state(hash, |_| InvoiceState::Cancelled);
    }

    /// Whether this payment may be sent now: not if it is on its way or done. Then it is on its way.
    pub fn begin(&self, hash: Hash) -> bool {
        self.change(|pages| {
            let is_free = matches!(pages.payments.get(&hash), None | Some(Payment::Failed(_)));
            if is_free {
                pages.payments.insert(hash, Payment::InFlight);
            }
            is_free
        })
    }

    pub fn fail(&self, hash: Hash, reason: &'static str) {
        self.change(|pages| pages.payments.insert(hash, Payment::Failed(reason)));
    }

    pub fn payment(&self, hash: &Hash) -> Option<Payment> {
        self.pages().payments.get(hash).cloned()
    }

    pub fn entry(&self, number: usize) -> Option<Entry> {
        self.pages().entries.get(number).copied()
    }

    pub fn entries(&self) -> usize {
        self.pages().entries.len()
    }

    /// Writes down what the node tells.
    pub fn take(&self, event: Event) {
        match event {
            Event::PaymentSuccessful { payment_hash, payment_preimage, fee_paid_msat, .. } => {
                let Some(preimage) = payment_preimage else { return };
                let paid = Payment::Paid { preimage: preimage.0, fee_msat: fee_paid_msat.unwrap_or(0) };
                self.change(|pages| pages.payments.insert(payment_hash.0, paid));
            }
            Event::PaymentFailed { payment_hash: Some(hash), reason, .. } => {
                self.change(|pages| pages.payments.insert(hash.0, Payment::Failed(in_their_words(reason))));
            }
            Event::PaymentClaimable { payment_hash, claimable_amount_msat, .. } => {
                self.state(&payment_hash.0, |_| InvoiceState::Accepted { msat: claimable_amount_msat });
            }
            Event::PaymentReceived { payment_hash, amount_msat, .. } => {
                let settled = |index| InvoiceState::Settled { at_s: now_s(), msat: amount_msat, index };
                self.state(&payment_hash.0, settled);
            }
            _ => {}
        }
    }

    /// Gives an invoice another state; a settled one is entered with the index that `state` gets.
    fn state(&self, hash: &Hash, state: impl FnOnce(u64) -> InvoiceState) {
        self.change(|pages| {
            let index = pages.settled + 1;
            let Some(invoice) = pages.invoices.get_mut(hash) else { return };
            invoice.state = state(index);
            if matches!(invoice.state, InvoiceState::Settled { .. }) {
                pages.settled = index;
                pages.entries.push(Entry::Settled { index, hash: *hash });
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Pages) -> T) -> T {
        let changed = change(&mut self.pages());
        self.changes.send_modify(|count| *count += 1);
        changed
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Invoice {
    /// One that nobody paid in time is cancelled.
    fn now(mut self) -> Self {
        let expired = now_s() > self.created_s + u64::from(self.expiry_s);
        if expired && matches!(self.state, InvoiceState::Open) {
            self.state = InvoiceState::Cancelled;
        }
        self
    }
}

fn in_their_words(reason: Option<PaymentFailureReason>) -> &'static str {
    match reason {
        Some(PaymentFailureReason::RecipientRejected) => "FAILURE_REASON_INCORRECT_PAYMENT_DETAILS",
        Some(PaymentFailureReason::RouteNotFound) => "FAILURE_REASON_NO_ROUTE",
        Some(PaymentFailureReason::RetriesExhausted | PaymentFailureReason::PaymentExpired) => {
            "FAILURE_REASON_TIMEOUT"
        }
        Some(PaymentFailureReason::UserAbandoned) => "FAILURE_REASON_CANCELED",
        _ => "FAILURE_REASON_ERROR",
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
