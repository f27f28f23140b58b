//! The receipt of a paid answer: base64url of JSON in `Payment-Receipt` (MPP-18, MPP-19).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::challenge::{RequestError, decode_object, is_method_name};
use super::payload;
use crate::{base64, rfc3339};

/// What was paid, for whoever paid it. Nothing in it is secret.
///
/// Numbers are integers and stay so: a reader that takes them for doubles loses satoshis above 2^53.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The way it was paid.
    pub method: String,
    /// Payment hash, transaction, channel or PaymentIntent: public, never a secret.
    pub reference: String,
    /// Always [`Receipt::SUCCESS`]: there is no receipt of a failure.
    pub status: String,
    /// RFC 3339.
    pub timestamp: String,
    /// The challenge that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge_id: Option<String>,
    /// `session` in receipts of sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// The payee's own name for the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Sessions: the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    /// Sessions: the highest voucher accepted, base units, decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_cumulative: Option<String>,
    /// Sessions: what was used of it so far, base units, decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<String>,
    /// Sessions: units delivered by this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<u64>,
    /// The transaction on chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_hash: Option<String>,
    /// Lightning close: satoshis paid back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_sats: Option<i64>,
    /// Lightning close: how paying back went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_status: Option<RefundStatus>,
    /// Sessions: seconds without a request after which the server closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<u64>,
    /// Members of ours and of other methods.
    #[serde(skip)]
    pub more: Map<String, Value>,
}

/// How paying back the rest of a Lightning session went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefundStatus {
    /// The return invoice is paid.
    Succeeded,
    /// It could not be paid; what is owed stands in the books.
    Failed,
    /// Nothing was owed.
    Skipped,
}

impl Receipt {
    /// The one status.
    pub const SUCCESS: &str = "success";

    /// A receipt with what every method has.
    #[must_use]
    pub fn new(method: &str, reference: &str, timestamp: &str) -> Self {
        Self {
            method: method.to_owned(),
            reference: reference.to_owned(),
            status: Self::SUCCESS.to_owned(),
            timestamp: timestamp.to_owned(),
            challenge_id: None,
            intent: None,
            external_id: None,
            channel_id: None,
            accepted_cumulative: None,
            spent: None,
            units: None,
            tx_hash: None,
            refund_sats: None,
            refund_status: None,
            idle_timeout_seconds: None,
            more: Map::new(),
        }
    }

    /// The header value.
    #[must_use]
    pub fn encode(&self) -> String {
        base64::encode_url(self.to_json().as_bytes())
    }

    /// The JSON text, as the event at the end of a stream has it.
    #[must_use]
    pub fn to_json(&self) -> String {
        Value::Object(self.members()).to_string()
    }

    /// Its members, as MCP carries them.
    #[must_use]
    pub fn members(&self) -> Map<String, Value> {
        let mut members = self.more.clone();
        members.append(&mut payload::write(self));
        members
    }

    /// Reads a header value.
    ///
    /// # Errors
    /// [`ReceiptError`]
    pub fn decode(value: &str) -> Result<Self, ReceiptError> {
        Self::from_members(decode_object(value)?)
    }

    /// Reads the members, as MCP carries them.
    ///
    /// # Errors
    /// [`ReceiptError`]
    pub fn from_members(mut members: Map<String, Value>) -> Result<Self, ReceiptError> {
        let mut receipt: Self = payload::read(&members).map_err(|_| ReceiptError::Members)?;
        if receipt.status != Self::SUCCESS {
            return Err(ReceiptError::Status);
        }
        if !is_method_name(&receipt.method) {
            return Err(ReceiptError::Members);
        }
        rfc3339::parse(&receipt.timestamp).ok_or(ReceiptError::Timestamp)?;
        let known = payload::write(&receipt);
        members.retain(|name, _| !known.contains_key(name));
        receipt.more = members;
        Ok(receipt)
    }
}

/// Why a value is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not base64url of a JSON object.
    #[error("receipt is {0}")]
    Text(#[from] RequestError),
    /// Members are missing or of another type.
    #[error("receipt lacks members")]
    Members,
    /// Another status than `success`.
    #[error("receipt of no success")]
    Status,
    /// No time as RFC 3339 has it.
    #[error("receipt without a time")]
    Timestamp,
}
