//! A credential that is bound to a key opens nothing without a fresh signature of that key (IDN-26..30, L402-58).
//!
//! Asked after the credential's own chain was found good and not revoked: a flood of made-up tokens buys no curve work
//! (IDN-29). The verdict is never kept: each request brings its own proof.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use proof::identity::{AgentKey, Ambiguous, Profile, Refused, Tag, pick};

use super::nonces::Claimed;
use super::signed::{Content, as_signed, signatures};
use crate::call::Arrived;
use crate::credential::KEY_FIELDS;
use crate::gate::Gate;
use crate::lightning::HEX_FIELDS;
use crate::refusal::{Code, Facts, Refusal};

const PROTOCOL: &str = "holder";
/// Fields, beside those of plain keys and of tokens in hexadecimal, in which a credential of ours may stand.
static FIELDS: [HeaderName; 2] = [header::AUTHORIZATION, HeaderName::from_static("payment-authorization")];

/// Whether a request carries a good proof of this key over what it is and the credential that it shows.
///
/// # Errors
/// 401: nothing is held, and no payment would help.
pub(crate) fn check(
    gate: &Gate,
    arrived: &Arrived,
    key: &[u8; 32],
    content: Content<'_>,
) -> Result<(), Refusal> {
    // A credit key and a token that are bound to the same key: one proof is for both.
    if arrived.identity.proven_holder.get().is_some_and(|proven| proven == *key) {
        return Ok(());
    }
    let checked = verify(gate, arrived, key, content);
    gate.metrics.proof(PROTOCOL, if checked.is_ok() { "good" } else { "bad" });
    match checked {
        Ok(()) => {
            arrived.identity.proven_holder.set(Some(*key));
            Ok(())
        }
        Err(refusal) => {
            // A thief who has the key alone is no call of its account: his address is all that can be counted.
            arrived.snapshot.limiters.count_invalid(arrived.source);
            Err(refusal)
        }
    }
}

fn verify(gate: &Gate, arrived: &Arrived, key: &[u8; 32], content: Content<'_>) -> Result<(), Refusal> {
    let headers = &arrived.head.headers;
    // A weak key is refused when its caveat is read.
    let key = AgentKey::new(key).ok_or_else(|| invalid("keyid"))?;
    let found = signatures(headers).map_err(|_| invalid("malformed"))?;
    let signature = match pick(&found, Tag::Holder) {
        Err(Ambiguous(_)) => return Err(invalid("ambiguous")),
        Ok(None) => return Err(missing(arrived, &key, content)),
        Ok(Some(signature)) => signature,
    };
    let has_body = content.is_body(headers);
    let fields = credential_fields(headers);
    let profile = Profile::Holder { credential_fields: &fields, has_body };
    let now_s = arrived.now.seconds();
    let unproven = as_signed(arrived, |request| profile.examine(signature, request, now_s));
    let unproven = unproven.map_err(refusal)?;
    let covers_digest = unproven.covers_digest;
    let proven = unproven.prove(&key).map_err(refusal)?;
    // Before the nonce: a request with another body must not use up that of the genuine one.
    if covers_digest && !content.is_vouched_for(headers) {
        return Err(invalid("content_digest"));
    }
    let claim = proven.nonce.ok_or_else(|| invalid("nonce"))?;
    if proven.created_s <= gate.started.seconds() {
        return Err(invalid("signed_before_restart").retry_after(1));
    }
    match gate.nonces.claim(claim, now_s) {
        Claimed::Fresh => Ok(()),
        Claimed::Seen => Err(invalid("nonce_used")),
        Claimed::Over => Err(invalid("expired")),
        Claimed::Full => Err(invalid("nonces_full").retry_after(1)),
    }
}

/// Every field of the request that may carry a credential: the proof is bound to what stands there.
fn credential_fields(headers: &HeaderMap) -> Vec<&'static str> {
    let names = FIELDS.iter().chain(&HEX_FIELDS).chain(&KEY_FIELDS);
    names.filter(|name| headers.contains_key(*name)).map(HeaderName::as_str).collect()
}

/// Says what is to be signed, to people and to programs (RFC 9421 section 5.1).
fn missing(arrived: &Arrived, key: &AgentKey, content: Content<'_>) -> Refusal {
    let headers = &arrived.head.headers;
    let query = arrived.target.contains('?').then_some("@query");
    let digest = content.is_body(headers).then_some("content-digest");
    let fields = credential_fields(headers);
    let components = ["@method", "@authority", "@path"].into_iter().chain(query).chain(fields).chain(digest);
    let components: Vec<String> = components.map(|name| format!("\"{name}\"")).collect();
    let (list, keyid, tag) = (components.join(" "), key.thumbprint(), Tag::Holder.name());
    let wanted =
        format!("holder=({list});created;expires;keyid=\"{keyid}\";alg=\"ed25519\";nonce;tag=\"{tag}\"");
    let detail = format!(
        "This credential is bound to its holder's key {keyid}: sign the request with it (RFC 9421, tag {tag}, over {list})."
    );
    let refusal = Refusal::new(Code::HolderProofMissing, detail);
    match HeaderValue::from_str(&wanted) {
        Ok(wanted) => refusal.header(HeaderName::from_static("accept-signature"), wanted),
        Err(_) => refusal,
    }
}

fn refusal(refused: Refused) -> Refusal {
    invalid(refused.name())
}

fn invalid(reason: &'static str) -> Refusal {
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    let detail = "The signature of this credential's holder does not count for this request.";
    Refusal::new(Code::HolderProofInvalid, detail).facts(facts)
}
