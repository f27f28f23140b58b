//! What a bitcoin costs, and what that makes of dollars and millisatoshi.

use crate::{Amount, AmountError, Decimal};

/// Places of a published price that count: a hundred-millionth. Finer ones are rounded, ties to even.
const PLACES: u32 = 8;
/// `10^PLACES`.
const SCALE: u64 = 100_000_000;
/// Nano-USD per millisatoshi at 1 USD a bitcoin: `10^9 / 10^11`, so one over this.
const MSAT_PER_NANO: u64 = 100;
/// Nano-USD per millisatoshi where a dollar is one satoshi: `10^9 / 10^3`.
const NANO_PER_MSAT: u64 = 1_000_000;

/// A price of bitcoin in dollars: `num / den` nano-USD for a millisatoshi, both above zero. Whoever keeps another
/// asset at par with the dollar may mean that one.
///
/// ```
/// use money::{Amount, BitcoinPrice};
/// let price = BitcoinPrice::from_usd_per_btc("95000")?;
/// assert_eq!(price.msat_for_up(Amount::from_units(1_000_000_000)), Ok(1_052_632)); // 1 USD, 1052.631.. sat
/// assert_eq!(price.credit_for_down(1_052_632), Ok(Amount::from_units(1_000_000_400)));
/// # Ok::<(), money::DecimalError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitcoinPrice {
    num: u64,
    den: u64,
}

impl BitcoinPrice {
    /// Dollars for a bitcoin, as a decimal number in text.
    ///
    /// # Errors
    /// [`crate::DecimalError`]; zero is out of range.
    pub fn from_usd_per_btc(text: &str) -> Result<Self, crate::DecimalError> {
        Ok(Self { num: scaled(text)?, den: MSAT_PER_NANO * SCALE })
    }

    /// Satoshi for a dollar, as a decimal number in text.
    ///
    /// # Errors
    /// [`crate::DecimalError`]; zero is out of range.
    pub fn from_sats_per_usd(text: &str) -> Result<Self, crate::DecimalError> {
        Ok(Self { num: NANO_PER_MSAT * SCALE, den: scaled(text)? })
    }

    /// Nano-USD for a millisatoshi, as a fraction.
    #[must_use]
    pub const fn fraction(self) -> (u64, u64) {
        (self.num, self.den)
    }

    /// Millisatoshi that cover `credit` nano-USD. Rounds **up**: what we ask for is never less than what it buys.
    ///
    /// # Errors
    /// [`AmountError`] for a negative credit or more than `u64` millisatoshi.
    pub fn msat_for_up(self, credit: Amount) -> Result<u64, AmountError> {
        let nano = u128::try_from(credit.units()).map_err(|_| AmountError)?;
        let msat = (nano * u128::from(self.den)).div_ceil(u128::from(self.num));
        u64::try_from(msat).map_err(|_| AmountError)
    }

    /// Nano-USD that `msat` are worth. Rounds **down**: what we credit is never more than what arrived.
    ///
    /// # Errors
    /// [`AmountError`] when they do not fit `i64`.
    pub fn credit_for_down(self, msat: u64) -> Result<Amount, AmountError> {
        Amount::from_wide(u128::from(msat) * u128::from(self.num) / u128::from(self.den))
    }

    /// Whether one of two prices is more than `times` the other.
    #[must_use]
    pub fn is_further_than(self, times: u32, other: Self) -> bool {
        // a/b > n * c/d  <=>  a*d > n*c*b. Where the right side leaves u128, the left one does not reach it.
        let exceeds = |a: Self, b: Self| {
            let most = (u128::from(b.num) * u128::from(a.den)).checked_mul(u128::from(times));
            most.is_some_and(|most| u128::from(a.num) * u128::from(b.den) > most)
        };
        exceeds(self, other) || exceeds(other, self)
    }
}

/// A number in units of `1/SCALE`, above zero.
fn scaled(text: &str) -> Result<u64, crate::DecimalError> {
    use crate::DecimalError::OutOfRange;
    let units = Decimal::parse(text)?.round_half_even(PLACES).ok_or(OutOfRange)?;
    u64::try_from(units).ok().filter(|units| *units > 0).ok_or(OutOfRange)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::BitcoinPrice;
    use crate::{Amount, AmountError, DecimalError as E};

    fn usd(text: &str) -> BitcoinPrice {
        BitcoinPrice::from_usd_per_btc(text).unwrap()
    }

    /// LED-1: exact, rounded once, in our favour.
    #[test]
    fn conversions_table() {
        let sats = |text: &str| BitcoinPrice::from_sats_per_usd(text).unwrap();
        for (what, price, nano, msat, back) in [
            ("one dollar", usd("95000"), 1_000_000_000, 1_052_632, 1_000_000_400),
            ("two cents", usd("95000"), 20_000_000, 21_053, 20_000_350),
            ("one nano", usd("95000"), 1, 1, 950),
            ("nothing", usd("95000"), 0, 0, 0),
            ("exactly", usd("100000"), 1_000_000_000, 1_000_000, 1_000_000_000),
            ("a cheap bitcoin", usd("1"), 1, 100, 1),
            ("cents", usd("94211.37"), 1_000_000_000, 1_061_444, 1_000_000_934),
            ("satoshi for a dollar", sats("1000"), 1_000_000_000, 1_000_000, 1_000_000_000),
            ("and a part", sats("1061.45"), 20_000_000, 21_229, 20_000_000),
        ] {
            assert_eq!(price.msat_for_up(Amount::from_units(nano)), Ok(msat), "{what}");
            assert_eq!(price.credit_for_down(msat), Ok(Amount::from_units(back)), "{what}, back");
        }
    }

    #[test]
    fn out_of_range_is_an_error_never_a_wrap() {
        assert_eq!(usd("95000").msat_for_up(Amount::from_units(-1)), Err(AmountError));
        assert_eq!(usd("0.00000001").msat_for_up(Amount::MAX), Err(AmountError));
        assert_eq!(usd("100000000000").credit_for_down(u64::MAX), Err(AmountError));
        assert!(usd("184467440737").credit_for_down(1).is_ok());
        for (text, expected) in [
            ("0", E::OutOfRange),
            ("0.000000001", E::OutOfRange),
            ("184467440738", E::OutOfRange),
            ("-1", E::Negative),
            ("95,000", E::NotANumber),
            ("NaN", E::NotANumber),
        ] {
            assert_eq!(BitcoinPrice::from_usd_per_btc(text), Err(expected.clone()), "{text}");
            assert_eq!(BitcoinPrice::from_sats_per_usd(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn noise_of_floats_is_rounded_once() {
        assert_eq!(usd("94211.370000000003"), usd("94211.37"));
        assert_eq!(usd("9.421137e4"), usd("94211.37"));
    }

    #[test]
    fn distance_is_the_same_both_ways_and_in_both_units() {
        let sats = BitcoinPrice::from_sats_per_usd("1000").unwrap();
        for (a, b, expected) in [
            (usd("100000"), usd("200000"), false),
            (usd("100000"), usd("200000.01"), true),
            (usd("100000"), usd("49999"), true),
            (sats, usd("100000"), false),
            (sats, usd("200001"), true),
            (usd("0.00000001"), usd("184467440737"), true),
        ] {
            assert_eq!(
                (a.is_further_than(2, b), b.is_further_than(2, a)),
                (expected, expected),
                "{a:?} {b:?}"
            );
        }
    }

    proptest! {
        /// What is asked for buys at least the credit, and one millisatoshi less would not.
        #[test]
        fn rounding_is_less_than_one_msat(num in 1u64.., den in 1u64.., nano in 1i64..) {
            let price = BitcoinPrice { num, den };
            if let Ok(msat) = price.msat_for_up(Amount::from_units(nano)) {
                if let Ok(credit) = price.credit_for_down(msat) {
                    prop_assert!(credit.units() >= nano);
                }
                prop_assert!(price.credit_for_down(msat - 1).unwrap().units() < nano);
            }
        }

        /// FIN-66: there and back again never gains.
        #[test]
        fn round_trips_never_gain(num in 1u64.., den in 1u64.., msat in any::<u64>()) {
            let price = BitcoinPrice { num, den };
            if let Ok(credit) = price.credit_for_down(msat) {
                prop_assert!(price.msat_for_up(credit).unwrap() <= msat);
            }
        }
    }
}
