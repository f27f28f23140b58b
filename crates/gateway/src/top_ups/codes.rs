//! Codes for balance. Whoever has one has its balance, once; only its hash is kept.

use ledger::AccountRef;
use money::{Amount, Asset};
use sha2::{Digest, Sha256};
use store::{CodeStep, Op, Redeemed, RedemptionCode, StoreError};

use super::entries;
use crate::clock::Now;
use crate::gate::Gate;
use crate::payments::{store_refusal, unsure};
use crate::random;
use crate::refusal::{Code, Facts, Refusal};

/// What every code begins with.
const PREFIX: &str = "fc";
/// Digits that stand together.
const GROUP: usize = 8;

/// A new code: `fc-` and 128 random bits in groups.
pub(crate) fn draw() -> String {
    let digits = wire::hex::encode(&random::bytes::<16>());
    let mut code = PREFIX.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at % GROUP == 0 {
            code.push('-');
        }
        code.push(digit);
    }
    code
}

/// What a code is known by, however it was typed. None: it is no code.
pub(crate) fn hash_of(text: &str) -> Option<[u8; 32]> {
    let typed = |c: char| !c.is_whitespace() && c != '-';
    let plain: String = text.chars().filter(|c| typed(*c)).take(64).map(|c| c.to_ascii_lowercase()).collect();
    let secret: [u8; 16] = wire::hex::decode_array(plain.strip_prefix(PREFIX)?).ok()?;
    Some(Sha256::new_with_prefix(b"farthing/code/1").chain_update(secret).finalize().into())
}

/// Gives an account the balance of a code; to the account that has had it, again what it was given.
///
/// # Errors
/// The refusal says why. One text for what is unknown and what somebody else has had: nobody learns which codes there are.
///
/// # Cancel safety
/// None: between the write and the balance in memory it must not be dropped.
pub(crate) async fn call_up(gate: &Gate, account: &AccountRef, text: &str) -> Result<Amount, Refusal> {
    let hash = hash_of(text).ok_or_else(unknown)?;
    let now = Now::read();
    for _ in 0..2 {
        let code = gate.store.reader().code(&hash).map_err(|error| store_refusal(&error))?;
        let code = code.ok_or_else(unknown)?;
        if let Some(units) = had(&code, account) {
            return Ok(units);
        }
        if code.redeemed.is_some() || code.expires_s.is_some_and(|expires_s| now.seconds() > expires_s) {
            return Err(unknown());
        }
        let asset = Asset::from_code(code.asset).ok_or_else(unknown)?;
        if account.asset() != asset {
            let detail = format!("This code is for {asset}, and the account holds {}.", account.asset());
            return Err(unfit("asset", &detail));
        }
        let by = Redeemed { account: account.id().0, at_ms: now.millis() };
        let entry = entries::called_up(&hash, code.asset, account.id(), code.credit, now);
        match gate.store.commit(Op::Codes(CodeStep::Redeem { hash, by, entry })).await {
            Ok(_) => {
                let units = Amount::from_units(code.credit);
                gate.deposit(account.id(), asset, units);
                return Ok(units);
            }
            // Somebody was faster: perhaps an earlier copy of this request.
            Err(StoreError::Conflict) => {}
            Err(error @ StoreError::Unavailable(_)) => return Err(unsure(&error)),
            Err(error) => return Err(store_refusal(&error)),
        }
    }
    Err(unknown())
}

fn had(code: &RedemptionCode, account: &AccountRef) -> Option<Amount> {
    let by = code.redeemed.filter(|by| by.account == account.id().0);
    by.map(|_| Amount::from_units(code.credit))
}

fn unknown() -> Refusal {
    unfit("code_unknown", "This code is unknown, used up or over.")
}

fn unfit(reason: &str, detail: &str) -> Refusal {
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    Refusal::new(Code::BadRequest, detail).facts(facts)
}

#[cfg(test)]
mod tests {
    use super::{draw, hash_of};

    #[test]
    fn a_code_is_known_however_it_is_typed() {
        let code = draw();
        let hash = hash_of(&code).unwrap();
        assert_eq!(code.len(), 38);
        for typed in [code.to_uppercase(), code.replace('-', ""), format!("  {} ", code.replace('-', " "))] {
            assert_eq!(hash_of(&typed), Some(hash), "{typed}");
        }
        assert_ne!(hash_of(&draw()), Some(hash));
        let (short, long) = (&code[..37], format!("{code}0"));
        for other in ["", "fc", "fc-", short, &long, &code[2..], &code.replace("fc", "fk"), &"f".repeat(999)]
        {
            assert_eq!(hash_of(other), None, "{other}");
        }
    }
}
