//! Money into a channel: is the authorization under it genuine, and does it put the money into that channel?
//!
//! Only externally owned accounts: a payer that is a contract needs a facilitator's word.

use wire::x402::batch::{Deposit, DepositAuthorization, Erc3009Deposit, Permit2Deposit};
use wire::x402::{Address, Transfer, contracts};

use super::{BatchError, GenuineVoucher, Offer};
use crate::deposit_key::{self, EvmMethod};
use crate::eip712::{self, keccak256};
use crate::secp::Signature;
use crate::x402_exact::{ExactError, SETTLE_MARGIN_S};

/// A genuine deposit, not settled yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenuineDeposit {
    /// Atomic units.
    pub amount: u128,
    /// Unix seconds; settle before.
    pub valid_before: u64,
    /// The same for every presentation of this deposit (X402-1).
    pub deposit_key: [u8; 32],
}

/// Checks a deposit beside the voucher it came with.
///
/// # Errors
/// [`BatchError`]; nothing was consumed.
pub fn verify(
    offer: &Offer,
    voucher: &GenuineVoucher,
    deposit: &Deposit,
    now_unix_s: u64,
) -> Result<GenuineDeposit, BatchError> {
    if deposit.amount == 0 || offer.min_deposit.is_some_and(|least| deposit.amount < least) {
        return Err(BatchError::DepositBelowMin);
    }
    match &deposit.authorization {
        DepositAuthorization::Erc3009(sent) => erc3009(offer, voucher, deposit.amount, sent, now_unix_s),
        DepositAuthorization::Permit2(sent) => permit2(offer, voucher, deposit.amount, sent, now_unix_s),
    }
}

/// The nonce of a deposit by EIP-3009: it binds the transfer to the channel.
#[must_use]
pub fn erc3009_nonce(channel_id: &[u8; 32], salt: &[u8; 32]) -> [u8; 32] {
    keccak256([*channel_id, *salt].as_flattened())
}

fn erc3009(
    offer: &Offer,
    voucher: &GenuineVoucher,
    amount: u128,
    sent: &Erc3009Deposit,
    now: u64,
) -> Result<GenuineDeposit, BatchError> {
    let transfer = Transfer {
        from: voucher.config.payer,
        to: contracts::ERC3009_COLLECTOR,
        value: amount,
        valid_after: sent.valid_after,
        valid_before: sent.valid_before,
        nonce: erc3009_nonce(&voucher.channel_id, &sent.salt),
    };
    // The token compares strictly on both sides, so equality would revert.
    if transfer.valid_after >= now {
        return Err(ExactError::NotYetValid(transfer.valid_after).into());
    }
    settleable(transfer.valid_before, now)?;
    let digest = offer.token.separator().digest(&eip712::receive_with_authorization(&transfer));
    check_signature(&sent.signature, &digest, &transfer.from)?;
    let (network, contract) = (offer.token.network(), offer.token.contract());
    let key = deposit_key::evm(EvmMethod::Eip3009, network, contract, &transfer.from, &transfer.nonce);
    Ok(GenuineDeposit { amount, valid_before: transfer.valid_before, deposit_key: key })
}

fn permit2(
    offer: &Offer,
    voucher: &GenuineVoucher,
    amount: u128,
    sent: &Permit2Deposit,
    now: u64,
) -> Result<GenuineDeposit, BatchError> {
    let permit = sent.permit();
    let same = permit.from == voucher.config.payer
        && permit.token == *offer.token.contract()
        && permit.amount == amount
        && permit.spender == contracts::PERMIT2_COLLECTOR
        && sent.witness.channel_id == voucher.channel_id;
    if !same {
        return Err(BatchError::DepositElsewhere);
    }
    settleable(permit.deadline, now)?;
    let struct_hash = eip712::permit_deposit(&permit, &voucher.channel_id);
    let digest = offer.token.permit2_separator().digest(&struct_hash);
    check_signature(&sent.signature, &digest, &permit.from)?;
    let key = crate::x402_permit2::key(offer.token.network(), &permit);
    Ok(GenuineDeposit { amount, valid_before: permit.deadline, deposit_key: key })
}

fn check_signature(text: &str, digest: &[u8; 32], payer: &Address) -> Result<(), BatchError> {
    let signature = Signature::parse(text).map_err(BatchError::DepositSignature)?;
    signature.verify(digest, payer).map_err(BatchError::DepositSignature)
}

fn settleable(valid_before: u64, now: u64) -> Result<(), ExactError> {
    if valid_before < now.saturating_add(SETTLE_MARGIN_S) {
        return Err(ExactError::Expired(valid_before));
    }
    Ok(())
}
