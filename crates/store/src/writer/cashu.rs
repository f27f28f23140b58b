//! Ecash: each coin of a payer is in one payment, and no payment is deposited before our coins for it are here.

use redb::ReadableTable;

use super::batch::{Answer, Batch, NO_ENTRY, get_json, put_json};
use crate::read::unavailable;
use crate::{CashuCoin, CashuState, CashuSwap, CashuWrite, Payment, PaymentState, StoreError};

impl Batch<'_> {
    pub(super) fn cashu(&mut self, write: &CashuWrite) -> Answer {
        match write {
            CashuWrite::Ask { key, payment, swap } => self.ask(key, payment, swap),
            CashuWrite::Hold { key, coins } => self.hold(key, coins),
            CashuWrite::Take { export, keys, at_ms } => {
                let state = CashuState::Taken { export: *export, at_ms: *at_ms };
                let mut taken = Vec::new();
                for key in keys {
                    taken.push((key, self.swap_in(key, CashuState::Held)?));
                }
                for (key, swap) in taken {
                    put_json(&mut self.cashu_swaps, key, &CashuSwap { state, ..swap })?;
                }
                Ok(NO_ENTRY)
            }
        }
    }

    fn ask(&mut self, key: &[u8; 32], payment: &Payment, swap: &CashuSwap) -> Answer {
        if self.payment(key)?.is_some() || self.swap(key)?.is_some() || !swap.spent.contains(key) {
            return Err(StoreError::Conflict);
        }
        for coin in &swap.spent {
            if self.cashu_coins.get(coin).map_err(unavailable)?.is_some() {
                return Err(StoreError::Conflict);
            }
        }
        for coin in &swap.spent {
            self.cashu_coins.insert(coin, key).map_err(unavailable)?;
        }
        put_json(&mut self.cashu_swaps, key, &CashuSwap { state: CashuState::Asked, ..swap.clone() })?;
        self.put_payment(key, Payment { state: PaymentState::Intent, ..payment.clone() })
    }

    /// What was asked for comes signed, or nothing does. That it is here already is no conflict: it is the same coins.
    fn hold(&mut self, key: &[u8; 32], coins: &[CashuCoin]) -> Answer {
        let swap = self.swap(key)?.ok_or(StoreError::Conflict)?;
        if swap.is_held() {
            return Ok(NO_ENTRY);
        }
        let is_signed = |(asked, coin): (&CashuCoin, &CashuCoin)| {
            coin.signature.is_some() && *asked == CashuCoin { signature: None, ..coin.clone() }
        };
        if swap.coins.len() != coins.len() || !swap.coins.iter().zip(coins).all(is_signed) {
            return Err(StoreError::Conflict);
        }
        put_json(
            &mut self.cashu_swaps,
            key,
            &CashuSwap { state: CashuState::Held, coins: coins.to_vec(), ..swap },
        )
    }

    /// Nothing moved: the payer's coins are free again.
    ///
    /// # Errors
    /// A conflict where ours are here.
    pub(super) fn let_go(&mut self, key: &[u8; 32]) -> Result<(), StoreError> {
        let Some(swap) = self.swap(key)? else { return Ok(()) };
        if swap.is_held() {
            return Err(StoreError::Conflict);
        }
        for coin in &swap.spent {
            self.cashu_coins.remove(coin).map_err(unavailable)?;
        }
        self.cashu_swaps.remove(key).map(drop).map_err(unavailable)
    }

    /// Whether a payment may be deposited: not one whose coins are still to come.
    pub(super) fn has_coins(&self, key: &[u8; 32]) -> Result<bool, StoreError> {
        Ok(self.swap(key)?.is_none_or(|swap| swap.is_held()))
    }

    fn swap(&self, key: &[u8; 32]) -> Result<Option<CashuSwap>, StoreError> {
        get_json(&self.cashu_swaps, key)
    }

    fn swap_in(&self, key: &[u8; 32], state: CashuState) -> Result<CashuSwap, StoreError> {
        self.swap(key)?.filter(|swap| swap.state == state).ok_or(StoreError::Conflict)
    }
}
