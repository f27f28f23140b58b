//! The digest of a request's body, in two spellings (MPP-11).

use sha2::{Digest as _, Sha256};

use crate::base64;

const NAME: &str = "sha-256=";

/// The spelling of the SDKs: `sha-256=` and padded base64.
#[must_use]
pub fn of(body: &[u8]) -> String {
    format!("{NAME}{}", base64::encode_std(&Sha256::digest(body)))
}

/// Whether a text is the digest of a body: with the colons of RFC 9530 or without, compared as bytes.
#[must_use]
pub fn matches(text: &str, body: &[u8]) -> bool {
    parse(text).is_some_and(|hash| hash[..] == Sha256::digest(body)[..])
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let value = text.strip_prefix(NAME)?;
    let value = match value.strip_prefix(':') {
        Some(inner) => inner.strip_suffix(':')?,
        None => value,
    };
    let padded = value.len() == 44; // the one length of 32 bytes with padding
    padded.then(|| base64::decode_any(value, 44).ok()?.try_into().ok()).flatten()
}
