//! Names of keysets, and points of the curve as they are written (NUT-00, NUT-02).

use std::fmt;

use crate::hex;

/// A point of secp256k1, compressed. That it is on the curve is not said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point(pub [u8; 33]);

impl Point {
    /// Reads 66 digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode_array(text).ok().map(Self)
    }

    /// As JSON carries it.
    #[must_use]
    pub fn to_text(&self) -> String {
        hex::encode(&self.0)
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

const SHORT: usize = 8;
const LONG: usize = 33;

/// The name of a keyset: 8 bytes of version 0, 33 bytes of version 1, or the first 8 of those, which only a token may
/// say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeysetId {
    bytes: [u8; LONG],
    length: usize,
}

impl KeysetId {
    /// Takes 8 or 33 bytes of a version we know.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let fits = matches!((bytes.len(), bytes.first()?), (SHORT, 0 | 1) | (LONG, 1));
        let mut own = [0; LONG];
        own.get_mut(..bytes.len()).filter(|_| fits)?.copy_from_slice(bytes);
        Some(Self { bytes: own, length: bytes.len() })
    }

    /// Reads 16 or 66 digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONG * 2 {
            return None;
        }
        Self::from_bytes(&hex::decode(text).ok()?)
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// As JSON carries it.
    #[must_use]
    pub fn to_text(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// The version byte: 0 or 1.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.bytes[0]
    }

    /// Whether a mint uses it. What is abbreviated means one of the mint's, or none, or several.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.version() == 0 || self.length == LONG
    }

    /// Whether it is this keyset's name, or the beginning of it.
    #[must_use]
    pub fn names(&self, whole: &Self) -> bool {
        self == whole || !self.is_whole() && whole.as_bytes().starts_with(self.as_bytes())
    }
}

impl fmt::Debug for KeysetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::{KeysetId, Point};

    #[test]
    fn cashu_2_names_of_keysets() {
        let long = format!("01{}", "ab".repeat(32));
        let other = format!("01{}cd", "ab".repeat(31));
        for (text, whole) in [
            ("009a1f293253e41e", Some(true)),
            ("01abababababABAB", Some(false)),
            (&long, Some(true)),
            ("029a1f293253e41e", None),
            (&format!("00{}", "ab".repeat(32)), None),
            ("009a1f293253e4", None),
            ("I2yN+iRYfkzT", None),
            ("", None),
            (&"01".repeat(4096), None),
        ] {
            assert_eq!(KeysetId::parse(text).map(|id| id.is_whole()), whole, "{text}");
        }
        let [short, long, other] =
            ["01abababababABAB", &long, &other].map(|text| KeysetId::parse(text).unwrap());
        assert!(short.names(&long) && short.names(&other) && long.names(&long) && !long.names(&other));
        assert!(!long.names(&short));
        let old = KeysetId::parse("009a1f293253e41e").unwrap();
        assert!(old.names(&old) && !old.names(&long));
        assert_eq!(Point::parse("02"), None);
    }
}
