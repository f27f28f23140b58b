//! Hashing to the curve, blinding, unblinding (NUT-00).

use secp256k1::{PublicKey, SecretKey};
use sha2::{Digest as _, Sha256};
use wire::cashu::Point;

const DOMAIN: &[u8] = b"Secp256k1_HashToCurve_Cashu_";
/// Every second hash is on the curve: that none of so many is, nobody will see.
const TRIES_MAX: u32 = 1 << 16;

/// Bytes that are no point, no scalar, or lead to the point at infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a point or a scalar of secp256k1")]
pub struct PointError;

/// The point of a secret.
///
/// # Errors
/// [`PointError`] in a case that nobody has ever seen.
pub fn hash_to_curve(secret: &[u8]) -> Result<Point, PointError> {
    let hash = Sha256::new().chain_update(DOMAIN).chain_update(secret).finalize();
    for counter in 0..TRIES_MAX {
        let mut candidate = [2; 33];
        let found = Sha256::new().chain_update(hash).chain_update(counter.to_le_bytes()).finalize();
        candidate[1..].copy_from_slice(&found);
        if PublicKey::from_byte_array_compressed(candidate).is_ok() {
            return Ok(Point(candidate));
        }
    }
    Err(PointError)
}

/// What a mint is given to sign: the point of the secret, moved by the blinding factor.
///
/// # Errors
/// [`PointError`]: the factor is no scalar.
pub fn blind(secret: &str, factor: &[u8; 32]) -> Result<Point, PointError> {
    let moved = key(&hash_to_curve(secret.as_bytes())?)?.combine(&scalar(factor)?.public_key());
    moved.map(|moved| point(&moved)).map_err(|_| PointError)
}

/// The signature of the secret itself, from what the mint has signed with `mint_key`.
///
/// # Errors
/// [`PointError`]: something is no point of the curve.
pub fn unblind(signed: &Point, factor: &[u8; 32], mint_key: &Point) -> Result<Point, PointError> {
    let moved_by = times(&key(mint_key)?, factor)?;
    key(signed)?.combine(&moved_by.negate()).map(|key| point(&key)).map_err(|_| PointError)
}

pub(super) fn key(point: &Point) -> Result<PublicKey, PointError> {
    PublicKey::from_byte_array_compressed(point.0).map_err(|_| PointError)
}

pub(super) fn scalar(bytes: &[u8; 32]) -> Result<SecretKey, PointError> {
    SecretKey::from_secret_bytes(*bytes).map_err(|_| PointError)
}

pub(super) fn times(point: &PublicKey, factor: &[u8; 32]) -> Result<PublicKey, PointError> {
    // Zero is a scalar for the library and not for us.
    point.mul_tweak(&scalar(factor)?.into()).map_err(|_| PointError)
}

pub(super) fn point(key: &PublicKey) -> Point {
    Point(key.serialize())
}
