//! What a request pays with: a credit key, one payment, both, or nothing (reference items 13, 14, 18).

use http::{HeaderMap, HeaderName, header};
use serde_json::{Map, Value};
use wire::cashu::Token;
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
        // Each look by name is a hash of it, and most free calls have none.
        if !headers.keys().any(may_pay) {
            return Ok(Self::default());
        }
        let v2 = headers.get(PAYMENT_SIGNATURE).map(|value| {
            let text = value.to_str().ok()?;
            x402::decode_payment_signature(text).ok().map(|payment| Payment::V2(Box::new(payment)))
        });
        let v1 = headers.get(X_PAYMENT).map(|value| {
            let text = value.to_str().ok()?;
            x402::decode_x_payment(text).ok().map(Payment::V1)
        });
        // A line that cannot be decoded is passed over if another can (reference item 20).
        let ecash = cashu::read(headers);
        let malformed = matches!(v2, Some(None)) || matches!(v1, Some(None)) || matches!(ecash, Some(None));
        let (payment, ecash) = match (v2.flatten(), v1.flatten(), ecash.flatten()) {
            (payment, None, None) | (None, payment, None) => (payment, None),
            (None, None, ecash) => (None, ecash),
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err(Refusal::new(Code::AmbiguousCredentials, "The request carries two payments."));
            }
        };
        Ok(Self { key: key(headers)?, malformed, payment, ecash, token: false, mpp: None })
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

/// Whether a field of this name can hold what [`Presented::read`] looks for.
fn may_pay(name: &HeaderName) -> bool {
    [PAYMENT_SIGNATURE, X_PAYMENT, cashu::FIELD, header::AUTHORIZATION].contains(name)
        || KEY_FIELDS.contains(name)
}

const PAYMENT_SIGNATURE: HeaderName = HeaderName::from_static(x402::PAYMENT_SIGNATURE);
const X_PAYMENT: HeaderName = HeaderName::from_static(x402::X_PAYMENT);

/// The fields an unmodified SDK can put a key into.
pub(crate) static KEY_FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let bearers = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
        // Clients of the `Payment` scheme put their credential behind it, in the same line.
        let key = rest.split_once(',').map_or(rest, |(key, _)| key);
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let plain = KEY_FIELDS.iter().filter_map(|name| headers.get(name)?.to_str().ok().map(str::trim));
    let mut found: Option<&str> = None;
    for text in bearers.chain(plain).filter(|text| text.starts_with("fk_")) {
        match found {
            Some(first) if first != text => {
                return Err(Refusal::new(Code::AmbiguousCredentials, "The request carries two credit keys."));
            }
            Some(_) | None => found = Some(text),
        }
    }
    Ok(found.map(str::to_owned))
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
