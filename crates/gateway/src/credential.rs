//! What a request pays with: a credit key, one payment, both, or nothing (reference items 13, 14, 18).

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use wire::cashu::{Token, X_CASHU};
use wire::mpp::{Credential, CredentialError};
use wire::x402::{header as x402, v1, v2};

use crate::cashu;
use crate::mpp;
use crate::refusal::{Code, Refusal};

/// A decoded payment, not verified.
#[derive(Clone, Debug)]
pub(crate) enum Payment {
    /// `X-PAYMENT`.
    V1(v1::PaymentPayload),
    /// `PAYMENT-SIGNATURE`.
    V2(Box<v2::PaymentPayload>),
}

impl Payment {
    /// What it brings back of the extensions; version 1 has none.
    pub(crate) const fn extensions(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::V1(_) => None,
            Self::V2(payment) => payment.extensions.as_ref(),
        }
    }

    /// The name in logs and receipts.
    pub(crate) const fn protocol(&self) -> &'static str {
        match self {
            Self::V1(_) => "x402-v1",
            Self::V2(_) => "x402-v2",
        }
    }
}

/// What a request brought. The key is a secret: no `Debug`.
#[derive(Default)]
pub(crate) struct Presented {
    /// Text of a credit key.
    pub(crate) key: Option<String>,
    /// At most one payment.
    pub(crate) payment: Option<Payment>,
    /// A payment header was there that is none.
    pub(crate) malformed: bool,
    /// Whether there is something of L402.
    pub(crate) token: bool,
    /// Ecash.
    pub(crate) ecash: Option<Token>,
    /// A credential of the `Payment` scheme, or why it is none.
    pub(crate) mpp: Option<Result<Box<Credential>, CredentialError>>,
}

impl Presented {
    /// Finds the credentials of a request that are known by the name of their field. Foreign bearer strings are not ours and
    /// are ignored.
    ///
    /// # Errors
    /// Two payments or two keys. Nothing was used up.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let fields = Fields::of(headers);
        let v2 = fields.v2.map(|value| {
            let payment = x402::decode_payment_signature(text(value)?).ok()?;
            Some(Payment::V2(Box::new(payment)))
        });
        let v1 = fields.v1.map(|value| x402::decode_x_payment(text(value)?).ok().map(Payment::V1));
        // A line that cannot be decoded is passed over if another can (reference item 20).
        let ecash = fields.ecash.map(cashu::read);
        let malformed = matches!(v2, Some(None)) || matches!(v1, Some(None)) || matches!(ecash, Some(None));
        let (payment, ecash) = match (v2.flatten(), v1.flatten(), ecash.flatten()) {
            (payment, None, None) | (None, payment, None) => (payment, None),
            (None, None, ecash) => (None, ecash),
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err(Refusal::new(Code::AmbiguousCredentials, "The request carries two payments."));
            }
        };
        Ok(Self { key: fields.key()?, malformed, payment, ecash, token: false, mpp: None })
    }

    /// Takes the credential of the `Payment` scheme for one of ours (MPP-14, MPP-16). It is foreign elsewhere, as a bearer
    /// string is that is not ours.
    ///
    /// # Errors
    /// A payment beside it, two of them, or two keys. Nothing was used up.
    pub(crate) fn take_mpp(&mut self) -> Result<(), Refusal> {
        let credential = match &self.mpp {
            None => return Ok(()),
            Some(Err(error)) if error.is_ambiguous() => return Err(mpp::undecodable(*error)),
            Some(Err(_)) => None,
            Some(Ok(credential)) => Some(credential),
        };
        if self.payment.is_some() || self.ecash.is_some() {
            // A line that cannot be decoded is passed over if another can (reference item 20).
            if credential.is_none() {
                self.mpp = None;
                return Ok(());
            }
            return Err(Refusal::new(Code::AmbiguousCredentials, "The request carries two payments."));
        }
        match (credential.and_then(|credential| mpp::credit_key(credential)), &self.key) {
            (Some(wrapped), Some(plain)) if wrapped != plain => {
                Err(Refusal::new(Code::AmbiguousCredentials, "The request carries two credit keys."))
            }
            (Some(wrapped), _) => {
                self.key = Some(wrapped.to_owned());
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// Whether a payment can be read that is no token of L402.
    pub(crate) const fn has_payment(&self) -> bool {
        self.payment.is_some() || self.ecash.is_some() || matches!(self.mpp, Some(Ok(_)))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.key.is_none()
            && self.payment.is_none()
            && !self.malformed
            && !self.token
            && self.ecash.is_none()
            && self.mpp.is_none()
    }
}

/// The fields of a head that can pay. Found in one pass: each look by name is a hash of it, and most heads have one or none.
#[derive(Default)]
struct Fields<'h> {
    v2: Option<&'h HeaderValue>,
    v1: Option<&'h HeaderValue>,
    ecash: Option<&'h HeaderValue>,
    /// The first credit key, ...
    key: Option<&'h str>,
    /// ... and whether another one stands beside it.
    is_ambiguous: bool,
}

impl<'h> Fields<'h> {
    /// The wall has let no field of these stand twice but `Authorization`.
    fn of(headers: &'h HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "authorization" => fields.add_key(bearer(value)),
                x402::PAYMENT_SIGNATURE => fields.v2 = Some(value),
                x402::X_PAYMENT => fields.v1 = Some(value),
                X_CASHU => fields.ecash = Some(value),
                _ if KEY_FIELDS.contains(name) => fields.add_key(text(value).map(str::trim)),
                _ => {}
            }
        }
        fields
    }

    fn add_key(&mut self, text: Option<&'h str>) {
        let Some(key) = text.filter(|text| text.starts_with("fk_")) else { return };
        self.is_ambiguous |= *self.key.get_or_insert(key) != key;
    }

    fn key(&self) -> Result<Option<String>, Refusal> {
        if self.is_ambiguous {
            return Err(Refusal::new(Code::AmbiguousCredentials, "The request carries two credit keys."));
        }
        Ok(self.key.map(str::to_owned))
    }
}

/// As [`HeaderValue::to_str`], which looks at one byte after the other, and credentials are long.
fn text(value: &HeaderValue) -> Option<&str> {
    str::from_utf8(value.as_bytes()).ok().filter(|text| text.is_ascii())
}

/// The fields an unmodified SDK can put a key into.
pub(crate) static KEY_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, rest) = text(value)?.trim().split_once(' ')?;
    // Clients of the `Payment` scheme put their credential behind it, in the same line.
    let key = rest.split_once(',').map_or(rest, |(key, _)| key);
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::Presented;
    use crate::refusal::Code;

    fn read(fields: &[(&'static str, &'static str)]) -> Result<Option<String>, Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Presented::read(&headers).map(|found| found.key).map_err(|refusal| refusal.code())
    }

    #[test]
    fn an_undecodable_payment_is_told_from_none() {
        for (name, value, malformed) in
            [("x-payment", "?", true), ("payment-signature", "e30=", true), ("x-other", "?", false)]
        {
            let mut headers = HeaderMap::new();
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            let read = Presented::read(&headers).unwrap();
            assert_eq!((read.malformed, read.payment.is_none()), (malformed, true), "{name}");
        }
    }

    #[test]
    fn keys_are_found_where_sdks_put_them() {
        let key = || Ok(Some("fk_test_A".to_owned()));
        for (fields, expected) in [
            (vec![("authorization", "Bearer fk_test_A")], key()),
            (vec![("authorization", "bearer   fk_test_A ")], key()),
            (vec![("x-api-key", "fk_test_A")], key()),
            (vec![("api-key", "fk_test_A")], key()),
            (vec![("x-goog-api-key", "fk_test_A")], key()),
            (vec![("authorization", "Bearer fk_test_A"), ("x-api-key", "fk_test_A")], key()),
            (vec![("authorization", "Bearer sk-1"), ("authorization", "Bearer fk_test_A")], key()),
            (vec![("authorization", "Bearer fk_test_A, Payment e30")], key()),
            (vec![("authorization", "Basic fk_test_A")], Ok(None)),
            (vec![("authorization", "Bearer sk-1")], Ok(None)),
            (vec![], Ok(None)),
            (
                vec![("authorization", "Bearer fk_test_A"), ("x-api-key", "fk_test_B")],
                Err(Code::AmbiguousCredentials),
            ),
            (vec![("x-payment", "?"), ("x-api-key", "fk_test_A")], key()),
        ] {
            assert_eq!(read(&fields), expected, "{fields:?}");
        }
    }
}
