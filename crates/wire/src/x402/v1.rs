//! Objects of version 1.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version number inside the objects.
pub const VERSION: u8 = 1;

/// The challenge: members of the JSON body of a 402, which may have others beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    /// [`VERSION`].
    #[serde(rename = "x402Version")]
    pub x402_version: u8,
    /// Text, or an error object in the shape of some SDK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// Ways to pay; entries of a shape we do not know are left out when reading.
    #[serde(deserialize_with = "super::known_shapes")]
    pub accepts: Vec<PaymentRequirements>,
}

/// One way to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequirements {
    /// `exact`, ...
    pub scheme: String,
    /// A name; see [`super::network`].
    pub network: String,
    /// Atomic units, decimal.
    pub max_amount_required: String,
    /// URL.
    pub resource: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Of the paid answer.
    #[serde(default)]
    pub mime_type: String,
    /// `null` or an object.
    #[serde(default)]
    pub output_schema: Option<Value>,
    /// Address.
    pub pay_to: String,
    /// How long a proof may stay valid.
    pub max_timeout_seconds: u64,
    /// Contract.
    pub asset: String,
    /// Domain name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}

/// The payment: value of `X-PAYMENT`. It does not echo the offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayload {
    /// [`VERSION`].
    #[serde(rename = "x402Version")]
    pub x402_version: u8,
    /// `exact`, ...
    pub scheme: String,
    /// A name.
    pub network: String,
    /// By scheme; see [`super::ExactPayload`].
    pub payload: Value,
}
