//! A signed payment: one header, good for one offer.

use std::fmt;

use http::{HeaderName, HeaderValue};
use proof::x402_exact::{self, Method};
use proof::x402_permit2::{self, Spends};
use proof::{eip712, test_rail};
use serde_json::{Map, Value};
use wire::hex;
use wire::x402::batch::BatchPayload;
use wire::x402::{
    ExactPayload, Permit, Permit2Payload, SCHEME_EXACT, Transfer, contracts, header, payment_identifier, v1,
    v2,
};

use crate::challenge::Challenge;
use crate::offer::{Entry, Offer, Terms, Way, permit_offer};
use crate::{CallError, Wallet, solana};

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

/// What is random about a payment.
#[derive(Clone, Copy)]
pub(crate) struct Chance {
    /// Used once on the chain.
    pub(crate) nonce: [u8; 32],
    /// Becomes the payment's name where a seller takes one (X402-34).
    pub(crate) name: [u8; 16],
}

impl Chance {
    pub(crate) fn draw() -> Result<Self, CallError> {
        let mut chance = Self { nonce: [0; 32], name: [0; 16] };
        getrandom::fill(&mut chance.nonce).map_err(|_| CallError::Randomness)?;
        getrandom::fill(&mut chance.name).map_err(|_| CallError::Randomness)?;
        Ok(chance)
    }

    /// Our own word for the payment, in our files.
    pub(crate) fn ticket(&self) -> String {
        hex::encode(&self.name)
    }
}

impl Payment {
    /// Signs what `terms` say, and checks the result against them as the seller will (X402-39).
    pub(crate) fn sign(
        challenge: &Challenge,
        offer: &Offer,
        terms: &Terms,
        wallet: &Wallet,
        chance: &Chance,
        now_unix_s: u64,
    ) -> Result<Self, PaymentError> {
        let valid_before = now_unix_s.saturating_add(terms.max_timeout_s);
        // As deployed clients do (X402-18).
        let valid_after = match &offer.entry {
            Entry::V1(_) => now_unix_s.saturating_sub(600),
            Entry::V2(_) | Entry::L402(_) => 0,
        };
        let times = Times { valid_after, valid_before, now_unix_s };
        let payload = match &terms.way {
            Way::Transfer(method) => transfer(method, terms, wallet, chance.nonce, &times)?,
            Way::Permit { .. } => permit(terms, wallet, chance.nonce, &times)?,
            Way::Solana(solana) => {
                let payer = wallet.solana.as_ref().ok_or(PaymentError::Unanswerable)?;
                let payload = solana::sign(terms, solana, payer, &chance.name)?;
                let payload = serde_json::to_value(&payload).map_err(|_| PaymentError::Unanswerable)?;
                let valid_before = now_unix_s.saturating_add(solana::LIFE_S);
                return Self::write(challenge, offer, payload, chance, valid_before);
            }
            Way::Channel(_) | Way::Invoice(_) => return Err(PaymentError::Unanswerable),
        };
        Self::write(challenge, offer, payload, chance, valid_before)
    }

    /// Writes what a channel has signed.
    pub(crate) fn of_channel(
        challenge: &Challenge,
        offer: &Offer,
        payload: &BatchPayload,
        chance: &Chance,
        valid_before: u64,
    ) -> Result<Self, PaymentError> {
        let payload = serde_json::to_value(payload).map_err(|_| PaymentError::Unanswerable)?;
        Self::write(challenge, offer, payload, chance, valid_before)
    }

    fn write(
        challenge: &Challenge,
        offer: &Offer,
        payload: Value,
        chance: &Chance,
        valid_before: u64,
    ) -> Result<Self, PaymentError> {
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
                let mut accepted = entry.clone();
                // What a seller says about a channel is no part of his offer.
                if let Some(extra) = &mut accepted.extra {
                    extra.remove("channelState");
                    extra.remove("voucherState");
                }
                let payment = v2::PaymentPayload {
                    x402_version: v2::VERSION,
                    resource: challenge.resource.clone(),
                    accepted,
                    payload,
                    extensions: named(challenge, chance),
                };
                (header::PAYMENT_SIGNATURE, header::encode(&payment))
            }
            Entry::L402(_) => return Err(PaymentError::Unanswerable),
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

struct Times {
    valid_after: u64,
    valid_before: u64,
    now_unix_s: u64,
}

fn transfer(
    method: &Method,
    terms: &Terms,
    wallet: &Wallet,
    nonce: [u8; 32],
    times: &Times,
) -> Result<Value, PaymentError> {
    let Times { valid_after, valid_before, now_unix_s } = *times;
    let payload = match method {
        Method::Evm { token, pay_to } => {
            let from = wallet.evm_address();
            let transfer =
                Transfer { from, to: *pay_to, value: terms.atomic, valid_after, valid_before, nonce };
            let digest = token.separator().digest(&eip712::transfer_with_authorization(&transfer));
            let signature = wallet.evm.sign(&digest).map_err(|_| PaymentError::SelfCheck)?;
            ExactPayload::from_evm(&transfer, signature.as_bytes())
        }
        Method::Test { pay_to } => {
            let value = u64::try_from(terms.atomic).map_err(|_| PaymentError::Unanswerable)?;
            let from = wallet.test.verifying_key().to_bytes();
            let transfer = test_rail::Transfer { from, to: *pay_to, value, valid_after, valid_before, nonce };
            ExactPayload::from_test(&transfer.to_wire(), &transfer.sign(&wallet.test))
        }
    };
    let asked = x402_exact::Offer {
        method: method.clone(),
        amount: terms.atomic,
        max_timeout_s: terms.max_timeout_s,
        quote: None,
    };
    x402_exact::verify(&asked, &payload, now_unix_s).map_err(|_| PaymentError::SelfCheck)?;
    serde_json::to_value(&payload).map_err(|_| PaymentError::Unanswerable)
}

/// Signs a permit that only the contract of the scheme can spend, to the payee alone.
fn permit(terms: &Terms, wallet: &Wallet, nonce: [u8; 32], times: &Times) -> Result<Value, PaymentError> {
    let offer = permit_offer(terms).ok_or(PaymentError::Unanswerable)?;
    let (spender, facilitator) = match offer.spends {
        Spends::Exact => (contracts::EXACT_PROXY, None),
        Spends::Upto { facilitator } => (contracts::UPTO_PROXY, Some(facilitator)),
    };
    let permit = Permit {
        from: wallet.evm_address(),
        token: *offer.token.contract(),
        amount: offer.amount,
        spender,
        nonce,
        deadline: times.valid_before,
        to: offer.pay_to,
        facilitator,
        valid_after: times.valid_after,
    };
    let digest = offer.token.permit2_separator().digest(&eip712::permit_payment(&permit));
    let signature = wallet.evm.sign(&digest).map_err(|_| PaymentError::SelfCheck)?;
    let payload = Permit2Payload::from_permit(&permit, signature.as_bytes());
    x402_permit2::verify(&offer, &payload, times.now_unix_s).map_err(|_| PaymentError::SelfCheck)?;
    serde_json::to_value(&payload).map_err(|_| PaymentError::Unanswerable)
}

/// The challenge's extensions as they came, with the payment's name where one is taken: sent twice, it is one
/// payment (X402-34).
fn named(challenge: &Challenge, chance: &Chance) -> Option<Map<String, Value>> {
    let mut extensions = challenge.extensions.clone()?;
    let entry = extensions.get_mut(payment_identifier::ID).and_then(|entry| entry.get_mut("info"));
    if let Some(Value::Object(info)) = entry {
        info.insert("id".to_owned(), Value::String(hex::encode(&chance.name)));
    }
    Some(extensions)
}

#[cfg(test)]
mod tests;
