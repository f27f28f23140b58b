//! x402 `batch-settlement` on EVM: is this voucher genuine, for a channel that pays us, and does it continue where
//! the channel stands?
//!
//! A voucher costs no call to anybody: the contract itself says who may sign it, so with a fresh view of the channel
//! it can be decided here (X402-22). What a channel's money does is [`Channel`]; the genuineness of what a payer
//! signed is [`verify`], [`deposit::verify`].

mod channel;
pub mod claim;
pub mod deposit;
mod error;
mod offer;
pub mod payer;

pub use channel::{Acceptance, Channel, Mirror, Refund, SignedVoucher, Verdict};
pub use error::BatchError;
pub use offer::Offer;

use wire::x402::batch::{BatchPayload, ChannelConfig, Voucher};
use wire::x402::{Address, v2};

use crate::secp::Signature;
use crate::x402_exact::Binding;
use crate::{eip712, x402_echo};

/// A genuine voucher for a channel that pays us; where the channel stands is not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenuineVoucher {
    /// Names the channel; it is the hash of `config`.
    pub channel_id: [u8; 32],
    /// Names the payer.
    pub config: ChannelConfig,
    /// What the payer signed.
    pub signed: SignedVoucher,
}

/// The id of a channel on our offer's chain.
#[must_use]
pub fn channel_id(offer: &Offer, config: &ChannelConfig) -> [u8; 32] {
    offer.token.batch_separator().digest(&eip712::channel_config(config))
}

/// Finds our offer in a payment's echo and checks the voucher it carries.
///
/// # Errors
/// [`BatchError`]; nothing was consumed.
pub fn verify_v2<'o>(
    payment: &v2::PaymentPayload,
    offers: &'o [Offer],
    binding: &Binding<'_>,
    now_unix_s: u64,
) -> Result<(&'o Offer, BatchPayload, GenuineVoucher), BatchError> {
    let (offer, written) =
        x402_echo::find(&payment.accepted, offers, |offer| offer.token.network(), Offer::requirements_v2)?;
    x402_echo::check(payment, &written, binding, now_unix_s)?;
    let payload = BatchPayload::from_value(&payment.payload).ok_or(BatchError::PayloadType)?;
    let voucher = verify(offer, payload.channel_config(), payload.voucher())?;
    Ok((offer, payload, voucher))
}

/// Checks channel, terms and signature of a voucher, the signature last.
///
/// # Errors
/// [`BatchError`]; nothing was consumed.
pub fn verify(
    offer: &Offer,
    config: &ChannelConfig,
    voucher: &Voucher,
) -> Result<GenuineVoucher, BatchError> {
    let channel_id = channel_id(offer, config);
    if channel_id != voucher.channel_id {
        return Err(BatchError::ChannelIdMismatch);
    }
    if config.token != *offer.token.contract() {
        return Err(BatchError::TokenMismatch);
    }
    if config.receiver != offer.receiver {
        return Err(BatchError::ReceiverMismatch);
    }
    if config.receiver_authorizer != offer.receiver_authorizer {
        return Err(BatchError::ReceiverAuthorizerMismatch);
    }
    if config.withdraw_delay != offer.withdraw_delay {
        return Err(BatchError::WithdrawDelayMismatch);
    }
    if config.payer_authorizer == Address::ZERO {
        return Err(BatchError::ContractSigner);
    }
    let signature = Signature::parse(&voucher.signature)?;
    let max_claimable = voucher.max_claimable_amount;
    let digest = offer.token.batch_separator().digest(&eip712::voucher(&channel_id, max_claimable));
    signature.verify(&digest, &config.payer_authorizer)?;
    let signed = SignedVoucher { max_claimable, signature: *signature.as_bytes() };
    Ok(GenuineVoucher { channel_id, config: *config, signed })
}

#[cfg(test)]
mod tests;
