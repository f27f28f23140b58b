//! x402 `exact` on Solana, as far as a seller can check it: is this transaction a transfer of exactly what we asked
//! for, signed by its payer, and nothing else that matters?
//!
//! A facilitator must simulate and send it (X402-33). Whoever settles keeps a deposit key for as long as a blockhash
//! lives, or one transaction counts several times.

mod error;
mod layout;
mod offer;
pub mod token_account;
pub mod voucher;

pub use error::SvmError;
pub use offer::{Offer, SvmToken};

use sha2::{Digest as _, Sha256};
use wire::x402::svm::{SvmPayload, Transaction};
use wire::x402::{SCHEME_EXACT, network, v1, v2};

use crate::x402_exact::{Binding, ExactError, check_amount};
use crate::{account_id, deposit_key, ed25519, x402_echo};

/// A genuine payment of exactly our amount, not settled yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvmPayment {
    /// Who paid: the owner of the tokens.
    pub payer: [u8; 32],
    /// Atomic units.
    pub amount: u64,
    /// The same for every presentation of this payment: it is made of the message, not of the signatures (X402-1).
    pub deposit_key: [u8; 32],
    /// Where the deposit goes when no key names an account.
    pub account: [u8; 16],
    transaction: Transaction,
}

impl SvmPayment {
    /// The payload written anew from what we checked (X402-11).
    #[must_use]
    pub fn to_wire(&self) -> SvmPayload {
        SvmPayload::from_bytes(&self.transaction.to_bytes())
    }
}

/// Checks a version 2 payment against our offers for this request.
///
/// # Errors
/// [`SvmError`]; nothing was consumed.
pub fn verify_v2<'o>(
    payment: &v2::PaymentPayload,
    offers: &'o [Offer],
    binding: &Binding<'_>,
    now_unix_s: u64,
) -> Result<(&'o Offer, SvmPayment), SvmError> {
    let (offer, written) =
        x402_echo::find(&payment.accepted, offers, |offer| offer.token.network(), Offer::requirements_v2)?;
    x402_echo::check(payment, &written, binding, now_unix_s)?;
    let payload = SvmPayload::from_value(&payment.payload).ok_or(ExactError::Malformed)?;
    Ok((offer, verify(offer, &payload)?))
}

/// Checks a version 1 payment, which echoes scheme and network only.
///
/// # Errors
/// [`SvmError`] of the last offer on that network; nothing was consumed.
pub fn verify_v1<'o>(
    payment: &v1::PaymentPayload,
    offers: &'o [Offer],
) -> Result<(&'o Offer, SvmPayment), SvmError> {
    let network = network::caip2_from_v1(&payment.network).ok_or(ExactError::WrongNetwork)?;
    let mut refused = ExactError::WrongNetwork.into();
    if payment.scheme != SCHEME_EXACT {
        return Err(refused);
    }
    let payload = SvmPayload::from_value(&payment.payload).ok_or(ExactError::Malformed)?;
    for offer in offers.iter().filter(|offer| offer.token.network() == network) {
        match verify(offer, &payload) {
            Ok(verified) => return Ok((offer, verified)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Checks what the payer signed against one offer of ours, the signature last.
///
/// # Errors
/// [`SvmError`]; nothing was consumed.
pub fn verify(offer: &Offer, payload: &SvmPayload) -> Result<SvmPayment, SvmError> {
    let transaction = payload.transaction()?;
    let message = &transaction.message;
    if message.keys.first() != Some(&offer.fee_payer) {
        return Err(SvmError::FeePayer);
    }
    let transfer = layout::read(message, &offer.fee_payer, offer.memo.as_deref())?;
    if transfer.mint != *offer.token.mint() {
        return Err(ExactError::WrongAsset.into());
    }
    if transfer.destination != *offer.token.destination(transfer.program) {
        return Err(ExactError::WrongPayee.into());
    }
    check_amount(u128::from(transfer.amount), u128::from(offer.amount))?;
    let owner = check_signatures(&transaction, &transfer.owner)?;
    let network = offer.token.network();
    let message_hash: [u8; 32] = Sha256::digest(&transaction.message_bytes).into();
    Ok(SvmPayment {
        payer: owner,
        amount: transfer.amount,
        deposit_key: deposit_key::svm(network, &message_hash),
        account: account_id::svm(network, &owner, offer.token.mint()),
        transaction,
    })
}

/// The fee payer's place is empty; everybody else has signed, the owner of the tokens among them.
fn check_signatures(transaction: &Transaction, owner: &[u8; 32]) -> Result<[u8; 32], SvmError> {
    let mut places = transaction.message.keys.iter().zip(&transaction.signatures);
    if places.next().is_none_or(|(_, empty)| *empty != [0; 64]) {
        return Err(SvmError::FeePayer);
    }
    let mut signed = None;
    for (key, signature) in places {
        ed25519::verify(key, &transaction.message_bytes, signature).map_err(|_| ExactError::Ed25519)?;
        if key == owner {
            signed = Some(*key);
        }
    }
    signed.ok_or(ExactError::Ed25519.into())
}

#[cfg(test)]
mod tests;
