//! Method `stripe/charge`: a shared payment token, charged by a PaymentIntent.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The method's name.
pub const METHOD: &str = "stripe";

/// The request of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeRequest {
    /// Minor units, decimal.
    pub amount: String,
    /// ISO 4217, lower case.
    pub currency: String,
    /// What is bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The payee's own name for the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Who may be paid, and with what.
    pub method_details: ChargeDetails,
}

/// Whom a token has to be for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeDetails {
    /// The seller's profile, which a token is granted to.
    pub network_id: String,
    /// `card`, `link`, ...
    pub payment_method_types: Vec<String>,
    /// Copied into the PaymentIntent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// The payload of a charge. `Debug` hides the token, which is money until it is charged.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargePayload {
    /// `spt_...`
    pub spt: String,
    /// The payer's own name for the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
}

impl fmt::Debug for ChargePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChargePayload(token hidden)")
    }
}
