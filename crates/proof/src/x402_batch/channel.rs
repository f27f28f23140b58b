//! A channel as we keep it, and what a voucher does to it.
//!
//! Three sums, each part of the one before: what the payer's newest voucher promises, what we told him we charged,
//! and what metered calls used. Only the last is claimed on chain; the rest of what was charged is his, as a carry
//! that lowers later charges (X402-28). All in atomic units of the token.

use std::fmt;

use wire::hex;
use wire::x402::batch::{ChannelState, VoucherState};

use super::{BatchError, GenuineVoucher};

/// How many published vouchers are remembered one by one.
const PUBLISHED_MAX: usize = 32;

/// A voucher's sum and signature. `Debug` hides the signature: whoever has it can use what is left of the promise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignedVoucher {
    /// Cumulative.
    pub max_claimable: u128,
    /// Canonical.
    pub signature: [u8; 65],
}

impl fmt::Debug for SignedVoucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedVoucher({}, signature hidden)", self.max_claimable)
    }
}

/// What we last saw of the channel on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Deposited and not withdrawn or refunded; what was claimed is part of it.
    pub balance: u128,
    /// Claimed in all.
    pub total_claimed: u128,
    /// What the payer asked to withdraw: counts as gone.
    pub withdrawing: u128,
    /// Unix seconds; 0: nothing was asked for.
    pub withdraw_requested_at: u64,
    /// Counts refunds.
    pub refund_nonce: [u8; 32],
    /// Unix seconds of the look.
    pub synced_at_s: u64,
}

impl Mirror {
    /// Whether it may decide about money: younger than a third of the time a withdrawal takes, and at most five
    /// minutes (X402-23).
    #[must_use]
    pub fn is_fresh(&self, withdraw_delay: u64, now_unix_s: u64) -> bool {
        now_unix_s.saturating_sub(self.synced_at_s) <= (withdraw_delay / 3).clamp(30, 300)
    }
}

/// A channel as it is written down, whole, before an answer goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Charged in all, as the payer knows it.
    pub charged: u128,
    /// Charged and not used: the payer's.
    pub carry: u128,
    /// Charged at the head of a call that is not metered yet; one call at a time (X402-24).
    pub in_flight: u128,
    /// The sum of the voucher that was last charged under.
    pub accepted: u128,
    /// The highest promise that was charged under: what claims stand on.
    pub newest: Option<SignedVoucher>,
    /// Sums of vouchers that stand in claims on the chain, ascending.
    pub published: Vec<u128>,
    /// Every sum below counts as published: what the list no longer holds.
    pub published_floor: u128,
    /// What we last saw on chain.
    pub mirror: Mirror,
}

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

/// What a call may cost, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// Added to what is charged, if the whole amount is charged at the head.
    pub charge: u128,
    /// Taken from the carry.
    pub from_carry: u128,
    signed: SignedVoucher,
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

impl Acceptance {
    /// The most the call may cost.
    #[must_use]
    pub const fn amount(&self) -> u128 {
        self.charge.saturating_add(self.from_carry)
    }
}

impl Channel {
    /// A channel we have no record of: what was claimed is where it stands (X402-30).
    #[must_use]
    pub const fn opened(mirror: Mirror) -> Self {
        let charged = mirror.total_claimed;
        Self {
            charged,
            carry: 0,
            in_flight: 0,
            accepted: 0,
            newest: None,
            published: Vec::new(),
            published_floor: 0,
            mirror,
        }
    }

    /// What metered calls used, in all: the most that is claimed.
    #[must_use]
    pub const fn used(&self) -> u128 {
        self.charged.saturating_sub(self.carry).saturating_sub(self.in_flight)
    }

    /// Holds a genuine voucher against the channel, for a call that may cost `amount` (X402-22, X402-28).
    ///
    /// The same voucher for the same request is the caller's matter: it has the stored outcome. For another request
    /// it draws on the carry, or is corrected.
    #[must_use]
    pub fn accept(&self, voucher: &GenuineVoucher, amount: u128, now_unix_s: u64) -> Verdict {
        let signed = voucher.signed;
        let max = signed.max_claimable;
        if self.in_flight > 0 {
            return Verdict::Refused(BatchError::Busy);
        }
        let mismatch = BatchError::CumulativeMismatch { charged: self.charged };
        // Anybody can read it in a claim on the chain and would only have to find a call of the right price.
        if self.is_published(max) {
            return Verdict::Corrective { error: mismatch, voucher: false };
        }
        let continues = self.charged.checked_add(amount) == Some(max);
        let again = self.accepted == max && self.carry >= amount;
        if !continues && !again {
            return Verdict::Corrective { error: mismatch, voucher: true };
        }
        if max <= self.mirror.total_claimed {
            return Verdict::Corrective { error: BatchError::BelowClaimed, voucher: true };
        }
        if !self.mirror.is_fresh(voucher.config.withdraw_delay, now_unix_s) {
            return Verdict::Refused(BatchError::StaleMirror);
        }
        if max > self.mirror.balance.saturating_sub(self.mirror.withdrawing) {
            return Verdict::Refused(BatchError::ExceedsBalance);
        }
        let from_carry = amount.min(self.carry);
        Verdict::Accepted(Acceptance { charge: amount.saturating_sub(from_carry), from_carry, signed })
    }

    /// Charges the whole amount, because the answer's head must say what was charged before the call is metered.
    /// To be durable before the head goes out; [`Channel::metered`] ends it.
    #[must_use]
    pub fn charge_at_head(&self, acceptance: &Acceptance) -> Self {
        let mut next = self.charge(acceptance, acceptance.charge, acceptance.from_carry);
        next.in_flight = acceptance.amount();
        next
    }

    /// What the call in flight used; the rest is the payer's again. More than the amount was is cut to it.
    #[must_use]
    pub fn metered(&self, used: u128) -> Self {
        let mut next = self.clone();
        next.carry = next.carry.saturating_add(self.in_flight.saturating_sub(used));
        next.in_flight = 0;
        next
    }

    /// Charges what a call used whose answer was held until it was metered: first the carry, then the voucher.
    #[must_use]
    pub fn charge_metered(&self, acceptance: &Acceptance, used: u128) -> Self {
        let used = used.min(acceptance.amount());
        let from_carry = used.min(self.carry);
        self.charge(acceptance, used.saturating_sub(from_carry), from_carry)
    }

    /// After a deposit of `amount` has settled.
    #[must_use]
    pub fn with_deposit(&self, amount: u128) -> Self {
        let mut next = self.clone();
        next.mirror.balance = next.mirror.balance.saturating_add(amount);
        next
    }

    /// After another look at the chain. What was claimed there was charged, whoever knows why.
    #[must_use]
    pub fn refreshed(&self, mirror: Mirror) -> Self {
        let mut next = self.clone();
        next.charged = next.charged.max(mirror.total_claimed);
        next.mirror = mirror;
        next
    }

    /// What to claim, and with which promise; `None` if everything used is claimed.
    #[must_use]
    pub fn claimable(&self) -> Option<(SignedVoucher, u128)> {
        let used = self.used();
        let signed = self.newest.filter(|signed| signed.max_claimable >= used)?;
        (used > self.mirror.total_claimed).then_some((signed, used))
    }

    /// Before a claim with this promise is sent: from here on anybody may know it.
    #[must_use]
    pub fn with_published(&self, max_claimable: u128) -> Self {
        let mut next = self.clone();
        if !next.is_published(max_claimable) {
            let place = next.published.partition_point(|known| *known < max_claimable);
            next.published.insert(place, max_claimable);
        }
        if next.published.len() > PUBLISHED_MAX {
            next.published_floor = next.published.remove(0).saturating_add(1);
        }
        next
    }

    /// Whether to claim at once: the payer wants his money back and we are owed some of it (X402-31).
    #[must_use]
    pub fn must_claim(&self) -> bool {
        self.mirror.withdraw_requested_at > 0 && self.claimable().is_some()
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

    fn charge(&self, acceptance: &Acceptance, charge: u128, from_carry: u128) -> Self {
        let mut next = self.clone();
        next.charged = next.charged.saturating_add(charge);
        next.carry = next.carry.saturating_sub(from_carry);
        // A promise that nothing was charged under is still open: the payer's next voucher may be this very one.
        if charge > 0 {
            let signed = acceptance.signed;
            next.accepted = signed.max_claimable;
            // A cheaper call's voucher may promise less in all than a dearer one before it.
            next.newest = match next.newest {
                Some(newest) if newest.max_claimable >= signed.max_claimable => Some(newest),
                _ => Some(signed),
            };
        }
        next
    }

    fn is_published(&self, max_claimable: u128) -> bool {
        max_claimable < self.published_floor || self.published.binary_search(&max_claimable).is_ok()
    }
}
