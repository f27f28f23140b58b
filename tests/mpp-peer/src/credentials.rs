//! Credentials, in both fields.

use mpp::{format_authorization, parse_authorization};
use proof::mpp::ChallengeKey;
use proptest::prelude::*;
use serde_json::Value;
use wire::base64;
use wire::mpp::{Challenge, Credential, Field};

use crate::{SECRET, credential, echoed, given, read};

/// Bound with the secret that both have.
fn bound(credential: Credential) -> Credential {
    let key = ChallengeKey::shared(SECRET.as_bytes()).unwrap();
    let id = key.id(credential.challenge.parts());
    Credential { challenge: Challenge { id, ..credential.challenge }, ..credential }
}

/// Challenge, source and payload, if we take it and its id is right.
fn our_reading(field: Field, line: &str) -> Option<(Challenge, Option<String>, Value)> {
    let key = ChallengeKey::shared(SECRET.as_bytes()).unwrap();
    let read = read(field, line).filter(|credential| key.verify(&credential.challenge))?;
    Some((read.challenge, read.source, Value::Object(read.payload)))
}

fn their_reading(line: &str) -> Option<(Challenge, Option<String>, Value)> {
    let read = parse_authorization(line).ok()?;
    let challenge = echoed(&read.challenge);
    let key = ChallengeKey::shared(SECRET.as_bytes()).unwrap();
    (key.id(challenge.parts()) == challenge.id).then_some((challenge, read.source, read.payload))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn they_read_what_we_write(given in given::credential()) {
        let line = given.to_value();
        let read = parse_authorization(&line).unwrap();
        prop_assert_eq!(echoed(&read.challenge), given.challenge);
        prop_assert_eq!((read.source, read.payload), (given.source, Value::Object(given.payload)));
        let in_a_list = format!("Bearer sk-1, {line}");
        prop_assert!(parse_authorization(&in_a_list).is_ok());
    }

    #[test]
    fn we_read_what_they_write(given in given::credential()) {
        let line = format_authorization(&credential(&given)).unwrap();
        prop_assert_eq!(read(given.field, &line), Some(given.clone()));
        prop_assert_eq!(read(given.field, &format!("Bearer sk-1, {line}")), Some(given));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// The text of the header is changed.
    #[test]
    fn a_changed_line_is_taken_by_both_or_by_none(given in given::credential(), changes in given::changes()) {
        let given = bound(given);
        let line = given::changed(&given.to_value(), &changes);
        let (our, their) = (our_reading(given.field, &line), their_reading(&line));
        // Theirs takes the standard alphabet too, `=` wherever it stands, a key twice, and the first of two credentials.
        let text = line.split([' ', '\t']).next_back().unwrap_or_default();
        let is_strict = base64::decode_url(text, 1 << 16).is_ok_and(|json| wire::json::parse_strict(&json).is_err());
        let is_loose = is_strict || line.contains(['+', '/', '=']) || line.matches("ayment").count() > 1;
        prop_assert!(our == their || (our.is_none() && is_loose), "{line}\n{our:?}\n{their:?}");
    }

    /// The JSON inside is changed.
    #[test]
    fn changed_json_is_taken_by_both_or_by_none(given in given::credential(), changes in given::changes()) {
        let given = bound(given);
        let text = given.to_value();
        let json = base64::decode_url(text.trim_start_matches("Payment "), 1 << 16).unwrap();
        let json = given::changed(&String::from_utf8(json).unwrap(), &changes);
        let line = format!("Payment {}", base64::encode_url(json.as_bytes()));
        let (our, their) = (our_reading(given.field, &line), their_reading(&line));
        // Ours reads no key twice, also where the struct that is read into has no such member.
        let is_strict = our.is_none() && wire::json::parse_strict(json.as_bytes()).is_err();
        // Theirs takes `null` for what may be absent, an empty realm, members that it does not read, and any payload.
        let is_odd = |value: serde_json::Value| {
            !value["payload"].is_object() || value["challenge"].get("description").is_some_and(|text| !text.is_string())
        };
        let is_member = our.is_none() && their.as_ref().is_some_and(|_| json.contains("null") || json.contains("\"\""))
            || our.is_none() && wire::json::parse_strict(json.as_bytes()).is_ok_and(is_odd);
        prop_assert!(our == their || is_strict || is_member, "{json}\n{our:?}\n{their:?}");
    }
}
