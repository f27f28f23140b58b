//! Balance that is bought over a rail: the order, and what became of it (finance.md sections 2 and 3).

use std::fmt;

use ledger::Draft;
use serde::{Deserialize, Serialize};

use crate::{Asking, Paid, RefundPolicy};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopUpState {
    /// It can be paid, or may have been.
    Open,
    /// It was paid, and its lot is there.
    Credited,
    /// Nobody paid it in time. A payment that comes all the same is credited.
    Closed,
    /// It was paid otherwise than asked for: the money waits for the operator (FIN-10).
    Parked,
}

/// An order. `Debug` hides what opens the payer's wallet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUp {
    /// Where it stands.
    pub state: TopUpState,
    /// Who is credited.
    pub account: [u8; 16],
    /// Code of the asset that is credited.
    pub asset: u8,
    /// What is credited, ledger units.
    pub credit: i64,
    /// What is given with it.
    pub bonus: i64,
    /// Family of the rail, `alipay`.
    pub rail: String,
    /// Asset code of the currency that is paid.
    pub currency: u8,
    /// What is to be paid, in its minor unit.
    pub minor: u64,
    /// When it may go back.
    pub policy: RefundPolicy,
    /// What the payer scans; empty before the rail has told.
    pub qr: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Unix milliseconds.
    pub expires_ms: u64,
    /// The asking of the rail.
    pub asking: Asking,
    /// Deposit key of the payment that it was credited for, or that waits for the operator.
    pub key: Option<[u8; 32]>,
}

impl fmt::Debug for TopUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopUp({:?}, {} of {}, code hidden)", self.state, self.minor, self.rail)
    }
}

/// Money that a rail has for us and that no order asked for like this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// What was paid, for which order.
    pub paid: Paid,
    /// Why it is no credit.
    pub why: ParkedWhy,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// Why a payment credits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkedWhy {
    /// It is not the sum that was asked for.
    OtherAmount,
    /// The order was paid before, by another payment.
    Excess,
}

/// One step of an order: one write, or nothing of it.
#[derive(Clone, Debug)]
pub enum TopUpStep {
    /// The rail is about to be asked for it. Refused where the order is known.
    Begin(Box<TopUp>),
    /// What the payer scans.
    Shown {
        /// The rail's code.
        qr: String,
    },
    /// The rail was asked what became of it, and nothing was paid yet.
    Asked(Asking),
    /// It was paid. Refused where the payment is known, or the order is not to be credited.
    Credit {
        /// Deposit key.
        key: [u8; 32],
        /// What was paid.
        paid: Box<Paid>,
        /// The deposit.
        entry: Draft,
    },
    /// It was paid otherwise. Refused where the payment is known.
    Park {
        /// Deposit key.
        key: [u8; 32],
        /// The payment.
        parked: Box<Parked>,
        /// Takes the money into suspense.
        entry: Draft,
    },
    /// Nobody can pay it any more.
    Close,
}

/// Balance that somebody may call up who has its code. Known by the hash of the code alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedemptionCode {
    /// Asset code.
    pub asset: u8,
    /// What it is good for, ledger units.
    pub credit: i64,
    /// What the operator calls it.
    pub label: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Unix seconds after which it is good for nothing.
    pub expires_s: Option<u64>,
    /// Who called it up.
    pub redeemed: Option<Redeemed>,
}

/// The one use of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redeemed {
    /// Whose balance it is now.
    pub account: [u8; 16],
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// What is done with codes: one write, or nothing of it.
#[derive(Clone, Debug)]
pub enum CodeStep {
    /// Codes are handed out, by the hash of each. Refused where one of them is known.
    Make(Vec<([u8; 32], RedemptionCode)>),
    /// One is called up. Refused where that has happened, or it is over.
    Redeem {
        /// Hash of the code.
        hash: [u8; 32],
        /// By whom.
        by: Redeemed,
        /// Gives the balance.
        entry: Draft,
    },
}

/// Where a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundState {
    /// The holder asks for it; the balance is set aside.
    Requested,
    /// The operator has agreed: the rail was or will be asked, and has not said what became of it.
    Sent,
    /// The rail has moved the money.
    Moved,
    /// Certainly not moved, and never will be: the money is balance again.
    Failed,
    /// The operator has not agreed: the money is balance again.
    Rejected,
}

impl RefundState {
    /// Whether money is set aside for it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        match self {
            Self::Requested | Self::Sent => true,
            Self::Moved | Self::Failed | Self::Rejected => false,
        }
    }
}

/// A purchase on its way back to who paid for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUpRefund {
    /// Where it stands.
    pub state: RefundState,
    /// Whose balance it comes from.
    pub account: [u8; 16],
    /// Asset code of the balance.
    pub asset: u8,
    /// Of the lot.
    pub key: [u8; 32],
    /// What was paid for the lot.
    pub paid: Paid,
    /// What is set aside of the purchase, ledger units.
    pub credit: i64,
    /// What is set aside of the bonus that came with it.
    pub bonus: i64,
    /// What goes back, in the minor unit of what was paid.
    pub minor: u64,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// The asking of the rail.
    pub asking: Asking,
    /// Why it failed.
    pub reason: String,
}

impl TopUpRefund {
    /// Of the refund with this number of a lot: who asks again is told of the same one.
    #[must_use]
    pub fn id(key: &[u8; 32], number: u32) -> [u8; 16] {
        derived(b"farthing/top-up-refund/1", &[key.as_slice(), &number.to_be_bytes()])
    }

    /// The id of the entry that sets its money aside.
    #[must_use]
    pub fn begin_id(id: &[u8; 16]) -> [u8; 16] {
        derived(b"farthing/top-up-refund-begin/1", &[id])
    }

    /// The id of the entry that ends it, however it ends: there can be one.
    #[must_use]
    pub fn end_id(id: &[u8; 16]) -> [u8; 16] {
        derived(b"farthing/top-up-refund-end/1", &[id])
    }

    /// What is or was set aside, ledger units.
    #[must_use]
    pub const fn held(&self) -> i64 {
        self.credit.saturating_add(self.bonus)
    }
}

fn derived(what: &[u8], fields: &[&[u8]]) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    let digest = fields.iter().fold(Sha256::new_with_prefix(what), |hash, field| hash.chain_update(field));
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize()[..16]);
    id
}

/// One step of a refund: one write, or nothing of it.
#[derive(Clone, Debug)]
pub enum RefundStep {
    /// The holder asks for it. Refused where it is known, and where it is not what is left of the lot by now.
    Request {
        /// As it is asked for; its state is set by the store.
        refund: Box<TopUpRefund>,
        /// Sets the balance aside.
        entry: Draft,
    },
    /// The operator agrees: the rail is about to be asked. Refused but for one that is requested.
    Approve(Asking),
    /// The rail was asked, and could not tell yet.
    Asked(Asking),
    /// The rail has moved it.
    Moved {
        /// Where the money went.
        entry: Draft,
    },
    /// The rail has not moved it, and will not.
    Failed {
        /// Why, in its words.
        reason: String,
        /// Gives back what was set aside.
        entry: Draft,
    },
    /// The operator does not agree. Refused but for one that is requested.
    Reject {
        /// Gives back what was set aside.
        entry: Draft,
    },
}
