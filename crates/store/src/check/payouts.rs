//! Money on its way back over Lightning, against the journal.

use std::collections::{BTreeMap, HashMap};

use ledger::{AccountId, Chart, leg_asset};
use money::Asset;
use redb::{ReadTransaction, ReadableTable};

use super::finding::{Finding, PayoutProblem};
use super::rows::rows;
use super::{CheckOptions, Report, top_ups};
use crate::read::unavailable;
use crate::tables::{BALANCES, BY_ID, LOTS, OPEN_PAYOUTS, PAYOUTS, balance_key};
use crate::{Lot, Payout, PayoutState, StoreError};

/// Each payout has the entries that its state says, its account knows of it while it is open, and what all open ones
/// hold, with the refunds of top-ups, is what is set aside.
pub(super) fn check(
    transaction: &ReadTransaction,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), StoreError> {
    let by_id = transaction.open_table(BY_ID).map_err(unavailable)?;
    let posted = |id: [u8; 16]| Ok::<_, StoreError>(by_id.get(&id).map_err(unavailable)?.is_some());
    let mut known = open_by_account(transaction)?;
    let mut held: BTreeMap<u16, i128> = BTreeMap::new();
    for (hash, payout) in rows::<32, Payout>(transaction, PAYOUTS, "payouts", report)? {
        let is_open = payout.state == PayoutState::Open;
        let is_known = known.remove(&hash).is_some_and(|account| account == payout.account);
        let problem = if !posted(Payout::begin_id(&hash))? {
            Some(PayoutProblem::NoBegin)
        } else if posted(Payout::end_id(&hash))? == is_open {
            Some(PayoutProblem::End(payout.state))
        } else if is_known != is_open {
            Some(PayoutProblem::Account(payout.state))
        } else if is_open && options.now_ms.saturating_sub(payout.created_ms) > options.undecided_ms_max {
            Some(PayoutProblem::Stale { created_ms: payout.created_ms })
        } else {
            None
        };
        if is_open {
            report.payouts_open += 1;
            *held.entry(u16::from(payout.asset)).or_default() += i128::from(payout.held());
        }
        if let Some(problem) = problem {
            report.find(Finding::Payout { hash, problem });
        }
    }
    for hash in known.into_keys() {
        report.find(Finding::Payout { hash, problem: PayoutProblem::NoBegin });
    }
    top_ups::check(transaction, options, &mut held, report)?;
    payable(transaction, &held, report)?;
    for (account, lots) in rows::<16, Vec<Lot>>(transaction, LOTS, "lots", report)? {
        if !lots.iter().all(Lot::is_in_order) {
            report.find(Finding::Lots { account: AccountId(account) });
        }
    }
    Ok(())
}

fn open_by_account(transaction: &ReadTransaction) -> Result<HashMap<[u8; 32], [u8; 16]>, StoreError> {
    let open = transaction.open_table(OPEN_PAYOUTS).map_err(unavailable)?;
    let mut found = HashMap::new();
    for row in open.iter().map_err(unavailable)? {
        let (account, hash) = row.map_err(unavailable)?;
        found.insert(*hash.value(), *account.value());
    }
    Ok(found)
}

fn payable(
    transaction: &ReadTransaction,
    held: &BTreeMap<u16, i128>,
    report: &mut Report,
) -> Result<(), StoreError> {
    let balances = transaction.open_table(BALANCES).map_err(unavailable)?;
    for asset in Asset::ALL.into_iter().map(leg_asset) {
        let key = balance_key(asset, Chart::RefundPayable.id().0);
        let kept = balances.get(&key).map_err(unavailable)?.map_or(0, |kept| kept.value());
        let held = held.get(&asset).copied().unwrap_or(0);
        if held != i128::from(kept) {
            report.find(Finding::Payable { asset, held, kept });
        }
    }
    Ok(())
}
