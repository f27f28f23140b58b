//! HMAC-SHA256 with keys that cannot have a wrong length, and length-prefixed fields.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// A keyed state: clone it per message. Wiped on drop.
pub(crate) type KeyedMac = Hmac<Sha256>;

/// The state of a 32 byte key.
pub(crate) fn keyed(key: &[u8; 32]) -> KeyedMac {
    let mut block = zeroize::Zeroizing::new([0; 64]); // padding a short key with zeros is what HMAC does
    block[..32].copy_from_slice(key);
    KeyedMac::new((&*block).into())
}

/// One message under a keyed state.
pub(crate) fn sum(keyed: &KeyedMac, message: &[u8]) -> [u8; 32] {
    keyed.clone().chain_update(message).finalize().into_bytes().into()
}

/// `label`, then each field behind its length as u16 big-endian: no two lists of fields give the same bytes.
///
/// Fields here are names, keys and paths far below 64 KiB; a longer one enters as its SHA-256 behind a
/// length of 65535, so the function stays total and distinct.
pub(crate) fn fields(label: &str, fields: &[&[u8]]) -> Vec<u8> {
    let length: usize = fields.iter().map(|field| field.len() + 2).sum();
    let mut bytes = Vec::with_capacity(label.len() + length);
    put(label, fields, |part| bytes.extend_from_slice(part));
    bytes
}

/// SHA-256 over [`fields`].
pub(crate) fn hash(label: &str, fields: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    put(label, fields, |part| hash.update(part));
    hash.finalize().into()
}

/// What [`fields`] says, piece by piece.
fn put(label: &str, fields: &[&[u8]], mut into: impl FnMut(&[u8])) {
    into(label.as_bytes());
    for field in fields {
        match u16::try_from(field.len()) {
            Ok(length) if length < u16::MAX => {
                into(&length.to_be_bytes());
                into(field);
            }
            _ => {
                into(&u16::MAX.to_be_bytes());
                into(&Sha256::digest(field));
            }
        }
    }
}

/// Whether two are equal, in constant time: eight bytes at a step, where the form for slices of bytes takes one.
pub(crate) fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let (one, _) = one.as_chunks();
    let (other, _) = other.as_chunks();
    let steps = one.iter().zip(other).map(|(a, b)| u64::from_ne_bytes(*a).ct_eq(&u64::from_ne_bytes(*b)));
    steps.fold(Choice::from(1), |all, step| all & step).into()
}

/// The first 16 bytes of a hash, for names.
pub(crate) fn first_half(hash: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|index| hash[index])
}

#[cfg(test)]
mod tests {
    use super::{fields, hash, is_same, keyed, sum};
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn hmac_of_rfc_4231_case_2_with_a_padded_key() {
        // Key "Jefe" padded with zeros is the same HMAC key.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        assert_eq!(
            wire::hex::encode(&sum(&keyed(&key), b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn lengths_stand_before_fields() {
        assert_eq!(fields("l", &[b"ab", b""]), b"l\x00\x02ab\x00\x00");
        assert_eq!(hash("l", &[b"ab", b""]), <[u8; 32]>::from(Sha256::digest(b"l\x00\x02ab\x00\x00")));
        let long = vec![7; 70_000];
        assert_eq!(fields("", &[&long]).len(), 34);
    }

    #[test]
    fn every_bit_is_compared() {
        let one: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        assert!(is_same(&one, &one));
        for bit in 0..256 {
            let mut other = one;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_same(&one, &other), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn moving_a_boundary_changes_the_bytes(text in "[a-z]{2,20}", cut in 0usize..20, other in 0usize..20) {
            let (cut, other) = (cut % text.len(), other % text.len());
            let at = |cut| { let (a, b) = text.split_at(cut); fields("x", &[a.as_bytes(), b.as_bytes()]) };
            prop_assert_eq!(at(cut) == at(other), cut == other);
        }
    }
}
