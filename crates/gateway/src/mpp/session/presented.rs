//! A credential of a session as it arrives: one of ours, and its voucher genuine. CPU only; where the channel stands is not
//! looked at yet.

use proof::voucher::Signed;
use wire::mpp::Problem;

use super::chain::Unchecked;
use super::{Made, Shown, Signature, Terms};
use crate::config::MppMethod;
use crate::mpp::refused;
use crate::refusal::Refusal;

/// Digits of the largest sum.
const SUM_DIGITS_MAX: usize = 39;

/// A genuine credential.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    pub(super) method: MppMethod,
    pub(crate) id: [u8; 32],
    /// What the channel is made of; none where only its chain can tell.
    pub(super) made: Option<Made>,
    pub(super) action: Action,
    pub(crate) challenge_id: String,
}

/// What its payer wants.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// The first voucher comes with it, or in the request after it.
    Open {
        transaction: String,
        voucher: Option<Voucher>,
    },
    TopUp {
        transaction: String,
    },
    Voucher(Voucher),
    Close(Voucher),
}

/// A voucher. It is checked when somebody can tell who has to have signed it.
#[derive(Clone, Debug)]
pub(super) enum Voucher {
    Genuine(Signed<Signature>),
    /// The channel's chain has to be asked who signs for it.
    Unchecked(Unchecked),
}

impl Presented {
    /// Whether it pays for a call: the others are about the channel alone.
    pub(crate) const fn may_pay(&self) -> bool {
        matches!(self.action, Action::Open { voucher: Some(_), .. } | Action::Voucher(_))
    }

    /// The channel that a genuine voucher was shown of, and its sum.
    pub(crate) const fn shown(&self) -> Option<Shown> {
        match &self.action {
            Action::Open { voucher: Some(Voucher::Genuine(signed)), .. }
            | Action::Voucher(Voucher::Genuine(signed))
            | Action::Close(Voucher::Genuine(signed)) => {
                Some(Shown { id: self.id, sum: signed.max_claimable })
            }
            Action::Open { voucher: Some(Voucher::Unchecked(_)) | None, .. }
            | Action::Voucher(Voucher::Unchecked(_))
            | Action::Close(Voucher::Unchecked(_))
            | Action::TopUp { .. } => None,
        }
    }
}

/// A voucher, checked if it is known who has to have signed it.
pub(super) fn voucher(
    terms: &Terms,
    id: &[u8; 32],
    made: Option<&Made>,
    voucher: Unchecked,
) -> Result<Voucher, Refusal> {
    let Some(made) = made else { return Ok(Voucher::Unchecked(voucher)) };
    genuine(terms, id, made, &voucher).map(Voucher::Genuine)
}

impl Voucher {
    /// The voucher of a channel whose maker is known by now.
    pub(super) fn checked(
        self,
        terms: &Terms,
        id: &[u8; 32],
        made: &Made,
    ) -> Result<Signed<Signature>, Refusal> {
        match self {
            Self::Genuine(signed) => Ok(signed),
            Self::Unchecked(voucher) => genuine(terms, id, made, &voucher),
        }
    }
}

fn genuine(
    terms: &Terms,
    id: &[u8; 32],
    made: &Made,
    voucher: &Unchecked,
) -> Result<Signed<Signature>, Refusal> {
    let channel = terms.on(made).ok_or_else(|| elsewhere("chain"))?;
    channel.genuine(terms, id, voucher)
}

/// A sum in base units.
pub(super) fn sum(text: &str) -> Result<u128, Refusal> {
    let is_number =
        !text.is_empty() && text.len() <= SUM_DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit());
    let number = is_number.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| malformed("amount"))
}

pub(super) fn malformed(reason: &'static str) -> Refusal {
    refused(Problem::MalformedCredential, reason, "The payload is none of this method.")
}

pub(super) fn elsewhere(reason: &'static str) -> Refusal {
    refused(Problem::VerificationFailed, reason, "The channel is not one that pays us as our challenge says.")
}

/// The challenge was made under other terms.
pub(super) fn another() -> Refusal {
    let detail = "The challenge is not for channels as they are taken here now.";
    refused(Problem::InvalidChallenge, "request", detail)
}
