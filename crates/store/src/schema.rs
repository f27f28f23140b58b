//! The tables of a new store, and what an older one lacks.

use redb::{ReadableTable, Table, WriteTransaction};

use crate::disk::Disk;
use crate::read::unavailable;
use crate::tables::{
    ACCOUNTS, BALANCES, BY_ID, EXPIRIES, EXPIRY_PAYMENT, FACTS, HEADS, IDEMPOTENT, JOURNAL, KEYS, META,
    META_EPOCH, META_SCHEMA, META_STORE_ID, NAMES, PAYMENTS, REVOKED, TILES, expiry_key,
};
use crate::writer::{Tail, forgotten_s};
use crate::{Payment, PaymentState, StoreError};

/// Version of the tables that this program writes.
const SCHEMA: u32 = 2;
/// Before stores had a version.
const SCHEMA_FIRST: u32 = 1;

/// Makes the tables of a new store, and brings an older one to this version in one transaction.
///
/// # Errors
/// [`StoreError::Unavailable`], also for a store that a newer version has written: nothing was changed then.
pub(crate) fn open(disk: &Disk, fresh_id: [u8; 16]) -> Result<(), StoreError> {
    let transaction = disk.write()?;
    {
        let mut meta = transaction.open_table(META).map_err(unavailable)?;
        let is_new = meta.get(META_STORE_ID).map_err(unavailable)?.is_none();
        if is_new {
            meta.insert(META_STORE_ID, fresh_id.as_slice()).map_err(unavailable)?;
            meta.insert(META_EPOCH, 1u64.to_be_bytes().as_slice()).map_err(unavailable)?;
        }
        let found = version(&meta)?;
        if found > SCHEMA {
            return Err(unavailable(format_args!(
                "written by a newer version (schema {found}, not {SCHEMA})"
            )));
        }
        if found == SCHEMA {
            return Ok(());
        }
        meta.insert(META_SCHEMA, SCHEMA.to_be_bytes().as_slice()).map_err(unavailable)?;
        transaction.open_table(BY_ID).map_err(unavailable)?;
        transaction.open_table(FACTS).map_err(unavailable)?;
        transaction.open_table(BALANCES).map_err(unavailable)?;
        transaction.open_table(KEYS).map_err(unavailable)?;
        transaction.open_table(REVOKED).map_err(unavailable)?;
        transaction.open_table(ACCOUNTS).map_err(unavailable)?;
        transaction.open_table(IDEMPOTENT).map_err(unavailable)?;
        transaction.open_table(HEADS).map_err(unavailable)?;
        grow_tree(&transaction, &mut meta)?;
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
    }
    transaction.commit().map_err(unavailable)
}

fn version(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u32, StoreError> {
    let Some(found) = meta.get(META_SCHEMA).map_err(unavailable)? else { return Ok(SCHEMA_FIRST) };
    found.value().try_into().map(u32::from_be_bytes).map_err(|_| unavailable("damaged schema version"))
}

/// The tree over the entries of a store that had none.
fn grow_tree(
    transaction: &WriteTransaction,
    meta: &mut Table<'_, &'static str, &'static [u8]>,
) -> Result<(), StoreError> {
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
    tail.save(meta)
}
