//! `POST /verify`: a facilitator's opinion about what we cannot check with the CPU alone (X402-42): balances,
//! allowances, contract wallets, channels. It moves nothing, so any facilitator may be asked after any other.

use ::http::Method;
use bytes::Bytes;
use serde_json::{Map, Value};
use wire::x402::code::{self, Code};
use wire::x402::facilitator::VerifyResponse;

use super::{ASK_TIME_MAX, Facilitator, Facilitators, code_of, names_payer, object};
use crate::http::ANSWER_BYTES_MAX;
use crate::{Answer, Exchange};

/// What a facilitator thinks of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It would settle it now. No promise, and no money (X402-39).
    Valid {
        /// Who would pay, as it says: one of those we know.
        payer: Option<String>,
        /// Members of the scheme: the state of a channel.
        extra: Option<Map<String, Value>>,
    },
    /// It would not.
    Invalid(Invalid),
    /// It could not be reached in time, or what it said is no opinion. Another may be asked.
    NoAnswer,
}

/// Why a facilitator would not settle a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its code, cut before free text (X402-19); empty if it gave none.
    pub code: String,
    /// What the code means to us, if anything (X402-20).
    pub known: Option<Code>,
    /// Members of the scheme.
    pub extra: Option<Map<String, Value>>,
}

impl Facilitators {
    /// Asks one facilitator what it thinks of a payment. `body` is a [`wire::x402::facilitator::VerifyRequest`];
    /// `payers` are those who may be named as the one who pays.
    ///
    /// # Cancel safety
    /// Nothing moves; it may be dropped at any time.
    pub async fn verify(&self, facilitator: &Facilitator, body: Bytes, payers: &[String]) -> Verification {
        let path = format!("{}/verify", facilitator.base);
        let exchange = Exchange {
            origin: &facilitator.origin,
            method: Method::POST,
            path: &path,
            body,
            time_max: ASK_TIME_MAX,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        match exchange.run_kept(&self.dialer).await {
            Err(_) => Verification::NoAnswer,
            Ok(answer) => opinion(&answer, payers),
        }
    }
}

/// Deployed facilitators send a refusal with any status; an approval counts with a 2xx only.
fn opinion(answer: &Answer, payers: &[String]) -> Verification {
    let parsed = object(&answer.body).and_then(|value| serde_json::from_value::<VerifyResponse>(value).ok());
    let Some(said) = parsed else { return Verification::NoAnswer };
    let reason = said.invalid_reason.unwrap_or_default();
    if said.is_valid {
        let agrees = (200..300).contains(&answer.status)
            && reason.is_empty()
            && names_payer(said.payer.as_deref(), payers);
        return if agrees {
            Verification::Valid { payer: said.payer, extra: said.extra }
        } else {
            Verification::NoAnswer
        };
    }
    // A trouble of its own says nothing about the payment.
    if code::of(&reason).starts_with("unexpected_") {
        return Verification::NoAnswer;
    }
    let invalid = Invalid { code: code_of(&reason), known: code::known(&reason), extra: said.extra };
    Verification::Invalid(invalid)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use wire::x402::code::Code;

    use super::{Invalid, Verification, opinion};
    use crate::Answer;

    const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

    #[test]
    fn opinions() {
        use Verification::NoAnswer;
        let valid = Verification::Valid { payer: Some(PAYER.into()), extra: None };
        let invalid =
            |code: &str, known| Verification::Invalid(Invalid { code: code.into(), known, extra: None });
        for (what, status, body, expected) in [
            ("valid", 200, r#"{"isValid":true,"payer":"PAYER"}"#, valid),
            ("nobody named", 200, r#"{"isValid":true}"#, Verification::Valid { payer: None, extra: None }),
            (
                "another payer",
                200,
                r#"{"isValid":true,"payer":"0x976EA74026E726554dB657fA54763abd0C3a0aa9"}"#,
                NoAnswer,
            ),
            ("valid for a reason", 200, r#"{"isValid":true,"invalidReason":"invalid_payload"}"#, NoAnswer),
            ("valid with 500", 500, r#"{"isValid":true}"#, NoAnswer),
            (
                "no allowance",
                200,
                r#"{"isValid":false,"invalidReason":"permit2_allowance_required","payer":"PAYER"}"#,
                invalid("permit2_allowance_required", Some(Code::AllowanceRequired)),
            ),
            (
                "free text is cut",
                400,
                r#"{"isValid":false,"invalidReason":"invalid_exact_evm_transaction_simulation_failed: at 0xdead"}"#,
                invalid("invalid_exact_evm_transaction_simulation_failed", None),
            ),
            ("no reason", 200, r#"{"isValid":false}"#, invalid("", None)),
            (
                "its own trouble",
                500,
                r#"{"isValid":false,"invalidReason":"unexpected_verify_error"}"#,
                NoAnswer,
            ),
            ("H9 duplicate keys", 200, r#"{"isValid":false,"isValid":true}"#, NoAnswer),
            ("H9 NUL", 200, "\u{0}", NoAnswer),
            ("no object", 200, "[]", NoAnswer),
            ("a proxy", 502, "<html>", NoAnswer),
        ] {
            let body = Bytes::from(body.replace("PAYER", PAYER));
            assert_eq!(
                opinion(&Answer { status, body, ..Answer::default() }, &[PAYER.to_owned()]),
                expected,
                "{what}"
            );
        }
    }

    /// A channel's state comes with the opinion.
    #[test]
    fn what_stands_beside_it_is_kept() {
        let body = Bytes::from_static(br#"{"isValid":true,"extra":{"balance":"7"}}"#);
        let Verification::Valid { extra, .. } =
            opinion(&Answer { status: 200, body, ..Answer::default() }, &[])
        else {
            panic!("not valid");
        };
        assert_eq!(extra.unwrap()["balance"], "7");
    }
}
