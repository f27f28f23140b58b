//! What a seller sends to a facilitator to take what it earned, or to give back what is left.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::{ChannelConfig, SCHEME, Voucher};
use crate::x402::facilitator::SettleRequest;
use crate::x402::{Address, v2};

/// One row under the seller's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimEntry {
    /// Names the channel.
    pub channel_id: [u8; 32],
    /// What the payer's voucher allows in all.
    pub max_claimable: u128,
    /// What we take in all.
    pub total_claimed: u128,
}

/// One row as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoucherClaim {
    /// What the payer signed.
    pub voucher: ClaimedVoucher,
    /// The payer's signature.
    pub signature: String,
    /// What we take in all.
    #[serde(with = "super::amount")]
    pub total_claimed: u128,
}

/// A voucher with its channel written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedVoucher {
    /// The channel.
    pub channel: ChannelConfig,
    /// Cumulative, in atomic units.
    #[serde(with = "super::amount")]
    pub max_claimable_amount: u128,
}

/// Takes what is owed in several channels; no token moves yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "claim", rename_all = "camelCase")]
pub struct ClaimPayload {
    /// The rows.
    pub claims: Vec<VoucherClaim>,
    /// The receiver authorizer's, under all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_authorizer_signature: Option<String>,
}

/// Moves what was claimed to the receiver. Anybody may ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "settle")]
pub struct SettlePayload {
    /// Who is paid.
    pub receiver: Address,
    /// In what.
    pub token: Address,
}

/// Gives back what is left, after taking what is owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "refund", rename_all = "camelCase")]
pub struct RefundPayload {
    /// The channel.
    pub channel_config: ChannelConfig,
    /// The payer's request.
    pub voucher: Voucher,
    /// Atomic units to give back.
    #[serde(with = "super::amount")]
    pub amount: u128,
    /// Counts refunds of the channel.
    #[serde(with = "super::number")]
    pub refund_nonce: [u8; 32],
    /// What is taken first; empty if nothing is owed.
    pub claims: Vec<VoucherClaim>,
    /// The receiver authorizer's, under channel, nonce and amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_authorizer_signature: Option<String>,
    /// The receiver authorizer's, under the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_authorizer_signature: Option<String>,
}

/// The body of `/settle` for a payload that the seller wrote: an offer of nothing, which the facilitator ignores.
#[must_use]
pub fn settle_request<T: Serialize>(
    network: &str,
    token: &Address,
    receiver: &Address,
    payload: &T,
) -> Option<SettleRequest> {
    let accepted = v2::PaymentRequirements {
        scheme: SCHEME.to_owned(),
        network: network.to_owned(),
        amount: "0".to_owned(),
        asset: token.to_string(),
        pay_to: receiver.to_string(),
        max_timeout_seconds: 0,
        extra: Some(Map::new()),
    };
    let payment = v2::PaymentPayload {
        x402_version: v2::VERSION,
        resource: None,
        accepted: accepted.clone(),
        payload: serde_json::to_value(payload).ok()?,
        extensions: None,
    };
    Some(SettleRequest {
        x402_version: v2::VERSION,
        payment_payload: serde_json::to_value(payment).ok()?,
        payment_requirements: serde_json::to_value(accepted).ok()?,
    })
}
