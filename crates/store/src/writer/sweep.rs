//! Forgetting what has ended.

use redb::ReadableTable;

use super::batch::{Answer, Batch, forgotten_s, get_json};
use crate::read::unavailable;
use crate::tables::{
    EXPIRY_GRANT, EXPIRY_IDEMPOTENT, EXPIRY_PAYMENT, EXPIRY_PAYOUT, EXPIRY_SESSION, EXPIRY_TOP_UP,
    META_SWEPT, free_of,
};
use crate::{Committed, Idempotent, PaymentState, StoreError, meta};

/// Rows that one sweep looks at: bounds how long other writes wait for it.
pub const SWEEP_ROWS_MAX: usize = 1024;

impl Batch<'_> {
    pub(super) fn sweep(&mut self, now_s: u64) -> Answer {
        let mut due = Vec::new();
        for row in self.expiries.iter().map_err(unavailable)?.take(SWEEP_ROWS_MAX) {
            let key = *row.map_err(unavailable)?.0.value();
            if expires_s(&key) >= now_s {
                break;
            }
            due.push(key);
        }
        let mut payments = 0u64;
        for expiry in due {
            self.expiries.remove(&expiry).map_err(unavailable)?;
            let mut row = [0; 32];
            row.copy_from_slice(&expiry[9..]);
            match expiry[8] {
                EXPIRY_IDEMPOTENT => self.sweep_idempotent(&row, now_s)?,
                EXPIRY_PAYMENT => payments += u64::from(self.sweep_payment(&row, now_s)?),
                EXPIRY_PAYOUT => self.sweep_payout(&row)?,
                EXPIRY_TOP_UP => self.sweep_top_up(&row)?,
                EXPIRY_GRANT => self.sweep_grant(&row, now_s)?,
                EXPIRY_SESSION => self.sweep_session(&row, now_s)?,
                // Of a newer version, which the opening has refused.
                _ => {}
            }
        }
        self.sweep_windows(now_s)?;
        self.count_swept(payments)?;
        Ok(Committed { lsn: 0 })
    }

    fn sweep_windows(&mut self, now_s: u64) -> Result<(), StoreError> {
        let mut over = Vec::new();
        for row in self.free_calls.iter().map_err(unavailable)?.take(SWEEP_ROWS_MAX) {
            let key = *row.map_err(unavailable)?.0.value();
            if free_of(&key).0 >= now_s {
                break;
            }
            over.push(key);
        }
        for key in over {
            self.free_calls.remove(&key).map_err(unavailable)?;
        }
        Ok(())
    }

    /// The key may have been used again since, with a later end.
    fn sweep_idempotent(&mut self, key: &[u8; 32], now_s: u64) -> Result<(), StoreError> {
        let outcome: Option<Idempotent> = get_json(&self.idempotent, key)?;
        if outcome.is_some_and(|outcome| outcome.expires_s < now_s) {
            self.idempotent.remove(key).map_err(unavailable)?;
        }
        Ok(())
    }

    fn sweep_payment(&mut self, key: &[u8; 32], now_s: u64) -> Result<bool, StoreError> {
        let over = self.payment(key)?.filter(|payment| {
            // A settled one of nothing has brought nothing that a call could still be owed for.
            let is_done = payment.state == PaymentState::Served
                || payment.state == PaymentState::Settled && payment.amount == 0;
            is_done && forgotten_s(payment).is_some_and(|end| end < now_s)
        });
        let Some(payment) = over else { return Ok(false) };
        self.remove_payment(key)?;
        // One of nothing has no deposit that could miss it.
        Ok(payment.amount != 0)
    }

    /// The check of the books needs to know how many deposits have no payment any more.
    fn count_swept(&mut self, more: u64) -> Result<(), StoreError> {
        if more == 0 {
            return Ok(());
        }
        let before = meta::number(&self.meta, META_SWEPT)?.unwrap_or(0);
        let after = before.saturating_add(more).to_be_bytes();
        self.meta.insert(META_SWEPT, after.as_slice()).map_err(unavailable)?;
        Ok(())
    }
}

fn expires_s(expiry: &[u8; 41]) -> u64 {
    expiry[..8].try_into().map_or(u64::MAX, u64::from_be_bytes)
}
