//! The payloads of scheme `batch-settlement` on EVM: a payment channel and cumulative vouchers.
//!
//! What a payer sends is here; what a seller sends to a facilitator is in [`claim`], what both say about a channel's
//! state in [`state`].

pub mod claim;
pub mod state;

pub use claim::{ClaimEntry, ClaimPayload, RefundPayload, SettlePayload, VoucherClaim};
pub use state::{ChannelState, ResponseExtra, VoucherState};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::exact::decimal;
use super::permit2::seconds;
use super::{Address, Permit, uint256};
use crate::hex;

/// The scheme's name.
pub const SCHEME: &str = "batch-settlement";
/// Shortest time a channel's payer waits for a withdrawal, in seconds.
pub const WITHDRAW_DELAY_S_MIN: u64 = 900;
/// Longest.
pub const WITHDRAW_DELAY_S_MAX: u64 = 2_592_000;
/// `error` of a corrective challenge: the payer's voucher does not start where the channel stands.
pub const CUMULATIVE_MISMATCH: &str = "invalid_batch_settlement_evm_cumulative_amount_mismatch";
/// `error` of a corrective challenge: the payer's voucher is not above what was claimed on chain.
pub const CUMULATIVE_BELOW_CLAIMED: &str = "invalid_batch_settlement_evm_cumulative_below_claimed";

/// What makes a channel. Its hash in the contract's domain is the channel's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelConfig {
    /// Whose money it holds.
    pub payer: Address,
    /// Who signs vouchers. Zero: the payer's contract decides, which needs a node to ask.
    pub payer_authorizer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// Who signs claims and refunds for the receiver.
    pub receiver_authorizer: Address,
    /// The token.
    pub token: Address,
    /// Seconds between asking for a withdrawal and having it.
    pub withdraw_delay: u64,
    /// Chosen by the payer: one channel per salt.
    #[serde(with = "bytes32")]
    pub salt: [u8; 32],
}

/// A signed promise: the receiver may have taken up to so much in all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voucher {
    /// Names the channel.
    #[serde(with = "bytes32")]
    pub channel_id: [u8; 32],
    /// Cumulative, in atomic units.
    #[serde(with = "amount")]
    pub max_claimable_amount: u128,
    /// `0x` and 65 bytes.
    pub signature: String,
}

/// Money into a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    /// Atomic units.
    #[serde(with = "amount")]
    pub amount: u128,
    /// The payer's signature under the transfer.
    pub authorization: DepositAuthorization,
}

/// How a deposit moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DepositAuthorization {
    /// The token itself takes a signature.
    #[serde(rename = "erc3009Authorization")]
    Erc3009(Erc3009Deposit),
    /// By Permit2.
    #[serde(rename = "permit2Authorization")]
    Permit2(Permit2Deposit),
}

/// `ReceiveWithAuthorization` to the collector. Payer, payee and value follow from the deposit, the nonce from
/// channel and salt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erc3009Deposit {
    /// Unix seconds; valid strictly after.
    #[serde(with = "time")]
    pub valid_after: u64,
    /// Unix seconds; valid strictly before.
    #[serde(with = "time")]
    pub valid_before: u64,
    /// Chosen by the payer; the nonce is its hash with the channel's id.
    #[serde(with = "bytes32")]
    pub salt: [u8; 32],
    /// `0x` and 65 bytes.
    pub signature: String,
}

/// `PermitWitnessTransferFrom` to the collector, bound to the channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit2Deposit {
    /// Payer.
    pub from: Address,
    /// What may move.
    pub permitted: PermittedDeposit,
    /// The collector.
    pub spender: Address,
    /// Used once.
    #[serde(with = "number")]
    pub nonce: [u8; 32],
    /// Unix seconds; valid until then.
    #[serde(with = "time")]
    pub deadline: u64,
    /// The channel.
    pub witness: DepositWitness,
    /// `0x` and 65 bytes.
    pub signature: String,
}

/// A token and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermittedDeposit {
    /// Contract.
    pub token: Address,
    /// Atomic units.
    #[serde(with = "amount")]
    pub amount: u128,
}

/// Binds a deposit to its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DepositWitness {
    /// Names the channel.
    #[serde(with = "bytes32")]
    pub channel_id: [u8; 32],
}

/// What a payer sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum BatchPayload {
    /// Opens a channel, or adds to one, and pays for a call.
    Deposit {
        /// The channel.
        channel_config: ChannelConfig,
        /// Pays for the call.
        voucher: Voucher,
        /// Moves the money.
        deposit: Deposit,
    },
    /// Pays for a call.
    Voucher {
        /// The channel.
        channel_config: ChannelConfig,
        /// Pays for the call.
        voucher: Voucher,
    },
    /// Asks for what is left.
    Refund {
        /// The channel.
        channel_config: ChannelConfig,
        /// Acknowledges what was charged; promises nothing more.
        voucher: Voucher,
        /// Atomic units; absent: everything.
        #[serde(default, with = "some_amount", skip_serializing_if = "Option::is_none")]
        amount: Option<u128>,
    },
}

impl BatchPayload {
    /// Reads the scheme's part of a payment; `None` if members are missing, malformed or beyond our range.
    #[must_use]
    pub fn from_value(payload: &Value) -> Option<Self> {
        Self::deserialize(payload).ok()
    }

    /// The channel it speaks of, as the payer describes it.
    #[must_use]
    pub const fn channel_config(&self) -> &ChannelConfig {
        match self {
            Self::Deposit { channel_config, .. }
            | Self::Voucher { channel_config, .. }
            | Self::Refund { channel_config, .. } => channel_config,
        }
    }

    /// The voucher it carries.
    #[must_use]
    pub const fn voucher(&self) -> &Voucher {
        match self {
            Self::Deposit { voucher, .. } | Self::Voucher { voucher, .. } | Self::Refund { voucher, .. } => {
                voucher
            }
        }
    }
}

impl Permit2Deposit {
    /// The signed members as values.
    #[must_use]
    pub const fn permit(&self) -> Permit {
        Permit {
            from: self.from,
            token: self.permitted.token,
            amount: self.permitted.amount,
            spender: self.spender,
            nonce: self.nonce,
            deadline: self.deadline,
            to: self.spender,
            facilitator: None,
            valid_after: 0,
        }
    }
}

macro_rules! as_text {
    ($name:ident, $kind:ty, $read:expr, $write:expr) => {
        /// One member, as text on the wire.
        mod $name {
            use super::*;

            pub(super) fn serialize<S: Serializer>(value: &$kind, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn(&$kind) -> String = $write;
                serializer.serialize_str(&write(value))
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$kind, D::Error> {
                let read: fn(&str) -> Option<$kind> = $read;
                read(&String::deserialize(deserializer)?)
                    .ok_or_else(|| serde::de::Error::custom("malformed member"))
            }
        }
    };
}

as_text!(bytes32, [u8; 32], |text| hex::decode_0x_array(text).ok(), |bytes| hex::encode_0x(bytes));
as_text!(number, [u8; 32], uint256::parse, uint256::to_decimal);
as_text!(amount, u128, decimal, u128::to_string);
as_text!(time, u64, seconds, u64::to_string);

/// An amount that may be absent.
mod some_amount {
    use super::*;

    pub(super) fn serialize<S: Serializer>(value: &Option<u128>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|value| value.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u128>, D::Error> {
        super::amount::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests;
