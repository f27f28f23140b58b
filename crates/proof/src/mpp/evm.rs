//! `evm`/`charge` by EIP-3009: is this a transfer of exactly what a challenge asks for, signed for that challenge?
//!
//! Everything but the binding is what scheme `exact` of x402 checks; the binding is the nonce, which both leave to the
//! payer there and the challenge decides here.

use wire::mpp::Challenge;
use wire::mpp::evm::{challenge_hash, challenge_hash_of_json};
use wire::x402::ExactPayload;

use super::did;
use crate::x402_exact::{self, ExactError, ExactPayment, Offer, Payer};

/// Why a transfer does not answer a challenge. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChargeError {
    /// As a payment of scheme `exact` it is not good.
    #[error(transparent)]
    Terms(#[from] ExactError),
    /// It was signed for another challenge, or for none.
    #[error("the nonce is not the hash of the challenge")]
    Nonce,
    /// `source` names another account, or on another chain, than the one that signed.
    #[error("source is not the account that signed")]
    Source,
}

impl ChargeError {
    /// The finer reason beside the code of the refusal.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Terms(error) => error.reason(),
            Self::Nonce => "challenge_hash",
            Self::Source => "source",
        }
    }
}

/// Checks a transfer against our offer, which is what the challenge asks for. The cheap questions come first: one for
/// another challenge never costs a curve operation.
///
/// # Errors
/// [`ChargeError`]
pub fn verify(
    offer: &Offer,
    challenge: &Challenge,
    source: Option<&str>,
    payload: &ExactPayload,
    now_unix_s: u64,
) -> Result<ExactPayment, ChargeError> {
    let transfer = payload.evm().ok_or(ExactError::Malformed)?;
    // The SDKs disagree about what is hashed; either binds the transfer to this one challenge.
    if ![challenge_hash, challenge_hash_of_json].iter().any(|hash| transfer.nonce == hash(challenge)) {
        return Err(ChargeError::Nonce);
    }
    // Addresses are compared as bytes.
    if source.is_some_and(|source| did::account(source) != Some((offer.network(), transfer.from))) {
        return Err(ChargeError::Source);
    }
    let payment = x402_exact::verify(offer, payload, now_unix_s)?;
    match payment.payer {
        Payer::Evm(_) => Ok(payment),
        Payer::Test(_) => Err(ExactError::Malformed.into()),
    }
}

#[cfg(test)]
mod tests;
