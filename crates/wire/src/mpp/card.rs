//! Method `card/charge`: a network token that is encrypted to the processor and passed on unopened.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The method's name.
pub const METHOD: &str = "card";

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
    /// What is accepted, and to which key it is encrypted.
    pub method_details: ChargeDetails,
}

/// Which cards, and to which key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeDetails {
    /// `visa`, `mastercard`, ...
    pub accepted_networks: Vec<String>,
    /// For display.
    pub merchant_name: String,
    /// The processor's public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_jwk: Option<Map<String, Value>>,
    /// Where the key stands instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Which key of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Whether an address is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_required: Option<bool>,
}

/// The payload of a charge. `Debug` shows the network only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargePayload {
    /// JWE in its compact form. Never decrypted here.
    pub encrypted_payload: String,
    /// The card's network.
    pub network: String,
    /// For display.
    pub pan_last_four: String,
    /// `01` to `12`
    pub pan_expiration_month: String,
    /// Four digits.
    pub pan_expiration_year: String,
    /// The payer's address, where it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_address: Option<Map<String, Value>>,
}

impl fmt::Debug for ChargePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChargePayload({} card, token hidden)", self.network)
    }
}
