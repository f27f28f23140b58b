//! A session and the money that came into it: one write (MPP-28).

use super::batch::{Answer, Batch, NO_ENTRY, get_json, put_json};
use crate::read::unavailable;
use crate::tables::{EXPIRY_SESSION, expiry_key};
use crate::{LightningSession, SessionDeposit, SessionWrite, StoreError};

impl Batch<'_> {
    /// Refused with [`StoreError::Conflict`] where the session has ended, and where the payment is in already: then it came
    /// in another way, or into another session.
    pub(super) fn lightning_session(&mut self, write: &SessionWrite) -> Answer {
        let SessionWrite { id, session, deposit } = write;
        let known = self.session(id)?;
        let has_ended = known.as_ref().is_some_and(|known| known.closing.is_some());
        if has_ended && session.closing.is_none() {
            return Err(StoreError::Conflict);
        }
        let committed = match deposit {
            Some(SessionDeposit { key, payment, entry }) => self.deposit(key, payment, entry)?,
            None => NO_ENTRY,
        };
        if let Some(forgotten_s) = session.forgotten_s() {
            let expiry = expiry_key(forgotten_s, EXPIRY_SESSION, id);
            self.expiries.insert(&expiry, ()).map_err(unavailable)?;
        }
        put_json(&mut self.sessions, id, session)?;
        Ok(committed)
    }

    fn session(&self, id: &[u8; 32]) -> Result<Option<LightningSession>, StoreError> {
        get_json(&self.sessions, id)
    }

    pub(super) fn sweep_session(&mut self, id: &[u8; 32], now_s: u64) -> Result<(), StoreError> {
        if self.session(id)?.and_then(|session| session.forgotten_s()).is_some_and(|end| end < now_s) {
            self.sessions.remove(id).map_err(unavailable)?;
        }
        Ok(())
    }
}
