//! A question to a node, whatever its chain.

use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::Exchange;
use crate::dial::{Dialer, Origin};

/// Longest a node may take to answer one question.
const TIME_MAX: Duration = Duration::from_secs(5);
/// Largest answer that is read. Facilitators settle many payments in one transaction.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What is kept of a node's complaint.
const MESSAGE_CHARS_MAX: usize = 200;

/// Why a question has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// The node says this.
    Error(String),
    /// It says nothing, or nothing that can be read.
    NoAnswer,
}

/// The result of a question, or what the node says instead.
pub(crate) async fn question(
    (origin, path, dialer): (&Origin, &str, &Dialer),
    method: &str,
    params: Value,
) -> Result<Value, NoResult> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let exchange = Exchange {
        origin,
        method: Method::POST,
        path,
        body: Bytes::from(body),
        time_max: TIME_MAX,
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    let answer = exchange.run_kept(dialer).await.ok().filter(|answer| answer.status == 200);
    let said = answer.and_then(|answer| wire::json::parse_strict(&answer.body).ok());
    let mut said = said.ok_or(NoResult::NoAnswer)?;
    if let Some(error) = said.get("error") {
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
        return Err(NoResult::Error(message.chars().take(MESSAGE_CHARS_MAX).collect()));
    }
    said.get_mut("result").map(Value::take).ok_or(NoResult::NoAnswer)
}
