//! SHA256withRSA checked by arithmetic of its own, so that what the gateway signs is not judged by what signed it.

use sha2::{Digest as _, Sha256};

/// 2048 bits and room for a carry, least limb first.
type Number = [u64; 33];

/// The head of a SHA-256 digest in PKCS#1 v1.5.
const SHA_256: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

/// Whether `signature` is of this text, by the key with this modulus and the exponent 65537.
pub(super) fn verifies(modulus: &[u8; 256], text: &str, signature: &[u8]) -> bool {
    let Ok(signature) = <&[u8; 256]>::try_from(signature) else { return false };
    let (modulus, base) = (number(modulus), number(signature));
    if !is_less(&base, &modulus) {
        return false;
    }
    let mut power = base;
    for _ in 0..16 {
        power = product(&power, &power, &modulus);
    }
    product(&power, &base, &modulus) == number(&padded(text))
}

/// `00 01 ff .. ff 00`, then what was hashed with what.
fn padded(text: &str) -> [u8; 256] {
    let tail = [&[0][..], &SHA_256, &Sha256::digest(text.as_bytes())].concat();
    let mut bytes = [0xff; 256];
    bytes[..2].copy_from_slice(&[0, 1]);
    bytes[256 - tail.len()..].copy_from_slice(&tail);
    bytes
}

fn number(bytes: &[u8; 256]) -> Number {
    let mut number = [0; 33];
    for (limb, bytes) in number.iter_mut().zip(bytes.rchunks(8)) {
        *limb = bytes.iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    }
    number
}

/// By doubling and adding, bit after bit.
fn product(one: &Number, other: &Number, modulus: &Number) -> Number {
    let mut product = [0; 33];
    for bit in (0..2048).rev() {
        product = sum(&product, &product, modulus);
        if other[bit / 64] >> (bit % 64) & 1 == 1 {
            product = sum(&product, one, modulus);
        }
    }
    product
}

/// Of two numbers below the modulus.
fn sum(one: &Number, other: &Number, modulus: &Number) -> Number {
    let (mut sum, mut carry) = ([0; 33], false);
    for (place, (one, other)) in one.iter().zip(other).enumerate() {
        let (limb, first) = one.overflowing_add(*other);
        let (limb, second) = limb.overflowing_add(u64::from(carry));
        (sum[place], carry) = (limb, first || second);
    }
    if is_less(&sum, modulus) {
        return sum;
    }
    let mut borrow = false;
    for (limb, taken) in sum.iter_mut().zip(modulus) {
        let (rest, first) = limb.overflowing_sub(*taken);
        let (rest, second) = rest.overflowing_sub(u64::from(borrow));
        (*limb, borrow) = (rest, first || second);
    }
    sum
}

fn is_less(one: &Number, other: &Number) -> bool {
    one.iter().rev().lt(other.iter().rev())
}
