//! A signed payment: one header, good for one offer.

use std::fmt;

use http::{HeaderName, HeaderValue};
use proof::x402_exact::{self, Method};
use proof::{eip712, test_rail};
use wire::x402::{ExactPayload, SCHEME_EXACT, Transfer, header, v1, v2};

use crate::Wallet;
use crate::challenge::Challenge;
use crate::offer::{Entry, Offer, Terms};

/// What is sent to pay. The value is a bearer instrument for the payee: `Debug` hides it.
#[derive(Clone)]
pub struct Payment {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
    /// Unix seconds; from then on nobody can settle it.
    pub valid_before: u64,
}

/// Why nothing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// What was signed is not what the offer asked for. A fault of ours, found before sending.
    #[error("the signed payment does not match the offer")]
    SelfCheck,
    /// The offer cannot be written in its version.
    #[error("the offer cannot be answered")]
    Unanswerable,
}

impl Payment {
    /// Signs what `terms` say, and checks the result against them as the seller will (X402-39). `nonce` is
    /// 32 random bytes.
    pub(crate) fn sign(
        challenge: &Challenge,
        offer: &Offer,
        terms: &Terms,
        wallet: &Wallet,
        nonce: [u8; 32],
        now_unix_s: u64,
    ) -> Result<Self, PaymentError> {
        let valid_before = now_unix_s.saturating_add(terms.max_timeout_s);
        // As deployed clients do (X402-18).
        let valid_after = match &offer.entry {
            Entry::V1(_) => now_unix_s.saturating_sub(600),
            Entry::V2(_) => 0,
        };
        let payload = payload(terms, wallet, nonce, valid_after, valid_before)?;
        let asked = x402_exact::Offer {
            method: terms.method.clone(),
            amount: terms.atomic,
            max_timeout_s: terms.max_timeout_s,
            quote: None,
        };
        x402_exact::verify(&asked, &payload, now_unix_s).map_err(|_| PaymentError::SelfCheck)?;
        let payload = serde_json::to_value(&payload).map_err(|_| PaymentError::Unanswerable)?;
        let (name, text) = match &offer.entry {
            Entry::V1(entry) => {
                let payment = v1::PaymentPayload {
                    x402_version: v1::VERSION,
                    scheme: SCHEME_EXACT.to_owned(),
                    network: entry.network.clone(),
                    payload,
                };
                (header::X_PAYMENT, header::encode(&payment))
            }
            Entry::V2(entry) => {
                let payment = v2::PaymentPayload {
                    x402_version: v2::VERSION,
                    resource: challenge.resource.clone(),
                    accepted: entry.clone(),
                    payload,
                    extensions: challenge.extensions.clone(),
                };
                (header::PAYMENT_SIGNATURE, header::encode(&payment))
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| PaymentError::Unanswerable)?;
        value.set_sensitive(true);
        Ok(Self { name: HeaderName::from_static(name), value, valid_before })
    }

    /// The header it goes in.
    #[must_use]
    pub const fn header_name(&self) -> &HeaderName {
        &self.name
    }

    /// The header's value: who holds it can make this one payment happen, to its payee only.
    #[must_use]
    pub fn expose_value(&self) -> &str {
        self.value.to_str().unwrap_or_default()
    }
}

impl fmt::Debug for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payment({}, valid before {})", self.name, self.valid_before)
    }
}

fn payload(
    terms: &Terms,
    wallet: &Wallet,
    nonce: [u8; 32],
    valid_after: u64,
    valid_before: u64,
) -> Result<ExactPayload, PaymentError> {
    match &terms.method {
        Method::Evm { token, pay_to } => {
            let from = wallet.evm_address();
            let transfer =
                Transfer { from, to: *pay_to, value: terms.atomic, valid_after, valid_before, nonce };
            let digest = token.separator().digest(&eip712::transfer_with_authorization(&transfer));
            let signature = wallet.evm.sign(&digest).map_err(|_| PaymentError::SelfCheck)?;
            Ok(ExactPayload::from_evm(&transfer, signature.as_bytes()))
        }
        Method::Test { pay_to } => {
            let value = u64::try_from(terms.atomic).map_err(|_| PaymentError::Unanswerable)?;
            let from = wallet.test.verifying_key().to_bytes();
            let transfer = test_rail::Transfer { from, to: *pay_to, value, valid_after, valid_before, nonce };
            Ok(ExactPayload::from_test(&transfer.to_wire(), &transfer.sign(&wallet.test)))
        }
    }
}
