//! x402 facilitators: the services that put an authorization on a chain (x402.md section 10).
//!
//! Their answers are hostile input: bounded, parsed strictly, and believed only where they agree with
//! what we checked ourselves (X402-43).

use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use serde_json::Value;
use wire::x402::{Address, SettlementResponse, facilitator, network};

use crate::dial::{Dialer, Origin};
use crate::http::ANSWER_BYTES_MAX;
use crate::{Answer, Exchange, ExchangeError, Receipt, Refused, Settlement};

/// Longest code of a facilitator that is kept.
const CODE_CHARS_MAX: usize = 96;

/// One facilitator of the configuration.
#[derive(Clone, Debug)]
pub struct Facilitator {
    /// Where it listens.
    pub origin: Origin,
    /// Path prefix, without a trailing slash.
    pub base: String,
}

/// The facilitators of the configuration, in the operator's order.
#[derive(Clone, Debug)]
pub struct Facilitators {
    /// At least one.
    pub list: Vec<Facilitator>,
    /// Opens connections.
    pub dialer: Dialer,
    /// Time a settlement may take.
    pub settle_max: Duration,
}

/// What a truthful answer about a payment says.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// CAIP-2.
    pub network: &'a str,
    /// Whose signature we checked.
    pub payer: Address,
    /// Atomic units.
    pub amount: u128,
    /// An earlier attempt with the same proof had no clear end. "Nonce already used" is then a sign of
    /// success, not a refusal (X402-44).
    pub after_unknown: bool,
}

impl Facilitator {
    /// How the journal names it: the URL of the configuration.
    #[must_use]
    pub fn name(&self) -> String {
        let scheme = if self.origin.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.origin.authority(), self.base)
    }
}

impl Facilitators {
    /// The facilitator of this name. None: it has left the configuration, and nobody else may be asked in its
    /// place (X402-44).
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Facilitator> {
        self.list.iter().find(|facilitator| facilitator.name() == name)
    }

    /// Asks one facilitator to settle. `body` is a [`facilitator::SettleRequest`]: the very same bytes each time
    /// that it is asked about one payment (X402-15).
    ///
    /// [`Settlement::NotSent`] alone permits to ask another one.
    ///
    /// # Cancel safety
    /// Dropped midway, money may have moved: run it in a task of its own.
    pub async fn settle(&self, facilitator: &Facilitator, body: Bytes, expected: Expected<'_>) -> Settlement {
        let path = format!("{}/settle", facilitator.base);
        let exchange = Exchange {
            origin: &facilitator.origin,
            method: Method::POST,
            path: &path,
            body,
            time_max: self.settle_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        match exchange.run(&self.dialer).await {
            Err(ExchangeError::NotSent) => Settlement::NotSent,
            Err(ExchangeError::Lost) => Settlement::Unknown,
            Ok(answer) => {
                let outcome = classify(&answer, expected);
                if outcome == Settlement::Unknown {
                    let transaction = named_transaction(&answer.body).unwrap_or_default();
                    tracing::warn!(
                        status = answer.status,
                        transaction,
                        "a facilitator's answer decides nothing"
                    );
                }
                outcome
            }
        }
    }

    /// The (scheme, network) pairs that any facilitator supports, or `None` while one has not answered:
    /// silence is no refusal (X402-41).
    pub async fn supported(&self) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        for facilitator in &self.list {
            let path = format!("{}/supported", facilitator.base);
            let exchange = Exchange {
                origin: &facilitator.origin,
                method: Method::GET,
                path: &path,
                body: Bytes::new(),
                time_max: Duration::from_secs(5),
                answer_bytes_max: ANSWER_BYTES_MAX,
            };
            let answer = exchange.run(&self.dialer).await.ok().filter(|answer| answer.status == 200)?;
            let supported: facilitator::Supported = serde_json::from_value(object(&answer.body)?).ok()?;
            found.extend(supported.kinds.into_iter().map(|kind| {
                let caip2 = network::caip2_from_v1(&kind.network).map_or(kind.network.clone(), str::to_owned);
                (kind.scheme, caip2)
            }));
        }
        Some(found)
    }
}

/// Reads an answer to `/settle` (X402-43). What is not surely a success or a failure is unknown.
fn classify(answer: &Answer, expected: Expected<'_>) -> Settlement {
    let parsed =
        object(&answer.body).and_then(|value| serde_json::from_value::<SettlementResponse>(value).ok());
    let Some(said) = parsed else {
        // A 4xx that is no settlement answer was refused before anything was done.
        let refused_at_the_door = (400..500).contains(&answer.status) && !mentions_hash(&answer.body);
        return if refused_at_the_door { Settlement::NotSent } else { Settlement::Unknown };
    };
    if said.success {
        let agrees = (200..300).contains(&answer.status) && agrees(&said, expected);
        return if agrees {
            Settlement::Settled(Receipt { reference: said.transaction })
        } else {
            Settlement::Unknown
        };
    }
    if !said.transaction.is_empty() {
        return Settlement::Unknown;
    }
    let reason = said.error_reason.unwrap_or_default();
    let code = reason.split(':').next().unwrap_or_default().trim();
    if is_terminal(code, expected.after_unknown) {
        return Settlement::Refused(Refused { code: code.chars().take(CODE_CHARS_MAX).collect() });
    }
    Settlement::Unknown
}

/// Whether a failure code says for certain that nothing moved and nothing will.
fn is_terminal(code: &str, after_unknown: bool) -> bool {
    match code {
        ""
        | "settlement_pending"
        | "unexpected_settle_error"
        | "unexpected_verify_error"
        | "duplicate_settlement" => false,
        // After an unclear attempt any reason may speak of the second try only: the nonce may be used, the
        // money gone and the time over because the first one succeeded.
        _ => !after_unknown,
    }
}

fn agrees(said: &SettlementResponse, expected: Expected<'_>) -> bool {
    let named = network::caip2_from_v1(&said.network).unwrap_or(&said.network);
    let payer = said.payer.as_deref().is_none_or(|text| text.parse::<Address>() == Ok(expected.payer));
    let amount = said.amount.as_deref().is_none_or(|text| {
        text.is_empty() || text.parse::<u128>().is_ok_and(|amount| amount == expected.amount)
    });
    named == expected.network && payer && amount && is_transaction_hash(&said.transaction)
}

/// An EVM transaction hash. Other networks' forms arrive with their rails.
fn is_transaction_hash(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn mentions_hash(body: &[u8]) -> bool {
    named_transaction(body).is_some()
}

/// The first transaction hash in an answer, wherever it stands: where to look on the chain.
fn named_transaction(body: &[u8]) -> Option<&str> {
    body.windows(66)
        .find_map(|window| std::str::from_utf8(window).ok().filter(|text| is_transaction_hash(text)))
}

fn object(body: &[u8]) -> Option<Value> {
    wire::json::parse_strict(body).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::x402::Address;

    use super::{Expected, Facilitator, classify};
    use crate::dial::Origin;
    use crate::{Answer, Receipt, Refused, Settlement};

    const HASH: &str = "0x1af614c04e7140aa6b71a6180b1551f1c872ba5e7fba5d7dafbe14fd151684ae";
    const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

    fn verdict(status: u16, body: &str, after_unknown: bool) -> Settlement {
        let payer: Address = PAYER.parse().unwrap();
        let body = body.replace("HASH", HASH).replace("PAYER", PAYER);
        let answer = Answer { status, body: Bytes::from(body) };
        classify(&answer, Expected { network: "eip155:84532", payer, amount: 10_000, after_unknown })
    }

    /// X402-44: two facilitators of one configuration never share a name.
    #[test]
    fn a_facilitator_is_named_by_its_url() {
        let name = |tls, port, base: &str| {
            let origin = Origin { tls, host: "f.example".into(), port };
            Facilitator { origin, base: base.into() }.name()
        };
        for (named, expected) in [
            (name(true, 443, ""), "https://f.example"),
            (name(true, 443, "/x402"), "https://f.example/x402"),
            (name(true, 8443, ""), "https://f.example:8443"),
            (name(false, 80, ""), "http://f.example"),
        ] {
            assert_eq!(named, expected);
        }
    }

    /// Rows of the hostile-facilitator battery (x402.md section 14) that one answer decides: X402-19, X402-43.
    #[test]
    fn answers() {
        use Settlement::{NotSent, Unknown};
        let settled = || Settlement::Settled(Receipt { reference: HASH.into() });
        let refused = |code: &str| Settlement::Refused(Refused { code: code.into() });
        let base = r#"{"success":true,"transaction":"HASH","network":"eip155:84532","payer":"PAYER"}"#;
        for (what, status, body, expected) in [
            ("success", 200, base, settled()),
            (
                "v1 network name",
                200,
                r#"{"success":true,"transaction":"HASH","network":"base-sepolia"}"#,
                settled(),
            ),
            ("H2 502 without body", 502, "", Unknown),
            ("H2 502 with a success body", 502, base, Unknown),
            (
                "H3 pending",
                200,
                r#"{"success":false,"errorReason":"settlement_pending","transaction":"HASH","network":""}"#,
                Unknown,
            ),
            ("H6 no hash", 200, r#"{"success":true,"transaction":"","network":"eip155:84532"}"#, Unknown),
            (
                "H7 failure with hash",
                200,
                r#"{"success":false,"errorReason":"invalid_exact_evm_transaction_failed","transaction":"HASH","network":"eip155:84532"}"#,
                Unknown,
            ),
            ("H8 network", 200, r#"{"success":true,"transaction":"HASH","network":"eip155:8453"}"#, Unknown),
            (
                "H8 payer",
                200,
                r#"{"success":true,"transaction":"HASH","network":"eip155:84532","payer":"0x976EA74026E726554dB657fA54763abd0C3a0aa9"}"#,
                Unknown,
            ),
            (
                "H8 amount",
                200,
                r#"{"success":true,"transaction":"HASH","network":"eip155:84532","amount":"1"}"#,
                Unknown,
            ),
            (
                "H9 duplicate keys",
                200,
                r#"{"success":true,"success":false,"transaction":"HASH","network":"eip155:84532"}"#,
                Unknown,
            ),
            (
                "failed",
                200,
                r#"{"success":false,"errorReason":"invalid_exact_evm_insufficient_balance: 0xdead","transaction":"","network":"eip155:84532"}"#,
                refused("invalid_exact_evm_insufficient_balance"),
            ),
            (
                "failed with 400",
                400,
                r#"{"success":false,"errorReason":"invalid_payload","transaction":"","network":"eip155:84532"}"#,
                refused("invalid_payload"),
            ),
            ("400 of a proxy", 400, "<html>", NotSent),
            ("400 that names a transaction", 400, "tx HASH seen", Unknown),
            ("no reason", 200, r#"{"success":false,"transaction":"","network":""}"#, Unknown),
        ] {
            assert_eq!(verdict(status, body, false), expected, "{what}");
        }
    }

    #[test]
    fn h11_a_failure_after_an_unknown_attempt_is_no_refusal() {
        for code in [
            "invalid_exact_evm_nonce_already_used",
            "invalid_exact_evm_insufficient_balance",
            "invalid_exact_evm_payload_authorization_valid_before",
        ] {
            let body = format!(
                r#"{{"success":false,"errorReason":"{code}","transaction":"","network":"eip155:84532"}}"#
            );
            assert_eq!(verdict(200, &body, false), Settlement::Refused(Refused { code: code.into() }));
            assert_eq!(verdict(200, &body, true), Settlement::Unknown, "{code}");
        }
    }
}
