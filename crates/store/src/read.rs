//! Reading the store: snapshots that never wait for the writer.

mod cashu;
mod top_up;
mod tree;

use std::ops::ControlFlow;
use std::sync::Arc;

use ledger::{AccountId, Entry};
use money::Amount;
use redb::{Key, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use crate::disk::Disk;
use crate::facts::facts_json;
use crate::journal::{self, Record};
use crate::recent::{Recent, Rows};
use crate::tables::{
    ACCOUNTS, BALANCES, BY_ID, CHANNELS, FACTS, FACTS_AT, FREE_CALLS, GRANTS, IDEMPOTENT, JOURNAL, KEYS,
    LOTS, META, META_EPOCH, META_STORE_ID, NAMES, OPEN_CALLS, OPEN_PAYOUTS, PAYMENTS, PAYOUTS, REVOKED,
    SESSIONS, balance_of, free_of,
};
use crate::{
    AccountSettings, Channel, Idempotent, KeyRecord, LightningSession, Lot, OpenCall, Payment, PaymentState,
    Payout, StoreError, meta,
};

/// One row of the fold over the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The account.
    pub account: AccountId,
    /// Asset code of its legs.
    pub asset: u16,
    /// What its legs sum to.
    pub amount: Amount,
}

/// The end of a window and who on what, and how many calls he was given in it.
pub type FreeCall = ((u64, [u8; 16]), u32);

/// Reads what is durable: payments, outcomes and keys as they were last written, everything else as of the last
/// transaction of the database ([`crate::Store::write`]).
#[derive(Clone, Debug)]
pub struct Reader {
    disk: Disk,
    recent: Arc<Recent>,
}

pub(crate) fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

impl Reader {
    /// Of a database with nothing in front of it.
    pub(crate) fn new(disk: Disk) -> Self {
        Self::with(disk, Arc::default())
    }

    pub(crate) fn with(disk: Disk, recent: Arc<Recent>) -> Self {
        Self { disk, recent }
    }

    /// A row as it was last written.
    fn row<K: Key + 'static, T: DeserializeOwned + Clone>(
        &self,
        recent: impl FnOnce(&Rows) -> Option<&T>,
        table: TableDefinition<'static, K, &'static [u8]>,
        key: K::SelfType<'_>,
    ) -> Result<Option<T>, StoreError> {
        // First: what is not there any more is in the database.
        if let Some(row) = self.recent.find(recent) {
            return Ok(Some(row));
        }
        let table = self.begin()?.open_table(table).map_err(unavailable)?;
        let found = table.get(key).map_err(unavailable)?;
        found.map(|bytes| serde_json::from_slice(bytes.value()).map_err(unavailable)).transpose()
    }

    pub(crate) fn begin(&self) -> Result<redb::ReadTransaction, StoreError> {
        self.disk.read()
    }

    /// Random id of this store.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], as for every method here.
    pub fn store_id(&self) -> Result<[u8; 16], StoreError> {
        let meta = self.begin()?.open_table(META).map_err(unavailable)?;
        meta::bytes(&meta, META_STORE_ID)?.ok_or_else(|| unavailable("no store id"))
    }

    /// The store epoch: raised by a restore, so that older challenges are refused (LED-19).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn epoch(&self) -> Result<u64, StoreError> {
        let meta = self.begin()?.open_table(META).map_err(unavailable)?;
        meta::number(&meta, META_EPOCH)?.ok_or_else(|| unavailable("no store epoch"))
    }

    /// Every balance, ours and the payers'.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn balances(&self) -> Result<Vec<Balance>, StoreError> {
        balances(&self.begin()?, BALANCES)
    }

    /// Calls `each` with every balance, one at a time: there may be millions.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], and whatever `each` says.
    pub fn each_balance(
        &self,
        each: impl FnMut(Balance) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        each_balance(&self.begin()?, BALANCES, each)
    }

    /// The newest `limit` entries, oldest first, of one account or of all, and every balance at the same
    /// moment: the balances are the fold of the journal that ends with these entries.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn overview(
        &self,
        account: Option<AccountId>,
        limit: usize,
    ) -> Result<(Vec<Entry>, Vec<Balance>), StoreError> {
        let transaction = self.begin()?;
        Ok((newest(&transaction, account, limit)?, balances(&transaction, BALANCES)?))
    }

    /// The payment of a deposit key.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn payment(&self, key: &[u8; 32]) -> Result<Option<Payment>, StoreError> {
        self.row(|recent| recent.payments.get(key), PAYMENTS, key)
    }

    /// The deposit key of the payment that was charged by a grant.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn charged(&self, grant: &[u8; 32]) -> Result<Option<[u8; 32]>, StoreError> {
        let table = self.begin()?.open_table(GRANTS).map_err(unavailable)?;
        Ok(table.get(grant).map_err(unavailable)?.map(|key| *key.value()))
    }

    /// The outcome of a request that named itself, by SHA-256 of account and key. Its end may have passed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn idempotent(&self, key: &[u8; 32]) -> Result<Option<Idempotent>, StoreError> {
        self.row(|recent| recent.outcomes.get(key), IDEMPOTENT, key)
    }

    /// What the operator decided about accounts.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn accounts(&self) -> Result<Vec<(AccountId, AccountSettings)>, StoreError> {
        let table = self.begin()?.open_table(ACCOUNTS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (id, settings) = row.map_err(unavailable)?;
            let settings = serde_json::from_slice(settings.value()).map_err(unavailable)?;
            rows.push((AccountId(*id.value()), settings));
        }
        Ok(rows)
    }

    /// The names of the operator's own accounts that have been used.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn names(&self) -> Result<Vec<(AccountId, String)>, StoreError> {
        let table = self.begin()?.open_table(NAMES).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (id, name) = row.map_err(unavailable)?;
            rows.push((AccountId(*id.value()), name.value().to_owned()));
        }
        Ok(rows)
    }

    /// Facts of a call, as JSON.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also for facts that are damaged.
    pub fn facts(&self, call: &[u8; 16]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(kept) = self.kept_facts(call)? else { return Ok(None) };
        let json = facts_json(&kept).ok_or_else(|| unavailable("the facts of the call are damaged"))?;
        Ok(Some(json.into_owned()))
    }

    fn kept_facts(&self, call: &[u8; 16]) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.begin()?;
        let by_call = transaction.open_table(FACTS).map_err(unavailable)?;
        if let Some(bytes) = by_call.get(call).map_err(unavailable)? {
            return Ok(Some(bytes.value().to_vec()));
        }
        let by_id = transaction.open_table(BY_ID).map_err(unavailable)?;
        let Some(lsn) = by_id.get(call).map_err(unavailable)? else { return Ok(None) };
        let journal = transaction.open_table(JOURNAL).map_err(unavailable)?;
        let found = journal::find(&journal, lsn.value(), |record| record.facts.map(<[u8]>::to_vec))?;
        if let Some(Some(facts)) = found {
            return Ok(Some(facts));
        }
        let at = transaction.open_table(FACTS_AT).map_err(unavailable)?;
        Ok(at.get(lsn.value()).map_err(unavailable)?.map(|bytes| bytes.value().to_vec()))
    }

    /// The entry of a call or deposit, with its hash.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn entry_of(&self, id: &[u8; 16]) -> Result<Option<(Entry, [u8; 32])>, StoreError> {
        let transaction = self.begin()?;
        let by_id = transaction.open_table(BY_ID).map_err(unavailable)?;
        let Some(lsn) = by_id.get(id).map_err(unavailable)?.map(|lsn| lsn.value()) else {
            return Ok(None);
        };
        let journal = transaction.open_table(JOURNAL).map_err(unavailable)?;
        let parsed = |record: Record<'_>| {
            Ok((Entry::parse(record.entry).map_err(unavailable)?, Entry::hash_of(record.entry)))
        };
        journal::find(&journal, lsn, parsed)?.transpose()
    }

    /// Payments handed to a rail that has not said what became of them, with their deposit keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn unsettled(&self) -> Result<Vec<([u8; 32], Payment)>, StoreError> {
        self.payments_in(PaymentState::is_open)
    }

    /// Payments that were refused after their calls were served, with their deposit keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn owed(&self) -> Result<Vec<([u8; 32], Payment)>, StoreError> {
        self.payments_in(|state| state == PaymentState::Owed)
    }

    fn payments_in(
        &self,
        wanted: impl Fn(PaymentState) -> bool,
    ) -> Result<Vec<([u8; 32], Payment)>, StoreError> {
        let table = self.begin()?.open_table(PAYMENTS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (key, payment) = row.map_err(unavailable)?;
            let payment: Payment = serde_json::from_slice(payment.value()).map_err(unavailable)?;
            if wanted(payment.state) {
                rows.push((*key.value(), payment));
            }
        }
        Ok(rows)
    }

    /// Every payment channel, by id.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn channels(&self) -> Result<Vec<([u8; 32], Channel)>, StoreError> {
        let table = self.begin()?.open_table(CHANNELS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (id, channel) = row.map_err(unavailable)?;
            rows.push((*id.value(), serde_json::from_slice(channel.value()).map_err(unavailable)?));
        }
        Ok(rows)
    }

    /// Every session over Lightning that is remembered, by payment hash.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn lightning_sessions(&self) -> Result<Vec<([u8; 32], LightningSession)>, StoreError> {
        let table = self.begin()?.open_table(SESSIONS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (id, session) = row.map_err(unavailable)?;
            rows.push((*id.value(), serde_json::from_slice(session.value()).map_err(unavailable)?));
        }
        Ok(rows)
    }

    /// The payout of an invoice, by its payment hash.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn payout(&self, hash: &[u8; 32]) -> Result<Option<Payout>, StoreError> {
        let table = self.begin()?.open_table(PAYOUTS).map_err(unavailable)?;
        let found = table.get(hash).map_err(unavailable)?;
        found.map(|bytes| serde_json::from_slice(bytes.value()).map_err(unavailable)).transpose()
    }

    /// Every payout that is remembered, by payment hash.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn payouts(&self) -> Result<Vec<([u8; 32], Payout)>, StoreError> {
        let table = self.begin()?.open_table(PAYOUTS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (hash, payout) = row.map_err(unavailable)?;
            rows.push((*hash.value(), serde_json::from_slice(payout.value()).map_err(unavailable)?));
        }
        Ok(rows)
    }

    /// Payouts that are not decided, by payment hash. Reads no other.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn open_payouts(&self) -> Result<Vec<([u8; 32], Payout)>, StoreError> {
        let transaction = self.begin()?;
        let open = transaction.open_table(OPEN_PAYOUTS).map_err(unavailable)?;
        let table = transaction.open_table(PAYOUTS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in open.iter().map_err(unavailable)? {
            let hash = *row.map_err(unavailable)?.1.value();
            let payout = table.get(&hash).map_err(unavailable)?;
            let payout = payout.ok_or_else(|| unavailable("an open payout is missing"))?;
            rows.push((hash, serde_json::from_slice(payout.value()).map_err(unavailable)?));
        }
        Ok(rows)
    }

    /// The payment hash of the one payout of an account that is not decided.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn open_payout(&self, account: AccountId) -> Result<Option<[u8; 32]>, StoreError> {
        let open = self.begin()?.open_table(OPEN_PAYOUTS).map_err(unavailable)?;
        Ok(open.get(&account.0).map_err(unavailable)?.map(|hash| *hash.value()))
    }

    /// What came into an account over Lightning and may go back that way, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn lots(&self, account: AccountId) -> Result<Vec<Lot>, StoreError> {
        let table = self.begin()?.open_table(LOTS).map_err(unavailable)?;
        let found = table.get(&account.0).map_err(unavailable)?;
        let lots =
            found.map(|bytes| serde_json::from_slice(bytes.value()).map_err(unavailable)).transpose()?;
        Ok(lots.unwrap_or_default())
    }

    /// How many calls were given away, by the end of the window (Unix seconds) and by whom on what.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn free_calls(&self) -> Result<Vec<FreeCall>, StoreError> {
        let table = self.begin()?.open_table(FREE_CALLS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (key, used) = row.map_err(unavailable)?;
            rows.push((free_of(key.value()), used.value()));
        }
        Ok(rows)
    }

    /// Calls that have not ended, by id: right after opening, those that a crash has cut off (LED-26).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn open_calls(&self) -> Result<Vec<([u8; 16], OpenCall)>, StoreError> {
        let table = self.begin()?.open_table(OPEN_CALLS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (id, call) = row.map_err(unavailable)?;
            rows.push((*id.value(), serde_json::from_slice(call.value()).map_err(unavailable)?));
        }
        Ok(rows)
    }

    /// Calls `each` with every entry and its bytes, in order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], for damaged entries too.
    pub fn each_entry(&self, mut each: impl FnMut(Entry, &[u8])) -> Result<(), StoreError> {
        let table = self.begin()?.open_table(JOURNAL).map_err(unavailable)?;
        journal::forward(&table, 0..=u64::MAX, |record| {
            each(Entry::parse(record.entry).map_err(unavailable)?, record.entry);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Every key that was handed out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn keys(&self) -> Result<Vec<([u8; 16], KeyRecord)>, StoreError> {
        let table = self.begin()?.open_table(KEYS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (id, record) = row.map_err(unavailable)?;
            rows.push((*id.value(), serde_json::from_slice(record.value()).map_err(unavailable)?));
        }
        Ok(rows)
    }

    /// A key that was handed out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn key(&self, id: &[u8; 16]) -> Result<Option<KeyRecord>, StoreError> {
        self.row(|recent| recent.keys.get(id), KEYS, id)
    }

    /// Every revoked id with its time.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn revoked(&self) -> Result<Vec<([u8; 16], u64)>, StoreError> {
        let table = self.begin()?.open_table(REVOKED).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (id, time) = row.map_err(unavailable)?;
            rows.push((*id.value(), time.value()));
        }
        Ok(rows)
    }
}

fn balances(
    transaction: &redb::ReadTransaction,
    table: TableDefinition<'static, &'static [u8; 18], i64>,
) -> Result<Vec<Balance>, StoreError> {
    let mut rows = Vec::new();
    each_balance(transaction, table, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

fn each_balance(
    transaction: &redb::ReadTransaction,
    table: TableDefinition<'static, &'static [u8; 18], i64>,
    mut each: impl FnMut(Balance) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let table = transaction.open_table(table).map_err(unavailable)?;
    for row in table.iter().map_err(unavailable)? {
        let (key, amount) = row.map_err(unavailable)?;
        let (asset, account) = balance_of(key.value());
        each(Balance { account, asset, amount: Amount::from_units(amount.value()) })?;
    }
    Ok(())
}

fn newest(
    transaction: &redb::ReadTransaction,
    account: Option<AccountId>,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let table = transaction.open_table(JOURNAL).map_err(unavailable)?;
    let mut found = Vec::new();
    journal::backward(&table, 0..=u64::MAX, |record| {
        let entry = Entry::parse(record.entry).map_err(unavailable)?;
        if account.is_none_or(|wanted| entry.legs.iter().any(|leg| leg.account == wanted)) {
            found.push(entry);
        }
        let is_enough = found.len() == limit;
        Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    found.reverse();
    Ok(found)
}
