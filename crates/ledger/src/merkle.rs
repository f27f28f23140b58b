//! The Merkle tree over journal entries, as in RFC 9162 2.1: what a signed head stands for, and how
//! one entry, or an earlier head, is shown to be part of it.
//!
//! A node is named by its level and its index: it covers the leaves from `index << level` on,
//! `1 << level` of them. Such a subtree never changes once it is full, so a store can keep its hash.

use sha2::{Digest, Sha256};

/// A node or a leaf.
pub type Hash = [u8; 32];

/// A full subtree: leaves `index << level` up to `(index + 1) << level`, which is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// 0 for a leaf.
    pub level: u8,
    /// Counted from the left, at its level.
    pub index: u64,
}

/// Why there is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError<E> {
    /// No such leaf in a tree of that size, or a tree larger than the other.
    #[error("no such leaf or tree")]
    Range,
    /// The store of nodes failed.
    #[error(transparent)]
    Store(E),
}

/// The hash of a leaf: an entry's canonical bytes.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(entry).finalize().into()
}

/// The hash of the node above two others.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The right edge of a growing tree: all that is needed to append and to know the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One full subtree for each bit of `size`, the largest first.
    full: Vec<Hash>,
}

impl Frontier {
    /// A frontier that was kept: the size and what [`Frontier::nodes`] gave. None when the number of
    /// hashes does not fit the size, or the size is one that no journal reaches.
    #[must_use]
    pub fn from_nodes(size: u64, nodes: Vec<Hash>) -> Option<Self> {
        let fits = u32::try_from(nodes.len()) == Ok(size.count_ones()) && size < 1 << 62;
        fits.then_some(Self { size, full: nodes })
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The full subtrees at the right edge, the largest first: at most 64.
    #[must_use]
    pub fn nodes(&self) -> &[Hash] {
        &self.full
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf: Hash) {
        self.append_noting(leaf, |_, _| {});
    }

    /// Appends a leaf, and says which nodes that makes full, itself first: what a store keeps so that
    /// paths can be given later. On average two.
    pub fn append_noting(&mut self, leaf: Hash, mut note: impl FnMut(Node, Hash)) {
        let (mut node, mut hash) = (Node { level: 0, index: self.size }, leaf);
        note(node, hash);
        // An odd index has its left neighbour waiting at the edge, and the two make the node above.
        while node.index % 2 == 1 {
            if let Some(left) = self.full.pop() {
                hash = node_hash(&left, &hash);
            }
            node = Node { level: node.level + 1, index: node.index / 2 };
            note(node, hash);
        }
        self.full.push(hash);
        self.size += 1;
    }

    /// The root over all leaves so far.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut edge = self.full.iter().rev().copied();
        let last = edge.next().unwrap_or_else(empty_root);
        edge.fold(last, |right, left| node_hash(&left, &right))
    }
}

/// The siblings from leaf `index` up to the root of the tree of the first `size` leaves. `node` gives
/// the hash of a full subtree.
///
/// # Errors
/// [`PathError::Range`] when `index` is not below `size`; whatever `node` fails with.
pub fn inclusion_path<E>(
    index: u64,
    size: u64,
    mut node: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, PathError<E>> {
    if index >= size {
        return Err(PathError::Range);
    }
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(middle, end, &mut node)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, &mut node)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Whether `leaf` is number `index`, from 0, of the `size` leaves under `root` (RFC 9162 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            // An edge that stands alone at its level goes up as it is.
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && hash == *root
}

/// What shows that the tree of the first `old` leaves is the beginning of the one of `new` leaves.
/// Empty when `old` is 0 or `new`.
///
/// # Errors
/// [`PathError::Range`] when `old` is above `new`; whatever `node` fails with.
pub fn consistency_path<E>(
    old: u64,
    new: u64,
    mut node: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, PathError<E>> {
    if old > new {
        return Err(PathError::Range);
    }
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut start, mut end) = (0, new);
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range_root(middle, end, &mut node)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, &mut node)?);
            start = middle;
        }
    }
    // A whole old tree on the left is known to the verifier as the old root.
    if start != 0 {
        path.push(range_root(start, end, &mut node)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether the `old` leaves under `old_root` are the first of the `new` leaves under `new_root`
/// (RFC 9162 2.1.4.2).
#[must_use]
pub fn verify_consistency(old: u64, new: u64, path: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    if old > new {
        return false;
    }
    if old == 0 || old == new {
        let known = old != 0 || *old_root == empty_root();
        return path.is_empty() && known && (old != new || old_root == new_root);
    }
    // A power of two is a full subtree, and its root stands for itself.
    let mut rest = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at % 2 == 1 {
        (at, last) = (at / 2, last / 2);
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// Where a tree of `count` leaves, two at least, is split: the largest power of two below it.
const fn split(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The root over the leaves from `start` to before `end`, where `start` is where such a subtree can
/// start in a larger tree: full subtrees from the left, hashed together from the right.
fn range_root<E>(
    start: u64,
    end: u64,
    node: &mut impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Hash, PathError<E>> {
    let (mut at, mut full) = (start, Vec::new());
    while at < end {
        let left = end - at;
        let level = u64::BITS - 1 - left.leading_zeros();
        let name = Node { level: u8::try_from(level).unwrap_or(u8::MAX), index: at >> level };
        full.push(node(name).map_err(PathError::Store)?);
        at += 1 << level;
    }
    let mut edge = full.into_iter().rev();
    let last = edge.next().unwrap_or_else(empty_root);
    Ok(edge.fold(last, |right, left| node_hash(&left, &right)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::{
        Frontier, Hash, Node, PathError, consistency_path, empty_root, inclusion_path, leaf_hash, node_hash,
        verify_consistency, verify_inclusion,
    };

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A tree with everything a store would keep of it.
    struct Tree {
        leaves: Vec<Hash>,
        nodes: BTreeMap<Node, Hash>,
    }

    impl Tree {
        fn of(size: u64) -> Self {
            let (mut frontier, mut nodes) = (Frontier::default(), BTreeMap::new());
            let leaves: Vec<Hash> = (0..size).map(|index| leaf_hash(&index.to_be_bytes())).collect();
            for leaf in &leaves {
                frontier.append_noting(*leaf, |node, hash| {
                    assert_eq!(nodes.insert(node, hash), None, "a full node is noted once");
                });
            }
            Self { leaves, nodes }
        }

        fn node(&self, node: Node) -> Result<Hash, Infallible> {
            Ok(self.nodes[&node])
        }

        fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
            inclusion_path(index, size, |node| self.node(node)).unwrap()
        }

        fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
            consistency_path(old, new, |node| self.node(node)).unwrap()
        }
    }

    /// The definition of RFC 9162 2.1.1, word by word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let mut split = 1;
                while split * 2 < leaves.len() {
                    split *= 2;
                }
                node_hash(&root_by_definition(&leaves[..split]), &root_by_definition(&leaves[split..]))
            }
        }
    }

    /// The check values of ledger.md 8.3.
    #[test]
    fn published_values() {
        let root = |leaves: &[&[u8]]| {
            let mut frontier = Frontier::default();
            leaves.iter().for_each(|leaf| frontier.append(leaf_hash(leaf)));
            hex(&frontier.root())
        };
        assert_eq!(root(&[]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(root(&[b""]), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(
            root(&[b"a", b"b", b"c"]),
            "36642e73c2540ab121e3a6bf9545b0a24982cd830eb13d3cd19de3ce6c021ec1"
        );
    }

    #[test]
    fn a_frontier_has_the_root_of_the_definition_and_can_be_kept() {
        let leaves = Tree::of(70).leaves;
        let mut frontier = Frontier::default();
        for size in 0..=leaves.len() {
            assert_eq!(frontier.size(), u64::try_from(size).unwrap());
            assert_eq!(frontier.root(), root_by_definition(&leaves[..size]), "size {size}");
            let kept = Frontier::from_nodes(frontier.size(), frontier.nodes().to_vec());
            assert_eq!(kept.as_ref(), Some(&frontier));
            if let Some(leaf) = leaves.get(size) {
                frontier.append(*leaf);
            }
        }
        assert_eq!(Frontier::from_nodes(3, vec![[0; 32]]), None);
        assert_eq!(Frontier::from_nodes(1, vec![]), None);
        assert_eq!(Frontier::from_nodes(1 << 62, vec![[0; 32]]), None);
    }

    #[test]
    fn every_leaf_of_every_size_is_shown_to_be_in() {
        let tree = Tree::of(70);
        for size in 1..=70 {
            let root = root_by_definition(&tree.leaves[..usize::try_from(size).unwrap()]);
            for index in 0..size {
                let leaf = tree.leaves[usize::try_from(index).unwrap()];
                let path = tree.inclusion(index, size);
                assert!(verify_inclusion(&leaf, index, size, &path, &root), "{index} of {size}");
                // Not another leaf, place, root or path. Another size may have the same path: the root tells.
                assert!(!verify_inclusion(&[0; 32], index, size, &path, &root));
                assert!(!verify_inclusion(&leaf, index, size, &path, &[0; 32]));
                assert!(!verify_inclusion(&leaf, (index + 1) % size, size, &path, &root) || size == 1);
                assert!(!verify_inclusion(&leaf, size, size, &path, &root));
                let longer = [path.clone(), vec![[0; 32]]].concat();
                assert!(!verify_inclusion(&leaf, index, size, &longer, &root));
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!verify_inclusion(&leaf, index, size, shorter, &root));
                }
                for at in 0..path.len() {
                    let mut changed = path.clone();
                    changed[at][31] ^= 1;
                    assert!(!verify_inclusion(&leaf, index, size, &changed, &root));
                }
            }
        }
        assert_eq!(inclusion_path(0, 0, |node| tree.node(node)), Err(PathError::Range));
        assert_eq!(inclusion_path(7, 7, |node| tree.node(node)), Err(PathError::Range));
        assert_eq!(inclusion_path(0, 2, |_| Err(())), Err(PathError::Store(())));
    }

    #[test]
    fn every_size_is_shown_to_be_the_beginning_of_every_larger_one() {
        let tree = Tree::of(70);
        let roots: Vec<Hash> = (0..=70).map(|size| root_by_definition(&tree.leaves[..size])).collect();
        let root = |size: u64| roots[usize::try_from(size).unwrap()];
        for new in 0..=70 {
            for old in 0..=new {
                let path = tree.consistency(old, new);
                assert!(verify_consistency(old, new, &path, &root(old), &root(new)), "{old} in {new}");
                assert!(!verify_consistency(old, new, &path, &[0; 32], &root(new)), "{old} in {new}");
                assert!(!verify_consistency(old, new, &path, &root(old), &[0; 32]) || old == 0);
                let longer = [path.clone(), vec![[0; 32]]].concat();
                assert!(!verify_consistency(old, new, &longer, &root(old), &root(new)));
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!verify_consistency(old, new, shorter, &root(old), &root(new)));
                }
                for at in 0..path.len() {
                    let mut changed = path.clone();
                    changed[at][0] ^= 1;
                    assert!(!verify_consistency(old, new, &changed, &root(old), &root(new)));
                }
            }
        }
        assert_eq!(consistency_path(4, 3, |node| tree.node(node)), Err(PathError::Range));
        assert_eq!(consistency_path(1, 2, |_| Err(())), Err(PathError::Store(())));
        assert!(!verify_consistency(4, 3, &[], &root(4), &root(3)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Sizes far beyond what is tried one by one.
        #[test]
        fn paths_of_large_trees(sizes in (1u64..3000, 1u64..3000), index in any::<u64>()) {
            let (old, new) = (sizes.0.min(sizes.1), sizes.0.max(sizes.1));
            let tree = Tree::of(new);
            let root = |size: u64| root_by_definition(&tree.leaves[..usize::try_from(size).unwrap()]);
            let index = index % new;
            let leaf = tree.leaves[usize::try_from(index).unwrap()];
            let path = tree.inclusion(index, new);
            prop_assert!(path.len() <= 12);
            prop_assert!(verify_inclusion(&leaf, index, new, &path, &root(new)));
            prop_assert!(verify_consistency(old, new, &tree.consistency(old, new), &root(old), &root(new)));
        }
    }
}
