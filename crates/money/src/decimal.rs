//! Decimal text, exact: prices and amounts as people and catalogues write them.

use crate::{Amount, Asset, Rate};

/// A non-negative decimal number, `digits x 10^-places`, read from text without passing through a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    digits: u128,
    places: u32,
}

/// Why text is no decimal, amount or rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not digits with an optional point and exponent.
    #[error("not a decimal number")]
    NotANumber,
    /// Negative prices and amounts do not exist.
    #[error("must not be negative")]
    Negative,
    /// More digits than we hold.
    #[error("out of range")]
    OutOfRange,
    /// More decimal places than the unit has: never rounded in silence.
    #[error("has more decimal places than {0} holds")]
    TooPrecise(&'static str),
    /// A number without its unit.
    #[error("needs a unit, such as `{0}`")]
    NoUnit(&'static str),
    /// An asset or unit we do not know.
    #[error("unknown unit `{0}`")]
    UnknownUnit(String),
}

/// Digits and exponent we accept: enough for every published price, too few to make work.
const TEXT_BYTES_MAX: usize = 64;

impl Decimal {
    /// Reads `12`, `0.15`, `4.4e-08`, `5.0000000000000004e-08`.
    ///
    /// # Errors
    /// [`DecimalError`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        use DecimalError as E;
        if text.len() > TEXT_BYTES_MAX {
            return Err(E::OutOfRange);
        }
        if text.starts_with('-') {
            return Err(E::Negative);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let only_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let point_without_fraction = mantissa.contains('.') && fraction.is_empty();
        if whole.is_empty() || point_without_fraction || !only_digits(whole) || !only_digits(fraction) {
            return Err(E::NotANumber);
        }
        let mut digits: u128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            digits = digits
                .checked_mul(10)
                .and_then(|d| d.checked_add(u128::from(byte - b'0')))
                .ok_or(E::OutOfRange)?;
        }
        let places = i64::try_from(fraction.len()).map_err(|_| E::OutOfRange)? - i64::from(exponent);
        if places >= 0 {
            return Ok(Self { digits, places: u32::try_from(places).map_err(|_| E::OutOfRange)? });
        }
        let shift = u32::try_from(-places).map_err(|_| E::OutOfRange)?;
        let factor = 10u128.checked_pow(shift).ok_or(E::OutOfRange)?;
        Ok(Self { digits: digits.checked_mul(factor).ok_or(E::OutOfRange)?, places: 0 })
    }

    /// The number in units of `10^-exponent`, if it is a whole count of them.
    #[must_use]
    pub fn exact(self, exponent: u32) -> Option<u128> {
        if exponent >= self.places {
            return self.digits.checked_mul(10u128.checked_pow(exponent - self.places)?);
        }
        match 10u128.checked_pow(self.places - exponent) {
            Some(factor) => self.digits.is_multiple_of(factor).then(|| self.digits / factor),
            None => (self.digits == 0).then_some(0),
        }
    }

    /// The number in units of `10^-exponent`, ties to even (MTR-42: catalogue prices, once, at 10^-15).
    #[must_use]
    pub fn round_half_even(self, exponent: u32) -> Option<u128> {
        if exponent >= self.places {
            return self.exact(exponent);
        }
        let Some(factor) = 10u128.checked_pow(self.places - exponent) else {
            return Some(0);
        };
        let (quotient, rest) = (self.digits / factor, self.digits % factor);
        let up = match (rest * 2).cmp(&factor) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => quotient % 2 == 1,
            std::cmp::Ordering::Greater => true,
        };
        Some(quotient + u128::from(up))
    }
}

fn parse_exponent(text: &str) -> Result<i32, DecimalError> {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        Some(_) => (1, text),
        None => return Err(DecimalError::NotANumber),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    let value: i32 = digits.parse().map_err(|_| DecimalError::OutOfRange)?;
    if value > 60 {
        return Err(DecimalError::OutOfRange);
    }
    Ok(sign * value)
}

/// Reads an amount with its asset, `0.02 USD` (UX-29).
///
/// # Errors
/// [`DecimalError`]; more places than the asset's ledger unit holds are refused, not rounded.
pub fn parse_money(text: &str) -> Result<(Amount, Asset), DecimalError> {
    let (number, unit) = text.trim().split_once(' ').ok_or(DecimalError::NoUnit("0.02 USD"))?;
    let unit = unit.trim();
    let asset = Asset::from_name(unit).ok_or_else(|| DecimalError::UnknownUnit(unit.to_owned()))?;
    let decimal = Decimal::parse(number)?;
    let units = decimal.exact(asset.exponent()).ok_or(DecimalError::TooPrecise("the asset"))?;
    let amount = Amount::from_wide(units).map_err(|_| DecimalError::OutOfRange)?;
    Ok((amount, asset))
}

/// Reads a rate with its unit: `0.10 USD/Mtok`, `15 USD/Mchar`, `0.05 USD/GB`, `0.0006 USD` per
/// call, image or second. The result is per token, character, byte, or the thing itself.
///
/// # Errors
/// [`DecimalError`]; finer than a femto-USD per unit is refused, not rounded.
pub fn parse_rate(text: &str) -> Result<Rate, DecimalError> {
    let (number, unit) = text.trim().split_once(' ').ok_or(DecimalError::NoUnit("0.10 USD/Mtok"))?;
    // Exponent = femto places minus the power of ten that the unit bundles.
    let exponent = match unit.trim() {
        "USD/Mtok" | "USD/Mchar" | "USD/MB" => 15 - 6,
        "USD/Ktok" | "USD/Kchar" => 15 - 3,
        "USD/GB" => 15 - 9,
        "USD" | "USD/tok" | "USD/char" | "USD/B" => 15,
        other => return Err(DecimalError::UnknownUnit(other.to_owned())),
    };
    let units =
        Decimal::parse(number)?.exact(exponent).ok_or(DecimalError::TooPrecise("a femto-USD rate"))?;
    u64::try_from(units).map(Rate::from_femto).map_err(|_| DecimalError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::{Decimal, DecimalError as E, parse_money, parse_rate};
    use crate::{Amount, Asset, Rate};
    use proptest::prelude::*;

    #[test]
    fn money_table() {
        for (text, expected) in [
            ("0.02 USD", Ok((Amount::from_units(20_000_000), Asset::Usd))),
            ("1 TEST", Ok((Amount::from_units(1_000_000_000), Asset::Test))),
            ("0.0000000001 USD", Err(E::TooPrecise("the asset"))),
            ("-1 USD", Err(E::Negative)),
            ("1", Err(E::NoUnit("0.02 USD"))),
            ("1 DOGE", Err(E::UnknownUnit("DOGE".into()))),
            (".5 USD", Err(E::NotANumber)),
            ("5. USD", Err(E::NotANumber)),
            ("1,5 USD", Err(E::NotANumber)),
            ("99999999999 USD", Err(E::OutOfRange)),
        ] {
            assert_eq!(parse_money(text), expected, "{text}");
        }
    }

    #[test]
    fn rate_table() {
        for (text, expected) in [
            ("0.10 USD/Mtok", Ok(Rate::from_femto(100_000_000))),
            ("0.003 USD/Mtok", Ok(Rate::from_femto(3_000_000))),
            ("15 USD/Mchar", Ok(Rate::from_femto(15_000_000_000))),
            ("0.05 USD/GB", Ok(Rate::from_femto(50_000))),
            ("0.0006 USD", Ok(Rate::from_femto(600_000_000_000))),
            ("3 USD/Ktok", Ok(Rate::from_femto(3_000_000_000_000))),
            ("3 USD/Kchar", Ok(Rate::from_femto(3_000_000_000_000))),
            ("3 USD/MB", Ok(Rate::from_femto(3_000_000_000))),
            ("1 USD/tok", Ok(Rate::from_femto(1_000_000_000_000_000))),
            ("99999 USD", Err(E::OutOfRange)),
            ("1", Err(E::NoUnit("0.10 USD/Mtok"))),
            ("0.0000000001 USD/Mtok", Err(E::TooPrecise("a femto-USD rate"))),
            ("1 USD/Mtk", Err(E::UnknownUnit("USD/Mtk".into()))),
        ] {
            assert_eq!(parse_rate(text), expected, "{text}");
        }
    }

    #[test]
    fn number_table() {
        let padded = |zeros: usize| format!("{}1", "0".repeat(zeros));
        for (text, places, expected) in [
            ("12", 0, Some(12)),
            ("1.5e3", 0, Some(1500)),
            ("1.5E+1", 0, Some(15)),
            ("4.4e-08", 9, Some(44)),
            ("0.150", 2, Some(15)),
            ("0.150", 3, Some(150)),
            ("0.150", 4, Some(1500)),
            ("0.155", 2, None),
            ("1e-60", 0, None),
            ("0e-60", 0, Some(0)),
            ("1e38", 0, Some(10u128.pow(38))),
            ("1e38", 1, None),
            (&padded(63), 0, Some(1)),
        ] {
            assert_eq!(Decimal::parse(text).unwrap().exact(places), expected, "{text} to {places} places");
        }
        for (text, error) in [
            (padded(64).as_str(), E::OutOfRange),
            ("1e-61", E::OutOfRange),
            ("1e39", E::OutOfRange),
            ("2e999999999999", E::OutOfRange),
            ("340282366920938463463374607431768211456", E::OutOfRange),
            ("1e", E::NotANumber),
            ("1e+", E::NotANumber),
            ("1e-", E::NotANumber),
            ("1ex", E::NotANumber),
            ("1e+-1", E::NotANumber),
            ("", E::NotANumber),
            ("1.2.3", E::NotANumber),
        ] {
            assert_eq!(Decimal::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn ties_round_to_even_and_no_other_number_does() {
        for (text, places, expected) in [
            ("0.5", 0, 0),
            ("1.5", 0, 2),
            ("2.5", 0, 2),
            ("2.51", 0, 3),
            ("2.49", 0, 2),
            ("3.5", 0, 4),
            ("0.125", 2, 12),
            ("0.135", 2, 14),
            ("7", 2, 700),
            ("9e-60", 0, 0),
        ] {
            assert_eq!(Decimal::parse(text).unwrap().round_half_even(places), Some(expected), "{text}");
        }
        assert_eq!(Decimal::parse("1e38").unwrap().round_half_even(1), None);
    }

    #[test]
    fn catalogue_noise_rounds_half_even_once() {
        let noisy = Decimal::parse("5.0000000000000004e-08").unwrap();
        assert_eq!(noisy.round_half_even(15), Some(50_000_000));
        assert_eq!(Decimal::parse("4.4e-08").unwrap().round_half_even(15), Some(44_000_000));
        assert_eq!(Decimal::parse("0.5").unwrap().round_half_even(0), Some(0));
        assert_eq!(Decimal::parse("1.5").unwrap().round_half_even(0), Some(2));
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "\\PC{0,40}") {
            let _ = Decimal::parse(&text);
            let _ = parse_money(&text);
            let _ = parse_rate(&text);
        }

        #[test]
        fn amounts_round_trip_through_text(units in 0i64..) {
            let text = format!("{} USD", Amount::from_units(units).decimal(Asset::Usd));
            prop_assert_eq!(parse_money(&text), Ok((Amount::from_units(units), Asset::Usd)));
        }
    }
}
