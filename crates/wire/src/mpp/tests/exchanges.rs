//! What mppx's client and server said to each other, byte for byte.

use serde_json::Value;

use super::vectors;
use crate::mpp::evm::{ChargePayload, challenge_hash};
use crate::mpp::{AcceptPayment, Challenge, Credential, CredentialError, Receipt, challenges};
use crate::mpp::{lightning, payload};
use crate::x402::ExactPayload;
use crate::{base64, hex};

fn exchanges() -> Vec<Value> {
    let exchanges = vectors!("wire-exchanges")["exchanges"].as_array().unwrap().clone();
    assert_eq!(exchanges.len(), 21);
    exchanges
}

fn header<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    message["headers"].get(name)?.as_str()
}

fn offered(exchange: &Value) -> Vec<Challenge> {
    header(&exchange["response"], "www-authenticate")
        .map_or_else(Vec::new, |line| challenges([line.as_bytes()]))
}

fn credential(exchange: &Value) -> Result<Option<Credential>, CredentialError> {
    let headers = exchange["request"]["headers"].as_object().unwrap();
    Credential::read(headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap().as_bytes())))
}

#[test]
fn every_challenge_is_read_and_written_again() {
    let mut count = 0;
    for exchange in exchanges() {
        let Some(line) = header(&exchange["response"], "www-authenticate") else { continue };
        let offered = offered(&exchange);
        let written: Vec<String> = offered.iter().map(|challenge| challenge.to_value().unwrap()).collect();
        assert_eq!(written.join(", "), line, "{}", exchange["label"]);
        count += offered.len();
    }
    assert_eq!(count, 14);
}

#[test]
fn every_credential_is_read() {
    let (mut read, mut malformed) = (0, 0);
    for exchange in exchanges() {
        let label = exchange["label"].as_str().unwrap();
        match credential(&exchange) {
            Ok(Some(credential)) => {
                if let Some(expected) = exchange.get("decoded_credential") {
                    assert_eq!(Value::Object(credential.to_members()), *expected, "{label}");
                }
                read += 1;
            }
            Ok(None) => assert_eq!(exchange["response"]["status"], 402, "{label}"),
            Err(error) => {
                assert_eq!((label, error), ("malformed", CredentialError::Base64));
                malformed += 1;
            }
        }
        let accepted = header(&exchange["request"], "accept-payment").map(AcceptPayment::parse);
        assert_ne!(accepted, Some(None), "{label}");
    }
    assert_eq!((read, malformed), (14, 1));
}

/// MPP-19: mppx writes other orders of members, never other members.
#[test]
fn every_receipt_is_read() {
    let mut count = 0;
    for exchange in exchanges() {
        let Some(value) = header(&exchange["response"], "payment-receipt") else { continue };
        let receipt = Receipt::decode(value).unwrap();
        assert_eq!(Value::Object(receipt.members()), exchange["decoded_receipt"], "{}", exchange["label"]);
        assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt));
        count += 1;
    }
    assert!(count > 0);
}

/// The nonce of an authorization is the challenge's hash, and the preimage opens the payment hash of the request.
#[test]
fn payloads_answer_their_challenge() {
    let (mut evm, mut lightning) = (0, 0);
    for exchange in exchanges() {
        let Ok(Some(credential)) = credential(&exchange) else { continue };
        let request = credential.challenge.request_object().unwrap();
        let is_own = !exchange["label"].as_str().unwrap().contains("tamper");
        if let Ok(ChargePayload::Authorization(signed)) = payload::read::<ChargePayload>(&credential.payload)
        {
            let transfer = ExactPayload::from(signed).evm().unwrap();
            assert_eq!(
                transfer.nonce == challenge_hash(&credential.challenge),
                is_own,
                "{}",
                exchange["label"]
            );
            evm += usize::from(is_own);
        } else if let Ok(request) = payload::read::<lightning::ChargeRequest>(&request) {
            let paid: lightning::ChargePayload = payload::read(&credential.payload).unwrap();
            let preimage = crate::l402::Preimage::parse(&paid.preimage).unwrap();
            let hash = hex::encode(&preimage.payment_hash().0);
            assert_eq!(request.method_details.payment_hash, Some(hash), "{}", exchange["label"]);
            lightning += 1;
        }
    }
    assert!(evm > 0 && lightning > 0, "{evm} {lightning}");
}

/// The digest of the SDKs, and that of RFC 9530.
#[test]
fn mpp_11_digests_of_mppx() {
    let file = vectors!("body-digest");
    for case in super::cases(&file, 4) {
        let text = |name: &str| case[name].as_str().unwrap();
        let body = text("body").as_bytes();
        assert_eq!(crate::mpp::digest::of(body), text("sdk_form"));
        for form in ["sdk_form", "rfc9530_form"] {
            assert!(crate::mpp::digest::matches(text(form), body), "{form} of {:?}", text("body"));
            assert!(!crate::mpp::digest::matches(text(form), b"another"), "{form} of {:?}", text("body"));
        }
    }
}

#[test]
fn every_text_is_base64url_of_canonical_json() {
    for challenge in exchanges().iter().flat_map(offered) {
        let object = challenge.request_object().unwrap();
        let canonical = crate::jcs::object_to_string(&object);
        assert_eq!(base64::encode_url(canonical.as_bytes()), challenge.request);
    }
}
