//! What another implementation sealed is opened, and the reverse; what was altered is not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secp256k1::Keypair;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wire::hex;

use super::super::nip44;
use super::{Scheme, Seal};

const SCHEMES: [Scheme; 2] = [Scheme::Nip44, Scheme::Nip04];

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../../../specs/vectors/l402/nwc.json")).unwrap()
}

/// Test keys.
fn pair() -> (Seal, Seal) {
    let [ours, theirs] = [[7; 32], [8; 32]].map(|secret| Keypair::from_secret_bytes(secret).unwrap());
    let seal = |one: &Keypair, other: &Keypair| Seal::new(one, other.x_only_public_key().0).unwrap();
    (seal(&ours, &theirs), seal(&theirs, &ours))
}

#[test]
fn nip44_of_others_is_opened_and_sealed_alike() {
    let vectors = vectors();
    let (ours, theirs) = pair();
    assert_eq!(hex::encode(&*ours.conversation), vectors["conversation_key"].as_str().unwrap());
    for vector in vectors["nip44"].as_array().unwrap() {
        let times = vector["times"].as_u64().unwrap_or(1).try_into().unwrap();
        let text = vector["text"].as_str().unwrap().repeat(times);
        let nonce = hex::decode_array(vector["nonce"].as_str().unwrap()).unwrap();
        let sealed = nip44::seal(&ours.conversation, &nonce, &text).unwrap();
        match vector["payload"].as_str() {
            Some(payload) => assert_eq!(sealed, payload),
            None => {
                assert_eq!(hex::encode(&Sha256::digest(&sealed)), vector["payload_sha256"].as_str().unwrap())
            }
        }
        assert_eq!(*theirs.open(Scheme::Nip44, &sealed).unwrap(), text);
    }
}

#[test]
fn nip04_of_others_is_opened() {
    let (_, theirs) = pair();
    for vector in vectors()["nip04"].as_array().unwrap() {
        let opened = theirs.open(Scheme::Nip04, vector["payload"].as_str().unwrap()).unwrap();
        assert_eq!(*opened, vector["text"].as_str().unwrap());
    }
}

#[test]
fn both_ways_and_never_twice_the_same() {
    let (ours, theirs) = pair();
    for scheme in SCHEMES {
        for text in ["a", "{\"method\":\"get_info\"}", &"é".repeat(5000)] {
            let sealed = ours.seal(scheme, text).unwrap();
            assert_eq!(*theirs.open(scheme, &sealed).unwrap(), text);
            assert_eq!(*ours.open(scheme, &sealed).unwrap(), text);
            assert_ne!(ours.seal(scheme, text).unwrap(), sealed);
        }
    }
    assert_eq!(ours.seal(Scheme::Nip44, ""), None);
    assert_eq!(ours.seal(Scheme::Nip44, &"x".repeat(65_536)), None);
}

/// Every byte of it counts: version, nonce, text, MAC.
#[test]
fn nip44_that_was_altered_is_not_opened() {
    let (ours, theirs) = pair();
    let sealed = STANDARD.decode(ours.seal(Scheme::Nip44, "pay nobody").unwrap()).unwrap();
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        assert_eq!(theirs.open(Scheme::Nip44, &STANDARD.encode(altered)), None, "byte {at}");
    }
    for length in [0, 1, 65, 98, sealed.len() - 1] {
        assert_eq!(theirs.open(Scheme::Nip44, &STANDARD.encode(&sealed[..length])), None, "{length} bytes");
    }
}

#[test]
fn what_is_nothing_of_ours_is_not_opened() {
    let (_, theirs) = pair();
    let stranger = Keypair::from_secret_bytes([9; 32]).unwrap();
    let foreign =
        Seal::new(&stranger, Keypair::from_secret_bytes([8; 32]).unwrap().x_only_public_key().0).unwrap();
    let sealed = foreign.seal(Scheme::Nip44, "{}").unwrap();
    assert_eq!(theirs.open(Scheme::Nip44, &sealed), None);
    for payload in ["", "#", "AA==", "?iv=", "AAAA?iv=AAAA", "not base64", &"A".repeat(90_000)] {
        for scheme in SCHEMES {
            assert_eq!(theirs.open(scheme, payload), None, "{scheme:?} {payload:.20}");
        }
    }
}

#[test]
fn the_better_scheme_is_taken() {
    for (tag, expected) in [
        (None, Some(Scheme::Nip04)),
        (Some("nip44_v2 nip04"), Some(Scheme::Nip44)),
        (Some("nip04 nip44_v2"), Some(Scheme::Nip44)),
        (Some("nip04"), Some(Scheme::Nip04)),
        (Some("nip44_v3"), None),
        (Some(""), None),
    ] {
        assert_eq!(Scheme::of_tag(tag), expected, "{tag:?}");
    }
}
