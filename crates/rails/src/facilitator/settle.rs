//! `POST /settle`: what a facilitator says about money, and how much of it we believe (X402-43, X402-44).

use ::http::Method;
use bytes::Bytes;
use wire::x402::code::{self, Code};
use wire::x402::{SettlementResponse, network};

use super::{
    Expected, Facilitator, Facilitators, Moves, catalogue, code_of, names_payer, object, transaction,
};
use crate::http::ANSWER_BYTES_MAX;
use crate::{Answer, Exchange, ExchangeError, Receipt, Refused, Settlement, Unclear};

impl Facilitators {
    /// Asks one facilitator to settle. `body` is a [`wire::x402::facilitator::SettleRequest`]: the very same
    /// bytes each time that it is asked about one payment (X402-15).
    ///
    /// [`Settlement::NotSent`] alone permits to ask another one.
    ///
    /// # Cancel safety
    /// Dropped midway, money may have moved: run it in a task of its own.
    pub async fn settle(&self, facilitator: &Facilitator, body: Bytes, expected: &Expected) -> Settlement {
        let path = format!("{}/settle", facilitator.base);
        let exchange = Exchange {
            origin: &facilitator.origin,
            method: Method::POST,
            path: &path,
            body,
            time_max: self.settle_max,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        match exchange.run_kept(&self.dialer).await {
            Err(ExchangeError::NotSent) => Settlement::NotSent,
            Err(ExchangeError::Lost) => Settlement::Unknown(Unclear { is_fault: true, ..Unclear::default() }),
            Ok(answer) => {
                catalogue::log(facilitator.name(), answer.extension_responses.as_deref());
                let outcome = classify(&answer, expected);
                if let Settlement::Unknown(Unclear { transaction, .. }) = &outcome {
                    let status = answer.status;
                    tracing::warn!(status, transaction, "a facilitator's answer decides nothing");
                }
                outcome
            }
        }
    }
}

/// Reads an answer. What is not surely a success or a failure is unknown.
fn classify(answer: &Answer, expected: &Expected) -> Settlement {
    let transaction = transaction::mentioned(&answer.body).unwrap_or_default();
    let fault = || Unclear { transaction: transaction.clone(), pending: false, is_fault: true };
    let parsed =
        object(&answer.body).and_then(|value| serde_json::from_value::<SettlementResponse>(value).ok());
    let Some(said) = parsed else {
        // A 4xx that is no settlement answer was refused before anything was done.
        let refused_at_the_door = (400..500).contains(&answer.status) && transaction.is_empty();
        return if refused_at_the_door { Settlement::NotSent } else { Settlement::Unknown(fault()) };
    };
    if said.success {
        let believed = if (200..300).contains(&answer.status) { receipt(said, expected) } else { None };
        return believed.map_or_else(|| Settlement::Unknown(fault()), Settlement::Settled);
    }
    let reason = said.error_reason.as_deref().unwrap_or_default();
    if said.transaction.is_empty() && is_terminal(reason, expected.after_unknown) {
        return Settlement::Refused(Refused { code: code_of(reason) });
    }
    let pending = code::known(reason) == Some(Code::SettlementPending);
    Settlement::Unknown(Unclear { pending, is_fault: false, ..fault() })
}

/// Whether a failure says for certain that nothing moved and nothing will.
fn is_terminal(reason: &str, after_unknown: bool) -> bool {
    // After an unclear attempt any reason may speak of the second try only: the nonce may be used, the
    // money gone and the time over because the first one succeeded.
    if after_unknown {
        return false;
    }
    let open = matches!(code::of(reason), "" | "unexpected_settle_error" | "unexpected_verify_error");
    let under_way = match code::known(reason) {
        Some(Code::SettlementPending | Code::DuplicateSettlement) => true,
        Some(Code::AllowanceRequired | Code::NonceUsed | Code::InsufficientFunds) | None => false,
    };
    !open && !under_way
}

/// The receipt of a success that agrees with what we know.
fn receipt(said: SettlementResponse, expected: &Expected) -> Option<Receipt> {
    let named = network::caip2_from_v1(&said.network).unwrap_or(&said.network);
    let amount = match said.amount.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse::<u128>().ok()?),
    };
    let (agrees, nothing_moved) = match expected.moves {
        Moves::Exactly(wanted) => (amount.is_none_or(|amount| amount == wanted), wanted == 0),
        Moves::AtMost(most) => (amount.is_none_or(|amount| amount <= most), amount == Some(0)),
        Moves::Nothing => (amount.unwrap_or(0) == 0, false),
    };
    let is_named = transaction::is_well_formed(&expected.network, &said.transaction)
        || nothing_moved && said.transaction.is_empty();
    let payer = names_payer(said.payer.as_deref(), &expected.payers);
    (named == expected.network && payer && agrees && is_named).then_some(Receipt {
        reference: said.transaction,
        amount,
        extra: said.extra,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Expected, Moves, classify};
    use crate::{Answer, Receipt, Refused, Settlement, Unclear};

    const HASH: &str = "0x1af614c04e7140aa6b71a6180b1551f1c872ba5e7fba5d7dafbe14fd151684ae";
    const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    const SOLANA: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";
    const BASE: &str = "eip155:84532";

    fn expected(network: &str, payer: Option<&str>, moves: Moves) -> Expected {
        let payers = payer.into_iter().map(str::to_owned).collect();
        Expected { network: network.to_owned(), payers, moves, after_unknown: false }
    }

    fn usual() -> Expected {
        expected(BASE, Some(PAYER), Moves::Exactly(10_000))
    }

    fn verdict(status: u16, body: &str, expected: &Expected) -> Settlement {
        let body = body.replace("HASH", HASH).replace("PAYER", PAYER);
        classify(&Answer { status, body: Bytes::from(body), ..Answer::default() }, expected)
    }

    /// Rows of the hostile-facilitator battery (x402.md section 14) that one answer decides: X402-19, X402-43.
    #[test]
    fn answers() {
        use Settlement::NotSent;
        let settled = || Settlement::Settled(Receipt { reference: HASH.into(), ..Receipt::default() });
        let unclear = |transaction: &str, pending, is_fault| {
            Settlement::Unknown(Unclear { transaction: transaction.into(), pending, is_fault })
        };
        let unknown = || unclear("", false, true);
        let look_at = || unclear(HASH, false, true);
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
            ("H2 502 without body", 502, "", unknown()),
            ("H2 502 with a success body", 502, base, look_at()),
            (
                "H3 pending",
                200,
                r#"{"success":false,"errorReason":"settlement_pending","transaction":"HASH","network":""}"#,
                unclear(HASH, true, false),
            ),
            (
                "H3 pending, no transaction yet, and free text",
                200,
                r#"{"success":false,"errorReason":"settlement_pending: wait","transaction":"","network":""}"#,
                unclear("", true, false),
            ),
            ("H6 no hash", 200, r#"{"success":true,"transaction":"","network":"eip155:84532"}"#, unknown()),
            (
                "H7 failure with hash",
                200,
                r#"{"success":false,"errorReason":"invalid_exact_evm_transaction_failed","transaction":"HASH","network":"eip155:84532"}"#,
                unclear(HASH, false, false),
            ),
            (
                "H8 network",
                200,
                r#"{"success":true,"transaction":"HASH","network":"eip155:8453"}"#,
                look_at(),
            ),
            (
                "H8 payer",
                200,
                r#"{"success":true,"transaction":"HASH","network":"eip155:84532","payer":"0x976EA74026E726554dB657fA54763abd0C3a0aa9"}"#,
                look_at(),
            ),
            (
                "H8 amount",
                200,
                r#"{"success":true,"transaction":"HASH","network":"eip155:84532","amount":"1"}"#,
                look_at(),
            ),
            (
                "H8 no amount at all",
                200,
                r#"{"success":true,"transaction":"HASH","network":"eip155:84532","amount":"all"}"#,
                look_at(),
            ),
            (
                "H9 duplicate keys",
                200,
                r#"{"success":true,"success":false,"transaction":"HASH","network":"eip155:84532"}"#,
                look_at(),
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
            (
                "at it already",
                200,
                r#"{"success":false,"errorReason":"duplicate_settlement","transaction":"","network":""}"#,
                unclear("", false, false),
            ),
            ("400 of a proxy", 400, "<html>", NotSent),
            ("400 that names a transaction", 400, "tx HASH seen", look_at()),
            (
                "no reason",
                200,
                r#"{"success":false,"transaction":"","network":""}"#,
                unclear("", false, false),
            ),
        ] {
            assert_eq!(verdict(status, body, &usual()), expected, "{what}");
        }
    }

    /// What moves differs by scheme, and so does what a truthful answer may leave out.
    #[test]
    fn amounts() {
        let said = |transaction: &str, amount: &str| {
            format!(
                r#"{{"success":true,"transaction":"{transaction}","network":"eip155:84532","amount":"{amount}"}}"#
            )
        };
        for (what, moves, body, amount) in [
            ("the metered amount", Moves::Exactly(1858), said("HASH", "1858"), Some(Some(1858))),
            ("the ceiling instead", Moves::Exactly(1858), said("HASH", "20000"), None),
            ("not said", Moves::Exactly(1858), said("HASH", ""), Some(None)),
            ("nothing was used", Moves::Exactly(0), said("", "0"), Some(Some(0))),
            ("nothing was used, not said", Moves::Exactly(0), said("", ""), Some(None)),
            ("nothing was used, but something moved", Moves::Exactly(0), said("HASH", "5"), None),
            ("a channel settled", Moves::AtMost(9000), said("HASH", "5574"), Some(Some(5574))),
            ("more than there was", Moves::AtMost(9000), said("HASH", "9001"), None),
            ("a channel without anything to settle", Moves::AtMost(9000), said("", "0"), Some(Some(0))),
            ("a settlement that says nothing", Moves::AtMost(9000), said("", ""), None),
            ("a claim", Moves::Nothing, said("HASH", ""), Some(None)),
            ("a claim that moved money", Moves::Nothing, said("HASH", "1"), None),
            ("a claim that is nowhere", Moves::Nothing, said("", ""), None),
        ] {
            let verdict = verdict(200, &body, &expected(BASE, None, moves));
            let believed = match verdict {
                Settlement::Settled(receipt) => Some(receipt.amount),
                Settlement::Refused(_) | Settlement::NotSent | Settlement::Unknown(_) => None,
            };
            assert_eq!(believed, amount, "{what}");
        }
    }

    /// Answers of deployed facilitators, as captured: each is believed for what it was asked, with what it tells
    /// beside it.
    #[test]
    fn captured_answers_are_believed() {
        let flow = |name: &str| -> serde_json::Value {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../specs/vectors/x402/");
            serde_json::from_slice(&std::fs::read(format!("{root}{name}.json")).unwrap()).unwrap()
        };
        let svm = "GmaDrppBC7P5ARKV8g3djiwP89vz1jLK23V2GBjuAEGB";
        for (name, nth, network, payer, moves) in [
            ("v2_exact_eip3009", 0, BASE, PAYER, Moves::Exactly(10_000)),
            ("v1_exact_eip3009", 0, BASE, PAYER, Moves::Exactly(10_000)),
            ("v2_exact_permit2", 0, BASE, PAYER, Moves::Exactly(10_000)),
            ("v2_upto_permit2", 0, BASE, PAYER, Moves::Exactly(1858)),
            ("v2_exact_svm", 0, SOLANA, svm, Moves::Exactly(10_000)),
            ("v2_batch_settlement_deposit", 0, BASE, PAYER, Moves::Exactly(200_000)),
            ("v2_batch_settlement_claim_settle", 0, BASE, PAYER, Moves::Nothing),
            ("v2_batch_settlement_claim_settle", 1, BASE, PAYER, Moves::AtMost(5574)),
        ] {
            let flow = flow(name);
            let mut settles =
                flow["facilitator"].as_array().unwrap().iter().filter(|call| call["op"] == "settle");
            let said = &settles.nth(nth).unwrap()["response"];
            let expected = expected(network, Some(payer), moves);
            let Settlement::Settled(receipt) = verdict(200, &said.to_string(), &expected) else {
                panic!("{name}: {said}");
            };
            assert_eq!(receipt.reference, said["transaction"].as_str().unwrap(), "{name}");
            assert_eq!(receipt.extra.as_ref(), said["extra"].as_object(), "{name}");
        }
    }

    #[test]
    fn h11_a_failure_after_an_unknown_attempt_is_no_refusal() {
        for code in [
            "invalid_exact_evm_nonce_already_used",
            "permit2_invalid_nonce",
            "invalid_exact_evm_insufficient_balance",
            "invalid_exact_evm_payload_authorization_valid_before",
        ] {
            let body = format!(
                r#"{{"success":false,"errorReason":"{code}","transaction":"","network":"eip155:84532"}}"#
            );
            assert_eq!(verdict(200, &body, &usual()), Settlement::Refused(Refused { code: code.into() }));
            let after = usual().after_unknown();
            assert_eq!(verdict(200, &body, &after), Settlement::Unknown(Unclear::default()), "{code}");
        }
    }
}
