//! A channel as we keep it, and what a voucher does to it.
//!
//! Three sums, each part of the one before: what the payer's newest voucher promises, what he was charged (what counts
//! as paid in), and what metered calls used. Only the last is taken on the chain; the rest of what was charged is his.
//! All in atomic units of the token.

use std::fmt;

/// How many published vouchers are remembered one by one.
const PUBLISHED_MAX: usize = 32;
/// Earlier promises that are kept beside the newest.
const EARLIER_MAX: usize = 16;

/// A voucher's sum and signature. `Debug` hides the signature: whoever has it can use what is left of the promise.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signed<S> {
    /// Cumulative.
    pub max_claimable: u128,
    /// Canonical.
    pub signature: S,
}

impl<S> fmt::Debug for Signed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({}, signature hidden)", self.max_claimable)
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
pub struct Channel<S> {
    /// Charged in all, as the payer knows it: the accepted sum of a session.
    pub charged: u128,
    /// Charged and not used: the payer's.
    pub carry: u128,
    /// Charged at the head of a call that is not metered yet; one call at a time (X402-24). A session has none here:
    /// its calls set aside on the account, several at a time (ENG-7).
    pub in_flight: u128,
    /// The sum of the voucher that was last charged under.
    pub accepted: u128,
    /// The highest promise that was charged under: what claims stand on.
    pub newest: Option<Signed<S>>,
    /// Earlier promises of a session, ascending: of those that are used up the highest, and some that are not yet. A
    /// payer who promises more than he uses has none that is used up among his newest.
    pub earlier: Vec<Signed<S>>,
    /// Sums of vouchers that stand in claims on the chain, ascending.
    pub published: Vec<u128>,
    /// Every sum below counts as published: what the list no longer holds.
    pub published_floor: u128,
    /// Whether we began to close it, or have: nothing more is accepted, and nothing begins on it (ENG-5).
    pub closing: bool,
    /// What we last saw on chain.
    pub mirror: Mirror,
}

/// What a kind of channel asks of a voucher (ENG-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How it has to go on from what was charged.
    pub step: Step,
    /// What a payer's wish to have his money back does.
    pub withdrawal: Withdrawal,
    /// Seconds that such a wish takes: our view of the chain is good for a part of it.
    pub withdraw_delay: u64,
}

/// How a voucher has to go on from what was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// By exactly what the call may cost; the accepted one again draws on the carry (x402 `batch-settlement`).
    Exactly(u128),
    /// By this much at least; the accepted one again changes nothing (MPP sessions).
    AtLeast {
        /// The smallest step.
        least: u128,
        /// What a lower voucher than the accepted one gets.
        lower: Lower,
    },
}

/// What becomes of a voucher below the accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lower {
    /// It is refused (tempo, solana).
    Refused,
    /// Nothing changes (evm session).
    Unchanged,
}

/// What a payer's wish to have his money back does before it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// What he asked for counts as gone; the rest is as good as before.
    Lowers,
    /// The channel is over.
    Ends,
}

/// Why a voucher is not taken. Nothing was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Another call on the channel is under way.
    #[error("channel is busy")]
    Busy,
    /// We close it, or its payer does.
    #[error("channel is closing")]
    Closing,
    /// It stands in a claim on the chain, where everybody can read it.
    #[error("voucher is public")]
    Published,
    /// It does not start where the channel stands.
    #[error("voucher does not continue from what was charged")]
    Mismatch,
    /// It is lower than the accepted one, or raises it by too little.
    #[error("voucher raises the accepted sum by too little")]
    DeltaTooSmall,
    /// It is not above what was claimed already.
    #[error("voucher is not above what was claimed")]
    BelowClaimed,
    /// Our view of the chain is too old to decide.
    #[error("the channel's state is not known freshly enough")]
    Stale,
    /// The channel does not hold so much.
    #[error("channel does not hold what the voucher promises")]
    ExceedsDeposit,
}

/// What a voucher brings, and what a call may cost under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acceptance<S> {
    /// Added to what is charged, if the whole amount is charged at the head.
    pub charge: u128,
    /// Taken from the carry.
    pub from_carry: u128,
    pub(crate) signed: Signed<S>,
}

impl<S> Acceptance<S> {
    /// The most the call may cost.
    #[must_use]
    pub const fn amount(&self) -> u128 {
        self.charge.saturating_add(self.from_carry)
    }
}

/// How a channel ends on its chain (ENG-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Ours, in all; what was taken before is part of it.
    pub capture: u128,
    /// Goes back to the payer.
    pub refund: u128,
}

impl<S: Copy> Channel<S> {
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
            earlier: Vec::new(),
            published: Vec::new(),
            published_floor: 0,
            closing: false,
            mirror,
        }
    }

    /// What metered calls used, in all: the most that is claimed.
    #[must_use]
    pub const fn used(&self) -> u128 {
        self.charged.saturating_sub(self.carry).saturating_sub(self.in_flight)
    }

    /// What the chain holds for vouchers of this channel.
    #[must_use]
    pub const fn deposit(&self) -> u128 {
        self.mirror.balance.saturating_sub(self.mirror.withdrawing)
    }

    /// Holds a genuine voucher against the channel (ENG-1, ENG-2, X402-22, X402-28).
    ///
    /// The same voucher for the same request is the caller's matter: it has the stored outcome.
    ///
    /// # Errors
    /// [`NotTaken`]: the channel stands where it stood, and what was accepted before is as good as before (ENG-6).
    pub fn judge(
        &self,
        signed: Signed<S>,
        rules: &Rules,
        now_unix_s: u64,
    ) -> Result<Acceptance<S>, NotTaken> {
        let max = signed.max_claimable;
        if self.in_flight > 0 {
            return Err(NotTaken::Busy);
        }
        let asked_back = self.mirror.withdraw_requested_at > 0;
        if self.closing || asked_back && rules.withdrawal == Withdrawal::Ends {
            return Err(NotTaken::Closing);
        }
        // Anybody can read it in a claim on the chain, and would draw on what the payer has left.
        if self.is_published(max) {
            return Err(NotTaken::Published);
        }
        let Some((charge, from_carry)) = self.step(max, rules.step)? else {
            return Ok(Acceptance { charge: 0, from_carry: 0, signed });
        };
        if max <= self.mirror.total_claimed {
            return Err(NotTaken::BelowClaimed);
        }
        if !self.mirror.is_fresh(rules.withdraw_delay, now_unix_s) {
            return Err(NotTaken::Stale);
        }
        if max > self.deposit() {
            return Err(NotTaken::ExceedsDeposit);
        }
        Ok(Acceptance { charge, from_carry, signed })
    }

    /// What a sum charges and takes from the carry; none where it changes nothing.
    fn step(&self, max: u128, step: Step) -> Result<Option<(u128, u128)>, NotTaken> {
        match step {
            Step::Exactly(amount) => {
                let continues = self.charged.checked_add(amount) == Some(max);
                let again = self.accepted == max && self.carry >= amount;
                if !continues && !again {
                    return Err(NotTaken::Mismatch);
                }
                let from_carry = amount.min(self.carry);
                Ok(Some((amount.saturating_sub(from_carry), from_carry)))
            }
            Step::AtLeast { least, lower } => match (max.checked_sub(self.charged), lower) {
                (Some(0), _) | (None, Lower::Unchanged) => Ok(None),
                (None, Lower::Refused) => Err(NotTaken::DeltaTooSmall),
                (Some(more), _) if more < least => Err(NotTaken::DeltaTooSmall),
                (Some(more), _) => Ok(Some((more, 0))),
            },
        }
    }

    /// Charges the whole amount, because the answer's head must say what was charged before the call is metered.
    /// To be durable before the head goes out; [`Channel::metered`] ends it.
    #[must_use]
    pub fn charge_at_head(&self, acceptance: &Acceptance<S>) -> Self {
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
    pub fn charge_metered(&self, acceptance: &Acceptance<S>, used: u128) -> Self {
        let used = used.min(acceptance.amount());
        let from_carry = used.min(self.carry);
        self.charge(acceptance, used.saturating_sub(from_carry), from_carry)
    }

    /// Takes the whole step of a voucher as the payer's to draw on, whenever he does (ENG-1). To be durable before
    /// anything is served on it.
    #[must_use]
    pub fn credited(&self, acceptance: &Acceptance<S>) -> Self {
        let mut next = self.charge(acceptance, acceptance.charge, 0);
        next.carry = next.carry.saturating_add(acceptance.charge);
        if acceptance.charge > 0 {
            next.earlier = self.laddered();
        }
        next
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
    pub fn claimable(&self) -> Option<(Signed<S>, u128)> {
        let used = self.used();
        let signed = self.newest.filter(|signed| signed.max_claimable >= used)?;
        (used > self.mirror.total_claimed).then_some((signed, used))
    }

    /// The promise to show to a contract that takes whole promises, and not a part: one that is used up, so that
    /// nothing of the payer's is taken, and that opens nothing to whoever reads it there. `None` if nothing more is
    /// to be had by it.
    #[must_use]
    pub fn settleable(&self) -> Option<Signed<S>> {
        let used_up = |promise: &&Signed<S>| promise.max_claimable <= self.used();
        let highest = self.newest.iter().chain(self.earlier.iter().rev()).find(used_up)?;
        (highest.max_claimable > self.mirror.total_claimed).then_some(*highest)
    }

    /// The promise to end the channel by where its payer signs no other: the lowest that covers `sum`, so that the least
    /// has to go back, else the highest, by which the most of it is had. Only of those that the chain still takes
    /// (`is_good`), and that bring more than was taken. `None` if nothing more is to be had.
    #[must_use]
    pub fn promise_for(&self, sum: u128, is_good: impl Fn(&Signed<S>) -> bool) -> Option<Signed<S>> {
        let taken = self.mirror.total_claimed;
        if sum <= taken {
            return None;
        }
        let brings = |promise: &&Signed<S>| promise.max_claimable > taken && is_good(promise);
        let kept = || self.earlier.iter().chain(&self.newest).filter(brings);
        let lowest = kept().find(|promise| promise.max_claimable >= sum);
        lowest.or_else(|| kept().last()).copied()
    }

    /// What is kept of the promises so far when another comes: nothing below the highest that is used up, and of the rest
    /// so many that the steps between them stay about as wide everywhere.
    fn laddered(&self) -> Vec<Signed<S>> {
        let used = self.used();
        let mut kept: Vec<Signed<S>> = self.earlier.iter().chain(&self.newest).copied().collect();
        let used_up = kept.partition_point(|promise| promise.max_claimable <= used);
        kept.drain(..used_up.saturating_sub(1));
        if kept.len() > EARLIER_MAX {
            let sum = |place: usize| kept.get(place).map_or(0, |promise: &Signed<S>| promise.max_claimable);
            let width = |place: &usize| sum(place + 1).saturating_sub(sum(place - 1));
            // Never the first, which may be the one that is used up, nor the last.
            if let Some(place) = (1..kept.len() - 1).min_by_key(width) {
                kept.remove(place);
            }
        }
        kept
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

    /// How the channel would end now under a voucher of this sum: we take what was used, never what was promised, and
    /// never less than was taken before (ENG-4). The voucher may be lower than the accepted one.
    ///
    /// # Errors
    /// [`NotTaken`]: another call is under way, or the voucher does not cover what was used.
    pub fn close(&self, max_claimable: u128) -> Result<Closing, NotTaken> {
        if self.in_flight > 0 {
            return Err(NotTaken::Busy);
        }
        let capture = self.used().max(self.mirror.total_claimed);
        if capture > max_claimable {
            return Err(NotTaken::Mismatch);
        }
        if max_claimable > self.mirror.balance {
            return Err(NotTaken::ExceedsDeposit);
        }
        Ok(self.closing_at(capture))
    }

    /// How the channel would end now by this of the promises that are kept, or by none: as [`Channel::close`], but what no
    /// promise covers is lost.
    #[must_use]
    pub fn close_by_kept(&self, promise: Option<&Signed<S>>) -> Closing {
        let taken = self.mirror.total_claimed;
        let brings = promise.map_or(taken, |promise| promise.max_claimable.max(taken));
        self.closing_at(self.used().clamp(taken, brings))
    }

    /// An end by which so much is taken in all.
    #[must_use]
    pub const fn closing_at(&self, capture: u128) -> Closing {
        Closing { capture, refund: self.mirror.balance.saturating_sub(capture) }
    }

    /// From here on nothing is accepted. To be durable before anybody is asked to close it on the chain.
    #[must_use]
    pub fn with_closing(&self) -> Self {
        Self { closing: true, ..self.clone() }
    }

    /// The channel has ended on its chain: what was left went back, and with it what was charged and not used. Where a
    /// chain gives no part of a promise, what it took beyond what was used stays on the account of the channel, as its payer's.
    #[must_use]
    pub fn finalized(&self, closing: &Closing) -> Self {
        let mut next = self.with_closing();
        (next.charged, next.carry) = (closing.capture, 0);
        next.mirror.total_claimed = closing.capture;
        next.mirror.balance = closing.capture;
        next.mirror.withdrawing = 0;
        next
    }

    fn charge(&self, acceptance: &Acceptance<S>, charge: u128, from_carry: u128) -> Self {
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

    /// Whether a sum stands in a claim on the chain.
    #[must_use]
    pub fn is_published(&self, max_claimable: u128) -> bool {
        max_claimable < self.published_floor || self.published.binary_search(&max_claimable).is_ok()
    }
}
