//! Hexadecimal, either letter case in, lower case out.

/// Text that is not hexadecimal of the wanted size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not hexadecimal of the wanted size")]
pub struct HexError;

/// Lower-case digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push(&mut text, bytes);
    text
}

/// Lower-case digits after `0x`.
#[must_use]
pub fn encode_0x(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2 + 2);
    text.push_str("0x");
    push(&mut text, bytes);
    text
}

/// Decodes an even number of digits.
///
/// # Errors
/// [`HexError`] for any other byte or an odd number of digits.
pub fn decode(text: &str) -> Result<Vec<u8>, HexError> {
    if !text.len().is_multiple_of(2) {
        return Err(HexError);
    }
    text.as_bytes().chunks_exact(2).map(pair).collect()
}

/// Decodes exactly `N` bytes.
///
/// # Errors
/// [`HexError`] for another length or a byte that is no digit.
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    if text.len() != N * 2 {
        return Err(HexError);
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = pair(digits)?;
    }
    Ok(bytes)
}

/// Decodes digits after a required `0x`.
///
/// # Errors
/// [`HexError`]
pub fn decode_0x(text: &str) -> Result<Vec<u8>, HexError> {
    decode(text.strip_prefix("0x").ok_or(HexError)?)
}

/// Decodes exactly `N` bytes after a required `0x`.
///
/// # Errors
/// [`HexError`]
pub fn decode_0x_array<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    decode_array(text.strip_prefix("0x").ok_or(HexError)?)
}

/// Writes lower-case digits over what stands in `digits`: two for each byte, as far as there is room.
pub fn write(digits: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
}

fn push(text: &mut String, bytes: &[u8]) {
    for bytes in bytes.chunks(32) {
        let mut digits = [0; 64];
        write(&mut digits, bytes);
        // Digits are ASCII.
        text.push_str(str::from_utf8(&digits[..bytes.len() * 2]).unwrap_or_default());
    }
}

/// How each byte is written.
const PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [b"0123456789abcdef"[byte >> 4], b"0123456789abcdef"[byte & 15]];
        byte += 1;
    }
    pairs
};

fn pair(digits: &[u8]) -> Result<u8, HexError> {
    let [high, low] = digits else { return Err(HexError) };
    let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
    if high | low > 15 { Err(HexError) } else { Ok(high << 4 | low) }
}

/// What each byte is worth as a digit; above 15: nothing. A look instead of guesses, which digits make wrong half the time.
const DIGITS: [u8; 256] = {
    let mut worth = [0xff; 256];
    let mut digit: u8 = 0;
    while digit < 16 {
        worth[b"0123456789abcdef"[digit as usize] as usize] = digit;
        worth[b"0123456789ABCDEF"[digit as usize] as usize] = digit;
        digit += 1;
    }
    worth
};

#[cfg(test)]
mod tests {
    use super::{HexError, decode, decode_0x, decode_0x_array, decode_array, encode, encode_0x};
    use proptest::prelude::*;

    #[test]
    fn decode_table() {
        assert_eq!(decode("00fFA5"), Ok(vec![0, 0xff, 0xa5]));
        assert_eq!(decode(""), Ok(vec![]));
        for text in ["0", "0g", "0x00", " 00", "0\u{e9}", "+1"] {
            assert_eq!(decode(text), Err(HexError), "{text}");
        }
        assert_eq!(decode_array::<2>("00ff"), Ok([0, 0xff]));
        assert_eq!(decode_array::<2>("00ff00"), Err(HexError));
        assert_eq!(decode_array::<2>("00f"), Err(HexError));
        assert_eq!(decode_0x("0x0a"), Ok(vec![10]));
        assert_eq!(decode_0x("0a"), Err(HexError));
        assert_eq!(decode_0x("0X0a"), Err(HexError));
        assert_eq!(decode_0x_array::<1>("0x0a"), Ok([10]));
    }

    proptest! {
        #[test]
        fn round_trip_and_totality(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in "\\PC{0,40}") {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes.clone()));
            prop_assert_eq!(decode_0x(&encode_0x(&bytes)), Ok(bytes));
            let _ = decode(&text);
            let _ = decode_array::<20>(&text);
        }
    }
}
