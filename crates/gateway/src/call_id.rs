//! The name of one call, in headers, logs, journal and receipts.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;

use crate::clock::Now;
use crate::random;

const PREFIX: &str = "req_";
/// Of the text: the prefix and two digits for each byte.
const TEXT_BYTES: usize = PREFIX.len() + 32;

/// 6 bytes of Unix milliseconds and 10 random ones, written `req_` and 32 hex digits. Not guessable, but no permission either: who may
/// see what it names is checked apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(pub [u8; 16]);

impl CallId {
    /// A new one.
    #[must_use]
    pub fn fresh() -> Self {
        Self::begun(Now::read())
    }

    /// Of a call that begins now.
    #[must_use]
    pub(crate) fn begun(now: Now) -> Self {
        let mut id: [u8; 16] = random::name();
        // Calls of one time are near each other in the store, which so rewrites a page and not one per call.
        id[..6].copy_from_slice(&now.millis().to_be_bytes()[2..]);
        Self(id)
    }

    /// As a header value.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text()).unwrap_or(HeaderValue::from_static(""))
    }

    fn text(self) -> [u8; TEXT_BYTES] {
        let mut text = [0; TEXT_BYTES];
        let (prefix, digits) = text.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        wire::hex::write(digits, &self.0);
        text
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing but ASCII is in it.
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for CallId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = text.strip_prefix(PREFIX).ok_or(())?;
        ledger::AccountId::from_hex(hex).map(|id| Self(id.0)).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::CallId;

    #[test]
    fn text_round_trips() {
        let id = CallId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("req_ab".parse::<CallId>().is_err());
        assert!("ab".repeat(16).parse::<CallId>().is_err());
    }
}
