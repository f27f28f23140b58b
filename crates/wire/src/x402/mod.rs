//! x402, versions 1 and 2: headers, objects, networks.
//!
//! Amounts, values, nonces and times inside payloads are decimal **strings** on the wire. Unknown
//! members are ignored everywhere. Nothing a payer sends is trusted for price, asset, chain or domain:
//! `proof::x402_exact` compares it with our own offer.

pub mod address;
pub mod asset;
pub mod base58;
pub mod batch;
pub mod bazaar;
pub mod code;
pub mod contracts;
pub mod exact;
pub mod extension;
pub mod facilitator;
pub mod header;
pub mod mcp;
pub mod network;
pub mod offer_receipt;
pub mod payload;
pub mod payment_identifier;
pub mod permit2;
pub mod siwx;
pub mod svm;
pub mod test_keys;
pub mod uint256;
pub mod v1;
pub mod v2;

pub use address::{Address, AddressError};
pub use exact::{Authorization, ExactPayload, Transfer};
pub use header::{HeaderError, decode, decode_payment_signature, decode_x_payment, encode};
pub use permit2::{Permit, Permit2Payload};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A transfer of exactly `amount`.
pub const SCHEME_EXACT: &str = "exact";
/// A transfer of what the call turned out to cost, up to `amount`.
pub const SCHEME_UPTO: &str = "upto";

/// `PAYMENT-RESPONSE` and `X-PAYMENT-RESPONSE`, and a facilitator's answer to `/settle`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementResponse {
    /// Whether the money moved.
    pub success: bool,
    /// Transaction hash, empty if none.
    #[serde(default)]
    pub transaction: String,
    /// CAIP-2 in version 2, a name in version 1.
    #[serde(default)]
    pub network: String,
    /// Who paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// What moved, in atomic units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// An open list of codes, sometimes with free text behind a colon (X402-19).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// For a log, never relayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Results of extensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Map<String, Value>>,
    /// Members of the scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Map<String, Value>>,
}

/// The offers of a challenge whose shape we know; the others are left out.
fn known_shapes<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let entries = Vec::<Value>::deserialize(deserializer)?;
    Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}

#[cfg(test)]
mod tests;
