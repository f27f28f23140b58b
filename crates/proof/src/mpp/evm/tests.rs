use serde_json::Value;
use wire::mpp::evm::{ChargePayload, ChargeRequest};
use wire::mpp::{Credential, payload};
use wire::x402::{Address, ExactPayload};

use super::{ChargeError, verify};
use crate::x402_exact::{EvmToken, ExactError, ExactPayment, Method, Offer};

/// A credential as it was captured, and our offer that it answers.
struct Answer {
    offer: Offer,
    credential: Credential,
    payload: ExactPayload,
}

impl Answer {
    fn of(authorization: &str) -> Self {
        let credential = Credential::read([("authorization", authorization.as_bytes())]).unwrap().unwrap();
        let request: ChargeRequest = payload::read(&credential.challenge.request_object().unwrap()).unwrap();
        let network = format!("eip155:{}", request.method_details.chain_id);
        let token = EvmToken::new(&network, request.currency.parse().unwrap(), "USDC", "2").unwrap();
        let method = Method::Evm { token: token.into(), pay_to: request.recipient.parse().unwrap() };
        let amount = request.amount.parse().unwrap();
        let offer = Offer { method, amount, max_timeout_s: 300, quote: None };
        let ChargePayload::Authorization(signed) = payload::read(&credential.payload).unwrap() else {
            panic!()
        };
        let payload = signed.into();
        Self { offer, credential, payload }
    }

    fn verify(&self, now_s: u64) -> Result<ExactPayment, ChargeError> {
        let Credential { challenge, source, .. } = &self.credential;
        verify(&self.offer, challenge, source.as_deref(), &self.payload, now_s)
    }
}

fn vector() -> Value {
    serde_json::from_str(include_str!("../../../../../specs/vectors/mpp/evm-charge-eip3009.json")).unwrap()
}

/// The challenge of the vector ends then.
const EXPIRES_S: u64 = 1_796_083_200;

#[test]
fn a_captured_authorization_is_good_until_its_challenge_ends() {
    let vector = vector();
    let answer = Answer::of(vector["authorization"].as_str().unwrap());
    assert_eq!(answer.payload.authorization.nonce, vector["nonce"]);
    let payment = answer.verify(EXPIRES_S - 60).unwrap();
    assert_eq!(payment.amount, 10_000);
    assert_eq!(payment.valid_before, EXPIRES_S);
    assert_eq!(answer.verify(EXPIRES_S), Err(ExactError::Expired(EXPIRES_S).into()));
}

/// pympp hashes id and realm as a JSON array, mppx without anything between.
#[test]
fn an_authorization_of_pympp_is_good() {
    let vector = include_str!("../../../../../specs/vectors/mpp/evm-charge-pympp.json");
    let vector: Value = serde_json::from_str(vector).unwrap();
    let answer = Answer::of(vector["authorization"].as_str().unwrap());
    assert_eq!(answer.payload.authorization.nonce, vector["nonce"]);
    assert_eq!(answer.verify(EXPIRES_S - 60).unwrap().amount, 10_000);
    let mut other = Answer::of(vector["authorization"].as_str().unwrap());
    other.credential.challenge.realm.push('m');
    assert_eq!(other.verify(EXPIRES_S - 60), Err(ChargeError::Nonce));
}

/// What is signed for one challenge answers no other, and nothing in it can be changed.
#[test]
fn an_authorization_answers_one_challenge() {
    let vector = vector();
    let good = || Answer::of(vector["authorization"].as_str().unwrap());
    let now_s = EXPIRES_S - 60;
    let changed = |change: fn(&mut Answer)| {
        let mut answer = good();
        change(&mut answer);
        answer.verify(now_s)
    };
    for (what, result, expected) in [
        ("id", changed(|a| a.credential.challenge.id.push('A')), ChargeError::Nonce),
        ("realm", changed(|a| a.credential.challenge.realm = "api.example.co".into()), ChargeError::Nonce),
        (
            "nonce",
            changed(|a| a.payload.authorization.nonce = format!("0x{}", "11".repeat(32))),
            ChargeError::Nonce,
        ),
        (
            "source",
            changed(|a| {
                a.credential.source =
                    Some("did:pkh:eip155:84532:0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into());
            }),
            ChargeError::Source,
        ),
        (
            "source on another chain",
            changed(|a| {
                a.credential.source =
                    Some("did:pkh:eip155:8453:0xFCAd0B19bB29D4674531d6f115237E16AfCE377c".into());
            }),
            ChargeError::Source,
        ),
        (
            "payee",
            changed(|a| a.payload.authorization.to = Address([1; 20]).to_string()),
            ExactError::WrongPayee.into(),
        ),
        (
            "less",
            changed(|a| a.payload.authorization.value = "9999".into()),
            ExactError::Underpaid { paid: 9_999, asked: 10_000 }.into(),
        ),
        (
            "more",
            changed(|a| a.payload.authorization.value = "10001".into()),
            ExactError::Overpaid { paid: 10_001, asked: 10_000 }.into(),
        ),
        ("shape", changed(|a| a.payload.authorization.from = "0x".into()), ExactError::Malformed.into()),
    ] {
        assert_eq!(result, Err(expected), "{what}");
    }
    let other_signer = changed(|a| {
        let byte = if a.payload.signature.starts_with("0xc") { "0xd" } else { "0xc" };
        a.payload.signature.replace_range(0..3, byte);
    });
    assert!(matches!(other_signer, Err(ChargeError::Terms(ExactError::Signature(_)))), "{other_signer:?}");
    // Whoever says nothing of himself is who has signed.
    assert!(changed(|a| a.credential.source = None).is_ok());
    let lower = changed(|a| a.credential.source = a.credential.source.take().map(|text| text.to_lowercase()));
    assert!(lower.is_ok(), "addresses are bytes");
}

/// What mppx signed in captured exchanges.
#[test]
fn authorizations_of_captured_exchanges() {
    let file = include_str!("../../../../../specs/vectors/mpp/wire-exchanges.json");
    let file: Value = serde_json::from_str(file).unwrap();
    let mut count = 0;
    for exchange in file["exchanges"].as_array().unwrap() {
        let Some(text) = exchange["request"]["headers"]["authorization"].as_str() else { continue };
        let label = exchange["label"].as_str().unwrap();
        let found = Credential::read([("authorization", text.as_bytes())]);
        let Ok(Some(credential)) = found else { continue };
        if credential.challenge.method != "evm" {
            continue;
        }
        let answer = Answer::of(text);
        let now_s = answer.payload.evm().unwrap().valid_before - 60;
        assert!(answer.verify(now_s).is_ok(), "{label}");
        count += 1;
    }
    assert_eq!(count, 5, "three payments, one of them shown twice more");
}
