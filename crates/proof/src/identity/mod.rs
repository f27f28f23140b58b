//! Who signed this request, and is the signature fresh, over what matters, by that key?
//!
//! One verifier of RFC 9421 signatures with one profile per use ([`Profile`]). It has neither clock nor memory nor keys:
//! `now` and the key are arguments, a nonce that must not come again is an outcome ([`NonceClaim`]). Identity is never money:
//! nothing here leads to a deposit.
//!
//! ```
//! use proof::SigningKey;
//! use proof::identity::{AgentKey, Profile, Tag, pick, sign};
//! use wire::message_signature::{Request, Unsigned, read};
//!
//! let (signer, now) = (SigningKey::from_bytes(&[7; 32]), 1_800_000_000);
//! let key = AgentKey::new(&signer.verifying_key().to_bytes()).unwrap();
//! let none = |_: &str| Vec::new();
//! let request = Request {
//!     method: "GET", scheme: "https", authority: "gw.example", path: "/v1/models", query: None, fields: &none,
//! };
//! let unsigned = Unsigned {
//!     components: vec!["@authority".into(), "@path".into()],
//!     created: now, expires: now + 60, nonce: Some("n1".into()), tag: Tag::AgentBrowser.name().into(),
//! };
//! let fields = sign(&signer, "tap", &unsigned, &request).unwrap();
//!
//! let signatures = read(&[fields.input.as_bytes()], &[fields.signature.as_bytes()]).unwrap();
//! let signature = pick(&signatures, Tag::AgentBrowser).unwrap().unwrap();
//! let profile = Profile::VisaTap { window_s: 480 };
//! let proven = profile.examine(signature, &request, now).unwrap().prove(&key).unwrap();
//! assert_eq!(proven.tag, Tag::AgentBrowser);
//! ```

mod agent;
pub mod directory;
mod key;
mod profile;

pub use agent::{AgentError, Origin, SignatureAgent};
pub use key::AgentKey;
pub use profile::{AHEAD_MAX_S, HOLDER_WINDOW_S, NONCE_BYTES_MAX, Profile, WINDOW_S_MAX};

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey};
use wire::message_signature::{BaseError, Fields, MessageSignature, Request, Unsigned};

use crate::{ed25519, mac};

/// The only algorithm in this version (IDN-9).
const ALGORITHM: &str = "ed25519";

/// What a signature is for. A tag that is none of these is another party's affair (IDN-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Web Bot Auth.
    WebBotAuth,
    /// Visa TAP: the agent looks around.
    AgentBrowser,
    /// Visa TAP: the agent is about to pay.
    AgentPayer,
    /// Our own: the holder of a credential that is bound to a key.
    Holder,
}

impl Tag {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::WebBotAuth, Self::AgentBrowser, Self::AgentPayer, Self::Holder];

    /// The value of the parameter `tag`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebBotAuth => "web-bot-auth",
            Self::AgentBrowser => "agent-browser-auth",
            Self::AgentPayer => "agent-payer-auth",
            Self::Holder => "farthing-holder",
        }
    }
}

/// Two signatures claim the same tag: two readers might take different ones (IDN-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two signatures have the tag {}", .0.name())]
pub struct Ambiguous(pub Tag);

/// The signature with a tag, by nothing else: labels are free. None where nobody signed for that.
///
/// # Errors
/// [`Ambiguous`]
pub fn pick(signatures: &[MessageSignature], tag: Tag) -> Result<Option<&MessageSignature>, Ambiguous> {
    let mut tagged = signatures.iter().filter(|one| one.tag.as_deref() == Some(tag.name()));
    match (tagged.next(), tagged.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => Err(Ambiguous(tag)),
    }
}

/// Why a signature proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not Ed25519: it may be good, and is not judged here (IDN-9).
    #[error("not an Ed25519 signature")]
    Algorithm,
    /// Its tag is not one of the profile (IDN-13).
    #[error("signed for something else")]
    Tag,
    /// `created`, `expires` or `keyid` is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// Made later than now, or not expired before it was made (IDN-10).
    #[error("not valid yet")]
    TooEarly,
    /// Its time is over (IDN-10).
    #[error("expired")]
    Expired,
    /// Valid for longer than the profile permits (IDN-10).
    #[error("valid for longer than {0} seconds")]
    Window(u64),
    /// No nonce, an empty one, or one of more than [`NONCE_BYTES_MAX`] (IDN-11).
    #[error("no nonce of 1 to {NONCE_BYTES_MAX} bytes")]
    Nonce,
    /// The profile wants this signed (IDN-8, IDN-27).
    #[error("`{0}` is not signed")]
    Uncovered(&'static str),
    /// What is signed cannot be had from the request.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// `Signature-Agent` names no directory that we take.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// `keyid` is not that of the key (section 5 of the rules: its RFC 7638 thumbprint).
    #[error("`keyid` names another key")]
    Keyid,
    /// The signature is not that of the key over this request.
    #[error("the signature does not stand")]
    Signature,
}

impl Refused {
    /// Whether the signature is bad. What is merely not judged is `unverified` (IDN-3).
    #[must_use]
    pub const fn is_bad(self) -> bool {
        match self {
            Self::Algorithm | Self::Agent(AgentError::NotFetched) => false,
            Self::Tag
            | Self::Missing(_)
            | Self::TooEarly
            | Self::Expired
            | Self::Window(_)
            | Self::Nonce
            | Self::Uncovered(_)
            | Self::Base(_)
            | Self::Agent(AgentError::Malformed | AgentError::NotHttps)
            | Self::Keyid
            | Self::Signature => true,
        }
    }

    /// The word in logs and problems.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm",
            Self::Tag => "tag",
            Self::Missing(_) => "parameter_missing",
            Self::TooEarly => "not_yet_valid",
            Self::Expired => "expired",
            Self::Window(_) => "window_too_long",
            Self::Nonce => "nonce",
            Self::Uncovered(_) => "not_covered",
            Self::Base(_) => "component",
            Self::Agent(_) => "signature_agent",
            Self::Keyid => "keyid",
            Self::Signature => "signature",
        }
    }
}

/// A signature that is fresh and covers what it must; what is missing is the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Unproven {
    /// What it is for.
    pub tag: Tag,
    /// Names the key.
    pub keyid: String,
    /// Where the key can be had, if the request says so.
    pub agent: Option<SignatureAgent>,
    /// Whether the body is signed by its digest: it is to be compared when it is here (IDN-12).
    pub covers_digest: bool,
    base: String,
    signature: [u8; 64],
    nonce: Option<String>,
    created_s: u64,
    expires_s: u64,
}

/// Prints what it is for: nonces and signatures belong in no log (IDN-37).
impl fmt::Debug for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unproven({}, keyid {})", self.tag.name(), self.keyid)
    }
}

/// A signature that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// What it is for.
    pub tag: Tag,
    /// RFC 7638 thumbprint of the key.
    pub thumbprint: String,
    /// When it was made, in Unix seconds.
    pub created_s: u64,
    /// What must not come again. The signature counts only when this has been claimed (IDN-11).
    pub nonce: Option<NonceClaim>,
}

/// A nonce as it is remembered: whoever sees this learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NonceClaim {
    /// Hash of the key, for a bound per key.
    pub key: [u8; 16],
    /// Hash of profile, key and nonce.
    pub id: [u8; 32],
    /// Until when it must be remembered, in Unix seconds.
    pub expires_s: u64,
}

impl Unproven {
    /// Checks the signature with the key that `keyid` named.
    ///
    /// # Errors
    /// [`Refused::Keyid`] or [`Refused::Signature`]. Only what is returned may claim its nonce: before that anybody could
    /// burn another's (IDN-11).
    pub fn prove(self, key: &AgentKey) -> Result<Proven, Refused> {
        if !key.is_named(&self.keyid) {
            return Err(Refused::Keyid);
        }
        let signature = Signature::from_bytes(&self.signature);
        let stands = key.verifying().verify_strict(self.base.as_bytes(), &signature);
        stands.map_err(|_| Refused::Signature)?;
        let thumbprint = key.thumbprint();
        let claim = |nonce: String| NonceClaim {
            key: mac::first_half(&mac::hash("farthing/nonce-key/1", &[thumbprint.as_bytes()])),
            id: mac::hash(
                "farthing/nonce/1",
                &[self.tag.name().as_bytes(), thumbprint.as_bytes(), nonce.as_bytes()],
            ),
            expires_s: self.expires_s,
        };
        Ok(Proven {
            tag: self.tag,
            thumbprint: thumbprint.to_owned(),
            created_s: self.created_s,
            nonce: self.nonce.map(claim),
        })
    }
}

/// Signs a request: what the two fields are to say.
///
/// # Errors
/// [`BaseError`] where the request lacks something that is to be signed.
pub fn sign(
    key: &SigningKey,
    label: &str,
    unsigned: &Unsigned,
    request: &Request<'_>,
) -> Result<Fields, BaseError> {
    let keyid = ed25519::thumbprint(&key.verifying_key().to_bytes());
    let draft = unsigned.draft(label, &keyid, ALGORITHM)?;
    let signature = key.sign(draft.base(request)?.as_bytes());
    Ok(draft.fields(&signature.to_bytes()))
}

#[cfg(test)]
mod tests;
