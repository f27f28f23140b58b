//! Base64 as payment headers carry it: two alphabets, padded or not, and nothing looser (L402-12, X402-4).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// Why text is no base64 value. Holds sizes, never the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Base64Error {
    /// Longer than the caller allows; nothing was decoded.
    #[error("{length} characters, limit {max}")]
    TooLong {
        /// Characters that came.
        length: usize,
        /// Characters allowed.
        max: usize,
    },
    /// A byte outside the alphabet, both alphabets mixed, partial padding or set trailing bits.
    #[error("not canonical base64")]
    Malformed,
}

/// Decodes either alphabet, padded or not, of at most `text_bytes_max` characters.
///
/// # Errors
/// [`Base64Error`]: one value uses one alphabet; padding is all there or absent; unused trailing bits
/// are zero; white space is refused. So each byte string has at most four spellings.
pub fn decode_any(text: &str, text_bytes_max: usize) -> Result<Vec<u8>, Base64Error> {
    bounded(text, text_bytes_max)?;
    let url_alphabet = memchr::memchr2(b'-', b'_', text.as_bytes()).is_some();
    let engine = match (url_alphabet, text.ends_with('=')) {
        (false, true) => &STANDARD,
        (false, false) => &STANDARD_NO_PAD,
        (true, true) => &URL_SAFE,
        (true, false) => &URL_SAFE_NO_PAD,
    };
    engine.decode(text).map_err(|_| Base64Error::Malformed)
}

/// Decodes the standard alphabet with its padding: binary values of structured fields.
///
/// # Errors
/// [`Base64Error`]
pub fn decode_std(text: &str) -> Result<Vec<u8>, Base64Error> {
    STANDARD.decode(text).map_err(|_| Base64Error::Malformed)
}

/// Decodes the URL alphabet without padding: the one spelling of credit keys and of JWS parts.
///
/// # Errors
/// [`Base64Error`]
pub fn decode_url(text: &str, text_bytes_max: usize) -> Result<Vec<u8>, Base64Error> {
    bounded(text, text_bytes_max)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Base64Error::Malformed)
}

/// Decodes the URL alphabet, padded or not: what readers of MPP take.
///
/// # Errors
/// [`Base64Error`]
pub fn decode_url_any_padding(text: &str, text_bytes_max: usize) -> Result<Vec<u8>, Base64Error> {
    bounded(text, text_bytes_max)?;
    let engine = if text.ends_with('=') { &URL_SAFE } else { &URL_SAFE_NO_PAD };
    engine.decode(text).map_err(|_| Base64Error::Malformed)
}

/// Standard alphabet, padded: what we emit in x402 headers (X402-4).
#[must_use]
pub fn encode_std(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// As [`encode_std`], into a place of exactly the length of that. `None`: it is shorter.
#[must_use]
pub fn encode_std_into(bytes: &[u8], place: &mut [u8]) -> Option<usize> {
    STANDARD.encode_slice(bytes, place).ok()
}

/// URL alphabet without padding, behind what is in `text`.
pub fn push_url(text: &mut String, bytes: &[u8]) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// URL alphabet without padding.
#[must_use]
pub fn encode_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// URL alphabet, padded: what Cashu's published examples have (NUT-00, NUT-18).
#[must_use]
pub fn encode_url_padded(bytes: &[u8]) -> String {
    URL_SAFE.encode(bytes)
}

fn bounded(text: &str, max: usize) -> Result<(), Base64Error> {
    if text.len() > max {
        return Err(Base64Error::TooLong { length: text.len(), max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Base64Error as E, decode_any, decode_url, decode_url_any_padding, encode_std, encode_url};
    use proptest::prelude::*;

    #[test]
    fn decode_table() {
        let bytes = vec![0xfb, 0xff, 0x01, 0x02];
        for (rule, text, expected) in [
            ("X402-4 standard padded", "+/8BAg==", Ok(bytes.clone())),
            ("X402-4 standard unpadded", "+/8BAg", Ok(bytes.clone())),
            ("X402-4 url padded", "-_8BAg==", Ok(bytes.clone())),
            ("X402-4 url unpadded", "-_8BAg", Ok(bytes)),
            ("empty", "", Ok(vec![])),
            ("L402-12 mixed alphabets", "+_8BAg", Err(E::Malformed)),
            ("L402-12 partial padding", "+/8BAg=", Err(E::Malformed)),
            ("L402-12 padding inside", "+/8B=Ag=", Err(E::Malformed)),
            ("L402-12 trailing bits", "+/8BAh", Err(E::Malformed)),
            ("L402-12 white space", "+/8B Ag", Err(E::Malformed)),
            ("L402-12 newline at the end", "+/8BAg\n", Err(E::Malformed)),
            ("only padding", "==", Err(E::Malformed)),
            ("one character", "A", Err(E::Malformed)),
            ("X402-5 too long", "AAAAAAAAA", Err(E::TooLong { length: 9, max: 8 })),
        ] {
            assert_eq!(decode_any(text, 8), expected, "{rule}");
        }
    }

    #[test]
    fn the_strict_form_takes_one_spelling() {
        assert_eq!(decode_url("-_8BAg", 8), Ok(vec![0xfb, 0xff, 0x01, 0x02]));
        for text in ["-_8BAg==", "+/8BAg", "-_8BAh", "-_8BAg ", "AAAAAAAAA"] {
            assert!(decode_url(text, 8).is_err(), "{text}");
        }
    }

    #[test]
    fn the_url_alphabet_with_or_without_padding() {
        for text in ["-_8BAg", "-_8BAg=="] {
            assert_eq!(decode_url_any_padding(text, 8), Ok(vec![0xfb, 0xff, 0x01, 0x02]), "{text}");
        }
        for text in ["+/8BAg", "-_8BAg=", "-_8BAh", "-_8B\nAg", "-_8=BAg", "AAAAAAAAA", "="] {
            assert!(decode_url_any_padding(text, 8).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in "\\PC{0,64}") {
            let _ = decode_any(&text, 64);
            let _ = decode_url(&text, 64);
        }

        #[test]
        fn what_we_emit_decodes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decode_any(&encode_std(&bytes), 200), Ok(bytes.clone()));
            prop_assert_eq!(decode_any(&encode_url(&bytes), 200), Ok(bytes.clone()));
            prop_assert_eq!(decode_url(&encode_url(&bytes), 200), Ok(bytes));
        }
    }
}
