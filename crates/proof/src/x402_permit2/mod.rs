//! x402 by Permit2: is this a permit for what we asked for, that our payee's money can move by?
//!
//! Scheme `exact` moves the whole amount; scheme `upto` signs a ceiling and moves what the call turned out to cost.
//! Cheap checks first, as for EIP-3009 (X402-13). Whether the token lets Permit2 move anything is not seen here: a
//! facilitator answers that with [`wire::x402::permit2::ALLOWANCE_REQUIRED`].

mod exposure;
mod offer;

pub use exposure::{Exposure, Funds};
pub use offer::{ChargeError, Offer, Spends};

use wire::x402::{Address, Permit, Permit2Payload, contracts, v2};

use crate::deposit_key::EvmMethod;
use crate::secp::Signature;
use crate::x402_exact::{Binding, ExactError, check_amount};
use crate::{account_id, deposit_key, eip712, x402_echo};

/// Why a permit is not taken. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Permit2Error {
    /// As for any payment of this kind.
    #[error(transparent)]
    Terms(#[from] ExactError),
    /// Another contract could take the money than the one that serves the scheme.
    #[error("spender is not the contract of the scheme")]
    WrongSpender,
    /// Signed for another facilitator, or for none: ours could not settle it.
    #[error("permit names another facilitator")]
    WrongFacilitator,
}

impl Permit2Error {
    /// The code for the refusal's body.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Terms(error) => error.code(),
            Self::WrongSpender | Self::WrongFacilitator => "proof_invalid",
        }
    }

    /// The finer reason beside the code.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Terms(error) => error.reason(),
            Self::WrongSpender => "spender_mismatch",
            Self::WrongFacilitator => "facilitator_mismatch",
        }
    }
}

/// A genuine permit for exactly our offer, not settled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit2Payment {
    /// What was signed; `amount` is the ceiling under `upto`.
    pub permit: Permit,
    /// By whom it was: `permit.from`.
    pub signature: Signature,
    /// The same for every presentation of this nonce, under whatever scheme (X402-1).
    pub deposit_key: [u8; 32],
    /// Where the deposit goes when no key names an account.
    pub account: [u8; 16],
}

impl Permit2Payment {
    /// The payload written anew from what we checked (X402-11).
    #[must_use]
    pub fn to_wire(&self) -> Permit2Payload {
        Permit2Payload::from_permit(&self.permit, self.signature.as_bytes())
    }
}

/// Checks a payment against our offers for this request. Version 2 only: version 1 has no such payload.
///
/// # Errors
/// [`Permit2Error`]; nothing was consumed.
pub fn verify_v2<'o>(
    payment: &v2::PaymentPayload,
    offers: &'o [Offer],
    binding: &Binding<'_>,
    now_unix_s: u64,
) -> Result<(&'o Offer, Permit2Payment), Permit2Error> {
    let (offer, written) =
        x402_echo::find(&payment.accepted, offers, |offer| offer.token.network(), Offer::requirements_v2)?;
    x402_echo::check(payment, &written, binding, now_unix_s)?;
    let payload = Permit2Payload::from_value(&payment.payload).ok_or(ExactError::Malformed)?;
    Ok((offer, verify(offer, &payload, now_unix_s)?))
}

/// Checks what the payer signed against one offer of ours.
///
/// # Errors
/// [`Permit2Error`]; nothing was consumed.
pub fn verify(
    offer: &Offer,
    payload: &Permit2Payload,
    now_unix_s: u64,
) -> Result<Permit2Payment, Permit2Error> {
    let permit = payload.permit().ok_or(ExactError::Malformed)?;
    let permit = check_terms(offer, permit, now_unix_s)?;
    let signature = Signature::parse(&payload.signature).map_err(ExactError::from)?;
    let digest = offer.token.permit2_separator().digest(&eip712::permit_payment(&permit));
    signature.verify(&digest, &permit.from).map_err(ExactError::from)?;
    let network = offer.token.network();
    Ok(Permit2Payment {
        permit,
        signature,
        deposit_key: key(network, &permit),
        account: account_id::evm(network, &permit.from, offer.token.contract()),
    })
}

/// The deposit key of a permit on a network, whatever else it says: a nonce is used once.
#[must_use]
pub fn key(network: &str, permit: &Permit) -> [u8; 32] {
    deposit_key::evm(EvmMethod::Permit2, network, &contracts::PERMIT2, &permit.from, &permit.nonce)
}

/// Everything that costs nothing to look at; what comes back has the members that the scheme signs.
fn check_terms(offer: &Offer, permit: Permit, now: u64) -> Result<Permit, Permit2Error> {
    if permit.to != offer.pay_to {
        return Err(ExactError::WrongPayee.into());
    }
    let (spender, facilitator): (Address, Option<Address>) = match offer.spends {
        Spends::Exact => (contracts::EXACT_PROXY, None),
        Spends::Upto { facilitator } => (contracts::UPTO_PROXY, Some(facilitator)),
    };
    if permit.spender != spender {
        return Err(Permit2Error::WrongSpender);
    }
    if facilitator.is_some() && permit.facilitator != facilitator {
        return Err(Permit2Error::WrongFacilitator);
    }
    if permit.token != *offer.token.contract() {
        return Err(ExactError::WrongAsset.into());
    }
    check_amount(permit.amount, offer.amount)?;
    // The proxy refuses before `validAfter`, Permit2 after `deadline`: both bounds are part of the time.
    if permit.valid_after > now {
        return Err(ExactError::NotYetValid(permit.valid_after).into());
    }
    if permit.deadline < now.saturating_add(offer.margin_s) {
        return Err(ExactError::Expired(permit.deadline).into());
    }
    // A member that `exact` does not sign is a stranger's addition.
    Ok(Permit { facilitator, ..permit })
}

#[cfg(test)]
mod tests;
