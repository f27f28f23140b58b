//! An EVM address.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha3::{Digest as _, Keccak256};

use crate::hex;

/// 20 bytes. Read in any letter case, compared as bytes, written with the EIP-55 checksum (X402-9).
///
/// ```
/// use wire::x402::Address;
/// let address: Address = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266".parse().unwrap();
/// assert_eq!(address.to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub [u8; 20]);

/// Text that is not `0x` and 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not `0x` and 40 hexadecimal digits")]
pub struct AddressError;

impl Address {
    /// The address nobody holds a key of: what failed recoveries and unset fields look like.
    pub const ZERO: Self = Self([0; 20]);

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        hex::decode_0x_array(text).map(Self).map_err(|_| AddressError)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = hex::encode(&self.0).into_bytes();
        let hash: [u8; 32] = Keccak256::digest(&digits).into();
        for (index, digit) in digits.iter_mut().enumerate() {
            let nibble = if index % 2 == 0 { hash[index / 2] >> 4 } else { hash[index / 2] & 15 };
            if nibble >= 8 {
                digit.make_ascii_uppercase();
            }
        }
        f.write_str("0x")?;
        // Digits are ASCII.
        f.write_str(str::from_utf8(&digits).unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, AddressError};

    #[test]
    fn x402_9_any_case_in_checksum_out() {
        // The examples of EIP-55.
        for text in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        ] {
            let lower: Address = text.to_lowercase().parse().unwrap();
            let upper: Address = format!("0x{}", text[2..].to_uppercase()).parse().unwrap();
            assert_eq!(lower, upper);
            assert_eq!(lower.to_string(), text);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "0x", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x5aAe", "merchant"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
        let long = format!("0x{}", "00".repeat(21));
        assert_eq!(long.parse::<Address>(), Err(AddressError));
    }
}
