//! Version 4: CBOR with names of one letter. Members we do not know are passed over.

use super::super::cbor::{CborError, Reader, Writer};
use super::super::keyset::{KeysetId, Point};
use super::{Dleq, PROOFS_MAX, Proof, Token, TokenError};

impl From<CborError> for TokenError {
    fn from(_: CborError) -> Self {
        Self::Malformed
    }
}

/// Each member once: two readers must not see two values.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), TokenError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TokenError::Malformed),
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Token, TokenError> {
    let mut reader = Reader::new(bytes);
    let (mut mint, mut unit, mut proofs) = (None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()? {
            "m" => once(&mut mint, reader.text()?.to_owned())?,
            "u" => once(&mut unit, reader.text()?.to_owned())?,
            "t" => once(&mut proofs, groups(&mut reader)?)?,
            _ => reader.skip()?,
        }
    }
    reader.end()?;
    let missing = TokenError::Malformed;
    Ok(Token { mint: mint.ok_or(missing)?, unit: unit.ok_or(missing)?, proofs: proofs.ok_or(missing)? })
}

/// Proofs, grouped by keyset.
fn groups(reader: &mut Reader<'_>) -> Result<Vec<Proof>, TokenError> {
    let mut all = Vec::new();
    for _ in 0..reader.list()? {
        let (mut keyset, mut proofs) = (None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                "i" => {
                    once(&mut keyset, KeysetId::from_bytes(reader.bytes()?).ok_or(TokenError::Malformed)?)?
                }
                "p" => once(&mut proofs, group(reader)?)?,
                _ => reader.skip()?,
            }
        }
        let keyset = keyset.ok_or(TokenError::Malformed)?;
        for coin in proofs.ok_or(TokenError::Malformed)? {
            if all.len() == PROOFS_MAX {
                return Err(TokenError::Proofs);
            }
            all.push(Proof { keyset, ..coin.0 });
        }
    }
    Ok(all)
}

/// A proof whose keyset stands beside it.
struct Coin(Proof);

fn group(reader: &mut Reader<'_>) -> Result<Vec<Coin>, TokenError> {
    let mut coins = Vec::new();
    for _ in 0..reader.list()? {
        if coins.len() == PROOFS_MAX {
            return Err(TokenError::Proofs);
        }
        coins.push(coin(reader)?);
    }
    Ok(coins)
}

fn coin(reader: &mut Reader<'_>) -> Result<Coin, TokenError> {
    let (mut amount, mut secret, mut signature, mut dleq) = (None, None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()? {
            "a" => once(&mut amount, reader.unsigned()?)?,
            "s" => once(&mut secret, reader.text()?.to_owned())?,
            "c" => once(&mut signature, Point(array(reader)?))?,
            "d" => once(&mut dleq, evidence(reader)?)?,
            // A witness opens a lock, and locks are refused.
            _ => reader.skip()?,
        }
    }
    let missing = TokenError::Malformed;
    // Replaced by that of the group.
    let keyset = KeysetId::from_bytes(&[0; 8]).ok_or(missing)?;
    Ok(Coin(Proof {
        amount: amount.ok_or(missing)?,
        keyset,
        secret: secret.ok_or(missing)?,
        signature: signature.ok_or(missing)?,
        dleq,
    }))
}

fn evidence(reader: &mut Reader<'_>) -> Result<Dleq, TokenError> {
    let (mut e, mut s, mut r) = (None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()? {
            "e" => once(&mut e, array(reader)?)?,
            "s" => once(&mut s, array(reader)?)?,
            "r" => once(&mut r, array(reader)?)?,
            _ => reader.skip()?,
        }
    }
    let missing = TokenError::Malformed;
    Ok(Dleq { e: e.ok_or(missing)?, s: s.ok_or(missing)?, r: r.ok_or(missing)? })
}

fn array<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], TokenError> {
    reader.bytes()?.try_into().map_err(|_| TokenError::Malformed)
}

/// Groups follow each other as their first proofs do.
pub(super) fn write(token: &Token) -> Vec<u8> {
    let mut keysets: Vec<KeysetId> = Vec::new();
    for proof in &token.proofs {
        if !keysets.contains(&proof.keyset) {
            keysets.push(proof.keyset);
        }
    }
    let mut written = Writer::default().map(3).text("t").list(keysets.len());
    for keyset in keysets {
        let group: Vec<&Proof> = token.proofs.iter().filter(|proof| proof.keyset == keyset).collect();
        written = written.map(2).text("i").bytes(keyset.as_bytes()).text("p").list(group.len());
        for proof in group {
            written = written.map(if proof.dleq.is_some() { 4 } else { 3 });
            written = written.text("a").unsigned(proof.amount).text("s").text(&proof.secret);
            written = written.text("c").bytes(&proof.signature.0);
            if let Some(dleq) = &proof.dleq {
                written = written.text("d").map(3).text("e").bytes(&dleq.e).text("s").bytes(&dleq.s);
                written = written.text("r").bytes(&dleq.r);
            }
        }
    }
    written.text("m").text(&token.mint).text("u").text(&token.unit).finish()
}
