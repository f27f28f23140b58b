//! Vectors of others, read in place and skipped where they are absent (SEC-80, SEC-81).

use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use secp256k1::ecdsa;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wire::hex;

use crate::{ed25519, mac};

/// The file, or `None` with a line that says so.
#[expect(clippy::disallowed_methods, reason = "tests read vectors that may not be copied into the project")]
pub(crate) fn read(name: &str) -> Option<Value> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors");
    let folder = std::env::var("FARTHING_VECTORS").unwrap_or_else(|_| beside.to_owned());
    let Ok(text) = std::fs::read_to_string(format!("{folder}/{name}.json")) else {
        println!("skipped: {name}.json is not in {folder}");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

/// Calls `check(group, test)` for each case and returns how many there were.
fn each_wycheproof(file: &Value, mut check: impl FnMut(&Value, &Value)) -> usize {
    let mut count = 0;
    for group in file["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            check(group, test);
            count += 1;
        }
    }
    count
}

#[test]
fn rfc_8032() {
    let Some(file) = read("crypto/rfc8032_ed25519") else { return };
    for test in file["tests"].as_array().unwrap() {
        let key = SigningKey::from_bytes(&bytes(&test["secret_key"]).try_into().unwrap());
        let (message, signature) = (bytes(&test["message"]), bytes(&test["signature"]));
        assert_eq!(key.verifying_key().to_bytes().to_vec(), bytes(&test["public_key"]));
        assert_eq!(key.sign(&message).to_bytes().to_vec(), signature);
        let public = key.verifying_key().to_bytes();
        assert!(ed25519::verify(&public, &message, &signature.try_into().unwrap()).is_ok());
    }
}

#[test]
fn sec_80_wycheproof_ed25519() {
    let Some(file) = read("crypto/wycheproof_ed25519_test") else { return };
    let count = each_wycheproof(&file, |group, test| {
        let public = bytes(&group["publicKey"]["pk"]).try_into().unwrap();
        let accepted = bytes(&test["sig"])
            .try_into()
            .is_ok_and(|signature| ed25519::verify(&public, &bytes(&test["msg"]), &signature).is_ok());
        assert_eq!(accepted, test["result"] == "valid", "tcId {}", test["tcId"]);
    });
    assert_eq!(count, 151);
}

/// A change of either row on upgrade is a change of what we accept.
#[test]
fn sec_80_speccheck_rows() {
    let Some(file) = read("crypto/ed25519_speccheck_cases") else { return };
    let (mut plain, mut strict) = (String::new(), String::new());
    for case in file.as_array().unwrap() {
        let public: [u8; 32] = bytes(&case["pub_key"]).try_into().unwrap();
        let signature: [u8; 64] = bytes(&case["signature"]).try_into().unwrap();
        let message = bytes(&case["message"]);
        let accepted = VerifyingKey::from_bytes(&public)
            .is_ok_and(|key| key.verify(&message, &Signature::from_bytes(&signature)).is_ok());
        plain.push(if accepted { 'V' } else { 'X' });
        strict.push(if ed25519::verify(&public, &message, &signature).is_ok() { 'V' } else { 'X' });
    }
    assert_eq!(plain, "VVVVXXXXXXXV");
    assert_eq!(strict, "XXXVXXXXXXXX");
}

#[test]
fn keys_of_small_order_are_not_usable() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let order_8 =
        hex::decode_array("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa").unwrap();
    for (what, key, usable) in [
        ("an honest key", SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes(), true),
        ("identity", identity, false),
        ("order 4", [0; 32], false),
        ("order 8", order_8, false),
    ] {
        assert_eq!(ed25519::is_usable(&key), usable, "{what}");
    }
}

fn ecdsa_accepts(group: &Value, test: &Value, signature: Result<ecdsa::Signature, secp256k1::Error>) -> bool {
    let key = secp256k1::PublicKey::from_slice(&bytes(&group["publicKey"]["uncompressed"])).unwrap();
    let digest: [u8; 32] = Sha256::digest(bytes(&test["msg"])).into();
    signature.is_ok_and(|signature| signature.verify(secp256k1::Message::from_digest(digest), &key).is_ok())
}

/// The low-s rule is in the file: full agreement.
#[test]
fn sec_81_wycheproof_secp256k1_bitcoin() {
    let Some(file) = read("crypto/wycheproof_ecdsa_secp256k1_sha256_bitcoin_test") else { return };
    let count = each_wycheproof(&file, |group, test| {
        let accepted = ecdsa_accepts(group, test, ecdsa::Signature::from_der(&bytes(&test["sig"])));
        assert_eq!(accepted, test["result"] == "valid", "tcId {}", test["tcId"]);
    });
    assert_eq!(count, 463);
}

/// These files call high s valid; we refuse exactly those.
#[test]
fn sec_81_wycheproof_secp256k1_with_high_s() {
    for (name, cases) in [
        ("wycheproof_ecdsa_secp256k1_sha256_test", 476),
        ("wycheproof_ecdsa_secp256k1_sha256_p1363_test", 252),
    ] {
        let Some(file) = read(&format!("crypto/{name}")) else { return };
        let mut high_s = 0;
        let count = each_wycheproof(&file, |group, test| {
            let raw = bytes(&test["sig"]);
            let parsed = if name.contains("p1363") {
                ecdsa::Signature::from_compact(&raw)
            } else {
                ecdsa::Signature::from_der(&raw)
            };
            let accepted = ecdsa_accepts(group, test, parsed);
            let mut low = parsed;
            if let Ok(signature) = &mut low {
                signature.normalize_s();
            }
            let valid = test["result"] == "valid";
            if valid && !accepted {
                assert!(
                    ecdsa_accepts(group, test, low),
                    "{name} tcId {}: high s is the only reason",
                    test["tcId"]
                );
                high_s += 1;
            } else {
                assert_eq!(accepted, valid, "{name} tcId {}", test["tcId"]);
            }
        });
        assert_eq!((count, high_s), (cases, 72), "{name}");
    }
}

/// Tags of 32 bytes agree; 16 byte tags are never taken for whole ones.
#[test]
fn wycheproof_hmac() {
    use hmac::Mac as _;
    let Some(file) = read("crypto/wycheproof_hmac_sha256_test") else { return };
    let (mut whole, mut short) = (0, 0);
    each_wycheproof(&file, |group, test| {
        let (tag, message) = (bytes(&test["tag"]), bytes(&test["msg"]));
        // Our keys are 32 bytes; others of the file belong to the library's own tests.
        let Ok(key) = <[u8; 32]>::try_from(bytes(&test["key"])) else { return };
        let accepted = mac::keyed(&key).chain_update(&message).verify_slice(&tag).is_ok();
        if group["tagSize"] == 256 {
            assert_eq!(accepted, test["result"] == "valid", "tcId {}", test["tcId"]);
            whole += 1;
        } else {
            assert!(!accepted, "tcId {}", test["tcId"]);
            short += 1;
        }
    });
    assert!(whole > 0 && short > 0);
}
