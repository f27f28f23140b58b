use std::sync::Arc;

use super::{ChargeError, Offer, Permit2Error as E, Spends, verify, verify_v2};
use crate::eip712;
use crate::quote::{self, Quote, QuoteError, QuoteKey, QuoteScope};
use crate::secp::{SecretKey, Signature, SignatureError};
use crate::x402_exact::{Binding, EvmToken, ExactError, SETTLE_MARGIN_S};
use money::{Amount, Asset};
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::x402::asset::default_token;
use wire::x402::{Permit, Permit2Payload, contracts, decode_payment_signature, test_keys, uint256, v2};
use wire::{base64, hex};

/// 2026-11-20T10:47:32Z and 10:28:21Z.
const EXACT_CAPTURED_S: u64 = 1_795_171_652;
const UPTO_CAPTURED_S: u64 = 1_795_170_501;
const CEILING: Amount = Amount::from_units(20_000_000);

fn exact_flow() -> Value {
    serde_json::from_str(include_str!("../../../../specs/vectors/x402/v2_exact_permit2.json")).unwrap()
}

fn upto_flow() -> Value {
    serde_json::from_str(include_str!("../../../../specs/vectors/x402/v2_upto_permit2.json")).unwrap()
}

fn token(network: &str) -> Arc<EvmToken> {
    let known = default_token(network).unwrap();
    Arc::new(EvmToken::new(network, known.address, known.name, known.version).unwrap())
}

fn exact_offer() -> Offer {
    Offer {
        token: token("eip155:84532"),
        pay_to: test_keys::EVM[6].parse().unwrap(),
        amount: 10_000,
        spends: Spends::Exact,
        max_timeout_s: 300,
        margin_s: SETTLE_MARGIN_S,
        quote: None,
    }
}

fn upto_offer() -> Offer {
    let facilitator = test_keys::EVM[5].parse().unwrap();
    Offer { amount: 20_000, spends: Spends::Upto { facilitator }, margin_s: 120, ..exact_offer() }
}

fn captured(flow: &Value) -> v2::PaymentPayload {
    let header = flow["steps"][1]["request"]["headers"]["payment-signature"].as_str().unwrap();
    decode_payment_signature(header).unwrap()
}

fn payload(flow: &Value) -> Permit2Payload {
    Permit2Payload::from_value(&captured(flow).payload).unwrap()
}

fn binding<'a>(key: &'a QuoteKey, url: &'a str) -> Binding<'a> {
    let scope = QuoteScope { request: &[7; 32], tariff_version: "t1", asset: Asset::Usd, store_epoch: 1 };
    Binding { key, scope, ceiling: CEILING, resource_url: url }
}

/// A captured payment is genuine at its time, its digest is the captured one, and what we would send to a
/// facilitator is what the reference sent (X402-11).
#[test]
fn captured_permits_are_genuine_at_their_time() {
    let key = QuoteKey::new(&[3; 32]);
    for (flow, offer, now, captured_at, charge) in [
        (exact_flow(), exact_offer(), EXACT_CAPTURED_S, "2026-11-20T10:47:32.774Z", 10_000),
        (upto_flow(), upto_offer(), UPTO_CAPTURED_S, "2026-11-20T10:28:21.749Z", 1_858),
    ] {
        assert_eq!(flow["capturedAt"], captured_at);
        let sent = captured(&flow);
        let url = sent.resource.clone().unwrap().url;
        let offers = [exact_offer(), upto_offer()];
        let (found, payment) = verify_v2(&sent, &offers, &binding(&key, &url), now).unwrap();
        assert_eq!(*found, offer);
        assert_eq!(payment.permit.from, test_keys::EVM[0].parse().unwrap());
        assert_eq!(serde_json::to_value(payment.to_wire()).unwrap(), sent.payload);
        let written = serde_json::to_value(offer.requirements_v2()).unwrap();
        assert_eq!(written, flow["steps"][0]["decoded"]["payment-required"]["accepts"][0]);

        let data = &flow["typedData"][0];
        let struct_hash = eip712::permit_payment(&payment.permit);
        assert_eq!(hex::encode_0x(offer.token.permit2_separator().as_bytes()), data["domainSeparator"]);
        assert_eq!(hex::encode_0x(&struct_hash), data["structHash"]);
        assert_eq!(
            hex::encode_0x(&offer.token.permit2_separator().digest(&struct_hash)),
            data["digest"].as_str().unwrap()
        );

        let verifying = offer.verify_request(&payment, sent.resource.clone());
        assert_eq!(serde_json::to_value(verifying).unwrap(), flow["facilitator"][0]["request"]);
        let settling = offer.settle_request(&payment, sent.resource, charge).unwrap();
        assert_eq!(serde_json::to_value(settling).unwrap(), flow["facilitator"][1]["request"]);
    }
}

/// The refusal for a missing allowance is the facilitator's: the permit itself is genuine.
#[test]
fn a_permit_without_allowance_is_genuine() {
    let flow: Value = serde_json::from_str(include_str!(
        "../../../../specs/vectors/x402/v2_exact_permit2_no_allowance.json"
    ))
    .unwrap();
    assert_eq!(flow["capturedAt"], "2026-11-20T10:47:32.314Z");
    let payment = verify(&exact_offer(), &payload(&flow), EXACT_CAPTURED_S).unwrap();
    let sent = captured(&flow).resource;
    let verifying = exact_offer().verify_request(&payment, sent);
    assert_eq!(serde_json::to_value(verifying).unwrap(), flow["facilitator"][0]["request"]);
    assert_eq!(flow["facilitator"][0]["response"]["isValid"], false);
}

/// The two Permit2 rows of the vector of digests.
#[test]
fn the_vectors_digests_and_signatures_are_ours() {
    let file: Value =
        serde_json::from_str(include_str!("../../../../specs/vectors/x402/eip712_vectors.json")).unwrap();
    let key = SecretKey::parse(file["privateKey"].as_str().unwrap()).unwrap();
    let mut seen = 0;
    for case in file["otherValid"].as_array().unwrap() {
        if case["primaryType"] != "PermitWitnessTransferFrom" {
            continue;
        }
        let (message, text) = (&case["message"], |value: &Value| value.as_str().unwrap().to_owned());
        let permit = Permit {
            from: text(&case["signer"]).parse().unwrap(),
            token: text(&message["permitted"]["token"]).parse().unwrap(),
            amount: text(&message["permitted"]["amount"]).parse().unwrap(),
            spender: text(&message["spender"]).parse().unwrap(),
            nonce: uint256::parse(&text(&message["nonce"])).unwrap(),
            deadline: text(&message["deadline"]).parse().unwrap(),
            to: text(&message["witness"]["to"]).parse().unwrap(),
            facilitator: message["witness"].get("facilitator").map(|value| text(value).parse().unwrap()),
            valid_after: text(&message["witness"]["validAfter"]).parse().unwrap(),
        };
        let digest = eip712::permit2_separator(84532).digest(&eip712::permit_payment(&permit));
        assert_eq!(hex::encode_0x(&digest), text(&case["digest"]));
        assert_eq!(hex::encode_0x(key.sign(&digest).unwrap().as_bytes()), text(&case["signature"]));
        assert_eq!(
            Signature::parse(&text(&case["signature"])).unwrap().verify(&digest, &permit.from),
            Ok(())
        );
        seen += 1;
    }
    assert_eq!(seen, 2);
}

/// A7: every signed member; each check that needs no curve comes before the signature.
#[test]
fn x402_13_a7_an_altered_permit_is_refused() {
    let flow = upto_flow();
    let offer = upto_offer();
    let bad = E::Terms(ExactError::Signature(SignatureError::WrongSigner));
    let terms = E::Terms;
    for (member, value, expected) in [
        ("/permit2Authorization/from", json!(test_keys::EVM[1]), bad),
        ("/permit2Authorization/permitted/token", json!(test_keys::EVM[1]), terms(ExactError::WrongAsset)),
        (
            "/permit2Authorization/permitted/amount",
            json!("19999"),
            terms(ExactError::Underpaid { paid: 19_999, asked: 20_000 }),
        ),
        (
            "/permit2Authorization/permitted/amount",
            json!("20001"),
            terms(ExactError::Overpaid { paid: 20_001, asked: 20_000 }),
        ),
        ("/permit2Authorization/spender", json!(contracts::EXACT_PROXY.to_string()), E::WrongSpender),
        ("/permit2Authorization/spender", json!(test_keys::EVM[1]), E::WrongSpender),
        ("/permit2Authorization/nonce", json!("1"), bad),
        ("/permit2Authorization/deadline", json!("1795170802"), bad),
        ("/permit2Authorization/deadline", json!("1795170620"), terms(ExactError::Expired(1_795_170_620))),
        ("/permit2Authorization/witness/to", json!(test_keys::EVM[0]), terms(ExactError::WrongPayee)),
        ("/permit2Authorization/witness/facilitator", json!(test_keys::EVM[4]), E::WrongFacilitator),
        ("/permit2Authorization/witness/validAfter", json!("1"), bad),
        (
            "/permit2Authorization/witness/validAfter",
            json!("1795170502"),
            terms(ExactError::NotYetValid(1_795_170_502)),
        ),
        ("/permit2Authorization/witness/validAfter", json!("1795170501"), bad),
        ("/signature", json!("0x"), terms(ExactError::Signature(SignatureError::Length(0)))),
    ] {
        let mut altered = captured(&flow).payload;
        *altered.pointer_mut(member).unwrap() = value.clone();
        let altered = Permit2Payload::from_value(&altered).unwrap();
        assert_eq!(verify(&offer, &altered, UPTO_CAPTURED_S), Err(expected), "{member} = {value}");
    }
    let mut without = captured(&flow).payload;
    without["permit2Authorization"]["witness"].as_object_mut().unwrap().remove("facilitator");
    let without = Permit2Payload::from_value(&without).unwrap();
    assert_eq!(verify(&offer, &without, UPTO_CAPTURED_S), Err(E::WrongFacilitator));
}

/// A9 for Permit2: one encoding per signature.
#[test]
fn a9_every_other_encoding_of_a_permits_signature_is_refused() {
    let good = payload(&exact_flow());
    let bytes = hex::decode_0x(&good.signature).unwrap();
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        Permit2Payload { signature: hex::encode_0x(&bytes), ..good.clone() }
    };
    let refused = |payload: &Permit2Payload| match verify(&exact_offer(), payload, EXACT_CAPTURED_S) {
        Err(E::Terms(ExactError::Signature(error))) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&with(|bytes| bytes[64] -= 27)), SignatureError::RecoveryByte(1));
    assert_eq!(refused(&with(|bytes| bytes.truncate(64))), SignatureError::Length(64));
    assert_eq!(refused(&with(|bytes| bytes[32..64].fill(0xff))), SignatureError::Range);
    assert_eq!(refused(&with(|bytes| bytes[32] = 0x80)), SignatureError::HighS);
    assert_eq!(refused(&with(|bytes| bytes[..32].fill(0))), SignatureError::Range);
}

/// A7, A5: the echo, the resource and the quote, as for EIP-3009.
#[test]
fn x402_10_16_a5_a7_the_echo_and_the_quote_bind_a_permit() {
    let key = QuoteKey::new(&[3; 32]);
    let url = "http://127.0.0.1:18403/permit2";
    let text = quote::mint(
        &key,
        &binding(&key, url).scope,
        &Quote { ceiling: CEILING, expires_at_s: EXACT_CAPTURED_S + 60 },
    );
    let offers = [upto_offer(), Offer { quote: Some(text.clone()), ..exact_offer() }];
    let check = |change: &dyn Fn(&mut v2::PaymentPayload)| {
        let mut payment = captured(&exact_flow());
        payment.accepted = offers[1].requirements_v2();
        change(&mut payment);
        verify_v2(&payment, &offers, &binding(&key, url), EXACT_CAPTURED_S).map(|_| ())
    };
    let extra = |payment: &mut v2::PaymentPayload, name: &str, value: Value| {
        payment.accepted.extra.as_mut().unwrap().insert(name.into(), value);
    };
    assert_eq!(check(&|_| {}), Ok(()));
    assert_eq!(check(&|payment| extra(payment, "more", json!(1))), Ok(()));
    assert_eq!(check(&|payment| payment.accepted.asset = payment.accepted.asset.to_lowercase()), Ok(()));
    let refused = |change: &dyn Fn(&mut v2::PaymentPayload)| match check(change) {
        Err(E::Terms(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(&|p| p.accepted.scheme = "upto".into()),
        ExactError::Underpaid { paid: 10_000, asked: 20_000 }
    );
    assert_eq!(refused(&|p| p.accepted.network = "eip155:8453".into()), ExactError::WrongNetwork);
    assert_eq!(refused(&|p| p.accepted.pay_to = test_keys::EVM[0].into()), ExactError::WrongPayee);
    assert_eq!(
        refused(&|p| p.accepted.amount = "9999".into()),
        ExactError::Underpaid { paid: 9_999, asked: 10_000 }
    );
    assert_eq!(refused(&|p| p.accepted.max_timeout_seconds = 3600), ExactError::OfferAltered);
    assert_eq!(refused(&|p| extra(p, "assetTransferMethod", json!("eip3009"))), ExactError::OfferAltered);
    assert_eq!(refused(&|p| p.accepted.extra = None), ExactError::OfferAltered);
    assert_eq!(refused(&|p| extra(p, "quote", json!("q1.AAAA"))), ExactError::Quote(QuoteError::Malformed));
    assert_eq!(refused(&|p| extra(p, "quote", json!(1))), ExactError::Malformed);
    assert_eq!(
        refused(&|p| {
            p.accepted.extra.as_mut().unwrap().remove("quote");
        }),
        ExactError::QuoteMissing
    );
    assert_eq!(refused(&|p| p.resource.as_mut().unwrap().url.push('x')), ExactError::WrongResource);
    assert_eq!(refused(&|p| p.payload = json!({"signature": "0x"})), ExactError::Malformed);
}

/// A2: one Permit2 nonce is one payment, whichever scheme and token it was signed for.
#[test]
fn x402_1_a2_one_permit2_nonce_has_one_key_under_exact_and_upto() {
    let key = SecretKey::from_bytes(&[0x21; 32]).unwrap();
    let sign = |offer: &Offer, spender, facilitator| {
        let permit = Permit {
            from: key.address(),
            token: *offer.token.contract(),
            amount: offer.amount,
            spender,
            nonce: [9; 32],
            deadline: 2_000,
            to: offer.pay_to,
            facilitator,
            valid_after: 0,
        };
        let digest = offer.token.permit2_separator().digest(&eip712::permit_payment(&permit));
        Permit2Payload::from_permit(&permit, key.sign(&digest).unwrap().as_bytes())
    };
    let (exact, upto) = (exact_offer(), upto_offer());
    let facilitator = test_keys::EVM[5].parse().ok();
    let one = verify(&exact, &sign(&exact, contracts::EXACT_PROXY, None), 1_000).unwrap();
    let other = verify(&upto, &sign(&upto, contracts::UPTO_PROXY, facilitator), 1_000).unwrap();
    assert_eq!(one.deposit_key, other.deposit_key);
    assert_eq!(one.account, other.account);
    // A member that `exact` does not sign neither changes the payment nor travels on.
    let mut decorated = sign(&exact, contracts::EXACT_PROXY, None);
    decorated.authorization.witness.facilitator = Some(test_keys::EVM[4].to_owned());
    assert_eq!(verify(&exact, &decorated, 1_000), Ok(one));
}

/// White space, order of members, alphabet of base64, letter case, spelling of the nonce: one payment, one key.
#[test]
fn x402_1_a_payment_spelled_differently_is_the_same_payment() {
    let flow = exact_flow();
    let sent = captured(&flow);
    let key_of = |header: &str| {
        let payment = decode_payment_signature(header).unwrap();
        let payload = Permit2Payload::from_value(&payment.payload).unwrap();
        verify(&exact_offer(), &payload, EXACT_CAPTURED_S).unwrap().deposit_key
    };
    let text = serde_json::to_string(&sent).unwrap();
    let spaced = serde_json::to_string_pretty(&sent).unwrap();
    let reversed = format!(
        r#"{{"payload":{},"accepted":{},"x402Version":2}}"#,
        sent.payload,
        serde_json::to_string(&sent.accepted).unwrap()
    );
    let nonce = payload(&flow).permit().unwrap().nonce;
    let decimal = uint256::to_decimal(&nonce);
    let hexadecimal = text.replace(&decimal, &hex::encode_0x(&nonce));
    let lower = text.replace(test_keys::EVM[0], &test_keys::EVM[0].to_lowercase());
    assert!(hexadecimal != text && lower != text);
    let expected = key_of(flow["steps"][1]["request"]["headers"]["payment-signature"].as_str().unwrap());
    for spelling in [text.clone(), spaced, reversed, hexadecimal, lower] {
        for header in [base64::encode_std(spelling.as_bytes()), base64::encode_url(spelling.as_bytes())] {
            assert_eq!(key_of(&header), expected, "{spelling}");
        }
    }
}

#[test]
fn upto_settles_what_was_charged_and_never_more() {
    let payment = verify(&upto_offer(), &payload(&upto_flow()), UPTO_CAPTURED_S).unwrap();
    let amounts = |charge| {
        let request = upto_offer().settle_request(&payment, None, charge)?;
        let text = |value: &Value| value["amount"].as_str().unwrap().to_owned();
        Ok((text(&request.payment_requirements), text(&request.payment_payload["accepted"])))
    };
    assert_eq!(amounts(1), Ok(("1".into(), "20000".into())));
    assert_eq!(amounts(20_000), Ok(("20000".into(), "20000".into())));
    assert_eq!(amounts(0), Err(ChargeError::Nothing));
    assert_eq!(amounts(20_001), Err(ChargeError::NotSigned { charge: 20_001, signed: 20_000 }));
    let exact = verify(&exact_offer(), &payload(&exact_flow()), EXACT_CAPTURED_S).unwrap();
    let less = exact_offer().settle_request(&exact, None, 9_999);
    assert_eq!(less, Err(ChargeError::NotSigned { charge: 9_999, signed: 10_000 }));
}

#[test]
fn codes_are_those_of_the_one_table() {
    assert_eq!(E::WrongSpender.code(), "proof_invalid");
    assert_eq!(E::WrongFacilitator.reason(), "facilitator_mismatch");
    assert_eq!(E::Terms(ExactError::Expired(1)).code(), "proof_expired");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_permit_is_a_payment_or_an_error(member in 0usize..4, text in "\\PC{0,80}") {
        let mut payment = captured(&exact_flow()).payload;
        let pointer = ["/signature", "/permit2Authorization/nonce", "/permit2Authorization/deadline",
            "/permit2Authorization/permitted/amount"][member];
        *payment.pointer_mut(pointer).unwrap() = json!(text);
        let payload = Permit2Payload::from_value(&payment).unwrap();
        prop_assert!(verify(&exact_offer(), &payload, EXACT_CAPTURED_S).is_err());
    }
}
