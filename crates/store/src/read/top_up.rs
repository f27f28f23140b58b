//! Reading orders, codes, lots and refunds.

use ledger::AccountId;
use money::Asset;
use redb::{Key, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use super::{Reader, unavailable};
use crate::tables::{BALANCES, CODES, CREDIT_LOTS, PARKED, TOP_UP_REFUNDS, TOP_UPS, balance_key};
use crate::{LotBook, Parked, RedemptionCode, StoreError, TopUp, TopUpRefund};

impl Reader {
    /// An order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], as for every method here.
    pub fn top_up(&self, id: &[u8; 16]) -> Result<Option<TopUp>, StoreError> {
        self.found(TOP_UPS, id)
    }

    /// Every order that is remembered.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn top_ups(&self) -> Result<Vec<([u8; 16], TopUp)>, StoreError> {
        self.all(TOP_UPS)
    }

    /// Payments that wait for the operator, by deposit key.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn parked(&self) -> Result<Vec<([u8; 32], Parked)>, StoreError> {
        self.all(PARKED)
    }

    /// A code, by its hash.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn code(&self, hash: &[u8; 32]) -> Result<Option<RedemptionCode>, StoreError> {
        self.found(CODES, hash)
    }

    /// Every code, by its hash.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn codes(&self) -> Result<Vec<([u8; 32], RedemptionCode)>, StoreError> {
        self.all(CODES)
    }

    /// A refund.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn top_up_refund(&self, id: &[u8; 16]) -> Result<Option<TopUpRefund>, StoreError> {
        self.found(TOP_UP_REFUNDS, id)
    }

    /// Every refund of a top-up.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn top_up_refunds(&self) -> Result<Vec<([u8; 16], TopUpRefund)>, StoreError> {
        self.all(TOP_UP_REFUNDS)
    }

    /// What is left of each lot of an account, as of the last charge that is in the database. None: it has no lots.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn credit_lots(&self, account: AccountId, asset: Asset) -> Result<Option<LotBook>, StoreError> {
        let transaction = self.begin()?;
        let table = transaction.open_table(CREDIT_LOTS).map_err(unavailable)?;
        let Some(bytes) = table.get(&account.0).map_err(unavailable)? else { return Ok(None) };
        let book: LotBook = serde_json::from_slice(bytes.value()).map_err(unavailable)?;
        let balances = transaction.open_table(BALANCES).map_err(unavailable)?;
        let key = balance_key(ledger::leg_asset(asset), account.0);
        let balance = balances.get(&key).map_err(unavailable)?.map_or(0, |balance| balance.value());
        Ok(Some(book.settled(balance)))
    }

    fn found<const N: usize, T: DeserializeOwned>(
        &self,
        table: TableDefinition<'static, &'static [u8; N], &'static [u8]>,
        key: &[u8; N],
    ) -> Result<Option<T>, StoreError>
    where
        for<'k> &'static [u8; N]: Key<SelfType<'k> = &'k [u8; N]>,
    {
        let table = self.begin()?.open_table(table).map_err(unavailable)?;
        let found = table.get(key).map_err(unavailable)?;
        found.map(|bytes| serde_json::from_slice(bytes.value()).map_err(unavailable)).transpose()
    }

    fn all<const N: usize, T: DeserializeOwned>(
        &self,
        table: TableDefinition<'static, &'static [u8; N], &'static [u8]>,
    ) -> Result<Vec<([u8; N], T)>, StoreError> {
        let table = self.begin()?.open_table(table).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (key, bytes) = row.map_err(unavailable)?;
            rows.push((*key.value(), serde_json::from_slice(bytes.value()).map_err(unavailable)?));
        }
        Ok(rows)
    }
}
