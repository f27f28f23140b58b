//! How far the hold of a connection reaches that is sold by time or by its bytes: a first step, and another one whenever what
//! it has used comes near the end, for as long as the balance lasts (as a stream's tokens do, MTR-35).

use std::time::Duration;

use ledger::{Hold, ReserveError};
use money::{Amount, FEMTO_PER_NANO, Rate};

use crate::bill;
use crate::config::UnitPrice;
use crate::growth::Exhausted;

/// What a connection is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Milliseconds,
    Up,
    Down,
}

/// So much of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    milliseconds: u64,
    up: u64,
    down: u64,
}

impl Extent {
    const fn of(self, measure: Measure) -> u64 {
        match measure {
            Measure::Milliseconds => self.milliseconds,
            Measure::Up => self.up,
            Measure::Down => self.down,
        }
    }

    const fn with(mut self, measure: Measure, much: u64) -> Self {
        match measure {
            Measure::Milliseconds => self.milliseconds = much,
            Measure::Up => self.up = much,
            Measure::Down => self.down = much,
        }
        self
    }
}

/// What is held for.
#[derive(Debug)]
pub(crate) struct Coverage {
    price: UnitPrice,
    covered: Extent,
    /// Of each measure that has a price.
    step: Extent,
    /// The most that this connection may cost.
    most: Option<Amount>,
}

impl Coverage {
    /// What the first hold is for.
    pub(crate) fn first(price: UnitPrice, most: Option<Amount>) -> Self {
        let bytes = price.bytes_max.unwrap_or(0);
        let seconds = price.seconds_max.filter(|_| price.second.is_some()).unwrap_or(0);
        let step = Extent {
            milliseconds: seconds.saturating_mul(1000),
            up: if price.byte_in.is_some() { bytes } else { 0 },
            down: if price.byte_out.is_some() { bytes } else { 0 },
        };
        Self { price, covered: step, step, most }
    }

    /// The time that is held for; none where time has no price.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.price.second.map(|_| Duration::from_millis(self.covered.milliseconds))
    }

    fn rate(&self, measure: Measure) -> Option<Rate> {
        match measure {
            Measure::Milliseconds => bill::rates(&self.price).millisecond_rate(),
            Measure::Up => self.price.byte_in,
            Measure::Down => self.price.byte_out,
        }
    }

    /// How much of `wanted` more may go where `used` has gone, and why not more. Sets another step aside where that comes
    /// near the end of what is held.
    pub(crate) fn allow(
        &mut self,
        hold: &Hold,
        measure: Measure,
        used: u64,
        wanted: u64,
    ) -> (u64, Option<Exhausted>) {
        if self.rate(measure).is_none() {
            return (wanted, None);
        }
        let next = used.saturating_add(wanted);
        let ahead = self.step.of(measure) / 4;
        while next.saturating_add(ahead) > self.covered.of(measure) {
            let step = self.covered.of(measure).saturating_add(self.step.of(measure).max(1));
            if let Err(why) = self.reach(hold, measure, step) {
                let left = self.covered.of(measure).saturating_sub(used);
                return if left < wanted { (left, Some(why)) } else { (wanted, None) };
            }
        }
        (wanted, None)
    }

    /// Holds for so much, or for as much as can be paid for.
    fn reach(&mut self, hold: &Hold, measure: Measure, much: u64) -> Result<(), Exhausted> {
        let Err(refused) = self.extend(hold, measure, much) else { return Ok(()) };
        let (whole, why) = Exhausted::reach(refused, hold)?;
        let whole = self.most.map_or(whole, |most| most.min(whole));
        let less = self.within(whole, measure).filter(|less| *less > self.covered.of(measure)).ok_or(why)?;
        self.extend(hold, measure, less.min(much)).map_err(|_| why)
    }

    /// How much of a measure `whole` pays for, beside all else that is covered.
    fn within(&self, whole: Amount, measure: Measure) -> Option<u64> {
        let rest = self.covered.with(measure, 0);
        let rest = bill::cost_of(
            &UnitPrice { min: Amount::ZERO, ..self.price },
            rest.milliseconds,
            rest.up,
            rest.down,
        );
        let whole = u128::try_from(whole.units()).ok()?.checked_mul(FEMTO_PER_NANO)?;
        let left = whole.checked_sub(rest.ok()?.units())?;
        u64::try_from(left.checked_div(u128::from(self.rate(measure)?.femto()))?).ok()
    }

    fn extend(&mut self, hold: &Hold, measure: Measure, much: u64) -> Result<(), ReserveError> {
        let next = self.covered.with(measure, much);
        let full = ReserveError::Balance { available: Amount::ZERO };
        let cost = bill::cost_of(&self.price, next.milliseconds, next.up, next.down);
        let cost = cost.and_then(money::Femto::to_nano_up).map_err(|_| full)?;
        let held = hold.amount();
        if let Some(most) = self.most.filter(|most| cost > *most) {
            return Err(ReserveError::Budget { available: most.minus(held).unwrap_or(Amount::ZERO) });
        }
        // A least price holds for more than the first steps use.
        let more = cost.minus(held).unwrap_or(Amount::ZERO).max(Amount::ZERO);
        hold.extend(more)?;
        self.covered = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {

    use ledger::{Account, AccountId, AccountRef, Hold};
    use money::{Amount, Asset, Rate};

    use super::{Coverage, Measure};
    use crate::config::UnitPrice;
    use crate::growth::Exhausted;

    /// 1000 nano-USD a second, in steps of ten; 2 nano-USD a byte up, in steps of 100.
    fn price() -> UnitPrice {
        UnitPrice {
            second: Some(Rate::from_femto(1_000_000_000)),
            seconds_max: Some(10),
            byte_in: Some(Rate::from_femto(2_000_000)),
            bytes_max: Some(100),
            ..UnitPrice::default()
        }
    }

    fn on(balance: i64, first: i64) -> (AccountRef, Hold) {
        let units = Amount::from_units;
        let account =
            AccountRef::from(Account::new(AccountId([1; 16]), Asset::Test, units(balance), Amount::ZERO));
        let hold = Hold::on(&account, units(first)).unwrap();
        (account, hold)
    }

    #[test]
    fn ws_5_a_hold_grows_by_steps_and_ends_with_the_balance_to_the_unit() {
        let (account, hold) = on(25_000, 10_200);
        let mut coverage = Coverage::first(price(), None);
        let time = Measure::Milliseconds;
        assert_eq!(coverage.allow(&hold, time, 0, 7500), (7500, None));
        assert_eq!(hold.amount().units(), 10_200, "not near the end");
        assert_eq!(coverage.allow(&hold, time, 0, 7501), (7501, None));
        assert_eq!(hold.amount().units(), 20_200);
        // 4800 are left: 4.8 s, and nothing for bytes.
        assert_eq!(coverage.allow(&hold, time, 0, 20_000), (20_000, None));
        assert_eq!((hold.amount().units(), account.available().units()), (25_000, 0));
        assert_eq!(coverage.allow(&hold, time, 0, 24_801), (24_800, Some(Exhausted::Balance)));
        assert_eq!(coverage.allow(&hold, Measure::Up, 60, 50), (40, Some(Exhausted::Balance)));
        assert_eq!(coverage.allow(&hold, Measure::Down, 60, 50), (50, None), "has no price");
        assert_eq!(coverage.time().unwrap().as_millis(), 24_800);
    }

    #[test]
    fn ws_5_what_one_call_may_cost_bounds_it_too() {
        let (_, hold) = on(1_000_000, 10_200);
        let mut coverage = Coverage::first(price(), Some(Amount::from_units(15_000)));
        assert_eq!(
            coverage.allow(&hold, Measure::Milliseconds, 0, 16_000),
            (14_800, Some(Exhausted::Budget))
        );
        assert_eq!(hold.amount().units(), 15_000);
    }

    #[test]
    fn a_least_price_is_held_once() {
        let (_, hold) = on(1_000_000, 50_000);
        let mut coverage = Coverage::first(UnitPrice { min: Amount::from_units(50_000), ..price() }, None);
        assert_eq!(coverage.allow(&hold, Measure::Milliseconds, 0, 30_000), (30_000, None));
        assert_eq!(hold.amount().units(), 50_000);
    }
}
