//! An upstream that says it is out of the operator's credit. No payer may see that as a wish for payment: he would
//! pay again (MTR-29, reference item 47).

use http::StatusCode;
use meter::Provider;
use serde_json::Value;

use super::UpstreamBody;

/// The most of an answer that is looked at; what says this is short.
const LOOKED_AT_BYTES: usize = 8 * 1024;

/// How providers word it, where the status does not: codes and types of their errors.
const WORDS: [&str; 9] = [
    "402",
    "insufficient_quota",
    "insufficient_balance",
    "billing_error",
    "billing_not_active",
    "exceeded_current_quota_error",
    "AccountOverdueError",
    "Arrearage",
    // GLM.
    "1113",
];
const MESSAGES: [&str; 2] = ["Insufficient Balance", "Your credit balance is too low"];
/// `MiniMax`, with status 200.
const BASE_RESP: u64 = 1008;

/// Whether an answer says so by its head alone. None: its body has to be looked at.
pub(crate) fn is_out_by_head(provider: Provider, status: StatusCode) -> Option<bool> {
    if status == StatusCode::PAYMENT_REQUIRED {
        return Some(true);
    }
    let fails_with_200 = matches!(provider, Provider::MiniMax | Provider::OpenRouter);
    let may_say_so = status.is_client_error() || (status == StatusCode::OK && fails_with_200);
    (!may_say_so || provider == Provider::Raw).then_some(false)
}

/// Whether the body of an answer says so. Looks at no more than its beginning: of what succeeded, at the first event or a
/// short document of those who fail with status 200.
pub(crate) async fn is_out(status: StatusCode, body: &mut UpstreamBody) -> bool {
    let is_enough = |seen: &[u8]| {
        seen.len() >= LOOKED_AT_BYTES
            || (status == StatusCode::OK && memchr::memmem::find(seen, b"\n\n").is_some())
    };
    says_so(&body.peek(is_enough).await)
}

fn says_so(beginning: &[u8]) -> bool {
    let first_event = beginning.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"data:"));
    let Ok(said) = serde_json::from_slice::<Value>(first_event.unwrap_or(beginning)) else { return false };
    // Some put the error into a list.
    let said = said.get(0).unwrap_or(&said);
    let error = &said["error"];
    let word = |value: &Value| match value {
        Value::String(word) => WORDS.contains(&word.as_str()),
        Value::Number(code) => WORDS.contains(&code.to_string().as_str()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let message = |value: &Value| {
        value.as_str().is_some_and(|text| MESSAGES.iter().any(|known| text.starts_with(known)))
    };
    [&error["code"], &error["type"], &said["code"]].into_iter().any(word)
        || message(&error["message"])
        || said["base_resp"]["status_code"].as_u64() == Some(BASE_RESP)
}

#[cfg(test)]
mod tests {
    use super::says_so;

    #[test]
    fn words_table() {
        for (who, body, expected) in [
            (
                "OpenAI",
                r#"{"error":{"message":"You exceeded","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                true,
            ),
            (
                "Anthropic",
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access"}}"#,
                true,
            ),
            (
                "DeepSeek",
                r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#,
                true,
            ),
            (
                "MiniMax",
                r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
                true,
            ),
            ("MiniMax, streamed", "data: {\"base_resp\":{\"status_code\":1008}}\n\n", true),
            ("MiniMax, another failure", r#"{"base_resp":{"status_code":2013}}"#, false),
            ("OpenRouter", r#"{"error":{"code":402,"message":"Insufficient credits"}}"#, true),
            ("OpenRouter, streamed", "data: {\"error\":{\"code\":402}}\n\ndata: {}\n\n", true),
            ("GLM", r#"{"error":{"code":"1113","message":"..."}}"#, true),
            ("Qwen", r#"{"code":"Arrearage","message":"Access denied"}"#, true),
            ("a rate limit", r#"{"error":{"type":"rate_limit_error","code":"rate_limit_exceeded"}}"#, false),
            (
                "a prompt that is quoted",
                r#"{"error":{"message":"bad: Insufficient Balance","code":"bad"}}"#,
                false,
            ),
            ("an answer", r#"{"choices":[{"message":{"content":"402"}}]}"#, false),
            ("no JSON", "Insufficient Balance", false),
            ("nothing", "", false),
        ] {
            assert_eq!(says_so(body.as_bytes()), expected, "{who}");
        }
    }
}
