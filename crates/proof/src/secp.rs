//! Ethereum signatures: one accepted encoding, recovery, signing (X402-38, SEC-81).

use std::fmt;

use secp256k1::Message;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use wire::hex;
use wire::x402::Address;
use zeroize::Zeroize as _;

use crate::eip712::keccak256;

/// The group order.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
    0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];
/// Half of it, rounded down: the largest accepted `s`.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d,
    0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// A signature in its one accepted encoding, `r | s | v`. That it recovers to anyone is not said yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 65]);

/// Why a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not `0x` and hexadecimal digits.
    #[error("signature is not 0x-hexadecimal")]
    Hex,
    /// Not 65 bytes: the compact form and wrapped forms revert in the token or need a node to check.
    #[error("signature of {0} bytes, not 65")]
    Length(usize),
    /// `r` or `s` is zero or beyond the group order.
    #[error("signature value out of range")]
    Range,
    /// The twin that recovers to the same signer; tokens revert on it.
    #[error("signature has a high s")]
    HighS,
    /// Not 27 or 28: a second encoding of one proof.
    #[error("signature has v {0}, not 27 or 28")]
    RecoveryByte(u8),
    /// No key could have made it.
    #[error("signature recovers to no key")]
    NoKey,
    /// Genuine, by somebody else, or over something else.
    #[error("signed by somebody else, or over something else")]
    WrongSigner,
}

impl Signature {
    /// Reads `0x` and 65 bytes of hexadecimal.
    ///
    /// # Errors
    /// [`SignatureError`]
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        // Before decoding: a wrapped signature may be as long as the header that carried it.
        let digits = text.strip_prefix("0x").ok_or(SignatureError::Hex)?;
        if digits.len() != 130 {
            return Err(SignatureError::Length(digits.len() / 2));
        }
        Self::from_bytes(&hex::decode_array(digits).map_err(|_| SignatureError::Hex)?)
    }

    /// Reads a voucher's signature: `0x` and 65 bytes, or the 64 of EIP-2098, whose recovery bit is the highest of the
    /// second half (MPP-30). Both are kept as 65 bytes, which every contract takes.
    ///
    /// # Errors
    /// [`SignatureError`]
    pub fn parse_voucher(text: &str) -> Result<Self, SignatureError> {
        let digits = text.strip_prefix("0x").ok_or(SignatureError::Hex)?;
        if digits.len() != 128 {
            return Self::parse(text);
        }
        let mut compact: [u8; 64] = hex::decode_array(digits).map_err(|_| SignatureError::Hex)?;
        let parity = compact[32] >> 7;
        compact[32] &= 0x7f;
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = 27 + parity;
        Self::from_bytes(&bytes)
    }

    /// Checks ranges and the recovery byte.
    ///
    /// # Errors
    /// [`SignatureError`]
    pub fn from_bytes(bytes: &[u8; 65]) -> Result<Self, SignatureError> {
        let (r, s, v) = (&bytes[..32], &bytes[32..64], bytes[64]);
        let zero = [0; 32];
        if r == zero || s == zero || r >= ORDER.as_slice() || s >= ORDER.as_slice() {
            return Err(SignatureError::Range);
        }
        if s > HALF_ORDER.as_slice() {
            return Err(SignatureError::HighS);
        }
        if !matches!(v, 27 | 28) {
            return Err(SignatureError::RecoveryByte(v));
        }
        Ok(Self(*bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 65] {
        &self.0
    }

    /// Who signed `digest`.
    ///
    /// # Errors
    /// [`SignatureError::NoKey`]
    pub fn recover(&self, digest: &[u8; 32]) -> Result<Address, SignatureError> {
        let id = if self.0[64] == 28 { RecoveryId::One } else { RecoveryId::Zero };
        let key = RecoverableSignature::from_compact(&self.0[..64], id)
            .and_then(|signature| signature.recover_ecdsa(Message::from_digest(*digest)))
            .map_err(|_| SignatureError::NoKey)?;
        Ok(address_of(&key))
    }

    /// That `signer` signed `digest`. The zero address never did.
    ///
    /// # Errors
    /// [`SignatureError`]
    pub fn verify(&self, digest: &[u8; 32], signer: &Address) -> Result<(), SignatureError> {
        if *signer == Address::ZERO || self.recover(digest)? != *signer {
            return Err(SignatureError::WrongSigner);
        }
        Ok(())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(65 bytes)")
    }
}

/// An EVM account's secret key. Wiped on drop, never printed.
pub struct SecretKey(secp256k1::SecretKey);

/// Bytes that are no secret key: zero, or beyond the group order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secp256k1 secret key")]
pub struct SecretKeyError;

impl SecretKey {
    /// Takes 32 bytes.
    ///
    /// # Errors
    /// [`SecretKeyError`]
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SecretKeyError> {
        secp256k1::SecretKey::from_secret_bytes(*bytes).map(Self).map_err(|_| SecretKeyError)
    }

    /// Reads 32 bytes of hexadecimal, with or without `0x`.
    ///
    /// # Errors
    /// [`SecretKeyError`]
    pub fn parse(text: &str) -> Result<Self, SecretKeyError> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let mut bytes = hex::decode_array(digits).map_err(|_| SecretKeyError)?;
        let key = Self::from_bytes(&bytes);
        bytes.zeroize();
        key
    }

    /// The account's address.
    #[must_use]
    pub fn address(&self) -> Address {
        address_of(&self.0.public_key())
    }

    /// Signs a digest: deterministic (RFC 6979), low s, v 27 or 28.
    ///
    /// # Errors
    /// [`SignatureError`] in a case that no one has ever seen (an `r` beyond the order's reach): sign another nonce.
    pub fn sign(&self, digest: &[u8; 32]) -> Result<Signature, SignatureError> {
        let signature = RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(*digest), &self.0);
        let (id, compact) = signature.serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = 27 + id.to_u8();
        Signature::from_bytes(&bytes)
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

fn address_of(key: &secp256k1::PublicKey) -> Address {
    let hash = keccak256(&key.serialize_uncompressed()[1..]);
    Address(std::array::from_fn(|index| hash[index + 12]))
}

#[cfg(test)]
mod tests;
