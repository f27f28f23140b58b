//! Stripe: a shared payment token is charged by one PaymentIntent (mpp.md section 10.7).
//!
//! Every asking for one payment carries the same idempotency key, so it charges once however often it is asked. A payment
//! that waits for its payer is cancelled before it is called refused: nothing moves later behind our back.

mod answer;

use std::fmt;
use std::time::Duration;

use ::http::Method;
use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dial::{Dialer, Origin};
use crate::http::ANSWER_BYTES_MAX;
use crate::settlement::unclear;
use crate::{Answer, Exchange, ExchangeError, Refused, Secret, Settlement, Unclear, decline};
use answer::{Intent, Said, Status};
use wire::form;

/// How long Stripe remembers an idempotency key at least. Past that the same asking could charge again.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// The version of the API that knows shared payment tokens: a preview, and so pinned.
const VERSION: &str = "2026-07-29.preview";
const INTENTS: &str = "/v1/payment_intents";

/// An account at Stripe.
#[derive(Clone, Debug)]
pub struct Stripe {
    /// Where the API is.
    pub origin: Origin,
    /// Path prefix, without a trailing slash.
    pub base: String,
    /// `sk_...` or `rk_...`
    pub key: Secret,
    /// The connected account that is paid, where it is not the key's own.
    pub account: Option<String>,
    /// Whether real money moves: an answer of the other mode is none.
    pub is_live: bool,
    /// Opens connections.
    pub dialer: Dialer,
    /// For all that is asked about one payment at once.
    pub time_max: Duration,
}

/// What is to be charged. The same order is the same payment, whenever it is asked for. `Debug` hides the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The challenge that the payer answers.
    pub challenge_id: String,
    /// `spt_...`
    pub token: String,
    /// Minor units.
    pub amount: u64,
    /// ISO 4217, lower case.
    pub currency: String,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({} {}, challenge {}, token hidden)", self.amount, self.currency, self.challenge_id)
    }
}

impl Order {
    /// Names the payment to Stripe: charged once under it.
    fn idempotency_key(&self) -> String {
        format!("{}_{}", self.challenge_id, self.token)
    }
}

impl Stripe {
    /// Charges an order, or finds out what became of it.
    ///
    /// # Errors
    /// None: what is not known is [`Settlement::Unknown`]. It is asked again with the same order.
    ///
    /// # Cancel safety
    /// Dropped midway, the payment may have been made.
    pub async fn charge(&self, order: &Order) -> Settlement {
        tokio::time::timeout(self.time_max, self.asked(order)).await.unwrap_or_else(|_| unclear(true))
    }

    async fn asked(&self, order: &Order) -> Settlement {
        let amount = order.amount.to_string();
        let body = form::encode(&[
            ("amount", &amount),
            ("currency", &order.currency),
            ("confirm", "true"),
            ("automatic_payment_methods[enabled]", "true"),
            ("automatic_payment_methods[allow_redirects]", "never"),
            ("shared_payment_granted_token", &order.token),
            ("metadata[challenge_id]", &order.challenge_id),
        ]);
        let answer = match self.post(INTENTS, body, &order.idempotency_key()).await {
            Ok(answer) => answer,
            Err(ExchangeError::NotSent) => return Settlement::NotSent,
            Err(ExchangeError::Lost) => return unclear(true),
        };
        match Said::of(&answer) {
            Said::Intent(intent) => self.decided(order, intent).await,
            Said::Refused(code) => refused(code),
            Said::Busy => pending(),
            Said::NotOurs => {
                tracing::error!(status = answer.status, "ALARM: Stripe does not take our key");
                Settlement::NotSent
            }
            Said::NotNow => Settlement::NotSent,
            Said::Nothing => unclear(true),
        }
    }

    /// What an intent says. One that is neither done nor dead is cancelled, or looked at again where it is under way.
    async fn decided(&self, order: &Order, intent: Intent) -> Settlement {
        match intent.status {
            Status::Succeeded => self.settled(order, intent),
            Status::Canceled => refused(decline::DECLINED),
            // What an earlier asking was told may be over by now.
            Status::Processing => match self.look(&intent.id).await {
                Some(now) if now.status == Status::Succeeded => self.settled(order, now),
                Some(now) if now.status == Status::Canceled => refused(decline::DECLINED),
                Some(_) => pending(),
                None => unclear(true),
            },
            Status::RequiresAction => self.cancelled(order, &intent.id, decline::AUTHENTICATION).await,
            Status::Waits => self.cancelled(order, &intent.id, decline::DECLINED).await,
        }
    }

    /// Makes sure that an intent never charges, whoever confirms it later.
    async fn cancelled(&self, order: &Order, id: &str, reason: &'static str) -> Settlement {
        let path = format!("{INTENTS}/{id}/cancel");
        let key = format!("{}_cancel", order.idempotency_key());
        let answer = self.post(&path, String::new(), &key).await;
        let said = answer.ok().map(|answer| Said::of(&answer));
        if let Some(Said::Intent(intent)) = &said
            && intent.status == Status::Canceled
        {
            return refused(reason);
        }
        // It may have been confirmed, or cancelled by somebody else, meanwhile.
        match self.look(id).await {
            Some(now) if now.status == Status::Succeeded => self.settled(order, now),
            Some(now) if now.status == Status::Canceled => refused(reason),
            Some(_) | None => unclear(false),
        }
    }

    /// Success counts only where it is of this order, in this mode.
    fn settled(&self, order: &Order, intent: Intent) -> Settlement {
        let is_ours = intent.received == Some(order.amount)
            && intent.currency == order.currency
            && intent.is_live == self.is_live
            && intent.challenge_id.as_deref() == Some(&order.challenge_id);
        if !is_ours {
            tracing::error!(intent = intent.id, "ALARM: Stripe tells of a payment that was not asked for");
            return unclear(true);
        }
        Settlement::Settled(crate::Receipt {
            reference: intent.id,
            amount: Some(order.amount.into()),
            extra: None,
        })
    }

    async fn look(&self, id: &str) -> Option<Intent> {
        let path = format!("{INTENTS}/{id}");
        let answer = self.send(Method::GET, &path, Bytes::new(), None).await.ok()?;
        match Said::of(&answer) {
            Said::Intent(intent) if intent.id == id => Some(intent),
            Said::Intent(_)
            | Said::Refused(_)
            | Said::Busy
            | Said::NotOurs
            | Said::NotNow
            | Said::Nothing => None,
        }
    }

    async fn post(&self, path: &str, body: String, key: &str) -> Result<Answer, ExchangeError> {
        self.send(Method::POST, path, Bytes::from(body), Some(key)).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, ExchangeError> {
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, text: &str, is_secret: bool| {
            let mut value = HeaderValue::from_str(text).map_err(|_| ExchangeError::NotSent)?;
            value.set_sensitive(is_secret);
            headers.insert(name, value);
            Ok(())
        };
        put(AUTHORIZATION, &format!("Bearer {}", self.key.expose()), true)?;
        put(CONTENT_TYPE, "application/x-www-form-urlencoded", false)?;
        put(HeaderName::from_static("stripe-version"), VERSION, false)?;
        if let Some(account) = &self.account {
            put(HeaderName::from_static("stripe-account"), account, false)?;
        }
        if let Some(key) = idempotency_key {
            put(HeaderName::from_static("idempotency-key"), key, true)?;
        }
        let exchange = Exchange {
            origin: &self.origin,
            method,
            path: &format!("{}{path}", self.base),
            body,
            time_max: self.time_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        exchange.run_with(headers, &self.dialer).await
    }
}

fn refused(code: &str) -> Settlement {
    Settlement::Refused(Refused { code: code.to_owned() })
}

fn pending() -> Settlement {
    Settlement::Unknown(Unclear { pending: true, ..Unclear::default() })
}

#[cfg(test)]
mod tests {
    use super::Order;

    /// One key for one payment, and nothing of the token in what is printed.
    #[test]
    fn an_order_is_named_by_its_challenge_and_token() {
        let order =
            Order { challenge_id: "c1".into(), token: "spt_1".into(), amount: 500, currency: "usd".into() };
        assert_eq!(order.idempotency_key(), "c1_spt_1");
        assert_eq!(format!("{order:?}"), "Order(500 usd, challenge c1, token hidden)");
    }
}
