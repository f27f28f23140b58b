//! Method `evm/charge`: an EIP-3009 authorization or a Permit2 signature, bound to the challenge. Amounts are base units,
//! decimal.

use serde::{Deserialize, Serialize};
use sha3::{Digest as _, Keccak256};

use super::challenge::Challenge;
use crate::x402::exact::decimal;
use crate::x402::permit2::seconds;
use crate::x402::{self, Address, Authorization, ExactPayload, uint256};

/// The method's name.
pub const METHOD: &str = "evm";

/// The request of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeRequest {
    /// What is to be paid.
    pub amount: String,
    /// The token's contract.
    pub currency: String,
    /// Who is paid.
    pub recipient: String,
    /// What is bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The payee's own name for the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The network and how it may be paid.
    pub method_details: ChargeDetails,
}

/// Where and how a charge may be paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeDetails {
    /// EIP-155.
    pub chain_id: u64,
    /// `authorization`, `permit2`; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_types: Option<Vec<String>>,
    /// Of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u8>,
    /// The Permit2 contract; the canonical one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit2_address: Option<String>,
    /// Who sends a permit to that contract, which is part of what is signed. A member of ours: the draft has none for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spender: Option<String>,
    /// Further payees; we offer none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splits: Option<Vec<Split>>,
}

/// A further payee of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Who.
    pub recipient: String,
    /// How much.
    pub amount: String,
}

/// The payload of a charge, by its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ChargePayload {
    /// EIP-3009; the nonce is [`challenge_hash`], or [`challenge_hash_of_json`].
    Authorization(SignedAuthorization),
    /// Permit2 with a witness.
    Permit2(Permit2),
    /// A signed transaction.
    Transaction {
        /// `0x` and its bytes.
        #[serde(alias = "signature")]
        transaction: String,
    },
    /// A transaction that was sent already.
    Hash {
        /// `0x` and 32 bytes.
        hash: String,
    },
}

/// The members of an authorization, which scheme `exact` has in two levels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedAuthorization {
    /// Payer.
    pub from: String,
    /// Payee.
    pub to: String,
    /// Base units, decimal.
    pub value: String,
    /// Unix seconds, decimal; valid strictly after.
    pub valid_after: String,
    /// Unix seconds, decimal; valid strictly before.
    pub valid_before: String,
    /// `0x` and 32 bytes.
    pub nonce: String,
    /// `0x` and 65 bytes, under the token's domain.
    pub signature: String,
}

/// The members of a Permit2 payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permit2 {
    /// What may move, until when.
    pub permit: Permit,
    /// Where it moves to; the first is the payee.
    pub transfer_details: Vec<TransferDetail>,
    /// What it is bound to.
    pub witness: Witness,
    /// `0x` and 65 bytes.
    pub signature: String,
    /// Who pays, where the payload names him.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// `PermitBatchWitnessTransferFrom` without its witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Tokens with the most that may move of each.
    pub permitted: Vec<crate::x402::permit2::Permitted>,
    /// Decimal, or `0x` and hexadecimal.
    pub nonce: String,
    /// Unix seconds, decimal.
    pub deadline: String,
}

/// One transfer of a permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferDetail {
    /// Payee.
    pub to: String,
    /// Base units, decimal.
    pub requested_amount: String,
}

/// What a permit is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// `0x` and 32 bytes: [`challenge_hash`].
    pub challenge_hash: String,
    /// The request's, or empty.
    #[serde(default)]
    pub external_id: String,
}

/// What a permit says for a charge without splits, as values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitTerms {
    /// What is signed; its payee is not, and stands in what the contract is called with.
    pub permit: x402::Permit,
    /// What is to move of it, base units.
    pub requested: u128,
    /// What it is bound to, as it says.
    pub challenge_hash: [u8; 32],
    /// The same.
    pub external_id: String,
}

impl Permit2 {
    /// The values, for this payer and spender; `None` if a member is malformed, beyond our range, or there is more than one
    /// transfer.
    #[must_use]
    pub fn terms(&self, from: Address, spender: Address) -> Option<PermitTerms> {
        let [permitted] = self.permit.permitted.as_slice() else { return None };
        let [detail] = self.transfer_details.as_slice() else { return None };
        let permit = x402::Permit {
            from,
            token: permitted.token.parse().ok()?,
            amount: decimal(&permitted.amount)?,
            spender,
            nonce: uint256::parse(&self.permit.nonce)?,
            deadline: seconds(&self.permit.deadline)?,
            to: detail.to.parse().ok()?,
            facilitator: None,
            valid_after: 0,
        };
        Some(PermitTerms {
            permit,
            requested: decimal(&detail.requested_amount)?,
            challenge_hash: crate::hex::decode_0x_array(&self.witness.challenge_hash).ok()?,
            external_id: self.witness.external_id.clone(),
        })
    }
}

impl From<SignedAuthorization> for ExactPayload {
    fn from(signed: SignedAuthorization) -> Self {
        let SignedAuthorization { from, to, value, valid_after, valid_before, nonce, signature } = signed;
        Self { signature, authorization: Authorization { from, to, value, valid_after, valid_before, nonce } }
    }
}

/// Keccak-256 over id and realm: binds what the payer signs to one challenge.
#[must_use]
pub fn challenge_hash(challenge: &Challenge) -> [u8; 32] {
    let hash = Keccak256::new().chain_update(&challenge.id).chain_update(&challenge.realm);
    hash.finalize().into()
}

/// The same over both as a JSON array: what pympp 0.16 signs.
#[must_use]
pub fn challenge_hash_of_json(challenge: &Challenge) -> [u8; 32] {
    let both = serde_json::Value::from(vec![challenge.id.as_str(), challenge.realm.as_str()]);
    Keccak256::digest(both.to_string()).into()
}
