//! Rows that are durable in the log and not in the database yet, for readers who were promised to see them.
//!
//! Only what a request looks up by its key: payments, outcomes, keys. Lists are read from the database, after a
//! [`crate::Op::Flush`]. What is logged puts rows and removes none, so a row that is not here is as the database has it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Names a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Row {
    /// By deposit key.
    Payment([u8; 32]),
    /// By SHA-256 of account and idempotency key.
    Idempotent([u8; 32]),
    /// By key id.
    Key([u8; 16]),
}

/// As many rows as a transaction takes in.
#[derive(Debug, Default)]
pub(crate) struct Recent(RwLock<HashMap<Row, Vec<u8>>>);

impl Recent {
    pub(crate) fn find(&self, row: Row) -> Option<Vec<u8>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&row).cloned()
    }

    /// They are in the log. Before their writers are answered.
    pub(crate) fn extend(&self, rows: impl IntoIterator<Item = (Row, Vec<u8>)>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(rows);
    }

    /// All are in the database: whoever does not find one here finds it there.
    pub(crate) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
