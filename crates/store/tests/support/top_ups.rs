//! Balance that is bought and goes back: the writes of each step, and a business that takes them as far as it gets.

use ledger::{AccountId, Chart, Draft, Kind, LegDraft, Reserve, leg_asset};
use money::{Amount, Asset};
use store::{
    Asking, Op, Paid, RefundPolicy, RefundState, RefundStep, TopUp, TopUpRefund, TopUpState, TopUpStep,
};

use super::business::{ASSET, Business, NOW_MS, Over, draft};
use super::dice::Dice;

/// Nano-yuan of a fen.
const PER_FEN: i64 = 10_000_000;
/// What an order pays, in fen.
pub(crate) const FEN: u64 = 3600;

pub(crate) fn order(account: AccountId, credit: i64, bonus: i64) -> TopUp {
    TopUp {
        state: TopUpState::Open,
        account: account.0,
        asset: ASSET.code(),
        credit,
        bonus,
        rail: "alipay".into(),
        currency: Asset::Cny.code(),
        minor: FEN,
        policy: RefundPolicy { window_s: 3600, unused_only: false },
        qr: String::new(),
        created_ms: NOW_MS,
        expires_ms: NOW_MS + 1_800_000,
        asking: Asking { count: 0, last_ms: NOW_MS, next_ms: NOW_MS + 60_000 },
        key: None,
    }
}

pub(crate) fn begins(id: [u8; 16], order: TopUp) -> Op {
    Op::TopUp { id, step: TopUpStep::Begin(Box::new(order)) }
}

pub(crate) fn paid(id: [u8; 16], minor: u64) -> Paid {
    Paid {
        rail: "alipay".into(),
        reference: "2026112022001".into(),
        order: id,
        currency: Asset::Cny.code(),
        minor,
    }
}

/// Legs in yuan beside those of the account's asset.
fn exchanged(mut entry: Draft, yuan: &[(Chart, i64)]) -> Draft {
    let leg = |(chart, units): &(Chart, i64)| LegDraft {
        asset: leg_asset(Asset::Cny),
        account: chart.id(),
        amount: Amount::from_units(*units),
    };
    entry.legs.extend(yuan.iter().map(leg));
    entry
}

fn in_fen(minor: u64) -> i64 {
    i64::try_from(minor).unwrap() * PER_FEN
}

pub(crate) fn id_of(key: &[u8; 32]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    id
}

/// The order was paid.
pub(crate) fn credits(id: [u8; 16], key: [u8; 32], order: &TopUp) -> Op {
    let (account, credit, bonus) = (AccountId(order.account), order.credit, order.bonus);
    let mut legs = vec![(Chart::Fx(ASSET).id(), -credit), (account, credit + bonus)];
    legs.extend((bonus > 0).then(|| (Chart::Promo.id(), -bonus)));
    let entry = draft(Kind::Deposit, id_of(&key), key, &legs);
    let sum = in_fen(order.minor);
    let entry =
        exchanged(entry, &[(Chart::RailClearing("alipay".into()), -sum), (Chart::Fx(Asset::Cny), sum)]);
    let paid = Box::new(paid(id, order.minor));
    Op::TopUp { id, step: TopUpStep::Credit { key, paid, entry } }
}

/// What a refund of the lot comes to now.
pub(crate) fn refund(business_lots: &store::LotBook, order: &TopUp, key: [u8; 32]) -> Option<TopUpRefund> {
    let what = business_lots.refundable(&key, NOW_MS).ok()?;
    let lot = business_lots.lots.iter().find(|lot| lot.key == key)?;
    Some(TopUpRefund {
        state: RefundState::Requested,
        account: order.account,
        asset: order.asset,
        key,
        paid: lot.paid.clone()?,
        credit: what.credit,
        bonus: what.bonus,
        minor: what.minor,
        created_ms: NOW_MS,
        asking: Asking::default(),
        reason: String::new(),
    })
}

pub(crate) fn requests(id: [u8; 16], refund: TopUpRefund) -> Op {
    let held = refund.held();
    let legs = [(AccountId(refund.account), -held), (Chart::RefundPayable.id(), held)];
    let entry = draft(Kind::Refund, TopUpRefund::begin_id(&id), [0; 32], &legs);
    Op::TopUpRefund { id, step: RefundStep::Request { refund: Box::new(refund), entry } }
}

pub(crate) fn approves(id: [u8; 16]) -> Op {
    Op::TopUpRefund { id, step: RefundStep::Approve(Asking { count: 1, last_ms: NOW_MS, next_ms: NOW_MS }) }
}

pub(crate) fn moves(id: [u8; 16], refund: &TopUpRefund) -> Op {
    let (credit, bonus) = (refund.credit, refund.bonus);
    let mut legs = vec![(Chart::RefundPayable.id(), -credit - bonus), (Chart::Fx(ASSET).id(), credit)];
    legs.extend((bonus > 0).then(|| (Chart::Promo.id(), bonus)));
    let entry = draft(Kind::Refund, TopUpRefund::end_id(&id), [0; 32], &legs);
    let sum = in_fen(refund.minor);
    let entry =
        exchanged(entry, &[(Chart::RailClearing("alipay".into()), sum), (Chart::Fx(Asset::Cny), -sum)]);
    Op::TopUpRefund { id, step: RefundStep::Moved { entry } }
}

fn back(id: [u8; 16], refund: &TopUpRefund) -> Draft {
    let legs = [(Chart::RefundPayable.id(), -refund.held()), (AccountId(refund.account), refund.held())];
    draft(Kind::Refund, TopUpRefund::end_id(&id), [0; 32], &legs)
}

pub(crate) fn fails(id: [u8; 16], refund: &TopUpRefund) -> Op {
    let (entry, reason) = (back(id, refund), "no".to_owned());
    Op::TopUpRefund { id, step: RefundStep::Failed { reason, entry } }
}

pub(crate) fn rejects(id: [u8; 16], refund: &TopUpRefund) -> Op {
    Op::TopUpRefund { id, step: RefundStep::Reject { entry: back(id, refund) } }
}

/// Whether an order is credited and how its refunds stand, as last said and as it is being made.
pub(crate) type Said<S> = (Option<S>, Option<S>);

impl Business {
    /// An order from its start to its refund, as far as it gets.
    pub(crate) async fn top_up(&self, dice: &mut Dice) -> Result<(), Over> {
        let (payer, id, key) = (self.payer(dice), dice.bytes::<16>(), dice.bytes::<32>());
        let order = order(payer.id(), 1 + dice.below(200_000) as i64, dice.below(2) as i64 * 500);
        if !self.move_order(id, TopUpState::Open, begins(id, order.clone())).await? {
            return Ok(());
        }
        if dice.one_in(4) {
            return Ok(());
        }
        let (credit, units) = (credits(id, key, &order), order.credit + order.bonus);
        self.note(id_of(&key), Kind::Deposit, payer.id(), units);
        let credited = self.move_order(id, TopUpState::Credited, credit.clone()).await;
        self.told(id_of(&key), &credited);
        if !credited? {
            return Ok(());
        }
        self.book.deposit(payer.id(), ASSET, Amount::from_units(units));
        assert_ne!(self.commit(credit).await?, Ok(()), "one payment was credited twice");
        self.refund_of(dice, &order, key).await
    }

    async fn refund_of(&self, dice: &mut Dice, order: &TopUp, key: [u8; 32]) -> Result<(), Over> {
        let lots = self.store.reader().credit_lots(AccountId(order.account), ASSET).map_err(|_| Over)?;
        let Some(refund) = lots.and_then(|lots| refund(&lots, order, key)) else { return Ok(()) };
        let (id, held) = (TopUpRefund::id(&key, 0), Amount::from_units(refund.held()));
        let payer = self.book.account(AccountId(order.account), ASSET);
        let wanted = Reserve { account: &payer, budgets: &[], amount: held, beyond: Amount::ZERO };
        let Ok(hold) = self.book.reserve(wanted) else { return Ok(()) };
        let begin_id = TopUpRefund::begin_id(&id);
        self.note(begin_id, Kind::Refund, payer.id(), -refund.held());
        let request = self.move_refund(id, RefundState::Requested, requests(id, refund.clone())).await;
        self.told(begin_id, &request);
        if !request? {
            // More was used than could be seen when it was asked for.
            return Ok(());
        }
        hold.finish(held);
        let (end_id, reject) = (TopUpRefund::end_id(&id), dice.one_in(4));
        let (state, back, end) = if reject {
            (RefundState::Rejected, refund.held(), rejects(id, &refund))
        } else {
            if !self.move_refund(id, RefundState::Sent, approves(id)).await? || dice.one_in(4) {
                return Ok(());
            }
            match dice.one_in(2) {
                true => (RefundState::Moved, 0, moves(id, &refund)),
                false => (RefundState::Failed, refund.held(), fails(id, &refund)),
            }
        };
        if back > 0 {
            self.note(end_id, Kind::Refund, payer.id(), back);
        } else {
            self.note(end_id, Kind::Refund, Chart::RefundPayable.id(), -refund.held());
        }
        let ended = self.move_refund(id, state, end.clone()).await;
        self.told(end_id, &ended);
        if ended? {
            self.book.deposit(payer.id(), ASSET, Amount::from_units(back));
            assert_ne!(self.commit(end).await?, Ok(()), "a refund ended twice");
        }
        Ok(())
    }

    async fn move_order(&self, id: [u8; 16], to: TopUpState, op: Op) -> Result<bool, Over> {
        self.history().orders.entry(id).or_insert((None, None)).1 = Some(to);
        let is_done = self.commit(op).await?.is_ok();
        let mut history = self.history();
        let said = history.orders.get_mut(&id).expect("noted above");
        *said = (if is_done { Some(to) } else { said.0 }, None);
        Ok(is_done)
    }

    async fn move_refund(&self, id: [u8; 16], to: RefundState, op: Op) -> Result<bool, Over> {
        self.history().refunds.entry(id).or_insert((None, None)).1 = Some(to);
        let is_done = self.commit(op).await?.is_ok();
        let mut history = self.history();
        let said = history.refunds.get_mut(&id).expect("noted above");
        *said = (if is_done { Some(to) } else { said.0 }, None);
        Ok(is_done)
    }
}
