//! Rates and the exact cost of a call.

use crate::{Amount, AmountError};

/// Femto-USD in one nano-USD.
pub const FEMTO_PER_NANO: u128 = 1_000_000;

/// A price of one unit (token, byte, second, call) in femto-USD, 10^-15 USD (LED-3, MTR-42).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate(u64);

impl Rate {
    /// Free, as an explicit price.
    pub const FREE: Self = Self(0);

    /// Wraps femto-USD per unit.
    #[must_use]
    pub const fn from_femto(femto: u64) -> Self {
        Self(femto)
    }

    /// Femto-USD per unit.
    #[must_use]
    pub const fn femto(self) -> u64 {
        self.0
    }
}

/// A sum of quantity x rate, in femto-USD. Rounded once, up, per call (MTR-43).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Femto(u128);

impl Femto {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Wraps femto-USD.
    #[must_use]
    pub const fn from_units(femto: u128) -> Self {
        Self(femto)
    }

    /// The femto-USD.
    #[must_use]
    pub const fn units(self) -> u128 {
        self.0
    }

    /// Adds `quantity` units at `rate`.
    ///
    /// # Errors
    /// [`AmountError`] when the sum leaves `u128`.
    pub fn add_units(self, quantity: u64, rate: Rate) -> Result<Self, AmountError> {
        let part = u128::from(quantity).checked_mul(u128::from(rate.0)).ok_or(AmountError)?;
        self.0.checked_add(part).map(Self).ok_or(AmountError)
    }

    /// Adds another sum.
    ///
    /// # Errors
    /// [`AmountError`] when the sum leaves `u128`.
    pub fn plus(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).map(Self).ok_or(AmountError)
    }

    /// Raises the sum by `basis_points` of itself, rounding the raise up to a whole femto.
    ///
    /// # Errors
    /// [`AmountError`] on overflow.
    pub fn marked_up(self, basis_points: u32) -> Result<Self, AmountError> {
        let raise = self.0.checked_mul(u128::from(basis_points)).ok_or(AmountError)?.div_ceil(10_000);
        self.0.checked_add(raise).map(Self).ok_or(AmountError)
    }

    /// The one rounding of a call: up to whole nano-USD.
    ///
    /// # Errors
    /// [`AmountError`] when the nano do not fit `i64`.
    pub fn to_nano_up(self) -> Result<Amount, AmountError> {
        Amount::from_wide(self.0.div_ceil(FEMTO_PER_NANO))
    }
}

#[cfg(test)]
mod tests {
    use super::{FEMTO_PER_NANO, Femto, Rate};
    use crate::Amount;
    use proptest::prelude::*;

    #[test]
    fn one_cached_token_rounds_up_to_one_nano_unit() {
        let cost = Femto::ZERO.add_units(1, Rate::from_femto(3_000_000)).unwrap();
        assert_eq!(cost.to_nano_up(), Ok(Amount::from_units(3)));
        assert_eq!(Femto::from_units(1).to_nano_up(), Ok(Amount::from_units(1)));
        assert_eq!(Femto::ZERO.to_nano_up(), Ok(Amount::ZERO));
    }

    #[test]
    fn sums_and_raises_are_exact() {
        assert_eq!((Rate::FREE.femto(), Rate::from_femto(7).femto()), (0, 7));
        let parts = Femto::from_units(5).plus(Femto::from_units(8)).unwrap();
        assert_eq!(parts.add_units(3, Rate::from_femto(4)).map(Femto::units), Ok(25));
        for (basis_points, raised) in [(0, 10_001), (1, 10_003), (100, 10_102), (10_000, 20_002)] {
            let sum = Femto::from_units(10_001);
            assert_eq!(sum.marked_up(basis_points).map(Femto::units), Ok(raised), "{basis_points}");
        }
    }

    #[test]
    fn overflow_is_an_error_never_a_wrap() {
        let full = Femto::from_units(u128::MAX);
        assert!(full.add_units(1, Rate::from_femto(1)).is_err());
        assert!(full.plus(Femto::from_units(1)).is_err());
        assert!(full.marked_up(1).is_err());
        assert!(full.to_nano_up().is_err());
    }

    proptest! {
        /// fsck's bound (LED-3): 0 <= charged_nano * 10^6 - cost_femto < 10^6.
        #[test]
        fn rounding_is_less_than_one_nano(quantity in 0u64..1 << 40, rate in 0u64..1 << 40) {
            let cost = Femto::ZERO.add_units(quantity, Rate::from_femto(rate)).unwrap();
            if let Ok(nano) = cost.to_nano_up() {
                let charged = u128::try_from(nano.units()).unwrap() * FEMTO_PER_NANO;
                prop_assert!(charged >= cost.units() && charged - cost.units() < FEMTO_PER_NANO);
            }
        }
    }
}
