//! The tree over the journal.

use ledger::merkle::{self, Frontier};

use super::{block_on, deposit, held_up, post};
use crate::{Durability, Op};

/// The tree of the store is that of its entries, at every size, whatever of it is kept.
#[test]
fn paths_of_the_store_are_those_of_its_journal() {
    let (store, _gate) = held_up(Durability::default());
    let mut leaves = Vec::new();
    for number in 0..700u16 {
        let mut entry = deposit(1, 1);
        entry.id[..2].copy_from_slice(&number.to_be_bytes());
        store.submit(post(entry), None).unwrap();
    }
    block_on(store.commit(Op::Flush)).unwrap();
    let reader = store.reader();
    reader.each_entry(|_, bytes| leaves.push(merkle::leaf_hash(bytes))).unwrap();
    let mut frontier = Frontier::default();
    let mut roots = vec![frontier.root()];
    for leaf in &leaves {
        frontier.append(*leaf);
        roots.push(frontier.root());
    }
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 600, 700] {
        let root = reader.tree(size).unwrap().unwrap();
        assert_eq!(root, roots[usize::try_from(size).unwrap()], "{size}");
        for lsn in
            [1, 2, 200, 256, 257, 300, 512, 513, size].into_iter().filter(|lsn| (1..=size).contains(lsn))
        {
            let path = reader.inclusion(lsn, size).unwrap().unwrap();
            let leaf = leaves[usize::try_from(lsn).unwrap() - 1];
            assert!(merkle::verify_inclusion(&leaf, lsn - 1, size, &path, &root), "{lsn} of {size}");
        }
        let grown = reader.consistency(size, 700).unwrap().unwrap();
        assert!(merkle::verify_consistency(size, 700, &grown, &root, &roots[700]), "{size}");
    }
    assert_eq!((reader.tree(701).unwrap(), reader.inclusion(1, 701).unwrap()), (None, None));
    assert_eq!((reader.inclusion(0, 5).unwrap(), reader.inclusion(6, 5).unwrap()), (None, None));
    assert_eq!(reader.consistency(5, 701).unwrap(), None);
}
