//! Values as people write them: durations, sizes, prices, addresses.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use money::{Amount, Asset, Decimal, Rate, parse_money, parse_rate};

/// `30s`, `5ms`, `15m`, `24h`, `7d`; whole numbers, above zero, at most 10 years.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const YEARS_10_MS: u64 = 10 * 365 * 86_400_000;
    let example = || format!("\"{text}\" is no duration; write it like 30s, 5ms, 15m or 24h");
    let (number, unit) = split_unit(text).ok_or_else(example)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(example()),
    };
    match number.checked_mul(factor) {
        Some(0) => Err("must be longer than 0".to_owned()),
        Some(ms) if ms <= YEARS_10_MS => Ok(Duration::from_millis(ms)),
        Some(_) | None => Err(format!("\"{text}\" is longer than 10 years")),
    }
}

/// A duration, or `0s` for none at all.
pub(super) fn duration_or_none(text: &str) -> Result<Duration, String> {
    match split_unit(text) {
        Some((0, unit)) if !unit.is_empty() => Ok(Duration::ZERO),
        Some(_) | None => duration(text),
    }
}

/// `8MiB`, `32KiB`, `512B`; whole numbers, above zero, at most 1 TiB.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let example = || format!("\"{text}\" is no size; write it like 32KiB or 10MiB");
    let (number, unit) = split_unit(text).ok_or_else(example)?;
    let factor: u64 = match unit {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(example()),
    };
    match number.checked_mul(factor) {
        Some(0) => Err("must be more than 0".to_owned()),
        Some(bytes) if bytes <= 1 << 40 => usize::try_from(bytes).map_err(|_| example()),
        Some(_) | None => Err(format!("\"{text}\" is more than 1 TiB")),
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text.get(..digits)?.parse().ok()?;
    Some((number, text.get(digits..)?.trim_start()))
}

/// A whole number from 1.
pub(super) fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        Ok(_) | Err(_) => Err(format!("\"{text}\" is no whole number")),
    }
}

/// A whole number from 1, for divisors and quotas.
pub(super) fn quota(text: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::new(count(text)?).ok_or_else(|| "must be at least 1".to_owned())
}

/// `30/min`.
pub(super) fn per_minute(text: &str) -> Result<NonZeroU32, String> {
    let number =
        text.strip_suffix("/min").ok_or_else(|| format!("\"{text}\" is no rate; write it like 30/min"))?;
    quota(number.trim())
}

/// `true` or `false`.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}

/// An amount in USD: prices and caps have no other unit.
pub(super) fn usd(text: &str) -> Result<Amount, String> {
    let (amount, asset) = parse_money(text).map_err(|error| bad(text, &error))?;
    match asset {
        Asset::Usd => Ok(amount),
        Asset::Usdc
        | Asset::Eur
        | Asset::Cny
        | Asset::Hkd
        | Asset::Jpy
        | Asset::Krw
        | Asset::Btc
        | Asset::Usdt
        | Asset::Test => Err(format!("\"{text}\" must be in USD")),
    }
}

/// An amount in USD above zero.
pub(super) fn some_usd(text: &str) -> Result<Amount, String> {
    let amount = usd(text)?;
    if amount == Amount::ZERO { Err("must be more than 0".to_owned()) } else { Ok(amount) }
}

/// A price per token: `0.10 USD/Mtok`. A bare `0.10 USD` would be 0.10 USD for each token.
pub(super) fn token_rate(text: &str) -> Result<Rate, String> {
    let rate = parse_rate(text).map_err(|error| bad(text, &error))?;
    match text.trim().rsplit_once('/').map(|(_, unit)| unit) {
        Some("Mtok" | "Ktok" | "tok") => Ok(rate),
        Some(_) | None => Err(format!("\"{text}\" is no price per token; write it like 0.10 USD/Mtok")),
    }
}

pub(super) fn bad(text: &str, error: &money::DecimalError) -> String {
    format!(
        "\"{text}\" {}",
        match error.to_string() {
            reason if reason.starts_with("not a") => format!("is {reason}"),
            reason if reason.starts_with("out of") => format!("is {reason}"),
            reason if reason.starts_with("unknown unit") => format!("has an {reason}"),
            reason => reason,
        }
    )
}

/// `20%` in basis points; at most 1000 %.
pub(super) fn percent(text: &str) -> Result<u32, String> {
    let example = || format!("\"{text}\" is no percentage; write it like 20%");
    let number = text.strip_suffix('%').ok_or_else(example)?;
    let points = Decimal::parse(number.trim()).map_err(|_| example())?.exact(2).ok_or_else(example)?;
    match u32::try_from(points) {
        Ok(points) if points <= 100_000 => Ok(points),
        Ok(_) | Err(_) => Err(format!("\"{text}\" is more than 1000%")),
    }
}

/// `127.0.0.1:4402`.
pub(super) fn socket(text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("\"{text}\" is no address; write it like 127.0.0.1:4402");
    text.parse().map_err(|_| wrong())
}

/// A name the operator chose: it stands in logs, metrics and headers.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
        return Err(format!("\"{text}\" is no name: letters, digits, - _ . and at most 64 of them"));
    }
    Ok(text.to_owned())
}

/// Any text that is there.
pub(super) fn some_text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::{duration, percent, size, token_rate, usd};
    use std::time::Duration;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "30", "s", "-1s", "1.5s", "0s", "30 years", "99999999999d", "18446744073709551616s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size("32KiB"), Ok(32 << 10));
        assert_eq!(size("10 MiB"), Ok(10 << 20));
        assert_eq!(size("1MB"), Ok(1_000_000));
        for bad in ["", "10", "10mib", "0B", "-1B", "1.5MiB", "2000GiB", "18446744073709551615GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn money_is_usd_and_rates_are_per_token() {
        assert_eq!(usd("0.02 USD").unwrap().units(), 20_000_000);
        assert!(usd("0.02 EUR").is_err());
        assert_eq!(token_rate("0.10 USD/Mtok").unwrap().femto(), 100_000_000);
        for bad in ["0.10 USD", "0.10 USD/MB", "0.10", "0.10 EUR/Mtok", "1e-10 USD/Mtok"] {
            assert!(token_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percentages_are_exact() {
        assert_eq!(percent("20%"), Ok(2000));
        assert_eq!(percent("0.25 %"), Ok(25));
        for bad in ["20", "-1%", "0.001%", "1001%", "%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }
}
