//! Counts as upstreams write them, and how far each is believed.

use money::Decimal;

use crate::json::Value;

/// Largest count we believe: every JSON implementation can hold it exactly (reference item 33).
pub(crate) const COUNT_MAX: u64 = 1 << 53;

/// One member of a usage object, before anything is made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Count {
    /// Not there. Absent is not zero.
    #[default]
    Absent,
    /// `null`: known to be unknown, and so as good as absent.
    Null,
    /// Negative, fractional, too large, or no number at all (MTR-8).
    Bad,
    /// A count.
    Of(u64),
}

impl Count {
    /// Reads a member. Integral floats and plain decimal strings are accepted (MTR-8, lenient).
    pub(crate) fn read(value: &Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Number(text) => integral(text).map_or(Self::Bad, Self::Of),
            Value::Text { text: Some(text), .. } => digits(text.as_bytes()).map_or(Self::Bad, Self::Of),
            Value::Text { .. } | Value::Bool(_) | Value::Array { .. } | Value::Object { .. } => Self::Bad,
        }
    }

    /// Reads a length in seconds as milliseconds, rounded up: `9.5`, `10`, `"3"`.
    pub(crate) fn read_seconds(value: &Value<'_>) -> Self {
        let text = match value {
            Value::Null => return Self::Null,
            Value::Number(text) => std::str::from_utf8(text).ok(),
            Value::Text { text, .. } => *text,
            Value::Bool(_) | Value::Array { .. } | Value::Object { .. } => None,
        };
        text.and_then(milliseconds).map_or(Self::Bad, Self::Of)
    }

    /// The count, if there is one.
    pub(crate) const fn known(self) -> Option<u64> {
        match self {
            Self::Of(count) => Some(count),
            Self::Absent | Self::Null | Self::Bad => None,
        }
    }
}

/// Seconds as a whole number of milliseconds, rounded up, up to [`COUNT_MAX`].
fn milliseconds(text: &str) -> Option<u64> {
    let micro = Decimal::parse(text).ok()?.round_half_even(6)?;
    u64::try_from(micro.div_ceil(1000)).ok().filter(|milli| *milli <= COUNT_MAX)
}

/// A decimal as `0.0000123`, exact: 18 places, which is finer than any price. `None` for what is no
/// amount of money.
pub(crate) fn plain_decimal(text: &str) -> Option<String> {
    const PLACES: u32 = 18;
    let units = Decimal::parse(text).ok()?.round_half_even(PLACES)?;
    let one = 10u128.pow(PLACES);
    let (whole, fraction) = (units / one, format!("{:018}", units % one));
    let fraction = fraction.trim_end_matches('0');
    Some(if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") })
}

/// ASCII digits without a leading zero, up to [`COUNT_MAX`].
fn digits(text: &[u8]) -> Option<u64> {
    let canonical = text == b"0" || text.first().is_some_and(|b| *b != b'0');
    if !canonical || text.len() > 16 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = text.iter().fold(0, |sum: u64, b| sum * 10 + u64::from(b - b'0'));
    (count <= COUNT_MAX).then_some(count)
}

/// A JSON number that is a whole count: `12`, `12.0`, `1.2e1`. Read from its text, so no float
/// rounds it on the way.
pub(crate) fn integral(text: &[u8]) -> Option<u64> {
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&text[..at], exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, b"".as_slice()),
    };
    let point_alone = fraction.is_empty() && whole.len() != mantissa.len();
    let leading_zero = whole.len() > 1 && whole[0] == b'0';
    if whole.is_empty() || point_alone || leading_zero {
        return None;
    }
    // Where the point stands once the exponent has moved it.
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let mut count: u64 = 0;
    let mut at = 0;
    for byte in whole.iter().chain(fraction) {
        if !byte.is_ascii_digit() || (at >= point && *byte != b'0') {
            return None;
        }
        if at < point {
            count = count.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        }
        at += 1;
    }
    while at < point && count != 0 {
        count = count.checked_mul(10)?;
        at += 1;
    }
    (count <= COUNT_MAX).then_some(count)
}

fn exponent(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text.first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if digits.is_empty() || digits.len() > 4 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(sign * digits.iter().fold(0, |sum: i32, b| sum * 10 + i32::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::{COUNT_MAX, Count};
    use crate::json::Value;

    #[test]
    fn numbers_table() {
        for (rule, text, expected) in [
            ("MTR-8 integer", "12", Count::Of(12)),
            ("MTR-8 zero", "0", Count::Of(0)),
            ("MTR-8 integral float", "12.0", Count::Of(12)),
            ("MTR-8 integral exponent", "1.2e1", Count::Of(12)),
            ("MTR-8 negative exponent", "120E-1", Count::Of(12)),
            ("MTR-8 zero with exponent", "0e9999", Count::Of(0)),
            ("MTR-8 fraction", "12.5", Count::Bad),
            ("MTR-8 hidden fraction", "125e-1", Count::Bad),
            ("MTR-8 negative", "-500", Count::Bad),
            ("MTR-8 negative zero", "-0", Count::Bad),
            ("item 33 limit", "9007199254740992", Count::Of(COUNT_MAX)),
            ("item 33 above", "9007199254740993", Count::Bad),
            ("item 33 above u64", "18446744073709551616", Count::Bad),
            ("item 33 exponent above", "1e300", Count::Bad),
            ("grammar leading zero", "012", Count::Bad),
            ("grammar point alone", "12.", Count::Bad),
            ("grammar no whole", ".5", Count::Bad),
            ("grammar two points", "1.0.0", Count::Bad),
            ("grammar empty exponent", "1e", Count::Bad),
            ("too long to keep", "", Count::Bad),
        ] {
            assert_eq!(Count::read(&Value::Number(text.as_bytes())), expected, "{rule}");
        }
    }

    #[test]
    fn other_types_table() {
        let text = |text| Value::Text { bytes: 0, text: Some(text) };
        for (rule, value, expected) in [
            ("MTR-8 digits as text", text("3"), Count::Of(3)),
            ("item 33 leading zero", text("03"), Count::Bad),
            ("item 33 sign", text("+3"), Count::Bad),
            ("item 33 space", text(" 3"), Count::Bad),
            ("item 33 float as text", text("3.0"), Count::Bad),
            ("item 33 empty", text(""), Count::Bad),
            ("absent is not zero", Value::Null, Count::Null),
            ("other type", Value::Bool(true), Count::Bad),
            ("other type", Value::Object { len: 0 }, Count::Bad),
        ] {
            assert_eq!(Count::read(&value), expected, "{rule}");
        }
    }
}
