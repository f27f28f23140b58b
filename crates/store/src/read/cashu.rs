//! Reading what is known of ecash.

use redb::ReadableTable;

use super::{Reader, unavailable};
use crate::tables::{CASHU_COINS, CASHU_SWAPS};
use crate::{CashuSwap, StoreError};

impl Reader {
    /// The swap of a payment.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn cashu(&self, key: &[u8; 32]) -> Result<Option<CashuSwap>, StoreError> {
        let table = self.begin()?.open_table(CASHU_SWAPS).map_err(unavailable)?;
        let found = table.get(key).map_err(unavailable)?;
        found.map(|bytes| serde_json::from_slice(bytes.value()).map_err(unavailable)).transpose()
    }

    /// The first of a payer's coins that a payment is known to have, and which payment: by their deposit keys.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn cashu_payment(&self, coins: &[[u8; 32]]) -> Result<Option<[u8; 32]>, StoreError> {
        let table = self.begin()?.open_table(CASHU_COINS).map_err(unavailable)?;
        for coin in coins {
            if let Some(found) = table.get(coin).map_err(unavailable)? {
                return Ok(Some(*found.value()));
            }
        }
        Ok(None)
    }

    /// Every swap, by the key of its payment.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn cashu_swaps(&self) -> Result<Vec<([u8; 32], CashuSwap)>, StoreError> {
        let table = self.begin()?.open_table(CASHU_SWAPS).map_err(unavailable)?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(unavailable)? {
            let (key, swap) = row.map_err(unavailable)?;
            rows.push((*key.value(), serde_json::from_slice(swap.value()).map_err(unavailable)?));
        }
        Ok(rows)
    }
}
