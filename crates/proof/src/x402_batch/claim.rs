//! What we sign as receiver authorizer: claims over channels, and refunds to a payer who asked.

use wire::hex;
use wire::x402::batch::claim::ClaimedVoucher;
use wire::x402::batch::{ChannelConfig, ClaimEntry, ClaimPayload, RefundPayload, Voucher, VoucherClaim};

use super::{Refund, SignedVoucher};
use crate::eip712::{self, Separator};
use crate::secp::{SecretKey, SignatureError};

/// What is owed in one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The channel.
    pub config: ChannelConfig,
    /// The payer's promise that covers it.
    pub signed: SignedVoucher,
    /// What we take in all; at most what is promised.
    pub total_claimed: u128,
}

/// Signs a claim over channels of one chain; `separator` is [`crate::eip712::batch_separator`] of it.
///
/// # Errors
/// [`SignatureError`] as [`SecretKey::sign`].
pub fn sign_claim(
    key: &SecretKey,
    separator: &Separator,
    rows: &[Row],
) -> Result<ClaimPayload, SignatureError> {
    let (claims, signature) = signed_rows(key, separator, rows)?;
    Ok(ClaimPayload { claims, claim_authorizer_signature: Some(signature) })
}

/// Signs a refund that takes what is owed first.
///
/// # Errors
/// [`SignatureError`] as [`SecretKey::sign`].
pub fn sign_refund(
    key: &SecretKey,
    separator: &Separator,
    config: &ChannelConfig,
    asked: &Voucher,
    refund: &Refund,
    owed: Option<Row>,
) -> Result<RefundPayload, SignatureError> {
    let rows: Vec<Row> = owed.into_iter().collect();
    let (claims, claim_signature) = signed_rows(key, separator, &rows)?;
    let digest = separator.digest(&eip712::refund(&asked.channel_id, &refund.nonce, refund.amount));
    let signature = key.sign(&digest)?;
    Ok(RefundPayload {
        channel_config: *config,
        voucher: asked.clone(),
        amount: refund.amount,
        refund_nonce: refund.nonce,
        claims,
        refund_authorizer_signature: Some(hex::encode_0x(signature.as_bytes())),
        claim_authorizer_signature: Some(claim_signature),
    })
}

fn signed_rows(
    key: &SecretKey,
    separator: &Separator,
    rows: &[Row],
) -> Result<(Vec<VoucherClaim>, String), SignatureError> {
    let entries: Vec<ClaimEntry> = rows
        .iter()
        .map(|row| ClaimEntry {
            channel_id: separator.digest(&eip712::channel_config(&row.config)),
            max_claimable: row.signed.max_claimable,
            total_claimed: row.total_claimed,
        })
        .collect();
    let digest = separator.digest(&eip712::claim_batch(&entries));
    let signature = key.sign(&digest)?;
    let claims = rows
        .iter()
        .map(|row| VoucherClaim {
            voucher: ClaimedVoucher { channel: row.config, max_claimable_amount: row.signed.max_claimable },
            signature: hex::encode_0x(&row.signed.signature),
            total_claimed: row.total_claimed,
        })
        .collect();
    Ok((claims, hex::encode_0x(signature.as_bytes())))
}
