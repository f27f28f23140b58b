//! Balances of exported accounts: each the sum of the internal balances that roll up to it.

use std::collections::{BTreeMap, HashMap};

use ledger::{AccountId, Leg, asset_of_code};
use money::Asset;

use super::{BooksError, Names, accounts};

/// An exported account in one asset.
pub(super) type Line = (String, Asset);

/// Follows the balances that the writer recorded. Debit is positive here, as in every exported chart; in
/// the journal a payer's credit is.
#[derive(Debug)]
pub(super) struct Totals {
    names: Names,
    capitalised: bool,
    /// Last recorded balance, in the journal's sign.
    recorded: HashMap<(u16, AccountId), i64>,
    /// 2^63 balances of 64 bits fit.
    totals: BTreeMap<Line, i128>,
}

impl Totals {
    pub(super) fn new(names: Names, capitalised: bool) -> Self {
        Self { names, capitalised, recorded: HashMap::new(), totals: BTreeMap::new() }
    }

    /// Where this account's legs are exported to. `None` for a memo leg: it counts a limit, not money.
    pub(super) fn line(&self, account: AccountId, asset: u16, lsn: u64) -> Result<Option<Line>, BooksError> {
        let (asset, memo) = asset_of_code(asset).ok_or(BooksError::Asset { lsn })?;
        let name = self.names.exported(account);
        let name = if self.capitalised { accounts::capitalised(&name) } else { name };
        Ok((!memo).then_some((name, asset)))
    }

    /// Takes what the writer recorded as the balance of an account.
    pub(super) fn set(&mut self, line: &Line, account: AccountId, asset: u16, units: i64) {
        let before = self.recorded.insert((asset, account), units).unwrap_or(0);
        *self.totals.entry(line.clone()).or_default() -= i128::from(units) - i128::from(before);
    }

    /// Takes a leg that goes to this line, and says by how much it changes it.
    pub(super) fn take(&mut self, line: &Line, leg: &Leg) -> i128 {
        self.set(line, leg.account, leg.asset, leg.balance_after.units());
        -i128::from(leg.amount.units())
    }

    /// The balance of an exported account, debit positive.
    pub(super) fn balance(&self, line: &Line) -> i128 {
        self.totals.get(line).copied().unwrap_or(0)
    }

    /// Every exported account that is not at zero.
    pub(super) fn open(&self) -> Vec<(Line, i128)> {
        let open = self.totals.iter().filter(|(_, units)| **units != 0);
        open.map(|(line, units)| (line.clone(), *units)).collect()
    }
}
