//! x402 inside MCP: the objects of version 2 as members of tool calls and their results, without base64 (X402-48).
//!
//! A result that asks for payment carries the challenge twice, as `structuredContent` and as text, because servers'
//! libraries drop one or the other.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{SettlementResponse, v2};
use crate::json as strict;

/// Where a call's `params._meta` carries the payment.
pub const PAYMENT: &str = "x402/payment";
/// Where a result's `_meta` carries the result of the payment.
pub const PAYMENT_RESPONSE: &str = "x402/payment-response";
/// JSON-RPC code of an error that carries a challenge in `data`.
pub const ERROR_CODE: i64 = 402;
/// The same by MCP's own code for what a user must do first; the challenge may stand under `data.x402`.
pub const ELICITATION_CODE: i64 = -32_042;
/// Longest text that is read as a challenge.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A payment in a call that is not one we read. The answer is a result with a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payment in the call is malformed")]
pub struct PaymentError;

/// The resource that a tool is.
#[must_use]
pub fn resource_url(tool: &str) -> String {
    format!("mcp://tool/{tool}")
}

/// The payment in a call's `params`; `None` where there is none.
///
/// # Errors
/// [`PaymentError`]
pub fn payment(params: &Value) -> Result<Option<v2::PaymentPayload>, PaymentError> {
    let Some(sent) = params.get("_meta").and_then(|meta| meta.get(PAYMENT)) else { return Ok(None) };
    let payment = v2::PaymentPayload::deserialize(sent).map_err(|_| PaymentError)?;
    if payment.x402_version != v2::VERSION {
        return Err(PaymentError);
    }
    Ok(Some(payment))
}

/// Puts a payment into a call's `params`; what `_meta` holds already stays.
pub fn pay(params: &mut Map<String, Value>, payment: &v2::PaymentPayload) {
    put(params, PAYMENT, payment);
}

/// The result that asks for payment, or says why a payment did not do.
#[must_use]
pub fn challenge(required: &v2::PaymentRequired) -> Value {
    // Our objects have text keys and no floats, so writing them cannot fail.
    let text = serde_json::to_string(required).unwrap_or_default();
    json!({
        "isError": true,
        "structuredContent": required,
        "content": [{"type": "text", "text": text}],
    })
}

/// Puts the result of a payment into the result of a call.
pub fn settled(result: &mut Map<String, Value>, response: &SettlementResponse) {
    put(result, PAYMENT_RESPONSE, response);
}

/// The result of a payment in the result of a call.
#[must_use]
pub fn settlement(result: &Value) -> Option<SettlementResponse> {
    SettlementResponse::deserialize(result.get("_meta")?.get(PAYMENT_RESPONSE)?).ok()
}

/// The challenge in a result: `structuredContent` first, else the first text that is one. Only an error asks for
/// payment: what a tool returns in peace is its own business.
#[must_use]
pub fn challenge_of_result(result: &Value) -> Option<v2::PaymentRequired> {
    if result.get("isError") != Some(&Value::Bool(true)) {
        return None;
    }
    result.get("structuredContent").and_then(required).or_else(|| {
        let content = result.get("content")?.as_array()?;
        let texts = content.iter().filter(|item| item.get("type").is_some_and(|kind| kind == "text"));
        let text = texts.filter_map(|item| item.get("text")?.as_str()).next()?;
        let parsed = (text.len() <= TEXT_BYTES_MAX).then(|| strict::parse_strict(text.as_bytes()).ok());
        required(&parsed??)
    })
}

/// The challenge in a JSON-RPC error, as older servers send it.
#[must_use]
pub fn challenge_of_error(error: &Value) -> Option<v2::PaymentRequired> {
    let data = error.get("data")?;
    match error.get("code")?.as_i64()? {
        ERROR_CODE => required(data),
        ELICITATION_CODE => required(data).or_else(|| required(data.get("x402")?)),
        _ => None,
    }
}

fn required(value: &Value) -> Option<v2::PaymentRequired> {
    let required = v2::PaymentRequired::deserialize(value).ok()?;
    (required.x402_version == v2::VERSION).then_some(required)
}

fn put<T: Serialize>(object: &mut Map<String, Value>, name: &str, value: &T) {
    let meta = object.entry("_meta").or_insert_with(|| json!({}));
    if !meta.is_object() {
        *meta = json!({});
    }
    if let (Some(meta), Ok(value)) = (meta.as_object_mut(), serde_json::to_value(value)) {
        meta.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Value {
        serde_json::from_str(include_str!("../../../../specs/vectors/x402/v2_exact_eip3009.json")).unwrap()
    }

    fn captured_challenge() -> v2::PaymentRequired {
        serde_json::from_value(flow()["steps"][0]["decoded"]["payment-required"].clone()).unwrap()
    }

    fn captured_payment() -> v2::PaymentPayload {
        serde_json::from_value(flow()["steps"][1]["decoded"]["payment-signature"].clone()).unwrap()
    }

    #[test]
    fn x402_48_a_challenge_stands_in_both_places() {
        let challenge = challenge(&captured_challenge());
        assert_eq!(challenge["isError"], true);
        let text = challenge["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), challenge["structuredContent"]);
        assert_eq!(challenge_of_result(&challenge), Some(captured_challenge()));

        let mut only_text = challenge.clone();
        only_text.as_object_mut().unwrap().remove("structuredContent");
        assert_eq!(challenge_of_result(&only_text), Some(captured_challenge()));
        let mut only_object = challenge.clone();
        only_object["content"] = json!([]);
        assert_eq!(challenge_of_result(&only_object), Some(captured_challenge()));
        let mut first = challenge.clone();
        first["structuredContent"]["error"] = json!("first");
        assert_eq!(challenge_of_result(&first).unwrap().error.as_deref(), Some("first"));

        for (what, change) in [
            ("in peace", json!({"isError": false})),
            (
                "another version",
                json!({"structuredContent": {"x402Version": 1, "accepts": []}, "content": []}),
            ),
            (
                "no challenge",
                json!({"structuredContent": {"x": 1}, "content": [{"type": "text", "text": "no"}]}),
            ),
            (
                "key twice",
                json!({"structuredContent": null,
                "content": [{"type": "text", "text": "{\"x402Version\":2,\"x402Version\":2,\"accepts\":[]}"}]}),
            ),
        ] {
            let mut other = challenge.as_object().unwrap().clone();
            other.extend(change.as_object().unwrap().clone());
            assert_eq!(challenge_of_result(&Value::Object(other)), None, "{what}");
        }
    }

    #[test]
    fn x402_48_a_payment_travels_as_an_object() {
        let mut params =
            json!({"name": "search", "_meta": {"progressToken": 1}}).as_object().unwrap().clone();
        assert_eq!(payment(&Value::Object(params.clone())), Ok(None));
        pay(&mut params, &captured_payment());
        let params = Value::Object(params);
        assert_eq!(params["_meta"]["progressToken"], 1);
        assert_eq!(payment(&params), Ok(Some(captured_payment())));
        for sent in [json!("eyJ4NDAyVmVyc2lvbiI6Mn0="), json!({"x402Version": 2}), json!({"x402Version": 1})]
        {
            assert_eq!(payment(&json!({"_meta": {PAYMENT: sent}})), Err(PaymentError));
        }
        let mut older = serde_json::to_value(captured_payment()).unwrap();
        older["x402Version"] = json!(1);
        assert_eq!(payment(&json!({"_meta": {PAYMENT: older}})), Err(PaymentError));
    }

    #[test]
    fn the_result_of_a_payment_stands_beside_the_tools() {
        let response: SettlementResponse =
            serde_json::from_value(flow()["steps"][1]["decoded"]["payment-response"].clone()).unwrap();
        let mut result = json!({"content": [], "_meta": 7}).as_object().unwrap().clone();
        settled(&mut result, &response);
        assert_eq!(settlement(&Value::Object(result)), Some(response));
        assert_eq!(settlement(&json!({"content": []})), None);
        assert_eq!(settlement(&json!({"_meta": {PAYMENT_RESPONSE: {"ok": true}}})), None);
    }

    #[test]
    fn errors_of_older_servers_are_read() {
        let data = serde_json::to_value(captured_challenge()).unwrap();
        for (error, expected) in [
            (json!({"code": 402, "message": "pay", "data": data}), true),
            (json!({"code": -32042, "message": "pay", "data": data}), true),
            (json!({"code": -32042, "message": "pay", "data": {"x402": data}}), true),
            (json!({"code": 402, "message": "pay", "data": {"x402": data}}), false),
            (json!({"code": -32000, "message": "pay", "data": data}), false),
            (json!({"code": 402, "message": "pay"}), false),
        ] {
            assert_eq!(challenge_of_error(&error).is_some(), expected, "{error}");
        }
        assert_eq!(resource_url("search"), "mcp://tool/search");
    }
}
