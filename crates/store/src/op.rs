//! What can be written, and what became of it.

use ledger::{AccountId, Chart, Draft, EntryError, TreeHead};
use serde::{Deserialize, Serialize};

use crate::{
    AccountSettings, Attempt, CashuWrite, ChannelWrite, CodeStep, Idempotent, OpenCall, Outcome, Payment,
    PayoutStep, Promised, RefundStep, SessionWrite, TopUpStep,
};

/// One write. Each is applied whole or refused whole; several share one sync.
#[derive(Clone, Debug)]
pub enum Op {
    /// A payment is about to be settled: its key is taken from now on (X402-14, LED-16).
    Intent {
        /// Deposit key (reference item 12).
        key: [u8; 32],
        /// What is being settled.
        payment: Payment,
    },
    /// A facilitator is about to be asked for a payment that is not decided yet.
    Attempt {
        /// Deposit key.
        key: [u8; 32],
        /// Who is asked, with what, and how often so far.
        attempt: Attempt,
    },
    /// The rail did not say whether money moved. The key stays taken (LED-23).
    Unknown {
        /// Deposit key.
        key: [u8; 32],
    },
    /// The rail said for certain that nothing moved: the key is free again, or what was promised is owed.
    Refused {
        /// Deposit key.
        key: [u8; 32],
    },
    /// Money arrived: the payment is settled and its deposit entry is in the journal. What was promised and owed is
    /// made good by it.
    Deposit {
        /// Deposit key.
        key: [u8; 32],
        /// The settled payment; its state is set by the store.
        payment: Payment,
        /// The deposit entry.
        entry: Draft,
    },
    /// A processor has charged what a payer granted, and named the payment by that. The intent of the grant becomes the
    /// settled payment under its deposit key, in one write with the deposit.
    Charged {
        /// Key that the intent has: of the grant.
        grant: [u8; 32],
        /// Deposit key: of the payment as the processor names it.
        key: [u8; 32],
        /// The settled payment; its state is set by the store.
        payment: Payment,
        /// The deposit entry.
        entry: Draft,
    },
    /// A payment that no call was made for is done with: a top-up, or a call that cost nothing.
    Served {
        /// Deposit key.
        key: [u8; 32],
        /// What the same request gets from now on.
        outcome: Outcome,
    },
    /// Where a payment channel stands from now on, with what was charged or given back.
    Channel(Box<ChannelWrite>),
    /// A session on a channel is forgotten, which has ended on its chain. Of any other the record stays: a conflict.
    ForgetChannel {
        /// Names the channel.
        id: [u8; 32],
    },
    /// A session over Lightning opens, is topped up, or ends.
    LightningSession(Box<SessionWrite>),
    /// A holder's balance goes back over Lightning: one step of it, with its entry.
    Payout {
        /// Payment hash of the invoice that is to be paid.
        hash: [u8; 32],
        /// The step.
        step: PayoutStep,
    },
    /// An order for balance: one step of it, with its entry.
    TopUp {
        /// Names the order.
        id: [u8; 16],
        /// The step.
        step: TopUpStep,
    },
    /// Codes for balance.
    Codes(CodeStep),
    /// A purchase goes back to who paid for it: one step of it, with its entry.
    TopUpRefund {
        /// Names the refund.
        id: [u8; 16],
        /// The step.
        step: RefundStep,
    },
    /// Ecash: what is asked of a mint, what it gave, what the operator took.
    Cashu(Box<CashuWrite>),
    /// A call was given away: so many in this window by now. A smaller number than is there changes nothing.
    FreeCall {
        /// When the window ends, Unix seconds: after that it is forgotten.
        until_s: u64,
        /// Names the source and the route.
        who: [u8; 16],
        /// How many it was given.
        used: u32,
    },
    /// A call has money set aside and is about to go up, or the upstream has accepted it (LED-26). Replaces
    /// what was there. [`Op::Capture`] of the same id ends it too.
    Open {
        /// Call id.
        id: [u8; 16],
        /// What is known of it.
        call: OpenCall,
    },
    /// An open call has ended and owes nothing.
    Ended {
        /// Call id.
        id: [u8; 16],
    },
    /// A call was charged, or ended free: the entry (if money moved) and the facts of its receipt.
    Capture {
        /// Call id.
        id: [u8; 16],
        /// The capture entry; none when nothing was charged.
        entry: Option<Draft>,
        /// Facts for receipt and explanation, as [`crate::Facts`] makes them, or JSON.
        facts: Vec<u8>,
        /// The payment the call was made for, and what the same request gets from now on: written with the
        /// charge or not at all, so that no crash makes the call run and be charged again.
        served: Option<([u8; 32], Outcome)>,
        /// A payment that is to be settled for this charge: its intent is written with the charge or not at all, so
        /// that no crash takes the one without the other. Its key must be free.
        settles: Option<Box<Promised>>,
        /// Account of ours that the entry's leg on [`Chart::UsageClearing`] is income of: the writer posts one
        /// sum per batch to it (LED-40). An entry with such a leg and no income is refused, and one with
        /// income and no such leg.
        income: Option<Chart>,
        /// What the same request gets when it comes again, under each name that it gave itself. Replaces what was
        /// there.
        idempotent: Vec<([u8; 32], Idempotent)>,
    },
    /// An operator's posting, idempotent by the entry's id.
    Post {
        /// The entry.
        entry: Draft,
        /// The accounts of ours in its legs that no configuration names.
        names: Vec<Chart>,
    },
    /// What the operator decided about an account. Closing one that has a balance is a conflict (LED-8).
    Account {
        /// The account.
        id: AccountId,
        /// Replaces what was there.
        settings: AccountSettings,
    },
    /// A credit key was handed out. The key itself is never stored.
    Key {
        /// Key id.
        id: [u8; 16],
        /// What is known of it.
        record: KeyRecord,
    },
    /// A key, link or account id is revoked.
    Revoke {
        /// The id.
        id: [u8; 16],
        /// Unix milliseconds.
        time_ms: u64,
    },
    /// A head of the journal's tree, signed.
    Head {
        /// What was signed.
        head: TreeHead,
        /// Ed25519 over its signing bytes.
        signature: [u8; 64],
    },
    /// Forgets what has ended: outcomes of idempotent requests past their time, and payments that were served
    /// and whose proof cannot settle any more. At most [`crate::SWEEP_ROWS_MAX`] rows.
    Sweep {
        /// Unix milliseconds.
        now_ms: u64,
    },
    /// Takes entries out of the store that are in a segment by now: see [`crate::Store::roll`].
    Forget {
        /// The last of them; nothing is left in clearing after it.
        through_lsn: u64,
    },
    /// Nothing: its answer says that all before it is durable.
    Flush,
}

/// What is known of a key that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Account it draws on.
    pub account: [u8; 16],
    /// Operator's label, or what made it.
    pub label: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Unix seconds, when it has an end.
    pub expires_s: Option<u64>,
}

/// The write is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry's place in the journal; 0 for writes without one, and for those that have none yet.
    pub lsn: u64,
}

/// The write did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The key or id is already taken, or not in the state the write needs.
    #[error("already recorded")]
    Conflict,
    /// The entry breaks a rule of the ledger.
    #[error("refused entry: {0}")]
    Entry(#[from] EntryError),
    /// A balance would leave the range of `i64`.
    #[error("a balance would be out of range")]
    Range,
    /// No room on the disk: nothing was written. Money in flight is still recorded while the reserve lasts.
    #[error("disk is full")]
    DiskFull,
    /// The queue is full: try again later.
    #[error("store queue is full")]
    Full,
    /// A write or sync failed, or the store is closed. Nothing is accepted any more.
    #[error("store is unavailable: {0}")]
    Unavailable(String),
}
