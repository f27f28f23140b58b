//! The journal, and everything that is folded out of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use ledger::audit::Accounts;
use ledger::merkle::{Frontier, leaf_hash};
use ledger::{AccountId, Audit, Chart, Checkpoint, Entry, Kind, Leg, asset_of_code};
use money::Amount;
use redb::{ReadOnlyTable, ReadTransaction};

use super::finding::Finding;
use super::{CheckOptions, Report};
use crate::facts::facts_json;
use crate::journal::{self, Record};
use crate::read::unavailable;
use crate::segment;
use crate::tables::{
    BY_ID, FACTS, FACTS_AT, JOURNAL, META, META_FRONTIER, META_LAST_HASH, META_NEXT_LSN, TILES,
};
use crate::tree::is_kept;
use crate::{Reader, StoreError, meta};

/// Deposits by key, for the payments.
#[derive(Debug, Default)]
pub(super) struct Deposits {
    pub(super) by_key: HashMap<[u8; 32], (AccountId, u16, Amount)>,
    /// Whether they are all there, and not only those after a cut.
    pub(super) is_whole: bool,
    /// The last entry that was not read.
    pub(super) before: u64,
}

struct Books<'b> {
    report: &'b mut Report,
    audit: Audit,
    tree: Frontier,
    deposits: Deposits,
    /// Accounts of ours.
    internal: HashSet<AccountId>,
    by_id: ReadOnlyTable<&'static [u8; 16], u64>,
    facts: ReadOnlyTable<&'static [u8; 16], &'static [u8]>,
    facts_at: ReadOnlyTable<u64, &'static [u8]>,
    tiles: ReadOnlyTable<(u8, u64), &'static [u8; 32]>,
}

pub(super) fn check(
    reader: &Reader,
    transaction: &ReadTransaction,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<Deposits, StoreError> {
    let base = reader.checkpoint()?;
    let from_start = base.lsn == 0 || options.segments.is_some();
    let start = if from_start { Checkpoint::default() } else { base.clone() };
    let mut audit = Audit::new(start.clone(), accounts(reader)?);
    for signed in reader.heads()? {
        // Those before the start cannot be held against anything.
        if signed.head.size > start.lsn {
            audit.expect(signed.head);
            report.heads += 1;
        }
    }
    report.first_lsn = start.lsn + 1;
    let deposits = Deposits { is_whole: from_start, before: start.lsn, ..Deposits::default() };
    let mut books = Books {
        report,
        audit,
        tree: start.frontier,
        deposits,
        internal: reader.names()?.into_iter().map(|(id, _)| id).collect(),
        by_id: transaction.open_table(BY_ID).map_err(unavailable)?,
        facts: transaction.open_table(FACTS).map_err(unavailable)?,
        facts_at: transaction.open_table(FACTS_AT).map_err(unavailable)?,
        tiles: transaction.open_table(TILES).map_err(unavailable)?,
    };
    if let Some(folder) = options.segments.as_deref().filter(|_| base.lsn != 0) {
        books.segments(folder, &base)?;
    }
    let journal = transaction.open_table(JOURNAL).map_err(unavailable)?;
    journal::forward(&journal, 0..=u64::MAX, |record| {
        let entry = books.entry(record.lsn, record.entry)?;
        entry.map_or(Ok(()), |entry| books.beside(&record, &entry))?;
        Ok(ControlFlow::Continue(()))
    })?;
    books.finish(reader, transaction)
}

/// Who has no floor, and who has one below zero.
fn accounts(reader: &Reader) -> Result<Accounts, StoreError> {
    let internal = reader.names()?.into_iter().map(|(id, _)| id).collect();
    let settings = reader.accounts()?.into_iter();
    let lines = settings.map(|(id, settings)| (id, Amount::from_units(settings.overdraft_ever())));
    Ok(Accounts { internal, overdrafts: lines.collect() })
}

impl Books<'_> {
    /// The entries before the journal's first, from their files; then whether the store has kept what they come to.
    fn segments(&mut self, folder: &std::path::Path, base: &Checkpoint) -> Result<(), StoreError> {
        let mut found = Checkpoint::default();
        for file in segment::list(folder)? {
            let name = file.name.clone();
            let read = segment::read(&file, |line| {
                // A segment may begin with entries that an earlier one has, if a roll was cut off.
                if (found.lsn + 1..=base.lsn).contains(&line.lsn) {
                    (found.lsn, found.hash) = (line.lsn, Entry::hash_of(&line.entry));
                    let legs = Entry::parse(&line.entry).map_or_else(|_| Vec::new(), |entry| entry.legs);
                    let after = legs.into_iter().map(|leg| ((leg.asset, leg.account), leg.balance_after));
                    found.balances.extend(after);
                    self.entry(line.lsn, &line.entry)?;
                }
                Ok(())
            });
            if let Err(error) = read {
                self.report.find(Finding::Segment { file: name, problem: error.to_string() });
            }
        }
        found.frontier = self.tree.clone();
        if found != *base {
            let (last, lsn) = (found.lsn, base.lsn);
            let problem =
                format!("entries end at lsn {last}; the store goes on from {lsn}, or from other balances");
            self.report.find(Finding::Segment { file: folder.display().to_string(), problem });
        }
        Ok(())
    }

    /// The entry, if the bytes are those of one.
    fn entry(&mut self, lsn: u64, bytes: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.audit.feed(lsn, bytes);
        let mut full = Vec::new();
        self.tree.append_noting(leaf_hash(bytes), |node, hash| {
            if is_kept(node) {
                full.push((node, hash));
            }
        });
        for (node, hash) in full {
            let kept = self.tiles.get((node.level, node.index)).map_err(unavailable)?;
            if kept.is_none_or(|kept| *kept.value() != hash) {
                self.report.find(Finding::Tile { level: node.level, index: node.index });
            }
        }
        // What is no entry was found above.
        let Ok(entry) = Entry::parse(bytes) else { return Ok(None) };
        if entry.draft.kind == Kind::Deposit && entry.draft.key != [0; 32] {
            let is_payers = |leg: &&Leg| leg.amount > Amount::ZERO && !self.internal.contains(&leg.account);
            let credited = entry.legs.iter().find(is_payers);
            if let Some(leg) = credited {
                self.deposits.by_key.insert(entry.draft.key, (leg.account, leg.asset, leg.amount));
            }
        }
        Ok(Some(entry))
    }

    /// The rows that stand beside the entry at this place.
    fn beside(&mut self, record: &Record<'_>, entry: &Entry) -> Result<(), StoreError> {
        let (lsn, id) = (record.lsn, &entry.draft.id);
        if self.by_id.get(id).map_err(unavailable)?.is_none_or(|found| found.value() != lsn) {
            self.report.find(Finding::Index { lsn });
        }
        if entry.draft.kind != Kind::Capture {
            return Ok(());
        }
        let at = self.facts_at.get(lsn).map_err(unavailable)?;
        let kept = match at {
            Some(facts) => Some(facts),
            None => self.facts.get(id).map_err(unavailable)?,
        };
        let facts = record.facts.or(kept.as_ref().map(|facts| facts.value()));
        let facts = facts.map(|kept| serde_json::from_slice::<serde_json::Value>(&facts_json(kept)?).ok());
        match facts {
            None => self.report.find(Finding::Facts { lsn, problem: "the facts of the call are missing" }),
            Some(None) => {
                self.report.find(Finding::Facts { lsn, problem: "the facts of the call are damaged" })
            }
            Some(Some(facts)) => self.charge(lsn, entry, &facts),
        }
        Ok(())
    }

    /// What the facts say of the charge, where they say it: the payer's leg is as much, and what is beyond the
    /// hold is counted.
    fn charge(&mut self, lsn: u64, entry: &Entry, facts: &serde_json::Value) {
        let account = facts["account"].as_str().and_then(AccountId::from_hex);
        let Some(leg) = entry.legs.iter().find(|leg| Some(leg.account) == account && is_money(leg)) else {
            return;
        };
        let Some((asset, _)) = asset_of_code(leg.asset) else { return };
        let said = |name: &str| facts[name]["amount"].as_str();
        let decimal = |amount: Amount| amount.decimal(asset).to_string();
        let taken = leg.amount.negated().unwrap_or(Amount::ZERO);
        if said("charged").is_some_and(|charged| charged != decimal(taken)) {
            let problem = "the facts of the call say another charge";
            self.report.find(Finding::Facts { lsn, problem });
        }
        let held = said("held").and_then(|held| money::parse_money(&format!("{held} {asset}")).ok());
        self.report.beyond_hold += u64::from(held.is_some_and(|(held, _)| taken > held));
    }

    /// What the store has folded itself, against what the journal comes to.
    fn finish(self, reader: &Reader, transaction: &ReadTransaction) -> Result<Deposits, StoreError> {
        let Self { report, audit, tree, deposits, .. } = self;
        let audited = audit.finish();
        for finding in audited.findings {
            report.find(Finding::Entry(finding));
        }
        report.more += audited.more;
        let end = audited.end;
        (report.last_lsn, report.last_hash, report.root) = (end.lsn, end.hash, tree.root());
        let meta = transaction.open_table(META).map_err(unavailable)?;
        let kept = meta::number(&meta, META_NEXT_LSN)?.unwrap_or(1).saturating_sub(1);
        let frontier = meta.get(META_FRONTIER).map_err(unavailable)?;
        let is_tree = frontier.map_or_else(Vec::new, |kept| kept.value().to_vec()) == tree.nodes().concat();
        if kept != end.lsn || meta::hash(&meta, META_LAST_HASH)? != end.hash || !is_tree {
            report.find(Finding::End { kept, found: end.lsn });
        }
        let mut folded: BTreeMap<(u16, AccountId), Amount> = end.balances;
        for row in reader.balances()? {
            report.balances += 1;
            let sum = folded.remove(&(row.asset, row.account)).unwrap_or_default();
            if sum != row.amount {
                let (account, asset, kept) = (row.account, row.asset, row.amount);
                report.find(Finding::Balance { account, asset, kept, folded: sum });
            }
            if row.account == Chart::UsageClearing.id() && row.amount != Amount::ZERO {
                report.find(Finding::Clearing { asset: row.asset, left: row.amount });
            }
        }
        for ((asset, account), folded) in folded.into_iter().filter(|(_, sum)| *sum != Amount::ZERO) {
            report.find(Finding::Balance { account, asset, kept: Amount::ZERO, folded });
        }
        Ok(deposits)
    }
}

fn is_money(leg: &Leg) -> bool {
    asset_of_code(leg.asset).is_some_and(|(_, memo)| !memo)
}
