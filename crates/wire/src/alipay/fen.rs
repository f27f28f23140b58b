//! Sums of yuan as Alipay writes them: text with two decimals, whole fen in between (RAIL-17).

use std::fmt;

use money::Decimal;

/// A sum in fen, hundredths of a yuan: 0.01 to 100,000,000 yuan, all that one trade may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fen(u64);

/// Why a sum is none that Alipay moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenError {
    /// Not digits with at most one point.
    #[error("not a decimal number")]
    NotANumber,
    /// Never rounded (FIN-5).
    #[error("more than two decimals")]
    TooPrecise,
    /// Below 0.01 or above 100,000,000 yuan.
    #[error("not between 0.01 and 100000000 yuan")]
    OutOfRange,
}

impl Fen {
    /// The most, in fen.
    pub const MAX: u64 = 10_000_000_000;

    /// A sum of so many fen.
    ///
    /// # Errors
    /// [`FenError::OutOfRange`]
    pub const fn new(fen: u64) -> Result<Self, FenError> {
        if fen >= 1 && fen <= Self::MAX { Ok(Self(fen)) } else { Err(FenError::OutOfRange) }
    }

    /// Reads `36.00`, `36.5` or `36`.
    ///
    /// ```
    /// use wire::alipay::{Fen, FenError};
    /// assert_eq!(Fen::parse("36.00").unwrap().get(), 3600);
    /// assert_eq!(Fen::parse("0.005"), Err(FenError::TooPrecise));
    /// ```
    ///
    /// # Errors
    /// [`FenError`]
    pub fn parse(text: &str) -> Result<Self, FenError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(FenError::NotANumber);
        }
        let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let decimal = Decimal::parse(text).map_err(|_| FenError::NotANumber)?;
        if decimals > 2 {
            return Err(FenError::TooPrecise);
        }
        let fen = decimal.exact(2).and_then(|fen| u64::try_from(fen).ok()).ok_or(FenError::OutOfRange)?;
        Self::new(fen)
    }

    /// Whole fen.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// `36.00`
impl fmt::Display for Fen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fen, FenError as E};
    use proptest::prelude::*;

    #[test]
    fn rail_17_sums_are_exact_or_refused() {
        for (text, expected) in [
            ("36.00", Ok(3600)),
            ("36.5", Ok(3650)),
            ("36", Ok(3600)),
            ("0.01", Ok(1)),
            ("100000000", Ok(Fen::MAX)),
            ("100000000.00", Ok(Fen::MAX)),
            ("0.00", Err(E::OutOfRange)),
            ("100000000.01", Err(E::OutOfRange)),
            ("99999999999999999999999999999999", Err(E::OutOfRange)),
            ("0.005", Err(E::TooPrecise)),
            ("36.000", Err(E::TooPrecise)),
            ("3.6e1", Err(E::NotANumber)),
            ("-1.00", Err(E::NotANumber)),
            ("+1.00", Err(E::NotANumber)),
            ("1,00", Err(E::NotANumber)),
            (" 1.00", Err(E::NotANumber)),
            (".50", Err(E::NotANumber)),
            ("5.", Err(E::NotANumber)),
            ("1.0.0", Err(E::NotANumber)),
            ("", Err(E::NotANumber)),
        ] {
            assert_eq!(Fen::parse(text).map(Fen::get), expected, "{text}");
        }
    }

    /// RAIL-17 against the published table of formats.
    #[test]
    fn rail_17_vector() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../../../specs/vectors/rails/money_units.json")).unwrap();
        let case = file["cases"].as_array().unwrap().iter().find(|case| case["currency"] == "CNY").unwrap();
        let fen = Fen::parse(case["major"].as_str().unwrap()).unwrap();
        assert_eq!(fen.get(), case["wechat_fen"].as_u64().unwrap());
        assert_eq!(fen.to_string(), case["alipay"].as_str().unwrap());
    }

    proptest! {
        #[test]
        fn what_we_write_reads_back(fen in 1..=Fen::MAX) {
            let fen = Fen::new(fen).unwrap();
            prop_assert_eq!(Fen::parse(&fen.to_string()), Ok(fen));
        }

        #[test]
        fn any_text_is_a_sum_or_an_error(text in "[0-9.]{0,40}|\\PC{0,20}") {
            let _ = Fen::parse(&text);
        }
    }
}
