//! `Content-Digest` (RFC 9530): what a message says the hash of its body is.
//!
//! ```
//! use wire::content_digest::{ContentDigestError, check, of};
//!
//! let field = of(b"{\"hello\": \"world\"}");
//! assert_eq!(field, "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:");
//! assert_eq!(check(&field, b"{\"hello\": \"world\"}"), Ok(()));
//! assert_eq!(check(&field, b"{}"), Err(ContentDigestError::Differs));
//! ```

use sha2::{Digest as _, Sha256, Sha512};

use crate::base64;
use crate::structured_field::{BareItem, Dictionary, Member};

/// Digests that one field may have.
const DIGESTS_MAX: usize = 8;

/// Why a field does not vouch for a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentDigestError {
    /// Not a dictionary of byte sequences.
    #[error("not a dictionary of digests")]
    Malformed,
    /// Neither `sha-256` nor `sha-512`.
    #[error("no digest of a known algorithm")]
    Unknown,
    /// The body is another one.
    #[error("the body is another one")]
    Differs,
}

/// The field for a body.
#[must_use]
pub fn of(body: &[u8]) -> String {
    format!("sha-256=:{}:", base64::encode_std(&Sha256::digest(body)))
}

/// Whether a field vouches for a body: it has a digest of an algorithm that we know, and each of those is the body's.
///
/// # Errors
/// [`ContentDigestError`]
pub fn check(field: &str, body: &[u8]) -> Result<(), ContentDigestError> {
    let digests = Dictionary::parse(field, DIGESTS_MAX).map_err(|_| ContentDigestError::Malformed)?;
    let mut is_known = false;
    for (algorithm, member) in &digests.0 {
        let Member::Item(item) = member else { return Err(ContentDigestError::Malformed) };
        let BareItem::Bytes(named) = &item.bare else { return Err(ContentDigestError::Malformed) };
        let own = match algorithm.as_str() {
            "sha-256" => Sha256::digest(body).to_vec(),
            "sha-512" => Sha512::digest(body).to_vec(),
            _ => continue,
        };
        if *named != own {
            return Err(ContentDigestError::Differs);
        }
        is_known = true;
    }
    if is_known { Ok(()) } else { Err(ContentDigestError::Unknown) }
}

#[cfg(test)]
mod tests {
    use super::{ContentDigestError as E, check, of};

    /// IDN-12; the values of RFC 9530 appendix B and RFC 9421 appendix B.2.
    #[test]
    fn idn_12_digests() {
        let body = b"{\"hello\": \"world\"}";
        let long = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
        let short = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
        for (what, field, expected) in [
            ("SHA-256", short.to_owned(), Ok(())),
            ("SHA-512", long.to_owned(), Ok(())),
            ("both", format!("{short}, {long}"), Ok(())),
            ("an old one beside", format!("md5=:AAAA:, {short}"), Ok(())),
            ("one of two is another", format!("{}, {long}", of(b"x")), Err(E::Differs)),
            ("another body", of(b"{\"hello\": \"worlD\"}"), Err(E::Differs)),
            ("old only", "md5=:AAAA:".to_owned(), Err(E::Unknown)),
            ("none", String::new(), Err(E::Unknown)),
            ("no bytes", "sha-256=abc".to_owned(), Err(E::Malformed)),
            ("a list", "sha-256=(:AAAA:)".to_owned(), Err(E::Malformed)),
            ("hexadecimal", format!("sha-256={}", "00".repeat(32)), Err(E::Malformed)),
            (
                "cut short",
                "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE:".to_owned(),
                Err(E::Malformed),
            ),
        ] {
            assert_eq!(check(&field, body), expected, "{what}");
        }
    }
}
