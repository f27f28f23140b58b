//! Why an `exact` payment is not taken.

use crate::quote::QuoteError;
use crate::secp::SignatureError;

/// Nothing was consumed in any of these cases: the answer is a fresh challenge with [`ExactError::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExactError {
    /// Members are missing, of another type or out of range.
    #[error("payment payload is malformed")]
    Malformed,
    /// We did not offer this scheme on this network.
    #[error("scheme or network was not offered")]
    WrongNetwork,
    /// We did not offer this token there.
    #[error("asset was not offered")]
    WrongAsset,
    /// The money would go to somebody else.
    #[error("payee is not ours")]
    WrongPayee,
    /// Less than asked.
    #[error("{paid} of {asked} atomic units")]
    Underpaid {
        /// What the proof pays.
        paid: u128,
        /// What the call needs.
        asked: u128,
    },
    /// More than asked: `exact` means exact.
    #[error("{paid} instead of {asked} atomic units")]
    Overpaid {
        /// What the proof pays.
        paid: u128,
        /// What the call needs.
        asked: u128,
    },
    /// Another member of the echoed offer is not as we sent it.
    #[error("the accepted offer is not the one we made")]
    OfferAltered,
    /// Our offer carried a quote and the echo does not.
    #[error("the accepted offer lacks our quote")]
    QuoteMissing,
    /// The quote does not stand for this request.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// The quote is ours and promises another price than the offers it is held against.
    #[error("the quote is for another price")]
    QuotePrice,
    /// Paid for another resource.
    #[error("the payment names another resource")]
    WrongResource,
    /// The token would refuse it until then.
    #[error("valid only after {0}")]
    NotYetValid(u64),
    /// Too little time left to settle it.
    #[error("valid only before {0}")]
    Expired(u64),
    /// The signature is not canonical, or somebody else's.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The signature on the test rail does not stand.
    #[error("Ed25519 signature refused")]
    Ed25519,
}

impl ExactError {
    /// The code for the refusal's body.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed_credential",
            Self::WrongNetwork => "wrong_network",
            Self::WrongAsset => "wrong_asset",
            Self::WrongPayee => "wrong_payee",
            Self::Underpaid { .. } => "proof_underpaid",
            Self::Expired(_) => "proof_expired",
            Self::Quote(QuoteError::Expired(_)) => "quote_expired",
            Self::Overpaid { .. }
            | Self::OfferAltered
            | Self::QuoteMissing
            | Self::Quote(QuoteError::Malformed | QuoteError::Mismatch)
            | Self::QuotePrice
            | Self::WrongResource
            | Self::NotYetValid(_)
            | Self::Signature(_)
            | Self::Ed25519 => "proof_invalid",
        }
    }

    /// The finer reason beside the code.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed_payload",
            Self::WrongNetwork => "network_not_offered",
            Self::WrongAsset => "asset_not_offered",
            Self::WrongPayee => "payee_mismatch",
            Self::Underpaid { .. } => "value_below_amount",
            Self::Overpaid { .. } => "value_above_amount",
            Self::OfferAltered => "offer_altered",
            Self::QuoteMissing => "quote_missing",
            Self::Quote(QuoteError::Malformed) => "quote_malformed",
            Self::Quote(QuoteError::Mismatch) => "quote_mismatch",
            Self::Quote(QuoteError::Expired(_)) => "quote_expired",
            Self::QuotePrice => "quote_price",
            Self::WrongResource => "resource_mismatch",
            Self::NotYetValid(_) => "not_yet_valid",
            Self::Expired(_) => "valid_before_too_near",
            Self::Signature(SignatureError::WrongSigner) => "signer_mismatch",
            Self::Signature(_) | Self::Ed25519 => "signature_invalid",
        }
    }
}
