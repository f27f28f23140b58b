//! The payload of scheme `exact`: a signed transfer, as EIP-3009 has it and as our test rail copies it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Address;
use crate::hex;

/// `{signature, authorization}` as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactPayload {
    /// EVM: `0x` and 65 bytes. Test rail: 64 bytes of hex.
    pub signature: String,
    /// What was signed.
    pub authorization: Authorization,
}

/// The signed members, still as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// Payer.
    pub from: String,
    /// Payee.
    pub to: String,
    /// Atomic units, decimal.
    pub value: String,
    /// Unix seconds, decimal; valid strictly after.
    pub valid_after: String,
    /// Unix seconds, decimal; valid strictly before.
    pub valid_before: String,
    /// `0x` and 32 bytes.
    pub nonce: String,
}

/// The signed members as values; `P` is how the network names a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<P> {
    /// Payer.
    pub from: P,
    /// Payee.
    pub to: P,
    /// Atomic units.
    pub value: u128,
    /// Unix seconds; valid strictly after.
    pub valid_after: u64,
    /// Unix seconds; valid strictly before.
    pub valid_before: u64,
    /// Chosen by the payer, used once.
    pub nonce: [u8; 32],
}

impl ExactPayload {
    /// Reads the scheme's part of a payment; `None` if members are missing or of another type.
    #[must_use]
    pub fn from_value(payload: &Value) -> Option<Self> {
        Self::deserialize(payload).ok()
    }

    /// Writes an EVM transfer with its 65 byte signature.
    #[must_use]
    pub fn from_evm(transfer: &Transfer<Address>, signature: &[u8; 65]) -> Self {
        let party = |address: &Address| address.to_string();
        Self { signature: hex::encode_0x(signature), authorization: write(transfer, party) }
    }

    /// Writes a test transfer with its Ed25519 signature.
    #[must_use]
    pub fn from_test(transfer: &Transfer<[u8; 32]>, signature: &[u8; 64]) -> Self {
        let party = |key: &[u8; 32]| hex::encode(key);
        Self { signature: hex::encode(signature), authorization: write(transfer, party) }
    }

    /// The transfer between EVM addresses; `None` if a member is malformed or beyond our range.
    #[must_use]
    pub fn evm(&self) -> Option<Transfer<Address>> {
        read(&self.authorization, |text| text.parse().ok())
    }

    /// The transfer between Ed25519 public keys, and its signature; `None` if a member is malformed.
    #[must_use]
    pub fn test(&self) -> Option<(Transfer<[u8; 32]>, [u8; 64])> {
        let transfer = read(&self.authorization, |text| hex::decode_array(text).ok())?;
        Some((transfer, hex::decode_array(&self.signature).ok()?))
    }
}

fn read<P>(text: &Authorization, party: impl Fn(&str) -> Option<P>) -> Option<Transfer<P>> {
    Some(Transfer {
        from: party(&text.from)?,
        to: party(&text.to)?,
        value: decimal(&text.value)?,
        valid_after: u64::try_from(decimal(&text.valid_after)?).ok()?,
        valid_before: u64::try_from(decimal(&text.valid_before)?).ok()?,
        nonce: hex::decode_0x_array(&text.nonce).ok()?,
    })
}

fn write<P>(transfer: &Transfer<P>, party: impl Fn(&P) -> String) -> Authorization {
    Authorization {
        from: party(&transfer.from),
        to: party(&transfer.to),
        value: transfer.value.to_string(),
        valid_after: transfer.valid_after.to_string(),
        valid_before: transfer.valid_before.to_string(),
        nonce: hex::encode_0x(&transfer.nonce),
    }
}

/// Decimal digits in their one spelling: no sign, no leading zero, no space.
#[must_use]
pub fn decimal(text: &str) -> Option<u128> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Address, ExactPayload, Transfer, decimal};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_number_has_one_spelling() {
        assert_eq!(decimal("0"), Some(0));
        assert_eq!(decimal("340282366920938463463374607431768211455"), Some(u128::MAX));
        for text in
            ["", "00", "01", "-1", "+1", "1.0", "1e3", " 1", "0x1", "340282366920938463463374607431768211456"]
        {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn a_transfer_survives_the_wire() {
        let transfer = Transfer {
            from: Address([1; 20]),
            to: Address([2; 20]),
            value: u128::MAX,
            valid_after: 0,
            valid_before: u64::MAX,
            nonce: [3; 32],
        };
        let payload = ExactPayload::from_evm(&transfer, &[4; 65]);
        let value = serde_json::to_value(&payload).unwrap();
        assert_eq!(value["authorization"]["validBefore"], json!("18446744073709551615"));
        assert_eq!(ExactPayload::from_value(&value).unwrap().evm(), Some(transfer));
        assert_eq!(payload.test(), None);

        let transfer = Transfer {
            from: [1; 32],
            to: [2; 32],
            value: 5,
            valid_after: 1,
            valid_before: 2,
            nonce: [3; 32],
        };
        let payload = ExactPayload::from_test(&transfer, &[4; 64]);
        assert_eq!(payload.test(), Some((transfer, [4; 64])));
        assert_eq!(payload.evm(), None);
    }

    #[test]
    fn numbers_in_place_of_strings_are_refused() {
        let transfer = Transfer {
            from: Address([1; 20]),
            to: Address([2; 20]),
            value: 1,
            valid_after: 0,
            valid_before: 2,
            nonce: [3; 32],
        };
        let mut value = serde_json::to_value(ExactPayload::from_evm(&transfer, &[4; 65])).unwrap();
        value["authorization"]["value"] = json!(1);
        assert_eq!(ExactPayload::from_value(&value), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_number_or_none(text in "\\PC{0,45}") {
            let _ = decimal(&text);
        }
    }
}
