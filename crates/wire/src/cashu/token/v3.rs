//! Version 3: JSON, hexadecimal, and more than one mint, of which we read one.

use serde_json::{Map, Value};

use super::super::UNIT_SAT;
use super::super::keyset::{KeysetId, Point};
use super::{Dleq, PROOFS_MAX, Proof, Token, TokenError};
use crate::{hex, json};

pub(super) fn read(bytes: &[u8]) -> Result<Token, TokenError> {
    parse(bytes).ok_or(TokenError::Malformed)?
}

/// None: not of this shape.
fn parse(bytes: &[u8]) -> Option<Result<Token, TokenError>> {
    let document = json::parse_strict(bytes).ok()?;
    let entries = document.get("token")?.as_array()?;
    let [entry] = entries.as_slice() else { return Some(Err(TokenError::SeveralMints)) };
    // It was optional when there was one unit.
    let unit = match document.get("unit") {
        None | Some(Value::Null) => UNIT_SAT,
        Some(unit) => unit.as_str()?,
    };
    let coins = entry.get("proofs")?.as_array()?;
    if coins.len() > PROOFS_MAX {
        return Some(Err(TokenError::Proofs));
    }
    let proofs = coins.iter().map(|coin| proof(coin.as_object()?)).collect::<Option<_>>()?;
    Some(Ok(Token { mint: text(entry.get("mint")?)?, unit: unit.to_owned(), proofs }))
}

fn proof(coin: &Map<String, Value>) -> Option<Proof> {
    let dleq = match coin.get("dleq") {
        None | Some(Value::Null) => None,
        Some(dleq) => Some(evidence(dleq)?),
    };
    Some(Proof {
        amount: coin.get("amount")?.as_u64()?,
        keyset: KeysetId::parse(coin.get("id")?.as_str()?)?,
        secret: text(coin.get("secret")?)?,
        signature: Point::parse(coin.get("C")?.as_str()?)?,
        dleq,
    })
}

fn evidence(dleq: &Value) -> Option<Dleq> {
    let array = |name: &str| hex::decode_array(dleq.get(name)?.as_str()?).ok();
    Some(Dleq { e: array("e")?, s: array("s")?, r: array("r")? })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
