//! The tables of a new store, and what an older one lacks.

use std::collections::HashSet;

use ledger::{AccountId, Chart};
use redb::{Key, ReadableTable, TableDefinition, TableError, Value, WriteTransaction};

use crate::disk::Disk;
use crate::read::unavailable;
use crate::tables::{
    self, BALANCES, EXPIRIES, EXPIRY_PAYMENT, FACTS, JOURNAL, META, META_EPOCH, META_SCHEMA, META_STORE_ID,
    NAMES, PAYMENTS, TILES, expiry_key,
};
use crate::writer::{Tail, forgotten_s};
use crate::{Payment, PaymentState, StoreError, meta};

/// Version of the tables that this program writes.
/// Of version 4 are payments that were promised, and channels; of version 5 refunds over Lightning,
/// ecash, and calls that were given away; of version 6 channels that are sessions,
/// and sessions over Lightning; of version 7 what payers grant to processors; of version 8 the log beside it, and
/// rows of several entries; of version 9 payments in that log; of version 10 orders for balance, codes and their lots, and
/// facts that are packed.
pub(crate) const SCHEMA: u32 = 10;
/// Before stores had a version.
const SCHEMA_FIRST: u32 = 1;
/// The first with names, expiries and a tree.
const SCHEMA_TREE: u32 = 2;

/// Makes the tables of a new store, and brings an older one to this version in one transaction.
///
/// # Errors
/// [`StoreError::Unavailable`], also for a store that a newer version has written: nothing was changed then.
pub(crate) fn open(disk: &Disk, fresh_id: [u8; 16]) -> Result<(), StoreError> {
    let found = version(disk)?;
    if found == Some(SCHEMA) {
        return Ok(());
    }
    if let Some(newer) = found.filter(|found| *found > SCHEMA) {
        return Err(unavailable(format_args!("written by a newer version (schema {newer}, not {SCHEMA})")));
    }
    let mut transaction = disk.write()?;
    transaction.set_quick_repair(true);
    tables::for_each(&mut Making(&transaction))?;
    if found.is_none() {
        let mut meta = transaction.open_table(META).map_err(unavailable)?;
        meta.insert(META_STORE_ID, fresh_id.as_slice()).map_err(unavailable)?;
        meta.insert(META_EPOCH, 1u64.to_be_bytes().as_slice()).map_err(unavailable)?;
    }
    if found.is_none_or(|found| found < SCHEMA_TREE) {
        name_accounts(&transaction)?;
        plan_expiries(&transaction)?;
        grow_tree(&transaction)?;
    }
    {
        let mut meta = transaction.open_table(META).map_err(unavailable)?;
        meta.insert(META_SCHEMA, SCHEMA.to_be_bytes().as_slice()).map_err(unavailable)?;
    }
    transaction.commit().map_err(unavailable)
}

/// The version of the store; `None` for one that is new.
pub(crate) fn version(disk: &Disk) -> Result<Option<u32>, StoreError> {
    let meta = match disk.read()?.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        opened => opened.map_err(unavailable)?,
    };
    Ok(Some(meta::bytes(&meta, META_SCHEMA)?.map_or(SCHEMA_FIRST, u32::from_be_bytes)))
}

struct Making<'m>(&'m WriteTransaction);

impl tables::EachTable for Making<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        self.0.open_table(table).map(drop).map_err(unavailable)
    }
}

/// The names of our own accounts that an older store did not keep: of the rails of its payments, the models of
/// its calls, and those that never change.
fn name_accounts(transaction: &WriteTransaction) -> Result<(), StoreError> {
    let mut rails: HashSet<String> = ["operator", "test"].map(str::to_owned).into();
    for row in transaction.open_table(PAYMENTS).map_err(unavailable)?.iter().map_err(unavailable)? {
        let payment: Payment =
            serde_json::from_slice(row.map_err(unavailable)?.1.value()).map_err(unavailable)?;
        rails.insert(payment.rail);
    }
    let mut models = HashSet::new();
    for row in transaction.open_table(FACTS).map_err(unavailable)?.iter().map_err(unavailable)? {
        let facts = serde_json::from_slice::<serde_json::Value>(row.map_err(unavailable)?.1.value());
        models.extend(facts.ok().as_ref().and_then(|facts| facts["model"].as_str()).map(str::to_owned));
    }
    let usual = [Chart::UsageClearing, Chart::OverrunLoss, Chart::Memo];
    let charts = usual.into_iter().chain(rails.into_iter().map(Chart::RailClearing));
    let charts = charts.chain(models.into_iter().map(Chart::Usage));
    let mut used = HashSet::new();
    for row in transaction.open_table(BALANCES).map_err(unavailable)?.iter().map_err(unavailable)? {
        used.insert(tables::balance_of(row.map_err(unavailable)?.0.value()).1);
    }
    let mut names = transaction.open_table(NAMES).map_err(unavailable)?;
    for chart in charts {
        let id: AccountId = chart.id();
        if used.contains(&id) {
            names.insert(&id.0, chart.name().as_str()).map_err(unavailable)?;
        }
    }
    Ok(())
}

fn plan_expiries(transaction: &WriteTransaction) -> Result<(), StoreError> {
    let payments = transaction.open_table(PAYMENTS).map_err(unavailable)?;
    let mut expiries = transaction.open_table(EXPIRIES).map_err(unavailable)?;
    for row in payments.iter().map_err(unavailable)? {
        let (key, payment) = row.map_err(unavailable)?;
        let payment: Payment = serde_json::from_slice(payment.value()).map_err(unavailable)?;
        if payment.state == PaymentState::Served
            && let Some(expires_s) = forgotten_s(&payment)
        {
            let expiry = expiry_key(expires_s, EXPIRY_PAYMENT, key.value());
            expiries.insert(&expiry, ()).map_err(unavailable)?;
        }
    }
    Ok(())
}

/// The tree over the entries of a store that had none, and where its journal goes on.
fn grow_tree(transaction: &WriteTransaction) -> Result<(), StoreError> {
    let journal = transaction.open_table(JOURNAL).map_err(unavailable)?;
    let names = transaction.open_table(NAMES).map_err(unavailable)?;
    let mut tiles = transaction.open_table(TILES).map_err(unavailable)?;
    let mut tail = Tail::empty(&names)?;
    for row in journal.iter().map_err(unavailable)? {
        let (_, entry) = row.map_err(unavailable)?;
        tail.append(entry.value(), |node, hash| {
            tiles.insert((node.level, node.index), &hash).map_err(unavailable).map(drop)
        })?;
    }
    let mut meta = transaction.open_table(META).map_err(unavailable)?;
    tail.save(&mut meta)
}
