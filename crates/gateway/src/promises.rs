//! What payers have promised and not paid yet: how much may be open of each of them (X402-21), who owes for what was
//! refused after it was served, and who waits for the end of a settlement.
//!
//! In memory only: what is to be settled is on disk with the charge it is for, and is taken up from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ledger::{AccountId, AccountRef};
use money::Amount;
use proof::x402_permit2::Exposure;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

/// What may be open of all payers together, as a multiple of what may be open of one. Wallets are free: a limit for each
/// is none for who makes a new one for every call.
const PAYERS_MAX: i64 = 100;

/// Every payer with something open, and every settlement that is to come.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    payers: DashMap<AccountId, Standing>,
    /// Ledger units: what is open of all of them together, and what they owe.
    total: AtomicI64,
    settling: DashMap<[u8; 32], Settling>,
}

/// What is open between us and an account, or whoever signs for it: one wallet may sign for several accounts, and what
/// stands behind its signatures is there once.
#[derive(Debug, Default)]
struct Standing {
    /// Ledger units: ceilings of calls that run, and what is being settled.
    open: i64,
    /// For what was refused after it was served.
    owes: Vec<Debt>,
}

/// What is owed for an account.
#[derive(Debug)]
struct Debt {
    account: AccountRef,
    /// Ledger units that count in the total; none of them with whoever signed, so that they count once.
    units: i64,
}

impl Standing {
    /// Forgets what was made good, unless what is still open may take it down again. How much of the total that was.
    fn look_again(&mut self) -> i64 {
        let mut good = 0;
        if self.open == 0 {
            self.owes.retain(|debt| {
                let is_even = debt.account.available().units() >= -debt.account.overdraft().units();
                good += if is_even { debt.units } else { 0 };
                !is_even
            });
        }
        good
    }
}

/// A settlement that nobody waits for to serve a call.
#[derive(Debug)]
struct Settling {
    account: AccountRef,
    payer: AccountId,
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
    /// Takes a promise of at most `ceiling` that `payer` has signed for `account`: of either no more than `limit` may be
    /// open.
    ///
    /// # Errors
    /// [`NotTaken`]
    pub(crate) fn take(
        self: &Arc<Self>,
        account: AccountId,
        payer: AccountId,
        ceiling: Amount,
        limit: Amount,
    ) -> Result<Open, NotTaken> {
        self.count(account, ceiling, limit)?;
        // Never both at once, so that nobody waits for the other.
        self.count(payer, ceiling, limit).inspect_err(|_| self.close(account, ceiling.units()))?;
        let open = Open { promises: Arc::clone(self), account, payer, units: ceiling.units() };
        let total = self.count_all(ceiling.units());
        // Dropped, it counts no more.
        if total > limit.units().saturating_mul(PAYERS_MAX) { Err(NotTaken::Exposed) } else { Ok(open) }
    }

    fn count(&self, id: AccountId, ceiling: Amount, limit: Amount) -> Result<(), NotTaken> {
        let mut standing = self.payers.entry(id).or_default();
        self.count_all(-standing.look_again());
        let wide = |units: i64| u128::try_from(units).unwrap_or(0);
        let exposure = Exposure { pending: wide(standing.open), limit: wide(limit.units()), funds: None };
        let taken = match (standing.owes.is_empty(), exposure.takes(wide(ceiling.units()))) {
            (false, _) => Err(NotTaken::Owes),
            (true, false) => Err(NotTaken::Exposed),
            (true, true) => Ok(()),
        };
        if taken.is_ok() {
            standing.open = standing.open.saturating_add(ceiling.units());
        }
        drop(standing);
        self.forget_if_even(id);
        taken
    }

    /// A settlement that an earlier process has left to this one.
    pub(crate) fn take_up(&self, key: [u8; 32], account: AccountRef, payer: AccountId, amount: Amount) {
        for id in [account.id(), payer] {
            let mut standing = self.payers.entry(id).or_default();
            standing.open = standing.open.saturating_add(amount.units());
        }
        self.count_all(amount.units());
        let settling = Settling { account, payer, units: amount.units(), listeners: Vec::new() };
        self.settling.insert(key, settling);
    }

    /// Notes that a payer owes so much: what was served for him was refused, or nobody can tell.
    pub(crate) fn owes(&self, account: &AccountRef, payer: AccountId, amount: Amount) {
        self.count_all(amount.units());
        for (id, units) in [(account.id(), amount.units()), (payer, 0)] {
            let mut standing = self.payers.entry(id).or_default();
            match standing.owes.iter_mut().find(|debt| debt.account.id() == account.id()) {
                Some(debt) => debt.units = debt.units.saturating_add(units),
                None => standing.owes.push(Debt { account: account.clone(), units }),
            }
        }
    }

    /// The new total.
    fn count_all(&self, units: i64) -> i64 {
        self.total.fetch_add(units, Ordering::AcqRel).saturating_add(units)
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
            self.owes(&settling.account, settling.payer, Amount::from_units(settling.units));
        }
        self.count_all(-settling.units);
        self.close(settling.account.id(), settling.units);
        self.close(settling.payer, settling.units);
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

    /// How many payers owe, after a look at who has made it good.
    pub(crate) fn debtors(&self) -> usize {
        self.payers.retain(|_, standing| {
            self.count_all(-standing.look_again());
            standing.open != 0 || !standing.owes.is_empty()
        });
        // Whoever signed is counted by the account that he owes for.
        let owes =
            |id: &AccountId, standing: &Standing| standing.owes.iter().any(|debt| debt.account.id() == *id);
        self.payers.iter().filter(|standing| owes(standing.key(), standing)).count()
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
            && found.get().owes.is_empty()
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
    payer: AccountId,
    units: i64,
}

impl Open {
    /// It is going to be settled for this much, under this deposit key, into this account: open until that is decided.
    pub(crate) fn settles(
        mut self,
        key: [u8; 32],
        account: &AccountRef,
        amount: Amount,
    ) -> oneshot::Receiver<Decision> {
        let promises = Arc::clone(&self.promises);
        promises.take_up(key, account.clone(), self.payer, amount);
        let heard = promises.listen(&key);
        // In this order, so that it is never less than what is open.
        self.close();
        heard
    }

    fn close(&mut self) {
        let units = std::mem::take(&mut self.units);
        if units != 0 {
            self.promises.count_all(-units);
            self.promises.close(self.account, units);
            self.promises.close(self.payer, units);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whoever signs payments on a rail, as one of those that something may be open of. No account is called so.
pub(crate) fn signer(rail: &str, payer: &str) -> AccountId {
    let digest =
        Sha256::new_with_prefix("farthing/signer/1").chain_update(rail).chain_update([0]).chain_update(payer);
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize()[..16]);
    AccountId(id)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a book without a gate: nobody waits")]
mod tests {
    use std::sync::Arc;

    use ledger::{Account, AccountId, AccountRef, Book, Hold};
    use money::{Amount, Asset};

    use super::{Decision, NotTaken, Promises};

    const KEY: [u8; 32] = [5; 32];
    const WALLET: AccountId = AccountId([0xaa; 16]);

    fn units(units: i64) -> Amount {
        Amount::from_units(units)
    }

    fn payer(available: i64) -> AccountRef {
        AccountRef::from(Account::new(AccountId([1; 16]), Asset::Usdc, units(available), Amount::ZERO))
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
        let take = |ceiling| promises.take(payer.id(), WALLET, units(ceiling), units(100));
        let first = take(60).unwrap();
        assert_eq!(take(41).err(), Some(NotTaken::Exposed));
        let second = take(40).unwrap();
        // It cost less than its ceiling: the rest is free at once.
        let mut heard = first.settles(KEY, &payer, units(25));
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
        let take = || promises.take(payer.id(), WALLET, units(10), units(100));
        let _settling = take().unwrap().settles(KEY, &payer, units(7));
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
        let take = || promises.take(payer.id(), WALLET, units(10), units(100));
        let running = take().unwrap();
        let _settling = take().unwrap().settles(KEY, &payer, units(10));
        promises.decided(&KEY, &refused());
        assert_eq!(take().err(), Some(NotTaken::Owes));
        drop(running);
        assert!(take().is_ok(), "the balance covered it");
    }

    /// A3: what a wallet signs for one account and for another is backed by the same money.
    #[test]
    fn a3_a_wallet_that_signs_for_several_accounts_is_one_payer() {
        let (promises, book) = (Arc::new(Promises::default()), Book::default());
        let [one, other] = [1, 2].map(|id| book.account(AccountId([id; 16]), Asset::Usdc));
        let take = |account: &AccountRef| promises.take(account.id(), WALLET, units(60), units(100));
        let open = take(&one).unwrap();
        assert_eq!(take(&other).err(), Some(NotTaken::Exposed));
        assert!(promises.take(other.id(), AccountId([0xbb; 16]), units(60), units(100)).is_ok());
        Hold::beyond(&one, units(1), units(100)).unwrap().finish(units(1)).unwrap();
        drop(open.settles(KEY, &one, units(1)));
        promises.decided(&KEY, &refused());
        assert_eq!((take(&other).err(), promises.debtors()), (Some(NotTaken::Owes), 1));
        assert_eq!(take(&one).err(), Some(NotTaken::Owes));
        book.deposit(one.id(), Asset::Usdc, units(1));
        assert!(take(&other).is_ok());
        assert!(take(&one).is_ok());
        assert!(promises.payers.is_empty() && promises.settling.is_empty(), "nothing is remembered");
    }

    /// A new wallet for every call: all together are bounded as well, with what they owe.
    #[test]
    fn a3_strangers_are_bounded_together() {
        let (promises, book) = (Arc::new(Promises::default()), Book::default());
        let account = |number: u8| book.account(AccountId([number; 16]), Asset::Usdc);
        let wallet = |number: u8| AccountId([!number; 16]);
        let take = |number: u8| promises.take(account(number).id(), wallet(number), units(10), units(10));
        let open: Vec<_> = (0..100).map(|number| take(number).unwrap()).collect();
        assert_eq!(take(100).err(), Some(NotTaken::Exposed));
        for (number, open) in (0..100).zip(open) {
            let (account, key) = (account(number), [number; 32]);
            Hold::beyond(&account, units(10), units(10)).unwrap().finish(units(10)).unwrap();
            drop(open.settles(key, &account, units(10)));
            promises.decided(&key, &if number == 0 { settled() } else { refused() });
        }
        assert!(take(101).is_ok(), "one has paid");
        assert_eq!(promises.debtors(), 99);
        let _one = take(101).unwrap();
        assert_eq!(take(102).err(), Some(NotTaken::Exposed), "what is owed counts");
        book.deposit(account(1).id(), Asset::Usdc, units(10));
        assert_eq!((promises.debtors(), take(102).is_ok()), (98, true));
        assert_eq!(promises.total.load(std::sync::atomic::Ordering::Acquire), 990);
    }

    #[test]
    fn what_was_left_undecided_counts_again() {
        let (promises, payer) = (Arc::new(Promises::default()), payer(-90));
        promises.take_up(KEY, payer.clone(), WALLET, units(90));
        assert_eq!(promises.take(payer.id(), WALLET, units(11), units(100)).err(), Some(NotTaken::Exposed));
        assert!(promises.take(payer.id(), WALLET, units(10), units(100)).is_ok());
        promises.owes(&payer, WALLET, Amount::ZERO);
        assert_eq!(promises.take(payer.id(), WALLET, units(1), units(100)).err(), Some(NotTaken::Owes));
    }
}
