//! What an audit finds.

use crate::{AccountId, Checkpoint};

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
    /// The hash chain breaks here: these bytes are not what was written, or what comes next hangs on the
    /// entry before them.
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
    /// A payer was charged below zero and the credit line (LED-5), by a call whose payment was not to come after it.
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
    /// Here the income of the calls before should have come, and come out at zero.
    #[error("income of the calls before was not cleared")]
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
