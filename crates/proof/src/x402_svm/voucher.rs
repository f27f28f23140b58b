//! Is this voucher of a Solana channel genuine, and still good?

use wire::x402::svm::SvmVoucher;

use crate::ed25519;

/// Why a voucher is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvmVoucherError {
    /// Its time is over.
    #[error("voucher expired at {0}")]
    Expired(i64),
    /// Somebody else's, or over something else.
    #[error("voucher signature refused")]
    Signature,
}

/// That `payer` signed it and its time is not over.
///
/// # Errors
/// [`SvmVoucherError`]
pub fn verify(
    voucher: &SvmVoucher,
    payer: &[u8; 32],
    signature: &[u8; 64],
    now_unix_s: u64,
) -> Result<(), SvmVoucherError> {
    if let Some(expires_at) = voucher.expires_at
        && i64::try_from(now_unix_s).unwrap_or(i64::MAX) >= expires_at
    {
        return Err(SvmVoucherError::Expired(expires_at));
    }
    ed25519::verify(payer, &voucher.to_bytes(), signature).map_err(|_| SvmVoucherError::Signature)
}
