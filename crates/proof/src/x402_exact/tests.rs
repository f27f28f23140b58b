use std::sync::Arc;

use super::{
    Binding, EvmToken, ExactError as E, Method, Offer, Payer, match_offer, verify, verify_v1, verify_v2,
};
use crate::quote::{self, Quote, QuoteError, QuoteKey, QuoteScope};
use crate::secp::{SecretKey, SignatureError};
use crate::test_rail;
use ed25519_dalek::SigningKey;
use money::{Amount, Asset};
use proptest::prelude::*;
use serde_json::{Value, json};
use wire::hex;
use wire::x402::asset::default_token;
use wire::x402::{ExactPayload, Transfer, decode_payment_signature, decode_x_payment, test_keys, v2};

const URL: &str = "http://127.0.0.1:18403/exact";
/// 2026-11-20T10:28:19Z and 10:28:22Z.
const V2_CAPTURED_S: u64 = 1_795_170_499;
const V1_CAPTURED_S: u64 = 1_795_170_502;
const CEILING: Amount = Amount::from_units(10_000_000);

fn vector(version: u8) -> Value {
    serde_json::from_str(match version {
        1 => include_str!("../../../../specs/vectors/x402/v1_exact_eip3009.json"),
        _ => include_str!("../../../../specs/vectors/x402/v2_exact_eip3009.json"),
    })
    .unwrap()
}

fn header(vector: &Value, name: &str) -> String {
    vector["steps"][1]["request"]["headers"][name].as_str().unwrap().to_owned()
}

fn token(network: &str) -> Arc<EvmToken> {
    let known = default_token(network).unwrap();
    Arc::new(EvmToken::new(network, known.address, known.name, known.version).unwrap())
}

fn evm_offer() -> Offer {
    let method = Method::Evm { token: token("eip155:84532"), pay_to: test_keys::EVM[6].parse().unwrap() };
    Offer { method, amount: 10_000, max_timeout_s: 60, quote: None }
}

fn payee() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn test_offer() -> Offer {
    let method = Method::Test { pay_to: payee().verifying_key().to_bytes() };
    Offer { method, amount: 10_000, max_timeout_s: 60, quote: None }
}

fn quote_key() -> QuoteKey {
    QuoteKey::new(&[3; 32])
}

fn binding(key: &QuoteKey) -> Binding<'_> {
    let scope = QuoteScope { request: &[7; 32], tariff_version: "t1", asset: Asset::Usd, store_epoch: 1 };
    Binding { key, scope, ceiling: CEILING, resource_url: URL }
}

fn captured_v2() -> v2::PaymentPayload {
    decode_payment_signature(&header(&vector(2), "payment-signature")).unwrap()
}

fn check_v2(payment: &v2::PaymentPayload, offers: &[Offer], now: u64) -> Result<(), E> {
    verify_v2(payment, offers, &binding(&quote_key()), now).map(|_| ())
}

/// X402-11: objects written anew equal the captured ones.
#[test]
fn v2_captured_payment_is_genuine_at_its_time() {
    let file = vector(2);
    assert_eq!(file["capturedAt"], "2026-11-20T10:28:19.367Z");
    let offers = [test_offer(), evm_offer()];
    let (offer, payment) = verify_v2(&captured_v2(), &offers, &binding(&quote_key()), V2_CAPTURED_S).unwrap();
    assert_eq!(offer, &offers[1]);
    assert_eq!(payment.payer, Payer::Evm(test_keys::EVM[0].parse().unwrap()));
    assert_eq!((payment.amount, payment.valid_before), (10_000, 1_795_170_558));
    // What we would emit is what the reference seller emitted.
    let emitted = serde_json::to_value(offer.requirements_v2()).unwrap();
    assert_eq!(emitted, file["steps"][0]["decoded"]["payment-required"]["accepts"][0]);
    let separator = &file["typedData"][0]["domainSeparator"];
    let Method::Evm { token, .. } = &offer.method else { panic!("not EVM") };
    assert_eq!(hex::encode_0x(token.separator().as_bytes()), *separator);
}

#[test]
fn v1_captured_payment_is_genuine_at_its_time() {
    let file = vector(1);
    assert_eq!(file["capturedAt"], "2026-11-20T10:28:22.393Z");
    let payment = decode_x_payment(&header(&file, "x-payment")).unwrap();
    let offers = [test_offer(), evm_offer()];
    let (offer, verified) = verify_v1(&payment, &offers, V1_CAPTURED_S).unwrap();
    assert_eq!(verified.amount, 10_000);
    let body: Value = serde_json::from_str(file["steps"][0]["response"]["body"].as_str().unwrap()).unwrap();
    let emitted =
        offer.requirements_v1("http://127.0.0.1:18404/v1res", "legacy", "application/json").unwrap();
    assert_eq!(serde_json::to_value(emitted).unwrap(), body["accepts"][0]);

    let refused = |change: fn(&mut wire::x402::v1::PaymentPayload)| {
        let mut payment = payment.clone();
        change(&mut payment);
        verify_v1(&payment, &offers, V1_CAPTURED_S).unwrap_err()
    };
    assert_eq!(refused(|p| p.network = "base".into()), E::WrongNetwork);
    assert_eq!(refused(|p| p.network = "eip155:84532".into()), E::WrongNetwork);
    assert_eq!(refused(|p| p.scheme = "upto".into()), E::WrongNetwork);
    assert_eq!(refused(|p| p.payload = json!({})), E::Malformed);
    assert_eq!(verify_v1(&payment, &[test_offer()], V1_CAPTURED_S), Err(E::WrongNetwork));
    assert_eq!(verify_v1(&payment, &[], V1_CAPTURED_S), Err(E::WrongNetwork));
}

/// X402-1, A2: one authorisation in both versions is one deposit.
#[test]
fn x402_1_the_same_authorisation_as_v1_and_v2_has_one_key() {
    let file = vector(1);
    let as_v1 = decode_x_payment(&header(&file, "x-payment")).unwrap();
    let mut as_v2 = captured_v2();
    as_v2.payload = as_v1.payload.clone();
    let offers = [evm_offer()];
    let (_, one) = verify_v1(&as_v1, &offers, V1_CAPTURED_S).unwrap();
    let (_, other) = verify_v2(&as_v2, &offers, &binding(&quote_key()), V1_CAPTURED_S).unwrap();
    assert_eq!(one, other);
    let (_, another) = verify_v2(&captured_v2(), &offers, &binding(&quote_key()), V2_CAPTURED_S).unwrap();
    assert_ne!(one.deposit_key, another.deposit_key);
    assert_eq!(one.account, another.account);
}

/// A7: every member of the echoed offer.
#[test]
fn x402_10_a7_an_altered_echo_is_refused() {
    let good = serde_json::to_value(captured_v2().accepted).unwrap();
    let offers = [test_offer(), evm_offer()];
    let under = E::Underpaid { paid: 9_999, asked: 10_000 };
    let over = E::Overpaid { paid: 10_001, asked: 10_000 };
    for (member, value, expected) in [
        ("/scheme", json!("upto"), E::WrongNetwork),
        ("/network", json!("eip155:8453"), E::WrongNetwork),
        ("/network", json!("base-sepolia"), E::WrongNetwork),
        ("/asset", json!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"), E::WrongAsset),
        ("/asset", json!("USDC"), E::WrongAsset),
        ("/payTo", json!(test_keys::EVM[0]), E::WrongPayee),
        ("/payTo", json!("merchant"), E::WrongPayee),
        ("/amount", json!("9999"), under),
        ("/amount", json!("10001"), over),
        ("/amount", json!("010000"), E::Malformed),
        ("/amount", json!("1e4"), E::Malformed),
        ("/maxTimeoutSeconds", json!(61), E::OfferAltered),
        ("/extra/name", json!("USD Coin"), E::OfferAltered),
        ("/extra/version", json!("1"), E::OfferAltered),
        ("/extra/version", json!(2), E::OfferAltered),
        ("/extra", json!({}), E::OfferAltered),
        ("/extra", json!(null), E::OfferAltered),
    ] {
        let mut altered = good.clone();
        *altered.pointer_mut(member).unwrap() = value.clone();
        let accepted = serde_json::from_value(altered).unwrap();
        assert_eq!(match_offer(&accepted, &offers), Err(expected), "{member} = {value}");
    }
}

#[test]
fn x402_9_10_what_a_payer_may_change() {
    let offers = [evm_offer()];
    let mut accepted = captured_v2().accepted;
    accepted.asset = accepted.asset.to_lowercase();
    accepted.pay_to = format!("0x{}", accepted.pay_to[2..].to_uppercase());
    accepted.extra.as_mut().unwrap().insert("recentBlockhash".into(), json!("x"));
    assert_eq!(match_offer(&accepted, &offers), Ok(&offers[0]));
}

/// A7: every signed member; each check that needs no curve comes before the signature.
#[test]
fn x402_13_a7_an_altered_payload_is_refused() {
    let good = captured_v2().payload;
    let bad = E::Signature(SignatureError::WrongSigner);
    let nonce = format!("0x{}", "cd".repeat(32));
    for (member, value, expected) in [
        ("/authorization/from", json!(test_keys::EVM[1]), bad),
        ("/authorization/from", json!("0x0000000000000000000000000000000000000000"), bad),
        ("/authorization/to", json!(test_keys::EVM[0]), E::WrongPayee),
        ("/authorization/value", json!("9999"), E::Underpaid { paid: 9_999, asked: 10_000 }),
        ("/authorization/value", json!("10001"), E::Overpaid { paid: 10_001, asked: 10_000 }),
        ("/authorization/value", json!("-1"), E::Malformed),
        ("/authorization/value", json!(10_000), E::Malformed),
        ("/authorization/validAfter", json!("1"), bad),
        ("/authorization/validAfter", json!("1795170499"), E::NotYetValid(V2_CAPTURED_S)),
        ("/authorization/validBefore", json!("1795170559"), bad),
        ("/authorization/validBefore", json!("1795170504"), E::Expired(1_795_170_504)),
        ("/authorization/nonce", json!(nonce), bad),
        ("/authorization/nonce", json!("0xcd"), E::Malformed),
        ("/signature", json!("0x"), E::Signature(SignatureError::Length(0))),
        ("/signature", json!(null), E::Malformed),
        ("/authorization", json!({}), E::Malformed),
    ] {
        let mut payment = captured_v2();
        payment.payload = good.clone();
        *payment.payload.pointer_mut(member).unwrap() = value.clone();
        assert_eq!(check_v2(&payment, &[evm_offer()], V2_CAPTURED_S), Err(expected), "{member} = {value}");
    }
}

/// X402-18: strict on both sides, and six seconds to settle in.
/// X402-2: every `now` is an argument.
#[test]
fn x402_18_time_window() {
    let payment = captured_v2();
    let before = 1_795_170_558;
    for (now, expected) in [
        (0, Err(E::NotYetValid(0))),
        (1, Ok(())),
        (before - 6, Ok(())),
        (before - 5, Err(E::Expired(before))),
        (before + 1, Err(E::Expired(before))),
        (u64::MAX, Err(E::Expired(before))),
    ] {
        assert_eq!(check_v2(&payment, &[evm_offer()], now), expected, "now {now}");
    }
}

/// A8: a signature for another token or chain recovers to a stranger.
#[test]
fn a8_another_domain_is_another_signer() {
    let payload = ExactPayload::from_value(&captured_v2().payload).unwrap();
    let contract = *token("eip155:84532").contract();
    for (network, name, version) in
        [("eip155:8453", "USDC", "2"), ("eip155:84532", "USD Coin", "2"), ("eip155:84532", "USDC", "1")]
    {
        let token = Arc::new(EvmToken::new(network, contract, name, version).unwrap());
        let offer = Offer {
            method: Method::Evm { token, pay_to: test_keys::EVM[6].parse().unwrap() },
            ..evm_offer()
        };
        let refused = verify(&offer, &payload, V2_CAPTURED_S);
        assert_eq!(refused, Err(E::Signature(SignatureError::WrongSigner)), "{network} {name} {version}");
    }
    assert!(EvmToken::new("solana:x", contract, "USDC", "2").is_err());
}

#[test]
fn x402_16_quote_and_resource_bind_the_payment_to_the_request() {
    let key = quote_key();
    let scope = binding(&key).scope;
    let mint = |scope: &QuoteScope<'_>, ceiling| {
        quote::mint(&key, scope, &Quote { ceiling, expires_at_s: V2_CAPTURED_S + 60 })
    };
    let offers = [Offer { quote: Some(mint(&scope, CEILING)), ..evm_offer() }];
    let with_quote = |quote: Value| {
        let mut payment = captured_v2();
        payment.accepted.extra.as_mut().unwrap().insert("quote".into(), quote);
        payment
    };
    let good = mint(&scope, CEILING);
    assert_eq!(check_v2(&with_quote(json!(good)), &offers, V2_CAPTURED_S), Ok(()));
    // An older quote for the same request, with another expiry, stands as well.
    let older = quote::mint(&key, &scope, &Quote { ceiling: CEILING, expires_at_s: V2_CAPTURED_S + 1 });
    assert_eq!(check_v2(&with_quote(json!(older)), &offers, V2_CAPTURED_S), Ok(()));

    let elsewhere = QuoteScope { request: &[8; 32], ..scope };
    for (what, payment, expected) in [
        ("X402-16 left out", captured_v2(), E::QuoteMissing),
        ("of another type", with_quote(json!(1)), E::Malformed),
        ("no quote", with_quote(json!("q1.x")), E::Quote(QuoteError::Malformed)),
        (
            "A5: for another route",
            with_quote(json!(mint(&elsewhere, CEILING))),
            E::Quote(QuoteError::Mismatch),
        ),
        ("A6: for another price", with_quote(json!(mint(&scope, Amount::from_units(1)))), E::QuotePrice),
    ] {
        assert_eq!(check_v2(&payment, &offers, V2_CAPTURED_S), Err(expected), "{what}");
    }
    let late = check_v2(&with_quote(json!(older)), &offers, V2_CAPTURED_S + 1);
    assert_eq!(late, Err(E::Quote(QuoteError::Expired(V2_CAPTURED_S + 1))));

    let mut elsewhere = captured_v2();
    elsewhere.resource.as_mut().unwrap().url = "http://127.0.0.1:18403/other".into();
    assert_eq!(check_v2(&elsewhere, &[evm_offer()], V2_CAPTURED_S), Err(E::WrongResource));
    elsewhere.resource = None;
    assert_eq!(check_v2(&elsewhere, &[evm_offer()], V2_CAPTURED_S), Ok(()));
}

fn test_transfer() -> test_rail::Transfer {
    test_rail::Transfer {
        from: SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes(),
        to: payee().verifying_key().to_bytes(),
        value: 10_000,
        valid_after: 0,
        valid_before: 1060,
        nonce: [5; 32],
    }
}

fn test_payload(transfer: &test_rail::Transfer) -> ExactPayload {
    ExactPayload::from_test(&transfer.to_wire(), &transfer.sign(&SigningKey::from_bytes(&[7; 32])))
}

#[test]
fn a_test_payment_goes_the_same_way() {
    let offers = [evm_offer(), test_offer()];
    let payload = test_payload(&test_transfer());
    let payment = v2::PaymentPayload {
        x402_version: 2,
        resource: None,
        accepted: offers[1].requirements_v2(),
        payload: serde_json::to_value(&payload).unwrap(),
        extensions: None,
    };
    assert_eq!(offers[1].requirements_v2().asset, "TEST");
    let (offer, verified) = verify_v2(&payment, &offers, &binding(&quote_key()), 1000).unwrap();
    assert_eq!(offer, &offers[1]);
    assert_eq!(verified.payer, Payer::Test(test_transfer().from));

    let v1_offer = offers[1].requirements_v1(URL, "", "").unwrap();
    assert_eq!(v1_offer.network, "farthing-test");
    let as_v1 = wire::x402::v1::PaymentPayload {
        x402_version: 1,
        scheme: "exact".into(),
        network: v1_offer.network,
        payload: payment.payload,
    };
    assert_eq!(verify_v1(&as_v1, &offers, 1000).unwrap().1, verified);
}

#[test]
fn an_altered_test_payment_is_refused() {
    let good = test_transfer();
    let signature = good.sign(&SigningKey::from_bytes(&[7; 32]));
    for (what, altered, expected) in [
        ("payer", test_rail::Transfer { from: payee().verifying_key().to_bytes(), ..good }, E::Ed25519),
        ("small-order payer", test_rail::Transfer { from: [0; 32], ..good }, E::Ed25519),
        ("payee", test_rail::Transfer { to: [1; 32], ..good }, E::WrongPayee),
        ("value", test_rail::Transfer { value: 9_999, ..good }, E::Underpaid { paid: 9_999, asked: 10_000 }),
        ("start", test_rail::Transfer { valid_after: 1, ..good }, E::Ed25519),
        ("end", test_rail::Transfer { valid_before: 1061, ..good }, E::Ed25519),
        ("nonce", test_rail::Transfer { nonce: [6; 32], ..good }, E::Ed25519),
    ] {
        let payload = ExactPayload::from_test(&altered.to_wire(), &signature);
        assert_eq!(verify(&test_offer(), &payload, 1000), Err(expected), "{what}");
    }
    for bit in 0..512 {
        let mut bad = signature;
        bad[bit / 8] ^= 1 << (bit % 8);
        let payload = ExactPayload::from_test(&good.to_wire(), &bad);
        assert_eq!(verify(&test_offer(), &payload, 1000), Err(E::Ed25519), "bit {bit}");
    }
    // A value beyond the rail's range is no offer's amount either; forced, it is malformed.
    let mut wide = test_payload(&good);
    wide.authorization.value = (1u128 << 64).to_string();
    let offer = Offer { amount: 1 << 64, ..test_offer() };
    assert_eq!(verify(&offer, &wide, 1000), Err(E::Malformed));
}

/// What the client signs, the gateway takes.
#[test]
fn a_payment_signed_here_is_genuine() {
    let key = SecretKey::from_bytes(&[0x21; 32]).unwrap();
    let offer = evm_offer();
    let Method::Evm { token, pay_to } = &offer.method else { panic!("not EVM") };
    let transfer = Transfer {
        from: key.address(),
        to: *pay_to,
        value: 10_000,
        valid_after: 0,
        valid_before: 2000,
        nonce: [8; 32],
    };
    let digest = token.separator().digest(&crate::eip712::transfer_with_authorization(&transfer));
    let payload = ExactPayload::from_evm(&transfer, key.sign(&digest).unwrap().as_bytes());
    assert_eq!(verify(&offer, &payload, 1000).unwrap().payer, Payer::Evm(key.address()));
}

#[test]
fn codes_are_those_of_the_one_table() {
    for (error, code) in [
        (E::Malformed, "malformed_credential"),
        (E::WrongNetwork, "wrong_network"),
        (E::WrongAsset, "wrong_asset"),
        (E::WrongPayee, "wrong_payee"),
        (E::Underpaid { paid: 1, asked: 2 }, "proof_underpaid"),
        (E::Overpaid { paid: 2, asked: 1 }, "proof_invalid"),
        (E::Expired(1), "proof_expired"),
        (E::Quote(QuoteError::Expired(1)), "quote_expired"),
        (E::Quote(QuoteError::Mismatch), "proof_invalid"),
        (E::Signature(SignatureError::HighS), "proof_invalid"),
    ] {
        assert_eq!(error.code(), code);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_payload_is_a_payment_or_an_error(member in 0usize..7, text in "\\PC{0,80}") {
        let mut payment = captured_v2();
        let pointer = ["/signature", "/authorization/from", "/authorization/to", "/authorization/value",
            "/authorization/validAfter", "/authorization/validBefore", "/authorization/nonce"][member];
        *payment.payload.pointer_mut(pointer).unwrap() = json!(text);
        prop_assert!(check_v2(&payment, &[evm_offer(), test_offer()], V2_CAPTURED_S).is_err());
    }
}
