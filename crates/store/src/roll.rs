//! Moving the oldest entries out of the store, into files.

use std::borrow::Cow;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use ledger::{Chart, Entry, Kind};
use redb::{ReadTransaction, ReadableTable};

use crate::facts::facts_json;
use crate::read::unavailable;
use crate::segment::{self, Title, hex};
use crate::tables::{FACTS, FACTS_AT, JOURNAL, META, META_BASE_LSN, META_NEXT_LSN};
use crate::{Op, Reader, Store, StoreError, journal, meta};

/// Entries that leave the store in one transaction, about: bounds how long other writes wait.
const STEP: u64 = 4096;

/// What was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// The first entry in the file.
    pub first_lsn: u64,
    /// The last.
    pub last_lsn: u64,
    /// The file.
    pub file: PathBuf,
}

impl Store {
    /// Moves entries up to `through_lsn` with their facts and ids into a file of `folder`, and then out of the
    /// store. It ends where a batch ends, which may be some entries earlier. What the entries come to stays:
    /// balances, the tree, the keys of payments, and the ids that make an operator's postings safe to repeat.
    /// `None` when there is nothing to move.
    ///
    /// Receipts and proofs of moved entries can no longer be given from this store. Blocks, and must not be called
    /// from an asynchronous task.
    ///
    /// # Errors
    /// [`StoreError`]; what was moved before is in the file and safe, and the same call again goes on.
    pub fn roll(&self, through_lsn: u64, folder: &Path) -> Result<Option<Rolled>, StoreError> {
        let mut base = 0;
        let mut rolled = None;
        if let Some((range, file)) = self.reader().write_segment(through_lsn, folder)? {
            base = range.start() - 1;
            rolled = Some(Rolled { first_lsn: *range.start(), last_lsn: *range.end(), file });
        }
        let last = rolled.as_ref().map_or(0, |rolled: &Rolled| rolled.last_lsn);
        while base < last {
            let through = self.reader().step(base, last)?;
            self.commit_blocking(Op::Forget { through_lsn: through })?;
            base = through;
        }
        Ok(rolled)
    }
}

impl Reader {
    fn write_segment(
        &self,
        through_lsn: u64,
        folder: &Path,
    ) -> Result<Option<(RangeInclusive<u64>, PathBuf)>, StoreError> {
        let before = self.checkpoint()?;
        let transaction = self.begin()?;
        let meta = transaction.open_table(META).map_err(unavailable)?;
        let end = meta::number(&meta, META_NEXT_LSN)?.unwrap_or(1) - 1;
        let journal = transaction.open_table(JOURNAL).map_err(unavailable)?;
        let last = end_of_batch(&journal, before.lsn, through_lsn.min(end))?;
        if last <= before.lsn {
            return Ok(None);
        }
        let hash = journal::find(&journal, last, |record| Entry::hash_of(record.entry))?;
        let hash = hash.ok_or_else(|| unavailable("no such entry"))?;
        let root = self.tree(last)?.ok_or_else(|| unavailable("no such entry"))?;
        let title = Title {
            farthing_segment: 1,
            store_id: hex(&self.store_id()?),
            first: before.lsn + 1,
            last,
            previous: hex(&before.hash),
            hash: hex(&hash),
            root: hex(&root),
        };
        let file = segment::write(folder, &title, |writer| write_entries(&transaction, &title, writer))?;
        Ok(Some((title.first..=last, file)))
    }

    /// How far the next transaction goes.
    fn step(&self, base: u64, last: u64) -> Result<u64, StoreError> {
        let transaction = self.begin()?;
        let journal = transaction.open_table(JOURNAL).map_err(unavailable)?;
        let meta = transaction.open_table(META).map_err(unavailable)?;
        if meta::number(&meta, META_BASE_LSN)?.unwrap_or(0) != base {
            return Err(unavailable("somebody else rolls this store"));
        }
        let step = end_of_batch(&journal, base, last.min(base + STEP))?;
        // A batch longer than a step leaves at once.
        Ok(if step > base { step } else { last })
    }
}

fn write_entries(
    transaction: &ReadTransaction,
    title: &Title,
    writer: &mut segment::Writer,
) -> Result<(), StoreError> {
    let journal = transaction.open_table(JOURNAL).map_err(unavailable)?;
    let facts_at = transaction.open_table(FACTS_AT).map_err(unavailable)?;
    let by_call = transaction.open_table(FACTS).map_err(unavailable)?;
    journal::forward(&journal, title.first..=title.last, |record| {
        let entry = Entry::parse(record.entry).map_err(unavailable)?;
        let kept = match facts_at.get(record.lsn).map_err(unavailable)? {
            Some(facts) => Some(facts),
            None => by_call.get(&entry.draft.id).map_err(unavailable)?,
        };
        let facts = record.facts.or(kept.as_ref().map(|facts| facts.value()));
        // In a segment they are JSON, for whoever reads it without us; what is damaged goes there as it is.
        let json = facts.map(|kept| facts_json(kept).unwrap_or(Cow::Borrowed(kept)));
        writer.entry(record.lsn, record.entry, json.as_deref())?;
        Ok(ControlFlow::Continue(()))
    })
}

/// The last entry, not above `through` and not below `base`, after which nothing is left in clearing: a journal may
/// begin behind it.
fn end_of_batch(
    journal: &impl ReadableTable<u64, &'static [u8]>,
    base: u64,
    through: u64,
) -> Result<u64, StoreError> {
    let clearing = Chart::UsageClearing.id();
    let mut end = through.max(base);
    journal::backward(journal, base + 1..=end, |record| {
        let entry = Entry::parse(record.entry).map_err(unavailable)?;
        if entry.draft.kind == Kind::Income {
            return Ok(ControlFlow::Break(()));
        }
        if entry.legs.iter().any(|leg| leg.account == clearing) {
            end = record.lsn - 1;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(end)
}
