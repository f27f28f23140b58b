//! Encrypted cards: what a payer encrypted to the processor is passed on unopened (mpp.md section 10.8, CARD-2).
//!
//! ```text
//! POST <url>, Authorization: Bearer <key>, Idempotency-Key: <challenge id>
//! {"challengeId", "amount", "currency", "network", "encryptedPayload", "billingAddress"?}
//! 200 {"id", "status": "succeeded" | "declined" | "requires_action" | "processing", "amount", "currency", "code"?}
//! ```
//! No two processors take network tokens alike, so this is the one form that we speak: the operator's processor, or a few
//! lines before it, does the rest. The same idempotency key is the same payment.

use std::fmt;
use std::time::Duration;

use ::http::Method;
use ::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::dial::{Dialer, Origin};
use crate::http::ANSWER_BYTES_MAX;
use crate::settlement::unclear;
use crate::{Answer, Exchange, ExchangeError, Receipt, Refused, Secret, Settlement, Unclear, decline};

/// Longest name that a processor gives a payment.
const ID_BYTES_MAX: usize = 128;

/// A processor of cards.
#[derive(Clone, Debug)]
pub struct Processor {
    /// Where it listens.
    pub origin: Origin,
    /// Path that payments are posted to.
    pub path: String,
    /// What it knows us by.
    pub key: Secret,
    /// Opens connections.
    pub dialer: Dialer,
    /// For one answer.
    pub time_max: Duration,
}

/// What is to be charged. The same order is the same payment. `Debug` hides the card.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The challenge that the payer answers; names the payment to the processor.
    pub challenge_id: String,
    /// JWE in its compact form.
    pub encrypted: String,
    /// The card's network.
    pub network: String,
    /// Minor units.
    pub amount: u64,
    /// ISO 4217, lower case.
    pub currency: String,
    /// Where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_address: Option<Map<String, Value>>,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({} {}, {} card hidden)", self.amount, self.currency, self.network)
    }
}

#[derive(Deserialize)]
struct Said {
    id: String,
    status: Status,
    amount: String,
    currency: String,
    #[serde(default)]
    code: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Succeeded,
    Declined,
    RequiresAction,
    Processing,
}

impl Processor {
    /// Charges an order, or finds out what became of it.
    ///
    /// # Errors
    /// None: what is not known is [`Settlement::Unknown`]. It is asked again with the same order.
    ///
    /// # Cancel safety
    /// Dropped midway, the payment may have been made.
    pub async fn charge(&self, order: &Order) -> Settlement {
        let mut body = json!({
            "challengeId": order.challenge_id,
            "amount": order.amount.to_string(),
            "currency": order.currency,
            "network": order.network,
            "encryptedPayload": order.encrypted,
        });
        if let (Some(members), Some(address)) = (body.as_object_mut(), &order.billing_address) {
            members.insert("billingAddress".to_owned(), Value::Object(address.clone()));
        }
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.key.expose()));
        let (Ok(mut bearer), Ok(id)) = (bearer, HeaderValue::from_str(&order.challenge_id)) else {
            return Settlement::NotSent;
        };
        bearer.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(HeaderName::from_static("idempotency-key"), id);
        let exchange = Exchange {
            origin: &self.origin,
            method: Method::POST,
            path: &self.path,
            body: Bytes::from(body.to_string()),
            time_max: self.time_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        match exchange.run_with(headers, &self.dialer).await {
            Ok(answer) => told(order, &answer),
            Err(ExchangeError::NotSent) => Settlement::NotSent,
            Err(ExchangeError::Lost) => unclear(true),
        }
    }
}

/// What an answer says. Only one that is whole, and of this order, is a verdict.
fn told(order: &Order, answer: &Answer) -> Settlement {
    match answer.status {
        200 => {}
        401 | 403 => {
            tracing::error!(status = answer.status, "ALARM: the processor of cards does not take our key");
            return Settlement::NotSent;
        }
        409 => return Settlement::Unknown(Unclear { pending: true, ..Unclear::default() }),
        429 => return Settlement::NotSent,
        _ => return unclear(true),
    }
    let said = wire::json::parse_strict(&answer.body).ok().and_then(|body| Said::deserialize(body).ok());
    let Some(said) = said else { return unclear(true) };
    let is_ours = said.amount == order.amount.to_string() && said.currency == order.currency;
    let is_named =
        (1..=ID_BYTES_MAX).contains(&said.id.len()) && said.id.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_ours || !is_named {
        tracing::error!("ALARM: the processor of cards tells of a payment that was not asked for");
        return unclear(true);
    }
    let refused = |code: &str| Settlement::Refused(Refused { code: code.to_owned() });
    match said.status {
        Status::Succeeded => Settlement::Settled(Receipt {
            reference: said.id,
            amount: Some(order.amount.into()),
            extra: None,
        }),
        Status::Declined => refused(decline::reason(said.code.as_deref().unwrap_or_default())),
        Status::RequiresAction => refused(decline::AUTHENTICATION),
        Status::Processing => Settlement::Unknown(Unclear { pending: true, ..Unclear::default() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Order, told};
    use crate::{Answer, Settlement};

    fn order() -> Order {
        Order {
            challenge_id: "c".into(),
            encrypted: "a.b.c.d.e".into(),
            network: "visa".into(),
            amount: 500,
            currency: "usd".into(),
            billing_address: None,
        }
    }

    fn outcome(status: u16, body: &Value) -> String {
        let answer = Answer { status, body: body.to_string().into(), extension_responses: None };
        match told(&order(), &answer) {
            Settlement::Settled(receipt) => format!("settled {}", receipt.reference),
            Settlement::Refused(refused) => format!("refused {}", refused.code),
            Settlement::NotSent => "not sent".into(),
            Settlement::Unknown(unclear) => format!("unknown {}", unclear.pending),
        }
    }

    /// CARD-3, RAIL-15.
    #[test]
    fn card_3_what_a_processor_says() {
        let said = |status: &str, code: Option<&str>| json!({"id": "pay_1", "status": status, "amount": "500", "currency": "usd", "code": code});
        for (status, body, expected) in [
            (200, said("succeeded", None), "settled pay_1"),
            (200, said("declined", Some("insufficient_funds")), "refused insufficient_funds"),
            (200, said("declined", Some("stolen_card")), "refused declined"),
            (200, said("declined", None), "refused declined"),
            (200, said("requires_action", None), "refused authentication_required"),
            (200, said("processing", None), "unknown true"),
            (200, said("delighted", None), "unknown false"),
            (
                200,
                json!({"id": "pay_1", "status": "succeeded", "amount": "499", "currency": "usd"}),
                "unknown false",
            ),
            (
                200,
                json!({"id": "pay_1", "status": "succeeded", "amount": "500", "currency": "eur"}),
                "unknown false",
            ),
            (
                200,
                json!({"id": "", "status": "succeeded", "amount": "500", "currency": "usd"}),
                "unknown false",
            ),
            (401, json!({}), "not sent"),
            (409, json!({}), "unknown true"),
            (422, json!({}), "unknown false"),
            (500, said("succeeded", None), "unknown false"),
        ] {
            assert_eq!(outcome(status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        assert_eq!(format!("{:?}", order()), "Order(500 usd, visa card hidden)");
    }
}
