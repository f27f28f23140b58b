//! `rails.l402`: what may stand there, and what is said of the rest.

use std::time::Duration;

use money::Amount;
use proof::caveat::UnknownCaveats;
use rails::lightning::Network;

use super::check;
use crate::config::{BitcoinPrice, FixedPrice, LightningNode, MintWhen, RouteL402};

fn file(mode: &str, l402: &str) -> String {
    format!(
        "mode: {mode}\nupstreams: {{ a: {{ url: http://127.0.0.1:1, dialect: openai }} }}\n\
         prices: {{ \"*\": {{ per_call: 1 USD }} }}\nrails: {{ l402: {{ {l402} }} }}\n"
    )
}

#[test]
fn little_is_enough_and_the_rest_is_careful() {
    let config = check(&file("test", "test: {}, price: { usd_per_btc: 95000 }")).unwrap();
    let l402 = config.rails.l402.unwrap();
    assert!(matches!(l402.node, LightningNode::Test));
    assert_eq!((l402.network, l402.node_key), (Network::Regtest, None));
    assert_eq!(l402.expiry, Duration::from_secs(300));
    assert_eq!((l402.fixed_price, l402.mint.when), (FixedPrice::Single, MintWhen::Always));
    assert_eq!((l402.unknown_caveats, l402.require_scope), (UnknownCaveats::Reject, true));
    assert_eq!((l402.lsat, l402.strict, l402.refunds), (false, false, None));
    assert_eq!((l402.mint.per_second.get(), l402.mint.open_max), (50, 5000));
    assert_eq!(l402.ceiling_max, Amount::from_units(1_000_000_000));
    assert!(matches!(l402.price, BitcoinPrice::Fixed(_)));
}

#[test]
fn every_key_of_l402_arrives() {
    let key = "02".repeat(33);
    let text = file(
        "live",
        &format!(
            "lnd: {{ url: \"https://127.0.0.1:8080\", macaroon: \"${{env:API_KEY}}\" }}, network: mainnet, node_key: {key}, \
             price: {{ url: \"https://prices.example/v1?coin=btc\", pointer: /data/usd, unit: sats_per_usd, every: 5s, max_age: 1m }}, \
             deposit: 0.02 USD, ceiling_max: 2 USD, expiry: 60s, fixed_price: draw, lsat: true, service: inference, \
             unknown_caveats: skip, require_scope: false, claim_window: 1d, first_claim_epoch_min: 3, strict: true, timeout: 1s, \
             mint: {{ when: asked, per_second: 1, burst: 2, per_source_per_second: 3, per_source_burst: 4, open_max: 5 }}, \
             refunds: {{ max: 1 USD, per_day: 2 USD }}"
        ),
    );
    let routes = "routes: [{ name: x, match: { path: /x }, upstream: a, price: { per_call: 1 USD }, l402: { service: best, tier: 2, capability: think, mint: never } }]\n";
    let config = check(&format!("{text}{routes}")).unwrap();
    let l402 = config.rails.l402.unwrap();
    assert!(matches!(&l402.node, LightningNode::Lnd { cert, .. } if cert.is_empty()));
    let BitcoinPrice::Read { url, query, pointer, in_sats, every, max_age } = &l402.price else { panic!() };
    assert_eq!((url.base_path.as_str(), query.as_str(), pointer.as_str()), ("/v1", "?coin=btc", "/data/usd"));
    assert_eq!((*in_sats, every.as_secs(), max_age.as_secs()), (true, 5, 60));
    assert_eq!(l402.node_key, Some([2; 33]));
    assert_eq!((l402.deposit, l402.first_claim_epoch_min), (Some(Amount::from_units(20_000_000)), 3));
    assert_eq!((l402.mint.when, l402.mint.burst.get(), l402.mint.open_max), (MintWhen::Asked, 2, 5));
    assert!(l402.refunds.is_some());
    let expected = RouteL402 {
        service: Some("best".into()),
        tier: 2,
        capability: Some("think".into()),
        mint: Some(MintWhen::Never),
    };
    assert_eq!(config.routes[0].l402, expected);
}

#[test]
fn what_cannot_be_meant_is_said() {
    let price = "price: { usd_per_btc: 95000 }";
    for (mode, l402, expected) in [
        ("test", price.to_owned(), "needs a node: one of"),
        ("test", "test: {}".to_owned(), "needs \"price\""),
        (
            "test",
            format!(
                "test: {{}}, phoenixd: {{ url: http://127.0.0.1:1, password: \"${{env:API_KEY}}\" }}, {price}"
            ),
            "one node only",
        ),
        ("live", format!("test: {{}}, {price}"), "play money exists in mode test only"),
        (
            "live",
            format!(
                "lnbits: {{ url: https://a.example, key: \"${{env:API_KEY}}\" }}, network: regtest, {price}"
            ),
            "exist in mode test only",
        ),
        ("test", format!("test: {{}}, network: mainnet, {price}"), "needs mode live"),
        ("test", format!("test: {{}}, strict: true, {price}"), "cannot tell what was paid"),
        (
            "live",
            format!(
                "lnbits: {{ url: https://a.example, key: \"${{env:API_KEY}}\" }}, refunds: {{ max: 1 USD, per_day: 1 USD }}, {price}"
            ),
            "write node_key",
        ),
        (
            "live",
            format!("lnd: {{ url: http://a.example, macaroon: \"${{env:API_KEY}}\" }}, {price}"),
            "is reached by https",
        ),
        (
            "live",
            format!("lnd: {{ url: https://a.example, macaroon: abcd }}, {price}"),
            "must be a reference",
        ),
        ("live", format!("lnd: {{ url: https://a.example }}, {price}"), "needs \"macaroon\""),
        ("test", format!("test: {{}}, expiry: 10s, {price}"), "between 60 s and 10 minutes"),
        ("test", format!("test: {{}}, service: Infer-Ence, {price}"), "no name of a service"),
        ("test", format!("test: {{}}, deposit: 2 USD, {price}"), "more than ceiling_max"),
        ("test", format!("test: {{}}, node_key: 0411, {price}"), "66 hex digits"),
        ("test", "test: {}, price: { usd_per_btc: 0 }".to_owned(), "is no price"),
        ("test", "test: {}, price: { url: https://a.example, pointer: a }".to_owned(), "is no place"),
        (
            "test",
            "test: {}, price: { url: https://a.example, pointer: /a, every: 1m, max_age: 5s }".to_owned(),
            "read less often",
        ),
        (
            "test",
            "test: {}, price: { url: https://a.example, pointer: /a, usd_per_btc: 1 }".to_owned(),
            "either usd_per_btc or url",
        ),
    ] {
        let errors = check(&file(mode, &l402)).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{l402}: {errors}");
    }
}
