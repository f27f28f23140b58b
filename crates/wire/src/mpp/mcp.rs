//! MPP inside JSON-RPC and MCP (MPP section 12).
//!
//! Challenges and credentials are members of messages. `request` is written as the object it is; the id is still made
//! over base64url of its canonical form, so an echo is brought back to that text before it is checked. A notification
//! has no answer that could ask for payment: it cannot be paid, and is dropped where payment is due.

use serde_json::{Map, Value, json};

use super::challenge::{Challenge, encode_object};
use super::credential::{Credential, CredentialError, Field};
use super::problem::Problem;
use super::receipt::Receipt;

/// Where a call's `params._meta`, or in plain JSON-RPC the message's own `_meta`, carries the credential.
pub const CREDENTIAL: &str = "org.paymentauth/credential";
/// Where a result's `_meta` carries the receipt.
pub const RECEIPT: &str = "org.paymentauth/receipt";
/// Where some servers put the challenge into a tool's result instead of an error.
pub const REQUIRED: &str = "org.paymentauth/payment-required";

/// No credential came.
pub const PAYMENT_REQUIRED: i64 = -32_042;
/// A credential came and does not do.
pub const VERIFICATION_FAILED: i64 = -32_043;
/// A credential came that cannot be read.
pub const INVALID_PARAMS: i64 = -32_602;
/// A mistake of the server.
pub const INTERNAL_ERROR: i64 = -32_603;

/// Most challenges that are taken from one error.
pub const CHALLENGES_MAX: usize = 32;

/// What a message is to whoever charges for calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call that can be charged: `tools/call`, `resources/read`, `prompts/get`.
    Payable,
    /// Another call.
    Free,
    /// No answer is wanted, so none can ask for payment.
    Notification,
    /// An answer, a batch, or no JSON-RPC.
    Other,
}

/// What a message is.
#[must_use]
pub fn kind(message: &Value) -> Kind {
    let method = message.get("method").and_then(Value::as_str);
    let is_rpc = message.get("jsonrpc").is_some_and(|version| version == "2.0");
    match (method.filter(|_| is_rpc), message.get("id")) {
        (None, _) | (Some(_), Some(Value::Null)) => Kind::Other,
        (Some(_), None) => Kind::Notification,
        (Some("tools/call" | "resources/read" | "prompts/get"), Some(_)) => Kind::Payable,
        (Some(_), Some(_)) => Kind::Free,
    }
}

/// The credential of a call; `None` where it has none.
///
/// # Errors
/// [`CredentialError`]: [`INVALID_PARAMS`]; `Ambiguous` when both places have one and they differ.
pub fn credential(message: &Value) -> Result<Option<Credential>, CredentialError> {
    let of = |object: Option<&Value>| Some(read_credential(object?.get("_meta")?.get(CREDENTIAL)?));
    match (of(message.get("params")).transpose()?, of(Some(message)).transpose()?) {
        (Some(inner), Some(outer)) if inner != outer => Err(CredentialError::Ambiguous),
        (inner, outer) => Ok(inner.or(outer)),
    }
}

/// Puts a credential into a call's `params`; what `_meta` holds already stays.
pub fn pay(params: &mut Map<String, Value>, credential: &Credential) {
    let mut members = credential.to_members();
    members.insert("challenge".into(), Value::Object(native(&credential.challenge)));
    put(params, CREDENTIAL, Value::Object(members));
}

/// The JSON-RPC code of a problem.
#[must_use]
pub const fn code(problem: Problem) -> i64 {
    match problem {
        Problem::PaymentRequired => PAYMENT_REQUIRED,
        Problem::MalformedCredential | Problem::InvalidPayload => INVALID_PARAMS,
        Problem::InternalPaymentError => INTERNAL_ERROR,
        Problem::PaymentInsufficient
        | Problem::PaymentExpired
        | Problem::InvalidChallenge
        | Problem::VerificationFailed
        | Problem::Replayed
        | Problem::PaymentActionRequired
        | Problem::MethodUnsupported
        | Problem::BadRequest
        | Problem::Session(_)
        | Problem::Lightning(_) => VERIFICATION_FAILED,
    }
}

/// The `error` of an answer that asks for payment, or says why a payment did not do.
///
/// `document` is the problem document of the same problem. Challenges go with it only where paying again is of use.
#[must_use]
pub fn error(problem: Problem, document: &Map<String, Value>, challenges: &[Challenge]) -> Value {
    let challenges = challenges.iter().filter(|_| problem.has_challenge());
    let challenges: Vec<Value> = challenges.map(|challenge| Value::Object(native(challenge))).collect();
    let detail = document.get("detail").and_then(Value::as_str).unwrap_or(problem.title());
    json!({
        "code": code(problem),
        "message": detail,
        "data": {"httpStatus": problem.status(), "challenges": challenges, "problem": document},
    })
}

/// The challenges in an error, whichever of both codes it has. One that cannot be read is left out.
#[must_use]
pub fn challenges_of_error(error: &Value) -> Vec<Challenge> {
    let code = error.get("code").and_then(Value::as_i64);
    let asks = code.is_some_and(|code| [PAYMENT_REQUIRED, VERIFICATION_FAILED].contains(&code));
    error.get("data").filter(|_| asks).map_or_else(Vec::new, challenges_of)
}

/// The challenges in the `_meta` of a tool's result.
#[must_use]
pub fn challenges_of_result(result: &Value) -> Vec<Challenge> {
    let required = result.get("_meta").and_then(|meta| meta.get(REQUIRED));
    required.map_or_else(Vec::new, challenges_of)
}

/// Puts a receipt into a call's result. It names its challenge: the answer has no header that would.
pub fn settled(result: &mut Map<String, Value>, receipt: &Receipt, challenge_id: &str) {
    let receipt = Receipt { challenge_id: Some(challenge_id.to_owned()), ..receipt.clone() };
    put(result, RECEIPT, Value::Object(receipt.members()));
}

/// The receipt in a call's result; `None` where there is none that names its challenge.
#[must_use]
pub fn receipt(result: &Value) -> Option<Receipt> {
    let members = result.get("_meta")?.get(RECEIPT)?.as_object()?.clone();
    Receipt::from_members(members).ok().filter(|receipt| receipt.challenge_id.is_some())
}

/// What a server says of itself in `capabilities.experimental.payment`: its methods, each with its intents.
#[must_use]
pub fn capability<'a>(offers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let mut methods = Map::new();
    for (method, intent) in offers {
        let entry = methods.entry(method).or_insert_with(|| json!({"intents": []}));
        if let Some(intents) = entry.get_mut("intents").and_then(Value::as_array_mut)
            && !intents.iter().any(|known| known == intent)
        {
            intents.push(intent.into());
        }
    }
    json!({ "methods": methods })
}

/// Whether a peer's `capabilities` name a method with an intent.
#[must_use]
pub fn supports(capabilities: &Value, method: &str, intent: &str) -> bool {
    let methods = capabilities.pointer("/experimental/payment/methods");
    let intents = methods.and_then(|methods| methods.get(method)?.get("intents")?.as_array());
    intents.is_some_and(|intents| intents.iter().any(|known| known == intent))
}

fn challenges_of(required: &Value) -> Vec<Challenge> {
    let listed = required.get("challenges").and_then(Value::as_array).into_iter().flatten();
    let read = |challenge: &Value| {
        let challenge = Challenge::from_object(&textual(challenge.as_object()?)).ok()?;
        challenge.is_answerable().then_some(challenge)
    };
    listed.take(CHALLENGES_MAX).filter_map(read).collect()
}

fn read_credential(value: &Value) -> Result<Credential, CredentialError> {
    let members = value.as_object().ok_or(CredentialError::Member("object"))?;
    let mut members = members.clone();
    let challenge = members.get("challenge").and_then(Value::as_object);
    let challenge = textual(challenge.ok_or(CredentialError::Member("challenge"))?);
    members.insert("challenge".into(), Value::Object(challenge));
    // There is one place, so no challenge can have asked for another.
    Credential::from_members(Field::PaymentAuthorization, members)
}

/// A challenge with its request as the object it is.
fn native(challenge: &Challenge) -> Map<String, Value> {
    let mut members = challenge.to_object();
    if let Ok(request) = challenge.request_object() {
        members.insert("request".into(), Value::Object(request));
    }
    members
}

/// A challenge with its objects as the text that the id is made over. `meta` is what older software calls `opaque`.
fn textual(native: &Map<String, Value>) -> Map<String, Value> {
    let mut members = native.clone();
    let meta = members.remove("meta");
    if let Some(meta) = meta.filter(|_| !members.contains_key("opaque")) {
        members.insert("opaque".into(), meta);
    }
    for name in ["request", "opaque"] {
        if let Some(Value::Object(object)) = members.get(name) {
            let text = encode_object(object);
            members.insert(name.into(), text.into());
        }
    }
    members
}

fn put(object: &mut Map<String, Value>, name: &str, value: Value) {
    let meta = object.entry("_meta").or_insert_with(|| json!({}));
    if !meta.is_object() {
        *meta = json!({});
    }
    if let Some(meta) = meta.as_object_mut() {
        meta.insert(name.to_owned(), value);
    }
}
