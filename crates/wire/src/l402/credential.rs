//! The L402 credential: tokens and the preimage that opens them (L402-10..17).
//!
//! ```text
//! Authorization: ("L402" / "LSAT") 1*SP token *3("," token) ":" 64HEXDIG
//! Authorization: "Bearer" 1*SP wrapped, or alone: x-api-key, api-key, x-goog-api-key
//! wrapped = "l402_" base64url-nopad "." 64HEXDIG
//! Macaroon, Grpc-Metadata-Macaroon, token: hex(macaroon) with a caveat preimage=<64 hex>
//! ```
//! The wrapped form is for SDKs that can send a bearer string only. It holds token and preimage, so it is
//! as secret as a card number.

use std::fmt;

use super::preimage::{PaymentHash, Preimage};
use super::token::{Token, TokenError};
use crate::caveat::Caveat;
use crate::{base64, hex};

/// Longest header value that is looked into: bounds the work an unpaid request buys (L402-13).
pub const VALUE_BYTES_MAX: usize = 4 * 1024;
/// Most tokens in front of one colon (L402-13).
pub const TOKENS_MAX: usize = 4;
/// Most lines of one request that may bring an L402 credential; Go clients send two.
pub const LINES_MAX: usize = 8;

const WRAPPED: &str = "l402_";

/// A decoded credential, not verified. Every token is over one payment hash. `Debug` hides the secrets.
#[derive(Clone)]
pub struct Credential {
    payment_hash: PaymentHash,
    tokens: Vec<Token>,
    preimage: Preimage,
}

/// Why a request's L402 credential is not taken. Holds sizes, never the value.
///
/// Nothing was consumed in any of these cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// L402-13.
    #[error("credential is {0} bytes, limit {VALUE_BYTES_MAX}")]
    TooLong(usize),
    /// L402-13.
    #[error("more than {TOKENS_MAX} tokens")]
    TooManyTokens,
    /// More lines than any client sends.
    #[error("more than {LINES_MAX} lines with a credential")]
    TooManyLines,
    /// Nothing stands between token and preimage.
    #[error("token and preimage are not separated")]
    NoSeparator,
    /// What lsat-js shows before it has paid (L402-17), or a hex form without its caveat.
    #[error("no preimage")]
    NoPreimage,
    /// Not exactly 64 hexadecimal digits (L402-11).
    #[error("preimage is not 32 bytes of hexadecimal")]
    Preimage,
    /// The hex form is not hexadecimal.
    #[error("macaroon is not hexadecimal")]
    Hex,
    /// A token cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The tokens of one list are over different payment hashes (L402-14).
    #[error("tokens over different payments in one list")]
    SeveralPayments,
    /// Two credentials over different payments: which one should pay?
    #[error("two credentials over different payments")]
    Ambiguous,
}

impl CredentialError {
    /// The code for the refusal's body: 400 for `ambiguous_credentials`, else a fresh challenge (402).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Ambiguous => "ambiguous_credentials",
            Self::TooLong(_)
            | Self::TooManyTokens
            | Self::TooManyLines
            | Self::NoSeparator
            | Self::NoPreimage
            | Self::Preimage
            | Self::Hex
            | Self::Token(_)
            | Self::SeveralPayments => "malformed_credential",
        }
    }

    /// The finer reason beside the code.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "credential_too_long",
            Self::TooManyTokens => "too_many_tokens",
            Self::TooManyLines => "too_many_lines",
            Self::NoSeparator => "separator_missing",
            Self::NoPreimage => "preimage_missing",
            Self::Preimage => "preimage_malformed",
            Self::Hex => "hex_malformed",
            Self::Token(TokenError::Base64) => "base64_malformed",
            Self::Token(TokenError::Macaroon(_)) => "macaroon_malformed",
            Self::Token(TokenError::Identifier) => "identifier_unknown",
            Self::SeveralPayments | Self::Ambiguous => "several_payments",
        }
    }
}

/// Where a credential stood. The order is that of precedence (L402-15).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// `Authorization: L402` or `LSAT`.
    Scheme,
    /// `Authorization: Bearer l402_...`
    Bearer,
    /// `x-api-key`, then `api-key`, then `x-goog-api-key`.
    ApiKey(u8),
    /// `Macaroon`, `Grpc-Metadata-Macaroon`.
    Hex,
    /// The metadata key `token`. Other software uses that name too.
    HexToken,
}

impl Credential {
    /// Reads the credential of a request from its header lines, of any name and in any order.
    ///
    /// `None`: no line is L402's, the request is unpaid (L402-16). A line that cannot be read is passed
    /// over when another can (L402-10). Of several over one payment the first by place is taken.
    ///
    /// # Errors
    /// [`CredentialError`]: of the first line that is L402's when none can be read; `Ambiguous` when two
    /// name different payments.
    pub fn read<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Option<Self>, CredentialError> {
        let mut taken: Option<(Place, Self)> = None;
        let mut malformed = None;
        let mut lines = 0;
        for (place, text) in headers.into_iter().filter_map(|(name, value)| Place::of(name, value)) {
            lines += 1;
            if lines > LINES_MAX {
                return Err(CredentialError::TooManyLines);
            }
            match (Self::parse_at(place, text), &taken) {
                (Ok(found), Some((_, other))) if found.payment_hash != other.payment_hash => {
                    return Err(CredentialError::Ambiguous);
                }
                (Ok(_), Some((before, _))) if *before <= place => {}
                (Ok(found), Some(_) | None) => taken = Some((place, found)),
                (Err(_), _) if place == Place::HexToken => {}
                (Err(error), _) => malformed = malformed.or(Some(error)),
            }
        }
        match (taken, malformed) {
            (Some((_, credential)), _) => Ok(Some(credential)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Reads one `Authorization` value; `None` when it speaks of something else.
    ///
    /// # Errors
    /// [`CredentialError`]
    pub fn parse(authorization: &str) -> Result<Option<Self>, CredentialError> {
        Self::read([("authorization", authorization.as_bytes())])
    }

    /// Puts a token and its preimage together, as a payer does.
    #[must_use]
    pub fn new(token: Token, preimage: Preimage) -> Self {
        Self { payment_hash: token.identifier().payment_hash, tokens: vec![token], preimage }
    }

    /// The payment that every token names. That the preimage opens it is not checked yet.
    #[must_use]
    pub const fn payment_hash(&self) -> PaymentHash {
        self.payment_hash
    }

    /// One to [`TOKENS_MAX`] tokens, in the order they came.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// What should open the payment hash.
    #[must_use]
    pub const fn preimage(&self) -> &Preimage {
        &self.preimage
    }

    /// The `Authorization` value: a secret.
    #[must_use]
    pub fn to_authorization(&self) -> String {
        let tokens: Vec<_> = self.tokens.iter().map(Token::to_base64).collect();
        format!("L402 {}:{}", tokens.join(","), hex::encode(self.preimage.as_bytes()))
    }

    /// The form for software that can send an API key only, without `Bearer`: a secret. Holds the first token.
    #[must_use]
    pub fn to_wrapped(&self) -> String {
        let token = self.tokens.first().map(|token| base64::encode_url(&token.macaroon().encode()));
        format!("{WRAPPED}{}.{}", token.unwrap_or_default(), hex::encode(self.preimage.as_bytes()))
    }

    fn parse_at(place: Place, text: &str) -> Result<Self, CredentialError> {
        if text.len() > VALUE_BYTES_MAX {
            return Err(CredentialError::TooLong(text.len()));
        }
        match place {
            Place::Scheme => Self::from_list(text),
            Place::Bearer | Place::ApiKey(_) => Self::from_wrapped(text),
            Place::Hex | Place::HexToken => Self::from_hex(text),
        }
    }

    fn from_list(text: &str) -> Result<Self, CredentialError> {
        let (list, preimage) = split_once(text, b':').ok_or(CredentialError::NoSeparator)?;
        let preimage = preimage_of(preimage)?;
        if memchr::memchr_iter(b',', list.as_bytes()).count() >= TOKENS_MAX {
            return Err(CredentialError::TooManyTokens);
        }
        let (first, others) =
            split_once(list, b',').map_or((list, None), |(first, rest)| (first, Some(rest)));
        let mut credential = Self::new(Token::from_base64(first)?, preimage);
        for other in others.into_iter().flat_map(|others| others.split(',')) {
            let token = Token::from_base64(other)?;
            if token.identifier().payment_hash != credential.payment_hash {
                return Err(CredentialError::SeveralPayments);
            }
            credential.tokens.push(token);
        }
        Ok(credential)
    }

    /// Splits at the one full stop: `_` and `-` are letters of this alphabet.
    fn from_wrapped(text: &str) -> Result<Self, CredentialError> {
        let (token, preimage) = split_once(text, b'.').ok_or(CredentialError::NoSeparator)?;
        let preimage = preimage_of(preimage)?;
        let bytes = base64::decode_url(token, VALUE_BYTES_MAX).map_err(|_| TokenError::Base64)?;
        Ok(Self::new(Token::decode(&bytes)?, preimage))
    }

    fn from_hex(text: &str) -> Result<Self, CredentialError> {
        let bytes = hex::decode(text).map_err(|_| CredentialError::Hex)?;
        let token = Token::decode(&bytes)?;
        let preimage = token.macaroon().caveats.iter().find_map(|caveat| {
            let Ok(Caveat::Preimage(preimage)) = Caveat::parse(caveat) else { return None };
            Some(Preimage::new(preimage))
        });
        Ok(Self::new(token, preimage.ok_or(CredentialError::NoPreimage)?))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}, {} tokens, preimage hidden)", self.payment_hash, self.tokens.len())
    }
}

impl Place {
    /// Where a line stands in the family, and its text behind scheme and prefix; `None` when it is no
    /// line of ours. A value that is not UTF-8 is nobody's credential.
    fn of<'a>(name: &str, value: &'a [u8]) -> Option<(Self, &'a str)> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let text = || std::str::from_utf8(value).ok().map(|text| text.trim_matches([' ', '\t']));
        if is("authorization") {
            return Self::of_authorization(text()?);
        }
        for (rank, key) in [(0, "x-api-key"), (1, "api-key"), (2, "x-goog-api-key")] {
            if is(key) {
                return Some((Self::ApiKey(rank), text()?.strip_prefix(WRAPPED)?));
            }
        }
        if is("macaroon") || is("grpc-metadata-macaroon") {
            return Some((Self::Hex, text()?));
        }
        if is("token") { Some((Self::HexToken, text()?)) } else { None }
    }

    fn of_authorization(text: &str) -> Option<(Self, &str)> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim_start_matches(' ');
        let is = |other: &str| scheme.eq_ignore_ascii_case(other);
        if is("L402") || is("LSAT") {
            return Some((Self::Scheme, rest));
        }
        if is("Bearer") { Some((Self::Bearer, rest.strip_prefix(WRAPPED)?)) } else { None }
    }
}

/// As `str::split_once`, which looks at one byte at a time; here hundreds stand before `at`, which is ASCII.
fn split_once(text: &str, at: u8) -> Option<(&str, &str)> {
    let index = memchr::memchr(at, text.as_bytes())?;
    Some((text.get(..index)?, text.get(index + 1..)?))
}

fn preimage_of(text: &str) -> Result<Preimage, CredentialError> {
    if text.is_empty() {
        return Err(CredentialError::NoPreimage);
    }
    Preimage::parse(text).map_err(|_| CredentialError::Preimage)
}
