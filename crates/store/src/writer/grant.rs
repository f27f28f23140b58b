//! What payers grant to processors: a token that can be charged once, and the payment that came of it.

use ledger::Draft;
use redb::ReadableTable;

use super::batch::{Answer, Batch, PAYMENT_KEPT_SECONDS, forgotten_s};
use crate::read::unavailable;
use crate::tables::{EXPIRY_GRANT, expiry_key};
use crate::{Payment, StoreError};

impl Batch<'_> {
    /// The intent goes, the deposit comes, and the grant leads to it from now on.
    pub(super) fn charged(
        &mut self,
        grant: &[u8; 32],
        key: &[u8; 32],
        payment: &Payment,
        entry: &Draft,
    ) -> Answer {
        let asked = self.unsettled(grant)?;
        // The processor has named a payment that came in by another door.
        if self.payment(key)?.is_some() {
            return Err(StoreError::Conflict);
        }
        let payment = Payment { attempt: asked.attempt, ..payment.clone() };
        let committed = self.deposit(key, &payment, entry)?;
        self.remove_payment(grant)?;
        self.grants.insert(grant, key).map_err(unavailable)?;
        if let Some(expires_s) = forgotten_s(&payment) {
            self.plan_grant(grant, expires_s)?;
        }
        Ok(committed)
    }

    /// A grant is forgotten once its payment is.
    pub(super) fn sweep_grant(&mut self, grant: &[u8; 32], now_s: u64) -> Result<(), StoreError> {
        let key = self.grants.get(grant).map_err(unavailable)?.map(|key| *key.value());
        if let Some(key) = key
            && self.payment(&key)?.is_some()
        {
            return self.plan_grant(grant, now_s.saturating_add(PAYMENT_KEPT_SECONDS));
        }
        self.grants.remove(grant).map(drop).map_err(unavailable)
    }

    fn plan_grant(&mut self, grant: &[u8; 32], expires_s: u64) -> Result<(), StoreError> {
        let expiry = expiry_key(expires_s, EXPIRY_GRANT, grant);
        self.expiries.insert(&expiry, ()).map(drop).map_err(unavailable)
    }
}
