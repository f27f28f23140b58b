//! What every refusal must say, in the shape of the SDK that called.

use crate::http::Answer;
use crate::payer;

/// Checks a refusal: status, code, what happened to the money, for machines in both places where SDKs
/// look; a challenge if and only if a payment would help.
#[track_caller]
pub fn assert_refused(answer: &Answer, status: u16, code: &str, money: &str) {
    let text = answer.text();
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{text}");
    let body = answer.json();
    assert_eq!(body["money"], money, "{text}");
    assert_eq!(body["status"], status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("farthing-request-id"), body["request_id"].as_str());
    let fault = body["fault"].as_str().unwrap();
    assert!(["payer", "caller", "operator", "gateway"].contains(&fault), "{text}");
    let error = &body["error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.ends_with('.') && message.len() > 20, "{text}");
    // OpenAI's SDK hands out `error` alone, Anthropic's reads `error.details`.
    let inner = if error["details"].is_object() {
        assert_eq!(error["details"]["error_code"], code, "{text}");
        &error["details"]
    } else {
        assert_eq!(error["code"], code, "{text}");
        error
    };
    assert_eq!(inner["money"], money, "{text}");
    let challenge = answer.header("payment-required");
    if status != 402 {
        assert_eq!(challenge, None, "a payment would not help: {text}");
        assert!(body["accepts"].is_null(), "{text}");
        return;
    }
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let challenge = challenge.unwrap();
    assert!(challenge.len() < 2048, "{} bytes", challenge.len());
    assert_eq!(payer::decode(challenge)["error"], code);
    assert_eq!(body["x402Version"], 1);
    let is_offered = !body["accepts"].as_array().unwrap().is_empty();
    let in_headers = ["www-authenticate", "x-cashu"].iter().any(|name| answer.header(name).is_some());
    assert!(is_offered || in_headers, "how one pays: {text}");
    assert!(body["top_up_url"].as_str().unwrap().ends_with("/farthing/topup"), "{text}");
    let kind = if error["details"].is_object() { "billing_error" } else { "payment_required" };
    assert_eq!(error["type"], kind, "{text}");
}
