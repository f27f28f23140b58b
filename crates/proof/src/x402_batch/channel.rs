//! A channel of this scheme: the engine of [`crate::voucher`], and what the scheme adds to it.

use wire::hex;
use wire::x402::batch::{ChannelState, VoucherState};

use super::{BatchError, GenuineVoucher};
use crate::voucher::{self, NotTaken, Rules, Step, Withdrawal};

pub use crate::voucher::Mirror;

/// A voucher's sum and signature.
pub type SignedVoucher = voucher::Signed<[u8; 65]>;
/// A channel as it is written down, whole, before an answer goes out.
pub type Channel = voucher::Channel<[u8; 65]>;
/// What a call may cost, and where it comes from.
pub type Acceptance = voucher::Acceptance<[u8; 65]>;

/// What becomes of a voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call may be made.
    Accepted(Acceptance),
    /// A challenge that says where the channel stands; `voucher` when it may show the newest signature too.
    Corrective {
        /// Why.
        error: BatchError,
        /// False towards whoever presents what anybody can read on the chain.
        voucher: bool,
    },
    /// A plain refusal.
    Refused(BatchError),
}

/// What a payer gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// Given back.
    pub amount: u128,
    /// Which refund of the channel it is.
    pub nonce: [u8; 32],
    /// Taken first, in all.
    pub total_claimed: u128,
}

impl Channel {
    /// Holds a genuine voucher against the channel, for a call that may cost `amount` (X402-22, X402-28).
    ///
    /// The same voucher for the same request is the caller's matter: it has the stored outcome. For another request
    /// it draws on the carry, or is corrected.
    #[must_use]
    pub fn accept(&self, voucher: &GenuineVoucher, amount: u128, now_unix_s: u64) -> Verdict {
        let rules = Rules {
            step: Step::Exactly(amount),
            withdrawal: Withdrawal::Lowers,
            withdraw_delay: voucher.config.withdraw_delay,
        };
        let mismatch = BatchError::CumulativeMismatch { charged: self.charged };
        match self.judge(voucher.signed, &rules, now_unix_s) {
            Ok(acceptance) => Verdict::Accepted(acceptance),
            Err(NotTaken::Busy | NotTaken::Closing) => Verdict::Refused(BatchError::Busy),
            Err(NotTaken::Published) => Verdict::Corrective { error: mismatch, voucher: false },
            Err(NotTaken::Mismatch | NotTaken::DeltaTooSmall) => {
                Verdict::Corrective { error: mismatch, voucher: true }
            }
            Err(NotTaken::BelowClaimed) => {
                Verdict::Corrective { error: BatchError::BelowClaimed, voucher: true }
            }
            Err(NotTaken::Stale) => Verdict::Refused(BatchError::StaleMirror),
            Err(NotTaken::ExceedsDeposit) => Verdict::Refused(BatchError::ExceedsBalance),
        }
    }

    /// What a payer gets back who asks for `amount`, or for all that is left. His voucher promises nothing more than
    /// was charged.
    ///
    /// # Errors
    /// [`BatchError`]; nothing was consumed.
    pub fn refund(&self, voucher: &GenuineVoucher, amount: Option<u128>) -> Result<Refund, BatchError> {
        if self.in_flight > 0 {
            return Err(BatchError::Busy);
        }
        if voucher.signed.max_claimable != self.charged {
            return Err(BatchError::CumulativeMismatch { charged: self.charged });
        }
        if self.charged < self.mirror.total_claimed {
            return Err(BatchError::BelowClaimed);
        }
        let (nonce, total_claimed) = (self.mirror.refund_nonce, self.used());
        // A refund of everything ends the channel's record, so the carry goes with it.
        let all = self.mirror.balance.saturating_sub(total_claimed);
        let part = self.mirror.balance.saturating_sub(self.charged);
        match amount {
            _ if all == 0 => Err(BatchError::RefundNoBalance),
            None => Ok(Refund { amount: all, nonce, total_claimed }),
            Some(asked) if asked == 0 || asked > part => Err(BatchError::RefundAmount),
            Some(asked) => Ok(Refund { amount: asked, nonce, total_claimed }),
        }
    }

    /// As results and corrective challenges tell it.
    #[must_use]
    pub const fn state(&self, channel_id: [u8; 32]) -> ChannelState {
        ChannelState {
            channel_id,
            balance: self.mirror.balance,
            total_claimed: self.mirror.total_claimed,
            withdraw_requested_at: self.mirror.withdraw_requested_at,
            refund_nonce: self.mirror.refund_nonce,
            charged_cumulative_amount: Some(self.charged),
        }
    }

    /// The newest promise, for a payer who lost his state. Only where [`Verdict::Corrective`] allows it.
    #[must_use]
    pub fn voucher_state(&self) -> Option<VoucherState> {
        self.newest.map(|newest| VoucherState {
            signed_max_claimable: newest.max_claimable,
            signature: hex::encode_0x(&newest.signature),
        })
    }
}
