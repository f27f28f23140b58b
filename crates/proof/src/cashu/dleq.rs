//! Whether a mint has signed with the key that it shows (NUT-12).

use secp256k1::PublicKey;
use sha2::{Digest as _, Sha256};
use wire::cashu::{Dleq, Point, Proof};
use wire::hex;

use super::blinding::{PointError, blind, key, scalar, times};

/// That `signed` is the signature of `blinded` by the secret half of `mint_key`. Whatever is no point or scalar is none.
#[must_use]
pub fn verify_blind(mint_key: &Point, blinded: &Point, signed: &Point, e: &[u8; 32], s: &[u8; 32]) -> bool {
    let holds = || {
        let (mint_key, blinded, signed) = (key(mint_key)?, key(blinded)?, key(signed)?);
        check(&mint_key, &blinded, &signed, e, s)
    };
    holds().unwrap_or(false)
}

/// The same of a coin that somebody else had made: its blinding factor comes with it. None: it brings no evidence.
#[must_use]
pub fn verify_proof(mint_key: &Point, proof: &Proof) -> Option<bool> {
    let Dleq { e, s, r } = proof.dleq.as_ref()?;
    let holds = || {
        let mint_key = key(mint_key)?;
        let signed = key(&proof.signature)?.combine(&times(&mint_key, r)?).map_err(|_| PointError)?;
        let blinded = key(&blind(&proof.secret, r)?)?;
        check(&mint_key, &blinded, &signed, e, s)
    };
    Some(holds().unwrap_or(false))
}

/// `R1 = sG - eA`, `R2 = sB' - eC'`, and `e` is their hash.
fn check(
    mint_key: &PublicKey,
    blinded: &PublicKey,
    signed: &PublicKey,
    e: &[u8; 32],
    s: &[u8; 32],
) -> Result<bool, PointError> {
    let less = |plus: PublicKey, minus: PublicKey| plus.combine(&minus.negate()).map_err(|_| PointError);
    let r1 = less(scalar(s)?.public_key(), times(mint_key, e)?)?;
    let r2 = less(times(blinded, s)?, times(signed, e)?)?;
    Ok(challenge(&[&r1, &r2, mint_key, signed]) == *e)
}

/// SHA-256 over the uncompressed points in hexadecimal.
pub(super) fn challenge(points: &[&PublicKey]) -> [u8; 32] {
    let texts = points.iter().map(|point| hex::encode(&point.serialize_uncompressed()));
    texts.fold(Sha256::new(), |hash, text| hash.chain_update(text)).finalize().into()
}
