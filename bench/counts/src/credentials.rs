//! What a payer shows: keys, tokens, payments, and what an unpaid request is given.

use std::hint::black_box;
use std::sync::Arc;

use money::{Amount, Asset};
use proof::caveat::{Context, UnknownCaveats};
use proof::identity::{self, AgentKey, HOLDER_WINDOW_S, Profile, Tag};
use proof::mpp::ChallengeKeys;
use proof::quote::{Quote, QuoteKey, QuoteScope};
use proof::test_rail::Transfer;
use proof::x402_exact::{Binding, EvmToken, Method, Offer, verify_v2};
use proof::{EpochState, MasterKey, MasterKeys, SigningKey, l402, quote as quotes};
use serde_json::Value;
use wire::credit_key::{CreditKey, Mode};
use wire::l402::{Credential, Preimage};
use wire::message_signature::{self, Request, Unsigned};
use wire::mpp::{Challenge, Opaque};
use wire::x402::asset::default_token;
use wire::x402::{decode_payment_signature, test_keys};

use crate::{NOW_S, vector};

const EXACT: &str = include_str!("../../../specs/vectors/x402/v2_exact_eip3009.json");

fn master() -> MasterKey {
    MasterKey { epoch: 7, state: EpochState::Mint, secret: [0x42; 32].into() }
}

fn masters() -> MasterKeys {
    MasterKeys::new([master()]).expect("one epoch")
}

/// A key that ends, with a budget, for some models: what an operator hands out.
fn key_text(masters: &MasterKeys) -> String {
    let caveats =
        ["expires=1900000000", "budget=team:USD:5000000000", "models=deepseek-*"].map(str::to_owned);
    proof::credit_key::mint(masters, Mode::Live, [1; 16], [2; 16], &caveats).expect("mints")
}

/// From its text to a key that may be used for this request.
pub(crate) fn credit_key() -> Box<dyn FnMut()> {
    let masters = masters();
    let text = key_text(&masters);
    Box::new(move || {
        let parsed = CreditKey::parse(black_box(&text)).expect("parses");
        let verified = proof::credit_key::verify(&masters, Mode::Live, &parsed, NOW_S).expect("verifies");
        black_box(proof::credit_key::permits(&verified, "chat", Some("deepseek-chat"), None, NOW_S))
            .expect("may");
    })
}

/// What is asked of a key that is known already.
pub(crate) fn credit_key_known() -> Box<dyn FnMut()> {
    let masters = masters();
    let parsed = CreditKey::parse(&key_text(&masters)).expect("parses");
    let verified = proof::credit_key::verify(&masters, Mode::Live, &parsed, NOW_S).expect("verifies");
    Box::new(move || {
        black_box(proof::credit_key::permits(
            black_box(&verified),
            "chat",
            Some("deepseek-chat"),
            None,
            NOW_S,
        ))
        .expect("may");
    })
}

/// The `Authorization` value of a token that was paid for.
fn l402_header(masters: &MasterKeys) -> String {
    let preimage = Preimage::new([5; 32]);
    let sale = l402::Sale {
        asset: Asset::Btc,
        credit: Amount::from_units(10_000),
        amount_msat: 10_000,
        issued_at_s: 1_790_000_000,
        random: [9; 8],
    };
    let caveats = ["services=inference:0", "inference_capabilities=chat", "inference_valid_until=1900000000"]
        .map(str::to_owned);
    let token = l402::mint(masters, preimage.payment_hash(), &sale, &caveats).expect("mints");
    Credential::new(token, preimage).to_authorization()
}

const fn l402_context() -> Context<'static> {
    Context {
        now_unix_s: NOW_S,
        service: "inference",
        tier: 0,
        capability: Some("chat"),
        route: "chat",
        model: Some("m"),
        preimage: None,
        holder: None,
        unknown: UnknownCaveats::Reject,
        require_scope: true,
    }
}

/// From the header's text to a token that may pay.
pub(crate) fn l402() -> Box<dyn FnMut()> {
    let masters = masters();
    let header = l402_header(&masters);
    Box::new(move || {
        let credential = Credential::parse(black_box(&header)).expect("reads").expect("is L402's");
        let verified = l402::verify(&masters, &credential).expect("is genuine");
        black_box(l402::permits(&verified, &l402_context(), |_| false)).expect("is permitted");
    })
}

/// What is asked of a token that is known already.
pub(crate) fn l402_known() -> Box<dyn FnMut()> {
    let masters = masters();
    let credential = Credential::parse(&l402_header(&masters)).expect("reads").expect("is L402's");
    let verified = l402::verify(&masters, &credential).expect("is genuine");
    Box::new(move || {
        black_box(l402::permits(black_box(&verified), &l402_context(), |_| false)).expect("is permitted");
    })
}

/// From the header's text to a genuine payment: the one that was captured from the reference client.
pub(crate) fn x402_exact() -> Box<dyn FnMut()> {
    let known = default_token("eip155:84532").expect("a known network");
    let token = EvmToken::new("eip155:84532", known.address, known.name, known.version).expect("a token");
    let pay_to = test_keys::EVM[6].parse().expect("an address");
    let method = Method::Evm { token: Arc::new(token), pay_to };
    let offers = [Offer { method, amount: 10_000, max_timeout_s: 60, quote: None }];
    let header = vector(EXACT);
    let header = header.pointer("/steps/1/request/headers/payment-signature").and_then(Value::as_str);
    let header = header.expect("a payment").to_owned();
    let key = QuoteKey::new(&[3; 32]);
    Box::new(move || {
        let ceiling = Amount::from_units(10_000_000);
        let resource_url = "http://127.0.0.1:18403/exact";
        let binding = Binding { key: &key, scope: scope(), ceiling, resource_url };
        let payment = decode_payment_signature(black_box(&header)).expect("reads");
        black_box(verify_v2(&payment, &offers, &binding, NOW_S)).expect("is genuine");
    })
}

/// A payment with play money: one check of Ed25519.
pub(crate) fn test_rail() -> Box<dyn FnMut()> {
    let key = SigningKey::from_bytes(&[3; 32]);
    let from = key.verifying_key().to_bytes();
    let transfer =
        Transfer { from, to: [4; 32], value: 1, valid_after: 0, valid_before: NOW_S, nonce: [5; 32] };
    let signature = transfer.sign(&key);
    Box::new(move || black_box(&transfer).verify(black_box(&signature)).expect("verifies"))
}

/// What a holder signs.
fn signed_request() -> Request<'static> {
    fn field(name: &str) -> Vec<&'static [u8]> {
        match name {
            "authorization" => vec![b"Bearer fk_live_somebody"],
            "content-digest" => vec![b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"],
            _ => Vec::new(),
        }
    }
    let (scheme, authority) = ("https", "api.example.com");
    Request { method: "POST", scheme, authority, path: "/v1/chat/completions", query: None, fields: &field }
}

/// The signature of a key's holder over a request: read, what it covers, whose it is.
pub(crate) fn holder_proof() -> Box<dyn FnMut()> {
    const COMPONENTS: [&str; 5] = ["@method", "@authority", "@path", "authorization", "content-digest"];
    let key = SigningKey::from_bytes(&[21; 32]);
    let unsigned = Unsigned {
        components: COMPONENTS.map(str::to_owned).into(),
        created: NOW_S,
        expires: NOW_S + HOLDER_WINDOW_S,
        nonce: Some("5e2f1c9a7b3d4e60".to_owned()),
        tag: Tag::Holder.name().to_owned(),
    };
    let signed = identity::sign(&key, "holder", &unsigned, &signed_request()).expect("signs");
    let holder = AgentKey::new(&key.verifying_key().to_bytes()).expect("a key");
    Box::new(move || {
        let read = message_signature::read(&[signed.input.as_bytes()], &[signed.signature.as_bytes()]);
        let read = read.expect("reads");
        let shown = identity::pick(&read, Tag::Holder).expect("one").expect("one");
        let profile = Profile::Holder { credential_fields: &["authorization"], has_body: true };
        let unproven = profile.examine(shown, &signed_request(), NOW_S).expect("covers what it must");
        black_box(unproven.prove(&holder)).expect("is the holder's");
    })
}

const fn scope() -> QuoteScope<'static> {
    QuoteScope { request: &[7; 32], tariff_version: "t1", asset: Asset::Usd, store_epoch: 1 }
}

/// A quote given, and the same taken back.
pub(crate) fn quote() -> Box<dyn FnMut()> {
    let key = QuoteKey::new(&[3; 32]);
    let quote = Quote { ceiling: Amount::from_units(10_000_000), expires_at_s: NOW_S + 60 };
    Box::new(move || {
        let text = quotes::mint(&key, &scope(), black_box(&quote));
        black_box(quotes::verify(&key, &text, &scope(), NOW_S)).expect("is ours");
    })
}

/// A `Payment` challenge: bound and written.
pub(crate) fn mpp_challenge() -> Box<dyn FnMut()> {
    let keys = ChallengeKeys::new([master()]).expect("one epoch");
    let request = wire::base64::encode_url(
        br#"{"amount":"10000","currency":"0x036CbD53842c5426634e7929541eC2318f3dCF7e","methodDetails":{"chainId":84532,"credentialTypes":["authorization"],"decimals":6},"recipient":"0x976EA74026E726554dB657fA54763abd0C3a0aa9"}"#,
    );
    let challenge = Challenge {
        id: String::new(),
        realm: "api.example.com".to_owned(),
        method: "evm".to_owned(),
        intent: "charge".to_owned(),
        request,
        expires: Some("2026-11-20T10:33:19Z".to_owned()),
        digest: None,
        opaque: None,
        description: None,
        header: None,
    };
    let opaque = Opaque {
        store_epoch: 1,
        key_epoch: 7,
        route: "chat".to_owned(),
        prices: "t1".to_owned(),
        ..Opaque::default()
    };
    Box::new(move || {
        black_box(keys.bind(black_box(&challenge).parts(), opaque.clone())).expect("binds");
    })
}
