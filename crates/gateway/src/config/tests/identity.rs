//! `identity`: who is known, and what is said of entries that cannot be.

use std::time::Duration;

use ledger::AccountId;

use super::check;
use crate::config::{Profiles, RouteIdentity};

/// An honest key, and the one that RFC 9421 prints with its private half.
const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const PUBLISHED: &str = "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs";

fn file(identity: &str, route: &str) -> String {
    format!(
        "upstreams: {{ a: {{ url: http://127.0.0.1:1, dialect: openai }} }}\nprices: {{ \"*\": {{ per_call: 1 USD }} }}\n\
         rails: {{ test: {{}} }}\n{identity}\n\
         routes: [{{ name: x, match: {{ path: /x }}, upstream: a, price: {{ per_call: 1 USD }}{route} }}]\n"
    )
}

#[test]
fn little_is_enough_and_the_rest_is_careful() {
    let config = check(&file("identity:", "")).unwrap();
    let identity = config.identity.unwrap();
    assert_eq!((identity.window, identity.needs_nonce), (Duration::from_secs(480), true));
    assert!(identity.keyring.is_empty() && identity.blocked.is_empty());
    assert_eq!(config.routes[0].identity, RouteIdentity::Off);
    assert!(check(&file("", "")).unwrap().identity.is_none());
}

#[test]
fn every_key_of_identity_arrives() {
    let entry = format!(
        "{{ name: a, x: {X}, keyid: tap-7, origin: \"https://agent.example/\", profiles: visa-tap, account: {}, limits: {{ rpm: 3, concurrent: 2 }} }}",
        "0f".repeat(16)
    );
    let identity = format!(
        "identity: {{ window: 24h, nonce: optional, keyring: [{entry}, {{ name: b, origin: \"https://b.example\" }}], \
         block: [{X}, \"https://bad.example\", \"0x{}\"] }}",
        "aB".repeat(20)
    );
    let config = check(&file(&identity, ", identity: observe")).unwrap();
    let identity = config.identity.unwrap();
    assert_eq!((identity.window, identity.needs_nonce), (Duration::from_secs(86_400), false));
    let [a, b] = identity.keyring.as_slice() else { panic!() };
    assert_eq!(a.profiles, Profiles { web_bot_auth: false, visa_tap: true });
    assert_eq!(a.key.as_ref().unwrap().names().nth(1), Some("tap-7"));
    assert_eq!(a.origin.as_ref().unwrap().as_str(), "https://agent.example");
    assert_eq!(a.account, Some(AccountId([15; 16])));
    assert_eq!((a.per_minute.unwrap().get(), a.concurrent.unwrap().get()), (3, 2));
    assert_eq!(b.profiles, Profiles { web_bot_auth: true, visa_tap: true });
    assert!(b.key.is_none());
    assert!(identity.blocked.contains(X) && identity.blocked.contains("https://bad.example"));
    assert!(identity.blocked.contains(&format!("0x{}", "ab".repeat(20))), "however it is written");
    for (text, expected) in [
        ("off", RouteIdentity::Off),
        ("require", RouteIdentity::Require),
        ("{ require: any }", RouteIdentity::Require),
        ("{ require: payer }", RouteIdentity::RequirePayer),
    ] {
        let config = check(&file("identity:", &format!(", identity: {text}"))).unwrap();
        assert_eq!(config.routes[0].identity, expected, "{text}");
    }
}

#[test]
fn what_cannot_be_is_said() {
    let agent = |entry: &str| format!("identity: {{ keyring: [{{ name: a, {entry} }}] }}");
    let small_order = "A".repeat(43);
    for (identity, route, finding) in [
        ("identity: { window: 25h }".to_owned(), "", "24h at most"),
        ("identity: { nonce: never }".to_owned(), "", "neither required nor optional"),
        ("identity: { block: [x] }".to_owned(), "", "neither the thumbprint"),
        (agent("profiles: web-bot-auth"), "", "a public key, or"),
        (agent("x: abc"), "", "43 characters"),
        (agent(&format!("x: {small_order}")), "", "nobody should hold"),
        (agent("origin: \"http://a.example\""), "", "is no origin"),
        (agent("keyid: k, origin: \"https://a.example\""), "", "another name of the key"),
        (agent(&format!("x: {X}, account: 12")), "", "32 hex digits"),
        (agent(&format!("x: {X}, profiles: [tap]")), "", "neither web-bot-auth nor visa-tap"),
        (
            format!("identity: {{ keyring: [{{ name: a, x: {X} }}, {{ name: b, x: {X} }}] }}"),
            "",
            "is the same agent",
        ),
        (format!("mode: live\n{}", agent(&format!("x: {PUBLISHED}"))), "", "anyone holds the private half"),
        (String::new(), ", identity: observe", "there is no section \"identity\""),
        ("identity:".to_owned(), ", identity: maybe", "none of off, observe, require"),
        ("identity:".to_owned(), ", identity: { require: browser }", "neither payer nor any"),
    ] {
        let errors = check(&file(&identity, route)).unwrap_err().to_string();
        assert!(errors.contains(finding), "{identity} {route}: {errors}");
    }
}
