//! Objects of version 2.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version number inside the objects.
pub const VERSION: u8 = 2;

/// The challenge: value of `PAYMENT-REQUIRED`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    /// [`VERSION`].
    #[serde(rename = "x402Version")]
    pub x402_version: u8,
    /// Text, or a code after a refused payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is for sale. Some servers leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceInfo>,
    /// Ways to pay. Reading leaves out entries of a shape we do not know: one strange offer must not
    /// hide the others.
    #[serde(deserialize_with = "super::known_shapes")]
    pub accepts: Vec<PaymentRequirements>,
    /// Extensions by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Map<String, Value>>,
}

/// What is for sale.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceInfo {
    /// Absolute URL.
    pub url: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Of the paid answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// At most 32 printable ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// At most 5, each at most 32 printable ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Absolute URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
}

/// One way to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequirements {
    /// `exact`, ...
    pub scheme: String,
    /// CAIP-2.
    pub network: String,
    /// Atomic units, decimal.
    pub amount: String,
    /// Contract, mint or currency.
    pub asset: String,
    /// Address or role.
    pub pay_to: String,
    /// How long a proof may stay valid.
    pub max_timeout_seconds: u64,
    /// Members of scheme and seller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}

/// The payment: value of `PAYMENT-SIGNATURE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayload {
    /// [`VERSION`].
    #[serde(rename = "x402Version")]
    pub x402_version: u8,
    /// Echo of the challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceInfo>,
    /// Echo of the chosen entry. A claim of the payer, never a source of price or asset (X402-10).
    pub accepted: PaymentRequirements,
    /// By scheme; see [`super::ExactPayload`].
    pub payload: Value,
    /// Echo of the extensions, with additions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Map<String, Value>>,
}
