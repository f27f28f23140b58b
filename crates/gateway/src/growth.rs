//! A hold that grows with its stream: input and the first step of output are set aside before the call, and
//! another step whenever the answer comes near the end of what is held (MTR-35).

use ledger::{Hold, ReserveError};
use money::Amount;

use crate::quote::Quote;
use crate::session::Lack;

/// Bytes of output that are counted as a token, as in an estimated bill.
const BYTES_PER_TOKEN: u64 = 4;

/// How far a hold reaches, and how far it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Output tokens of each answer that are held for.
    pub(crate) covered: u64,
    /// The output limit that the upstream was given: once that is held for, nothing more is.
    pub(crate) limit: Option<u64>,
    /// Tokens of each step.
    pub(crate) step: u64,
    /// The most that the key allows one call to cost.
    pub(crate) per_call: Option<Amount>,
}

/// Nothing is left to pay for more output with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// The account, or the key's limit for one call.
    Balance,
    /// A budget of the key or of its account.
    Budget,
    /// The key, what it was made of, or the account was revoked since the call began (L402-44).
    Revoked,
}

impl Exhausted {
    /// The most a hold that was refused more can still grow to, and what stands in the way of all of it; an error
    /// where nothing more can be held.
    pub(crate) fn reach(refused: ReserveError, hold: &Hold) -> Result<(Amount, Self), Self> {
        let (room, why) = match refused {
            ReserveError::Budget { available } => (available, Self::Budget),
            ReserveError::Balance { available } => {
                (available.plus(hold.reach()).unwrap_or(available), Self::Balance)
            }
            ReserveError::WindowOver | ReserveError::TooManyBudgets => return Err(Self::Budget),
            ReserveError::Frozen | ReserveError::Closed | ReserveError::Negative | ReserveError::Ended => {
                return Err(Self::Balance);
            }
        };
        Ok((hold.amount().plus(room).map_err(|_| why)?, why))
    }
}

impl Growth {
    /// Whether so much output is more than is held for.
    pub(crate) fn is_beyond(&self, quote: &Quote, output_bytes: u64) -> bool {
        output_bytes.div_ceil(BYTES_PER_TOKEN * quote.choices()) > self.covered
    }

    /// Whether another step is due: so much output comes near what is held, and more may be held for.
    pub(crate) fn is_due(&self, quote: &Quote, output_bytes: u64) -> bool {
        let generated = output_bytes.div_ceil(BYTES_PER_TOKEN * quote.choices());
        self.is_short(generated)
    }

    fn is_short(&self, generated: u64) -> bool {
        let ahead = self.step / 4;
        generated.saturating_add(ahead) > self.covered && self.limit.is_none_or(|end| self.covered < end)
    }

    /// Sets more aside if `output_bytes` come near what is held. Called for each piece of the answer: most
    /// calls are one comparison.
    ///
    /// # Errors
    /// [`Exhausted`]: more was generated than is held, and no more can be.
    pub(crate) fn keep_up(&mut self, quote: &Quote, hold: &Hold, output_bytes: u64) -> Result<(), Exhausted> {
        let choices = quote.choices();
        // Per answer, as limits are.
        let generated = output_bytes.div_ceil(BYTES_PER_TOKEN * choices);
        while self.is_short(generated) {
            let next = self.covered.saturating_add(self.step).min(self.limit.unwrap_or(u64::MAX));
            if let Err(refused) = self.reach(quote, hold, next) {
                return if generated > self.covered { Err(refused) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// Holds for `next` tokens, or for as many as can be paid for.
    fn reach(&mut self, quote: &Quote, hold: &Hold, next: u64) -> Result<(), Exhausted> {
        let Err(refused) = self.extend(quote, hold, next) else { return Ok(()) };
        let (whole, why) = Exhausted::reach(refused, hold)?;
        let whole = self.per_call.map_or(whole, |most| most.min(whole));
        let less = quote.output_within(whole).filter(|tokens| *tokens > self.covered).ok_or(why)?;
        self.extend(quote, hold, less.min(next)).map_err(|_| why)
    }

    /// What is lacking for more than was generated to be held for: at least for that, and for the whole next step. None: no
    /// more money would help.
    pub(crate) fn lack(&self, quote: &Quote, hold: &Hold, output_bytes: u64) -> Option<Lack> {
        let account = hold.payer();
        let room = account.available().plus(hold.reach()).ok()?.max(Amount::ZERO);
        let has = hold.amount().plus(room).ok()?;
        let lacks = |whole: Amount| Some(whole.minus(has).ok()?.max(Amount::ZERO));
        let generated = output_bytes.div_ceil(BYTES_PER_TOKEN * quote.choices());
        let least = quote.cost_of(generated)?;
        if self.per_call.is_some_and(|most| least > most) {
            return None;
        }
        let next = self.covered.saturating_add(self.step).min(self.limit.unwrap_or(u64::MAX)).max(generated);
        let step = quote.cost_of(next)?;
        let step = self.per_call.map_or(step, |most| most.min(step));
        Some(Lack { least: lacks(least)?, step: lacks(step)? })
    }

    fn extend(&mut self, quote: &Quote, hold: &Hold, tokens: u64) -> Result<(), ReserveError> {
        let held = hold.amount();
        let full = ReserveError::Balance { available: Amount::ZERO };
        let cost = quote.cost_of(tokens).ok_or(full)?;
        if let Some(most) = self.per_call.filter(|most| cost > *most) {
            let available = most.minus(held).unwrap_or(Amount::ZERO);
            return Err(ReserveError::Budget { available });
        }
        // What is held already may be more than these tokens cost: a hold never shrinks.
        let more = cost.minus(held).unwrap_or(Amount::ZERO).max(Amount::ZERO);
        hold.extend(more)?;
        self.covered = tokens;
        Ok(())
    }
}
