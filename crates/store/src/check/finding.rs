//! What can be wrong with a store.

use ledger::{AccountId, audit};
use money::Amount;

use crate::{PaymentState, PayoutState, RefundState, TopUpState};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The engine's own pages: the file was changed by something else, or the medium lost it.
    #[error("pages: {0}")]
    Pages(String),
    /// The log beside the database has lost more than its end.
    #[error("{0}")]
    Log(String),
    /// An entry breaks a rule of the journal.
    #[error("{0}")]
    Entry(audit::Finding),
    /// A segment cannot be read, or is not what the store says it was.
    #[error("segment {file}: {problem}")]
    Segment {
        /// Its name.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A kept balance is not the sum of its legs.
    #[error("balance of {account} in asset {asset} is {kept:?} and the journal says {folded:?}")]
    Balance {
        /// Whose.
        account: AccountId,
        /// Asset code.
        asset: u16,
        /// What the store has.
        kept: Amount,
        /// What the journal comes to.
        folded: Amount,
    },
    /// What the calls of a batch came to was not posted as income.
    #[error("usage clearing holds {left:?} in asset {asset}")]
    Clearing {
        /// Asset code.
        asset: u16,
        /// What is left.
        left: Amount,
    },
    /// The store would not go on where its journal ends.
    #[error("the end of the journal is kept as lsn {kept} and is lsn {found}, or its hash or tree differs")]
    End {
        /// What the store has.
        kept: u64,
        /// What the journal has.
        found: u64,
    },
    /// A kept part of the tree is not that of the journal.
    #[error("tree node {level}/{index} is not that of the journal")]
    Tile {
        /// Its level.
        level: u8,
        /// Its index.
        index: u64,
    },
    /// An entry is not found by its id.
    #[error("lsn {lsn}: not found by its id")]
    Index {
        /// The entry.
        lsn: u64,
    },
    /// The facts of a call are missing, or say another charge than its entry.
    #[error("lsn {lsn}: {problem}")]
    Facts {
        /// The call's entry.
        lsn: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// A payment and the journal disagree.
    #[error("payment {}: {problem}", hex(key))]
    Payment {
        /// Deposit key.
        key: [u8; 32],
        /// What is wrong.
        problem: PaymentProblem,
    },
    /// Deposits whose payments are gone, beyond those that were forgotten in time.
    #[error("{found} deposits have no payment, and {forgotten} were forgotten")]
    Deposits {
        /// Deposits without a payment.
        found: u64,
        /// What the sweeps have counted.
        forgotten: u64,
    },
    /// A payout and the journal disagree.
    #[error("payout {}: {problem}", hex(hash))]
    Payout {
        /// Payment hash.
        hash: [u8; 32],
        /// What is wrong.
        problem: PayoutProblem,
    },
    /// What is set aside for payouts is not what those that are not decided hold.
    #[error("payouts hold {held} in asset {asset}, and {kept} is set aside")]
    Payable {
        /// Asset code.
        asset: u16,
        /// What the rows come to.
        held: i128,
        /// What the journal comes to.
        kept: i64,
    },
    /// More is said to have gone back of a deposit than came in, or a lot is of nothing that came in.
    #[error("lots of {account}: they are not what came in")]
    Lots {
        /// Whose.
        account: AccountId,
    },
    /// An order, a code or a refund and the journal disagree.
    #[error("top-up {}: {problem}", hex(id))]
    TopUp {
        /// Of the order, the refund, the payment or the code.
        id: [u8; 16],
        /// What is wrong.
        problem: TopUpProblem,
    },
    /// The outcome of an idempotent request that would never be forgotten.
    #[error("idempotent {}: it would never be forgotten", hex(key))]
    Idempotent {
        /// Its key.
        key: [u8; 32],
    },
    /// A closed account has a balance.
    #[error("account {account} is closed and holds {left:?}")]
    Closed {
        /// Which.
        account: AccountId,
        /// What it holds.
        left: Amount,
    },
    /// A call that was charged would be taken for one that a crash has cut off.
    #[error("call {} is open and charged (lsn {lsn})", hex(call))]
    OpenCall {
        /// Call id.
        call: [u8; 16],
        /// Its entry.
        lsn: u64,
    },
    /// Ecash is not where it is said to be.
    #[error("cashu {}: {problem}", hex(key))]
    Cashu {
        /// Deposit key of its payment.
        key: [u8; 32],
        /// What is wrong.
        problem: &'static str,
    },
    /// A row that cannot be read.
    #[error("table {table}: row {} cannot be read", hex(key))]
    Row {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: Vec<u8>,
    },
}

/// How a payment and the journal disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentProblem {
    /// It is said to be deposited, and no deposit has its key.
    #[error("it has no deposit")]
    NoDeposit,
    /// Its deposit has another account or amount.
    #[error("its deposit is of another account or amount")]
    OtherDeposit,
    /// It is said to be undecided or refused, and there is a deposit with its key.
    #[error("it is {0:?} and has a deposit")]
    Undecided(PaymentState),
    /// It is undecided for too long.
    #[error("it is {state:?} since {created_ms}")]
    Stale {
        /// Its state.
        state: PaymentState,
        /// Unix milliseconds.
        created_ms: u64,
    },
    /// It would never be forgotten although its proof has an end.
    #[error("it would never be forgotten")]
    Kept,
}

/// How a payout and the journal disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayoutProblem {
    /// Nothing was set aside for it.
    #[error("no entry sets its money aside")]
    NoBegin,
    /// It is not decided, and an entry has ended it; or it is decided, and none has.
    #[error("it is {0:?}, and the journal says otherwise")]
    End(PayoutState),
    /// Its account does not know of it, so that another could begin; or knows of it although it is decided.
    #[error("it is {0:?}, and its account is told otherwise")]
    Account(PayoutState),
    /// It is not decided for too long.
    #[error("it is open since {created_ms}")]
    Stale {
        /// Unix milliseconds.
        created_ms: u64,
    },
}

/// How orders, codes or refunds and the journal disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopUpProblem {
    /// An order is said to be paid and has no such payment, or the reverse.
    #[error("the order is {0:?}, and its payment says otherwise")]
    Order(TopUpState),
    /// A payment that waits for the operator was credited, or is not in the journal.
    #[error("the payment that waits is not in suspense")]
    Parked,
    /// A code was called up and gave nothing, or the reverse.
    #[error("the code and the journal disagree")]
    Code,
    /// A refund has not the entries of its state, or its lot does not know of it.
    #[error("the refund is {0:?}, and the journal or its lot says otherwise")]
    Refund(RefundState),
    /// A refund is not decided by its rail for too long.
    #[error("the refund is not decided since {created_ms}")]
    Stale {
        /// Unix milliseconds.
        created_ms: u64,
    },
}

impl Finding {
    /// The entry it is about, where it is about one.
    #[must_use]
    pub const fn lsn(&self) -> Option<u64> {
        match self {
            Self::Entry(finding) => Some(finding.lsn),
            Self::Index { lsn } | Self::Facts { lsn, .. } | Self::OpenCall { lsn, .. } => Some(*lsn),
            Self::Pages(_)
            | Self::Log(_)
            | Self::Segment { .. }
            | Self::Balance { .. }
            | Self::Clearing { .. }
            | Self::End { .. }
            | Self::Tile { .. }
            | Self::Payment { .. }
            | Self::Deposits { .. }
            | Self::Payout { .. }
            | Self::Payable { .. }
            | Self::Lots { .. }
            | Self::TopUp { .. }
            | Self::Idempotent { .. }
            | Self::Closed { .. }
            | Self::Cashu { .. }
            | Self::Row { .. } => None,
        }
    }

    /// Whether it is a payment or payout that waits for its rail: an operator's business, and no damage.
    #[must_use]
    pub const fn is_open_question(&self) -> bool {
        matches!(
            self,
            Self::Payment { problem: PaymentProblem::Stale { .. }, .. }
                | Self::Payout { problem: PayoutProblem::Stale { .. }, .. }
                | Self::TopUp { problem: TopUpProblem::Stale { .. }, .. }
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
