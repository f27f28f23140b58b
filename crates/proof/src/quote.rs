//! Stateless quotes: what we asked for comes back in the payment and is checked without a look-up (X402-16).
//!
//! `q1.` and base64url of `expires_at_s u64 | ceiling i64 | first 16 bytes of an HMAC-SHA256` over these
//! and everything the price depends on.

use std::fmt;

use hmac::Mac as _;
use money::{Amount, Asset};
use wire::base64;

use crate::mac::{self, KeyedMac};

const PREFIX: &str = "q1.";
const TEXT_BYTES: usize = 43;
/// Length of every quote.
pub const QUOTE_BYTES: usize = PREFIX.len() + TEXT_BYTES;
const LABEL: &str = "farthing/quote/2";

/// What a price was quoted for. Another request, another tariff or a restored store: another quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteScope<'a> {
    /// SHA-256 over method, path with query, and body of the request.
    pub request: &'a [u8; 32],
    /// Which tariff priced it.
    pub tariff_version: &'a str,
    /// What the ceiling counts.
    pub asset: Asset,
    /// Raised by a restore from backup, so that older quotes are dead.
    pub store_epoch: u64,
}

/// What a genuine quote promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The most the call may cost.
    pub ceiling: Amount,
    /// Unix seconds; honoured while now is below.
    pub expires_at_s: u64,
}

/// The key quotes are signed with. Wiped on drop, never printed.
pub struct QuoteKey(KeyedMac);

/// Why a quote is not honoured. Ask for a new one; nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// Not the form of a quote.
    #[error("malformed quote")]
    Malformed,
    /// Altered, or given for something else.
    #[error("quote was given for something else")]
    Mismatch,
    /// Ours, and too old.
    #[error("quote expired at {0}")]
    Expired(u64),
}

impl QuoteKey {
    /// Derives the key from 32 secret bytes under a label of its own.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(mac::keyed(&zeroize::Zeroizing::new(mac::sum(&mac::keyed(secret), LABEL.as_bytes()))))
    }
}

impl fmt::Debug for QuoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QuoteKey(hidden)")
    }
}

/// Writes a quote.
#[must_use]
pub fn mint(key: &QuoteKey, scope: &QuoteScope<'_>, quote: &Quote) -> String {
    let tag: [u8; 32] = keyed_terms(key, scope, quote).finalize().into_bytes().into();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&quote.expires_at_s.to_be_bytes());
    bytes[8..16].copy_from_slice(&quote.ceiling.units().to_be_bytes());
    bytes[16..].copy_from_slice(&mac::first_half(&tag));
    let mut text = String::with_capacity(QUOTE_BYTES);
    text.push_str(PREFIX);
    base64::push_url(&mut text, &bytes);
    text
}

/// Reads a quote that came back, for the request it came back with.
///
/// # Errors
/// [`QuoteError`]. Expiry is told only of a quote that is ours.
pub fn verify(
    key: &QuoteKey,
    text: &str,
    scope: &QuoteScope<'_>,
    now_unix_s: u64,
) -> Result<Quote, QuoteError> {
    let digits = text.strip_prefix(PREFIX).ok_or(QuoteError::Malformed)?;
    let bytes = base64::decode_url(digits, TEXT_BYTES).map_err(|_| QuoteError::Malformed)?;
    let (expires_at_s, rest) = bytes.split_first_chunk().ok_or(QuoteError::Malformed)?;
    let (ceiling, tag) = rest.split_first_chunk().ok_or(QuoteError::Malformed)?;
    if tag.len() != 16 {
        return Err(QuoteError::Malformed);
    }
    let quote = Quote {
        ceiling: Amount::from_units(i64::from_be_bytes(*ceiling)),
        expires_at_s: u64::from_be_bytes(*expires_at_s),
    };
    keyed_terms(key, scope, &quote).verify_truncated_left(tag).map_err(|_| QuoteError::Mismatch)?;
    if now_unix_s >= quote.expires_at_s {
        return Err(QuoteError::Expired(quote.expires_at_s));
    }
    Ok(quote)
}

fn keyed_terms(key: &QuoteKey, scope: &QuoteScope<'_>, quote: &Quote) -> KeyedMac {
    let terms = mac::fields(
        LABEL,
        &[
            scope.request,
            scope.tariff_version.as_bytes(),
            &[scope.asset.code()],
            &scope.store_epoch.to_be_bytes(),
            &quote.ceiling.units().to_be_bytes(),
            &quote.expires_at_s.to_be_bytes(),
        ],
    );
    key.0.clone().chain_update(terms)
}

#[cfg(test)]
mod tests {
    use super::{QUOTE_BYTES, Quote, QuoteError as E, QuoteKey, QuoteScope, mint, verify};
    use money::{Amount, Asset};
    use proptest::prelude::*;

    const SCOPE: QuoteScope<'static> =
        QuoteScope { request: &[7; 32], tariff_version: "2026-11", asset: Asset::Usd, store_epoch: 1 };

    fn quote() -> Quote {
        Quote { ceiling: Amount::from_units(20_000_000), expires_at_s: 1000 }
    }

    #[test]
    fn x402_16_a_quote_comes_back_for_the_same_request_only() {
        let key = QuoteKey::new(&[7; 32]);
        let text = mint(&key, &SCOPE, &quote());
        assert_eq!(text.len(), QUOTE_BYTES);
        assert_eq!(verify(&key, &text, &SCOPE, 999), Ok(quote()));
        assert_eq!(verify(&key, &text, &SCOPE, 1000), Err(E::Expired(1000)));
        for (what, scope) in [
            ("request", QuoteScope { request: &[8; 32], ..SCOPE }),
            ("tariff", QuoteScope { tariff_version: "2026-12", ..SCOPE }),
            ("asset", QuoteScope { asset: Asset::Test, ..SCOPE }),
            ("store epoch", QuoteScope { store_epoch: 2, ..SCOPE }),
        ] {
            assert_eq!(verify(&key, &text, &scope, 999), Err(E::Mismatch), "{what}");
        }
        assert_eq!(verify(&QuoteKey::new(&[8; 32]), &text, &SCOPE, 999), Err(E::Mismatch));
    }

    #[test]
    fn every_byte_counts() {
        let key = QuoteKey::new(&[7; 32]);
        let bytes = wire::base64::decode_url(&mint(&key, &SCOPE, &quote())[3..], 43).unwrap();
        for index in 0..bytes.len() {
            let mut other = bytes.clone();
            other[index] ^= 1;
            let text = format!("q1.{}", wire::base64::encode_url(&other));
            assert_eq!(verify(&key, &text, &SCOPE, 1), Err(E::Mismatch), "byte {index}");
        }
        for text in [
            "",
            "q1.",
            "q2.AAAA",
            "q1.AAAA",
            &format!("q1.{}", "A".repeat(44)),
            &format!("q1.{}", "A".repeat(42)),
        ] {
            assert_eq!(verify(&key, text, &SCOPE, 1), Err(E::Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_quote_by_chance(text in "(q1\\.)?[A-Za-z0-9_-]{0,44}") {
            prop_assert!(verify(&QuoteKey::new(&[7; 32]), &text, &SCOPE, 1).is_err());
        }
    }
}
