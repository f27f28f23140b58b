//! Ids and digests: the same bytes for the same parameters.

use mpp::protocol::core::compute_challenge_id_with_header;
use mpp::{Base64UrlJson, PaymentChallenge, body_digest};
use proof::mpp::ChallengeKey;
use proptest::prelude::*;
use serde_json::Value;
use wire::mpp::challenge::encode_object;
use wire::mpp::{Challenge, digest};

use crate::{SECRET, given, ours, theirs};

fn key() -> ChallengeKey {
    ChallengeKey::shared(SECRET.as_bytes()).unwrap()
}

proptest! {
    /// Seven slots without a field, eight with one.
    #[test]
    fn ids_are_equal(challenge in given::challenge()) {
        let id = compute_challenge_id_with_header(
            SECRET,
            &challenge.realm,
            &challenge.method,
            &challenge.intent,
            &challenge.request,
            challenge.expires.as_deref(),
            challenge.digest.as_deref(),
            challenge.opaque.as_deref(),
            challenge.header.as_deref(),
        );
        prop_assert_eq!(key().id(challenge.parts()), id);
        let slots = if challenge.header.is_some() { 8 } else { 7 };
        prop_assert_eq!(challenge.slots().split('|').count(), slots);
        let bound = Challenge { id: key().id(challenge.parts()), ..challenge };
        prop_assert!(theirs(&bound).verify(SECRET));
    }

    /// A challenge that they bound is verified here, and an altered one by neither.
    #[test]
    fn their_ids_verify(challenge in given::challenge(), other in given::challenge()) {
        let mut bound = theirs(&challenge);
        bound.id = key().id(challenge.parts());
        prop_assert!(key().verify(&ours(&bound)));
        let altered = PaymentChallenge { id: bound.id.clone(), ..theirs(&other) };
        prop_assert_eq!(key().verify(&ours(&altered)), altered.verify(SECRET));
    }

    /// The canonical form is the same, whatever the object: numbers, letters beyond ASCII, order of members.
    #[test]
    fn canonical_texts_are_equal(object in given::object()) {
        let value = Value::Object(object.clone());
        let encoded = Base64UrlJson::from_value(&value).unwrap();
        prop_assert_eq!(encode_object(&object), encoded.raw());
    }

    #[test]
    fn digests_are_equal(body in proptest::collection::vec(any::<u8>(), 0..100), changes in given::changes()) {
        let text = digest::of(&body);
        prop_assert_eq!(&text, &body_digest::compute(&body));
        for text in [text.clone(), format!("sha-256=:{}:", text.trim_start_matches("sha-256="))] {
            let changed = given::changed(&text, &changes);
            for text in [text, changed] {
                // Theirs takes any number of `=` before the last colon; ours takes the right one, or none.
                let padded = text.matches('=').count() > 2 || text.ends_with("=:") && text.matches('=').count() != 2;
                if !padded {
                    prop_assert_eq!(digest::matches(&text, &body), body_digest::verify(&text, &body), "{}", text);
                }
            }
        }
    }
}
