//! A 402, read: the offers, and what the seller says about the refusal. All of it is a stranger's claim.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};
use money::Amount;
use serde_json::{Map, Value};
use wire::json;
use wire::l402::Offered;
use wire::x402::{header, v1, v2};

use crate::attested;
use crate::offer::Offer;
use crate::printable;

/// Largest body of a 402 we read.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;
/// Most offers we look at.
const OFFERS_MAX: usize = 64;

/// What a 402 says.
#[derive(Clone, Debug, PartialEq)]
pub struct Challenge {
    /// In the seller's order. With a `PAYMENT-REQUIRED` header those of version 2, else those of the body; then the L402
    /// challenges.
    pub offers: Vec<Offer>,
    /// What is for sale, echoed by a version 2 payment.
    pub(crate) resource: Option<v2::ResourceInfo>,
    /// Echoed by a version 2 payment.
    pub(crate) extensions: Option<Map<String, Value>>,
    /// What the body says.
    pub refusal: Said,
}

/// What the body of a refusal says, in the shapes of Farthing, OpenAI, Anthropic and plain x402.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `insufficient_balance`, ... Empty if none.
    pub code: String,
    /// Finer than the code. Empty if none.
    pub reason: String,
    /// A sentence for people, fit for a terminal. Empty if none.
    pub message: String,
    /// What it says happened to the money: `nothing_taken`, `unknown`, ... Empty if none.
    pub money: String,
    /// Which limit refused: `per_call`, ... Empty if none.
    pub limit_source: String,
}

/// A 402 that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// The header is there and is no challenge. The body is not asked instead: two readers must not see
    /// two prices.
    #[error("PAYMENT-REQUIRED cannot be read: {0}")]
    Header(header::HeaderError),
    /// Neither a header nor a body that offers anything.
    #[error("the 402 offers no x402 or L402 payment")]
    NoOffers,
}

impl Challenge {
    /// Reads a 402 (X402-6, L402-90).
    ///
    /// # Errors
    /// [`ChallengeError`]
    pub fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, ChallengeError> {
        let mut challenge = Self::read_x402(headers, body)?;
        let lines = headers.get_all(WWW_AUTHENTICATE).iter().map(HeaderValue::as_bytes);
        challenge.offers.extend(Offered::read(lines).into_iter().map(Offer::l402));
        if challenge.offers.is_empty() && !headers.contains_key(header::PAYMENT_REQUIRED) {
            return Err(ChallengeError::NoOffers);
        }
        Ok(challenge)
    }

    fn read_x402(headers: &HeaderMap, body: &[u8]) -> Result<Self, ChallengeError> {
        let document = json::parse_strict(body).unwrap_or_default();
        let of_body = offers_v1(&document);
        let mut values = headers.get_all(header::PAYMENT_REQUIRED).iter();
        let Some(value) = values.next() else {
            let refusal = Said::read(&document);
            return Ok(Self { offers: of_body, resource: None, extensions: None, refusal });
        };
        let one = values.next().is_none().then(|| value.to_str().ok()).flatten();
        let text = one.ok_or(ChallengeError::Header(header::HeaderError::Base64))?;
        let required: v2::PaymentRequired = header::decode(text).map_err(ChallengeError::Header)?;
        if required.x402_version != v2::VERSION {
            let (found, expected) = (required.x402_version, v2::VERSION);
            return Err(ChallengeError::Header(header::HeaderError::Version { found, expected }));
        }
        let mut offers: Vec<Offer> = required.accepts.into_iter().take(OFFERS_MAX).map(Offer::v2).collect();
        let promises = attested::promised(required.extensions.as_ref());
        let url = required.resource.as_ref().map(|resource| resource.url.as_str());
        for (place, offer) in offers.iter_mut().enumerate() {
            offer.hold_against(&of_body);
            offer.hold_to_promises(place, url, &promises);
        }
        let mut refusal = Said::read(&document);
        if refusal.code.is_empty() {
            refusal.code = printable(&required.error.unwrap_or_default());
        }
        Ok(Self { offers, resource: required.resource, extensions: required.extensions, refusal })
    }

    /// The lowest price among offers that we understand.
    #[must_use]
    pub fn lowest_price(&self) -> Option<Amount> {
        self.offers.iter().filter_map(|offer| Some(offer.terms.as_ref().ok()?.price)).min()
    }
}

impl Said {
    /// Reads a refusal's body, whatever it is.
    #[must_use]
    pub(crate) fn parse(body: &[u8]) -> Self {
        Self::read(&json::parse_strict(body).unwrap_or_default())
    }

    fn read(document: &Value) -> Self {
        let error = &document["error"];
        let details = &error["details"];
        let first = |candidates: &[&Value]| {
            let text = candidates.iter().find_map(|value| value.as_str()).unwrap_or_default();
            printable(text)
        };
        Self {
            code: first(&[&document["code"], &error["code"], &details["error_code"]]),
            reason: first(&[&error["reason"], &details["reason"]]),
            message: first(&[&error["message"], &document["detail"], error]),
            money: first(&[&document["money"], &error["money"], &details["money"]]),
            limit_source: first(&[&error["limit_source"], &details["limit_source"]]),
        }
    }
}

fn offers_v1(document: &Value) -> Vec<Offer> {
    let Ok(required) = serde_json::from_value::<v1::PaymentRequired>(document.clone()) else { return vec![] };
    if required.x402_version != v1::VERSION {
        return vec![];
    }
    required.accepts.into_iter().take(OFFERS_MAX).map(Offer::v1).collect()
}

#[cfg(test)]
mod tests {
    use super::{Challenge, ChallengeError, Said};
    use crate::offer::Version;
    use crate::unpayable::Unpayable as U;
    use http::HeaderMap;
    use serde_json::{Value, json};
    use wire::base64::encode_std;

    const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
    const PAYEE: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";

    fn entry() -> Value {
        json!({"scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": USDC, "payTo": PAYEE,
               "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"}})
    }

    fn entry_v1() -> Value {
        json!({"scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000", "asset": USDC,
               "payTo": PAYEE, "maxTimeoutSeconds": 60, "resource": "http://x/", "description": "", "mimeType": ""})
    }

    fn read(header: Option<Value>, body: &Value) -> Result<Challenge, ChallengeError> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            let value = encode_std(header.to_string().as_bytes());
            headers.insert("payment-required", value.parse().unwrap());
        }
        Challenge::read(&headers, body.to_string().as_bytes())
    }

    fn v2(accepts: &Value) -> Option<Value> {
        Some(json!({"x402Version": 2, "resource": {"url": "http://x/"}, "accepts": accepts}))
    }

    /// Each row changes one member of a good entry.
    #[test]
    fn an_offer_we_cannot_pay_says_why() {
        let test = json!({"scheme": "exact", "network": "farthing:test", "amount": "1", "asset": "TEST",
                          "payTo": "ab".repeat(32), "maxTimeoutSeconds": 60});
        assert_eq!(
            read(v2(&json!([test])), &json!({})).unwrap().offers[0].terms.as_ref().unwrap().price.units(),
            1
        );
        for (member, value, expected) in [
            ("scheme", json!("auth-capture"), U::Scheme),
            ("scheme", json!("upto"), U::Members),
            ("scheme", json!("batch-settlement"), U::Members),
            ("network", json!("eip155:5"), U::Network),
            ("network", json!("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"), U::Asset),
            ("network", json!("solana:9999999999999999999999999999999"), U::Network),
            ("network", json!("base-sepolia"), U::Network),
            ("asset", json!(PAYEE), U::Asset),
            ("asset", json!("TEST"), U::Asset),
            ("amount", json!("0"), U::Amount),
            ("amount", json!("0.01"), U::Amount),
            ("amount", json!("99999999999999999999"), U::Amount),
            ("payTo", json!("merchant"), U::Payee),
            ("payTo", json!("0x0000000000000000000000000000000000000000"), U::Payee),
            ("maxTimeoutSeconds", json!(5), U::Window),
            ("extra", json!({"assetTransferMethod": "erc7710"}), U::Transfer),
        ] {
            let mut entry = entry();
            entry[member] = value.clone();
            let challenge = read(v2(&json!([entry])), &json!({})).unwrap();
            assert_eq!(challenge.offers[0].terms, Err(expected), "{member} {value}");
        }
    }

    #[test]
    fn version_2_stands_in_the_header_and_wins() {
        let both = read(v2(&json!([entry()])), &json!({"x402Version": 1, "accepts": [entry_v1()]})).unwrap();
        assert_eq!(both.offers.len(), 1);
        assert_eq!(both.offers[0].version(), Version::V2);
        assert!(both.offers[0].terms.is_ok());
        let old = read(None, &json!({"x402Version": 1, "error": {}, "accepts": [entry_v1()]})).unwrap();
        assert_eq!(old.offers[0].version(), Version::V1);
        assert_eq!(old.offers[0].network(), "eip155:84532");
        assert_eq!(old.lowest_price().unwrap().units(), 10_000_000);
        assert_eq!(read(None, &json!({"error": "pay"})), Err(ChallengeError::NoOffers));
        let wrong = Some(json!({"x402Version": 1, "accepts": [entry()]}));
        assert!(matches!(
            read(wrong, &json!({"x402Version": 1, "accepts": [entry_v1()]})),
            Err(ChallengeError::Header(_))
        ));
    }

    #[test]
    fn header_and_body_that_disagree_are_not_paid() {
        for (member, value) in [
            ("maxAmountRequired", json!("9999")),
            ("payTo", json!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")),
        ] {
            let mut other = entry_v1();
            other[member] = value;
            let challenge =
                read(v2(&json!([entry()])), &json!({"x402Version": 1, "accepts": [other]})).unwrap();
            assert_eq!(challenge.offers[0].terms, Err(U::Contradiction), "{member}");
        }
    }

    #[test]
    fn a_refusal_is_read_in_every_shape() {
        let said = |value: Value| Said::parse(value.to_string().as_bytes());
        let openai = said(
            json!({"detail": "d", "error": {"code": "insufficient_balance", "message": "m", "limit_source": "per_call"}}),
        );
        assert_eq!((openai.code.as_str(), openai.message.as_str()), ("insufficient_balance", "m"));
        assert_eq!(openai.limit_source, "per_call");
        let anthropic = said(
            json!({"error": {"type": "billing_error", "details": {"error_code": "c", "money": "unknown"}}}),
        );
        assert_eq!((anthropic.code.as_str(), anthropic.money.as_str()), ("c", "unknown"));
        assert_eq!(said(json!({"error": "a\u{1b}[2J\nb"})).message, "a[2Jb");
        assert_eq!(Said::parse(b"<html>"), Said::default());
    }
}
