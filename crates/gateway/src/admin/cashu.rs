//! Ecash that is held: what there is, and taking it out (CASHU-14).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use store::{CashuCoin, CashuState, CashuSwap, CashuWrite, Op};
use wire::cashu::{Dleq, KeysetId, Point, Proof, Token};
use wire::hex;

use super::office::{Office, OfficeError, usage};
use crate::clock::Now;
use crate::random;

/// Coins in one token, at most: wallets and mints have bounds of their own.
const COINS_MAX: usize = 100;

impl Office<'_> {
    /// What is held of each mint, and what was taken out.
    pub(super) async fn cashu(&self) -> Result<Value, OfficeError> {
        self.store().commit(Op::Flush).await?;
        let mut mints: BTreeMap<(String, String), [u64; 2]> = BTreeMap::new();
        let mut taken: BTreeMap<(u64, [u8; 16]), (String, String, u64)> = BTreeMap::new();
        for (_, swap) in self.store().reader().cashu_swaps()? {
            let amount = swap.amount();
            let [held, asked] = mints.entry((swap.mint.clone(), swap.unit.clone())).or_default();
            match swap.state {
                CashuState::Held => *held = held.saturating_add(amount),
                CashuState::Asked => *asked = asked.saturating_add(amount),
                CashuState::Taken { export, at_ms } => {
                    let row = taken.entry((at_ms, export)).or_insert((swap.mint, swap.unit, 0));
                    row.2 = row.2.saturating_add(amount);
                }
            }
        }
        let mints = mints.into_iter().map(|((mint, unit), [held, asked])| {
            json!({"mint": mint, "unit": unit, "held": held, "undecided": asked})
        });
        let taken = taken.into_iter().map(|((at_ms, export), (mint, unit, amount))| {
            json!({"export": hex::encode(&export), "mint": mint, "unit": unit, "amount": amount, "at_ms": at_ms})
        });
        Ok(json!({"mints": mints.collect::<Vec<_>>(), "exports": taken.collect::<Vec<_>>()}))
    }

    /// Takes out what is held of one mint, or shows once more what was taken before. It is written down before it is
    /// shown: what a broken pipe swallowed can be shown again, and nothing is shown twice as if it were new.
    pub(super) async fn export_cashu(
        &self,
        mint: Option<&str>,
        again: Option<&str>,
    ) -> Result<Value, OfficeError> {
        if let Some(text) = again {
            let export = hex::decode_array(text).map_err(|_| usage("an export is 32 hex digits"))?;
            return self.shown(export);
        }
        self.store().commit(Op::Flush).await?;
        let mut held = self.store().reader().cashu_swaps()?;
        held.retain(|(_, swap)| swap.state == CashuState::Held);
        if let Some(mint) = mint {
            held.retain(|(_, swap)| swap.mint == mint.trim_end_matches('/'));
        }
        let Some((_, first)) = held.first() else {
            return Err(usage("no ecash is held, or none of this mint"));
        };
        if held.iter().any(|(_, swap)| (&swap.mint, &swap.unit) != (&first.mint, &first.unit)) {
            return Err(usage("ecash of more than one mint is held: name one with --mint"));
        }
        let export = random::bytes();
        let keys = held.into_iter().map(|(key, _)| key).collect();
        let take = CashuWrite::Take { export, keys, at_ms: Now::read().millis() };
        self.store().commit(Op::Cashu(Box::new(take))).await?;
        tracing::info!(export = %hex::encode(&export), "ecash was taken out");
        self.shown(export)
    }

    fn shown(&self, wanted: [u8; 16]) -> Result<Value, OfficeError> {
        let is_wanted =
            |swap: &CashuSwap| matches!(swap.state, CashuState::Taken { export, .. } if export == wanted);
        let mut taken = self.store().reader().cashu_swaps()?;
        taken.retain(|(_, swap)| is_wanted(swap));
        let Some((_, first)) = taken.first() else { return Err(usage("there is no such export")) };
        let (mint, unit) = (first.mint.clone(), first.unit.clone());
        let coins: Option<Vec<Proof>> = taken.iter().flat_map(|(_, swap)| &swap.coins).map(proof).collect();
        let coins = coins.ok_or_else(|| usage("a coin that is held cannot be read: look at the store"))?;
        let token = |coins: &[Proof]| {
            Token { mint: mint.clone(), unit: unit.clone(), proofs: coins.to_vec() }.encode()
        };
        let amount = coins.iter().fold(0u64, |sum, coin| sum.saturating_add(coin.amount));
        let tokens: Vec<String> = coins.chunks(COINS_MAX).map(token).collect();
        Ok(json!({
            "export": hex::encode(&wanted), "mint": mint, "unit": unit, "amount": amount, "coins": coins.len(),
            "tokens": tokens,
        }))
    }
}

fn proof(coin: &CashuCoin) -> Option<Proof> {
    let signature = coin.signature.as_ref()?;
    let part = |text: &str| hex::decode_array(text).ok();
    let dleq = Dleq { e: part(&signature.e)?, s: part(&signature.s)?, r: part(&coin.blinding)? };
    Some(Proof {
        amount: coin.amount,
        keyset: KeysetId::parse(&coin.keyset)?,
        secret: coin.secret.clone(),
        signature: Point::parse(&signature.point)?,
        dleq: Some(dleq),
    })
}
