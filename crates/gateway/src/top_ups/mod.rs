//! Balance that is bought by order over a rail, balance for codes, and purchases on their way back (finance.md sections 2
//! to 4).
//!
//! An order is durable before its rail hears of it. A payment is credited by what the rail signs and by nothing else: its
//! notice, or its answer to our question. Both go the same way, whose one write has the payment's key, and so each
//! payment is credited once whatever comes how often in which order (RAIL-9, RAIL-12). A refund sets the balance aside
//! when it is asked for, and its rail is asked when the operator has agreed; until the rail has decided it is asked under
//! the same number.

mod codes;
mod crediting;
mod entries;
mod rail;
mod refunding;
mod starting;
mod watching;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::AccountId;
use store::{RefundState, StoreError, TopUpState};

pub(crate) use codes::{call_up, draw, hash_of};
pub(crate) use crediting::take_notice;
pub(crate) use entries::given_back;
pub(crate) use rail::Rail;
pub(crate) use refunding::{request, write_end};
pub(crate) use starting::{Wish, start};
pub(crate) use watching::run;

use crate::clock::Now;
use crate::gate::Gate;

/// Orders of one account that can be paid, at most.
const OPEN_PER_ACCOUNT_MAX: usize = 16;
/// Orders that can be paid, at most: each is asked about.
const OPEN_MAX: usize = 10_000;
/// Longer than a rail is waited for. Whoever asks and has told nothing by then has come to an end without a word.
const ASKING_MS: u64 = 600_000;

/// What a rail is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Open {
    /// An order that can be paid.
    Order([u8; 16]),
    /// A refund that the operator has agreed to.
    Refund([u8; 16]),
}

/// Orders and refunds that are not decided.
#[derive(Debug, Default)]
pub(crate) struct TopUps(Mutex<HashMap<Open, Standing>>);

#[derive(Clone, Copy, Debug)]
struct Standing {
    account: AccountId,
    /// Unix milliseconds.
    next_ms: u64,
}

impl TopUps {
    fn rows(&self) -> MutexGuard<'_, HashMap<Open, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another order of an account, to be asked about at this time. False: there are too many.
    fn admit(&self, id: [u8; 16], account: AccountId, next_ms: u64) -> bool {
        let mut rows = self.rows();
        let orders = |(open, _): &(&Open, &Standing)| matches!(open, Open::Order(_));
        let own = rows.iter().filter(orders).filter(|(_, standing)| standing.account == account).count();
        let is_known = rows.contains_key(&Open::Order(id));
        if !is_known && (own >= OPEN_PER_ACCOUNT_MAX || rows.len() >= OPEN_MAX) {
            return false;
        }
        rows.insert(Open::Order(id), Standing { account, next_ms });
        true
    }

    /// To be asked about at this time.
    pub(crate) fn watch(&self, open: Open, account: AccountId, next_ms: u64) {
        self.rows().insert(open, Standing { account, next_ms });
    }

    /// Again at this time, unless it was decided meanwhile.
    fn again(&self, open: Open, next_ms: u64) {
        if let Some(standing) = self.rows().get_mut(&open) {
            standing.next_ms = next_ms;
        }
    }

    /// It is decided.
    fn forget(&self, open: Open) {
        self.rows().remove(&open);
    }

    fn take_due(&self, now_ms: u64, most: usize) -> Vec<Open> {
        let mut rows = self.rows();
        let due = rows.iter_mut().filter(|(_, standing)| standing.next_ms <= now_ms);
        due.take(most)
            .map(|(open, standing)| {
                standing.next_ms = now_ms.saturating_add(ASKING_MS);
                *open
            })
            .collect()
    }

    /// How many orders and how many refunds.
    fn counts(&self) -> (usize, usize) {
        let rows = self.rows();
        let orders = rows.keys().filter(|open| matches!(open, Open::Order(_))).count();
        (orders, rows.len() - orders)
    }

    /// Takes up what earlier processes have left: what may have been paid or moved meanwhile is asked about at once.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) fn take_up(&self, gate: &Gate, now: Now) -> Result<(), StoreError> {
        let reader = gate.store.reader();
        for (id, order) in reader.top_ups()? {
            if order.state == TopUpState::Open {
                self.watch(Open::Order(id), AccountId(order.account), now.millis());
            }
        }
        for (id, refund) in reader.top_up_refunds()? {
            if refund.state == RefundState::Sent {
                self.watch(Open::Refund(id), AccountId(refund.account), now.millis());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ledger::AccountId;

    use super::{ASKING_MS, OPEN_PER_ACCOUNT_MAX, Open, TopUps};

    #[test]
    fn an_account_has_so_many_open_orders() {
        let (top_ups, account) = (TopUps::default(), AccountId([1; 16]));
        let id = |number: usize| [u8::try_from(number).unwrap(); 16];
        for number in 0..OPEN_PER_ACCOUNT_MAX {
            assert!(top_ups.admit(id(number), account, 10));
        }
        assert!(!top_ups.admit(id(99), account, 10));
        assert!(top_ups.admit(id(3), account, 10), "the same one again");
        assert!(top_ups.admit(id(99), AccountId([2; 16]), 10), "another one's");
        top_ups.forget(Open::Order(id(0)));
        assert!(top_ups.admit(id(98), account, 10));
    }

    #[test]
    fn each_is_asked_about_by_one() {
        let (top_ups, account) = (TopUps::default(), AccountId([1; 16]));
        let (order, refund) = (Open::Order([1; 16]), Open::Refund([1; 16]));
        top_ups.watch(order, account, 10);
        top_ups.watch(refund, account, 99);
        assert_eq!(top_ups.take_due(50, 8), [order]);
        assert_eq!(top_ups.take_due(50, 8), Vec::<Open>::new());
        assert_eq!(top_ups.counts(), (1, 1));
        top_ups.forget(refund);
        assert_eq!(top_ups.take_due(50 + ASKING_MS, 8), [order], "who asked has told nothing");
        top_ups.forget(order);
        top_ups.again(order, 10);
        assert_eq!(top_ups.take_due(50, 8), Vec::<Open>::new(), "it is decided");
    }
}
