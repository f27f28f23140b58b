//! Signed receipts: compact JWS over any payload, checkable by anyone with our published keys (KEY-5).

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::json;
use wire::jws::{self, Jwk, Jwks, JwsError};

use crate::ed25519;

/// Why a receipt does not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not a JWS we take.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// No published key of that name.
    #[error("signed by an unknown key")]
    UnknownKey,
    /// The signature does not stand.
    #[error("signature refused")]
    Signature,
    /// Signed by us, and not the payload that was expected.
    #[error("payload is of another shape")]
    Payload,
}

/// The name of a key: its RFC 7638 thumbprint.
#[must_use]
pub fn kid(key: &VerifyingKey) -> String {
    ed25519::thumbprint(key.as_bytes())
}

/// The published form of keys, current and retired.
#[must_use]
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a VerifyingKey>) -> Jwks {
    Jwks { keys: keys.into_iter().map(|key| Jwk::ed25519(key.as_bytes(), kid(key))).collect() }
}

/// Signs a payload.
///
/// # Errors
/// [`ReceiptError::Payload`] when it cannot be written as JSON.
pub fn sign<T: Serialize>(key: &SigningKey, payload: &T) -> Result<String, ReceiptError> {
    let payload = serde_json::to_vec(payload).map_err(|_| ReceiptError::Payload)?;
    let input = jws::signing_input(&kid(&key.verifying_key()), &payload);
    let signature = key.sign(input.as_bytes());
    Ok(jws::assemble(&input, &signature.to_bytes()))
}

/// Checks a receipt against published keys and reads it.
///
/// # Errors
/// [`ReceiptError`]
pub fn verify<T: DeserializeOwned>(text: &str, keys: &Jwks) -> Result<T, ReceiptError> {
    let jws = jws::split(text)?;
    let kid = jws.kid.ok_or(ReceiptError::UnknownKey)?;
    let jwk = keys.keys.iter().find(|jwk| jwk.kid == kid).ok_or(ReceiptError::UnknownKey)?;
    let public = jwk.public().ok_or(ReceiptError::UnknownKey)?;
    ed25519::verify(&public, jws.signing_input.as_bytes(), &jws.signature)
        .map_err(|_| ReceiptError::Signature)?;
    let payload = json::parse_strict(&jws.payload).map_err(|_| ReceiptError::Payload)?;
    serde_json::from_value(payload).map_err(|_| ReceiptError::Payload)
}

#[cfg(test)]
mod tests {
    use super::{ReceiptError as E, jwks, kid, sign, verify};
    use ed25519_dalek::{SigningKey, VerifyingKey};
    use serde_json::{Value, json};
    use wire::base64;

    /// RFC 8037 appendix A.3.
    #[test]
    fn kid_is_the_published_thumbprint() {
        let public = base64::decode_url("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", 43).unwrap();
        let key = VerifyingKey::from_bytes(&public.try_into().unwrap()).unwrap();
        assert_eq!(kid(&key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    /// KEY-5.
    #[test]
    fn a_receipt_reads_back_and_no_part_may_change() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let keys = jwks([&key.verifying_key()]);
        let receipt = sign(&key, &json!({"charged": "0.002100000"})).unwrap();
        assert_eq!(verify::<Value>(&receipt, &keys), Ok(json!({"charged": "0.002100000"})));

        let other = SigningKey::from_bytes(&[2; 32]);
        assert_eq!(verify::<Value>(&receipt, &jwks([&other.verifying_key()])), Err(E::UnknownKey));
        let forged = sign(&other, &json!({"charged": "0"})).unwrap();
        assert_eq!(verify::<Value>(&forged, &keys), Err(E::UnknownKey));

        let parts: Vec<&str> = receipt.split('.').collect();
        let payload = base64::encode_url(br#"{"charged":"0"}"#);
        let swapped = format!("{}.{payload}.{}", parts[0], parts[2]);
        assert_eq!(verify::<Value>(&swapped, &keys), Err(E::Signature));
        // A forger who names our key.
        let header = base64::encode_url(
            format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, kid(&key.verifying_key())).as_bytes(),
        );
        let stolen_name = format!("{header}.{payload}.{}", forged.rsplit_once('.').unwrap().1);
        assert_eq!(verify::<Value>(&stolen_name, &keys), Err(E::Signature));
    }
}
