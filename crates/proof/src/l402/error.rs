//! Why a token is not taken, or not made.

use wire::caveat::CaveatError;
use wire::macaroon::MacaroonError;

use crate::caveat::{Refused, Widened};

/// Nothing was taken in any of these cases, and what the payment hash has left stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum L402Error {
    /// The preimage does not open the payment hash: nobody has shown that this was paid.
    #[error("the preimage does not open the payment hash")]
    Preimage,
    /// Not minted by us, or altered. One answer for all: whoever guesses learns nothing.
    #[error("the token is not one of ours")]
    Unknown,
    /// Minted under an epoch that is retired, or that we never had.
    #[error("the token's epoch is over")]
    EpochRetired,
    /// The token, what was derived from it, or its payment was revoked.
    #[error("the token has been revoked")]
    Revoked,
    /// A caveat cannot be read or is reserved, under a good chain.
    #[error(transparent)]
    Caveat(#[from] CaveatError),
    /// A caveat tries to allow more than an earlier one.
    #[error(transparent)]
    Widened(#[from] Widened),
    /// A `preimage=` caveat is not the preimage that came.
    #[error("the caveat `preimage` names another preimage")]
    PreimageCaveat,
    /// `per_call=` or `budget=` in another asset than the deposit's (L402-56).
    #[error("a caveat's amount is not in the token's asset")]
    WrongAsset,
    /// The token's time is over.
    #[error("expired at {0}")]
    Expired(u64),
    /// The token names no service, and must (L402-54).
    #[error("the token names no service")]
    Unscoped,
    /// A restriction we cannot judge (L402-53).
    #[error("unknown caveat `{0}`")]
    UnknownCaveat(String),
    /// This caveat excludes this request; paying again would not help.
    #[error("caveat `{0}` forbids this request")]
    Forbidden(&'static str),
    /// `holder=` asks for a signed request.
    #[error("the token demands a request signed by its holder")]
    HolderProofMissing,
    /// First shown too long after it was sold (L402-45).
    #[error("not claimed before {0}")]
    ClaimWindow(u64),
    /// First shown, but sold before the store was restored: it may have been spent already (L402-46).
    #[error("sold before the ledger was restored")]
    BeforeRestore,
}

/// Why no token is made: leave Lightning out of this challenge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// Credit and invoice are above zero, always.
    #[error("credit and invoice must be above zero")]
    SellsNothing,
    /// Every token of ours names its service (L402-54).
    #[error("no caveat `services`")]
    Unscoped,
    /// More than npm `macaroon` can write again (L402-25).
    #[error("{0} caveats, limit {max}", max = super::CAVEATS_MAX)]
    TooManyCaveats(usize),
    /// The same.
    #[error("{0} bytes, limit {max}", max = super::TOKEN_BYTES_MAX)]
    TooLong(usize),
    /// A caveat is longer than any reader takes.
    #[error(transparent)]
    Limit(#[from] MacaroonError),
    /// The token would be refused when shown.
    #[error(transparent)]
    Refused(#[from] L402Error),
}

impl From<Refused> for L402Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Caveat(error) => Self::Caveat(error),
            Refused::Widened(error) => Self::Widened(error),
            Refused::Unknown(name) => Self::UnknownCaveat(name),
            Refused::Expired(until) => Self::Expired(until),
            Refused::Forbidden("holder") => Self::HolderProofMissing,
            Refused::Forbidden(name) => Self::Forbidden(name),
            Refused::Unscoped => Self::Unscoped,
        }
    }
}

impl L402Error {
    /// The code for the refusal's body. `proof_invalid` and `proof_expired` go with a fresh challenge
    /// (402); `key_forbidden` and `verification_failed` (403) and `holder_proof_missing` (401) do not,
    /// because a client that pays again would gain nothing.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Preimage
            | Self::Unknown
            | Self::Revoked
            | Self::Caveat(_)
            | Self::Widened(_)
            | Self::PreimageCaveat
            | Self::WrongAsset
            | Self::Unscoped => "proof_invalid",
            Self::EpochRetired | Self::Expired(_) | Self::ClaimWindow(_) => "proof_expired",
            Self::UnknownCaveat(_) | Self::Forbidden(_) => "key_forbidden",
            Self::HolderProofMissing => "holder_proof_missing",
            Self::BeforeRestore => "verification_failed",
        }
    }

    /// The finer reason beside the code.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Preimage => "preimage_mismatch",
            Self::Unknown => "token_unknown",
            Self::EpochRetired => "epoch_retired",
            Self::Revoked => "token_revoked",
            Self::Caveat(CaveatError::Malformed) => "caveat_malformed",
            Self::Caveat(CaveatError::Reserved(_)) => "caveat_reserved",
            Self::Widened(_) => "caveat_widened",
            Self::PreimageCaveat => "preimage_caveat_mismatch",
            Self::WrongAsset => "caveat_asset",
            Self::Expired(_) => "token_expired",
            Self::Unscoped => "token_unscoped",
            Self::UnknownCaveat(_) => "unknown_caveat",
            Self::Forbidden(_) => "caveat_forbids",
            Self::HolderProofMissing => "holder_proof_missing",
            Self::ClaimWindow(_) => "claim_window_over",
            Self::BeforeRestore => "sold_before_restore",
        }
    }

    /// The caveat that decided, where one did: told to the payer beside the reason (L402-57).
    #[must_use]
    pub fn caveat(&self) -> Option<&str> {
        match self {
            Self::Widened(Widened(name)) | Self::UnknownCaveat(name) => Some(name),
            Self::Caveat(CaveatError::Reserved(name)) | Self::Forbidden(name) => Some(name),
            Self::PreimageCaveat => Some("preimage"),
            Self::HolderProofMissing => Some("holder"),
            Self::Preimage
            | Self::Unknown
            | Self::EpochRetired
            | Self::Revoked
            | Self::Caveat(CaveatError::Malformed)
            | Self::WrongAsset
            | Self::Expired(_)
            | Self::Unscoped
            | Self::ClaimWindow(_)
            | Self::BeforeRestore => None,
        }
    }
}
