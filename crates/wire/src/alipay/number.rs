//! `out_trade_no`, `out_request_no`: what we name trades and refunds by.

use std::fmt;

/// Longest number that Alipay takes.
const BYTES_MAX: usize = 64;

/// Our number of a trade or of a refund. The same number is the same trade, or the same refund, however often it is
/// asked for: whoever makes one never makes it twice (RAIL-15).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnNumber(String);

impl OwnNumber {
    /// Letters, digits and underscores, 1 to 64 of them; none for anything else.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_number = (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(fits);
        is_number.then_some(Self(text))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::OwnNumber;

    #[test]
    fn numbers_have_one_alphabet() {
        for text in ["topup_01J0", "A", &"9".repeat(64)] {
            assert_eq!(OwnNumber::new(text).unwrap().to_string(), text);
        }
        for text in ["", "a-b", "a b", "預", "a\n", &"9".repeat(65)] {
            assert_eq!(OwnNumber::new(text), None, "{text}");
        }
    }
}
