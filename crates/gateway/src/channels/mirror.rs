//! Looking at a channel on its chain (X402-23): through the operator's own node where there is one, else through a
//! facilitator, whose answer to `/verify` tells the state.
//!
//! Nothing moves by it. A facilitator that is asked about a voucher for a refund approves one that promises no more
//! than was claimed, so this is how a channel is looked at that owes nothing, too.

use bytes::Bytes;
use proof::x402_batch::{BatchError, Mirror};
use rails::facilitator::{Facilitators, Verification};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wire::x402::batch::{BatchPayload, ChannelConfig, ChannelState, SCHEME, Voucher};
use wire::x402::facilitator::VerifyRequest;
use wire::x402::v2;

use crate::gate::Gate;

/// What facilitators say of a channel that holds nothing.
const NOT_FOUND: &str = "invalid_batch_settlement_evm_channel_not_found";

/// Why a look came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// Nobody answered, or not in a way that can be believed.
    NoAnswer,
    /// The facilitator would not take it, with this code.
    Invalid(String),
}

impl Unseen {
    /// What it says of the channel, if anything.
    pub(crate) fn error(&self) -> Option<BatchError> {
        let Self::Invalid(code) = self else { return None };
        match code.as_str() {
            "invalid_batch_settlement_evm_cumulative_below_claimed" => Some(BatchError::BelowClaimed),
            "invalid_batch_settlement_evm_cumulative_exceeds_balance"
            // No such channel: it holds nothing.
            | NOT_FOUND => Some(BatchError::ExceedsBalance),
            _ => None,
        }
    }
}

/// What is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Look<'a> {
    /// CAIP-2.
    pub(crate) network: &'a str,
    pub(crate) id: [u8; 32],
    pub(crate) config: &'a ChannelConfig,
    /// Any voucher of it that is covered by its balance.
    pub(crate) voucher: Voucher,
}

impl Look<'_> {
    /// Asks the operator's own node of the chain, and nobody else where there is one (X402-45); else one facilitator
    /// after the other.
    ///
    /// # Errors
    /// [`Unseen`]
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub(crate) async fn take(&self, gate: &Gate, all: &Facilitators, now_s: u64) -> Result<Mirror, Unseen> {
        if let Some(node) = all.nodes.get(self.network) {
            let seen = node.channel(&self.id).await.ok_or(Unseen::NoAnswer)?;
            let is_there = seen.balance > 0 && seen.total_claimed <= seen.balance;
            let mirror = Mirror {
                balance: seen.balance,
                total_claimed: seen.total_claimed,
                withdrawing: seen.withdrawing,
                withdraw_requested_at: seen.withdraw_requested_at,
                refund_nonce: seen.refund_nonce,
                synced_at_s: now_s,
            };
            return if is_there { Ok(mirror) } else { Err(Unseen::Invalid(NOT_FOUND.to_owned())) };
        }
        let payload = BatchPayload::Refund {
            channel_config: *self.config,
            voucher: self.voucher.clone(),
            amount: None,
        };
        let payload = serde_json::to_value(payload).map_err(|_| Unseen::NoAnswer)?;
        let request = request(self.network, self.config, payload).ok_or(Unseen::NoAnswer)?;
        ask(gate, all, &request, self.config, self.id, now_s).await
    }
}

/// Asks what a facilitator thinks of a channel's payload; its state on the chain, before that.
///
/// # Errors
/// [`Unseen`]
pub(crate) async fn ask(
    gate: &Gate,
    all: &Facilitators,
    request: &VerifyRequest,
    config: &ChannelConfig,
    id: [u8; 32],
    now_s: u64,
) -> Result<Mirror, Unseen> {
    let network = request.payment_requirements.get("network").and_then(Value::as_str).unwrap_or_default();
    let body = Bytes::from(serde_json::to_vec(request).map_err(|_| Unseen::NoAnswer)?);
    let payers = [config.payer.to_string()];
    for facilitator in gate.directory.candidates(all, request, network) {
        match all.verify(facilitator, body.clone(), &payers).await {
            Verification::Valid { extra, .. } => {
                if let Some(mirror) = extra.and_then(|extra| told(&extra, id, now_s)) {
                    return Ok(mirror);
                }
            }
            Verification::Invalid(invalid) => {
                // A trouble of its own with the chain says nothing about the payment.
                if !invalid.code.ends_with("_rpc_read_failed") {
                    return Err(Unseen::Invalid(invalid.code));
                }
            }
            Verification::NoAnswer => {}
        }
        tracing::warn!(facilitator = %facilitator.name(), "facilitator does not tell a channel's state, trying the next");
    }
    Err(Unseen::NoAnswer)
}

/// A request about a channel that we write ourselves: an offer of nothing.
fn request(network: &str, config: &ChannelConfig, payload: Value) -> Option<VerifyRequest> {
    let extra = json!({"receiverAuthorizer": config.receiver_authorizer.to_string(),
                       "withdrawDelay": config.withdraw_delay});
    let accepted = v2::PaymentRequirements {
        scheme: SCHEME.to_owned(),
        network: network.to_owned(),
        amount: "0".to_owned(),
        asset: config.token.to_string(),
        pay_to: config.receiver.to_string(),
        max_timeout_seconds: 0,
        extra: extra.as_object().cloned(),
    };
    let payment = v2::PaymentPayload {
        x402_version: v2::VERSION,
        resource: None,
        accepted: accepted.clone(),
        payload,
        extensions: None,
    };
    Some(VerifyRequest {
        x402_version: v2::VERSION,
        payment_payload: serde_json::to_value(payment).ok()?,
        payment_requirements: serde_json::to_value(accepted).ok()?,
    })
}

/// The state of a channel as a facilitator tells it: the members themselves, or below `channelState`.
pub(crate) fn told(extra: &Map<String, Value>, id: [u8; 32], now_s: u64) -> Option<Mirror> {
    let state = match extra.get("channelState") {
        Some(state) => ChannelState::deserialize(state),
        None => ChannelState::deserialize(&Value::Object(extra.clone())),
    };
    let state = state.ok().filter(|state| state.channel_id == id && state.total_claimed <= state.balance)?;
    // It tells that a withdrawal was asked for and not of how much: then everything that is not claimed counts as
    // gone, or a promise on what leaves would be worth nothing.
    let withdrawing =
        if state.withdraw_requested_at > 0 { state.balance.saturating_sub(state.total_claimed) } else { 0 };
    Some(Mirror {
        balance: state.balance,
        total_claimed: state.total_claimed,
        withdrawing,
        withdraw_requested_at: state.withdraw_requested_at,
        refund_nonce: state.refund_nonce,
        synced_at_s: now_s,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::told;

    fn extra() -> Value {
        let id = format!("0x{}", "cc".repeat(32));
        json!({"channelId": id, "balance": "200000", "totalClaimed": "5574", "withdrawRequestedAt": 0,
               "refundNonce": "1"})
    }

    /// Both places where deployed facilitators put it.
    #[test]
    fn x402_23_a_state_is_read_where_it_stands() {
        let mirror = told(extra().as_object().unwrap(), [0xcc; 32], 7).unwrap();
        assert_eq!((mirror.balance, mirror.total_claimed, mirror.synced_at_s), (200_000, 5574, 7));
        assert_eq!((mirror.withdrawing, mirror.refund_nonce[31]), (0, 1));
        let nested = json!({ "channelState": extra() });
        assert_eq!(told(nested.as_object().unwrap(), [0xcc; 32], 7), Some(mirror));
    }

    #[test]
    fn x402_22_a_withdrawal_of_unknown_size_takes_everything_that_is_not_claimed() {
        let mut asked = extra();
        asked["withdrawRequestedAt"] = json!(5);
        let mirror = told(asked.as_object().unwrap(), [0xcc; 32], 7).unwrap();
        assert_eq!((mirror.withdrawing, mirror.withdraw_requested_at), (194_426, 5));
    }

    #[test]
    fn what_cannot_be_is_not_believed() {
        assert_eq!(told(extra().as_object().unwrap(), [0xdd; 32], 7), None, "another channel");
        for (member, value) in [
            ("totalClaimed", json!("200001")),
            ("balance", json!("-1")),
            ("balance", json!(200_000)),
            ("refundNonce", json!("0x1g")),
            ("channelId", json!("0xcc")),
        ] {
            let mut wrong = extra();
            wrong[member] = value;
            assert_eq!(told(wrong.as_object().unwrap(), [0xcc; 32], 7), None, "{member}");
        }
    }
}
