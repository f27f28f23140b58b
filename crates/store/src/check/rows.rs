//! Payments, outcomes and settings, against the journal and against each other.

use std::collections::HashSet;

use ledger::{AccountId, leg_asset};
use money::{Amount, Asset};
use redb::{ReadTransaction, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use super::books::Deposits;
use super::finding::{Finding, PaymentProblem};
use super::{CheckOptions, Report, payouts};
use crate::read::unavailable;
use crate::tables::{
    ACCOUNTS, BALANCES, BY_ID, CHANNELS, EXPIRIES, EXPIRY_IDEMPOTENT, EXPIRY_PAYMENT, IDEMPOTENT, KEYS, META,
    META_SWEPT, OPEN_CALLS, PAYMENTS, SESSIONS, balance_key, expiry_key,
};
use crate::writer::forgotten_s;
use crate::{
    AccountMode, AccountSettings, Channel, Idempotent, KeyRecord, LightningSession, OpenCall, Payment,
    PaymentState, StoreError, meta,
};

pub(super) fn check(
    transaction: &ReadTransaction,
    deposits: &Deposits,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), StoreError> {
    payments(transaction, deposits, options, report)?;
    payouts::check(transaction, options, report)?;
    let expiries = transaction.open_table(EXPIRIES).map_err(unavailable)?;
    for (key, outcome) in rows::<32, Idempotent>(transaction, IDEMPOTENT, "idempotent", report)? {
        let expiry = expiry_key(outcome.expires_s, EXPIRY_IDEMPOTENT, &key);
        if expiries.get(&expiry).map_err(unavailable)?.is_none() {
            report.find(Finding::Idempotent { key });
        }
    }
    rows::<32, Channel>(transaction, CHANNELS, "channels", report)?;
    rows::<32, LightningSession>(transaction, SESSIONS, "lightning_sessions", report)?;
    rows::<16, KeyRecord>(transaction, KEYS, "keys", report)?;
    let by_id = transaction.open_table(BY_ID).map_err(unavailable)?;
    for (id, _) in rows::<16, OpenCall>(transaction, OPEN_CALLS, "open_calls", report)? {
        if let Some(lsn) = by_id.get(&id).map_err(unavailable)? {
            report.find(Finding::OpenCall { call: id, lsn: lsn.value() });
        }
    }
    let balances = transaction.open_table(BALANCES).map_err(unavailable)?;
    for (id, settings) in rows::<16, AccountSettings>(transaction, ACCOUNTS, "accounts", report)? {
        for asset in Asset::ALL.into_iter().filter(|_| settings.state == AccountMode::Closed) {
            let key = balance_key(leg_asset(asset), id);
            let left = balances.get(&key).map_err(unavailable)?.map_or(0, |left| left.value());
            if left != 0 {
                report.find(Finding::Closed { account: AccountId(id), left: Amount::from_units(left) });
            }
        }
    }
    Ok(())
}

/// Each payment that was deposited has its one deposit, and each deposit of a payment has it.
fn payments(
    transaction: &ReadTransaction,
    deposits: &Deposits,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), StoreError> {
    let expiries = transaction.open_table(EXPIRIES).map_err(unavailable)?;
    let by_id = transaction.open_table(BY_ID).map_err(unavailable)?;
    let mut known = HashSet::new();
    for (key, payment) in rows::<32, Payment>(transaction, PAYMENTS, "payments", report)? {
        known.insert(key);
        let deposit = deposits.by_key.get(&key);
        let problem = match payment.state {
            PaymentState::Intent | PaymentState::Unknown => {
                report.undecided += 1;
                let age_ms = options.now_ms.saturating_sub(payment.created_ms);
                if deposit.is_some() {
                    Some(PaymentProblem::Undecided(payment.state))
                } else if age_ms > options.undecided_ms_max {
                    let (state, created_ms) = (payment.state, payment.created_ms);
                    Some(PaymentProblem::Stale { state, created_ms })
                } else {
                    None
                }
            }
            PaymentState::Owed => {
                report.owed += 1;
                deposit.map(|_| PaymentProblem::Undecided(payment.state))
            }
            PaymentState::Settled | PaymentState::Served => {
                report.deposited += 1;
                match deposit {
                    // A voucher that drew on what was charged before, or money in a channel: nothing became balance.
                    None if payment.amount == 0 => None,
                    Some(found) => (!is_of(&payment, found)).then_some(PaymentProblem::OtherDeposit),
                    // Its entry may be in a segment that is not here; its id still leads there.
                    None if !deposits.is_whole && is_before(&by_id, &key, deposits.before)? => None,
                    None => Some(PaymentProblem::NoDeposit),
                }
            }
        };
        if let Some(problem) = problem {
            report.find(Finding::Payment { key, problem });
        }
        if payment.state == PaymentState::Served
            && let Some(expires_s) = forgotten_s(&payment)
            && expiries.get(&expiry_key(expires_s, EXPIRY_PAYMENT, &key)).map_err(unavailable)?.is_none()
        {
            report.find(Finding::Payment { key, problem: PaymentProblem::Kept });
        }
    }
    let found = deposits.by_key.keys().filter(|key| !known.contains(*key)).count() as u64;
    let meta = transaction.open_table(META).map_err(unavailable)?;
    let forgotten = meta::number(&meta, META_SWEPT)?.unwrap_or(0);
    // Without the segments some of the forgotten ones are not seen.
    if found > forgotten || (deposits.is_whole && found != forgotten) {
        report.find(Finding::Deposits { found, forgotten });
    }
    Ok(())
}

fn is_of(payment: &Payment, (account, asset, amount): &(AccountId, u16, Amount)) -> bool {
    payment.account == account.0 && u16::from(payment.asset) == *asset && payment.amount == amount.units()
}

/// The id of a deposit is the beginning of its key.
fn is_before(
    by_id: &impl ReadableTable<&'static [u8; 16], u64>,
    key: &[u8; 32],
    before: u64,
) -> Result<bool, StoreError> {
    let mut id = [0; 16];
    id.copy_from_slice(&key[..16]);
    Ok(by_id.get(&id).map_err(unavailable)?.is_some_and(|lsn| lsn.value() <= before))
}

/// The rows of a table that can be read; the others are findings.
pub(super) fn rows<const N: usize, T: DeserializeOwned>(
    transaction: &ReadTransaction,
    table: TableDefinition<'static, &'static [u8; N], &'static [u8]>,
    name: &'static str,
    report: &mut Report,
) -> Result<Vec<([u8; N], T)>, StoreError> {
    let table = transaction.open_table(table).map_err(unavailable)?;
    let mut rows = Vec::new();
    for row in table.iter().map_err(unavailable)? {
        let (key, bytes) = row.map_err(unavailable)?;
        match serde_json::from_slice(bytes.value()) {
            Ok(value) => rows.push((*key.value(), value)),
            Err(_) => report.find(Finding::Row { table: name, key: key.value().to_vec() }),
        }
    }
    Ok(rows)
}
