//! Taking entries out that are in a segment by now.

use ledger::merkle::Node;
use ledger::{Entry, Kind};

use super::batch::{Answer, Batch};
use crate::read::unavailable;
use crate::tables::{META_BASE_HASH, META_BASE_LSN, balance_key};
use crate::tree::{Nodes, edge};
use crate::{Committed, StoreError, journal, meta};

impl Batch<'_> {
    /// The journal begins behind `through` from now on. What it comes to until there stays.
    pub(super) fn forget(&mut self, through: u64) -> Answer {
        let base = meta::number(&self.meta, META_BASE_LSN)?.unwrap_or(0);
        if through <= base || through >= self.tail.next_lsn {
            return Err(StoreError::Conflict);
        }
        // Entries of before this in the same transaction.
        self.put_down_row()?;
        self.keep_edge(base, through)?;
        let (mut lsn, mut hash) = (base, [0; 32]);
        while lsn < through {
            let row = self.journal.remove(lsn + 1).map_err(unavailable)?.map(|row| row.value().to_vec());
            let row = row.ok_or_else(|| unavailable("an entry is missing"))?;
            for record in journal::records(lsn + 1, &row)? {
                lsn = record.lsn;
                if lsn > through {
                    // The rest of the row stays, as one of its own.
                    self.put_record(record)?;
                    continue;
                }
                hash = Entry::hash_of(record.entry);
                self.forget_entry(lsn, &Entry::parse(record.entry).map_err(unavailable)?)?;
            }
        }
        self.put_down_row()?;
        self.meta.insert(META_BASE_LSN, through.to_be_bytes().as_slice()).map_err(unavailable)?;
        self.meta.insert(META_BASE_HASH, hash.as_slice()).map_err(unavailable)?;
        Ok(Committed { lsn: 0 })
    }

    fn forget_entry(&mut self, lsn: u64, entry: &Entry) -> Result<(), StoreError> {
        for leg in &entry.legs {
            let key = balance_key(leg.asset, leg.account.0);
            self.base_balances.insert(&key, leg.balance_after.units()).map_err(unavailable)?;
        }
        self.facts_at.remove(lsn).map_err(unavailable)?;
        self.forget_id(entry)
    }

    /// Ids of calls are ours and random; an id that somebody else chose, or that a payment has, must stay taken.
    fn forget_id(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let id = &entry.draft.id;
        match entry.draft.kind {
            Kind::Capture => {
                self.facts.remove(id).map_err(unavailable)?;
                self.by_id.remove(id).map_err(unavailable)?;
            }
            Kind::Income => drop(self.by_id.remove(id).map_err(unavailable)?),
            Kind::Deposit | Kind::Refund | Kind::Adjust => {}
        }
        Ok(())
    }

    /// Paths of later entries need the full subtrees at the edge of what goes.
    fn keep_edge(&mut self, base: u64, through: u64) -> Result<(), StoreError> {
        let nodes = Nodes { journal: &self.journal, tiles: &self.tiles, base };
        let edge: Vec<Node> = edge(through).collect();
        let hashes = edge.iter().map(|node| nodes.hash(*node)).collect::<Result<Vec<_>, _>>()?;
        for (node, hash) in edge.iter().zip(hashes) {
            self.tiles.insert((node.level, node.index), &hash).map_err(unavailable)?;
        }
        Ok(())
    }
}
