//! `Payment-Receipt`: what a paid answer says of its payment (MPP-18, MPP-19).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use money::{Amount, Asset};
use wire::mpp::{Credential, PAYMENT_RECEIPT, Receipt};
use wire::rfc3339;

use crate::clock::Now;

/// Which challenge a call was paid by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) method: String,
    pub(crate) intent: String,
    pub(crate) challenge_id: String,
}

/// What the receipt is about.
pub(crate) struct Paid {
    /// Public: a transaction, a payment hash, a channel, a call (MPP-19).
    pub(crate) reference: String,
    /// What is left for other calls, where an account of ours was drawn on.
    pub(crate) balance: Option<(Amount, Asset)>,
    pub(crate) now: Now,
}

impl Told {
    pub(crate) fn of(credential: &Credential) -> Self {
        let challenge = &credential.challenge;
        Self {
            method: challenge.method.clone(),
            intent: challenge.intent.clone(),
            challenge_id: challenge.id.clone(),
        }
    }

    /// Puts the receipt into the head of an answer: only where the call succeeded (MPP-18).
    pub(crate) fn tell(&self, headers: &mut HeaderMap, status: StatusCode, paid: &Paid) {
        if !status.is_success() {
            return;
        }
        let Some(value) = self.receipt(paid).and_then(|text| HeaderValue::from_str(&text).ok()) else {
            return;
        };
        headers.insert(HeaderName::from_static("payment-receipt"), value);
        let exposed = HeaderValue::from_static(PAYMENT_RECEIPT);
        headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        let is_kept_nowhere = headers
            .get_all(header::CACHE_CONTROL)
            .iter()
            .any(|value| value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("no-store")));
        if !is_kept_nowhere {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
        }
    }

    fn receipt(&self, paid: &Paid) -> Option<String> {
        let mut receipt = Receipt::new(&self.method, &paid.reference, &rfc3339::format(paid.now.seconds())?);
        receipt.challenge_id = Some(self.challenge_id.clone());
        receipt.intent = Some(self.intent.clone());
        if let Some((balance, asset)) = paid.balance {
            receipt.more.insert("balance".to_owned(), balance.units().to_string().into());
            receipt.more.insert("asset".to_owned(), asset.name().into());
        }
        Some(receipt.encode())
    }
}
