//! An amount of one asset, in its ledger unit.

use crate::Asset;

/// An amount in the ledger unit of some asset (nano for USD), signed because journal legs are.
/// The asset stands beside it: an account holds one asset (LED-4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Amount(i64);

/// An operation left the range of `i64`. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("amount out of range")]
pub struct AmountError;

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);

    /// Wraps ledger units.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// The ledger units.
    #[must_use]
    pub const fn units(self) -> i64 {
        self.0
    }

    /// Ledger units from a wide sum.
    ///
    /// # Errors
    /// [`AmountError`] when it does not fit `i64`.
    pub fn from_wide(units: u128) -> Result<Self, AmountError> {
        i64::try_from(units).map(Self).map_err(|_| AmountError)
    }

    /// # Errors
    /// [`AmountError`] on overflow.
    pub fn plus(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountError)
    }

    /// # Errors
    /// [`AmountError`] on overflow. The result may be negative.
    pub fn minus(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_sub(other.0).map(Self).ok_or(AmountError)
    }

    /// The opposite leg.
    ///
    /// # Errors
    /// [`AmountError`] for `i64::MIN`.
    pub fn negated(self) -> Result<Self, AmountError> {
        self.0.checked_neg().map(Self).ok_or(AmountError)
    }

    /// Exact decimal text with every place of the asset: `0.002100000` for 2,100,000 nano-USD.
    #[must_use]
    pub fn decimal(self, asset: Asset) -> String {
        let scale = 10u64.pow(asset.exponent());
        let magnitude = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let width = asset.exponent() as usize;
        format!("{sign}{}.{:0width$}", magnitude / scale, magnitude % scale)
    }

    /// Exact decimal text without trailing zeros, for people: `0.0021`.
    #[must_use]
    pub fn short(self, asset: Asset) -> String {
        let text = self.decimal(asset);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, AmountError};
    use crate::Asset;

    #[test]
    fn decimal_text_is_exact() {
        for (units, asset, full, short) in [
            (2_100_000, Asset::Usd, "0.002100000", "0.0021"),
            (0, Asset::Usd, "0.000000000", "0"),
            (-1, Asset::Usd, "-0.000000001", "-0.000000001"),
            (10_000_000_000, Asset::Usd, "10.000000000", "10"),
            (i64::MIN, Asset::Usd, "-9223372036.854775808", "-9223372036.854775808"),
            (1_500_000, Asset::Jpy, "1.500000", "1.5"),
            (1000, Asset::Btc, "0.00000001000", "0.00000001"),
        ] {
            assert_eq!(Amount::from_units(units).decimal(asset), full);
            assert_eq!(Amount::from_units(units).short(asset), short);
        }
    }

    /// LED-1.
    #[test]
    fn arithmetic_is_checked() {
        assert_eq!(Amount::MAX.plus(Amount::from_units(1)), Err(AmountError));
        assert_eq!(Amount::from_units(i64::MIN).minus(Amount::from_units(1)), Err(AmountError));
        assert_eq!(Amount::from_units(i64::MIN).negated(), Err(AmountError));
        assert_eq!(Amount::from_wide(u128::from(u64::MAX)), Err(AmountError));
    }
}
