use proptest::prelude::*;
use serde_json::{Value, json};

use super::{cases, challenge, object, vectors};
use crate::mpp::challenge::{
    RequestError, TEXT_BYTES_MAX, TEXT_BYTES_SENT_MAX, decode_object, encode_object,
};
use crate::mpp::offered::{LINES_MAX, OFFERS_MAX};
use crate::mpp::{Challenge, ChallengeError as E, challenges};
use crate::{base64, hex};

fn read(line: &str) -> Vec<Challenge> {
    challenges([line.as_bytes()])
}

/// The members of a challenge as mppx shows it: with its request as an object, and `opaque` as the text it is.
fn shown(challenge: &Challenge) -> Value {
    let mut members = challenge.to_object();
    members.insert("request".into(), challenge.request_object().unwrap().into());
    Value::Object(members)
}

/// What `challenge-binding.json` calls input.
pub(super) fn of_input(input: &Value, id: &str) -> Challenge {
    let text = |name: &str| input.get(name).map(|text| text.as_str().unwrap().to_owned());
    Challenge {
        id: id.to_owned(),
        realm: text("realm").unwrap(),
        method: text("method").unwrap(),
        intent: text("intent").unwrap(),
        request: encode_object(&object(&input["request"])),
        expires: text("expires"),
        digest: text("digest"),
        opaque: input.get("meta").map(|meta| encode_object(&object(meta))),
        description: text("description"),
        header: text("header"),
    }
}

/// MPP-1, MPP-2: the bytes of mppx, but for the realm that two challenges could share an id with.
#[test]
fn mpp_1_challenges_are_written_as_mppx_writes_them() {
    let file = vectors!("challenge-binding");
    for case in cases(&file, 15) {
        let name = case["name"].as_str().unwrap();
        let challenge = of_input(&case["input"], case["id"].as_str().unwrap());
        assert_eq!(challenge.request, case["request_b64url"], "{name}");
        assert_eq!(challenge.opaque.as_deref(), case["opaque_b64url"].as_str(), "{name}");
        assert_eq!(challenge.slots(), case["hmac_input"], "{name}");
        let line = case["www_authenticate"].as_str().unwrap();
        if name.starts_with("pipe") {
            assert_eq!(challenge.to_value(), Err(E::Character("realm")), "MPP-2 {name}");
        } else {
            assert_eq!(challenge.to_value().unwrap(), line, "{name}");
        }
        assert_eq!(read(line), [challenge], "{name}");
    }
}

#[test]
fn mpp_6_headers_of_mppx() {
    let file = vectors!("www-authenticate-parse");
    let mut accepted = 0;
    for case in cases(&file, 29) {
        let name = case["name"].as_str().unwrap();
        let line = match case.get("value_note") {
            None => case["value"].as_str().unwrap().to_owned(),
            Some(note) => {
                assert_eq!(note, "request param of 17*1024 \"A\"");
                let request = "A".repeat(17 * 1024);
                format!(r#"Payment id="x", realm="r", method="m", intent="charge", request="{request}""#)
            }
        };
        let found: Vec<Value> = read(&line).iter().map(shown).collect();
        let expected = case.get("challenges").and_then(Value::as_array).cloned().unwrap_or_default();
        assert_eq!(case["ok"], !expected.is_empty(), "{name}");
        assert_eq!(found, expected, "{name}");
        accepted += usize::from(!found.is_empty());
    }
    assert_eq!(accepted, 16);
}

#[test]
fn mpp_6_one_bad_challenge_hides_no_other() {
    let good = challenge().to_value().unwrap();
    for (what, bad) in [
        ("twice the same parameter", good.replace("id=", "realm=\"x\", id=")),
        ("twice, in another letter case", good.replace("id=", "REALM=\"x\", id=")),
        ("no realm", good.replace("realm=", "rea1m=")),
        ("empty id", good.replace("id=\"aWQ\"", "id=\"\"")),
        ("method in upper case", good.replace("lightning", "Lightning")),
        ("method that starts with a digit", good.replace("lightning", "1ightning")),
        ("intent with a space", good.replace("\"charge\"", "\"char ge\"")),
        ("request that is no base64url", good.replace("request=\"", "request=\"+")),
        ("request with a line break", good.replace("request=\"", "request=\"\n")),
        ("expires that is no time", good.replace("2026-12-01T", "2026-12-01 ")),
        ("digest of another kind", good.clone() + ", digest=\"md5=AAAA\""),
        ("opaque that is no base64url", good.clone() + ", opaque=\"a|b\""),
        ("a field that we would not write", good.clone() + ", header=\"Cookie\""),
    ] {
        assert_eq!(read(&bad), [], "{what}");
        for (count, joined) in [
            (1, format!("{bad}, {good}")),
            (1, format!("{good}, {bad}")),
            (2, format!("{good},{bad},{good}")),
        ] {
            assert_eq!(read(&joined), vec![challenge(); count], "{what}: {joined}");
        }
    }
    // A quote that never closes takes the rest of its line with it, and no other line.
    let cut_off = good.trim_end_matches('"');
    let lines = [cut_off, good.as_str(), "L402 macaroon=\"AA\", invoice=\"lnbc1\""];
    assert_eq!(challenges(lines.map(str::as_bytes)), [challenge()]);
}

/// A realm may be empty, a header may name the field that is meant anyway.
#[test]
fn what_is_odd_and_harmless_is_read() {
    let good = challenge().to_value().unwrap();
    let odd = good.replace("gw.example:8402", "") + ", header=\"authorization\", opaque=\"\"";
    let [read] = <[Challenge; 1]>::try_from(read(&odd)).unwrap();
    assert_eq!((read.realm.as_str(), read.alternate_field()), ("", None));
    assert!(!read.wants_payment_authorization());
}

#[test]
fn what_is_looked_into_is_bounded() {
    let good = challenge().to_value().unwrap();
    let many = vec![good.as_bytes(); LINES_MAX + 1];
    assert_eq!(challenges(many).len(), LINES_MAX);
    let joined = vec![good.as_str(); OFFERS_MAX + 1].join(", ");
    assert_eq!(challenges([joined.as_bytes()]).len(), OFFERS_MAX);
    let long = format!("{good}, x=\"{}\"", "a".repeat(32 * 1024));
    assert_eq!(challenges([long.as_bytes(), good.as_bytes()]).len(), 1);
}

#[test]
fn mpp_1_and_2_what_is_not_sent() {
    let with = |change: &dyn Fn(&mut Challenge)| {
        let mut challenge = challenge();
        change(&mut challenge);
        challenge.to_value().map(|_| ())
    };
    let text = |length: usize| "A".repeat(length);
    let fits = TEXT_BYTES_SENT_MAX - challenge().request.len();
    for (what, result, expected) in [
        ("as it is", with(&|_| {}), Ok(())),
        ("no id", with(&|c| c.id.clear()), Err(E::Empty("id"))),
        ("no realm", with(&|c| c.realm.clear()), Err(E::Empty("realm"))),
        ("no request", with(&|c| c.request.clear()), Err(E::Empty("request"))),
        ("MPP-2 realm", with(&|c| c.realm = "a|b".into()), Err(E::Character("realm"))),
        ("MPP-2 method", with(&|c| c.method = "a|b".into()), Err(E::Character("method"))),
        ("MPP-2 intent", with(&|c| c.intent = "a|b".into()), Err(E::Character("intent"))),
        ("MPP-2 request", with(&|c| c.request = "a|b".into()), Err(E::Character("request"))),
        ("MPP-2 expires", with(&|c| c.expires = Some("a|b".into())), Err(E::Character("expires"))),
        ("MPP-2 digest", with(&|c| c.digest = Some("a|b".into())), Err(E::Character("digest"))),
        ("MPP-2 header", with(&|c| c.header = Some("a|b".into())), Err(E::Character("header"))),
        ("MPP-2 opaque", with(&|c| c.opaque = Some("a|b".into())), Err(E::Character("opaque"))),
        ("MPP-1 line break", with(&|c| c.realm = "a\r\nb".into()), Err(E::Character("realm"))),
        ("MPP-1 not ASCII", with(&|c| c.realm = "é".into()), Err(E::Character("realm"))),
        ("MPP-1 upper case", with(&|c| c.method = "Lightning".into()), Err(E::Character("method"))),
        ("padding", with(&|c| c.request.push('=')), Err(E::Character("request"))),
        ("just fits", with(&|c| c.opaque = Some(text(fits))), Ok(())),
        ("too long", with(&|c| c.opaque = Some(text(fits + 1))), Err(E::TooLong(TEXT_BYTES_SENT_MAX + 1))),
    ] {
        assert_eq!(result, expected, "{what}");
    }
}

#[test]
fn objects_in_a_challenge() {
    let nested = |depth: usize| {
        let text = "{\"a\":".repeat(depth - 1) + "{}" + &"}".repeat(depth - 1);
        base64::encode_url(text.as_bytes())
    };
    let object = json!({"b": "2", "a": {"c": [1, "é"]}});
    let text = encode_object(object.as_object().unwrap());
    assert_eq!(text, base64::encode_url(r#"{"a":{"c":[1,"é"]},"b":"2"}"#.as_bytes()));
    assert_eq!(Value::from(decode_object(&text).unwrap()), object);
    for (what, text, expected) in [
        ("padded", text.clone() + "=", Err(RequestError::Base64)), // this length has no padding
        ("standard alphabet", "e30/".into(), Err(RequestError::Base64)),
        ("array", base64::encode_url(b"[]"), Err(RequestError::NoObject)),
        ("depth limit", nested(16), Ok(())),
        ("beyond", nested(17), Err(RequestError::Json(crate::json::JsonError::TooDeep))),
        (
            "key twice",
            base64::encode_url(br#"{"a":1,"a":2}"#),
            Err(RequestError::Json(crate::json::JsonError::DuplicateKey)),
        ),
        ("too long", "A".repeat(TEXT_BYTES_MAX + 1), Err(RequestError::TooLong(TEXT_BYTES_MAX + 1))),
        ("empty", String::new(), Err(RequestError::Json(crate::json::JsonError::Syntax))),
    ] {
        assert_eq!(decode_object(&text).map(|_| ()), expected, "{what}");
    }
    assert_eq!(decode_object("e30=").map(|object| object.len()), Ok(0));
}

#[test]
fn when_it_ends() {
    let at =
        |expires: Option<&str>| Challenge { expires: expires.map(Into::into), ..challenge() }.expires_at_s();
    assert_eq!(at(Some("2026-12-01T00:00:00.999Z")), Some(1_796_083_200));
    assert_eq!(at(Some("2026-12-01T01:00:00+01:00")), Some(1_796_083_200));
    assert_eq!((at(Some("tomorrow")), at(None)), (None, None));
}

/// A challenge that can be sent.
fn sendable() -> impl Strategy<Value = Challenge> {
    let text = |pattern: &str| proptest::string::string_regex(pattern).unwrap();
    let optional = |pattern: &str| proptest::option::of(proptest::string::string_regex(pattern).unwrap());
    let object = proptest::collection::btree_map(".{0,8}", ".{0,12}", 0..4);
    (
        (
            text("[A-Za-z0-9_-]{1,43}"),
            text("[ -{}~]{1,20}"),
            text("[a-z][a-z0-9:_-]{0,9}"),
            text("[A-Za-z0-9-]{1,9}"),
            object,
        ),
        (
            0u64..4_000_000_000,
            optional("[A-Za-z0-9+/]{43}="),
            optional("[A-Za-z0-9_-]{4}"),
            optional(".{0,20}"),
            any::<bool>(),
        ),
    )
        .prop_map(
            |((id, realm, method, intent, request), (expires, digest, opaque, description, alternate))| {
                let request = request.into_iter().map(|(name, text)| (name, text.into())).collect();
                Challenge {
                    id,
                    expires: crate::rfc3339::format(expires),
                    digest: digest.map(|digest| format!("sha-256={digest}")),
                    opaque,
                    description,
                    header: alternate.then(|| "Payment-Authorization".into()),
                    ..Challenge::new(&realm, &method, &intent, &request)
                }
            },
        )
}

proptest! {
    #[test]
    fn what_is_sent_is_read(challenge in sendable(), other in sendable()) {
        let (line, next) = (challenge.to_value().unwrap(), other.to_value().unwrap());
        prop_assert!(line.is_ascii());
        let expected = [challenge, other];
        prop_assert_eq!(&read(&format!("{line}, {next}"))[..], &expected[..]);
        prop_assert_eq!(&challenges([line.as_bytes(), b"L402 x", next.as_bytes()])[..], &expected[..]);
    }

    #[test]
    fn any_bytes_are_challenges_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = challenges([bytes.as_slice()]);
    }

    /// Whatever is done to one challenge, the next line stands.
    #[test]
    fn a_changed_byte_touches_its_own_line_only(challenge in sendable(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut line = challenge.to_value().unwrap().into_bytes();
        let at = at.index(line.len());
        line[at] = byte;
        let last = super::challenge();
        let found = challenges([line.as_slice(), last.to_value().unwrap().as_bytes()]);
        prop_assert_eq!(found.last(), Some(&last), "{}", hex::encode(&line));
    }
}
