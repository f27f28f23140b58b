//! `Payment-Receipt`: what a paid answer says of its payment (MPP-18, MPP-19).

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use money::{Amount, Asset};
use wire::mpp::{Credential, PAYMENT_RECEIPT, Receipt};
use wire::rfc3339;

use crate::call_id::CallId;
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
    /// The call that can be asked for its signed receipt; none where balance was bought.
    pub(crate) call: Option<CallId>,
    /// What is set aside for it: what it took is known when it ends.
    pub(crate) held: Option<Amount>,
    /// What is left for other calls.
    pub(crate) balance: Amount,
    pub(crate) asset: Asset,
    /// Where a session stands, which says it itself.
    pub(crate) session: Option<Receipt>,
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
        let said = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
        let is_kept_nowhere = said.is_some_and(|text| text.to_ascii_lowercase().contains("no-store"));
        let kept = if is_kept_nowhere { "private, no-store" } else { "private" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    }

    fn receipt(&self, paid: &Paid) -> Option<String> {
        let plain =
            || Some(Receipt::new(&self.method, &paid.reference, &rfc3339::format(paid.now.seconds())?));
        let mut receipt = paid.session.clone().or_else(plain)?;
        receipt.challenge_id = Some(self.challenge_id.clone());
        receipt.intent = Some(self.intent.clone());
        let amount = |amount: Amount| amount.decimal(paid.asset);
        let own = [
            ("farthing", paid.call.map(|call| call.to_string())),
            ("held", paid.held.map(amount)),
            ("balance", Some(amount(paid.balance))),
            ("asset", Some(paid.asset.name().to_owned())),
        ];
        let own = own.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into())));
        receipt.more.extend(own);
        Some(receipt.encode())
    }
}
