//! Coins that we have signed for us: made from a secret of ours, so that the same payment asks for the same coins
//! again, and what a mint has signed for it is found again (NUT-09).

use std::collections::BTreeMap;
use std::fmt;

use wire::cashu::{KeysetId, Point};
use wire::hex;
use zeroize::Zeroizing;

use super::blinding::{PointError, blind, scalar};
use crate::mac::{self, KeyedMac};

/// Makes coins. Wiped on drop, never printed.
pub struct OutputSeed(KeyedMac);

/// A coin before it is signed. `Debug` shows what it is worth.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// In units.
    pub amount: u64,
    /// Keyset that is to sign it.
    pub keyset: KeysetId,
    /// What is signed, in the end.
    pub secret: String,
    /// Hides it from the mint until then.
    pub blinding: Zeroizing<[u8; 32]>,
}

impl OutputSeed {
    /// From 32 secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(mac::keyed(secret))
    }

    /// The coins for a payment, which `payment` names, in the order of `amounts`. Another payment, keyset, amount or
    /// place makes another coin.
    ///
    /// # Errors
    /// [`PointError`] in a case that nobody has ever seen.
    pub fn outputs(
        &self,
        payment: &[u8; 32],
        keyset: &KeysetId,
        amounts: &[u64],
    ) -> Result<Vec<Output>, PointError> {
        let coin = |(place, amount): (u64, &u64)| self.output(payment, keyset, place, *amount);
        (0..).zip(amounts).map(coin).collect()
    }

    fn output(
        &self,
        payment: &[u8; 32],
        keyset: &KeysetId,
        place: u64,
        amount: u64,
    ) -> Result<Output, PointError> {
        let (place, worth) = (place.to_be_bytes(), amount.to_be_bytes());
        let sum = |label: &str, counter: u8| {
            let parts: [&[u8]; 5] = [payment, keyset.as_bytes(), &place, &worth, &[counter]];
            mac::sum(&self.0, &mac::fields(label, &parts))
        };
        let secret = hex::encode(&sum("farthing/cashu/secret/1", 0));
        let factors = (0..=u8::MAX).map(|counter| sum("farthing/cashu/blinding/1", counter));
        let blinding = factors.into_iter().find(|factor| scalar(factor).is_ok()).ok_or(PointError)?;
        Ok(Output { amount, keyset: *keyset, secret, blinding: Zeroizing::new(blinding) })
    }
}

impl Output {
    /// What the mint is given to sign.
    ///
    /// # Errors
    /// [`PointError`]
    pub fn blinded(&self) -> Result<Point, PointError> {
        blind(&self.secret, &self.blinding)
    }
}

impl fmt::Debug for OutputSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputSeed(hidden)")
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({} of {:?}, secret hidden)", self.amount, self.keyset)
    }
}

/// `sum` in coins that a keyset has keys for, the smallest first, at most `coins_max` of them. None: it cannot be done.
#[must_use]
pub fn split(sum: u64, keys: &BTreeMap<u64, Point>, coins_max: usize) -> Option<Vec<u64>> {
    let (mut left, mut coins) = (sum, Vec::new());
    for amount in keys.keys().rev().copied().filter(|amount| *amount > 0) {
        while left >= amount && coins.len() < coins_max {
            coins.push(amount);
            left -= amount;
        }
    }
    coins.reverse();
    (left == 0 && !coins.is_empty()).then_some(coins)
}
