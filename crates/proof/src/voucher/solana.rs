//! Vouchers of `solana/session`: the fifty bytes of [`wire::x402::svm::SvmVoucher`], built from a payload's members, so
//! that nothing of how it was written goes into what is checked.

use wire::x402::base58;
use wire::x402::svm::SvmVoucher;

use super::Signed;
use crate::x402_svm;
use crate::x402_svm::voucher::SvmVoucherError;

/// A voucher's signature, and the time that was signed with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SolanaSignature {
    /// As Ed25519 writes it.
    pub bytes: [u8; 64],
    /// Unix seconds; 0: it does not end.
    pub expires_at: i64,
}

/// Why a voucher is not genuine, or no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// The chain counts in 64 bits.
    #[error("sum is wider than the chain counts")]
    TooWide,
    /// It ends before we could take anything by it.
    #[error("voucher has expired, or ends too soon")]
    Expired,
    /// Not base58 of 64 bytes.
    #[error("signature is not base58 of 64 bytes")]
    Encoding,
    /// Somebody else's, or over something else.
    #[error("signed by somebody else, or over something else")]
    WrongSigner,
}

/// Checks a voucher that must still be good at `good_until_s`, because something is to be taken by it. `signer` is who was to sign when the channel was opened.
///
/// # Errors
/// [`VoucherError`]; nothing was consumed.
pub fn verify(
    channel: &[u8; 32],
    sum: u128,
    expires_at: i64,
    signature: &str,
    signer: &[u8; 32],
    good_until_s: u64,
) -> Result<Signed<SolanaSignature>, VoucherError> {
    let cumulative = u64::try_from(sum).map_err(|_| VoucherError::TooWide)?;
    let bytes = base58::decode_array(signature).map_err(|_| VoucherError::Encoding)?;
    let expires = (expires_at != 0).then_some(expires_at);
    let voucher = SvmVoucher { channel_id: *channel, cumulative, expires_at: expires };
    x402_svm::voucher::verify(&voucher, signer, &bytes, good_until_s).map_err(|error| match error {
        SvmVoucherError::Expired(_) => VoucherError::Expired,
        SvmVoucherError::Signature => VoucherError::WrongSigner,
    })?;
    Ok(Signed { max_claimable: sum, signature: SolanaSignature { bytes, expires_at } })
}
