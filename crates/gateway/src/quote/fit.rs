//! How a call is fitted into the money that is there: whole, with less output, or step by step.

use meter::HoldPolicy;
use money::Amount;

use super::Quote;
use crate::growth::Growth;

/// A document without a limit of its own gets one: what it is held for. The default output at least, and
/// up to this many tokens where a quarter of what is there covers them, so that calls in parallel fit too.
pub(super) const OPEN_END_TOKENS: u64 = 32 * 1024;

/// What a request becomes when only so much money is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fitted {
    /// What to hold.
    pub(crate) hold: Amount,
    /// Output limit to write into the request, if it has to change.
    pub(crate) clamp: Option<u64>,
    /// How the hold grows, where it is less than the whole call may cost.
    pub(crate) growth: Option<Growth>,
    /// The most that the key or what pays allows this call to cost.
    pub(crate) most: Option<Amount>,
}

impl Quote {
    /// Fits the call into `available`: whole if that covers it, with less output if enough of it is
    /// left to be useful (MTR-34), else not at all.
    pub(crate) fn fit(&self, available: Amount, may_clamp: bool) -> Option<Fitted> {
        let whole = |hold, clamp| Some(Fitted { hold, clamp, growth: None, most: None });
        let Some(facts) = self.metered() else {
            return if available >= self.ceiling { whole(self.ceiling, None) } else { None };
        };
        if available >= self.ceiling {
            return match (facts.has_output(), facts.max_output, self.growing_step()) {
                (true, None, Some(step)) => self.fit_open_stream(available, step),
                (true, None, None) => Some(self.fit_open_document(available)),
                (true, Some(limit), Some(step)) if limit > step => self.first_step(step, Some(limit), None),
                _ => whole(self.ceiling, None),
            };
        }
        let output = self.affordable(available, &self.policy).filter(|_| may_clamp)?;
        if let Some(step) = self.growing_step().filter(|step| output > *step) {
            return self.first_step(step, Some(output), Some(output));
        }
        let cost = self.cost_of(output)?;
        if cost <= available { whole(cost, Some(output)) } else { None }
    }

    /// As [`Quote::fit`], for a payer whose money may still come in: a stream begins with what is there, and nothing tells
    /// the upstream to stop where that ends (ENG-8). None where all of it is there already, where it is no stream whose hold
    /// grows, and where nothing of it is paid for.
    pub(crate) fn fit_as_it_comes(&self, available: Amount) -> Option<Fitted> {
        let facts = self.metered().filter(|facts| facts.has_output())?;
        let step = self.growing_step()?;
        let limit = facts.max_output;
        if limit.is_some_and(|limit| limit <= step) && available >= self.ceiling {
            return None;
        }
        let first = limit.map_or(step, |limit| limit.min(step));
        let covered = self.output_within(available)?.min(first);
        let growth = Growth { covered, limit, step, per_call: None };
        Some(Fitted { hold: self.cost_of(covered)?, clamp: None, growth: Some(growth), most: None })
    }

    /// What has to be there for the call to begin, where more can come in while it runs.
    pub(crate) fn begins(&self) -> Amount {
        self.fit_as_it_comes(self.offered).map_or(self.offered, |fitted| fitted.hold)
    }

    /// The output limit that goes up for a call that is given away, where it has to change: nobody's balance bounds it, so
    /// all of its answers together get what one gets that names no limit.
    pub(crate) fn given_limit(&self) -> Option<u64> {
        let facts = self.metered().filter(|facts| facts.has_output())?;
        let usual = (self.policy.default_output / self.choices()).max(1);
        let usual = self.dearest.max_output_tokens.map_or(usual, |cap| cap.min(usual));
        facts.max_output.is_none_or(|limit| limit > usual).then_some(usual)
    }

    /// The step, where the answer is a stream that we can end ourselves.
    fn growing_step(&self) -> Option<u64> {
        self.step.filter(|_| self.facts.as_ref().is_some_and(|facts| facts.stream))
    }

    /// Input and the first step of a stream that may go on to `limit`.
    fn first_step(&self, step: u64, limit: Option<u64>, clamp: Option<u64>) -> Option<Fitted> {
        let growth = Growth { covered: step, limit, step, per_call: None };
        Some(Fitted { hold: self.cost_of(step)?, clamp, growth: Some(growth), most: None })
    }

    /// A stream without a limit goes on for as long as it is paid for. Where that is soon over the upstream is
    /// told so, and ends the answer itself; a large limit is left out, because a model may refuse it.
    fn fit_open_stream(&self, available: Amount, step: u64) -> Option<Fitted> {
        let soon = HoldPolicy { default_output: step.saturating_mul(2), ..self.policy };
        let affordable = self.affordable(available, &soon).filter(|tokens| *tokens < soon.default_output);
        match affordable {
            Some(tokens) if tokens <= step => {
                Some(Fitted { hold: self.cost_of(tokens)?, clamp: Some(tokens), growth: None, most: None })
            }
            limit => self.first_step(step, limit, limit),
        }
    }

    /// A hold that grows stays within what one call may cost. What is thought unseen is only known at the end:
    /// so the upstream is told as well, where the request has no limit of its own.
    pub(crate) fn growing_within(&self, fitted: Fitted, per_call: Amount) -> Fitted {
        let fitted = Fitted { most: Some(per_call), ..fitted };
        let Some(growth) = fitted.growth else { return fitted };
        let open = growth.limit.is_none();
        let told = self.output_within(per_call).filter(|_| open).map(|tokens| tokens.min(OPEN_END_TOKENS));
        let growth = Growth { limit: growth.limit.or(told), per_call: Some(per_call), ..growth };
        Fitted { clamp: fitted.clamp.or(told), growth: Some(growth), ..fitted }
    }

    /// Output tokens that `available` covers, be they ever so few: a payer may ask for as little as that.
    pub(crate) fn would_fit(&self, available: Amount) -> Option<u64> {
        self.affordable(available, &HoldPolicy { min_output: 1, ..self.policy })
    }

    /// Output tokens of each answer that a hold of `whole` covers, with no least number.
    pub(crate) fn output_within(&self, whole: Amount) -> Option<u64> {
        self.affordable(whole, &HoldPolicy { min_output: 1, default_output: u64::MAX, ..self.policy })
    }

    fn affordable(&self, available: Amount, policy: &HoldPolicy) -> Option<u64> {
        let facts = self.facts.as_ref()?;
        let bare = u128::try_from(available.units()).ok()? * 10_000 / (10_000 + u128::from(self.markup_bp));
        let bare = Amount::from_wide(bare).ok()?;
        meter::affordable_output(&self.dearest, facts, self.body_bytes(), bare, policy)
            .filter(|tokens| *tokens > 0)
    }

    /// What the call costs at most with so many output tokens in each answer.
    pub(crate) fn cost_of(&self, output: u64) -> Option<Amount> {
        let mut facts = self.facts.clone()?;
        facts.max_output = Some(output);
        let ceiling = meter::ceiling(&self.dearest, &facts, self.body_bytes(), &self.policy).ok()?;
        ceiling.cost.marked_up(self.markup_bp).ok()?.to_nano_up().ok()
    }

    /// What is allowed is held, so that nothing can be generated that nobody pays.
    fn fit_open_document(&self, available: Amount) -> Fitted {
        let capped = |tokens: u64| self.dearest.max_output_tokens.map_or(tokens, |cap| cap.min(tokens));
        let clamp = Some(capped(self.policy.default_output));
        let plain = Fitted { hold: self.ceiling, clamp, growth: None, most: None };
        let quarter = Amount::from_units(available.units() / 4);
        let longer = self
            .affordable(quarter, &HoldPolicy { default_output: capped(OPEN_END_TOKENS), ..self.policy })
            .filter(|tokens| Some(*tokens) > plain.clamp)
            .and_then(|tokens| {
                Some(Fitted { hold: self.cost_of(tokens)?, clamp: Some(tokens), growth: None, most: None })
            });
        longer.filter(|longer| longer.hold <= available).unwrap_or(plain)
    }
}
