//! Rows that are durable in the log and not in the database yet, for readers who were promised to see them.
//!
//! Only what a request looks up by its key: payments, outcomes, keys. Lists are read from the database, after a
//! [`crate::Op::Flush`]. What is logged puts rows and removes none, so a row that is not here is as the database has it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::{Idempotent, KeyRecord, Payment};

/// Rows by their keys.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// By deposit key.
    pub(crate) payments: HashMap<[u8; 32], Payment>,
    /// By SHA-256 of account and idempotency key.
    pub(crate) outcomes: HashMap<[u8; 32], Idempotent>,
    /// By key id.
    pub(crate) keys: HashMap<[u8; 16], KeyRecord>,
}

/// As many rows as a transaction takes in.
#[derive(Debug, Default)]
pub(crate) struct Recent(RwLock<Rows>);

impl Recent {
    pub(crate) fn find<T: Clone>(&self, row: impl FnOnce(&Rows) -> Option<&T>) -> Option<T> {
        row(&self.0.read().unwrap_or_else(PoisonError::into_inner)).cloned()
    }

    /// They are in the log. Before their writers are answered.
    pub(crate) fn extend(&self, added: Rows) {
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rows.payments.extend(added.payments);
        rows.outcomes.extend(added.outcomes);
        rows.keys.extend(added.keys);
    }

    /// All are in the database: whoever does not find one here finds it there.
    pub(crate) fn clear(&self) {
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        rows.payments.clear();
        rows.outcomes.clear();
        rows.keys.clear();
    }
}
