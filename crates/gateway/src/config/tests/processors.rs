//! `rails.mpp.stripe` and `rails.mpp.card`.

use serde_json::{Value, json};

use super::{STRIPE, check};
use crate::config::{BaseUrl, MppMethod as M};

fn file(mpp: &str) -> String {
    format!(
        "upstreams: {{ a: {{ url: http://127.0.0.1:1, dialect: openai }} }}\n\
         prices: {{ \"*\": {{ per_call: 1 USD }} }}\nmode: test\nrails: {{ mpp: {{ {mpp} }} }}\n"
    )
}

const TOKENS: &str = "key: \"${env:STRIPE_KEY}\", network_id: profile_1";

fn jwk() -> Value {
    let file: Value =
        serde_json::from_str(include_str!("../../../../../specs/vectors/rails/mpp_card_jwe.json")).unwrap();
    file["server_public_jwk"].clone()
}

fn card(jwk: &Value, more: &str) -> String {
    file(&format!(
        "card: {{ url: \"https://psp.example/v1/pay\", key: \"${{env:API_KEY}}\", networks: [visa, mastercard], merchant: Shop, jwk: '{jwk}'{more} }}"
    ))
}

#[test]
fn every_key_of_stripe_arrives() {
    let mpp = check(&file(&format!("stripe: {{ {TOKENS} }}"))).unwrap().rails.mpp.unwrap();
    assert_eq!(mpp.methods, [M::Stripe, M::Credit]);
    let plain = mpp.stripe.unwrap();
    assert_eq!((plain.url, plain.key.expose()), (BaseUrl::parse("https://api.stripe.com").unwrap(), STRIPE));
    assert_eq!((plain.account, plain.network_id.as_str()), (None, "profile_1"));
    assert_eq!(plain.payment_methods, ["card", "link"]);
    let sums = plain.processing;
    assert_eq!((sums.deposit.units(), sums.ceiling_max.units()), (1_000_000_000, 100_000_000_000));
    assert_eq!(sums.time_max.as_secs(), 20);
    let all = "url: \"http://127.0.0.1:2/x\", account: acct_1, payment_methods: [card], deposit: 2 USD, ceiling_max: 3 USD, timeout: 5s";
    let all =
        check(&file(&format!("stripe: {{ {TOKENS}, {all} }}"))).unwrap().rails.mpp.unwrap().stripe.unwrap();
    assert_eq!((all.url.base_path.as_str(), all.account.as_deref()), ("/x", Some("acct_1")));
    assert_eq!((all.payment_methods.len(), all.processing.time_max.as_secs()), (1, 5));
    assert_eq!(all.processing.deposit.units(), 2_000_000_000);
    assert!(!format!("{all:?}").contains(STRIPE));
}

#[test]
fn every_key_of_card_arrives() {
    let mpp = check(&card(&jwk(), ", billing_required: true")).unwrap().rails.mpp.unwrap();
    assert_eq!(mpp.methods, [M::Card, M::Credit]);
    let card = mpp.card.unwrap();
    assert_eq!((card.url.base_path.as_str(), card.merchant.as_str()), ("/v1/pay", "Shop"));
    assert_eq!((card.networks.len(), card.kid.as_str(), card.billing_required), (2, "enc-2026-01", true));
    assert_eq!(Value::Object(card.jwk), jwk());
}

#[test]
fn what_processors_cannot_do_is_said() {
    for (own, expected) in [
        ("network_id: profile_1", "needs \"key\""),
        ("key: \"${env:STRIPE_KEY}\"", "needs \"network_id\""),
        ("key: \"${env:API_KEY}\", network_id: p", "no secret key of Stripe's for this gateway's mode"),
        (&format!("{TOKENS}, deposit: 0.4 USD"), "less than 0.50 USD"),
        (&format!("{TOKENS}, deposit: 200 USD"), "more than ceiling_max"),
        (&format!("{TOKENS}, url: \"http://stripe.example\""), "reached by https"),
        (&format!("{TOKENS}, webhook: x"), "unknown key"),
    ] {
        let errors = check(&file(&format!("stripe: {{ {own} }}"))).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{own}: {errors}");
        assert!(!errors.contains(STRIPE), "{errors}");
    }
    let live = file(&format!("stripe: {{ {TOKENS} }}")).replace("mode: test", "mode: live");
    let errors = check(&live).map(|_| ()).unwrap_err().to_string();
    assert!(errors.contains("for this gateway's mode"), "{errors}");
}

/// CARD-1, RAIL-19: one kind of key, long enough, and never the private half.
#[test]
fn which_keys_cards_are_encrypted_to() {
    let with = |name: &str, value: Value| {
        let mut jwk = jwk();
        jwk[name] = value;
        jwk
    };
    for (jwk, expected) in [
        (with("kty", json!("EC")), "kty RSA"),
        (with("alg", json!("RSA-OAEP")), "alg RSA-OAEP-256"),
        (with("use", json!("sig")), "use enc"),
        (with("n", json!("AQAB")), "at least 2048 bits"),
        (with("kid", json!("")), "needs a kid"),
        (with("d", json!("AQAB")), "private key"),
        (json!([]), "not a JSON object"),
    ] {
        let errors = check(&card(&jwk, "")).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{jwk}: {errors}");
    }
}
