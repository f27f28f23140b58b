//! A payment channel as it is kept: x402 `batch-settlement` (X402-22 to X402-31), and sessions of MPP (ENG-1 to ENG-7).

use std::fmt;

use ledger::Draft;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Payment;

/// What pays from a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// x402 `batch-settlement`: the only kind before schema 6.
    #[default]
    Batch,
    /// A session of MPP.
    Session,
}

impl ChannelKind {
    /// The rail of what is charged on channels of a network.
    #[must_use]
    pub fn rail(self, network: &str) -> String {
        match self {
            Self::Batch => format!("x402-batch:{network}"),
            Self::Session => format!("mpp-session:{network}"),
        }
    }
}

/// Where a channel stands, whole. All sums are atomic units of its token.
///
/// What the payer was charged and has not used is not here: it is the balance of the channel's account, so that no
/// crash can make the two differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// What pays from it.
    #[serde(default)]
    pub kind: ChannelKind,
    /// CAIP-2.
    pub network: String,
    /// What the channel is made of, as it travels: its hash is the channel's id.
    pub config: Value,
    /// Asset code of the account.
    pub asset: u8,
    /// Decimal places of the token's atomic unit.
    pub decimals: u32,
    /// Charged in all, as the payer was told.
    pub charged: u128,
    /// The sum of the voucher that was last charged under.
    pub accepted: u128,
    /// The highest promise that was charged under: what claims stand on.
    pub newest: Option<Promise>,
    /// Earlier promises of a session, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Promise>,
    /// Sums of vouchers that may be seen on the chain, ascending.
    pub published: Vec<u128>,
    /// Every sum below counts as published.
    pub published_floor: u128,
    /// What was last seen on the chain.
    pub mirror: ChannelMirror,
    /// Unix milliseconds of the last voucher that was taken.
    pub used_ms: u64,
    /// How often everything was given back: after that the sums start lower, and older outcomes count no more.
    pub era: u32,
    /// A refund that a facilitator was or is asked for, and whose end is not known.
    pub refunding: Option<ChannelRefund>,
    /// The last one that was made, for whoever asks for it again.
    pub refunded: Option<ChannelRefund>,
    /// A session that is being closed, or is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<ChannelClose>,
    /// A transaction of ours that takes what is owed, and whose end is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taking: Option<ChannelTransaction>,
}

/// Seconds after its end on the chain that a session is kept, for late questions.
const KEPT_SECONDS: u64 = 7 * 24 * 3600;

impl Channel {
    /// Whether it has ended on its chain so long ago that nobody asks for it any more.
    #[must_use]
    pub fn is_forgotten(&self, now_ms: u64) -> bool {
        let ended = self.closing.as_ref().filter(|closing| closing.is_done);
        ended.is_some_and(|ended| now_ms > ended.asked_ms.saturating_add(KEPT_SECONDS * 1000))
    }
}

/// The end of a session: from here on nothing begins on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelClose {
    /// Ours in all.
    pub capture: u128,
    /// What goes back to the payer.
    pub refund: u128,
    /// What it is closed by; none where it has ended on its chain without us.
    pub promise: Option<Promise>,
    /// Whether it has ended on its chain.
    pub is_done: bool,
    /// Unix milliseconds.
    pub asked_ms: u64,
    /// Hash of the transaction that ended it, once known.
    pub reference: String,
}

/// What was signed and sent to a chain, to be sent again as it is until its end is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTransaction {
    /// What the channel will have given in all.
    pub total_claimed: u128,
    /// Whether it ends the channel.
    pub ends: bool,
    /// Its hash.
    pub hash: String,
    /// The signed bytes, as a node takes them.
    pub raw: String,
    /// It never comes in any more when it has not and the chain counts higher than this: the sender's transactions where
    /// they have an order (so this is the nonce in it), the chain's blocks where they do not.
    #[serde(rename = "nonce")]
    pub counts_until: u64,
    /// Unix milliseconds.
    pub sent_ms: u64,
}

/// A voucher's sum and signature. `Debug` hides the signature: whoever has it can use what is left of the promise.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Cumulative.
    pub max_claimable: u128,
    /// `0x` and 65 bytes; of a Solana channel base58.
    pub signature: String,
    /// Unix seconds that are signed with it; 0: it does not end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub expires_at: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Promise({}, signature hidden)", self.max_claimable)
    }
}

/// The channel on its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelMirror {
    /// Deposited and not withdrawn or refunded.
    pub balance: u128,
    /// Claimed in all.
    pub total_claimed: u128,
    /// What the payer asked to withdraw.
    pub withdrawing: u128,
    /// Unix seconds; 0: nothing was asked for.
    pub withdraw_requested_at: u64,
    /// Counts refunds, big-endian.
    pub refund_nonce: [u8; 32],
    /// Unix seconds of the look.
    pub synced_at_s: u64,
}

/// Money on its way back to a payer who asked for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRefund {
    /// Names the payer's request.
    pub asked: [u8; 32],
    /// Given back.
    pub amount: u128,
    /// Claimed in all, with it or before.
    pub total_claimed: u128,
    /// Whether nothing is to be left.
    pub all: bool,
    /// Which refund of the channel it is, big-endian.
    pub nonce: [u8; 32],
    /// JSON body of the facilitator's `/settle`; empty once it is decided.
    pub request: String,
    /// Name of the facilitator in the configuration.
    pub facilitator: String,
    /// Transaction hash, once known.
    pub reference: String,
    /// Unix milliseconds.
    pub asked_ms: u64,
}

impl fmt::Debug for ChannelRefund {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelRefund({} of channel, {})", self.amount, self.reference)
    }
}

/// A channel as it stands from now on, and what made it so: one write, or nothing of it.
#[derive(Clone, Debug)]
pub struct ChannelWrite {
    /// Names the channel.
    pub id: [u8; 32],
    /// Replaces what was there.
    pub channel: Channel,
    /// A payment that is in by this, under its deposit key: a voucher that was charged under, or money that was put
    /// into the channel. Its state says whether a call follows (`Settled`) or nothing more (`Served`).
    pub payment: Option<([u8; 32], Payment)>,
    /// The entry of what was charged, or given back.
    pub entry: Option<Draft>,
    /// Whether something begins with it, rather than that it tells what money has done: refused while only the
    /// reserve has room.
    pub begins: bool,
}
