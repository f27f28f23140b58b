//! Orders, lots, codes and refunds, against the journal (FIN-25).

use std::collections::{BTreeMap, HashSet};

use ledger::{AccountId, leg_asset};
use money::Asset;
use redb::ReadTransaction;

use super::finding::{Finding, TopUpProblem as Problem};
use super::rows::rows;
use super::{CheckOptions, Report};
use crate::read::unavailable;
use crate::tables::{
    BALANCES, BY_ID, CODES, CREDIT_LOTS, PARKED, PAYMENTS, TOP_UP_REFUNDS, TOP_UPS, balance_key,
};
use crate::{
    LotBook, LotKind, Parked, Payment, RedemptionCode, RefundState, StoreError, TopUp, TopUpRefund,
    TopUpState,
};

/// Each credited order has its payment and each lot its entry, each payment that waits is nobody's credit, each code that was
/// called up has its entry, and each refund those that its state says. What open refunds hold is added to `held`.
pub(super) fn check(
    transaction: &ReadTransaction,
    options: &CheckOptions,
    held: &mut BTreeMap<u16, i128>,
    report: &mut Report,
) -> Result<(), StoreError> {
    let by_id = transaction.open_table(BY_ID).map_err(unavailable)?;
    let posted = |id: &[u8; 16]| Ok::<_, StoreError>(by_id.get(id).map_err(unavailable)?.is_some());
    let payments = transaction.open_table(PAYMENTS).map_err(unavailable)?;
    let amount_of = |key: &[u8; 32]| {
        let row = payments.get(key).map_err(unavailable)?;
        let payment = row.and_then(|row| serde_json::from_slice::<Payment>(row.value()).ok());
        Ok::<_, StoreError>(payment.map(|payment| payment.amount))
    };
    let parked: HashSet<[u8; 32]> =
        rows::<32, Parked>(transaction, PARKED, "parked", report)?.into_iter().map(|(key, _)| key).collect();
    for key in &parked {
        if amount_of(key)? != Some(0) || !posted(&first_half(key))? {
            report.find(Finding::TopUp { id: first_half(key), problem: Problem::Parked });
        }
    }
    let mut credited = HashSet::new();
    for (id, order) in rows::<16, TopUp>(transaction, TOP_UPS, "top_ups", report)? {
        let is_right = match (order.state, order.key) {
            (TopUpState::Open | TopUpState::Closed, None) => true,
            (TopUpState::Credited, Some(key)) => {
                credited.insert(key);
                amount_of(&key)? == order.credit.checked_add(order.bonus)
            }
            (TopUpState::Parked, Some(key)) => parked.contains(&key),
            (TopUpState::Open | TopUpState::Closed, Some(_))
            | (TopUpState::Credited | TopUpState::Parked, None) => false,
        };
        if !is_right {
            report.find(Finding::TopUp { id, problem: Problem::Order(order.state) });
        }
    }
    let mut codes = HashSet::new();
    for (hash, code) in rows::<32, RedemptionCode>(transaction, CODES, "codes", report)? {
        if code.redeemed.is_some() != posted(&first_half(&hash))? {
            report.find(Finding::TopUp { id: first_half(&hash), problem: Problem::Code });
        }
        codes.insert(hash);
    }
    let mut refunding = HashSet::new();
    lots(transaction, report, |lot| {
        let key = &lot.key;
        refunding.extend(lot.refund);
        Ok(posted(&first_half(key))?
            && match lot.kind {
                LotKind::Purchased => credited.contains(key),
                LotKind::Bonus => credited.contains(key) || codes.contains(key),
            })
    })?;
    for (id, refund) in rows::<16, TopUpRefund>(transaction, TOP_UP_REFUNDS, "top_up_refunds", report)? {
        let is_open = refund.state.is_open();
        let is_of_lot = refunding.contains(&id);
        let is_right = posted(&TopUpRefund::begin_id(&id))?
            && posted(&TopUpRefund::end_id(&id))? != is_open
            && is_of_lot == is_open;
        if !is_right {
            report.find(Finding::TopUp { id, problem: Problem::Refund(refund.state) });
        } else if refund.state == RefundState::Sent
            && options.now_ms.saturating_sub(refund.created_ms) > options.undecided_ms_max
        {
            report.find(Finding::TopUp { id, problem: Problem::Stale { created_ms: refund.created_ms } });
        }
        if is_open {
            *held.entry(u16::from(refund.asset)).or_default() += i128::from(refund.held());
        }
    }
    Ok(())
}

/// Lots have an order to them and come to no less than the balance: what they have beyond it was used since.
fn lots(
    transaction: &ReadTransaction,
    report: &mut Report,
    mut is_known: impl FnMut(&crate::CreditLot) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let balances = transaction.open_table(BALANCES).map_err(unavailable)?;
    for (account, book) in rows::<16, LotBook>(transaction, CREDIT_LOTS, "credit_lots", report)? {
        let mut balance = 0i64;
        for asset in Asset::ALL.into_iter().map(leg_asset) {
            let found = balances.get(&balance_key(asset, account)).map_err(unavailable)?;
            balance = balance.saturating_add(found.map_or(0, |found| found.value()));
        }
        let mut is_right = book.is_in_order() && book.total() >= balance;
        for lot in &book.lots {
            is_right &= is_known(lot)?;
        }
        if !is_right {
            report.find(Finding::Lots { account: AccountId(account) });
        }
    }
    Ok(())
}

fn first_half(key: &[u8; 32]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    id
}
