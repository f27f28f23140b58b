//! A key directory: whose keys are these? Each key that counts has signed that it belongs to the origin that was asked
//! (IDN-16), so nobody can list another's.

use std::sync::Arc;

use ed25519_dalek::{Signature, Signer as _, SigningKey};
use serde_json::{Map, Value, json};
use wire::message_signature::{
    BaseError, MessageSignature, SignatureError, Unsigned as Draft, read_directory,
};
use wire::{base64, content_digest, json};

use super::profile::{AHEAD_MAX_S, WINDOW_S_MAX};
use super::{ALGORITHM, AgentKey};
use crate::ed25519::thumbprint;

/// What these signatures are for, and no request's.
pub const TAG: &str = "http-message-signatures-directory";
/// Keys of one directory.
pub const KEYS_MAX: usize = 32;
/// Deepest nesting of its document.
const DEPTH_MAX: usize = 8;
/// Characters of a public key in unpadded base64url.
const ENCODED_KEY: usize = 43;
/// Times beyond this are milliseconds: a sample that many started from writes them so. In seconds it is the year 5138.
const SECONDS_MAX: u64 = 100_000_000_000;

/// An answer that is to be a directory. Nothing of it is trusted.
#[derive(Clone, Copy, Debug)]
pub struct Response<'r> {
    /// Whom it was asked of: host, and port where it is not the usual one.
    pub authority: &'r str,
    /// The lines of `Signature-Input`.
    pub inputs: &'r [&'r [u8]],
    /// The lines of `Signature`.
    pub signatures: &'r [&'r [u8]],
    /// The lines of `Content-Digest`.
    pub digests: &'r [&'r [u8]],
    /// The document, decoded. The caller bounds its length.
    pub body: &'r [u8],
}

/// What becomes of keys that have not signed the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// They do not count.
    Refuse,
    /// TLS vouches for the origin, and nobody for the keys: anybody's key may be listed there.
    Accept,
}

/// A key that its origin stands for, and it for its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// The key, shared by all who look it up.
    pub key: Arc<AgentKey>,
    /// Of no use before, in Unix seconds.
    pub not_before_s: Option<u64>,
    /// Of no use from then on, in Unix seconds.
    pub not_after_s: Option<u64>,
}

/// Why an answer is no directory. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Not a document with a list of keys, or one that is nested too deep.
    #[error("not a set of keys")]
    Malformed,
    /// More than [`KEYS_MAX`].
    #[error("more than {KEYS_MAX} keys")]
    TooManyKeys,
    /// Its fields hold no signatures.
    #[error(transparent)]
    Signatures(#[from] SignatureError),
    /// `Content-Digest` is another body's.
    #[error("the digest is that of another body")]
    Digest,
    /// It lists keys, and none has signed that it belongs there.
    #[error("no key has signed it")]
    Unsigned,
}

impl ListedKey {
    /// Whether the key counts now.
    #[must_use]
    pub fn is_in_force(&self, now_s: u64) -> bool {
        self.not_before_s.is_none_or(|from| now_s >= from)
            && self.not_after_s.is_none_or(|until| now_s < until)
    }
}

/// The keys of a directory that have signed it. None at all is an answer too: an agent that has no keys any more.
///
/// Keys of other algorithms are passed over, and so are those that nobody should hold or that stand there with their
/// secret half. `kid` is not read: a key's name is computed.
///
/// # Errors
/// [`DirectoryError`]: nothing is known, and an older copy goes on.
pub fn keys(
    response: &Response<'_>,
    unsigned: Unsigned,
    now_s: u64,
) -> Result<Vec<ListedKey>, DirectoryError> {
    let listed = listed(response.body)?;
    if unsigned == Unsigned::Accept || listed.is_empty() {
        return Ok(listed);
    }
    let signatures = read_directory(response.inputs, response.signatures)?;
    let digest = vouched(response)?;
    let stands = |key: &AgentKey| {
        let by_key = |signature: &&MessageSignature| signature.keyid.as_deref() == Some(key.thumbprint());
        signatures
            .iter()
            .filter(by_key)
            .any(|signature| is_signed(signature, key, response.authority, digest, now_s))
    };
    let signed: Vec<ListedKey> = listed.into_iter().filter(|listed| stands(&listed.key)).collect();
    if signed.is_empty() { Err(DirectoryError::Unsigned) } else { Ok(signed) }
}

/// A directory of ours, to be served as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The document.
    pub body: String,
    /// `Signature-Input`
    pub input: String,
    /// `Signature`
    pub signature: String,
}

/// Makes the directory of these keys, signed by each of them, for `authority` and until `expires_s`.
///
/// # Errors
/// [`BaseError`] where a time is none that can be written.
pub fn publish(
    keys: &[&SigningKey],
    authority: &str,
    created_s: u64,
    expires_s: u64,
) -> Result<Published, BaseError> {
    let mut published = Published { body: String::new(), input: String::new(), signature: String::new() };
    let mut documents = Vec::with_capacity(keys.len());
    for (at, key) in keys.iter().enumerate() {
        let public = key.verifying_key().to_bytes();
        let kid = thumbprint(&public);
        let unsigned = Draft {
            // The form that is deployed.
            components: vec!["@authority;req".to_owned()],
            created: created_s,
            expires: expires_s,
            nonce: None,
            tag: TAG.to_owned(),
        };
        let draft = unsigned.draft(&format!("key{at}"), &kid, ALGORITHM)?;
        let signature = key.sign(draft.directory_base(authority)?.as_bytes());
        let fields = draft.fields(&signature.to_bytes());
        let comma = if at == 0 { "" } else { ", " };
        published.input.push_str(&format!("{comma}{}", fields.input));
        published.signature.push_str(&format!("{comma}{}", fields.signature));
        documents.push(json!({"kty": "OKP", "crv": "Ed25519", "x": base64::encode_url(&public), "kid": kid, "use": "sig"}));
    }
    published.body = json!({"keys": documents}).to_string();
    Ok(published)
}

/// The digest of the body, if the answer has one: it must be right whether somebody signed it or not.
fn vouched<'r>(response: &Response<'r>) -> Result<Option<&'r str>, DirectoryError> {
    let digest = match response.digests {
        [] => return Ok(None),
        [line] => std::str::from_utf8(line).map_err(|_| DirectoryError::Digest)?.trim_matches([' ', '\t']),
        [_, _, ..] => return Err(DirectoryError::Digest),
    };
    content_digest::check(digest, response.body).map_err(|_| DirectoryError::Digest)?;
    Ok(Some(digest))
}

fn is_signed(
    signature: &MessageSignature,
    key: &AgentKey,
    authority: &str,
    digest: Option<&str>,
    now_s: u64,
) -> bool {
    let is_meant = signature.tag.as_deref() == Some(TAG)
        && signature.alg.as_deref().is_none_or(|alg| alg == ALGORITHM)
        && signature.names_authority();
    let (Some(created_s), Some(expires_s)) = (signature.created, signature.expires) else { return false };
    let is_fresh = created_s <= now_s.saturating_add(AHEAD_MAX_S)
        && now_s < expires_s
        && expires_s.checked_sub(created_s).is_some_and(|window_s| window_s <= WINDOW_S_MAX);
    let Ok(bytes) = <[u8; 64]>::try_from(signature.signature.as_slice()) else { return false };
    let Ok(base) = signature.directory_base(authority, digest) else { return false };
    let stands = || key.verifying().verify_strict(base.as_bytes(), &Signature::from_bytes(&bytes)).is_ok();
    is_meant && is_fresh && stands()
}

/// Every Ed25519 key that is listed, each once.
fn listed(body: &[u8]) -> Result<Vec<ListedKey>, DirectoryError> {
    let document = json::parse_strict(body).map_err(|_| DirectoryError::Malformed)?;
    if !is_within(&document, DEPTH_MAX) {
        return Err(DirectoryError::Malformed);
    }
    let keys = document.get("keys").and_then(Value::as_array).ok_or(DirectoryError::Malformed)?;
    if keys.len() > KEYS_MAX {
        return Err(DirectoryError::TooManyKeys);
    }
    let mut listed: Vec<ListedKey> = Vec::with_capacity(keys.len());
    for jwk in keys {
        let jwk = jwk.as_object().ok_or(DirectoryError::Malformed)?;
        let known =
            |key: &ListedKey| listed.iter().any(|other| other.key.thumbprint() == key.key.thumbprint());
        listed.extend(usable(jwk).filter(|key| !known(key)));
    }
    Ok(listed)
}

fn is_within(value: &Value, depth: usize) -> bool {
    let below = |child: &Value| depth > 0 && is_within(child, depth - 1);
    match value {
        Value::Array(items) => items.iter().all(below),
        Value::Object(members) => members.values().all(below),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// One key of the list, if it is one that we use.
fn usable(jwk: &Map<String, Value>) -> Option<ListedKey> {
    let is = |name: &str, expected: &str| jwk.get(name).and_then(Value::as_str) == Some(expected);
    let may = |name: &str, accepted: &[&str]| match jwk.get(name) {
        None => true,
        Some(value) => value.as_str().is_some_and(|text| accepted.contains(&text)),
    };
    let is_ours = is("kty", "OKP")
        && is("crv", "Ed25519")
        && may("use", &["sig"])
        // `ed25519` is the signature's word for it, and some write it here.
        && may("alg", &["EdDSA", "Ed25519", "ed25519"])
        && !jwk.contains_key("d");
    if !is_ours {
        return None;
    }
    let public = base64::decode_url(jwk.get("x")?.as_str()?, ENCODED_KEY).ok()?;
    let key = AgentKey::new(&public.try_into().ok()?)?;
    Some(ListedKey { key: Arc::new(key), not_before_s: time(jwk, "nbf")?, not_after_s: time(jwk, "exp")? })
}

/// A time that may be absent; nothing where it is there and no time.
fn time(jwk: &Map<String, Value>, name: &str) -> Option<Option<u64>> {
    let Some(value) = jwk.get(name) else { return Some(None) };
    let time = value.as_u64()?;
    Some(Some(if time >= SECONDS_MAX { time / 1000 } else { time }))
}

#[cfg(test)]
mod tests;
