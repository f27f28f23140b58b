//! Checks a journal from outside: every rule that its bytes alone can show, and the first entry that
//! breaks one.
//!
//! Entries are fed in the order of their places. What is folded out (balances, frontier, last hash) can
//! be kept as a [`Checkpoint`] and taken up again, so that rolled segments need not be read each time.

mod finding;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use money::{Amount, Asset};

pub use self::finding::{FINDINGS_MAX, Finding, Problem, Report};
use self::rules::{is_balanced, is_rounded, lsn_range};
use crate::merkle::{Frontier, leaf_hash};
use crate::{AccountId, Chart, Entry, Kind, Leg, TreeHead, asset_of_code, leg_asset};

/// Who is who, for the rules that bytes cannot show.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// The operator's own: rails, income, losses. They have no floor.
    pub internal: HashSet<AccountId>,
    /// The largest credit line a payer ever had; 0 for who is not in it.
    pub overdrafts: HashMap<AccountId, Amount>,
}

/// The journal up to an entry, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry, 0 before the first.
    pub lsn: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// The tree up to it.
    pub frontier: Frontier,
    /// Every balance, by asset code and account.
    pub balances: BTreeMap<(u16, AccountId), Amount>,
}

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    accounts: Accounts,
    heads: BTreeMap<u64, TreeHead>,
    at: Checkpoint,
    from: u64,
    entries: u64,
    findings: BTreeSet<Finding>,
    more: u64,
    link: Link,
    /// What the entry before hangs on.
    hangs_on: [u8; 32],
    ids: HashSet<[u8; 16]>,
    deposits: HashSet<[u8; 32]>,
    head_before: u64,
    income: Income,
}

/// How the entry before hangs together with the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// It does, or there is nothing to hang on to.
    Whole,
    /// It names another hash: one of the two was changed, and whoever comes next tells which.
    Torn,
    /// The entry before is missing or unreadable: nothing can be said.
    Unknown,
}

/// Captures whose income has not been posted.
#[derive(Debug, Default)]
struct Income {
    first: Option<u64>,
    last: u64,
    posted: u64,
}

impl Audit {
    /// Starts at `from`: the default checkpoint for a whole journal.
    #[must_use]
    pub fn new(from: Checkpoint, accounts: Accounts) -> Self {
        Self {
            accounts,
            heads: BTreeMap::new(),
            from: from.lsn,
            head_before: from.lsn,
            at: from,
            entries: 0,
            findings: BTreeSet::new(),
            more: 0,
            link: Link::Whole,
            hangs_on: [0; 32],
            ids: HashSet::new(),
            deposits: HashSet::new(),
            income: Income::default(),
        }
    }

    /// Expects a head, whose signature was checked, to fit. Before the entries are fed; of two heads of
    /// one size the later counts.
    pub fn expect(&mut self, head: TreeHead) {
        self.heads.insert(head.size, head);
    }

    /// Takes the bytes that stand at a place.
    pub fn feed(&mut self, lsn: u64, bytes: &[u8]) {
        self.entries += 1;
        let expected = self.at.lsn + 1;
        if lsn < expected {
            return self.find(lsn, Problem::OutOfOrder);
        }
        if lsn > expected {
            self.let_go();
            self.find(expected, Problem::Missing);
        }
        match Entry::parse(bytes) {
            Ok(entry) => {
                self.place(lsn, &entry);
                self.content(lsn, &entry);
                self.hangs_on = entry.previous;
            }
            Err(_) => {
                self.let_go();
                self.find(lsn, Problem::Damaged);
            }
        }
        self.at.lsn = lsn;
        self.at.hash = Entry::hash_of(bytes);
        self.at.frontier.append(leaf_hash(bytes));
        self.head(lsn);
    }

    /// The end of the journal.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.let_go();
        if self.heads.range(self.at.lsn + 1..).next().is_some() {
            self.find(self.at.lsn + 1, Problem::Missing);
        }
        // The call is not what is bad: its batch's income should stand behind it.
        if self.income.first.is_some() {
            self.find(self.at.lsn + 1, Problem::Clearing);
        }
        let findings = self.findings.into_iter().collect();
        Report { entries: self.entries, findings, more: self.more, end: self.at }
    }

    fn find(&mut self, lsn: u64, problem: Problem) {
        self.findings.insert(Finding { lsn, problem });
        if self.findings.len() > FINDINGS_MAX {
            self.findings.pop_last();
            self.more += 1;
        }
    }

    /// Nothing will vouch for the entry before or against it.
    fn let_go(&mut self) {
        if self.link == Link::Torn {
            self.find(self.at.lsn, Problem::Chain);
        }
        self.link = Link::Unknown;
    }

    /// Whether the bytes belong here and hang on to those before.
    fn place(&mut self, lsn: u64, entry: &Entry) {
        let before = self.at.lsn;
        if entry.lsn != lsn {
            self.let_go();
            // The next of the one before the last: what came between was put in, unless it is the same again.
            let is_next = before > self.from && entry.lsn == before && entry.previous == self.hangs_on;
            if is_next && Entry::hash_of(&entry.bytes()) != self.at.hash {
                self.find(before, Problem::Chain);
            }
            return self.find(lsn, Problem::WrongPlace { lsn: entry.lsn });
        }
        let follows = entry.previous == self.at.hash;
        self.link = match (self.link, follows) {
            (Link::Whole, false) => Link::Torn,
            (Link::Torn, true) => {
                // Two that agree outvote the one before them.
                self.find(before.saturating_sub(1), Problem::Chain);
                Link::Whole
            }
            (Link::Torn, false) => {
                self.find(before, Problem::Chain);
                Link::Whole
            }
            (Link::Whole, true) | (Link::Unknown, _) => Link::Whole,
        };
    }

    /// What an entry must be by itself, and beside what came before.
    fn content(&mut self, lsn: u64, entry: &Entry) {
        let draft = &entry.draft;
        if !self.ids.insert(draft.id) {
            self.find(lsn, Problem::Id);
        }
        if draft.kind == Kind::Deposit && draft.key != [0; 32] && !self.deposits.insert(draft.key) {
            self.find(lsn, Problem::Deposit);
        }
        // An entry before a checkpoint cannot be looked up.
        if draft.corrects != [0; 16] && self.from == 0 && !self.is_earlier(entry) {
            self.find(lsn, Problem::Corrects);
        }
        let sorted = entry
            .legs
            .windows(2)
            .all(|pair| (pair[0].asset, pair[0].account) < (pair[1].asset, pair[1].account));
        if !sorted || entry.legs.is_empty() {
            self.find(lsn, Problem::Legs);
        }
        let balanced = is_balanced(&entry.legs);
        if !balanced {
            self.find(lsn, Problem::Unbalanced);
        }
        for leg in &entry.legs {
            self.leg(lsn, leg, balanced, draft.flags.promised);
        }
        if draft.kind == Kind::Capture && !is_rounded(entry) {
            self.find(lsn, Problem::Rounding);
        }
        self.clearing(lsn, entry);
    }

    fn is_earlier(&self, entry: &Entry) -> bool {
        entry.draft.corrects != entry.draft.id && self.ids.contains(&entry.draft.corrects)
    }

    fn leg(&mut self, lsn: u64, leg: &Leg, balanced: bool, promised: bool) {
        let account = leg.account;
        let balance = self.at.balances.entry((leg.asset, account)).or_default();
        let before = *balance;
        let Ok(after) = balance.plus(leg.amount) else {
            *balance = leg.balance_after;
            return self.find(lsn, Problem::Range { account });
        };
        // Of the two the one that is likelier right goes on, so that one change is not found again and again.
        *balance = if balanced { after } else { leg.balance_after };
        if after != leg.balance_after {
            self.find(lsn, Problem::Balance { account });
        }
        let is_money = asset_of_code(leg.asset).is_some_and(|(_, memo)| !memo);
        if is_money && leg.amount < Amount::ZERO && !self.accounts.internal.contains(&account) {
            let overdraft = self.accounts.overdrafts.get(&account).map_or(0, |line| line.units().max(0));
            // A call that waits for its payment takes him below; another one that began before may end there.
            let may = promised || before.units() < -overdraft;
            if leg.balance_after.units() < -overdraft && !may {
                self.find(lsn, Problem::Floor { account });
            }
        }
    }

    /// Calls go through clearing, and the income entry of their batch empties it.
    fn clearing(&mut self, lsn: u64, entry: &Entry) {
        let id = Chart::UsageClearing.id();
        let touches = entry.legs.iter().any(|leg| leg.account == id);
        if entry.draft.kind != Kind::Income {
            if touches {
                self.income.first.get_or_insert(lsn);
                self.income.last = lsn;
            }
            return;
        }
        let Some(first) = self.income.first.take() else {
            return self.find(lsn, Problem::Income);
        };
        let named = lsn_range(&entry.draft.reference);
        let fits = named.is_some_and(|(from, to)| {
            self.income.posted < from && from <= first && self.income.last <= to && to < lsn
        });
        if !fits {
            self.find(lsn, Problem::Income);
        }
        self.income.posted = lsn;
        let left = |asset: Asset| self.at.balances.get(&(leg_asset(asset), id)).copied().unwrap_or_default();
        if Asset::ALL.into_iter().any(|asset| left(asset) != Amount::ZERO) {
            self.find(lsn, Problem::Clearing);
        }
    }

    fn head(&mut self, size: u64) {
        let Some(head) = self.heads.get(&size).copied() else { return };
        let fits = head.last_hash == self.at.hash;
        if fits && self.link == Link::Torn {
            // The head vouches for the last entry, so the one before it was changed.
            self.find(size.saturating_sub(1), Problem::Chain);
            self.link = Link::Whole;
        }
        if fits && head.root == self.at.frontier.root() {
            self.head_before = size;
        } else {
            self.find(size, Problem::Head { after: self.head_before });
        }
    }
}
