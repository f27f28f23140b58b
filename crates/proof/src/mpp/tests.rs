use proptest::prelude::*;
use serde_json::{Map, Value, json};
use wire::mpp::challenge::encode_object;
use wire::mpp::{Challenge, ChallengeError, Credential, Opaque, challenges, mcp};
use zeroize::Zeroizing;

use super::{BindingError as E, ChallengeKey, ChallengeKeys, LABEL, SecretTooShort};
use crate::epoch::{EpochState as S, MasterKey};
use crate::{mac, third_party_vectors};

const REALM: &str = "gw.example";
const STORE: u64 = 4;

macro_rules! vectors {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("../../../../specs/vectors/mpp/", $name, ".json")))
            .unwrap()
    };
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn key_of(file: &Value, name: &str) -> ChallengeKey {
    ChallengeKey::shared(file[name].as_str().unwrap().as_bytes()).unwrap()
}

fn master(epoch: u16, state: S, byte: u8) -> MasterKey {
    MasterKey { epoch, state, secret: Zeroizing::new([byte; 32]) }
}

fn keys() -> ChallengeKeys {
    ChallengeKeys::new([master(1, S::Retired, 1), master(2, S::Verify, 2), master(3, S::Mint, 3)]).unwrap()
}

fn unbound() -> Challenge {
    let request = object(&json!({"amount": "5", "currency": "sat"}));
    Challenge {
        expires: Some("2026-12-01T00:00:00.000Z".into()),
        ..Challenge::new(REALM, "lightning", "charge", &request)
    }
}

fn opaque() -> Opaque {
    Opaque { store_epoch: STORE, route: "chat".into(), prices: "p1".into(), ..Opaque::default() }
}

fn bound() -> Challenge {
    read(&unbound())
}

/// A challenge once it is bound, as a client reads it.
fn read(unbound: &Challenge) -> Challenge {
    let bound = keys().bind(unbound.parts(), opaque()).unwrap();
    let [read] = <[Challenge; 1]>::try_from(challenges([bound.line.as_bytes()])).unwrap();
    assert_eq!(read.id, bound.id);
    read
}

#[test]
fn ids_of_mppx() {
    let file = vectors!("challenge-binding");
    let key = key_of(&file, "secret");
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 15);
    for case in cases {
        // The realm with the separator in it is read like any other: what we refuse is to send it.
        let [challenge] =
            <[Challenge; 1]>::try_from(challenges([case["www_authenticate"].as_str().unwrap().as_bytes()]))
                .unwrap();
        assert_eq!(challenge.slots(), case["hmac_input"], "{}", case["name"]);
        assert_eq!(key.id(challenge.parts()), case["id"], "{}", case["name"]);
        assert!(key.verify(&challenge), "{}", case["name"]);
    }
}

/// MPP-10: the fourth case shares its id with the third.
#[test]
fn ids_of_aperture() {
    let Some(file) = third_party_vectors::read("mpp/aperture-mpp-vectors") else { return };
    let secret = wire::hex::decode(file["hmacSecretHex"].as_str().unwrap()).unwrap();
    assert_eq!(ChallengeKey::shared(&secret).unwrap_err(), SecretTooShort, "theirs has 22 bytes");
    let mut padded = [0; 32]; // padding with zeros gives the same HMAC key
    padded[..secret.len()].copy_from_slice(&secret);
    let key = ChallengeKey(mac::keyed(&padded));
    let cases = file["challengeIds"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    let mut ids = Vec::new();
    for case in cases {
        let text = |name: &str| case["params"].get(name).map(|text| text.as_str().unwrap().to_owned());
        let challenge = Challenge {
            id: text("id").unwrap(),
            realm: text("realm").unwrap(),
            method: text("method").unwrap(),
            intent: text("intent").unwrap(),
            request: text("request").unwrap(),
            expires: text("expires"),
            digest: text("digest"),
            opaque: text("opaque"),
            ..Challenge::default()
        };
        assert_eq!(challenge.slots(), case["hmacInput"], "{}", case["name"]);
        assert!(key.verify(&challenge), "{}", case["name"]);
        ids.push(challenge);
    }
    assert_eq!(ids[2].id, ids[3].id);
    assert!(matches!(ids[2].to_value(), Err(ChallengeError::Character("realm"))));
    assert!(matches!(ids[3].to_value(), Err(ChallengeError::Character("method"))));
}

/// MPP-7: every challenge that was sent verifies; of the credentials all but the two that were altered.
#[test]
fn exchanges_of_mppx() {
    let file = vectors!("wire-exchanges");
    let key = key_of(&file, "secret_key");
    let (mut sent, mut genuine, mut altered) = (0, 0, Vec::new());
    for exchange in file["exchanges"].as_array().unwrap() {
        if let Some(line) = exchange["response"]["headers"].get("www-authenticate") {
            let offered = challenges([line.as_str().unwrap().as_bytes()]);
            assert!(offered.iter().all(|challenge| key.verify(challenge)));
            sent += offered.len();
        }
        let headers = exchange["request"]["headers"].as_object().unwrap();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap().as_bytes()));
        let Ok(Some(credential)) = Credential::read(headers) else { continue };
        if key.verify(&credential.challenge) {
            genuine += 1;
        } else {
            altered.push(exchange["label"].as_str().unwrap());
        }
    }
    assert_eq!((sent, genuine), (14, 12));
    assert_eq!(altered, ["tampered-id", "tampered-amount"]);
}

/// An echo as an object is checked over the text that it was made from.
#[test]
fn exchanges_over_mcp() {
    let file = vectors!("mcp-exchanges");
    let key = key_of(&file, "secret_key");
    for (at, genuine) in [(1, true), (2, false)] {
        let exchange = &file["exchanges"][at];
        let credential = mcp::credential(&exchange["request"]).unwrap().unwrap();
        assert_eq!(key.verify(&credential.challenge), genuine, "{at}");
    }
    for at in [0, 2] {
        let offered = mcp::challenges_of_error(&file["exchanges"][at]["response"]["error"]);
        assert!(offered.len() == 1 && key.verify(&offered[0]), "{at}");
    }
}

/// MPP-9: what the key of an epoch is.
#[test]
fn mpp_9_the_key_of_an_epoch() {
    assert_eq!(LABEL, b"mpp-challenge-v1");
    let secret = mac::sum(&mac::keyed(&[3; 32]), LABEL);
    let challenge = bound();
    assert_eq!(
        challenge.id,
        wire::base64::encode_url(&mac::sum(&mac::keyed(&secret), challenge.slots().as_bytes()))
    );
    let carried = Opaque::decode(challenge.opaque.as_deref().unwrap()).unwrap();
    assert_eq!(carried, Opaque { key_epoch: 3, ..opaque() });
}

/// MPP-9: a new key mints, an old one verifies until it is retired; a restored store ends them all.
#[test]
fn mpp_9_rotation_and_restore() {
    let challenge = bound();
    let after =
        |keys: [MasterKey; 2], store: u64| ChallengeKeys::new(keys).unwrap().verify(&challenge, REALM, store);
    for (what, result, expected) in [
        ("as it was", keys().verify(&challenge, REALM, STORE), None),
        ("rotated", after([master(3, S::Verify, 3), master(4, S::Mint, 4)], STORE), None),
        ("retired", after([master(3, S::Retired, 3), master(4, S::Mint, 4)], STORE), Some(E::Epoch)),
        ("dropped", after([master(2, S::Verify, 2), master(4, S::Mint, 4)], STORE), Some(E::Epoch)),
        (
            "another key under its number",
            after([master(2, S::Verify, 2), master(3, S::Mint, 9)], STORE),
            Some(E::Id),
        ),
        ("restored", keys().verify(&challenge, REALM, STORE + 1), Some(E::Epoch)),
        ("another realm", keys().verify(&challenge, "other.example", STORE), Some(E::Realm)),
    ] {
        assert_eq!(result.err(), expected, "{what}");
    }
}

/// MPP-3, MPP-10: what is bound with the right key and still none of ours.
#[test]
fn what_we_never_send_is_not_ours() {
    let with = |change: &dyn Fn(&mut Challenge)| {
        let mut challenge = bound();
        change(&mut challenge);
        challenge.id = ChallengeKey::new(&[3; 32]).id(challenge.parts());
        keys().verify(&challenge, REALM, STORE).err()
    };
    for (what, result, expected) in [
        ("as it was", with(&|_| {}), None),
        ("no expiry", with(&|c| c.expires = None), Some(E::Foreign)),
        ("no opaque", with(&|c| c.opaque = None), Some(E::Foreign)),
        (
            "opaque of mppx",
            with(&|c| c.opaque = Some(encode_object(&object(&json!({"_mppx_scope": "x"}))))),
            Some(E::Foreign),
        ),
        (
            "a retired epoch",
            with(&|c| c.opaque = Some(Opaque { key_epoch: 1, ..opaque() }.encode())),
            Some(E::Epoch),
        ),
        (
            "an older epoch's number",
            with(&|c| c.opaque = Some(Opaque { key_epoch: 2, ..opaque() }.encode())),
            Some(E::Id),
        ),
        (
            "parts moved over the separator",
            with(&|c| {
                c.realm = "gw.example|lightning".into();
                c.method = "charge".into();
            }),
            Some(E::Realm),
        ),
    ] {
        assert_eq!(result, expected, "{what}");
    }
}

/// MPP-7: each bound parameter; the description is not one.
#[test]
fn every_parameter_is_bound_but_the_description() {
    let good = Challenge {
        digest: Some("sha-256=AA==".into()),
        header: Some("Payment-Authorization".into()),
        ..unbound()
    };
    let good = read(&good);
    let with = |change: &dyn Fn(&mut Challenge)| {
        let mut challenge = good.clone();
        change(&mut challenge);
        keys().verify(&challenge, REALM, STORE).err()
    };
    assert_eq!(with(&|c| c.description = Some("other".into())), None);
    let other = encode_object(&object(&json!({"amount": "1", "currency": "sat"})));
    for (what, result) in [
        ("id", with(&|c| c.id.replace_range(..1, if c.id.starts_with('A') { "B" } else { "A" }))),
        ("id cut", with(&|c| c.id.truncate(42))),
        ("id padded", with(&|c| c.id.push('='))),
        ("method", with(&|c| c.method = "tempo".into())),
        ("intent", with(&|c| c.intent = "session".into())),
        ("request", with(&|c| c.request = other.clone())),
        ("request padded", with(&|c| c.request.push('='))),
        ("expires", with(&|c| c.expires = Some("2027-12-01T00:00:00.000Z".into()))),
        ("expires in another spelling", with(&|c| c.expires = Some("2026-12-01T00:00:00Z".into()))),
        ("digest", with(&|c| c.digest = None)),
        ("header", with(&|c| c.header = None)),
        ("header in another letter case", with(&|c| c.header = Some("payment-authorization".into()))),
        (
            "route",
            with(&|c| c.opaque = Some(Opaque { key_epoch: 3, route: "b".into(), ..opaque() }.encode())),
        ),
    ] {
        assert_eq!(result, Some(E::Id), "{what}");
    }
}

#[test]
fn what_cannot_be_sent_is_not_bound() {
    let long = Opaque { route: "r".repeat(4096), ..opaque() };
    assert!(matches!(keys().bind(unbound().parts(), long), Err(ChallengeError::TooLong(_))));
    let piped = Challenge { realm: "a|b".into(), ..unbound() };
    assert_eq!(keys().bind(piped.parts(), opaque()), Err(ChallengeError::Character("realm")));
}

/// MPP-8.
#[test]
fn mpp_8_nothing_secret_is_printed() {
    assert_eq!(format!("{:?}", ChallengeKey::new(&[0x42; 32])), "ChallengeKey(hidden)");
    assert_eq!(format!("{:?}", keys()), "ChallengeKeys(3 epochs, minting under 3)");
    assert_eq!(ChallengeKey::shared(&[7; 31]).unwrap_err(), SecretTooShort);
    assert!(ChallengeKey::shared(&[7; 32]).is_ok());
}

proptest! {
    /// Whatever byte of an echo is changed, it is refused or says the same.
    #[test]
    fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let line = bound().to_value().unwrap();
        let mut changed = line.clone().into_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        for challenge in challenges([changed.as_slice()]) {
            let is_same = challenge.slots() == bound().slots() && challenge.id == bound().id;
            prop_assert_eq!(keys().verify(&challenge, REALM, STORE).is_ok(), is_same);
        }
    }
}
