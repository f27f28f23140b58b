//! `evm`/`charge` by Permit2: does this permit let us take exactly what a challenge asks for, and was it signed for that
//! challenge? And the call of the contract that takes it.
//!
//! The permit names who may send it, so it is worth nothing to anybody else. What it is bound to is the witness.

use std::sync::Arc;

use wire::mpp::Challenge;
use wire::mpp::evm::{Permit2, challenge_hash};
use wire::x402::{Address, Permit};

use super::did;
use crate::account_id;
use crate::eip712::{self, ChargeSpelling, keccak256, permit_charge};
use crate::secp::Signature;
use crate::x402_exact::{EvmToken, ExactError, check_amount};
use crate::x402_permit2;

/// What must be left of a permit's time, seconds: until then our transaction has to stand on the chain.
pub const SETTLE_MARGIN_S: u64 = 30;

const TRANSFER: &[u8] =
    b"permitWitnessTransferFrom(((address,uint256),uint256,uint256),(address,uint256),address,bytes32,string,bytes)";
/// Words before what has no fixed length: permit, transfer, owner, witness, and the places of the two texts.
const HEAD_WORDS: u128 = 10;

/// What a challenge asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is paid, and where.
    pub token: Arc<EvmToken>,
    /// Who is paid.
    pub pay_to: Address,
    /// Atomic units.
    pub amount: u128,
    /// Who sends the permit to the contract.
    pub spender: Address,
    /// The request's, or empty.
    pub external_id: String,
}

/// Why a permit does not answer a challenge. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// As for any payment of this kind.
    #[error(transparent)]
    Terms(#[from] ExactError),
    /// It was signed for another challenge, or for none.
    #[error("the witness is not that of the challenge")]
    Witness,
    /// Nobody says who pays: a signature alone would always recover to somebody.
    #[error("neither source nor payload says who pays")]
    NoSource,
    /// `source` names another account than the payload, or another chain.
    #[error("source is not the account that signed")]
    Source,
}

impl PermitError {
    /// The finer reason beside the code of the refusal.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Terms(error) => error.reason(),
            Self::Witness => "challenge_hash",
            Self::NoSource => "no_source",
            Self::Source => "source",
        }
    }
}

/// A genuine permit for exactly what was asked, not sent yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitCharge {
    /// What was signed.
    pub permit: Permit,
    /// By whom it was: `permit.from`.
    pub signature: Signature,
    /// Atomic units that move; never more than was permitted.
    pub amount: u128,
    /// The same for every presentation of this nonce, by whichever protocol (X402-1).
    pub deposit_key: [u8; 32],
    /// Where the deposit goes when no key names an account.
    pub account: [u8; 16],
    spelling: ChargeSpelling,
    witness: [u8; 32],
}

/// Checks a permit against what its challenge asks for. The cheap questions come first: one for another challenge never
/// costs a curve operation.
///
/// # Errors
/// [`PermitError`]
pub fn verify(
    offer: &Offer,
    challenge: &Challenge,
    source: Option<&str>,
    payload: &Permit2,
    now_unix_s: u64,
) -> Result<PermitCharge, PermitError> {
    verify_bound(offer, &challenge_hash(challenge), source, payload, now_unix_s)
}

/// The deposit key of a permit on a network, whatever else it says; none where it does not say who pays with which nonce.
#[must_use]
pub fn key(network: &str, source: Option<&str>, payload: &Permit2) -> Option<[u8; 32]> {
    let from = payer(network, source, payload).ok()?;
    Some(x402_permit2::key(network, &payload.terms(from, Address::ZERO)?.permit))
}

/// The same as [`verify`] for one that was shown before: then its challenge was checked, and counts no more.
///
/// # Errors
/// [`PermitError`]
pub fn verify_again(
    offer: &Offer,
    source: Option<&str>,
    payload: &Permit2,
    then_unix_s: u64,
) -> Result<PermitCharge, PermitError> {
    let hash = wire::hex::decode_0x_array(&payload.witness.challenge_hash);
    let hash = hash.map_err(|_| ExactError::Malformed)?;
    verify_bound(offer, &hash, source, payload, then_unix_s)
}

fn verify_bound(
    offer: &Offer,
    challenge_hash: &[u8; 32],
    source: Option<&str>,
    payload: &Permit2,
    now: u64,
) -> Result<PermitCharge, PermitError> {
    let network = offer.token.network();
    let from = payer(network, source, payload)?;
    let terms = payload.terms(from, offer.spender).ok_or(ExactError::Malformed)?;
    if terms.challenge_hash != *challenge_hash || terms.external_id != offer.external_id {
        return Err(PermitError::Witness);
    }
    let permit = terms.permit;
    if permit.to != offer.pay_to {
        return Err(ExactError::WrongPayee.into());
    }
    if permit.token != *offer.token.contract() {
        return Err(ExactError::WrongAsset.into());
    }
    check_amount(terms.requested, offer.amount)?;
    // The draft calls it the most that may move: more than is asked for stays with the payer.
    check_amount(permit.amount.min(offer.amount), offer.amount)?;
    if permit.deadline < now.saturating_add(SETTLE_MARGIN_S) {
        return Err(ExactError::Expired(permit.deadline).into());
    }
    let signature = Signature::parse(&payload.signature).map_err(ExactError::from)?;
    let (spelling, witness) = spelt(offer, &permit, challenge_hash, &signature)?;
    Ok(PermitCharge {
        permit,
        signature,
        amount: offer.amount,
        deposit_key: x402_permit2::key(network, &permit),
        account: account_id::evm(network, &from, offer.token.contract()),
        spelling,
        witness,
    })
}

/// Who says he pays.
fn payer(network: &str, source: Option<&str>, payload: &Permit2) -> Result<Address, PermitError> {
    let named = match &payload.from {
        Some(text) => Some(text.parse().map_err(|_| ExactError::Malformed)?),
        None => None,
    };
    let Some(source) = source else { return named.ok_or(PermitError::NoSource) };
    match did::account(source) {
        Some((on, account)) if on == network && named.is_none_or(|named| named == account) => Ok(account),
        Some(_) | None => Err(PermitError::Source),
    }
}

/// In which spelling of its type the payer has signed. In any other the signature is another's.
fn spelt(
    offer: &Offer,
    permit: &Permit,
    challenge_hash: &[u8; 32],
    signature: &Signature,
) -> Result<(ChargeSpelling, [u8; 32]), PermitError> {
    let mut refused = ExactError::Malformed;
    for spelling in ChargeSpelling::ALL {
        let witness = spelling.witness(challenge_hash, &offer.external_id);
        let digest = offer.token.permit2_separator().digest(&permit_charge(permit, spelling, witness));
        match signature.verify(&digest, &permit.from) {
            Ok(()) => return Ok((spelling, witness)),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused.into())
}

impl PermitCharge {
    /// What the contract is called with by the spender.
    #[must_use]
    pub fn call(&self) -> Vec<u8> {
        let Permit { from, token, amount, nonce, deadline, to, .. } = &self.permit;
        let (type_end, signature) = (self.spelling.type_end(), self.signature.as_bytes());
        let (type_end, signature) = (sized(type_end.as_bytes()), sized(signature));
        let (type_at, signature_at) =
            (HEAD_WORDS * 32, HEAD_WORDS * 32 + u128::try_from(type_end.len()).unwrap_or_default());
        let words = [
            eip712::address(token),
            eip712::word(*amount),
            *nonce,
            eip712::word(u128::from(*deadline)),
            eip712::address(to),
            eip712::word(self.amount),
            eip712::address(from),
            self.witness,
            eip712::word(type_at),
            eip712::word(signature_at),
        ];
        [&keccak256(TRANSFER)[..4], words.as_flattened(), &type_end, &signature].concat()
    }
}

/// Bytes behind their length, filled up to whole words.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u128::try_from(bytes.len()).unwrap_or_default();
    let filling = vec![0; bytes.len().next_multiple_of(32) - bytes.len()];
    [&eip712::word(length)[..], bytes, &filling].concat()
}

#[cfg(test)]
mod tests;
