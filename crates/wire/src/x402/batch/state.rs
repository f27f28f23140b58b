//! What seller and payer tell each other about a channel: members of `extra` in results and corrective challenges.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A channel as the seller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelState {
    /// Names the channel.
    #[serde(with = "super::bytes32")]
    pub channel_id: [u8; 32],
    /// Deposited and not withdrawn, in atomic units; what was claimed is part of it.
    #[serde(with = "super::amount")]
    pub balance: u128,
    /// Claimed on chain, in all.
    #[serde(with = "super::amount")]
    pub total_claimed: u128,
    /// Unix seconds; 0: no withdrawal was asked for.
    pub withdraw_requested_at: u64,
    /// Counts refunds.
    #[serde(with = "super::number")]
    pub refund_nonce: [u8; 32],
    /// Charged in all. A facilitator does not know it.
    #[serde(default, with = "super::some_amount", skip_serializing_if = "Option::is_none")]
    pub charged_cumulative_amount: Option<u128>,
}

/// The newest voucher a seller holds, shown to the payer who lost his state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoucherState {
    /// Cumulative, in atomic units.
    #[serde(with = "super::amount")]
    pub signed_max_claimable: u128,
    /// The payer's own.
    pub signature: String,
}

/// `extra` of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseExtra {
    /// What this call added to what was charged; absent after a refund.
    #[serde(default, with = "super::some_amount", skip_serializing_if = "Option::is_none")]
    pub charged_amount: Option<u128>,
    /// The channel afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_state: Option<ChannelState>,
    /// The voucher it stands on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_state: Option<VoucherState>,
}

impl ResponseExtra {
    /// Reads `extra`; `None` if a member is malformed.
    #[must_use]
    pub fn from_extra(extra: &Map<String, Value>) -> Option<Self> {
        serde_json::from_value(Value::Object(extra.clone())).ok()
    }

    /// As `extra`.
    #[must_use]
    pub fn to_extra(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(extra)) => extra,
            _ => Map::new(),
        }
    }
}

/// Makes an offer corrective: the payer who reads it knows where the channel stands, and by which signature of his
/// own.
pub fn correct(extra: &mut Map<String, Value>, channel: &ChannelState, voucher: Option<&VoucherState>) {
    let correction = ResponseExtra {
        charged_amount: None,
        channel_state: Some(*channel),
        voucher_state: voucher.cloned(),
    };
    extra.extend(correction.to_extra());
}
