//! Method `credit/session`, our own: an MPP client spends a credit key. Nothing is deposited by it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The method's name.
pub const METHOD: &str = "credit";

/// The request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequest {
    /// The most that the call can cost, in the units of `decimals`.
    pub amount: String,
    /// ISO 4217, lower case.
    pub currency: String,
    /// What is counted, and where there is more.
    pub method_details: SessionDetails,
}

/// What is counted, and where there is more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDetails {
    /// Of `amount`.
    pub decimals: u8,
    /// Of the ledger.
    pub asset: String,
    /// An account that is known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Where a balance grows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_up_url: Option<String>,
}

/// The payload. `Debug` hides the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPayload {
    /// `fk_...`
    pub token: String,
}

impl fmt::Debug for SessionPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionPayload(token hidden)")
    }
}
