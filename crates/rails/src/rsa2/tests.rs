//! Keys as Alipay gives them, and signatures of its official SDK.

use serde_json::Value;
use wire::base64;

use super::{KeyError as E, SigningKey, VerifyingKey};

fn keys() -> Value {
    serde_json::from_str(include_str!("../../../../specs/vectors/rails/alipay_keys.json")).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn pem(label: &str, base64: &str) -> String {
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The bare base64 of a PEM file.
fn bare(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

/// PKCS#1 of a PKCS#8 key: what stands in its octet string, behind 26 bytes of head at this size.
fn pkcs1(pkcs8: &str) -> String {
    base64::encode_std(&base64::decode_std(pkcs8).unwrap()[26..])
}

#[test]
fn rail_19_keys_are_read_in_every_form_and_never_shown() {
    let keys = keys();
    let app = &keys["alipay_app"];
    let (private, public) = (text(app, "private_pkcs8_der_b64"), text(app, "public_spki_pem"));
    let key = SigningKey::read(private).unwrap();
    let other = VerifyingKey::read(public).unwrap();
    assert_eq!(key.verifying(), other);
    for form in [
        private.to_owned(),
        format!("\n{private}\r\n"),
        pem("PRIVATE KEY", private),
        pkcs1(private),
        pem("RSA PRIVATE KEY", &pkcs1(private)),
    ] {
        let read = SigningKey::read(&form).unwrap();
        assert_eq!(read.verifying(), other);
        assert_eq!(format!("{read:?}"), "SigningKey(RSA, 256 bytes, hidden)");
        assert_eq!(VerifyingKey::read(&form), Err(E::Private));
    }
    let inner = base64::encode_std(&base64::decode_std(&bare(public)).unwrap()[24..]);
    for form in [public.to_owned(), bare(public), inner.clone(), pem("RSA PUBLIC KEY", &inner)] {
        assert_eq!(VerifyingKey::read(&form).unwrap(), other);
        assert_eq!(SigningKey::read(&form).map(|_| ()), Err(E::Public));
    }
}

#[test]
fn rail_19_what_is_no_key_of_this_size_is_refused() {
    // A modulus of so many bytes, all of them ones, and the usual exponent.
    let public = |bytes: u8| {
        let modulus = [vec![2, 0x81, bytes + 1, 0], vec![0xff; usize::from(bytes)]].concat();
        let body = [modulus, vec![2, 3, 1, 0, 1]].concat();
        let length = u8::try_from(body.len()).unwrap();
        base64::encode_std(&[vec![0x30, 0x81, length], body].concat())
    };
    for (form, expected) in [
        (public(128), E::Bits(1024)),
        (public(200), E::Bits(1600)),
        (String::new(), E::Form),
        ("MIIB".into(), E::Form),
        ("not base64!".into(), E::Text),
        ("-----BEGIN PUBLIC KEY-----".into(), E::Text),
        ("A".repeat(16 * 1024 + 4), E::Text),
    ] {
        assert_eq!(VerifyingKey::read(&form), Err(expected), "{form:.40}");
    }
    let key = text(&keys()["alipay_app"], "private_pkcs8_der_b64").to_owned();
    for length in (0..key.len()).step_by(4) {
        assert!(SigningKey::read(&key[..length]).is_err(), "cut at {length}");
    }
}

/// PKCS#1 v1.5 is deterministic: what the official SDK has signed is what we sign.
#[test]
fn alipay_1_signatures_are_those_of_the_sdk() {
    let keys = keys();
    let key = SigningKey::read(text(&keys["alipay_app"], "private_pkcs8_der_b64")).unwrap();
    let file: Value =
        serde_json::from_str(include_str!("../../../../specs/vectors/rails/alipay_openapi_v2_request.json"))
            .unwrap();
    for case in file["cases"].as_array().unwrap() {
        let (signed, sign) = (text(case, "string_to_sign"), text(case, "sign"));
        assert_eq!(key.sign(signed).as_deref(), Some(sign));
        assert!(key.verifying().verifies(signed, sign));
        assert!(!key.verifying().verifies(&format!("{signed} "), sign));
        for wrong in ["", "====", &sign[4..], &sign.replace('=', ""), &format!("{sign}\n")] {
            assert!(!key.verifying().verifies(signed, wrong), "{wrong}");
        }
    }
}
