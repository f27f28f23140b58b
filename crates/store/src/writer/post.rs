//! Putting entries at the end of the journal.

use std::sync::LazyLock;

use ledger::{AccountId, Chart, Draft, Entry, Leg};
use money::Amount;
use redb::ReadableTable;

use super::batch::{Answer, Batch};
use super::income::{IncomeLeg, income_legs};
use crate::journal::Record;
use crate::read::unavailable;
use crate::tables::balance_key;
use crate::{Committed, StoreError};

/// Accounts of ours that an entry may use without saying so.
static USUAL: LazyLock<[(AccountId, Chart); 3]> = LazyLock::new(|| {
    [Chart::UsageClearing, Chart::OverrunLoss, Chart::Memo].map(|chart| (chart.id(), chart))
});

/// An entry that may be posted, and nothing of it written yet.
pub(super) struct Posting {
    pub(super) draft: Draft,
    legs: Vec<Leg>,
    income: Vec<IncomeLeg>,
}

impl Batch<'_> {
    /// Checks an entry against the rules of the ledger, the ids that are taken and the range of balances.
    pub(super) fn prepare(&self, draft: &Draft, income: Option<AccountId>) -> Result<Posting, StoreError> {
        self.prepare_with(draft, income_legs(draft, income)?)
    }

    /// As [`Batch::prepare`], for an entry whose clearing legs need no income.
    pub(super) fn prepare_with(&self, draft: &Draft, income: Vec<IncomeLeg>) -> Result<Posting, StoreError> {
        let mut draft = draft.clone().checked()?;
        if self.by_id.get(&draft.id).map_err(unavailable)?.is_some() {
            return Err(StoreError::Conflict);
        }
        self.check_range(&income)?;
        let mut legs = Vec::with_capacity(draft.legs.len());
        for leg in draft.legs.drain(..) {
            let before = self.balance(&balance_key(leg.asset, leg.account.0))?;
            let after = before.checked_add(leg.amount.units()).ok_or(StoreError::Range)?;
            // What this transaction will add to it at its end must have room as well.
            let gathered = self.income.gathered(leg.asset, leg.account);
            after.checked_add(gathered).ok_or(StoreError::Range)?;
            legs.push(Leg {
                asset: leg.asset,
                account: leg.account,
                amount: leg.amount,
                balance_after: Amount::from_units(after),
            });
        }
        Ok(Posting { draft, legs, income })
    }

    /// As [`Batch::post_with`], for what is no call and no lot's: lots that the account has are brought up to it.
    pub(super) fn post(&mut self, posting: Posting) -> Answer {
        self.note_other_money(posting.draft.kind, &posting.legs)?;
        self.post_with(posting, None)
    }

    /// Appends a prepared entry, with the facts of its call. Nothing may have been posted since it was prepared.
    pub(super) fn post_with(&mut self, posting: Posting, facts: Option<&[u8]>) -> Answer {
        let Posting { draft, legs, income } = posting;
        for leg in &legs {
            self.pending.insert(balance_key(leg.asset, leg.account.0), leg.balance_after.units());
        }
        for (id, chart) in USUAL.iter() {
            if !self.tail.knows(*id) && legs.iter().any(|leg| leg.account == *id) {
                self.name(*id, chart)?;
            }
        }
        let lsn = self.tail.next_lsn;
        let (id, time_ms) = (draft.id, draft.time_ms);
        let entry = Entry { draft, lsn, legs, previous: self.tail.last_hash };
        let bytes = entry.bytes();
        self.put_record(Record { lsn, entry: &bytes, facts })?;
        self.by_id.insert(&id, lsn).map_err(unavailable)?;
        let tiles = &mut self.tiles;
        self.tail.append(&bytes, |node, hash| {
            tiles.insert((node.level, node.index), &hash).map_err(unavailable).map(drop)
        })?;
        if self.income.note(lsn, time_ms, income) {
            self.post_income()?;
        }
        Ok(Committed { lsn })
    }
}
