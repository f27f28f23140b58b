//! Balance on its way back over Lightning (l402.md section 11).

use std::fmt;

use ledger::Draft;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Taken;

/// Where a payout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutState {
    /// The node was or will be asked to pay, and has not said what became of it. The money is set aside.
    Open,
    /// The invoice is paid.
    Paid,
    /// Certainly not paid, and never will be by us: the money is balance again.
    Failed,
}

/// One invoice that a holder has handed in, under its payment hash. `Debug` hides the invoice.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    /// Where it stands.
    pub state: PayoutState,
    /// Whose balance it comes from.
    pub account: [u8; 16],
    /// Asset code.
    pub asset: u8,
    /// Of the invoice.
    pub amount_msat: u64,
    /// The most that moving it may cost.
    pub fee_max_msat: u64,
    /// What moving it has cost, once it is paid.
    pub fee_msat: u64,
    /// What was set aside, amount first and fee after it, deposit by deposit.
    pub taken: Vec<Taken>,
    /// What the holder was charged in the end, fee included; 0 before it is paid.
    pub charged: i64,
    /// BOLT11; empty once it is decided.
    pub invoice: String,
    /// Unix seconds after which nobody can pay it.
    pub expires_s: u64,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Which node was or will be asked to pay, by a fingerprint: no other one can tell what became of it. None: nobody
    /// knows.
    #[serde(default)]
    pub node: Option<[u8; 16]>,
    /// The asking of the node.
    pub asking: Asking,
    /// Why it failed, in the node's words.
    #[serde(default)]
    pub reason: String,
}

/// How a node was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    /// How often it was asked: to pay once, and after that what became of it.
    pub count: u32,
    /// Unix milliseconds of the last time.
    pub last_ms: u64,
    /// Unix milliseconds of the next question.
    pub next_ms: u64,
}

impl fmt::Debug for Payout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payout({:?}, {} msat, invoice hidden)", self.state, self.amount_msat)
    }
}

impl Payout {
    /// The id of the entry that sets its money aside: the same invoice is the same entry.
    #[must_use]
    pub fn begin_id(hash: &[u8; 32]) -> [u8; 16] {
        id(b"farthing/payout/1", hash)
    }

    /// The id of the entry that ends it, however it ends: there can be one.
    #[must_use]
    pub fn end_id(hash: &[u8; 32]) -> [u8; 16] {
        id(b"farthing/payout-end/1", hash)
    }

    /// What is or was set aside, in ledger units.
    #[must_use]
    pub fn held(&self) -> i64 {
        Taken::credit_of(&self.taken)
    }
}

fn id(what: &[u8], hash: &[u8; 32]) -> [u8; 16] {
    let digest = Sha256::new_with_prefix(what).chain_update(hash).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}

/// One step of a payout: one write, or nothing of it.
#[derive(Clone, Debug)]
pub enum PayoutStep {
    /// The money is set aside, and the node is about to be asked. Refused while the account has another payout
    /// that is not decided, where the invoice is known, and where less is left of its deposits than it takes.
    Begin {
        /// As it is to be paid; its state is set by the store.
        payout: Box<Payout>,
        /// Takes the money from the holder.
        entry: Draft,
    },
    /// The node was asked what became of it, and could not tell yet.
    Asked(Asking),
    /// The node has paid.
    Paid {
        /// What moving it has cost.
        fee_msat: u64,
        /// What of it is the holder's to bear, deposit by deposit.
        spent: Vec<Taken>,
        /// Where the money went, and what goes back to the holder of what was set aside.
        entry: Draft,
    },
    /// The node has not paid, and will not.
    Failed {
        /// Why, in its words.
        reason: String,
        /// Gives back what was set aside.
        entry: Draft,
    },
}

#[cfg(test)]
mod tests {
    use super::Payout;

    /// Whichever node that was, it is nobody's now.
    #[test]
    fn a_payout_of_before_names_no_node() {
        let text = r#"{"state":"open","account":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"asset":255,"amount_msat":1,
            "fee_max_msat":0,"fee_msat":0,"taken":[],"charged":0,"invoice":"lnbcrt1","expires_s":1,"created_ms":1,
            "asking":{"count":1,"last_ms":1,"next_ms":2}}"#;
        let mut payout: Payout = serde_json::from_str(text).unwrap();
        assert_eq!(payout.node, None);
        payout.node = Some([7; 16]);
        let again: Payout = serde_json::from_str(&serde_json::to_string(&payout).unwrap()).unwrap();
        assert_eq!(again, payout);
    }
}
