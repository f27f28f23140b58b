//! The journal's tree and its signed heads.

use ledger::TreeHead;
use ledger::merkle::{Hash, Node, PathError, consistency_path, empty_root, inclusion_path, node_hash};
use redb::{ReadTransaction, ReadableTable};

use super::{Reader, unavailable};
use crate::tables::{HEADS, META, META_LAST_HASH, META_NEXT_LSN};
use crate::tree::Nodes;
use crate::{SignedHead, StoreError};

impl Reader {
    /// The journal as it is now, to be signed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn unsigned_head(&self, time_ms: u64) -> Result<TreeHead, StoreError> {
        let (store_id, epoch) = (self.store_id()?, self.epoch()?);
        let transaction = self.begin()?;
        let (size, last_hash) = end(&transaction)?;
        let nodes = Nodes::open(&transaction)?;
        let root = root(size, |node| nodes.hash(node))?;
        Ok(TreeHead { store_id, epoch, size, root, last_hash, time_ms })
    }

    /// The newest signed head.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn head(&self) -> Result<Option<SignedHead>, StoreError> {
        let table = self.begin()?.open_table(HEADS).map_err(unavailable)?;
        let last = table.last().map_err(unavailable)?;
        last.map(|(size, row)| of_row(size.value(), row.value())).transpose()
    }

    /// Every signed head, by size.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn heads(&self) -> Result<Vec<SignedHead>, StoreError> {
        let table = self.begin()?.open_table(HEADS).map_err(unavailable)?;
        let mut heads = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (size, row) = row.map_err(unavailable)?;
            heads.push(of_row(size.value(), row.value())?);
        }
        Ok(heads)
    }

    /// The root over the first `size` entries; `None` when there are fewer.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when entries that are needed were rolled into a segment.
    pub fn tree(&self, size: u64) -> Result<Option<Hash>, StoreError> {
        let transaction = self.begin()?;
        if size > end(&transaction)?.0 {
            return Ok(None);
        }
        let nodes = Nodes::open(&transaction)?;
        root(size, |node| nodes.hash(node)).map(Some)
    }

    /// What shows that entry `lsn` is among the first `size` (RFC 9162 2.1.3; its leaf index is `lsn - 1`).
    /// `None` when it is not, or there are fewer entries.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when entries that are needed were rolled into a segment.
    pub fn inclusion(&self, lsn: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        let transaction = self.begin()?;
        let Some(index) = lsn.checked_sub(1) else { return Ok(None) };
        if size > end(&transaction)?.0 {
            return Ok(None);
        }
        let nodes = Nodes::open(&transaction)?;
        path(inclusion_path(index, size, |node| nodes.hash(node)))
    }

    /// What shows that the tree of `old` entries is the beginning of that of `new` (RFC 9162 2.1.4). `None`
    /// when `old` is above `new`, or there are fewer entries.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when entries that are needed were rolled into a segment.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        let transaction = self.begin()?;
        if new > end(&transaction)?.0 {
            return Ok(None);
        }
        let nodes = Nodes::open(&transaction)?;
        path(consistency_path(old, new, |node| nodes.hash(node)))
    }
}

fn of_row(size: u64, row: &[u8]) -> Result<SignedHead, StoreError> {
    SignedHead::of_row(size, row).ok_or_else(|| unavailable("damaged tree head"))
}

/// Entries in the journal, and the hash of the last.
fn end(transaction: &ReadTransaction) -> Result<(u64, Hash), StoreError> {
    let meta = transaction.open_table(META).map_err(unavailable)?;
    let next = meta.get(META_NEXT_LSN).map_err(unavailable)?;
    let next = next.and_then(|bytes| bytes.value().try_into().ok()).map_or(1, u64::from_be_bytes);
    let last = meta.get(META_LAST_HASH).map_err(unavailable)?;
    Ok((next - 1, last.and_then(|bytes| bytes.value().try_into().ok()).unwrap_or([0; 32])))
}

/// The root over the first `size` leaves: its full subtrees, hashed together from the right.
fn root(size: u64, node: impl Fn(Node) -> Result<Hash, StoreError>) -> Result<Hash, StoreError> {
    let (mut root, mut rest) = (None, size);
    while rest != 0 {
        let level = rest.trailing_zeros();
        rest &= rest - 1;
        let full = Node { level: u8::try_from(level).unwrap_or(u8::MAX), index: rest >> level };
        let full = node(full)?;
        root = Some(root.map_or(full, |right| node_hash(&full, &right)));
    }
    Ok(root.unwrap_or_else(empty_root))
}

fn path(found: Result<Vec<Hash>, PathError<StoreError>>) -> Result<Option<Vec<Hash>>, StoreError> {
    match found {
        Ok(path) => Ok(Some(path)),
        Err(PathError::Range) => Ok(None),
        Err(PathError::Store(error)) => Err(error),
    }
}
