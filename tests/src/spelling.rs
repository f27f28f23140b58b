//! One payment in many spellings: other bytes, the same proof.

use serde_json::{Value, json};
use wire::x402::network;

use crate::payer::Payment;

/// Header and value of 64 copies of a payment, no two of them alike: both versions of the protocol, JSON in
/// several styles, hex in either case, base64 in either alphabet, padded or not.
pub fn spellings(payment: &Payment) -> Vec<(&'static str, String)> {
    let mut copies = Vec::new();
    for upper in [false, true] {
        let payload = if upper { in_upper_case(&payment.payload) } else { payment.payload.clone() };
        let named = network::v1_from_caip2(payment.accepted["network"].as_str().unwrap()).unwrap();
        let v1 = json!({"x402Version": 1, "scheme": "exact", "network": named, "payload": payload});
        let v2 = json!({"x402Version": 2, "resource": payment.resource, "accepted": payment.accepted,
                        "payload": payload});
        for (header, payment) in [("x-payment", v1), ("payment-signature", v2)] {
            for style in [Style::Compact, Style::Spaced, Style::Reversed, Style::Escaped] {
                // A member nobody knows, with characters that the two alphabets write differently.
                let text = written(&payment, style);
                let text = format!("{},\"memo\":\"???\"}}", text.trim_end().strip_suffix('}').unwrap());
                for alphabet in [STANDARD, URL] {
                    for padded in [true, false] {
                        copies.push((header, base64(&text, alphabet, padded)));
                    }
                }
            }
        }
    }
    copies
}

/// The digits of what was signed. Names keep their case.
fn in_upper_case(payload: &Value) -> Value {
    let mut payload = payload.clone();
    let digits = |text: &mut Value| {
        let lower = text.as_str().unwrap();
        let upper = match lower.strip_prefix("0x") {
            Some(digits) => format!("0x{}", digits.to_ascii_uppercase()),
            None => lower.to_ascii_uppercase(),
        };
        *text = json!(upper);
    };
    digits(&mut payload["signature"]);
    for name in ["from", "to", "nonce"] {
        digits(&mut payload["authorization"][name]);
    }
    payload
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Compact,
    Spaced,
    Reversed,
    Escaped,
}

fn written(value: &Value, style: Style) -> String {
    let space = if style == Style::Spaced { "\r\n\t " } else { "" };
    match value {
        Value::Object(members) => {
            let mut members: Vec<String> = members
                .iter()
                .map(|(name, value)| {
                    format!("{space}{}{space}:{space}{}", quoted(name, style), written(value, style))
                })
                .collect();
            if style == Style::Reversed {
                members.reverse();
            }
            format!("{space}{{{}{space}}}{space}", members.join(","))
        }
        Value::String(text) => quoted(text, style),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn quoted(text: &str, style: Style) -> String {
    if style != Style::Escaped {
        return json!(text).to_string();
    }
    format!("\"{}\"", text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>())
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 of the text, with white space at its end that makes padding necessary.
fn base64(text: &str, alphabet: &[u8; 64], padded: bool) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(3) + 2, b' ');
    let mut encoded = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..=group.len() {
            encoded.push(char::from(alphabet[usize::try_from(bits >> (18 - 6 * place) & 63).unwrap()]));
        }
    }
    if padded {
        encoded.push('=');
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::{Value, json};

    use super::spellings;
    use crate::payer::{Payment, TEST};

    #[test]
    fn sixty_four_copies_say_the_same_in_other_bytes() {
        let authorization = json!({"from": "aa", "to": "bb", "nonce": "0xcd", "value": "1"});
        let payment = Payment {
            payload: json!({"signature": "ee", "authorization": authorization}),
            accepted: json!({"network": TEST}),
            resource: json!({"url": "http://x"}),
        };
        let copies = spellings(&payment);
        assert_eq!(copies.iter().collect::<HashSet<_>>().len(), 64);
        for (header, value) in copies {
            let bytes = wire::base64::decode_any(&value, 64 * 1024).unwrap();
            let read: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(read["x402Version"], if header == "x-payment" { 1 } else { 2 });
            let nonce = read["payload"]["authorization"]["nonce"].as_str().unwrap();
            assert!(["0xcd", "0xCD"].contains(&nonce));
            assert_eq!(read["payload"]["authorization"]["value"], "1");
        }
    }
}
