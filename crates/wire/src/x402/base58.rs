//! Base58 with Bitcoin's alphabet: how Solana writes keys, hashes and signatures.

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Longest text we decode: the work grows with the square of the length.
pub const TEXT_BYTES_MAX: usize = 128;

/// Text that is not base58 of the wanted size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not base58 of the wanted size")]
pub struct Base58Error;

/// Writes bytes. Zeros in front become ones in front.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut digits: Vec<u8> = Vec::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let mut carry = u16::from(*byte);
        for digit in &mut digits {
            let value = (u16::from(*digit) << 8) + carry;
            *digit = u8::try_from(value % 58).unwrap_or_default();
            carry = value / 58;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 58).unwrap_or_default());
            carry /= 58;
        }
    }
    let letters = digits.iter().rev().filter_map(|digit| ALPHABET.get(usize::from(*digit)));
    "1".repeat(zeros).chars().chain(letters.map(|letter| char::from(*letter))).collect()
}

/// Decodes at most [`TEXT_BYTES_MAX`] characters. Every byte string has one spelling.
///
/// # Errors
/// [`Base58Error`]
pub fn decode(text: &str) -> Result<Vec<u8>, Base58Error> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Base58Error);
    }
    let zeros = text.bytes().take_while(|byte| *byte == b'1').count();
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    for letter in text.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == letter).ok_or(Base58Error)?;
        let mut carry = u16::try_from(digit).map_err(|_| Base58Error)?;
        for byte in &mut bytes {
            let [high, low] = (u16::from(*byte) * 58 + carry).to_be_bytes();
            *byte = low;
            carry = u16::from(high);
        }
        if carry > 0 {
            bytes.push(u8::try_from(carry).map_err(|_| Base58Error)?);
        }
    }
    bytes.extend(std::iter::repeat_n(0, zeros));
    bytes.reverse();
    Ok(bytes)
}

/// Decodes exactly `N` bytes.
///
/// # Errors
/// [`Base58Error`]
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], Base58Error> {
    decode(text)?.try_into().map_err(|_| Base58Error)
}

#[cfg(test)]
mod tests {
    use super::{Base58Error, TEXT_BYTES_MAX, decode, decode_array, encode};
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        for (bytes, text) in [
            (b"".to_vec(), ""),
            (b"Hello World!".to_vec(), "2NEpo7TZRRrLZSi2U"),
            (vec![0, 0, 1], "112"),
            (vec![0; 32], "11111111111111111111111111111111"),
            (vec![0xff; 2], "LUv"),
        ] {
            assert_eq!(encode(&bytes), text);
            assert_eq!(decode(text), Ok(bytes));
        }
        for text in ["0", "O", "I", "l", " 1", "1\u{e9}", "1+"] {
            assert_eq!(decode(text), Err(Base58Error), "{text}");
        }
        assert_eq!(decode(&"z".repeat(TEXT_BYTES_MAX + 1)), Err(Base58Error));
        assert_eq!(decode_array::<31>("11111111111111111111111111111111"), Err(Base58Error));
    }

    proptest! {
        #[test]
        fn bytes_survive(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn any_text_is_bytes_or_an_error(text in "\\PC{0,140}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
