//! Method `solana/session`: Ed25519 vouchers. Amounts are base units, decimal.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The method's name.
pub const METHOD: &str = "solana";

/// The request of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequest {
    /// Of one unit.
    pub amount: String,
    /// What a unit is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_type: Option<String>,
    /// What a client had best deposit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested_deposit: Option<String>,
    /// The mint.
    pub currency: String,
    /// Who is paid.
    pub recipient: String,
    /// The channel's program and network, open to members that we do not know.
    #[serde(default)]
    pub method_details: Map<String, Value>,
}

/// The payload of a session, by its action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SessionPayload {
    /// The channel is to be opened.
    Open {
        /// base58
        channel_id: String,
        /// base64 of the signed transaction that deposits.
        transaction: String,
        /// The first voucher.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        voucher: Option<SignedVoucher>,
    },
    /// More of the deposit is promised.
    Voucher(SignedVoucher),
    /// A request on a channel whose vouchers the operator signs.
    Use {
        /// base58
        channel_id: String,
    },
    /// The channel is to hold more.
    TopUp {
        /// base58
        channel_id: String,
        /// base64 of the signed transaction that deposits.
        transaction: String,
        /// What it adds.
        additional_deposit: String,
    },
    /// The channel is to be closed.
    Close {
        /// base58
        channel_id: String,
        /// The last voucher.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        voucher: Option<SignedVoucher>,
    },
}

/// A voucher with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignedVoucher {
    /// What is signed, as 50 bytes made of these fields.
    pub voucher: Voucher,
    /// base58
    pub signer: String,
    /// base58
    pub signature: String,
    /// `ed25519`
    pub signature_type: String,
}

/// All that is promised so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voucher {
    /// base58
    pub channel_id: String,
    /// Base units, decimal.
    pub cumulative_amount: String,
    /// Unix seconds; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Value>,
}
