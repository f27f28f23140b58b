//! The Merkle tree over the journal: what of it is kept, and the rest of it worked out from the entries.
//!
//! Of every level that is a multiple of 8 the full subtrees are kept, one row for 256 entries. A node
//! between two such levels is hashed together from at most 128 nodes below it.

use ledger::merkle::{self, Hash, Node};
use redb::{ReadOnlyTable, ReadTransaction};

use crate::StoreError;
use crate::read::unavailable;
use crate::tables::{JOURNAL, TILES};

/// Levels from one kept row to the next.
const LEVELS: u8 = 8;

/// Whether the store keeps a row for this node.
pub(crate) const fn is_kept(node: Node) -> bool {
    node.level != 0 && node.level.is_multiple_of(LEVELS)
}

/// Nodes of the tree, as a read transaction sees it.
pub(crate) struct Nodes {
    journal: ReadOnlyTable<u64, &'static [u8]>,
    tiles: ReadOnlyTable<(u8, u64), &'static [u8; 32]>,
}

impl Nodes {
    pub(crate) fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            journal: transaction.open_table(JOURNAL).map_err(unavailable)?,
            tiles: transaction.open_table(TILES).map_err(unavailable)?,
        })
    }

    /// The hash of a full subtree.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when its entries are not in this store, because they were never written or
    /// were rolled into a segment.
    pub(crate) fn hash(&self, node: Node) -> Result<Hash, StoreError> {
        if is_kept(node) {
            let kept = self.tiles.get((node.level, node.index)).map_err(unavailable)?;
            return kept.map(|hash| *hash.value()).ok_or_else(|| unavailable("no such part of the tree"));
        }
        if node.level == 0 {
            // Leaves are counted from 0, entries from 1.
            let entry = self.journal.get(node.index + 1).map_err(unavailable)?;
            let entry = entry.ok_or_else(|| unavailable("no such entry in the store"))?;
            return Ok(merkle::leaf_hash(entry.value()));
        }
        let child = |index| Node { level: node.level - 1, index };
        let left = self.hash(child(node.index * 2))?;
        let right = self.hash(child(node.index * 2 + 1))?;
        Ok(merkle::node_hash(&left, &right))
    }
}
