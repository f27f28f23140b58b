//! x402 `exact`: is this a payment of exactly what we asked for?
//!
//! Cheap checks first: a bad payment never costs a curve operation (X402-13). A pass is necessary and
//! not sufficient: the money is ours when it is settled (X402-39).

mod error;
mod offer;

pub use error::ExactError;
pub use offer::{EvmToken, Method, NetworkError, Offer};

use money::Amount;
use wire::x402::{Address, ExactPayload, SCHEME_EXACT, Transfer, network, v1, v2};

use crate::deposit_key::EvmMethod;
use crate::quote::{QuoteKey, QuoteScope};
use crate::{account_id, deposit_key, eip712, secp, test_rail, x402_echo};

/// What must be left of a proof's validity so that it can still be settled (X402-18).
pub const SETTLE_MARGIN_S: u64 = 6;

/// Who paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// An EVM account.
    Evm(Address),
    /// An Ed25519 key on the test rail.
    Test([u8; 32]),
}

/// A genuine payment of exactly our amount, not settled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExactPayment {
    /// Who paid.
    pub payer: Payer,
    /// Atomic units.
    pub amount: u128,
    /// The payer's nonce.
    pub nonce: [u8; 32],
    /// Unix seconds; settle before.
    pub valid_before: u64,
    /// The same for every presentation of this payment, in whatever version (X402-1).
    pub deposit_key: [u8; 32],
    /// Where the deposit goes when no key names an account.
    pub account: [u8; 16],
}

/// The request a version 2 payment came with.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// What our quotes are signed with.
    pub key: &'a QuoteKey,
    /// This request, as a quote for it would name it.
    pub scope: QuoteScope<'a>,
    /// The ceiling the offers were made for.
    pub ceiling: Amount,
    /// The URL our challenge names for this request.
    pub resource_url: &'a str,
}

/// Checks a version 2 payment against our offers for this request.
///
/// # Errors
/// [`ExactError`]; nothing was consumed.
pub fn verify_v2<'o>(
    payment: &v2::PaymentPayload,
    offers: &'o [Offer],
    binding: &Binding<'_>,
    now_unix_s: u64,
) -> Result<(&'o Offer, ExactPayment), ExactError> {
    let offer = match_offer(&payment.accepted, offers)?;
    if payment.resource.as_ref().is_some_and(|resource| resource.url != binding.resource_url) {
        return Err(ExactError::WrongResource);
    }
    check_quote(&payment.accepted, offer, binding, now_unix_s)?;
    let payload = ExactPayload::from_value(&payment.payload).ok_or(ExactError::Malformed)?;
    Ok((offer, verify(offer, &payload, now_unix_s)?))
}

/// Checks a version 1 payment (X402-51), which echoes scheme and network only: what it signed must fit one of our
/// offers there.
///
/// # Errors
/// [`ExactError`] of the last offer on that network; nothing was consumed.
pub fn verify_v1<'o>(
    payment: &v1::PaymentPayload,
    offers: &'o [Offer],
    now_unix_s: u64,
) -> Result<(&'o Offer, ExactPayment), ExactError> {
    let network = network::caip2_from_v1(&payment.network).ok_or(ExactError::WrongNetwork)?;
    if payment.scheme != SCHEME_EXACT {
        return Err(ExactError::WrongNetwork);
    }
    let payload = ExactPayload::from_value(&payment.payload).ok_or(ExactError::Malformed)?;
    let mut refused = ExactError::WrongNetwork;
    for offer in offers.iter().filter(|offer| offer.network() == network) {
        match verify(offer, &payload, now_unix_s) {
            Ok(verified) => return Ok((offer, verified)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Finds the offer a payer says he accepted. Nothing of the echo is used beyond finding ours (X402-10).
///
/// # Errors
/// [`ExactError`] naming the first member by which no offer of ours is left.
pub fn match_offer<'o>(
    accepted: &v2::PaymentRequirements,
    offers: &'o [Offer],
) -> Result<&'o Offer, ExactError> {
    x402_echo::find(accepted, offers, Offer::network, Offer::requirements_v2).map(|(offer, _)| offer)
}

/// Checks what the payer signed against one offer of ours.
///
/// # Errors
/// [`ExactError`]; nothing was consumed.
pub fn verify(offer: &Offer, payload: &ExactPayload, now_unix_s: u64) -> Result<ExactPayment, ExactError> {
    match &offer.method {
        Method::Evm { token, pay_to } => {
            let transfer = payload.evm().ok_or(ExactError::Malformed)?;
            check_terms(&transfer, pay_to, offer.amount, now_unix_s)?;
            let signature = secp::Signature::parse(&payload.signature)?;
            let digest = token.separator().digest(&eip712::transfer_with_authorization(&transfer));
            signature.verify(&digest, &transfer.from)?;
            let (network, payer) = (token.network(), transfer.from);
            let key =
                deposit_key::evm(EvmMethod::Eip3009, network, token.contract(), &payer, &transfer.nonce);
            Ok(payment(&transfer, Payer::Evm(payer), key, account_id::evm(network, &payer, token.contract())))
        }
        Method::Test { pay_to } => {
            let (transfer, signature) = payload.test().ok_or(ExactError::Malformed)?;
            check_terms(&transfer, pay_to, offer.amount, now_unix_s)?;
            test_rail::Transfer::from_wire(&transfer).ok_or(ExactError::Malformed)?.verify(&signature)?;
            let payer = transfer.from;
            let key = deposit_key::test(offer.network(), &payer, &transfer.nonce);
            Ok(payment(&transfer, Payer::Test(payer), key, account_id::test(&payer)))
        }
    }
}

/// Payee, value and time: everything that costs nothing to look at.
fn check_terms<P: PartialEq>(
    transfer: &Transfer<P>,
    pay_to: &P,
    asked: u128,
    now: u64,
) -> Result<(), ExactError> {
    if transfer.to != *pay_to {
        return Err(ExactError::WrongPayee);
    }
    check_amount(transfer.value, asked)?;
    // The token compares strictly on both sides, so equality would revert.
    if transfer.valid_after >= now {
        return Err(ExactError::NotYetValid(transfer.valid_after));
    }
    if transfer.valid_before < now.saturating_add(SETTLE_MARGIN_S) {
        return Err(ExactError::Expired(transfer.valid_before));
    }
    Ok(())
}

/// `exact` means exact.
pub(crate) fn check_amount(paid: u128, asked: u128) -> Result<(), ExactError> {
    match paid.cmp(&asked) {
        std::cmp::Ordering::Less => Err(ExactError::Underpaid { paid, asked }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(ExactError::Overpaid { paid, asked }),
    }
}

/// Our quote must come back unaltered whenever our offer carried it, and stand for this request (X402-16).
fn check_quote(
    accepted: &v2::PaymentRequirements,
    offer: &Offer,
    binding: &Binding<'_>,
    now_unix_s: u64,
) -> Result<(), ExactError> {
    match offer.quote {
        None => Ok(()),
        Some(_) => x402_echo::check_quote(accepted, binding, now_unix_s),
    }
}

fn payment<P>(
    transfer: &Transfer<P>,
    payer: Payer,
    deposit_key: [u8; 32],
    account: [u8; 16],
) -> ExactPayment {
    ExactPayment {
        payer,
        amount: transfer.value,
        nonce: transfer.nonce,
        valid_before: transfer.valid_before,
        deposit_key,
        account,
    }
}

#[cfg(test)]
mod tests;
