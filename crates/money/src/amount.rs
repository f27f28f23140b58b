//! An amount of one asset, in its ledger unit.

use std::fmt;
use std::ops::Deref;

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
        (*self.digits(asset)).to_owned()
    }

    /// The same without an allocation: every call that is charged writes several.
    #[must_use]
    pub fn digits(self, asset: Asset) -> Digits {
        let point = Digits::ROOM - 1 - asset.exponent() as usize;
        let mut digits = Digits { room: [b'0'; Digits::ROOM], from: Digits::ROOM };
        let mut rest = self.0.unsigned_abs();
        // From behind, until nothing is left and one digit stands before the point.
        while rest > 0 || digits.from >= point {
            let digit = if digits.from == point + 1 {
                b'.'
            } else {
                let last = u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
                b'0' + last
            };
            digits.put(digit);
        }
        if self.0 < 0 {
            digits.put(b'-');
        }
        digits
    }

    /// Exact decimal text without trailing zeros, for people: `0.0021`.
    #[must_use]
    pub fn short(self, asset: Asset) -> String {
        self.digits(asset).trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// The decimal text of an amount.
#[derive(Clone, Copy)]
pub struct Digits {
    room: [u8; Self::ROOM],
    /// Where the text begins; it ends with the room.
    from: usize,
}

impl Digits {
    /// Of the longest: a sign, the 20 digits of a `u64`, the point, and a zero before it.
    const ROOM: usize = 23;

    /// Puts one more before the others.
    fn put(&mut self, byte: u8) {
        self.from -= 1;
        self.room[self.from] = byte;
    }
}

impl Deref for Digits {
    type Target = str;

    fn deref(&self) -> &str {
        // Digits, a point and a sign are UTF-8.
        std::str::from_utf8(&self.room[self.from..]).unwrap_or_default()
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
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
            (1_000_000_000, Asset::Usd, "1.000000000", "1"),
            (999_999_999, Asset::Usd, "0.999999999", "0.999999999"),
            (i64::MAX, Asset::Btc, "92233720.36854775807", "92233720.36854775807"),
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
