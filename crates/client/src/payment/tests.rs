//! What we sign is what deployed clients signed, byte for byte.

use proof::SigningKey;
use proof::secp::SecretKey;
use serde_json::Value;
use wire::x402::{ExactPayload, Permit2Payload, decode_payment_signature, uint256};

use super::{Chance, Payment};
use crate::challenge::Challenge;
use crate::{Wallet, offer::Scheme};

/// The captured flow's challenge, answered with its payer's key at its time and with its nonce.
fn answered(flow: &str) -> (Value, Value, Scheme) {
    let flow: Value = serde_json::from_str(flow).unwrap();
    let header = flow["steps"][0]["response"]["headers"]["payment-required"].as_str().unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("payment-required", header.parse().unwrap());
    let challenge = Challenge::read(&headers, b"{}").unwrap();
    let sent = flow["steps"][1]["decoded"]["payment-signature"].clone();
    let offer = &challenge.offers[0];
    let terms = offer.terms.as_ref().unwrap();
    let (nonce, end) = match Permit2Payload::from_value(&sent["payload"]) {
        Some(payload) => (payload.permit().unwrap().nonce, payload.permit().unwrap().deadline),
        None => {
            let transfer = ExactPayload::from_value(&sent["payload"]).unwrap();
            let authorization = &transfer.authorization;
            (uint256::parse(&authorization.nonce).unwrap(), authorization.valid_before.parse().unwrap())
        }
    };
    let key = SecretKey::parse(flow["payer"]["privateKey"].as_str().unwrap()).unwrap();
    let wallet = Wallet::from_keys(key, SigningKey::from_bytes(&[1; 32]));
    let chance = Chance { nonce, name: [7; 16] };
    let now = end - terms.max_timeout_s;
    let payment = Payment::sign(&challenge, offer, terms, &wallet, &chance, now).unwrap();
    let ours = decode_payment_signature(payment.expose_value()).unwrap();
    (serde_json::to_value(ours).unwrap(), sent, terms.scheme())
}

#[test]
fn captured_payments_are_what_we_sign() {
    for (flow, scheme) in [
        (include_str!("../../../../specs/vectors/x402/v2_exact_eip3009.json"), Scheme::Exact),
        (include_str!("../../../../specs/vectors/x402/v2_exact_permit2.json"), Scheme::Permit2),
        (include_str!("../../../../specs/vectors/x402/v2_exact_permit2_no_allowance.json"), Scheme::Permit2),
        (include_str!("../../../../specs/vectors/x402/v2_upto_permit2.json"), Scheme::Upto),
    ] {
        let (ours, theirs, ours_is) = answered(flow);
        assert_eq!(ours, theirs);
        assert_eq!(ours_is, scheme);
    }
}
