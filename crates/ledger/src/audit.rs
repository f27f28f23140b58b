//! Checks a journal from outside: every rule that its bytes alone can show, and the first entry that
//! breaks one.
//!
//! Entries are fed in the order of their places. What is folded out (balances, frontier, last hash) can
//! be kept as a [`Checkpoint`] and taken up again, so that rolled segments need not be read each time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use money::{Amount, FEMTO_PER_NANO};

use crate::merkle::{Frontier, leaf_hash};
use crate::{AccountId, Chart, Entry, Kind, Leg, TreeHead, asset_of_code};

/// Findings kept in full; a journal that is beyond repair has no need of a list.
pub const FINDINGS_MAX: usize = 1000;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// No entry of this number came, but one of a higher number did, or a signed head has it.
    #[error("entry is missing")]
    Missing,
    /// The number was there already.
    #[error("entry comes a second time or late")]
    OutOfOrder,
    /// The bytes are those of no entry.
    #[error("bytes are damaged")]
    Damaged,
    /// The bytes belong at another place.
    #[error("bytes are those of another entry")]
    WrongPlace {
        /// What the bytes say.
        lsn: u64,
    },
    /// The hash chain breaks here: these bytes are not what was written.
    #[error("hash chain is broken")]
    Chain,
    /// Legs do not sum to zero in some asset, or an asset is none of ours (LED-39).
    #[error("legs do not balance")]
    Unbalanced,
    /// Legs are not sorted, or name an account twice.
    #[error("legs are not a sorted set")]
    Legs,
    /// A leg's balance is not the one before plus its amount.
    #[error("balance of {account} does not follow")]
    Balance {
        /// Whose.
        account: AccountId,
    },
    /// A balance left the range of an amount.
    #[error("balance of {account} is out of range")]
    Range {
        /// Whose.
        account: AccountId,
    },
    /// A payer was charged below zero and the credit line (LED-5).
    #[error("{account} is below its floor")]
    Floor {
        /// Whose.
        account: AccountId,
    },
    /// What was charged is not the exact cost, rounded up once (LED-3).
    #[error("charge is not the cost rounded up")]
    Rounding,
    /// An earlier entry has the same id.
    #[error("id is that of an earlier entry")]
    Id,
    /// An earlier deposit has the same key: one payment was credited twice.
    #[error("payment was deposited before")]
    Deposit,
    /// It claims to put right an entry that is not before it (LED-39).
    #[error("corrects an entry that is not there")]
    Corrects,
    /// The income of this call's batch never came, or did not come out at zero.
    #[error("income of the call was not cleared")]
    Clearing,
    /// The reference does not name the entries whose income this is (LED-40).
    #[error("income does not name its entries")]
    Income,
    /// The signed head over the entries up to this one does not fit; if nothing earlier is found, the
    /// damage is somewhere after the last head that did.
    #[error("signed head does not fit")]
    Head {
        /// Size of the last head that fitted, or where the check began.
        after: u64,
    },
}

/// A broken rule and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("lsn {lsn}: {problem}")]
pub struct Finding {
    /// The entry.
    pub lsn: u64,
    /// The rule.
    pub problem: Problem,
}

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

/// What an audit came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// In order of LSN, at most [`FINDINGS_MAX`]; empty for a journal in order.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
    /// Where it ended. To be relied on only if nothing was found.
    pub end: Checkpoint,
}

impl Report {
    /// The first entry that is bad.
    #[must_use]
    pub fn first_bad(&self) -> Option<Finding> {
        self.findings.first().copied()
    }
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
            self.find(expected, Problem::Missing);
            self.link = Link::Unknown;
        }
        match Entry::parse(bytes) {
            Ok(entry) => {
                self.place(lsn, &entry);
                self.content(lsn, &entry);
            }
            Err(_) => {
                self.find(lsn, Problem::Damaged);
                self.link = Link::Unknown;
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
        if self.link == Link::Torn {
            // Nobody after it vouches for the last entry; a head that fitted would have.
            self.find(self.at.lsn, Problem::Chain);
        }
        if self.heads.range(self.at.lsn + 1..).next().is_some() {
            self.find(self.at.lsn + 1, Problem::Missing);
        }
        // Where something behind the call is wrong, that is why its income did not come: the call is not
        // what is bad.
        if let Some(first) = self.income.first
            && self.findings.last().is_none_or(|last| last.lsn <= first)
        {
            self.find(first, Problem::Clearing);
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

    /// Whether the bytes belong here and hang on to those before.
    fn place(&mut self, lsn: u64, entry: &Entry) {
        if entry.lsn != lsn {
            self.find(lsn, Problem::WrongPlace { lsn: entry.lsn });
            self.link = Link::Unknown;
            return;
        }
        let follows = entry.previous == self.at.hash;
        self.link = match (self.link, follows) {
            (Link::Whole | Link::Unknown, true) | (Link::Unknown, false) => Link::Whole,
            (Link::Whole, false) => Link::Torn,
            (Link::Torn, true) => {
                // Two that agree outvote the one before them.
                self.find(self.at.lsn.saturating_sub(1), Problem::Chain);
                Link::Whole
            }
            (Link::Torn, false) => {
                self.find(self.at.lsn, Problem::Chain);
                Link::Whole
            }
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
            self.leg(lsn, leg, balanced);
        }
        if draft.kind == Kind::Capture && !is_rounded(entry) {
            self.find(lsn, Problem::Rounding);
        }
        self.clearing(lsn, entry);
    }

    fn is_earlier(&self, entry: &Entry) -> bool {
        entry.draft.corrects != entry.draft.id && self.ids.contains(&entry.draft.corrects)
    }

    fn leg(&mut self, lsn: u64, leg: &Leg, balanced: bool) {
        let account = leg.account;
        let balance = self.at.balances.entry((leg.asset, account)).or_default();
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
            if leg.balance_after.units() < -overdraft {
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
        let left =
            self.at.balances.iter().any(|((_, account), left)| *account == id && *left != Amount::ZERO);
        if left {
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

/// Per asset, and in assets we have.
fn is_balanced(legs: &[Leg]) -> bool {
    legs.iter().all(|leg| asset_of_code(leg.asset).is_some())
        && legs
            .chunk_by(|a, b| a.asset == b.asset)
            .all(|side| side.iter().map(|leg| i128::from(leg.amount.units())).sum::<i128>() == 0)
}

/// `0 <= charged * 10^6 - cost < 10^6`, where prices and the account have the same unit. A report that
/// could not be priced has no cost and says that it was estimated.
fn is_rounded(entry: &Entry) -> bool {
    let draft = &entry.draft;
    let charged = entry.legs.iter().filter(|leg| {
        leg.amount > Amount::ZERO
            && asset_of_code(leg.asset).is_some_and(|(asset, memo)| !memo && asset.is_dollar_parity())
    });
    let charged: u128 = charged.map(|leg| u128::from(leg.amount.units().unsigned_abs())).sum();
    if charged == 0 || (draft.flags.estimated && draft.cost_femto == 0) {
        return true;
    }
    let charged = charged.saturating_mul(FEMTO_PER_NANO);
    charged.checked_sub(draft.cost_femto).is_some_and(|over| over < FEMTO_PER_NANO)
}

/// `lsn 12-90`.
fn lsn_range(reference: &str) -> Option<(u64, u64)> {
    let (from, to) = reference.strip_prefix("lsn ")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}
