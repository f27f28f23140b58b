//! Money that goes back: set aside, and then paid or given back, or left by the process in between.

use ledger::{AccountId, Chart, Kind, Reserve};
use money::Amount;
use store::{Asking, Lot, Op, Payout, PayoutState, PayoutStep, StoreError, Taken};

use super::business::{ASSET, Business, NOW_MS, Over, draft};
use super::dice::Dice;

/// A payout of an invoice that has a while to go.
pub(crate) fn payout(account: AccountId, taken: Vec<Taken>) -> Payout {
    Payout {
        state: PayoutState::Open,
        account: account.0,
        asset: ASSET.code(),
        amount_msat: taken.iter().map(|part| part.msat).sum(),
        fee_max_msat: 0,
        fee_msat: 0,
        taken,
        charged: 0,
        invoice: "lnbcrt1".into(),
        expires_s: NOW_MS / 1000 + 600,
        created_ms: NOW_MS,
        node: Some([9; 16]),
        asking: Asking { count: 1, last_ms: NOW_MS, next_ms: NOW_MS + 1000 },
        reason: String::new(),
    }
}

/// Sets `held` units of a payer aside.
pub(crate) fn begins(hash: [u8; 32], payout: Payout) -> Op {
    let (account, held) = (AccountId(payout.account), payout.held());
    let legs = [(account, -held), (Chart::RefundPayable.id(), held)];
    let entry = draft(Kind::Refund, Payout::begin_id(&hash), [0; 32], &legs);
    Op::Payout { hash, step: PayoutStep::Begin { payout: Box::new(payout), entry } }
}

/// So much of it was moved.
pub(crate) fn paid(hash: [u8; 32], payout: &Payout, spent: Vec<Taken>) -> Op {
    let (account, held, charged) =
        (AccountId(payout.account), payout.held(), spent.iter().map(|part| part.credit).sum::<i64>());
    let mut legs = vec![(Chart::RefundPayable.id(), -held)];
    legs.extend((charged > 0).then(|| (Chart::RailClearing("lightning".into()).id(), charged)));
    legs.extend((held > charged).then_some((account, held - charged)));
    let entry = draft(Kind::Refund, Payout::end_id(&hash), [0; 32], &legs);
    Op::Payout { hash, step: PayoutStep::Paid { fee_msat: 3, spent, entry } }
}

/// Nothing was moved.
pub(crate) fn failed(hash: [u8; 32], payout: &Payout) -> Op {
    let (account, held) = (AccountId(payout.account), payout.held());
    let legs = [(Chart::RefundPayable.id(), -held), (account, held)];
    let entry = draft(Kind::Refund, Payout::end_id(&hash), [0; 32], &legs);
    Op::Payout { hash, step: PayoutStep::Failed { reason: "no route".into(), entry } }
}

/// What was last said of a payout, and what it is being made.
pub(crate) type Said = (Option<PayoutState>, Option<PayoutState>);

impl Business {
    /// A payout from its intent to its end, as far as it gets. Another one of the same account may be under way: then
    /// this one must be refused.
    pub(crate) async fn payout(&self, dice: &mut Dice) -> Result<(), Over> {
        let (payer, hash) = (self.payer(dice), dice.bytes::<32>());
        let lots = self.store.reader().lots(payer.id()).map_err(|_| Over)?;
        let Some(taken) = Lot::take(&lots, 20 + dice.below(400_000)) else { return Ok(()) };
        let amount = Amount::from_units(Taken::credit_of(&taken));
        let wanted = Reserve { account: &payer, budgets: &[], amount, beyond: Amount::ZERO };
        let Ok(hold) = self.book.reserve(wanted) else { return Ok(()) };
        let payout = payout(payer.id(), taken);
        let begin = begins(hash, payout.clone());
        self.note(Payout::begin_id(&hash), Kind::Refund, payer.id(), -amount.units());
        let begun = self.move_payout(hash, PayoutState::Open, begin.clone()).await;
        self.told(Payout::begin_id(&hash), &begun);
        if !begun? {
            return Ok(());
        }
        hold.finish(amount);
        assert_ne!(self.commit(begin).await?, Ok(()), "an invoice was taken twice");
        let other = self.commit(begins(dice.bytes(), payout.clone())).await?;
        assert!(
            matches!(other, Err(StoreError::Conflict | StoreError::DiskFull)),
            "two payouts of one account: {other:?}"
        );
        let asked = Op::Payout { hash, step: PayoutStep::Asked(Asking { count: 2, ..payout.asking }) };
        self.commit(asked).await?.ok();
        let (state, back, end) = match dice.below(3) {
            0 => {
                let spent = Taken::first(&payout.taken, payout.amount_msat / 2);
                let charged = Taken::credit_of(&spent);
                (PayoutState::Paid, amount.units() - charged, paid(hash, &payout, spent))
            }
            1 => (PayoutState::Failed, amount.units(), failed(hash, &payout)),
            // The process knows no more; whoever opens the store finds it.
            _ => return Ok(()),
        };
        self.note(Payout::end_id(&hash), Kind::Refund, payer.id(), back);
        let ended = self.move_payout(hash, state, end.clone()).await;
        self.told(Payout::end_id(&hash), &ended);
        if ended? {
            self.book.deposit(payer.id(), ASSET, Amount::from_units(back));
            assert_ne!(self.commit(end).await?, Ok(()), "a payout ended twice");
        }
        Ok(())
    }

    async fn move_payout(&self, hash: [u8; 32], to: PayoutState, op: Op) -> Result<bool, Over> {
        self.history().payouts.entry(hash).or_insert((None, None)).1 = Some(to);
        let is_done = self.commit(op).await?.is_ok();
        let mut history = self.history();
        let said = history.payouts.get_mut(&hash).expect("noted above");
        *said = (if is_done { Some(to) } else { said.0 }, None);
        Ok(is_done)
    }
}
