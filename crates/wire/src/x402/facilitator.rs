//! Bodies of a facilitator's `/verify`, `/settle` and `/supported`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Body of `POST /verify`. Built from our values, never from the payer's bytes (X402-11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyRequest {
    /// 1 or 2.
    #[serde(rename = "x402Version")]
    pub x402_version: u8,
    /// A [`super::v1::PaymentPayload`] or [`super::v2::PaymentPayload`].
    pub payment_payload: Value,
    /// The entry we offered.
    pub payment_requirements: Value,
}

/// Body of `POST /settle`: the same members.
pub type SettleRequest = VerifyRequest;

/// Answer to `/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyResponse {
    /// The facilitator's opinion.
    pub is_valid: bool,
    /// An open list of codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_reason: Option<String>,
    /// For a log, never relayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_message: Option<String>,
    /// Who would pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// Members of the scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}

/// Answer to `/supported`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supported {
    /// What it settles.
    pub kinds: Vec<Kind>,
    /// Extension ids.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Its own addresses by network pattern.
    #[serde(default)]
    pub signers: Map<String, Value>,
}

/// One thing a facilitator settles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// 1 or 2.
    #[serde(rename = "x402Version")]
    pub x402_version: u8,
    /// `exact`, ...
    pub scheme: String,
    /// CAIP-2, or a name in version 1.
    pub network: String,
    /// Members of the scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}
