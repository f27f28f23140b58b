//! Single values of the store, in the table `meta`.

use ledger::merkle::Hash;
use redb::ReadableTable;

use crate::StoreError;
use crate::read::unavailable;

/// A big-endian `u64`; `None` when it was never written.
pub(crate) fn number(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<u64>, StoreError> {
    bytes(meta, name).map(|bytes| bytes.map(u64::from_be_bytes))
}

/// 32 bytes; zeros when they were never written.
pub(crate) fn hash(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Hash, StoreError> {
    bytes(meta, name).map(Option::unwrap_or_default)
}

/// A value of a fixed length.
pub(crate) fn bytes<const N: usize>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<[u8; N]>, StoreError> {
    let Some(found) = meta.get(name).map_err(unavailable)? else { return Ok(None) };
    let damaged = |_| unavailable(format_args!("meta: {name} is damaged"));
    found.value().try_into().map(Some).map_err(damaged)
}
