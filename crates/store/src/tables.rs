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
/// Id of an account of ours -> its name in the chart.
pub(crate) const NAMES: TableDefinition<'_, &[u8; 16], &str> = TableDefinition::new("names");
/// Account id -> JSON of `AccountSettings`.
pub(crate) const ACCOUNTS: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("accounts");
/// SHA-256 of account and idempotency key -> JSON of `Idempotent`.
pub(crate) const IDEMPOTENT: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("idempotent");
/// When rows may go: Unix seconds (big-endian), a kind, the row's key. A sweep reads it from its start.
pub(crate) const EXPIRIES: TableDefinition<'_, &[u8; 41], ()> = TableDefinition::new("expiries");
/// Level (8, 16, ...) and index of a complete subtree -> its hash.
pub(crate) const TILES: TableDefinition<'_, (u8, u64), &[u8; 32]> = TableDefinition::new("tiles");
/// Tree size -> signed head, see `crate::head`.
pub(crate) const HEADS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("heads");

pub(crate) const META_STORE_ID: &str = "store_id";
pub(crate) const META_EPOCH: &str = "epoch";
pub(crate) const META_LAST_HASH: &str = "last_hash";
pub(crate) const META_NEXT_LSN: &str = "next_lsn";
/// Transactions so far, big-endian `u64`.
pub(crate) const META_BATCHES: &str = "batches";
/// The full subtrees at the right edge of the tree, largest first, 32 bytes each.
pub(crate) const META_FRONTIER: &str = "frontier";
/// Version of this list of tables, big-endian `u32`; stores of before it had one are version 1.
pub(crate) const META_SCHEMA: &str = "schema";
/// Payments that a sweep has removed, big-endian `u64`.
pub(crate) const META_SWEPT: &str = "swept_payments";

/// The kind byte of a payment's expiry.
pub(crate) const EXPIRY_PAYMENT: u8 = 1;
/// The kind byte of an idempotent outcome's expiry.
pub(crate) const EXPIRY_IDEMPOTENT: u8 = 2;

pub(crate) fn balance_key(asset: u16, account: [u8; 16]) -> [u8; 18] {
    let mut key = [0; 18];
    key[..2].copy_from_slice(&asset.to_be_bytes());
    key[2..].copy_from_slice(&account);
    key
}

pub(crate) fn expiry_key(expires_s: u64, kind: u8, row: &[u8; 32]) -> [u8; 41] {
    let mut key = [0; 41];
    key[..8].copy_from_slice(&expires_s.to_be_bytes());
    key[8] = kind;
    key[9..].copy_from_slice(row);
    key
}
