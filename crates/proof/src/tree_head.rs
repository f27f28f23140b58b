//! Signed tree heads of the journal (ledger.md 8.3): Ed25519 over [`TreeHead::signing_bytes`].

use ed25519_dalek::{Signer as _, SigningKey};
use ledger::TreeHead;

use crate::ed25519::{self, SignatureRefused};

/// Signs a head.
#[must_use]
pub fn sign(key: &SigningKey, head: &TreeHead) -> [u8; 64] {
    key.sign(&head.signing_bytes()).to_bytes()
}

/// Checks a head against a published key.
///
/// # Errors
/// [`SignatureRefused`]: not this head, or not this key.
pub fn verify(public: &[u8; 32], head: &TreeHead, signature: &[u8; 64]) -> Result<(), SignatureRefused> {
    ed25519::verify(public, &head.signing_bytes(), signature)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use ledger::TreeHead;
    use serde_json::Value;
    use wire::hex;

    use super::{sign, verify};

    /// LED-41: the head over the 16 entries of the ledger's vectors, signed by OpenSSL 3.0.
    #[test]
    fn a_foreign_signature_over_the_vectors_stands() {
        let file = include_str!("../../../specs/vectors/ledger/entries.json");
        let file: Value = serde_json::from_str(file).unwrap();
        let field = |name: &str| &file["heads"][1][name];
        let text = |name: &str| field(name).as_str().unwrap();
        let head = TreeHead {
            store_id: hex::decode_array(text("store_id")).unwrap(),
            epoch: field("epoch").as_u64().unwrap(),
            size: field("size").as_u64().unwrap(),
            root: hex::decode_array(text("root")).unwrap(),
            last_hash: hex::decode_array(text("last_hash")).unwrap(),
            time_ms: field("time_ms").as_u64().unwrap(),
        };
        let key = SigningKey::from_bytes(&[7; 32]);
        let signature = hex::decode_array(concat!(
            "7e02aa6c01ccb709b64846ebb489ec1929a3c39bc53a1a3fc44079d37a4ba3b9",
            "25352bd9f0a0d7fa781ac5495a345e7b071e3d84f5e61c09217e26c7219a980a"
        ));
        assert_eq!(signature, Ok(sign(&key, &head)));
        let public = hex::decode_array("ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c");
        assert!(verify(&public.unwrap(), &head, &signature.unwrap()).is_ok());
    }

    /// LED-41.
    #[test]
    fn a_head_stands_as_it_was_signed_and_no_field_may_change() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = key.verifying_key().to_bytes();
        let head = TreeHead {
            store_id: [1; 16],
            epoch: 1,
            size: 3,
            root: [2; 32],
            last_hash: [3; 32],
            time_ms: 1_795_000_000_000,
        };
        let signature = sign(&key, &head);
        assert!(verify(&public, &head, &signature).is_ok());
        for (what, other) in [
            ("store", TreeHead { store_id: [9; 16], ..head }),
            ("epoch", TreeHead { epoch: 2, ..head }),
            ("size", TreeHead { size: 2, ..head }),
            ("root", TreeHead { root: [9; 32], ..head }),
            ("last hash", TreeHead { last_hash: [9; 32], ..head }),
            ("time", TreeHead { time_ms: 0, ..head }),
        ] {
            assert!(verify(&public, &other, &signature).is_err(), "{what}");
        }
        let stranger = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        assert!(verify(&stranger, &head, &signature).is_err());
    }
}
