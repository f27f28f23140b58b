//! Whole numbers as nodes write them in JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A count that is not below zero: a JSON number, a string of digits (LND, for 64 bits), or digits with `msat`
/// behind them (older Core Lightning).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Count, E> {
        Ok(Count(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Count, E> {
        let digits = text.strip_suffix("msat").unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| digits.parse().ok()).flatten();
        number.map(Count).ok_or_else(|| E::custom("not a whole number"))
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn numbers_as_nodes_write_them() {
        for (text, expected) in [
            ("21001", Some(21_001)),
            (r#""21001""#, Some(21_001)),
            (r#""21001msat""#, Some(21_001)),
            ("18446744073709551615", Some(u64::MAX)),
            (r#""18446744073709551615""#, Some(u64::MAX)),
            (r#""18446744073709551616""#, None),
            ("-1", None),
            (r#""-1""#, None),
            (r#""+1""#, None),
            ("1.0", None),
            ("1e3", None),
            (r#""""#, None),
            (r#""msat""#, None),
            ("null", None),
            ("true", None),
        ] {
            let read = serde_json::from_str::<Count>(text).ok();
            assert_eq!(read, expected.map(Count), "{text}");
        }
    }
}
