//! What Stripe says: an intent, or an error by which nothing moved, or neither.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Answer, decline};

/// Longest name of an intent.
const ID_BYTES_MAX: usize = 64;

/// An answer, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The payment as it is now, or as it was when it was asked for first.
    Intent(Intent),
    /// Nothing moved, and under this key nothing will.
    Refused(&'static str),
    /// Another asking with the same key is under way.
    Busy,
    /// Our key is wrong, or may not do this: nothing was done.
    NotOurs,
    /// Too many of our askings: nothing was done.
    NotNow,
    /// No answer that tells anything.
    Nothing,
}

/// A PaymentIntent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Intent {
    /// `pi_...`
    pub(super) id: String,
    pub(super) status: Status,
    /// Minor units that came in.
    pub(super) received: Option<u64>,
    pub(super) currency: String,
    pub(super) is_live: bool,
    /// Ours, as we wrote it into the metadata.
    pub(super) challenge_id: Option<String>,
}

/// Where an intent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Succeeded,
    Canceled,
    Processing,
    /// The payer has to do something first.
    RequiresAction,
    /// For another method, a confirmation or a capture: none of these comes from us.
    Waits,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    status: String,
    #[serde(default)]
    amount_received: Option<u64>,
    currency: String,
    livemode: bool,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Deserialize)]
struct Errored {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    decline_code: Option<String>,
}

impl Said {
    pub(super) fn of(answer: &Answer) -> Self {
        let body = wire::json::parse_strict(&answer.body).ok();
        match answer.status {
            200 => body.and_then(Intent::read).map_or(Self::Nothing, Self::Intent),
            401 | 403 => Self::NotOurs,
            409 => Self::Busy,
            429 => Self::NotNow,
            400 | 402 | 404 => {
                body.and_then(|body| Errored::deserialize(body).ok()).map_or(Self::Nothing, errored)
            }
            _ => Self::Nothing,
        }
    }
}

fn errored(Errored { error }: Errored) -> Said {
    match error.kind.as_str() {
        "card_error" => {
            // The bank's word, where there is one, is the finer one.
            let code = error.decline_code.or(error.code).unwrap_or_default();
            Said::Refused(decline::reason(&code))
        }
        "invalid_request_error" => Said::Refused(decline::TOKEN),
        // An idempotency error says that this key was used for something else: what became of that is not said.
        _ => Said::Nothing,
    }
}

impl Intent {
    fn read(body: Value) -> Option<Self> {
        let wire = Wire::deserialize(body).ok()?;
        let status = match wire.status.as_str() {
            "succeeded" => Status::Succeeded,
            "canceled" => Status::Canceled,
            "processing" => Status::Processing,
            "requires_action" => Status::RequiresAction,
            "requires_payment_method" | "requires_confirmation" | "requires_capture" => Status::Waits,
            _ => return None,
        };
        // It goes into paths and receipts.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if wire.id.len() > ID_BYTES_MAX || !wire.id.starts_with("pi_") || !wire.id.bytes().all(is_name) {
            return None;
        }
        let challenge_id = wire.metadata.get("challenge_id").and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            id: wire.id,
            status,
            received: wire.amount_received,
            currency: wire.currency,
            is_live: wire.livemode,
            challenge_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Intent, Said, Status};
    use crate::Answer;

    fn said(status: u16, body: &Value) -> Said {
        Said::of(&Answer { status, body: body.to_string().into(), extension_responses: None })
    }

    fn intent(status: &str) -> Value {
        json!({"id": "pi_1", "object": "payment_intent", "status": status, "amount": 500, "amount_received": 500,
               "currency": "usd", "livemode": false, "metadata": {"challenge_id": "c"}, "next_action": null})
    }

    #[test]
    fn statuses() {
        for (status, expected) in [
            ("succeeded", Some(Status::Succeeded)),
            ("canceled", Some(Status::Canceled)),
            ("processing", Some(Status::Processing)),
            ("requires_action", Some(Status::RequiresAction)),
            ("requires_payment_method", Some(Status::Waits)),
            ("requires_confirmation", Some(Status::Waits)),
            ("requires_capture", Some(Status::Waits)),
            ("a_status_of_tomorrow", None),
        ] {
            let expected = expected.map_or(Said::Nothing, |status| {
                Said::Intent(Intent {
                    id: "pi_1".into(),
                    status,
                    received: Some(500),
                    currency: "usd".into(),
                    is_live: false,
                    challenge_id: Some("c".into()),
                })
            });
            assert_eq!(said(200, &intent(status)), expected, "{status}");
        }
        for id in ["ch_1", "pi_/../x", "pi_\u{e9}", ""] {
            let mut other = intent("succeeded");
            other["id"] = json!(id);
            assert_eq!(said(200, &other), Said::Nothing, "{id}");
        }
    }

    /// RAIL-15, RAIL-20: a decline is a verdict, what tells nothing is none, and fraud checks tell nothing.
    #[test]
    fn errors() {
        let error = |kind: &str, code: &str, decline: Option<&str>| json!({"error": {"type": kind, "code": code, "decline_code": decline, "message": "secret words"}});
        for (status, body, expected) in [
            (
                402,
                error("card_error", "card_declined", Some("insufficient_funds")),
                Said::Refused("insufficient_funds"),
            ),
            (402, error("card_error", "card_declined", Some("stolen_card")), Said::Refused("declined")),
            (
                402,
                error("card_error", "authentication_required", None),
                Said::Refused("authentication_required"),
            ),
            (400, error("invalid_request_error", "resource_missing", None), Said::Refused("token_refused")),
            (404, error("invalid_request_error", "resource_missing", None), Said::Refused("token_refused")),
            (400, error("idempotency_error", "", None), Said::Nothing),
            (402, json!({"error": "no"}), Said::Nothing),
            (401, error("invalid_request_error", "", None), Said::NotOurs),
            (403, json!({}), Said::NotOurs),
            (409, error("idempotency_error", "idempotency_key_in_use", None), Said::Busy),
            (429, json!({}), Said::NotNow),
            (500, error("api_error", "", None), Said::Nothing),
            (503, json!({}), Said::Nothing),
            (302, intent("succeeded"), Said::Nothing),
            (200, json!([]), Said::Nothing),
        ] {
            assert_eq!(said(status, &body), expected, "{status} {body}");
        }
    }
}
