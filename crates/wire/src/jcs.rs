//! The JSON Canonicalization Scheme (RFC 8785): one spelling for each value.
//!
//! Members stand in the order of their names' UTF-16 code units, numbers are written as ECMAScript writes them, and
//! nothing is escaped that need not be. A number passes through a double, as in every implementation: an integer above
//! 2^53 comes out rounded, so amounts are decimal strings wherever they are hashed.

use serde_json::{Map, Number, Value};

use crate::json_text;

/// The canonical text of a value.
///
/// ```
/// let value: serde_json::Value = serde_json::from_str(r#"{"b": 1.50, "a": "\u20ac"}"#).unwrap();
/// assert_eq!(wire::jcs::to_string(&value), r#"{"a":"€","b":1.5}"#);
/// ```
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value);
    text
}

/// The canonical text of an object.
#[must_use]
pub fn object_to_string(members: &Map<String, Value>) -> String {
    let mut text = String::new();
    write_object(&mut text, members);
    text
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => json_text::push_string(text, string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, item);
            }
            text.push(']');
        }
        Value::Object(members) => write_object(text, members),
    }
}

fn write_object(text: &mut String, members: &Map<String, Value>) {
    let mut members: Vec<_> = members.iter().collect();
    // Code units, not code points: a surrogate pair stands before U+E000. Of ASCII both are its bytes.
    members.sort_unstable_by(|(one, _), (other, _)| {
        let is_ascii = one.is_ascii() && other.is_ascii();
        if is_ascii { one.cmp(other) } else { one.encode_utf16().cmp(other.encode_utf16()) }
    });
    text.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        json_text::push_string(text, name);
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

/// `Number::toString` of ECMAScript: the shortest digits that read back as the same double; an exponent from 1e21 on
/// and below 1e-6; both zeros are `0`.
#[expect(clippy::disallowed_types, reason = "the one place where RFC 8785 asks for a double")]
fn write_number(text: &mut String, number: &Number) {
    let double: f64 = number.as_f64().unwrap_or_default();
    if double == 0.0 {
        text.push('0');
        return;
    }
    // `-d.ddde-x`, with the shortest digits that round-trip. Of two equally near ones ECMAScript wants the even one,
    // which is what rounding to that many digits gives.
    let shortest = format!("{double:e}");
    let mantissa = shortest.split_once('e').map_or("", |(mantissa, _)| mantissa);
    let decimals = mantissa.bytes().filter(u8::is_ascii_digit).count().saturating_sub(1);
    let nearest = format!("{double:.decimals$e}");
    let scientific = if nearest.parse() == Ok(double) { nearest } else { shortest };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if mantissa.starts_with('-') {
        text.push('-');
    }
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let point = exponent + 1; // digits before the decimal point
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let written = if (count..=21).contains(&point) {
        digits + &zeros(point - count)
    } else if (1..=21).contains(&point) {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or_default());
        format!("{whole}.{fraction}")
    } else if (-5..=0).contains(&point) {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { "-" } else { "+" };
        format!("{first}{point}{rest}e{sign}{}", exponent.unsigned_abs())
    };
    text.push_str(&written);
}

#[cfg(test)]
mod tests {
    use super::to_string;
    use proptest::prelude::*;
    use serde_json::Value;

    fn canonical(text: &str) -> String {
        to_string(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn numbers_are_written_as_ecmascript_does() {
        // The samples of RFC 8785 appendix B that JSON can carry, and the edges of each notation.
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("5e-324", "5e-324"),
            ("-5e-324", "-5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("9007199254740992", "9007199254740992"),
            ("-9007199254740992", "-9007199254740992"),
            ("295147905179352830000", "295147905179352830000"),
            ("9.999999999999997e22", "9.999999999999997e+22"),
            ("1e23", "1e+23"),
            ("1.0000000000000001e23", "1.0000000000000001e+23"),
            ("999999999999999700000", "999999999999999700000"),
            ("999999999999999900000", "999999999999999900000"),
            ("1e21", "1e+21"),
            ("9.999999999999997e-7", "9.999999999999997e-7"),
            ("0.000001", "0.000001"),
            ("333333333.3333332", "333333333.3333332"),
            ("333333333.33333325", "333333333.33333325"),
            ("333333333.3333333", "333333333.3333333"),
            ("333333333.3333334", "333333333.3333334"),
            ("333333333.33333343", "333333333.33333343"),
            ("-0.0000033333333333333333", "-0.0000033333333333333333"),
            ("1424953923781206.25", "1424953923781206.2"),
            ("10", "10"),
            ("100", "100"),
            ("-4.50", "-4.5"),
            ("123456789012345680000", "123456789012345680000"),
            ("18446744073709551615", "18446744073709552000"),
            ("-9223372036854775808", "-9223372036854776000"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn members_are_ordered_by_code_units() {
        let text = r#"{"\ue000":1,"\ud83d\ude00":2,"z":{"b":[],"a":{}},"":null,"\r":true,"€":false}"#;
        assert_eq!(
            canonical(text),
            "{\"\":null,\"\\r\":true,\"z\":{\"a\":{},\"b\":[]},\"€\":false,\"😀\":2,\"\u{e000}\":1}"
        );
    }

    #[test]
    fn only_what_must_be_is_escaped() {
        let text = r#""\b\t\n\f\r\u0000\u001F\u007f\u2028\u2029\/<>&\"\\é""#;
        assert_eq!(canonical(text), "\"\\b\\t\\n\\f\\r\\u0000\\u001f\u{7f}\u{2028}\u{2029}/<>&\\\"\\\\é\"");
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(|bits| {
                #[expect(clippy::disallowed_types, reason = "any double, by its bits")]
                let double: f64 = f64::from_bits(bits);
                serde_json::Number::from_f64(double).map_or(Value::Null, Value::Number)
            }),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Read back and written again it is the same text: there is one spelling.
        #[test]
        fn the_canonical_text_is_a_fixed_point(value in value()) {
            let text = to_string(&value);
            prop_assert_eq!(canonical(&text), text);
        }
    }
}
