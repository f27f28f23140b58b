//! The credential of a paid request: `Payment` and one base64url text (MPP-13, MPP-15, MPP-16).
//!
//! ```text
//! Authorization:         1#( other-credentials / "Payment" 1*SP base64url )
//! Payment-Authorization: "Payment" 1*SP base64url
//! ```
//! The text is JSON: `{"challenge": {..}, "source": "did:..", "payload": {..}}`. SDKs whose users have a bearer key
//! already send `Bearer x, Payment y` in one line.

use std::fmt;

use serde_json::{Map, Value};

use super::challenge::Challenge;
use super::{PAYMENT_AUTHORIZATION, SCHEME};
use crate::base64::{self, Base64Error};
use crate::json::{self, JsonError};

/// Longest text of a credential.
pub const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;
/// Most credentials of one request that are looked at.
pub const CREDENTIALS_MAX: usize = 8;

/// A decoded credential, not verified. `Debug` hides the payload: some payloads are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The challenge as it is echoed.
    pub challenge: Challenge,
    /// Who says he pays. A claim: an identity only where the method's signature recovers to it.
    pub source: Option<String>,
    /// What the method asks for.
    pub payload: Map<String, Value>,
    /// Where it stood.
    pub field: Field,
}

/// The fields that carry a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `Authorization`
    Authorization,
    /// `Payment-Authorization`
    PaymentAuthorization,
}

/// Why a request's credential is not taken. Nothing was claimed in any of these cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Above [`CREDENTIAL_BYTES_MAX`].
    #[error("credential is {0} bytes, limit {CREDENTIAL_BYTES_MAX}")]
    TooLong(usize),
    /// More than any client sends.
    #[error("more than {CREDENTIALS_MAX} credentials")]
    TooMany,
    /// Empty, or not canonical base64url.
    #[error("credential is not base64url")]
    Base64,
    /// Not JSON as we read it.
    #[error("credential is {0}")]
    Json(#[from] JsonError),
    /// A member is absent, empty or of another type.
    #[error("credential has no usable {0}")]
    Member(&'static str),
    /// The challenge asked for another field.
    #[error("the challenge asks for its credential in another field")]
    Field,
    /// Two credentials that differ: which one should pay?
    #[error("two different payment credentials")]
    Ambiguous,
}

impl CredentialError {
    /// The finer reason beside the code of the refusal.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "credential_too_long",
            Self::TooMany => "too_many_credentials",
            Self::Base64 => "base64_malformed",
            Self::Json(_) => "json_malformed",
            Self::Member(_) => "member_missing",
            Self::Field => "wrong_field",
            Self::Ambiguous => "several_payments",
        }
    }

    /// Whether the request is answered with 400: which of its credentials should pay cannot be told.
    #[must_use]
    pub const fn is_ambiguous(&self) -> bool {
        match self {
            Self::Ambiguous | Self::TooMany => true,
            Self::TooLong(_) | Self::Base64 | Self::Json(_) | Self::Member(_) | Self::Field => false,
        }
    }
}

impl Credential {
    /// Reads the credential of a request from its header lines, of any name and in any order.
    ///
    /// `None`: the request brings none. One that cannot be read is passed over when another can; the same one twice is
    /// one.
    ///
    /// # Errors
    /// [`CredentialError`]: of the first that cannot be read when none can; `Ambiguous` when two differ.
    pub fn read<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Option<Self>, CredentialError> {
        let (mut taken, mut malformed, mut count) = (None::<Self>, None, 0);
        for (field, text) in headers.into_iter().flat_map(|(name, value)| places(name, value)) {
            count += 1;
            if count > CREDENTIALS_MAX {
                return Err(CredentialError::TooMany);
            }
            match (Self::decode(field, text), &taken) {
                (Ok(found), Some(other)) if !found.is_same(other) => return Err(CredentialError::Ambiguous),
                (Ok(_), Some(_)) => {}
                (Ok(found), None) => taken = Some(found),
                (Err(error), _) => malformed = malformed.or(Some(error)),
            }
        }
        match (taken, malformed) {
            (Some(credential), _) => Ok(Some(credential)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// The header value, a secret.
    #[must_use]
    pub fn to_value(&self) -> String {
        format!("{SCHEME} {}", base64::encode_url(Value::Object(self.to_members()).to_string().as_bytes()))
    }

    pub(super) fn to_members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("challenge".into(), Value::Object(self.challenge.to_object()));
        members.extend(self.source.clone().map(|source| ("source".into(), source.into())));
        members.insert("payload".into(), Value::Object(self.payload.clone()));
        members
    }

    /// Reads the text behind the name of the scheme.
    fn decode(field: Field, text: &str) -> Result<Self, CredentialError> {
        let bytes =
            base64::decode_url_any_padding(text, CREDENTIAL_BYTES_MAX).map_err(|error| match error {
                Base64Error::TooLong { length, .. } => CredentialError::TooLong(length),
                Base64Error::Malformed => CredentialError::Base64,
            })?;
        if bytes.is_empty() {
            return Err(CredentialError::Base64);
        }
        let Value::Object(members) = json::parse_strict(&bytes)? else {
            return Err(CredentialError::Member("object"));
        };
        Self::from_members(field, members)
    }

    pub(super) fn from_members(
        field: Field,
        mut members: Map<String, Value>,
    ) -> Result<Self, CredentialError> {
        let Some(Value::Object(challenge)) = members.remove("challenge") else {
            return Err(CredentialError::Member("challenge"));
        };
        let challenge = Challenge::from_object(&challenge).map_err(CredentialError::Member)?;
        let Some(Value::Object(payload)) = members.remove("payload") else {
            return Err(CredentialError::Member("payload"));
        };
        let source = match members.remove("source") {
            None => None,
            Some(Value::String(source)) => Some(source),
            Some(_) => return Err(CredentialError::Member("source")),
        };
        if challenge.wants_payment_authorization() && field == Field::Authorization {
            return Err(CredentialError::Field);
        }
        Ok(Self { challenge, source, payload, field })
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.challenge, &self.source, &self.payload) == (&other.challenge, &other.source, &other.payload)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Challenge { id, method, intent, .. } = &self.challenge;
        write!(f, "Credential({method}/{intent}, challenge {id}, payload hidden)")
    }
}

impl Challenge {
    /// The members of an echo; unknown ones are ignored.
    pub(super) fn from_object(members: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |name: &'static str| match members.get(name) {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            None => Ok(None),
            Some(_) => Err(name),
        };
        let required = |name| text(name)?.filter(|text| !text.is_empty()).ok_or(name);
        Ok(Self {
            id: required("id")?,
            realm: required("realm")?,
            method: required("method")?,
            intent: required("intent")?,
            request: required("request")?,
            expires: text("expires")?,
            digest: text("digest")?,
            opaque: text("opaque")?,
            description: text("description")?,
            header: text("header")?,
        })
    }

    /// The members of an echo.
    pub(super) fn to_object(&self) -> Map<String, Value> {
        let required = [
            ("id", &self.id),
            ("realm", &self.realm),
            ("method", &self.method),
            ("intent", &self.intent),
            ("request", &self.request),
        ];
        let optional = [
            ("expires", &self.expires),
            ("digest", &self.digest),
            ("opaque", &self.opaque),
            ("description", &self.description),
            ("header", &self.header),
        ];
        let required = required.into_iter().map(|(name, text)| (name, Some(text.clone())));
        let all = required.chain(optional.map(|(name, text)| (name, text.clone())));
        all.filter_map(|(name, text)| Some((name.to_owned(), text?.into()))).collect()
    }
}

/// The texts behind `Payment` in one line. A value that is not UTF-8 is nobody's credential.
fn places<'a>(name: &str, value: &'a [u8]) -> impl Iterator<Item = (Field, &'a str)> + use<'a> {
    let field = if name.eq_ignore_ascii_case("authorization") {
        Some(Field::Authorization)
    } else if name.eq_ignore_ascii_case(PAYMENT_AUTHORIZATION) {
        Some(Field::PaymentAuthorization)
    } else {
        None
    };
    let line = field.zip(std::str::from_utf8(value).ok()).filter(|(_, text)| may_have(text));
    line.into_iter().flat_map(|(field, text)| elements(text).map(move |element| (field, element))).filter_map(
        |(field, element)| {
            let (scheme, rest) = element.split_once([' ', '\t']).unwrap_or((element, ""));
            scheme.eq_ignore_ascii_case(SCHEME).then_some((field, rest.trim_matches([' ', '\t'])))
        },
    )
}

/// Whether a line can have a credential at all: most have a key and nothing behind it, which nobody has to take apart.
fn may_have(line: &str) -> bool {
    let first = line.trim_start_matches([' ', '\t']).get(..SCHEME.len());
    first.is_some_and(|first| first.eq_ignore_ascii_case(SCHEME)) || line.contains(',')
}

/// The elements of a list, split at commas that stand outside quotes.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |letter| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        letter == ',' && !is_quoted
    })
    .map(|element| element.trim_matches([' ', '\t']))
}
