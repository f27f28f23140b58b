//! The payload of a payment by Permit2: `PermitWitnessTransferFrom`, as schemes `exact` and `upto` sign it.
//!
//! Version 2 only: version 1 has no Permit2 payload, in the specification or deployed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exact::decimal;
use super::{Address, uint256};
use crate::hex;

/// `extra.assetTransferMethod` of an offer that is paid this way.
pub const TRANSFER_METHOD: &str = "permit2";
/// `error` of the answer (status 412) to a payer whose token does not let Permit2 move anything yet.
pub const ALLOWANCE_REQUIRED: &str = "permit2_allowance_required";

/// `{signature, permit2Authorization}` as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit2Payload {
    /// `0x` and 65 bytes.
    pub signature: String,
    /// What was signed.
    #[serde(rename = "permit2Authorization")]
    pub authorization: Permit2Authorization,
}

/// The signed members, still as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit2Authorization {
    /// Payer: the owner of the tokens. Not signed as a member; it is who the signature recovers to.
    pub from: String,
    /// What may move.
    pub permitted: Permitted,
    /// The contract that may move it.
    pub spender: String,
    /// Decimal, or `0x` and hexadecimal.
    pub nonce: String,
    /// Unix seconds, decimal.
    pub deadline: String,
    /// Where it may move to.
    pub witness: Witness,
}

/// A token and the most that may move of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permitted {
    /// Contract.
    pub token: String,
    /// Atomic units, decimal.
    pub amount: String,
}

/// What the spender is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// Payee.
    pub to: String,
    /// `upto` only: the one account that may settle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facilitator: Option<String>,
    /// Unix seconds, decimal.
    pub valid_after: String,
}

/// The signed members as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Payer.
    pub from: Address,
    /// What may move.
    pub token: Address,
    /// The most that may move, in atomic units.
    pub amount: u128,
    /// The contract that may move it.
    pub spender: Address,
    /// Chosen by the payer, used once; unordered.
    pub nonce: [u8; 32],
    /// Unix seconds; valid until then.
    pub deadline: u64,
    /// Payee.
    pub to: Address,
    /// `upto` only: the one account that may settle.
    pub facilitator: Option<Address>,
    /// Unix seconds; valid from then.
    pub valid_after: u64,
}

impl Permit2Payload {
    /// Reads the scheme's part of a payment; `None` if members are missing or of another type.
    #[must_use]
    pub fn from_value(payload: &Value) -> Option<Self> {
        Self::deserialize(payload).ok()
    }

    /// Writes a permit with its signature.
    #[must_use]
    pub fn from_permit(permit: &Permit, signature: &[u8; 65]) -> Self {
        Self {
            signature: hex::encode_0x(signature),
            authorization: Permit2Authorization {
                from: permit.from.to_string(),
                permitted: Permitted { token: permit.token.to_string(), amount: permit.amount.to_string() },
                spender: permit.spender.to_string(),
                nonce: uint256::to_decimal(&permit.nonce),
                deadline: permit.deadline.to_string(),
                witness: Witness {
                    to: permit.to.to_string(),
                    facilitator: permit.facilitator.map(|address| address.to_string()),
                    valid_after: permit.valid_after.to_string(),
                },
            },
        }
    }

    /// The values; `None` if a member is malformed or beyond our range.
    #[must_use]
    pub fn permit(&self) -> Option<Permit> {
        let sent = &self.authorization;
        let facilitator = match &sent.witness.facilitator {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        Some(Permit {
            from: sent.from.parse().ok()?,
            token: sent.permitted.token.parse().ok()?,
            amount: decimal(&sent.permitted.amount)?,
            spender: sent.spender.parse().ok()?,
            nonce: uint256::parse(&sent.nonce)?,
            deadline: seconds(&sent.deadline)?,
            to: sent.witness.to.parse().ok()?,
            facilitator,
            valid_after: seconds(&sent.witness.valid_after)?,
        })
    }
}

/// Unix seconds in decimal digits.
pub(crate) fn seconds(text: &str) -> Option<u64> {
    u64::try_from(decimal(text)?).ok()
}
