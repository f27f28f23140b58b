//! Compact JWS with Ed25519, and the JWK set its keys are published in.
//!
//! `base64url(header) "." base64url(payload) "." base64url(signature)`, all unpadded. Signing and
//! checking are `proof::receipt`'s work.

use serde::{Deserialize, Serialize};

use crate::{base64, json};

/// Longest compact JWS we read.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// The one algorithm: a token never chooses how it is checked.
pub const ALGORITHM: &str = "EdDSA";

/// A split JWS, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jws<'a> {
    /// Names the key; `None` when the header has none.
    pub kid: Option<String>,
    /// What was signed, decoded.
    pub payload: Vec<u8>,
    /// The bytes under the signature.
    pub signing_input: &'a str,
    /// The signature.
    pub signature: [u8; 64],
}

/// Why text is no JWS we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than [`TEXT_BYTES_MAX`], not three parts, or a part is not unpadded base64url.
    #[error("not a compact JWS")]
    Malformed,
    /// The header is no object, or demands an extension (`crit`, `b64`).
    #[error("unusable JWS header")]
    Header,
    /// Signed with something else than Ed25519, or not at all.
    #[error("algorithm is not EdDSA")]
    Algorithm,
}

/// An Ed25519 public key as JWK (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The key, base64url.
    pub x: String,
    /// The key's name.
    pub kid: String,
    /// `EdDSA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// `sig`.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
}

/// The published keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// In no particular order; retired keys stay as long as their receipts matter.
    pub keys: Vec<Jwk>,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
}

/// The text that is signed: header and payload.
#[must_use]
pub fn signing_input(kid: &str, payload: &[u8]) -> String {
    let header = serde_json::to_vec(&Header { alg: ALGORITHM, kid }).unwrap_or_default();
    format!("{}.{}", base64::encode_url(&header), base64::encode_url(payload))
}

/// The finished JWS.
#[must_use]
pub fn assemble(signing_input: &str, signature: &[u8; 64]) -> String {
    format!("{signing_input}.{}", base64::encode_url(signature))
}

/// Takes a JWS apart.
///
/// # Errors
/// [`JwsError`]
pub fn split(text: &str) -> Result<Jws<'_>, JwsError> {
    use JwsError as E;
    if text.len() > TEXT_BYTES_MAX {
        return Err(E::Malformed);
    }
    let (signing_input, signature) = text.rsplit_once('.').ok_or(E::Malformed)?;
    let (header, payload) = signing_input.split_once('.').ok_or(E::Malformed)?;
    let part = |text| base64::decode_url(text, TEXT_BYTES_MAX).map_err(|_| E::Malformed);
    let (header, payload, signature) = (part(header)?, part(payload)?, part(signature)?);
    let signature = signature.try_into().map_err(|_| E::Malformed)?;
    let header = json::parse_strict(&header).map_err(|_| E::Header)?;
    let header = header.as_object().ok_or(E::Header)?;
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(E::Header);
    }
    if header.get("alg").and_then(|alg| alg.as_str()) != Some(ALGORITHM) {
        return Err(E::Algorithm);
    }
    let kid = match header.get("kid") {
        Some(kid) => Some(kid.as_str().ok_or(E::Header)?.to_owned()),
        None => None,
    };
    Ok(Jws { kid, payload, signing_input, signature })
}

impl Jwk {
    /// The JWK of a public key.
    #[must_use]
    pub fn ed25519(public: &[u8; 32], kid: String) -> Self {
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: base64::encode_url(public),
            kid,
            alg: Some(ALGORITHM.to_owned()),
            usage: Some("sig".to_owned()),
        }
    }

    /// The public key, if this is an Ed25519 key for signatures.
    #[must_use]
    pub fn public(&self) -> Option<[u8; 32]> {
        let fits = self.kty == "OKP" && self.crv == "Ed25519";
        let for_this = self.alg.as_deref().is_none_or(|alg| alg == ALGORITHM)
            && self.usage.as_deref().is_none_or(|usage| usage == "sig");
        (fits && for_this).then(|| base64::decode_url(&self.x, 43).ok()?.try_into().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::{Jwk, JwsError as E, assemble, signing_input, split};
    use crate::base64::encode_url;
    use proptest::prelude::*;

    #[test]
    fn split_table() {
        let good = assemble(&signing_input("k1", b"{}"), &[7; 64]);
        let parsed = split(&good).unwrap();
        assert_eq!((parsed.kid.as_deref(), parsed.payload.as_slice()), (Some("k1"), b"{}".as_slice()));
        assert_eq!(parsed.signature, [7; 64]);
        assert_eq!(parsed.signing_input, signing_input("k1", b"{}"));

        let with = |header: &str| format!("{}.e30.{}", encode_url(header.as_bytes()), encode_url(&[7; 64]));
        for (situation, text, expected) in [
            ("no algorithm", with(r#"{"kid":"k1"}"#), E::Algorithm),
            ("alg none", with(r#"{"alg":"none"}"#), E::Algorithm),
            ("alg HS256", with(r#"{"alg":"HS256"}"#), E::Algorithm),
            ("alg twice", with(r#"{"alg":"EdDSA","alg":"none"}"#), E::Header),
            ("crit", with(r#"{"alg":"EdDSA","crit":["x"]}"#), E::Header),
            ("unencoded payload", with(r#"{"alg":"EdDSA","b64":false}"#), E::Header),
            ("kid is no text", with(r#"{"alg":"EdDSA","kid":1}"#), E::Header),
            ("header is no object", with("[]"), E::Header),
            ("four parts", format!("{good}.AA"), E::Malformed),
            ("two parts", "e30.e30".to_owned(), E::Malformed),
            ("padded part", format!("{good}="), E::Malformed),
            ("signature too short", format!("{}.AAAA", signing_input("k", b"{}")), E::Malformed),
            ("too long", "A".repeat(super::TEXT_BYTES_MAX + 1), E::Malformed),
        ] {
            assert_eq!(split(&text), Err(expected), "{situation}");
        }
    }

    #[test]
    fn a_jwk_of_another_kind_has_no_key() {
        let jwk = Jwk::ed25519(&[9; 32], "k".into());
        assert_eq!(jwk.public(), Some([9; 32]));
        assert_eq!(Jwk { crv: "X25519".into(), ..jwk.clone() }.public(), None);
        assert_eq!(Jwk { usage: Some("enc".into()), ..jwk.clone() }.public(), None);
        assert_eq!(Jwk { x: "AAAA".into(), ..jwk }.public(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "[A-Za-z0-9._=-]{0,80}") {
            let _ = split(&text);
        }
    }
}
