//! Single values of the store, in the table `meta`.

use ledger::merkle::{Frontier, Hash};
use redb::ReadableTable;

use crate::StoreError;
use crate::read::unavailable;
use crate::tables::{META_FRONTIER, META_NEXT_LSN};

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

/// The right edge of the tree over the journal.
pub(crate) fn frontier(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Frontier, StoreError> {
    let size = number(meta, META_NEXT_LSN)?.map_or(0, |next| next.saturating_sub(1));
    let nodes = meta.get(META_FRONTIER).map_err(unavailable)?;
    let nodes = nodes.map_or_else(Vec::new, |bytes| bytes.value().as_chunks().0.to_vec());
    Frontier::from_nodes(size, nodes).ok_or_else(|| unavailable("damaged tree"))
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
