//! The tables of the file.

use ledger::AccountId;
use redb::{Key, TableDefinition, Value};

use crate::StoreError;

pub(crate) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
/// LSN of the first entry of a row -> the row, see `crate::journal`.
pub(crate) const JOURNAL: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("journal");
/// Call or deposit id -> LSN.
pub(crate) const BY_ID: TableDefinition<'static, &[u8; 16], u64> = TableDefinition::new("by_id");
/// Call id -> facts of a call without an entry, and of every call of before schema 2; see `crate::facts`.
pub(crate) const FACTS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("facts");
/// LSN of a call's entry -> its JSON facts, of schemas 2 to 7; later they are in the journal's rows.
pub(crate) const FACTS_AT: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("facts_at");
/// Asset code (big-endian) then account id -> balance: the fold of the journal.
pub(crate) const BALANCES: TableDefinition<'static, &[u8; 18], i64> = TableDefinition::new("balances");
/// Deposit key -> JSON of `Payment`.
pub(crate) const PAYMENTS: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("payments");
/// Key id -> JSON of `KeyRecord`.
pub(crate) const KEYS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("keys");
/// Revoked id -> time.
pub(crate) const REVOKED: TableDefinition<'static, &[u8; 16], u64> = TableDefinition::new("revoked");
/// Id of an account of ours -> its name in the chart.
pub(crate) const NAMES: TableDefinition<'static, &[u8; 16], &str> = TableDefinition::new("names");
/// Account id -> JSON of `AccountSettings`.
pub(crate) const ACCOUNTS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("accounts");
/// SHA-256 of account and idempotency key -> JSON of `Idempotent`.
pub(crate) const IDEMPOTENT: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("idempotent");
/// Call id -> JSON of `OpenCall`: calls that have not ended, where each is journalled.
pub(crate) const OPEN_CALLS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("open_calls");
/// Channel id -> JSON of `Channel`.
pub(crate) const CHANNELS: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("channels");
/// Payment hash -> JSON of `Payout`.
pub(crate) const PAYOUTS: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("payouts");
/// Account id -> payment hash of its one payout that is not decided.
pub(crate) const OPEN_PAYOUTS: TableDefinition<'static, &[u8; 16], &[u8; 32]> =
    TableDefinition::new("open_payouts");
/// Payment hash -> JSON of `LightningSession`.
pub(crate) const SESSIONS: TableDefinition<'static, &[u8; 32], &[u8]> =
    TableDefinition::new("lightning_sessions");
/// Account id -> JSON of the `Lot`s that came in over Lightning, oldest first.
pub(crate) const LOTS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("lots");
/// Order id -> JSON of `TopUp`.
pub(crate) const TOP_UPS: TableDefinition<'static, &[u8; 16], &[u8]> = TableDefinition::new("top_ups");
/// Deposit key -> JSON of `Parked`.
pub(crate) const PARKED: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("parked");
/// Account id -> JSON of `LotBook`.
pub(crate) const CREDIT_LOTS: TableDefinition<'static, &[u8; 16], &[u8]> =
    TableDefinition::new("credit_lots");
/// Hash of a code -> JSON of `RedemptionCode`.
pub(crate) const CODES: TableDefinition<'static, &[u8; 32], &[u8]> = TableDefinition::new("codes");
/// Refund id -> JSON of `TopUpRefund`.
pub(crate) const TOP_UP_REFUNDS: TableDefinition<'static, &[u8; 16], &[u8]> =
    TableDefinition::new("top_up_refunds");
/// Deposit key of a payment by ecash -> JSON of `CashuSwap`.
pub(crate) const CASHU_SWAPS: TableDefinition<'static, &[u8; 32], &[u8]> =
    TableDefinition::new("cashu_swaps");
/// Deposit key of a payer's coin -> that of the payment it was in.
pub(crate) const CASHU_COINS: TableDefinition<'static, &[u8; 32], &[u8; 32]> =
    TableDefinition::new("cashu_coins");
/// Key of what a payer granted to a processor -> deposit key of the payment that was charged by it.
pub(crate) const GRANTS: TableDefinition<'static, &[u8; 32], &[u8; 32]> = TableDefinition::new("grants");
/// End of a window (Unix seconds, big-endian) and who on what -> how many calls were given away.
pub(crate) const FREE_CALLS: TableDefinition<'static, &[u8; 24], u32> = TableDefinition::new("free_calls");
/// When rows may go: Unix seconds (big-endian), a kind, the row's key. A sweep reads it from its start.
pub(crate) const EXPIRIES: TableDefinition<'static, &[u8; 41], ()> = TableDefinition::new("expiries");
/// Level (8, 16, ...) and index of a complete subtree -> its hash; of any level for the right edge of what was
/// rolled into segments.
pub(crate) const TILES: TableDefinition<'static, (u8, u64), &[u8; 32]> = TableDefinition::new("tiles");
/// The balances after the entries that were rolled into segments; keys as in `BALANCES`.
pub(crate) const BASE_BALANCES: TableDefinition<'static, &[u8; 18], i64> =
    TableDefinition::new("base_balances");
/// Tree size -> signed head, see `crate::head`.
pub(crate) const HEADS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("heads");

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
/// The last entry that was rolled into a segment, big-endian `u64`; 0 or absent when none was.
pub(crate) const META_BASE_LSN: &str = "base_lsn";
/// Its hash.
pub(crate) const META_BASE_HASH: &str = "base_hash";
/// Payments that a sweep has removed, big-endian `u64`.
pub(crate) const META_SWEPT: &str = "swept_payments";

/// The kind byte of a payment's expiry.
pub(crate) const EXPIRY_PAYMENT: u8 = 1;
/// The kind byte of an idempotent outcome's expiry.
pub(crate) const EXPIRY_IDEMPOTENT: u8 = 2;
/// The kind byte of a payout's expiry.
pub(crate) const EXPIRY_PAYOUT: u8 = 3;
/// The kind byte of a session's expiry.
pub(crate) const EXPIRY_SESSION: u8 = 4;
/// The kind byte of a grant's expiry.
pub(crate) const EXPIRY_GRANT: u8 = 5;
/// The kind byte of an unpaid order's expiry; its row's key is the first half.
pub(crate) const EXPIRY_TOP_UP: u8 = 6;

pub(crate) fn balance_key(asset: u16, account: [u8; 16]) -> [u8; 18] {
    let mut key = [0; 18];
    key[..2].copy_from_slice(&asset.to_be_bytes());
    key[2..].copy_from_slice(&account);
    key
}

/// The asset code and the account of a balance's key.
pub(crate) fn balance_of(key: &[u8; 18]) -> (u16, AccountId) {
    let mut account = [0; 16];
    account.copy_from_slice(&key[2..]);
    (u16::from_be_bytes([key[0], key[1]]), AccountId(account))
}

pub(crate) fn expiry_key(expires_s: u64, kind: u8, row: &[u8; 32]) -> [u8; 41] {
    let mut key = [0; 41];
    key[..8].copy_from_slice(&expires_s.to_be_bytes());
    key[8] = kind;
    key[9..].copy_from_slice(row);
    key
}

pub(crate) fn free_key(until_s: u64, who: [u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&until_s.to_be_bytes());
    key[8..].copy_from_slice(&who);
    key
}

/// The end of the window and who, of a key of `FREE_CALLS`.
pub(crate) fn free_of(key: &[u8; 24]) -> (u64, [u8; 16]) {
    let (mut until, mut who) = ([0; 8], [0; 16]);
    until.copy_from_slice(&key[..8]);
    who.copy_from_slice(&key[8..]);
    (u64::from_be_bytes(until), who)
}

/// Something that is done with every table.
pub(crate) trait EachTable {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError>;
}

/// Hands every table to `each`: what makes, copies and checks them all has this one list.
pub(crate) fn for_each(each: &mut impl EachTable) -> Result<(), StoreError> {
    each.table(META)?;
    each.table(JOURNAL)?;
    each.table(BY_ID)?;
    each.table(FACTS)?;
    each.table(FACTS_AT)?;
    each.table(BALANCES)?;
    each.table(BASE_BALANCES)?;
    each.table(PAYMENTS)?;
    each.table(KEYS)?;
    each.table(REVOKED)?;
    each.table(NAMES)?;
    each.table(ACCOUNTS)?;
    each.table(IDEMPOTENT)?;
    each.table(OPEN_CALLS)?;
    each.table(CHANNELS)?;
    each.table(PAYOUTS)?;
    each.table(OPEN_PAYOUTS)?;
    each.table(SESSIONS)?;
    each.table(LOTS)?;
    each.table(TOP_UPS)?;
    each.table(PARKED)?;
    each.table(CREDIT_LOTS)?;
    each.table(CODES)?;
    each.table(TOP_UP_REFUNDS)?;
    each.table(FREE_CALLS)?;
    each.table(CASHU_SWAPS)?;
    each.table(CASHU_COINS)?;
    each.table(GRANTS)?;
    each.table(EXPIRIES)?;
    each.table(TILES)?;
    each.table(HEADS)
}
