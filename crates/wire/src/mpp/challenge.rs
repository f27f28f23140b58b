//! One challenge: what it says, the bytes its id is made over, and its header value (MPP-1, MPP-2).

use std::fmt::Write as _;

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

/// The same, borrowed: where challenges are made most of it is the same for every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// See [`Challenge::id`].
    pub id: &'a str,
    /// See [`Challenge::realm`].
    pub realm: &'a str,
    /// See [`Challenge::method`].
    pub method: &'a str,
    /// See [`Challenge::intent`].
    pub intent: &'a str,
    /// See [`Challenge::request`].
    pub request: &'a str,
    /// See [`Challenge::expires`].
    pub expires: Option<&'a str>,
    /// See [`Challenge::digest`].
    pub digest: Option<&'a str>,
    /// See [`Challenge::opaque`].
    pub opaque: Option<&'a str>,
    /// See [`Challenge::description`].
    pub description: Option<&'a str>,
    /// See [`Challenge::header`].
    pub header: Option<&'a str>,
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

    /// The same, borrowed.
    #[must_use]
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            id: &self.id,
            realm: &self.realm,
            method: &self.method,
            intent: &self.intent,
            request: &self.request,
            expires: self.expires.as_deref(),
            digest: self.digest.as_deref(),
            opaque: self.opaque.as_deref(),
            description: self.description.as_deref(),
            header: self.header.as_deref(),
        }
    }

    /// See [`Parts::slots`].
    #[must_use]
    pub fn slots(&self) -> String {
        self.parts().slots()
    }

    /// See [`Parts::alternate_field`].
    #[must_use]
    pub fn alternate_field(&self) -> Option<&str> {
        self.parts().alternate_field()
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

    /// See [`Parts::to_value`].
    ///
    /// # Errors
    /// [`ChallengeError`]
    pub fn to_value(&self) -> Result<String, ChallengeError> {
        self.parts().to_value()
    }
}

impl<'a> Parts<'a> {
    /// What the id is the HMAC of: seven parameters, or eight when [`Parts::alternate_field`] is there, which then
    /// stands before `opaque`. An absent one is empty.
    #[must_use]
    pub fn slots(&self) -> String {
        let Self { realm, method, intent, request, .. } = *self;
        let mut slots = String::with_capacity(self.bytes());
        slots.push_str(realm);
        let optional = |text: Option<&'a str>| Some(text.unwrap_or_default());
        let others = [
            Some(method),
            Some(intent),
            Some(request),
            optional(self.expires),
            optional(self.digest),
            self.alternate_field(),
            optional(self.opaque),
        ];
        for slot in others.into_iter().flatten() {
            slots.push('|');
            slots.push_str(slot);
        }
        slots
    }

    /// The field for the credential where that is not `Authorization`.
    #[must_use]
    pub fn alternate_field(&self) -> Option<&'a str> {
        let is_other = |field: &&str| !field.is_empty() && !field.eq_ignore_ascii_case("authorization");
        self.header.filter(is_other)
    }

    /// The one value of a `WWW-Authenticate` line.
    ///
    /// # Errors
    /// [`ChallengeError`]
    pub fn to_value(&self) -> Result<String, ChallengeError> {
        self.check()?;
        let mut value = String::with_capacity(self.bytes());
        value.push_str(SCHEME);
        value.push_str(" id=\"");
        push_quoted(&mut value, self.id);
        value.push('"');
        for (name, text) in [
            ("realm", self.realm),
            ("method", self.method),
            ("intent", self.intent),
            ("request", self.request),
        ] {
            put(&mut value, name, |value| push_quoted(value, text));
        }
        if let Some(text) = self.description {
            put(&mut value, "description", |value| push_quotable(value, text));
        }
        for (name, text) in [
            ("digest", self.digest),
            ("expires", self.expires),
            ("header", self.header),
            ("opaque", self.opaque),
        ] {
            if let Some(text) = text {
                put(&mut value, name, |value| push_quoted(value, text));
            }
        }
        Ok(value)
    }

    /// About what it takes, written.
    fn bytes(&self) -> usize {
        let optional = [self.expires, self.digest, self.opaque, self.description, self.header];
        let optional: usize = optional.into_iter().flatten().map(str::len).sum();
        let fixed = [self.id, self.realm, self.method, self.intent, self.request];
        // Names, quotes and commas are about a hundred more.
        fixed.into_iter().map(str::len).sum::<usize>() + optional + 128
    }

    fn check(&self) -> Result<(), ChallengeError> {
        for (name, text) in [
            ("id", self.id),
            ("realm", self.realm),
            ("method", self.method),
            ("intent", self.intent),
            ("request", self.request),
        ] {
            if text.is_empty() {
                return Err(ChallengeError::Empty(name));
            }
        }
        only("id", self.id, is_base64url)?;
        only("realm", self.realm, is_bound)?;
        only("method", self.method, is_method)?;
        only("intent", self.intent, is_intent)?;
        only("request", self.request, is_base64url)?;
        only("digest", self.digest.unwrap_or_default(), is_bound)?;
        only("expires", self.expires.unwrap_or_default(), is_bound)?;
        only("header", self.header.unwrap_or_default(), authenticate::is_word)?;
        only("opaque", self.opaque.unwrap_or_default(), is_base64url)?;
        if self.header.is_some_and(|field| field.contains('|')) {
            return Err(ChallengeError::Character("header"));
        }
        let length = self.request.len() + self.opaque.map_or(0, str::len);
        if length > TEXT_BYTES_SENT_MAX {
            return Err(ChallengeError::TooLong(length));
        }
        Ok(())
    }
}

/// Writes an object as `request` and `opaque` carry it.
#[must_use]
pub fn encode_object(object: &Map<String, Value>) -> String {
    encode_canonical(&jcs::object_to_string(object))
}

/// As [`encode_object`], of an object that is written already, canonically.
#[must_use]
pub fn encode_canonical(json: &str) -> String {
    base64::encode_url(json.as_bytes())
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

/// Every byte is looked at, whatever the first ones are: so it is done many at a time.
fn only(name: &'static str, text: &str, allowed: impl Fn(u8) -> bool) -> Result<(), ChallengeError> {
    let are_all = text.bytes().fold(true, |so_far, byte| so_far & allowed(byte));
    if are_all { Ok(()) } else { Err(ChallengeError::Character(name)) }
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

fn put(value: &mut String, name: &str, write: impl FnOnce(&mut String)) {
    value.push_str(", ");
    value.push_str(name);
    value.push_str("=\"");
    write(value);
    value.push('"');
}

fn push_quoted(value: &mut String, text: &str) {
    let mut rest = text;
    let found = |rest: &str| memchr::memchr2(b'\\', b'"', rest.as_bytes());
    while let Some((plain, behind)) = found(rest).and_then(|place| rest.split_at_checked(place)) {
        value.push_str(plain);
        value.push('\\');
        let mut letters = behind.chars();
        value.extend(letters.next());
        rest = letters.as_str();
    }
    value.push_str(rest);
}

/// As [`push_quoted`]; what no header carries is written `\uXXXX`, as mppx does, for whoever displays it.
fn push_quotable(value: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '\\' | '"' => value.extend(['\\', letter]),
            ' '..='~' => value.push(letter),
            _ => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    // Writing to a `String` cannot fail.
                    _ = write!(value, "\\u{unit:04x}");
                }
            }
        }
    }
}
