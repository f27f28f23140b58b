//! What payers have promised and not paid yet: how much may be open of each of them (X402-21), who owes for what was
//! refused after it was served, and who waits for the end of a settlement.
//!
//! In memory only: what is to be settled is on disk with the charge it is for, and is taken up from there.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ledger::{Account, AccountId};
use money::Amount;
use proof::x402_permit2::Exposure;
use tokio::sync::oneshot;

/// Every payer with something open, and every settlement that is to come.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    payers: DashMap<AccountId, Standing>,
    settling: DashMap<[u8; 32], Settling>,
}

/// What is open between a payer and us.
#[derive(Debug, Default)]
struct Standing {
    /// Ledger units: ceilings of calls that run, and what is being settled.
    open: i64,
    /// Something was refused after it was served.
    owes: bool,
}

/// A settlement that nobody waits for to serve a call.
#[derive(Debug)]
struct Settling {
    account: AccountId,
    units: i64,
    listeners: Vec<oneshot::Sender<Decision>>,
}

/// What became of a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The money is ours.
    Settled {
        /// Transaction hash or the like.
        transaction: String,
    },
    /// Nothing moved, and nothing will.
    Refused {
        /// The rail's code.
        code: String,
    },
    /// The rail did not say. It is asked again, for longer than anybody should wait.
    Unclear,
}

/// Why a promise is not taken. Nothing was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The payer owes for an earlier one.
    Owes,
    /// With what is open already it is more than the operator allows.
    Exposed,
}

impl Promises {
    /// Takes a promise of at most `ceiling` from whoever has the account `id`, of whom no more than `limit` may be open.
    /// `known` is the account as far as there is one: a promise alone makes none.
    ///
    /// # Errors
    /// [`NotTaken`]
    pub(crate) fn take(
        self: &Arc<Self>,
        id: AccountId,
        known: Option<&Account>,
        ceiling: Amount,
        limit: Amount,
    ) -> Result<Open, NotTaken> {
        let mut standing = self.payers.entry(id).or_default();
        // Made good, unless what is still open may take it down again.
        let is_even = known.is_none_or(|account| account.available().units() >= -account.overdraft().units());
        standing.owes &= standing.open != 0 || !is_even;
        let wide = |units: i64| u128::try_from(units).unwrap_or(0);
        let exposure = Exposure { pending: wide(standing.open), limit: wide(limit.units()), funds: None };
        let taken = match (standing.owes, exposure.takes(wide(ceiling.units()))) {
            (true, _) => Err(NotTaken::Owes),
            (false, false) => Err(NotTaken::Exposed),
            (false, true) => Ok(()),
        };
        if taken.is_ok() {
            standing.open = standing.open.saturating_add(ceiling.units());
        }
        drop(standing);
        self.forget_if_even(id);
        taken.map(|()| Open { promises: Arc::clone(self), account: id, units: ceiling.units() })
    }

    /// A settlement that an earlier process has left to this one.
    pub(crate) fn take_up(&self, key: [u8; 32], account: AccountId, amount: Amount) {
        let mut standing = self.payers.entry(account).or_default();
        standing.open = standing.open.saturating_add(amount.units());
        self.settling.insert(key, Settling { account, units: amount.units(), listeners: Vec::new() });
    }

    /// Notes that a payer owes: what was served for him was refused, or nobody can tell.
    pub(crate) fn owes(&self, account: AccountId) {
        self.payers.entry(account).or_default().owes = true;
    }

    /// A settlement is decided; what it was for is in the books by now.
    pub(crate) fn decided(&self, key: &[u8; 32], decision: &Decision) {
        if *decision == Decision::Unclear {
            if let Some(mut settling) = self.settling.get_mut(key) {
                tell(&mut settling.listeners, decision);
            }
            return;
        }
        let Some((_, mut settling)) = self.settling.remove(key) else { return };
        if matches!(decision, Decision::Refused { .. }) {
            self.owes(settling.account);
        }
        self.close(settling.account, settling.units);
        tell(&mut settling.listeners, decision);
    }

    /// The next that is heard of a settlement; never, if it is none.
    pub(crate) fn listen(&self, key: &[u8; 32]) -> oneshot::Receiver<Decision> {
        let (listener, heard) = oneshot::channel();
        if let Some(mut settling) = self.settling.get_mut(key) {
            settling.listeners.push(listener);
        }
        heard
    }

    /// How many payers owe.
    pub(crate) fn debtors(&self) -> usize {
        self.payers.iter().filter(|standing| standing.owes).count()
    }

    fn close(&self, account: AccountId, units: i64) {
        if let Some(mut standing) = self.payers.get_mut(&account) {
            standing.open = standing.open.saturating_sub(units);
        }
        self.forget_if_even(account);
    }

    /// Only who has something open, or owes, is remembered.
    fn forget_if_even(&self, account: AccountId) {
        if let Entry::Occupied(found) = self.payers.entry(account)
            && found.get().open == 0
            && !found.get().owes
        {
            found.remove();
        }
    }
}

fn tell(listeners: &mut Vec<oneshot::Sender<Decision>>, decision: &Decision) {
    for listener in listeners.drain(..) {
        // Whoever listened may have gone.
        let _ = listener.send(decision.clone());
    }
}

/// A promise that is open. Dropped, it is as if it had never been taken.
#[derive(Debug)]
pub(crate) struct Open {
    promises: Arc<Promises>,
    account: AccountId,
    units: i64,
}

impl Open {
    /// It is going to be settled for this much, under this deposit key: open until that is decided.
    pub(crate) fn settles(mut self, key: [u8; 32], amount: Amount) -> oneshot::Receiver<Decision> {
        let promises = Arc::clone(&self.promises);
        promises.take_up(key, self.account, amount);
        let heard = promises.listen(&key);
        // In this order, so that it is never less than what is open.
        promises.close(self.account, std::mem::take(&mut self.units));
        heard
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.units != 0 {
            self.promises.close(self.account, self.units);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ledger::{Account, AccountId, Book, Hold};
    use money::{Amount, Asset};

    use super::{Decision, NotTaken, Promises};

    const KEY: [u8; 32] = [5; 32];

    fn units(units: i64) -> Amount {
        Amount::from_units(units)
    }

    fn payer(available: i64) -> Arc<Account> {
        Arc::new(Account::new(AccountId([1; 16]), Asset::Usdc, units(available), Amount::ZERO))
    }

    fn settled() -> Decision {
        Decision::Settled { transaction: "0xab".into() }
    }

    fn refused() -> Decision {
        Decision::Refused { code: "insufficient_funds".into() }
    }

    /// X402-21: what is open of one payer stays within his limit, running and settling together.
    #[test]
    fn x402_21_no_more_is_open_than_is_allowed() {
        let (promises, payer) = (Arc::new(Promises::default()), payer(0));
        let take = |ceiling| promises.take(payer.id(), Some(&payer), units(ceiling), units(100));
        let first = take(60).unwrap();
        assert_eq!(take(41).err(), Some(NotTaken::Exposed));
        let second = take(40).unwrap();
        // It cost less than its ceiling: the rest is free at once.
        let mut heard = first.settles(KEY, units(25));
        assert_eq!(take(36).err(), Some(NotTaken::Exposed));
        let third = take(35).unwrap();
        drop(second);
        assert!(take(40).is_ok());
        promises.decided(&KEY, &Decision::Unclear);
        assert_eq!(heard.try_recv(), Ok(Decision::Unclear));
        assert_eq!(take(41).err(), Some(NotTaken::Exposed), "open until it is decided");
        let mut heard = promises.listen(&KEY);
        promises.decided(&KEY, &settled());
        assert_eq!(heard.try_recv(), Ok(settled()));
        assert!(take(65).is_ok());
        drop(third);
        assert!(promises.payers.is_empty() && promises.settling.is_empty(), "nothing is remembered");
    }

    /// A11: what was refused after it was served closes the door, until a deposit has made it good.
    #[test]
    fn a11_a_debtor_promises_nothing() {
        let (promises, book) = (Arc::new(Promises::default()), Book::default());
        let payer = book.account(AccountId([1; 16]), Asset::Usdc);
        let take = || promises.take(payer.id(), Some(&payer), units(10), units(100));
        let _settling = take().unwrap().settles(KEY, units(7));
        let hold = Hold::beyond(&payer, units(7), units(100)).unwrap();
        hold.finish(units(7)).unwrap();
        assert!(take().is_ok(), "it is being settled");
        promises.decided(&KEY, &refused());
        assert_eq!((take().err(), promises.debtors()), (Some(NotTaken::Owes), 1));
        book.deposit(payer.id(), Asset::Usdc, units(6));
        assert_eq!(take().err(), Some(NotTaken::Owes));
        book.deposit(payer.id(), Asset::Usdc, units(1));
        assert!(take().is_ok());
        assert_eq!(promises.debtors(), 0);
    }

    /// A debt that is not in the books yet, because its call still runs, is not forgotten meanwhile.
    #[test]
    fn a_refusal_before_its_call_has_ended_is_remembered() {
        let (promises, payer) = (Arc::new(Promises::default()), payer(20));
        let take = || promises.take(payer.id(), Some(&payer), units(10), units(100));
        let running = take().unwrap();
        let _settling = take().unwrap().settles(KEY, units(10));
        promises.decided(&KEY, &refused());
        assert_eq!(take().err(), Some(NotTaken::Owes));
        drop(running);
        assert!(take().is_ok(), "the balance covered it");
    }

    #[test]
    fn what_was_left_undecided_counts_again() {
        let (promises, payer) = (Arc::new(Promises::default()), payer(-90));
        promises.take_up(KEY, payer.id(), units(90));
        assert_eq!(
            promises.take(payer.id(), Some(&payer), units(11), units(100)).err(),
            Some(NotTaken::Exposed)
        );
        assert!(promises.take(payer.id(), Some(&payer), units(10), units(100)).is_ok());
        promises.owes(payer.id());
        assert_eq!(promises.take(payer.id(), Some(&payer), units(1), units(100)).err(), Some(NotTaken::Owes));
    }
}
