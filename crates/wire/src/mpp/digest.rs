//! The digest of a request's body, in two spellings (MPP-11).

use sha2::{Digest as _, Sha256};

use crate::base64;

const NAME: &str = "sha-256=";

/// The spelling of the SDKs: `sha-256=` and padded base64.
#[must_use]
pub fn of(body: &[u8]) -> String {
    format!("{NAME}{}", base64::encode_std(&Sha256::digest(body)))
}

/// Whether a text is the digest of a body, in either spelling. With colons, as in RFC 9530, the padding may be missing.
#[must_use]
pub fn matches(text: &str, body: &[u8]) -> bool {
    let Some(value) = text.strip_prefix(NAME) else { return false };
    let expected = base64::encode_std(&Sha256::digest(body));
    match value.strip_prefix(':').and_then(|value| value.strip_suffix(':')) {
        Some(value) => value == expected || value == expected.trim_end_matches('='),
        None => value == expected,
    }
}

/// Whether a text has the shape of a digest: what clients check of a challenge.
pub(super) fn is_shaped(text: &str) -> bool {
    let Some(value) = text.strip_prefix(NAME) else { return false };
    let value = value.strip_prefix(':').and_then(|value| value.strip_suffix(':')).unwrap_or(value);
    let is_letter =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
    !value.is_empty() && value.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::{is_shaped, matches, of};

    #[test]
    fn mpp_11_both_spellings() {
        let hash = "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o";
        assert_eq!(of(b"{}"), format!("sha-256={hash}="));
        for (text, matching) in [
            (format!("sha-256={hash}="), true),
            (format!("sha-256=:{hash}=:"), true),
            (format!("sha-256=:{hash}:"), true),
            (format!("sha-256={hash}"), false),
            (format!("sha-256=:{hash}="), false),
            (format!("sha-256={hash}=:"), false),
            (format!("sha-256=:{hash}==:"), false),
            (format!("SHA-256={hash}="), false),
            (format!("sha-512={hash}="), false),
            (hash.replace('/', "_"), false),
            (String::new(), false),
        ] {
            assert_eq!(matches(&text, b"{}"), matching, "{text}");
            assert!(!matches(&text, b"{ }"), "{text}");
        }
    }

    #[test]
    fn shapes() {
        for (text, shaped) in [
            ("sha-256=:X48E9q:", true),
            ("sha-256=X48E9q", true),
            ("sha-256=", false),
            ("sha-256=::", false),
            ("sha-256=X|Y", false),
            ("md5=X48E9q", false),
        ] {
            assert_eq!(is_shaped(text), shaped, "{text}");
        }
    }
}
