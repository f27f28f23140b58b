//! Events that a metered stream sends between those of the model, to a client that pays from a session (ENG-8).

use serde::{Deserialize, Serialize};

/// The name of [`NeedVoucher`].
pub const NEED_VOUCHER: &str = "payment-need-voucher";
/// The name of [`NeedTopup`] while the stream waits.
pub const NEED_TOPUP: &str = "payment-need-topup";
/// The name of [`NeedTopup`] when the wait is over and the stream ends.
pub const SESSION_TIMEOUT: &str = "session-timeout";
/// The name of the event that carries the JSON of a [`super::Receipt`], before the stream's own end.
pub const RECEIPT: &str = "payment-receipt";

/// The accepted vouchers are used up. Amounts are base units, decimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeedVoucher {
    /// The channel.
    pub channel_id: String,
    /// The least cumulative amount with which the stream goes on.
    pub required_cumulative: String,
    /// The highest one accepted.
    pub accepted_cumulative: String,
    /// What the channel holds: if less than required, a top-up comes first.
    pub deposit: String,
}

/// The balance of a Lightning session is used up. Satoshis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeedTopup {
    /// The session: its payment hash.
    pub session_id: String,
    /// Used so far.
    pub balance_spent: i64,
    /// What must be there for the stream to go on.
    pub balance_required: i64,
}

/// One event as it stands in a stream.
#[must_use]
pub fn frame(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// One event with a value of this module.
#[must_use]
pub fn encode<T: Serialize>(name: &str, value: &T) -> String {
    frame(name, &serde_json::to_string(value).unwrap_or_default()) // text keys and integers: cannot fail
}
