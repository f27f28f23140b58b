//! The Merkle tree over the journal: what of it is kept, and the rest of it worked out from the entries.
//!
//! Of every level that is a multiple of 8 the full subtrees are kept, one row for 256 entries. A node
//! between two such levels is hashed together from at most 128 nodes below it. Where entries were rolled out,
//! the full subtrees at their right edge are kept as well, so that paths of later entries can be given.

use ledger::merkle::{self, Hash, Node};
use redb::{ReadOnlyTable, ReadableTable};

use crate::read::unavailable;
use crate::{StoreError, journal};

/// Entries, as a reader has them.
pub(crate) type Journal = ReadOnlyTable<u64, &'static [u8]>;
/// Kept nodes, as a reader has them.
pub(crate) type Tiles = ReadOnlyTable<(u8, u64), &'static [u8; 32]>;

/// Levels from one kept row to the next.
const LEVELS: u8 = 8;

/// Whether the store keeps a row for this node as soon as it is full.
pub(crate) const fn is_kept(node: Node) -> bool {
    node.level != 0 && node.level.is_multiple_of(LEVELS)
}

/// The full subtrees at the right edge of a tree of `size` leaves, the largest first.
pub(crate) fn edge(size: u64) -> impl Iterator<Item = Node> {
    let mut rest = size;
    std::iter::from_fn(move || {
        let level = u64::BITS.checked_sub(1 + rest.leading_zeros())?;
        let index = (size - rest) >> level;
        rest -= 1 << level;
        Some(Node { level: u8::try_from(level).unwrap_or(u8::MAX), index })
    })
}

/// Nodes of the tree, from the tables of a transaction.
pub(crate) struct Nodes<'t, J, T> {
    pub(crate) journal: &'t J,
    pub(crate) tiles: &'t T,
    /// Entries that are not in the journal any more.
    pub(crate) base: u64,
}

impl<J, T> Nodes<'_, J, T>
where
    J: ReadableTable<u64, &'static [u8]>,
    T: ReadableTable<(u8, u64), &'static [u8; 32]>,
{
    /// The hash of a full subtree.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when its entries are not in this store, because they were never written or
    /// were rolled into a segment.
    pub(crate) fn hash(&self, node: Node) -> Result<Hash, StoreError> {
        let is_old = node.index << node.level < self.base;
        if is_kept(node) || is_old {
            let kept = self.tiles.get((node.level, node.index)).map_err(unavailable)?;
            if let Some(hash) = kept {
                return Ok(*hash.value());
            }
            if is_kept(node) {
                return Err(unavailable("no such part of the tree"));
            }
        }
        if node.level == 0 {
            // Leaves are counted from 0, entries from 1.
            let leaf = journal::find(self.journal, node.index + 1, |record| merkle::leaf_hash(record.entry))?;
            return leaf.ok_or_else(|| unavailable("no such entry in the store"));
        }
        let child = |index| Node { level: node.level - 1, index };
        let left = self.hash(child(node.index * 2))?;
        let right = self.hash(child(node.index * 2 + 1))?;
        Ok(merkle::node_hash(&left, &right))
    }
}

#[cfg(test)]
mod tests {
    use ledger::merkle::Node;

    use super::edge;

    #[test]
    fn the_edge_of_a_tree_covers_it_from_the_left() {
        let node = |level, index| Node { level, index };
        for (size, expected) in [
            (0, vec![]),
            (1, vec![node(0, 0)]),
            (2, vec![node(1, 0)]),
            (7, vec![node(2, 0), node(1, 2), node(0, 6)]),
            (300, vec![node(8, 0), node(5, 8), node(3, 36), node(2, 74)]),
        ] {
            assert_eq!(edge(size).collect::<Vec<_>>(), expected, "{size}");
        }
    }
}
