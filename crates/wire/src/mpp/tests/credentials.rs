use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{challenge, object};
use crate::base64;
use crate::json::JsonError;
use crate::mpp::credential::{CREDENTIAL_BYTES_MAX, CREDENTIALS_MAX};
use crate::mpp::{Challenge, Credential, CredentialError as E, Field};

fn credential() -> Credential {
    Credential {
        challenge: challenge(),
        source: Some("did:key:z6Mk".into()),
        payload: object(&json!({"preimage": "0707"})),
        field: Field::Authorization,
    }
}

fn read(lines: &[(&str, &str)]) -> Result<Option<Credential>, E> {
    Credential::read(lines.iter().map(|(name, value)| (*name, value.as_bytes())))
}

fn encoded(members: &Value) -> String {
    format!("Payment {}", base64::encode_url(members.to_string().as_bytes()))
}

/// MPP-15: where it may stand.
#[test]
fn mpp_15_places() {
    let value = credential().to_value();
    let other = Credential { payload: Map::new(), ..credential() }.to_value();
    let moved = Credential { field: Field::PaymentAuthorization, ..credential() };
    let (auth, pay) = ("Authorization", "payment-authorization");
    let in_line = |text: &str| text.replace('%', &value);
    let old = "payment ".to_owned() + value.trim_start_matches("Payment ");
    for (what, lines, expected) in [
        ("alone", vec![(auth, value.clone())], Ok(Some(credential()))),
        ("its own field", vec![(pay, value.clone())], Ok(Some(moved))),
        ("lower-case scheme", vec![("AUTHORIZATION", old)], Ok(Some(credential()))),
        ("more spaces", vec![(auth, value.replace(' ', "\t \t") + " ")], Ok(Some(credential()))),
        ("behind a bearer key", vec![(auth, in_line("Bearer sk-1, %"))], Ok(Some(credential()))),
        ("before one, no space", vec![(auth, in_line("%,Bearer sk-1"))], Ok(Some(credential()))),
        ("another line", vec![(auth, "Bearer sk-1".into()), (auth, value.clone())], Ok(Some(credential()))),
        ("twice the same", vec![(auth, value.clone()), (pay, value.clone())], Ok(Some(credential()))),
        (
            "beside a broken one",
            vec![(auth, "Payment !".into()), (auth, value.clone())],
            Ok(Some(credential())),
        ),
        ("MPP-16 two", vec![(auth, in_line(&format!("%, {other}")))], Err(E::Ambiguous)),
        ("MPP-16 two fields", vec![(pay, other.clone()), (auth, value.clone())], Err(E::Ambiguous)),
        ("only in quotes", vec![(auth, in_line("Digest x=\"a, %\""))], Ok(None)),
        ("only in escaped quotes", vec![(auth, in_line("Digest x=\"\\\", %\""))], Ok(None)),
        ("another scheme", vec![(auth, "Bearer abc123".into())], Ok(None)),
        ("another field", vec![("x-payment", value.clone())], Ok(None)),
        ("nothing", vec![], Ok(None)),
    ] {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(read(&lines), expected, "{what}");
    }
    assert_eq!(Credential::read([(auth, &b"Payment \xff"[..])]), Ok(None));
}

/// MPP-15: a challenge that asks for its own field is answered there only; else both will do.
#[test]
fn mpp_15_the_field_that_was_asked_for() {
    let asked = |header: Option<&str>| Credential {
        challenge: Challenge { header: header.map(Into::into), ..challenge() },
        ..credential()
    };
    for (header, field, expected) in [
        (None, "authorization", Ok(true)),
        (None, "payment-authorization", Ok(true)),
        (Some("Authorization"), "payment-authorization", Ok(true)),
        (Some("Payment-Authorization"), "payment-authorization", Ok(true)),
        (Some("Payment-Authorization"), "authorization", Err(E::Field)),
        (Some("payment-authorization"), "authorization", Err(E::Field)),
    ] {
        let value = asked(header).to_value();
        let read = read(&[(field, &value)]).map(|credential| credential.is_some());
        assert_eq!(read, expected, "{header:?} in {field}");
    }
}

/// MPP-13.1 and 13.2.
#[test]
fn mpp_13_shapes() {
    let whole = json!({"challenge": challenge().to_object(), "payload": {"preimage": "07"}});
    let with = |path: &str, value: Value| {
        let mut members = whole.clone();
        *members.pointer_mut(path).unwrap() = value;
        encoded(&members)
    };
    let without = |parent: &str, name: &str| {
        let mut members = whole.clone();
        members.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        encoded(&members)
    };
    let raw = |bytes: &[u8]| format!("Payment {}", base64::encode_url(bytes));
    let mut added = whole.clone();
    added["extra"] = json!([1]);
    added["challenge"]["extra"] = json!({"a": 1});
    let deep = "[".repeat(17) + &"]".repeat(17);
    for (what, value, expected) in [
        ("whole", encoded(&whole), Ok(())),
        ("unknown members", encoded(&added), Ok(())),
        ("padded", encoded(&whole) + "=", Err(E::Base64)),
        ("empty", "Payment ".into(), Err(E::Base64)),
        ("scheme alone", "Payment".into(), Err(E::Base64)),
        ("standard alphabet", "Payment a+b/".into(), Err(E::Base64)),
        ("trailing bits", "Payment AB".into(), Err(E::Base64)),
        ("no JSON", raw(b"{oops}"), Err(E::Json(JsonError::Syntax))),
        ("two documents", raw(b"{} {}"), Err(E::Json(JsonError::Syntax))),
        ("key twice", raw(br#"{"payload":{},"payload":{}}"#), Err(E::Json(JsonError::DuplicateKey))),
        ("too deep", raw(deep.as_bytes()), Err(E::Json(JsonError::TooDeep))),
        ("array", raw(b"[]"), Err(E::Member("object"))),
        ("no challenge", without("", "challenge"), Err(E::Member("challenge"))),
        ("no payload", without("", "payload"), Err(E::Member("payload"))),
        ("payload of another type", with("/payload", json!("07")), Err(E::Member("payload"))),
        ("no id", without("/challenge", "id"), Err(E::Member("id"))),
        ("empty id", with("/challenge/id", json!("")), Err(E::Member("id"))),
        ("no realm", without("/challenge", "realm"), Err(E::Member("realm"))),
        ("method of another type", with("/challenge/method", json!(1)), Err(E::Member("method"))),
        ("request as an object", with("/challenge/request", json!({})), Err(E::Member("request"))),
        ("expires of another type", with("/challenge/expires", json!(null)), Err(E::Member("expires"))),
    ] {
        assert_eq!(read(&[("authorization", &value)]).map(|_| ()), expected, "{what}");
    }
    let mut source = whole;
    source["source"] = json!(7);
    assert_eq!(read(&[("authorization", &encoded(&source))]), Err(E::Member("source")));
}

#[test]
fn what_is_looked_at_is_bounded() {
    let long = format!("Payment {}", "A".repeat(CREDENTIAL_BYTES_MAX + 1));
    assert_eq!(read(&[("authorization", &long)]), Err(E::TooLong(CREDENTIAL_BYTES_MAX + 1)));
    let value = credential().to_value();
    let line = [value.as_str(); CREDENTIALS_MAX].join(", ");
    assert_eq!(read(&[("authorization", &line)]), Ok(Some(credential())));
    assert_eq!(read(&[("authorization", &line), ("authorization", &value)]), Err(E::TooMany));
}

#[test]
fn nothing_secret_is_printed() {
    let shown = format!("{:?}", credential());
    assert_eq!(shown, "Credential(lightning/charge, challenge aWQ, payload hidden)");
}

/// MPP-16: 400 only where it is unclear which one should pay.
#[test]
fn mpp_16_ambiguity() {
    for (error, ambiguous) in [
        (E::Ambiguous, true),
        (E::TooMany, true),
        (E::TooLong(1), false),
        (E::Base64, false),
        (E::Json(JsonError::Syntax), false),
        (E::Member("id"), false),
        (E::Field, false),
    ] {
        assert_eq!(error.is_ambiguous(), ambiguous, "{error}");
        assert!(!error.reason().is_empty());
    }
}

proptest! {
    #[test]
    fn any_line_is_a_credential_or_not(text in "\\PC{0,60}", token in "[A-Za-z0-9_=-]{0,60}") {
        let _ = read(&[("authorization", &text)]);
        let _ = read(&[("authorization", &format!("Payment {token}"))]);
    }

    #[test]
    fn what_is_written_is_read(id in "[A-Za-z0-9_-]{1,43}", opaque in proptest::option::of("\\PC{0,30}"), source in proptest::option::of("\\PC{0,30}"), payload in proptest::collection::btree_map("\\PC{0,8}", "\\PC{0,20}", 0..5)) {
        let credential = Credential {
            challenge: Challenge { id, opaque, ..challenge() },
            source,
            payload: payload.into_iter().map(|(name, text)| (name, text.into())).collect(),
            field: Field::Authorization,
        };
        prop_assert_eq!(read(&[("authorization", &credential.to_value())]), Ok(Some(credential)));
    }
}
