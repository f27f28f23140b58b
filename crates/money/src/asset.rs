//! What an account is denominated in.

use std::fmt;

/// An asset an account can hold. The exponent is fixed per asset (LED-2): an [`crate::Amount`] of 1
/// is `10^-exponent` of the asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asset {
    /// US dollar, the unit of prices.
    Usd,
    /// USD Coin on a chain.
    Usdc,
    /// Euro.
    Eur,
    /// Renminbi.
    Cny,
    /// Hong Kong dollar.
    Hkd,
    /// Yen.
    Jpy,
    /// Won.
    Krw,
    /// Bitcoin, in millisatoshi.
    Btc,
    /// Tether on a chain.
    Usdt,
    /// Play money of the `test` rail.
    Test,
}

impl Asset {
    /// Every asset, in the order of the codes.
    pub const ALL: [Self; 10] = [
        Self::Usd,
        Self::Usdc,
        Self::Eur,
        Self::Cny,
        Self::Hkd,
        Self::Jpy,
        Self::Krw,
        Self::Btc,
        Self::Usdt,
        Self::Test,
    ];

    /// The code stored in tokens and journal entries (l402.md 5.1; reference item 43).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Usd => 1,
            Self::Usdc => 2,
            Self::Eur => 3,
            Self::Cny => 4,
            Self::Hkd => 5,
            Self::Jpy => 6,
            Self::Krw => 7,
            Self::Btc => 8,
            Self::Usdt => 9,
            Self::Test => 255,
        }
    }

    /// The asset of a code, if it is one of ours.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|asset| asset.code() == code)
    }

    /// The name on the wire and in configuration: `USD`, `USDC`, `TEST` ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usd => "USD",
            Self::Usdc => "USDC",
            Self::Eur => "EUR",
            Self::Cny => "CNY",
            Self::Hkd => "HKD",
            Self::Jpy => "JPY",
            Self::Krw => "KRW",
            Self::Btc => "BTC",
            Self::Usdt => "USDT",
            Self::Test => "TEST",
        }
    }

    /// The asset of a name, exact case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|asset| asset.name() == name)
    }

    /// Decimal places of the ledger unit (LED-2): 9 for dollar-like assets, 6 for JPY and KRW, 11 for BTC.
    #[must_use]
    pub const fn exponent(self) -> u32 {
        match self {
            Self::Jpy | Self::Krw => 6,
            Self::Btc => 11,
            Self::Usd | Self::Usdc | Self::Eur | Self::Cny | Self::Hkd | Self::Usdt | Self::Test => 9,
        }
    }

    /// Whether a price in USD is charged 1:1 in this asset by default (reference item 43).
    #[must_use]
    pub const fn is_dollar_parity(self) -> bool {
        matches!(self, Self::Usd | Self::Usdc | Self::Usdt | Self::Test)
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Asset;

    /// LED-2.
    #[test]
    fn codes_and_names_are_unique_and_round_trip() {
        for asset in Asset::ALL {
            assert_eq!(Asset::from_code(asset.code()), Some(asset));
            assert_eq!(Asset::from_name(asset.name()), Some(asset));
        }
        let codes = Asset::ALL.map(Asset::code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 255], "in tokens and in the journal: they stay");
        assert_eq!(Asset::from_code(0), None);
        assert_eq!(Asset::from_name("usd"), None);
    }

    /// LED-2.
    #[test]
    fn exponents_and_parity_by_asset() {
        for (asset, name, exponent, parity) in [
            (Asset::Usd, "USD", 9, true),
            (Asset::Usdc, "USDC", 9, true),
            (Asset::Eur, "EUR", 9, false),
            (Asset::Cny, "CNY", 9, false),
            (Asset::Hkd, "HKD", 9, false),
            (Asset::Jpy, "JPY", 6, false),
            (Asset::Krw, "KRW", 6, false),
            (Asset::Btc, "BTC", 11, false),
            (Asset::Usdt, "USDT", 9, true),
            (Asset::Test, "TEST", 9, true),
        ] {
            assert_eq!((asset.to_string().as_str(), asset.exponent()), (name, exponent));
            assert_eq!(asset.is_dollar_parity(), parity, "{name}");
        }
    }
}
