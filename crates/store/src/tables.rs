//! The tables of the file.

use redb::TableDefinition;

pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// LSN -> canonical entry bytes.
pub(crate) const JOURNAL: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("journal");
/// Call or deposit id -> LSN.
pub(crate) const BY_ID: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("by_id");
/// Call id -> JSON facts.
pub(crate) const FACTS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("facts");
/// Asset code (big-endian) then account id -> balance: the fold of the journal.
pub(crate) const BALANCES: TableDefinition<'_, &[u8; 18], i64> = TableDefinition::new("balances");
/// Deposit key -> JSON of `Payment`.
pub(crate) const PAYMENTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("payments");
/// Key id -> JSON of `KeyRecord`.
pub(crate) const KEYS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("keys");
/// Revoked id -> time.
pub(crate) const REVOKED: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("revoked");

pub(crate) const META_STORE_ID: &str = "store_id";
pub(crate) const META_EPOCH: &str = "epoch";
pub(crate) const META_LAST_HASH: &str = "last_hash";
pub(crate) const META_NEXT_LSN: &str = "next_lsn";

pub(crate) fn balance_key(asset: u16, account: [u8; 16]) -> [u8; 18] {
    let mut key = [0; 18];
    key[..2].copy_from_slice(&asset.to_be_bytes());
    key[2..].copy_from_slice(&account);
    key
}
