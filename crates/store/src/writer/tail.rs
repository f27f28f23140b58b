//! Where the journal goes on: what the writer has to know to append.

use std::collections::HashSet;
use std::sync::Arc;

use ledger::merkle::{Frontier, Hash, Node};
use ledger::{AccountId, Entry, merkle};
use redb::{ReadTransaction, ReadableTable, Table};

use crate::read::unavailable;
use crate::tables::{CREDIT_LOTS, META, META_BATCHES, META_FRONTIER, META_LAST_HASH, META_NEXT_LSN, NAMES};
use crate::tree::is_kept;
use crate::{StoreError, meta};

/// The end of the journal. A transaction works on a copy, which counts once it is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub(crate) next_lsn: u64,
    pub(crate) last_hash: [u8; 32],
    /// Transactions so far: tells whether one that ended badly is in the file.
    pub(crate) batches: u64,
    frontier: Frontier,
    /// Accounts that have lots. Shared, as the names are.
    lots: Arc<HashSet<AccountId>>,
    /// Accounts of ours that have a name in the store. Shared, because few transactions add to it.
    names: Arc<HashSet<AccountId>>,
}

impl Tail {
    /// Finds where an opened journal ends.
    pub(crate) fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let meta = transaction.open_table(META).map_err(unavailable)?;
        let names = transaction.open_table(NAMES).map_err(unavailable)?;
        let frontier = meta::frontier(&meta)?;
        let mut lots = HashSet::new();
        for row in transaction.open_table(CREDIT_LOTS).map_err(unavailable)?.iter().map_err(unavailable)? {
            lots.insert(AccountId(*row.map_err(unavailable)?.0.value()));
        }
        Ok(Self {
            next_lsn: frontier.size() + 1,
            batches: meta::number(&meta, META_BATCHES)?.unwrap_or(0),
            last_hash: meta::hash(&meta, META_LAST_HASH)?,
            frontier,
            lots: Arc::new(lots),
            ..Self::empty(&names)?
        })
    }

    /// Before the first entry.
    pub(crate) fn empty(
        names: &impl ReadableTable<&'static [u8; 16], &'static str>,
    ) -> Result<Self, StoreError> {
        let mut known = HashSet::new();
        for row in names.iter().map_err(unavailable)? {
            known.insert(AccountId(*row.map_err(unavailable)?.0.value()));
        }
        let names = Arc::new(known);
        let (frontier, lots) = (Frontier::default(), Arc::default());
        Ok(Self { next_lsn: 1, last_hash: [0; 32], batches: 0, frontier, lots, names })
    }

    /// Ends a transaction.
    pub(crate) fn save(
        &mut self,
        meta: &mut Table<'_, &'static str, &'static [u8]>,
    ) -> Result<(), StoreError> {
        self.batches += 1;
        meta.insert(META_BATCHES, self.batches.to_be_bytes().as_slice()).map_err(unavailable)?;
        meta.insert(META_NEXT_LSN, self.next_lsn.to_be_bytes().as_slice()).map_err(unavailable)?;
        meta.insert(META_LAST_HASH, self.last_hash.as_slice()).map_err(unavailable)?;
        let frontier = self.frontier.nodes().concat();
        meta.insert(META_FRONTIER, frontier.as_slice()).map_err(unavailable)?;
        Ok(())
    }

    /// Goes on behind an entry; `keep` gets the nodes of the tree that are stored.
    pub(crate) fn append(
        &mut self,
        entry: &[u8],
        mut keep: impl FnMut(Node, Hash) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.last_hash = Entry::hash_of(entry);
        self.next_lsn += 1;
        let mut kept = Ok(());
        self.frontier.append_noting(merkle::leaf_hash(entry), |node, hash| {
            if is_kept(node) && kept.is_ok() {
                kept = keep(node, hash);
            }
        });
        kept
    }

    pub(crate) fn knows(&self, account: AccountId) -> bool {
        self.names.contains(&account)
    }

    pub(crate) fn has_lots(&self, account: AccountId) -> bool {
        self.lots.contains(&account)
    }

    pub(crate) fn learn_lots(&mut self, account: AccountId) {
        if !self.has_lots(account) {
            Arc::make_mut(&mut self.lots).insert(account);
        }
    }

    pub(crate) fn learn(&mut self, account: AccountId) {
        Arc::make_mut(&mut self.names).insert(account);
    }
}
