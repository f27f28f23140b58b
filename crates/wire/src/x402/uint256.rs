//! Numbers of 256 bits, as the text of a payload has them: decimal digits, or `0x` and hexadecimal ones.

use crate::hex;

/// Most digits a 256 bit number has.
const DIGITS_MAX: usize = 78;

/// Reads a number into its 32 big-endian bytes. `None` beyond 2^256 - 1.
///
/// Decimal digits have one spelling. Hexadecimal ones, which examples of the specification use, may have leading
/// zeros: one number has several texts, so what identifies a payment is made of the bytes.
#[must_use]
pub fn parse(text: &str) -> Option<[u8; 32]> {
    match text.strip_prefix("0x") {
        Some(digits) => from_hex(digits),
        None => from_decimal(text),
    }
}

/// Writes decimal digits.
#[must_use]
pub fn to_decimal(number: &[u8; 32]) -> String {
    let mut rest = *number;
    let mut digits = Vec::with_capacity(DIGITS_MAX);
    while rest != [0; 32] {
        let mut remainder = 0u16;
        for byte in &mut rest {
            let value = remainder << 8 | u16::from(*byte);
            *byte = u8::try_from(value / 10).unwrap_or_default();
            remainder = value % 10;
        }
        digits.push(char::from(b'0' + u8::try_from(remainder).unwrap_or_default()));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    digits.iter().rev().collect()
}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    if digits.is_empty() || digits.len() > 64 {
        return None;
    }
    hex::decode_array(&format!("{digits:0>64}")).ok()
}

fn from_decimal(text: &str) -> Option<[u8; 32]> {
    let canonical = text == "0" || !text.starts_with('0');
    if text.is_empty() || text.len() > DIGITS_MAX || !canonical {
        return None;
    }
    let mut number = [0; 32];
    for digit in text.bytes() {
        let mut carry = u16::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        for byte in number.iter_mut().rev() {
            let value = u16::from(*byte) * 10 + carry;
            let [high, low] = value.to_be_bytes();
            *byte = low;
            carry = u16::from(high);
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::{parse, to_decimal};
    use proptest::prelude::*;

    const MAX: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

    #[test]
    fn parse_table() {
        let small = |number: u8| {
            let mut bytes = [0; 32];
            bytes[31] = number;
            Some(bytes)
        };
        for (text, expected) in [
            ("0", small(0)),
            ("7", small(7)),
            ("255", small(255)),
            ("0xff", small(255)),
            ("0x0ff", small(255)),
            ("0xFF", small(255)),
            (MAX, Some([0xff; 32])),
            ("", None),
            ("0x", None),
            ("00", None),
            ("01", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1.0", None),
            ("0xg", None),
            ("115792089237316195423570985008687907853269984665640564039457584007913129639936", None),
            ("999999999999999999999999999999999999999999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse(&format!("0x{}", "f".repeat(64))), Some([0xff; 32]));
        assert_eq!(parse(&format!("0x0{}", "f".repeat(64))), None);
        assert_eq!(parse(&"1".repeat(79)), None);
    }

    proptest! {
        #[test]
        fn a_number_survives(number in any::<[u8; 32]>(), small in any::<u128>()) {
            prop_assert_eq!(parse(&to_decimal(&number)), Some(number));
            prop_assert_eq!(parse(&crate::hex::encode_0x(&number)), Some(number));
            let mut wide = [0; 32];
            wide[16..].copy_from_slice(&small.to_be_bytes());
            prop_assert_eq!(to_decimal(&wide), small.to_string());
        }

        #[test]
        fn any_text_is_a_number_or_none(text in "\\PC{0,90}") {
            let _ = parse(&text);
        }
    }
}
