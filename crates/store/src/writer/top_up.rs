//! Orders, codes and refunds, each step with its entry and its lots: one write each time.

use ledger::{AccountId, Chart, Draft, Kind, Leg};
use money::Asset;

use super::batch::{Answer, Batch, NO_ENTRY, get_json, put_json};
use crate::read::unavailable;
use crate::tables::{EXPIRY_TOP_UP, balance_key, expiry_key};
use crate::{
    CodeStep, CreditLot, LotBook, LotKind, Paid, Parked, Payment, PaymentState, Redeemed, RedemptionCode,
    RefundState, RefundStep, Refundable, StoreError, TopUp, TopUpRefund, TopUpState, TopUpStep,
};

/// Seconds after its end that an order is kept that nobody paid.
const KEPT_SECONDS: u64 = 30 * 24 * 3600;

impl Batch<'_> {
    pub(super) fn top_up(&mut self, id: &[u8; 16], step: &TopUpStep) -> Answer {
        match step {
            TopUpStep::Begin(order) => {
                if self.order(id)?.is_some() {
                    return Err(StoreError::Conflict);
                }
                self.put_order(id, &TopUp { state: TopUpState::Open, key: None, ..TopUp::clone(order) })
            }
            TopUpStep::Shown { qr } => {
                let order = self.open_order(id)?;
                self.put_order(id, &TopUp { qr: qr.clone(), ..order })
            }
            TopUpStep::Asked(asking) => {
                let order = self.open_order(id)?;
                self.put_order(id, &TopUp { asking: *asking, ..order })
            }
            TopUpStep::Credit { key, paid, entry } => self.credit_order(id, key, paid, entry),
            TopUpStep::Park { key, parked, entry } => self.park(id, key, parked, entry),
            TopUpStep::Close => {
                let order = self.open_order(id)?;
                let mut row = [0; 32];
                row[..16].copy_from_slice(id);
                let over_s = (order.expires_ms / 1000).saturating_add(KEPT_SECONDS);
                self.expiries.insert(&expiry_key(over_s, EXPIRY_TOP_UP, &row), ()).map_err(unavailable)?;
                self.put_order(id, &TopUp { state: TopUpState::Closed, qr: String::new(), ..order })
            }
        }
    }

    fn order(&self, id: &[u8; 16]) -> Result<Option<TopUp>, StoreError> {
        get_json(&self.top_ups, id)
    }

    fn open_order(&self, id: &[u8; 16]) -> Result<TopUp, StoreError> {
        self.order(id)?.filter(|order| order.state == TopUpState::Open).ok_or(StoreError::Conflict)
    }

    fn put_order(&mut self, id: &[u8; 16], order: &TopUp) -> Answer {
        put_json(&mut self.top_ups, id, order)
    }

    /// Key, lots, entry and order: all of it or nothing (FIN-21).
    fn credit_order(&mut self, id: &[u8; 16], key: &[u8; 32], paid: &Paid, entry: &Draft) -> Answer {
        let order = self.order(id)?.ok_or(StoreError::Conflict)?;
        let may_be_credited = match order.state {
            TopUpState::Open | TopUpState::Closed => true,
            TopUpState::Credited | TopUpState::Parked => false,
        };
        if !may_be_credited || self.payment(key)?.is_some() {
            return Err(StoreError::Conflict);
        }
        let posting = self.prepare(entry, None)?;
        let mut book = self.lot_book(&order.account, order.asset)?;
        let lot = |kind, granted, paid| CreditLot {
            key: *key,
            kind,
            granted,
            left: granted,
            paid,
            policy: order.policy,
            since_ms: entry.time_ms,
            refunds: 0,
            refund: None,
        };
        book.add(lot(LotKind::Purchased, order.credit, Some(paid.clone())));
        if order.bonus > 0 {
            book.add(lot(LotKind::Bonus, order.bonus, None));
        }
        self.put_lots(&order.account, &book)?;
        self.name_rail(paid, order.asset)?;
        self.name(Chart::Promo.id(), &Chart::Promo)?;
        self.put_paid(key, paid, &order, order.credit.saturating_add(order.bonus), entry.time_ms)?;
        let ended = TopUp { state: TopUpState::Credited, qr: String::new(), key: Some(*key), ..order };
        self.put_order(id, &ended)?;
        self.post_with(posting, None)
    }

    /// The money is ours and nobody's credit. Of an order that was paid before nothing changes.
    fn park(&mut self, id: &[u8; 16], key: &[u8; 32], parked: &Parked, entry: &Draft) -> Answer {
        let order = self.order(id)?.ok_or(StoreError::Conflict)?;
        if self.payment(key)?.is_some() {
            return Err(StoreError::Conflict);
        }
        let posting = self.prepare(entry, None)?;
        self.name_rail(&parked.paid, order.asset)?;
        self.name(Chart::Suspense.id(), &Chart::Suspense)?;
        self.put_paid(key, &parked.paid, &order, 0, parked.at_ms)?;
        put_json(&mut self.parked, key, parked)?;
        if order.state != TopUpState::Credited {
            let ended = TopUp { state: TopUpState::Parked, qr: String::new(), key: Some(*key), ..order };
            self.put_order(id, &ended)?;
        }
        self.post_with(posting, None)
    }

    /// The payment's key is taken for good, whatever brings it again (RAIL-10).
    fn put_paid(&mut self, key: &[u8; 32], paid: &Paid, order: &TopUp, amount: i64, at_ms: u64) -> Answer {
        let payment = Payment {
            state: PaymentState::Served,
            fingerprint: [0; 32],
            account: order.account,
            asset: order.asset,
            amount,
            rail: paid.rail.clone(),
            payer: String::new(),
            reference: paid.reference.clone(),
            created_ms: at_ms,
            valid_before_s: 0,
            outcome: None,
            received_msat: None,
            promised: false,
            attempt: None,
        };
        self.put_payment(key, payment)
    }

    fn name_rail(&mut self, paid: &Paid, asset: u8) -> Result<(), StoreError> {
        let assets = [paid.currency, asset].into_iter().filter_map(Asset::from_code);
        let charts = assets.map(Chart::Fx).chain([Chart::RailClearing(paid.rail.clone())]);
        charts.into_iter().try_for_each(|chart| self.name(chart.id(), &chart))
    }

    pub(super) fn codes(&mut self, step: &CodeStep) -> Answer {
        match step {
            CodeStep::Make(codes) => {
                for (hash, _) in codes {
                    if get_json::<_, RedemptionCode>(&self.codes, hash)?.is_some() {
                        return Err(StoreError::Conflict);
                    }
                }
                codes.iter().try_fold(NO_ENTRY, |_, (hash, code)| put_json(&mut self.codes, hash, code))
            }
            CodeStep::Redeem { hash, by, entry } => self.redeem(hash, *by, entry),
        }
    }

    fn redeem(&mut self, hash: &[u8; 32], by: Redeemed, entry: &Draft) -> Answer {
        let code: RedemptionCode = get_json(&self.codes, hash)?.ok_or(StoreError::Conflict)?;
        let is_over = code.expires_s.is_some_and(|expires_s| by.at_ms / 1000 > expires_s);
        if code.redeemed.is_some() || is_over {
            return Err(StoreError::Conflict);
        }
        let posting = self.prepare(entry, None)?;
        let mut book = self.lot_book(&by.account, code.asset)?;
        book.add(CreditLot {
            key: *hash,
            kind: LotKind::Bonus,
            granted: code.credit,
            left: code.credit,
            paid: None,
            policy: crate::RefundPolicy::default(),
            since_ms: by.at_ms,
            refunds: 0,
            refund: None,
        });
        self.put_lots(&by.account, &book)?;
        self.name(Chart::Promo.id(), &Chart::Promo)?;
        put_json(&mut self.codes, hash, &RedemptionCode { redeemed: Some(by), ..code })?;
        self.post_with(posting, None)
    }

    pub(super) fn refund(&mut self, id: &[u8; 16], step: &RefundStep) -> Answer {
        use RefundState as S;
        match step {
            RefundStep::Request { refund, entry } => self.request_refund(id, refund, entry),
            RefundStep::Approve(asking) => {
                let refund = self.refund_in(id, S::Requested)?;
                let sent = TopUpRefund { state: S::Sent, asking: *asking, ..refund };
                put_json(&mut self.refunds, id, &sent)
            }
            RefundStep::Asked(asking) => {
                let refund = self.refund_in(id, S::Sent)?;
                put_json(&mut self.refunds, id, &TopUpRefund { asking: *asking, ..refund })
            }
            RefundStep::Moved { entry } => {
                let refund = self.refund_in(id, S::Sent)?;
                self.end_refund(id, TopUpRefund { state: S::Moved, ..refund }, entry)
            }
            RefundStep::Failed { reason, entry } => {
                let refund = self.refund_in(id, S::Sent)?;
                let reason = reason.clone();
                self.end_refund(id, TopUpRefund { state: S::Failed, reason, ..refund }, entry)
            }
            RefundStep::Reject { entry } => {
                let refund = self.refund_in(id, S::Requested)?;
                self.end_refund(id, TopUpRefund { state: S::Rejected, ..refund }, entry)
            }
        }
    }

    fn refund_in(&self, id: &[u8; 16], state: RefundState) -> Result<TopUpRefund, StoreError> {
        let known: Option<TopUpRefund> = get_json(&self.refunds, id)?;
        known.filter(|refund| refund.state == state).ok_or(StoreError::Conflict)
    }

    /// Every charge that was written before has been taken from the lots: what is left now goes back, or nothing (FIN-31).
    fn request_refund(&mut self, id: &[u8; 16], refund: &TopUpRefund, entry: &Draft) -> Answer {
        let mut book = self.lot_book(&refund.account, refund.asset)?;
        let what = Refundable { credit: refund.credit, bonus: refund.bonus, minor: refund.minor };
        let taken = book.take(&refund.key, *id, &what, refund.created_ms);
        if taken.is_none() || get_json::<_, TopUpRefund>(&self.refunds, id)?.is_some() {
            return Err(StoreError::Conflict);
        }
        let posting = self.prepare(entry, None)?;
        self.name(Chart::RefundPayable.id(), &Chart::RefundPayable)?;
        self.put_lots(&refund.account, &book)?;
        put_json(&mut self.refunds, id, &TopUpRefund { state: RefundState::Requested, ..refund.clone() })?;
        self.post_with(posting, None)
    }

    fn end_refund(&mut self, id: &[u8; 16], refund: TopUpRefund, entry: &Draft) -> Answer {
        let posting = self.prepare(entry, None)?;
        let (credit, bonus) = match refund.state {
            RefundState::Failed | RefundState::Rejected => (refund.credit, refund.bonus),
            RefundState::Requested | RefundState::Sent | RefundState::Moved => (0, 0),
        };
        let mut book = self.lot_book(&refund.account, refund.asset)?;
        book.end(&refund.key, credit, bonus);
        self.put_lots(&refund.account, &book)?;
        self.name_rail(&refund.paid, refund.asset)?;
        self.name(Chart::Promo.id(), &Chart::Promo)?;
        put_json(&mut self.refunds, id, &refund)?;
        self.post_with(posting, None)
    }

    /// The lots of an account as they are before the next entry.
    fn lot_book(&self, account: &[u8; 16], asset: u8) -> Result<LotBook, StoreError> {
        let balance = self.balance(&balance_key(u16::from(asset), *account))?;
        let known: Option<LotBook> = get_json(&self.credit_lots, account)?;
        Ok(known.map_or_else(|| LotBook::of(balance), |book| book.settled(balance)))
    }

    fn put_lots(&mut self, account: &[u8; 16], book: &LotBook) -> Answer {
        self.tail.learn_lots(AccountId(*account));
        put_json(&mut self.credit_lots, account, book)
    }

    /// Money that comes or goes by a way without lots, where the account has some: what was used until now was used
    /// before it. A charge is noted when somebody wants to know.
    pub(super) fn note_other_money(&mut self, kind: Kind, legs: &[Leg]) -> Result<(), StoreError> {
        if matches!(kind, Kind::Capture | Kind::Income) {
            return Ok(());
        }
        for leg in legs {
            if !self.tail.has_lots(leg.account) {
                continue;
            }
            let Some(asset) = ledger::asset_of_code(leg.asset).filter(|(_, memo)| !memo) else { continue };
            let mut book = self.lot_book(&leg.account.0, asset.0.code())?;
            book.other_came(leg.amount.units());
            self.put_lots(&leg.account.0, &book)?;
        }
        Ok(())
    }

    /// One that was paid since stays.
    pub(super) fn sweep_top_up(&mut self, row: &[u8; 32]) -> Result<(), StoreError> {
        let mut id = [0; 16];
        id.copy_from_slice(&row[..16]);
        if self.order(&id)?.is_some_and(|order| order.state == TopUpState::Closed) {
            self.top_ups.remove(&id).map_err(unavailable)?;
        }
        Ok(())
    }
}
