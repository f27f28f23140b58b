//! Directories by hand: whose key counts, and whose does not (IDN-16).

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use wire::{base64, content_digest};

use super::{DirectoryError as E, KEYS_MAX, Published, Response, Unsigned, keys, publish};
use crate::ed25519::thumbprint;

const NOW: u64 = 1_800_000_000;
const AUTHORITY: &str = "agent.example";

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn name(seed: u8) -> String {
    thumbprint(&signer(seed).verifying_key().to_bytes())
}

fn published(seeds: &[u8]) -> Published {
    let signers: Vec<SigningKey> = seeds.iter().map(|seed| signer(*seed)).collect();
    publish(&signers.iter().collect::<Vec<_>>(), AUTHORITY, NOW, NOW + 300).unwrap()
}

fn read_as(
    published: &Published,
    authority: &str,
    digests: &[&[u8]],
    unsigned: Unsigned,
    now_s: u64,
) -> Result<Vec<String>, E> {
    let response = Response {
        authority,
        inputs: &[published.input.as_bytes()],
        signatures: &[published.signature.as_bytes()],
        digests,
        body: published.body.as_bytes(),
    };
    Ok(keys(&response, unsigned, now_s)?
        .into_iter()
        .map(|listed| listed.key.thumbprint().to_owned())
        .collect())
}

fn read(published: &Published) -> Result<Vec<String>, E> {
    read_as(published, AUTHORITY, &[], Unsigned::Refuse, NOW)
}

/// The same directory with another document under its signatures.
fn with_keys(published: &Published, keys: Value) -> Published {
    Published { body: json!({ "keys": keys }).to_string(), ..published.clone() }
}

fn jwk(seed: u8) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": base64::encode_url(&signer(seed).verifying_key().to_bytes())})
}

#[test]
fn idn_16_keys_count_that_have_signed_their_directory() {
    assert_eq!(read(&published(&[1])), Ok(vec![name(1)]));
    assert_eq!(read(&published(&[1, 2, 3])), Ok(vec![name(1), name(2), name(3)]));
    // A stranger's key that is listed beside: only who has it could have signed.
    let both = with_keys(&published(&[1]), json!([jwk(1), jwk(2)]));
    assert_eq!(read(&both), Ok(vec![name(1)]));
    let stolen = with_keys(&published(&[1]), json!([jwk(2)]));
    assert_eq!(read(&stolen), Err(E::Unsigned), "signed by another key");
    assert_eq!(read(&with_keys(&published(&[1]), json!([]))), Ok(Vec::new()), "no keys any more");
    for (what, authority, now_s, expected) in [
        ("as it was made", AUTHORITY, NOW, Ok(vec![name(1)])),
        ("its last second", AUTHORITY, NOW + 299, Ok(vec![name(1)])),
        ("expired", AUTHORITY, NOW + 300, Err(E::Unsigned)),
        ("our clock is behind", AUTHORITY, NOW - 30, Ok(vec![name(1)])),
        ("not valid yet", AUTHORITY, NOW - 31, Err(E::Unsigned)),
        ("served by another host", "evil.example", NOW, Err(E::Unsigned)),
        ("on another port", "agent.example:8443", NOW, Err(E::Unsigned)),
    ] {
        assert_eq!(read_as(&published(&[1]), authority, &[], Unsigned::Refuse, now_s), expected, "{what}");
    }
    let long = publish(&[&signer(1)], AUTHORITY, NOW, NOW + 86_401).unwrap();
    assert_eq!(read(&long), Err(E::Unsigned), "valid for longer than a day");
}

#[test]
fn idn_16_a_signature_for_something_else_does_not_count() {
    let good = published(&[1]);
    for (what, from, to) in [
        ("a request's tag", "http-message-signatures-directory", "web-bot-auth"),
        ("another algorithm", "ed25519", "rsa-pss-sha512"),
        ("another time", &format!("created={NOW}"), &format!("created={}", NOW + 1)),
        ("nothing of whom was asked", "\"@authority\";req", ""),
        ("of no response", "\"@authority\";req", "\"@authority\""),
        ("another name", &name(1), &name(2)),
    ] {
        let changed = Published { input: good.input.replace(from, to), ..good.clone() };
        assert_ne!(changed, good, "{what}");
        assert_eq!(read(&changed), Err(E::Unsigned), "{what}");
    }
    let bare = Published { input: String::new(), signature: String::new(), ..good.clone() };
    assert!(matches!(read(&bare), Err(E::Signatures(_))));
    assert_eq!(
        read_as(&bare, AUTHORITY, &[], Unsigned::Accept, NOW),
        Ok(vec![name(1)]),
        "where that is configured"
    );
}

/// IDN-12
#[test]
fn a_digest_must_be_that_of_the_document() {
    let good = published(&[1]);
    let own = content_digest::of(good.body.as_bytes());
    let other = content_digest::of(b"{}");
    for (digests, expected) in [
        (vec![own.as_bytes()], Ok(vec![name(1)])),
        (vec![other.as_bytes()], Err(E::Digest)),
        (vec![own.as_bytes(), other.as_bytes()], Err(E::Digest)),
        (vec![b"\xff".as_slice()], Err(E::Digest)),
    ] {
        assert_eq!(read_as(&good, AUTHORITY, &digests, Unsigned::Refuse, NOW), expected);
    }
}

#[test]
fn what_is_no_set_of_keys_is_refused_and_keys_that_are_not_ours_are_passed_over() {
    let with = |name: &str, value: Value| {
        let mut jwk = jwk(1);
        jwk[name] = value;
        jwk
    };
    let good = published(&[1]);
    let small_order = base64::encode_url(&[0; 32]);
    for (what, jwk) in [
        ("another type", with("kty", json!("RSA"))),
        ("another curve", with("crv", json!("X25519"))),
        ("for encryption", with("use", json!("enc"))),
        ("another algorithm", with("alg", json!("ES256"))),
        ("with its secret", with("d", json!("AAAA"))),
        ("too short", with("x", json!("AAAA"))),
        ("of small order", with("x", json!(small_order))),
        ("a time that is none", with("exp", json!("soon"))),
        ("a time below zero", with("nbf", json!(-1))),
    ] {
        assert_eq!(read(&with_keys(&good, json!([jwk]))), Ok(Vec::new()), "{what}");
    }
    // A wrong name is nobody's: names are computed.
    assert_eq!(read(&with_keys(&good, json!([with("kid", json!(name(2)))]))), Ok(vec![name(1)]));
    assert_eq!(read(&with_keys(&good, json!([jwk(1), jwk(1)]))), Ok(vec![name(1)]), "each once");
    let deep = (0..8).fold(json!(1), |inner, _| json!([inner]));
    for (what, body, expected) in [
        ("no JSON", "{".to_owned(), E::Malformed),
        ("a list", "[]".to_owned(), E::Malformed),
        ("no keys", "{}".to_owned(), E::Malformed),
        ("keys that are none", r#"{"keys": [1]}"#.to_owned(), E::Malformed),
        ("a name twice", r#"{"keys": [], "keys": []}"#.to_owned(), E::Malformed),
        ("too deep", json!({"keys": [], "more": deep}).to_string(), E::Malformed),
        ("too many", json!({"keys": vec![jwk(1); KEYS_MAX + 1]}).to_string(), E::TooManyKeys),
    ] {
        assert_eq!(read(&Published { body, ..good.clone() }), Err(expected), "{what}");
    }
}

#[test]
fn idn_17_a_keys_own_times_are_read_in_seconds_or_milliseconds() {
    let good = published(&[1]);
    let mut timed = jwk(1);
    timed["nbf"] = json!(1_743_465_600_000_u64);
    timed["exp"] = json!(NOW + 10);
    let timed = with_keys(&good, json!([timed]));
    let response = Response {
        authority: AUTHORITY,
        inputs: &[timed.input.as_bytes()],
        signatures: &[timed.signature.as_bytes()],
        digests: &[],
        body: timed.body.as_bytes(),
    };
    let listed = keys(&response, Unsigned::Refuse, NOW).unwrap();
    assert_eq!((listed[0].not_before_s, listed[0].not_after_s), (Some(1_743_465_600), Some(NOW + 10)));
    assert!(listed[0].is_in_force(NOW) && !listed[0].is_in_force(NOW + 10) && !listed[0].is_in_force(1));
}
