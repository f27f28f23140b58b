//! The journal's tree, its signed heads, and where the journal begins.

use ledger::merkle::{Frontier, Hash, PathError, consistency_path, inclusion_path};
use ledger::{Checkpoint, TreeHead};
use redb::{ReadTransaction, ReadableTable};

use super::{Reader, balances, unavailable};
use crate::tables::{
    BASE_BALANCES, HEADS, JOURNAL, META, META_BASE_HASH, META_BASE_LSN, META_LAST_HASH, META_NEXT_LSN, TILES,
};
use crate::tree::{Journal, Nodes, Tiles, edge};
use crate::{SignedHead, StoreError, meta};

impl Reader {
    /// The journal as it is now, to be signed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn unsigned_head(&self, time_ms: u64) -> Result<TreeHead, StoreError> {
        let (store_id, epoch) = (self.store_id()?, self.epoch()?);
        let meta = self.begin()?.open_table(META).map_err(unavailable)?;
        let (frontier, last_hash) = (meta::frontier(&meta)?, meta::hash(&meta, META_LAST_HASH)?);
        Ok(TreeHead { store_id, epoch, size: frontier.size(), root: frontier.root(), last_hash, time_ms })
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
        let tree = Tree::open(&self.begin()?)?;
        (size <= tree.size).then(|| tree.frontier(size).map(|edge| edge.root())).transpose()
    }

    /// What shows that entry `lsn` is among the first `size` (RFC 9162 2.1.3; its leaf index is `lsn - 1`).
    /// `None` when it is not, or there are fewer entries.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when entries that are needed were rolled into a segment.
    pub fn inclusion(&self, lsn: u64, size: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        let tree = Tree::open(&self.begin()?)?;
        let nodes = tree.nodes();
        match lsn.checked_sub(1).filter(|_| size <= tree.size) {
            Some(index) => path(inclusion_path(index, size, |node| nodes.hash(node))),
            None => Ok(None),
        }
    }

    /// What shows that the tree of `old` entries is the beginning of that of `new` (RFC 9162 2.1.4). `None`
    /// when `old` is above `new`, or there are fewer entries.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when entries that are needed were rolled into a segment.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        let tree = Tree::open(&self.begin()?)?;
        let nodes = tree.nodes();
        if new > tree.size {
            return Ok(None);
        }
        path(consistency_path(old, new, |node| nodes.hash(node)))
    }

    /// Where the journal in this store begins: everything before was rolled into segments, and this is what it
    /// comes to. The default for a journal that is here as a whole.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn checkpoint(&self) -> Result<Checkpoint, StoreError> {
        let transaction = self.begin()?;
        let tree = Tree::open(&transaction)?;
        let hash = {
            let meta = transaction.open_table(META).map_err(unavailable)?;
            meta::hash(&meta, META_BASE_HASH)?
        };
        let rows = balances(&transaction, BASE_BALANCES)?;
        Ok(Checkpoint {
            lsn: tree.base,
            hash,
            frontier: tree.frontier(tree.base)?,
            balances: rows.into_iter().map(|row| ((row.asset, row.account), row.amount)).collect(),
        })
    }
}

/// The tables of the tree, at one moment.
struct Tree {
    size: u64,
    base: u64,
    journal: Journal,
    tiles: Tiles,
}

impl Tree {
    fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let meta = transaction.open_table(META).map_err(unavailable)?;
        Ok(Self {
            size: meta::number(&meta, META_NEXT_LSN)?.map_or(0, |next| next.saturating_sub(1)),
            base: meta::number(&meta, META_BASE_LSN)?.unwrap_or(0),
            journal: transaction.open_table(JOURNAL).map_err(unavailable)?,
            tiles: transaction.open_table(TILES).map_err(unavailable)?,
        })
    }

    fn nodes(&self) -> Nodes<'_, Journal, Tiles> {
        Nodes { journal: &self.journal, tiles: &self.tiles, base: self.base }
    }

    /// The right edge of the tree of the first `size` entries.
    fn frontier(&self, size: u64) -> Result<Frontier, StoreError> {
        let nodes = self.nodes();
        let edge = edge(size).map(|node| nodes.hash(node)).collect::<Result<Vec<_>, _>>()?;
        Frontier::from_nodes(size, edge).ok_or_else(|| unavailable("no journal has so many entries"))
    }
}

fn of_row(size: u64, row: &[u8]) -> Result<SignedHead, StoreError> {
    SignedHead::of_row(size, row).ok_or_else(|| unavailable("damaged tree head"))
}

fn path(found: Result<Vec<Hash>, PathError<StoreError>>) -> Result<Option<Vec<Hash>>, StoreError> {
    match found {
        Ok(path) => Ok(Some(path)),
        Err(PathError::Range) => Ok(None),
        Err(PathError::Store(error)) => Err(error),
    }
}
