//! Methods `lightning/charge` and `lightning/session`. Amounts are satoshis, decimal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The method's name.
pub const METHOD: &str = "lightning";
/// The one currency.
pub const CURRENCY: &str = "sat";

/// The request of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeRequest {
    /// Above zero.
    pub amount: String,
    /// [`CURRENCY`]
    pub currency: String,
    /// What is bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The payee's own name for the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The invoice.
    pub method_details: ChargeDetails,
}

/// What a charge says of its invoice, which decides where they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeDetails {
    /// BOLT11.
    pub invoice: String,
    /// 64 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_hash: Option<String>,
    /// `mainnet` where absent, else `regtest` or `signet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// The payload of a charge. `Debug` hides the preimage.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargePayload {
    /// 64 lower-case hexadecimal digits.
    pub preimage: String,
}

/// The request of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequest {
    /// Of one unit.
    pub amount: String,
    /// [`CURRENCY`]
    pub currency: String,
    /// What a unit is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_type: Option<String>,
    /// BOLT11; in challenges for `open` and `topUp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit_invoice: Option<String>,
    /// 64 lower-case hexadecimal digits.
    pub payment_hash: String,
    /// What the invoice asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit_amount: Option<String>,
    /// Seconds without a request after which the server closes, decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
}

/// The payload of a session, by its action. `Debug` names the action only: preimages are bearer secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SessionPayload {
    /// The deposit is paid.
    Open {
        /// Opens the payment hash, which names the session.
        preimage: String,
        /// Where the rest is to be paid back: BOLT11 without an amount.
        return_invoice: String,
    },
    /// A request on the session.
    Bearer {
        /// The payment hash of the deposit.
        session_id: String,
        /// Its preimage.
        preimage: String,
    },
    /// A further deposit is paid.
    TopUp {
        /// The payment hash of the first deposit.
        session_id: String,
        /// The preimage of the further one.
        top_up_preimage: String,
    },
    /// The rest is to be paid back.
    Close {
        /// The payment hash of the deposit.
        session_id: String,
        /// Its preimage.
        preimage: String,
    },
}

impl fmt::Debug for ChargePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChargePayload(preimage hidden)")
    }
}

impl fmt::Debug for SessionPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open { .. } => "SessionPayload(open)",
            Self::Bearer { .. } => "SessionPayload(bearer)",
            Self::TopUp { .. } => "SessionPayload(topUp)",
            Self::Close { .. } => "SessionPayload(close)",
        })
    }
}
