//! The operator's income, one sum per transaction (LED-40).
//!
//! A capture's counter leg goes to one clearing account; when the transaction ends, what has gathered there
//! goes on to the income accounts in an entry that names the captures it covers. So no call writes a row
//! that every call writes, and clearing is zero in every state a reader can see.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ledger::{AccountId, Chart, Draft, EntryError, Kind, LegDraft};
use sha2::{Digest, Sha256};

use super::batch::Batch;
use crate::StoreError;
use crate::tables::balance_key;

/// Income accounts in one entry: with one clearing leg per asset it stays far below its limit of legs. A
/// transaction that names more ends with several entries.
const ACCOUNTS_PER_ENTRY: usize = 500;

/// Where the counter legs of captures are.
pub(super) static CLEARING: LazyLock<AccountId> = LazyLock::new(|| Chart::UsageClearing.id());

/// What one capture adds to clearing, and for whom.
pub(super) struct IncomeLeg {
    asset: u16,
    account: AccountId,
    units: i64,
}

/// What a transaction has gathered.
#[derive(Default)]
pub(super) struct Income {
    sums: BTreeMap<(u16, AccountId), i64>,
    first_lsn: u64,
    last_lsn: u64,
    time_ms: u64,
}

impl Income {
    /// Adds what entry `lsn` brought to clearing. True when it is time for an income entry.
    pub(super) fn note(&mut self, lsn: u64, time_ms: u64, legs: Vec<IncomeLeg>) -> bool {
        if legs.is_empty() {
            return false;
        }
        if self.sums.is_empty() {
            self.first_lsn = lsn;
        }
        self.last_lsn = lsn;
        self.time_ms = self.time_ms.max(time_ms);
        for leg in legs {
            let sum = self.sums.entry((leg.asset, leg.account)).or_default();
            // In range: checked when the leg was prepared, and nothing came between.
            *sum = sum.saturating_add(leg.units);
        }
        self.sums.len() >= ACCOUNTS_PER_ENTRY
    }

    pub(super) fn gathered(&self, asset: u16, account: AccountId) -> i64 {
        self.sums.get(&(asset, account)).copied().unwrap_or_default()
    }
}

/// The clearing legs of an entry, with the account they are income of.
pub(super) fn income_legs(draft: &Draft, income: Option<AccountId>) -> Result<Vec<IncomeLeg>, EntryError> {
    let mut found = draft.legs.iter().filter(|leg| leg.account == *CLEARING).peekable();
    match (income, found.peek()) {
        (None, None) => Ok(Vec::new()),
        // Nobody would ever take it out of clearing again.
        (None, Some(_)) => Err(EntryError::Unbalanced),
        (Some(_), None) => Err(EntryError::Legs),
        (Some(account), Some(_)) => {
            let leg = |leg: &LegDraft| IncomeLeg { asset: leg.asset, account, units: leg.amount.units() };
            Ok(found.map(leg).collect())
        }
    }
}

impl Batch<'_> {
    /// Whether what an account earns with these legs, and with those before them, is still an amount.
    pub(super) fn check_range(&self, income: &[IncomeLeg]) -> Result<(), StoreError> {
        for leg in income {
            let balance = self.balance(&balance_key(leg.asset, leg.account.0))?;
            let gathered = self.income.gathered(leg.asset, leg.account);
            let sum = gathered.checked_add(leg.units).ok_or(StoreError::Range)?;
            balance.checked_add(sum).ok_or(StoreError::Range)?;
        }
        Ok(())
    }

    /// Moves what has gathered in clearing to where it belongs.
    pub(super) fn post_income(&mut self) -> Result<(), StoreError> {
        let gathered = std::mem::take(&mut self.income);
        let mut clearing: BTreeMap<u16, i128> = BTreeMap::new();
        let mut legs = Vec::with_capacity(gathered.sums.len() + 1);
        for ((asset, account), units) in &gathered.sums {
            *clearing.entry(*asset).or_default() -= i128::from(*units);
            legs.push(LegDraft::of(*asset, *account, *units));
        }
        if legs.is_empty() {
            return Ok(());
        }
        for (asset, units) in clearing {
            let units = i64::try_from(units).map_err(|_| StoreError::Range)?;
            legs.push(LegDraft::of(asset, *CLEARING, units));
        }
        let entry = Draft {
            reference: format!("lsn {}-{}", gathered.first_lsn, gathered.last_lsn),
            ..Draft::of(Kind::Income, income_id(self.tail.next_lsn), gathered.time_ms, legs)
        };
        let posting = self.prepare_with(&entry, Vec::new())?;
        self.post(posting).map(drop)
    }
}

/// An id that no call, payment or operator brings.
fn income_id(lsn: u64) -> [u8; 16] {
    let digest = Sha256::new_with_prefix(b"farthing/income/1").chain_update(lsn.to_be_bytes()).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}
