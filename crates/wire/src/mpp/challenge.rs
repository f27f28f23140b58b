//! One challenge: what it says, the bytes its id is made over, and its header value (MPP-1, MPP-2).

use serde_json::{Map, Value};

use super::{PAYMENT_AUTHORIZATION, SCHEME};
use crate::json::{self, JsonError};
use crate::{authenticate, base64, jcs, rfc3339};

/// Most bytes of `request` and `opaque` together that we send: a header line has to pass every proxy.
pub const TEXT_BYTES_SENT_MAX: usize = 4 * 1024;
/// Longest `request` or `opaque` that is read.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The parameters of a challenge, each as its text on the wire.
///
/// What a client echoes in its credential is the same, so the id can be checked over both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// HMAC over [`Challenge::slots`], base64url. Empty until it is made.
    pub id: String,
    /// The protection space: our public host.
    pub realm: String,
    /// The way of paying, in lower case.
    pub method: String,
    /// `charge`, `session`, ...
    pub intent: String,
    /// base64url of the canonical JSON of the method's request.
    pub request: String,
    /// RFC 3339; bound as text, so never written anew.
    pub expires: Option<String>,
    /// Of the body of the request that is to be paid.
    pub digest: Option<String>,
    /// base64url of the canonical JSON of what the server wants back.
    pub opaque: Option<String>,
    /// For display only; not bound.
    pub description: Option<String>,
    /// The field in which the credential is to come, if not `Authorization`.
    pub header: Option<String>,
}

/// Why a challenge cannot be sent. A mistake of ours: leave this offer out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Absent or empty.
    #[error("parameter {0} is empty")]
    Empty(&'static str),
    /// A byte that would let two challenges share an id, end the quoted value, or not pass as a header (MPP-1, MPP-2).
    #[error("parameter {0} has a character that it must not have")]
    Character(&'static str),
    /// Above [`TEXT_BYTES_SENT_MAX`].
    #[error("request and opaque are {0} bytes, limit {TEXT_BYTES_SENT_MAX}")]
    TooLong(usize),
}

/// Why a `request` or an `opaque` cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Above [`TEXT_BYTES_MAX`].
    #[error("{0} characters, limit {TEXT_BYTES_MAX}")]
    TooLong(usize),
    /// Not canonical base64url.
    #[error("not base64url")]
    Base64,
    /// Not JSON as we read it.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON, and no object.
    #[error("not a JSON object")]
    NoObject,
}

impl Challenge {
    /// A challenge without an id, an expiry and everything that is optional. `request` is written in its canonical
    /// form.
    #[must_use]
    pub fn new(realm: &str, method: &str, intent: &str, request: &Map<String, Value>) -> Self {
        Self {
            realm: realm.to_owned(),
            method: method.to_owned(),
            intent: intent.to_owned(),
            request: encode_object(request),
            ..Self::default()
        }
    }

    /// What the id is the HMAC of: seven parameters, or eight when [`Challenge::alternate_field`] is there, which then
    /// stands before `opaque`. An absent one is empty.
    #[must_use]
    pub fn slots(&self) -> String {
        let text = |optional: &Option<String>| optional.clone().unwrap_or_default();
        let mut slots = vec![
            self.realm.clone(),
            self.method.clone(),
            self.intent.clone(),
            self.request.clone(),
            text(&self.expires),
            text(&self.digest),
        ];
        slots.extend(self.alternate_field().map(ToOwned::to_owned));
        slots.push(text(&self.opaque));
        slots.join("|")
    }

    /// The field for the credential where that is not `Authorization`.
    #[must_use]
    pub fn alternate_field(&self) -> Option<&str> {
        let is_other = |field: &&str| !field.is_empty() && !field.eq_ignore_ascii_case("authorization");
        self.header.as_deref().filter(is_other)
    }

    /// Whether the credential is to come in `Payment-Authorization`.
    #[must_use]
    pub fn wants_payment_authorization(&self) -> bool {
        self.alternate_field().is_some_and(|field| field.eq_ignore_ascii_case(PAYMENT_AUTHORIZATION))
    }

    /// When it ends, in Unix seconds; `None` where that is absent or no time.
    #[must_use]
    pub fn expires_at_s(&self) -> Option<u64> {
        rfc3339::parse(self.expires.as_deref()?)
    }

    /// The method's request. Of a credential only after its id was checked (MPP-7).
    ///
    /// # Errors
    /// [`RequestError`]
    pub fn request_object(&self) -> Result<Map<String, Value>, RequestError> {
        decode_object(&self.request)
    }

    /// The one value of a `WWW-Authenticate` line.
    ///
    /// # Errors
    /// [`ChallengeError`]
    pub fn to_value(&self) -> Result<String, ChallengeError> {
        self.check()?;
        let description = self.description.as_deref().map(quotable);
        let mut value = format!("{SCHEME} id=\"{}\"", quoted(&self.id));
        for (name, text) in [
            ("realm", Some(self.realm.as_str())),
            ("method", Some(&self.method)),
            ("intent", Some(&self.intent)),
            ("request", Some(&self.request)),
        ] {
            put(&mut value, name, text.map(quoted));
        }
        put(&mut value, "description", description);
        for (name, text) in [
            ("digest", &self.digest),
            ("expires", &self.expires),
            ("header", &self.header),
            ("opaque", &self.opaque),
        ] {
            put(&mut value, name, text.as_deref().map(quoted));
        }
        Ok(value)
    }

    fn check(&self) -> Result<(), ChallengeError> {
        for (name, text, allowed) in [
            ("id", &self.id, is_base64url as fn(u8) -> bool),
            ("realm", &self.realm, is_bound),
            ("method", &self.method, is_method),
            ("intent", &self.intent, is_intent),
            ("request", &self.request, is_base64url),
        ] {
            if text.is_empty() {
                return Err(ChallengeError::Empty(name));
            }
            only(name, text, allowed)?;
        }
        for (name, text, allowed) in [
            ("digest", &self.digest, is_bound as fn(u8) -> bool),
            ("expires", &self.expires, is_bound),
            ("header", &self.header, authenticate::is_word),
            ("opaque", &self.opaque, is_base64url),
        ] {
            only(name, text.as_deref().unwrap_or_default(), allowed)?;
        }
        if self.header.as_deref().is_some_and(|field| field.contains('|')) {
            return Err(ChallengeError::Character("header"));
        }
        let length = self.request.len() + self.opaque.as_deref().map_or(0, str::len);
        if length > TEXT_BYTES_SENT_MAX {
            return Err(ChallengeError::TooLong(length));
        }
        Ok(())
    }
}

/// Writes an object as `request` and `opaque` carry it.
#[must_use]
pub fn encode_object(object: &Map<String, Value>) -> String {
    base64::encode_url(jcs::object_to_string(object).as_bytes())
}

/// Reads an object as `request` and `opaque` carry it, padded or not.
///
/// # Errors
/// [`RequestError`]
pub fn decode_object(text: &str) -> Result<Map<String, Value>, RequestError> {
    use base64::Base64Error as E;
    let bytes = base64::decode_url_any_padding(text, TEXT_BYTES_MAX).map_err(|error| match error {
        E::TooLong { length, .. } => RequestError::TooLong(length),
        E::Malformed => RequestError::Base64,
    })?;
    let Value::Object(object) = json::parse_strict(&bytes)? else { return Err(RequestError::NoObject) };
    Ok(object)
}

/// Whether a method's name is one that clients read: a letter first, then letters, digits, `:`, `_` and `-`.
#[must_use]
pub fn is_method_name(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_lowercase()) && name.bytes().all(is_method)
}

/// Whether an intent's name is one that clients read.
#[must_use]
pub fn is_intent_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_intent)
}

fn only(name: &'static str, text: &str, allowed: fn(u8) -> bool) -> Result<(), ChallengeError> {
    if text.bytes().all(allowed) { Ok(()) } else { Err(ChallengeError::Character(name)) }
}

/// Anything printable but the separator of the slots.
const fn is_bound(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'|'
}

const fn is_method(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b':' | b'_' | b'-')
}

const fn is_intent(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

const fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn put(value: &mut String, name: &str, text: Option<String>) {
    if let Some(text) = text {
        value.push_str(&format!(", {name}=\"{text}\""));
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// As [`quoted`]; what no header carries is written `\uXXXX`, as mppx does, for whoever displays it.
fn quotable(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '"' => written.extend(['\\', letter]),
            ' '..='~' => written.push(letter),
            _ => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    written.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    written
}
