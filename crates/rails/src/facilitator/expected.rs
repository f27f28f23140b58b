//! What a truthful answer about a settlement says, read from our own request.

use serde_json::Value;
use wire::x402::batch::{BatchPayload, RefundPayload};
use wire::x402::exact::decimal;
use wire::x402::facilitator::SettleRequest;
use wire::x402::payload::{PayloadKind, kind};
use wire::x402::svm::SvmPayload;
use wire::x402::{ExactPayload, Permit2Payload, base58, network};

/// What a truthful answer about a settlement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// CAIP-2.
    pub network: String,
    /// Whose signature we checked, and who else may be named as the one who paid (a fee payer on Solana): an
    /// address or a base58 key each, the payer first. Empty where nobody pays: claims and settlements of channels.
    pub payers: Vec<String>,
    /// What is to move.
    pub moves: Moves,
    /// An earlier attempt with the same proof had no clear end. "Nonce already used" is then a sign of
    /// success, not a refusal (X402-44).
    pub after_unknown: bool,
}

/// How much a settlement moves, in atomic units. An answer that says otherwise is a contradiction; one that
/// says nothing is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    /// This much: `exact`, `upto` (the metered amount), a deposit into a channel. With 0 nothing has to be
    /// written on the chain, and there may be no transaction.
    Exactly(u128),
    /// What the chain has, and not more than this: the settlement and the refund of a channel. If the answer says
    /// that nothing moved, there may be no transaction.
    AtMost(u128),
    /// No token: a claim. The transaction is what there is.
    Nothing,
}

impl Expected {
    /// What the answer to this request has to say, be it the first time that it is asked. `None`: it is none that we
    /// write, and nobody is to be asked.
    #[must_use]
    pub fn of(request: &SettleRequest) -> Option<Self> {
        let required = &request.payment_requirements;
        let named = required.get("network")?.as_str()?;
        let network = network::caip2_from_v1(named).unwrap_or(named).to_owned();
        let (payers, moves) = moved(request.payment_payload.get("payload")?, required)?;
        Some(Self { network, payers, moves, after_unknown: false })
    }

    /// The same, after an attempt whose end nobody knows.
    #[must_use]
    pub fn after_unknown(self) -> Self {
        Self { after_unknown: true, ..self }
    }
}

fn moved(payload: &Value, required: &Value) -> Option<(Vec<String>, Moves)> {
    match payload.get("type").and_then(Value::as_str) {
        Some("claim") => return Some((Vec::new(), Moves::Nothing)),
        Some("settle") => return Some((Vec::new(), Moves::AtMost(u128::MAX))),
        Some("refund") => {
            let refund: RefundPayload = serde_json::from_value(payload.clone()).ok()?;
            return Some((vec![refund.channel_config.payer.to_string()], Moves::AtMost(refund.amount)));
        }
        Some(_) | None => {}
    }
    let charged = || decimal(required.get("amount")?.as_str()?);
    match kind(payload)? {
        PayloadKind::Transfer => {
            let transfer = ExactPayload::from_value(payload)?.evm()?;
            Some((vec![transfer.from.to_string()], Moves::Exactly(transfer.value)))
        }
        PayloadKind::Permit2 => {
            let permit = Permit2Payload::from_value(payload)?.permit()?;
            Some((vec![permit.from.to_string()], Moves::Exactly(charged()?)))
        }
        PayloadKind::Channel => match BatchPayload::from_value(payload)? {
            BatchPayload::Deposit { channel_config, deposit, .. } => {
                Some((vec![channel_config.payer.to_string()], Moves::Exactly(deposit.amount)))
            }
            // Checked here and settled by nobody.
            BatchPayload::Voucher { .. } | BatchPayload::Refund { .. } => None,
        },
        PayloadKind::Transaction => {
            let message = SvmPayload::from_value(payload)?.transaction().ok()?.message;
            // The fee payer signs first, and is the facilitator: whoever pays stands behind it.
            let signers = message.keys.iter().take(message.signers).rev();
            Some((signers.map(|key| base58::encode(key)).collect(), Moves::Exactly(charged()?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wire::x402::facilitator::SettleRequest;

    use super::{Expected, Moves};

    const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

    /// Requests of deployed sellers, as captured.
    #[test]
    fn captured_requests_are_read() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../specs/vectors/x402/");
        let base = "eip155:84532";
        let svm = "GmaDrppBC7P5ARKV8g3djiwP89vz1jLK23V2GBjuAEGB";
        for (name, nth, network, payer, moves) in [
            ("v2_exact_eip3009", 0, base, Some(PAYER), Moves::Exactly(10_000)),
            ("v1_exact_eip3009", 0, base, Some(PAYER), Moves::Exactly(10_000)),
            ("v2_exact_permit2", 0, base, Some(PAYER), Moves::Exactly(10_000)),
            ("v2_upto_permit2", 0, base, Some(PAYER), Moves::Exactly(1858)),
            ("v2_exact_svm", 0, "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", Some(svm), Moves::Exactly(10_000)),
            ("v2_batch_settlement_deposit", 0, base, Some(PAYER), Moves::Exactly(200_000)),
            ("v2_batch_settlement_claim_settle", 0, base, None, Moves::Nothing),
            ("v2_batch_settlement_claim_settle", 1, base, None, Moves::AtMost(u128::MAX)),
        ] {
            let flow: Value =
                serde_json::from_slice(&std::fs::read(format!("{root}{name}.json")).unwrap()).unwrap();
            let calls = flow["facilitator"].as_array().unwrap().iter();
            let call = calls.filter(|call| call["op"] == "settle").nth(nth).unwrap();
            let request: SettleRequest = serde_json::from_value(call["request"].clone()).unwrap();
            let expected = Expected::of(&request).unwrap();
            assert_eq!((expected.network.as_str(), expected.moves), (network, moves), "{name}");
            assert_eq!(expected.payers.is_empty(), payer.is_none(), "{name}");
            assert_eq!(expected.payers.first().map(String::as_str), payer, "{name}");
            assert!(!expected.after_unknown);
        }
    }

    #[test]
    fn a_request_that_we_do_not_write_is_no_question() {
        let request = |payload: Value| SettleRequest {
            x402_version: 2,
            payment_payload: json!({"payload": payload}),
            payment_requirements: json!({"network": "eip155:84532", "amount": "1"}),
        };
        for payload in [
            json!({}),
            json!({"authorization": {}, "permit2Authorization": {}}),
            json!({"type": "refund"}),
            json!({"transaction": "AA=="}),
        ] {
            assert_eq!(Expected::of(&request(payload.clone())), None, "{payload}");
        }
    }
}
