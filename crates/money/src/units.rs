//! Between a token's atomic unit on a chain and our ledger unit (X402-3).

use crate::{Amount, AmountError};

/// Atomic units of a token with `decimals` places that cover `amount` of an asset with `exponent`
/// places. Rounds **up**: what we ask for is never less than what we need.
///
/// # Errors
/// [`AmountError`] for a negative amount or a result beyond `u128`.
pub fn atomic_from_ledger_up(amount: Amount, exponent: u32, decimals: u32) -> Result<u128, AmountError> {
    let units = u128::try_from(amount.units()).map_err(|_| AmountError)?;
    if decimals >= exponent {
        let factor = 10u128.checked_pow(decimals - exponent).ok_or(AmountError)?;
        return units.checked_mul(factor).ok_or(AmountError);
    }
    let factor = 10u128.checked_pow(exponent - decimals).ok_or(AmountError)?;
    Ok(units.div_ceil(factor))
}

/// Ledger units that `atomic` units of a token are worth. Rounds **down**: what we credit is never
/// more than what arrived.
///
/// # Errors
/// [`AmountError`] when the result does not fit `i64`.
pub fn ledger_from_atomic_down(atomic: u128, exponent: u32, decimals: u32) -> Result<Amount, AmountError> {
    if decimals >= exponent {
        let factor = 10u128.checked_pow(decimals - exponent).ok_or(AmountError)?;
        return Amount::from_wide(atomic / factor);
    }
    let factor = 10u128.checked_pow(exponent - decimals).ok_or(AmountError)?;
    Amount::from_wide(atomic.checked_mul(factor).ok_or(AmountError)?)
}

#[cfg(test)]
mod tests {
    use super::{atomic_from_ledger_up, ledger_from_atomic_down};
    use crate::Amount;

    /// X402-3.
    #[test]
    fn usdc_has_six_decimals() {
        assert_eq!(atomic_from_ledger_up(Amount::from_units(1_000), 9, 6), Ok(1));
        assert_eq!(atomic_from_ledger_up(Amount::from_units(1_001), 9, 6), Ok(2));
        assert_eq!(ledger_from_atomic_down(10_000, 9, 6), Ok(Amount::from_units(10_000_000)));
    }

    #[test]
    fn eighteen_decimals_round_down_into_the_ledger() {
        assert_eq!(ledger_from_atomic_down(1_999_999_999, 9, 18), Ok(Amount::from_units(1)));
        assert_eq!(atomic_from_ledger_up(Amount::from_units(1), 9, 18), Ok(1_000_000_000));
        assert!(ledger_from_atomic_down(u128::MAX, 9, 6).is_err());
        assert!(atomic_from_ledger_up(Amount::from_units(-1), 9, 6).is_err());
    }
}
