//! Method `card/charge`: a network token that is encrypted to the processor and passed on unopened.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{base64, json};

/// The method's name.
pub const METHOD: &str = "card";

/// The request of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeRequest {
    /// Minor units, decimal.
    pub amount: String,
    /// ISO 4217, lower case.
    pub currency: String,
    /// What is bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The payee's own name for the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// What is accepted, and to which key it is encrypted.
    pub method_details: ChargeDetails,
}

/// Which cards, and to which key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargeDetails {
    /// `visa`, `mastercard`, ...
    pub accepted_networks: Vec<String>,
    /// For display.
    pub merchant_name: String,
    /// The processor's public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_jwk: Option<Map<String, Value>>,
    /// Where the key stands instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// Which key of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Whether an address is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_required: Option<bool>,
}

/// The payload of a charge. `Debug` shows the network only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChargePayload {
    /// JWE in its compact form. Never decrypted here.
    pub encrypted_payload: String,
    /// The card's network.
    pub network: String,
    /// For display.
    pub pan_last_four: String,
    /// `01` to `12`
    pub pan_expiration_month: String,
    /// Four digits.
    pub pan_expiration_year: String,
    /// The payer's address, where it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_address: Option<Map<String, Value>>,
}

impl fmt::Debug for ChargePayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChargePayload({} card, token hidden)", self.network)
    }
}

/// Longest JWE that is passed on (CARD-1).
pub const JWE_BYTES_MAX: usize = 4 * 1024;

/// Why a JWE is not passed on: the processor would refuse it, or should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JweError {
    /// Above [`JWE_BYTES_MAX`].
    #[error("{0} bytes, limit {JWE_BYTES_MAX}")]
    TooLong(usize),
    /// Not five parts of base64url, or no header that can be read.
    #[error("not a JWE in its compact form")]
    Form,
    /// Another algorithm than the one that was asked for.
    #[error("another algorithm than RSA-OAEP-256 with A256GCM")]
    Algorithm,
    /// Another key.
    #[error("encrypted to another key")]
    Key,
    /// Compressed, or with extensions that have to be understood.
    #[error("a header that is not allowed")]
    Header,
}

/// Checks the protected header of a JWE, and nothing behind it: what is encrypted is never looked at (CARD-1, CARD-2).
///
/// # Errors
/// [`JweError`]
pub fn check_jwe(text: &str, kid: &str) -> Result<(), JweError> {
    if text.len() > JWE_BYTES_MAX {
        return Err(JweError::TooLong(text.len()));
    }
    let parts: Vec<&str> = text.split('.').collect();
    let is_part = |part: &&str| !part.is_empty() && base64::decode_url(part, JWE_BYTES_MAX).is_ok();
    let [header, ..] = parts.as_slice() else { return Err(JweError::Form) };
    if parts.len() != 5 || !parts.iter().all(is_part) {
        return Err(JweError::Form);
    }
    let header = base64::decode_url(header, JWE_BYTES_MAX).map_err(|_| JweError::Form)?;
    let Ok(Value::Object(header)) = json::parse_strict(&header) else { return Err(JweError::Form) };
    let says = |name: &str, expected: &str| header.get(name).is_some_and(|value| value == expected);
    if !says("alg", "RSA-OAEP-256") || !says("enc", "A256GCM") {
        return Err(JweError::Algorithm);
    }
    if header.contains_key("zip") || header.contains_key("crit") {
        return Err(JweError::Header);
    }
    if says("kid", kid) { Ok(()) } else { Err(JweError::Key) }
}

#[cfg(test)]
mod tests {
    use super::{JWE_BYTES_MAX, JweError as E, check_jwe};
    use crate::base64;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn card_1_vectors() {
        let file: Value =
            serde_json::from_str(include_str!("../../../../specs/vectors/rails/mpp_card_jwe.json")).unwrap();
        let kid = file["server_public_jwk"]["kid"].as_str().unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 5);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let expected = match name {
                "valid" => Ok(()),
                "alg_rsa_oaep_sha1" | "enc_a128gcm" => Err(E::Algorithm),
                "unknown_kid" => Err(E::Key),
                "zip_present" => Err(E::Header),
                other => panic!("{other}"),
            };
            assert_eq!(check_jwe(case["encryptedPayload"].as_str().unwrap(), kid), expected, "{name}");
            assert_eq!(case["expect"] == "accept", expected.is_ok(), "{name}");
        }
    }

    #[test]
    fn card_1_table() {
        let jwe = |header: &str| format!("{}.AA.AA.AA.AA", base64::encode_url(header.as_bytes()));
        let good = r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"k"}"#;
        for (what, text, expected) in [
            ("good", jwe(good), Ok(())),
            ("crit", jwe(r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"k","crit":["x"]}"#), Err(E::Header)),
            ("no kid", jwe(r#"{"alg":"RSA-OAEP-256","enc":"A256GCM"}"#), Err(E::Key)),
            ("kid twice", jwe(r#"{"alg":"RSA-OAEP-256","enc":"A256GCM","kid":"x","kid":"k"}"#), Err(E::Form)),
            ("four parts", jwe(good).replacen(".AA", "", 1), Err(E::Form)),
            ("six parts", jwe(good) + ".AA", Err(E::Form)),
            ("an empty part", jwe(good).replacen(".AA", ".", 1), Err(E::Form)),
            ("padded", jwe(good) + "==", Err(E::Form)),
            ("no JSON", "AA.AA.AA.AA.AA".to_owned(), Err(E::Form)),
            ("too long", "A".repeat(JWE_BYTES_MAX + 1), Err(E::TooLong(JWE_BYTES_MAX + 1))),
            ("empty", String::new(), Err(E::Form)),
        ] {
            assert_eq!(check_jwe(&text, "k"), expected, "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_jwe_or_not(text in "\\PC{0,80}", near in "[A-Za-z0-9_.=-]{0,80}") {
            let _ = check_jwe(&text, "k");
            let _ = check_jwe(&near, "k");
        }
    }
}
