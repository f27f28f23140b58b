//! `rails.mpp`: what may stand there, and what is said of the rest.

use std::time::Duration;

use super::check;
use crate::config::MppMethod as M;

const X402: &str = "x402: { facilitators: http://127.0.0.1:1, networks: { \"eip155:84532\": { pay_to: \"0x2222222222222222222222222222222222222222\" } } }";
const L402: &str = "l402: { test: {}, price: { usd_per_btc: 95000 } }";

fn file(rails: &str) -> String {
    format!(
        "upstreams: {{ a: {{ url: http://127.0.0.1:1, dialect: openai }} }}\n\
         prices: {{ \"*\": {{ per_call: 1 USD }} }}\nrails: {{ {rails} }}\n"
    )
}

#[test]
fn nothing_has_to_be_said() {
    for (rails, methods) in [
        ("mpp: {}".to_owned(), vec![M::Credit]),
        ("mpp:".to_owned(), vec![M::Credit]),
        (format!("mpp: {{}}, {X402}"), vec![M::Evm, M::Credit]),
        (format!("mpp: {{}}, {L402}, {X402}"), vec![M::Lightning, M::Evm, M::Credit]),
    ] {
        let mpp = check(&file(&rails)).unwrap().rails.mpp.unwrap();
        assert_eq!(mpp.methods, methods, "{rails}");
        assert_eq!((mpp.realm, mpp.expiry, mpp.digest), (None, Duration::from_secs(300), true));
        assert_eq!(mpp.sessions.grace, Duration::from_secs(60));
    }
    assert!(check(&file(X402)).unwrap().rails.mpp.is_none());
}

#[test]
fn every_key_of_mpp_arrives() {
    let own = "mpp: { realm: \"api.example:8443\", methods: [credit, evm], expiry: 90s, digest: false, sessions: { grace: 5s } }";
    let mpp = check(&file(&format!("{own}, {X402}"))).unwrap().rails.mpp.unwrap();
    assert_eq!(mpp.realm.as_deref(), Some("api.example:8443"));
    assert_eq!(mpp.methods, [M::Evm, M::Credit], "credit comes last");
    assert_eq!((mpp.expiry.as_secs(), mpp.digest, mpp.sessions.grace.as_secs()), (90, false, 5));
}

/// MPP-2 and the rest.
#[test]
fn mpp_2_what_cannot_be_meant_is_said() {
    for (mpp, expected) in [
        ("realm: \"a|b\"", "is no realm"),
        ("realm: \"a\\\"b\"", "is no realm"),
        ("methods: []", "needs at least one"),
        ("methods: [evm]", "evm needs rails.x402 with scheme exact"),
        ("methods: [lightning]", "lightning needs rails.l402"),
        ("methods: [credit, credit]", "credit stands twice"),
        ("methods: [barter]", "is no method that we know"),
        ("expiry: 5s", "between 60 s and 10 minutes"),
        ("realms: a", "unknown key"),
    ] {
        let errors = check(&file(&format!("mpp: {{ {mpp} }}"))).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{mpp}: {errors}");
    }
}
